"""What one person sees, as pure functions: which tool for which trojan, in which order, in which option order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..rng import generator
from .study import Study

PARAMETER = {"prolific": "PROLIFIC_PID", "connect": "participantId", "generic": "id"}


@dataclass(frozen=True)
class Page:
    """One question as one person sees it; ``order`` holds option ids from top left on."""

    question: str
    order: tuple[str, ...]


def pages(study: Study, slot: int, seed: int) -> tuple[Page, ...]:
    """Everything that one person is asked: practice, every trojan once, attention checks in between.

    Args:
        study: the study.
        slot: which row of the Latin square (or which arm), in [0, arms).
        seed: the person's own randomness.

    Returns:
        Practice first; a check never comes first or last among the rest.
    """
    arms, items = study.file.arms, list(study.file.items)
    latin = study.settings.design == "latin"
    asked = [f"{item}.{arms[(i + slot) % len(arms) if latin else slot]}" for i, item in enumerate(items)]
    asked = [asked[i] for i in generator(seed, "trojans").permutation(len(asked))]
    checks = study.file.checks
    for i, check in enumerate(checks):
        share = (i + generator(seed, "check", check.id).uniform(0.6, 1.4)) / (len(checks) + 1)
        asked.insert(min(max(1, round(share * len(items)) + i), len(asked)), check.id)
    return tuple(_page(study, name, seed) for name in (study.file.practice.id, *asked))


def _page(study: Study, name: str, seed: int) -> Page:
    ids = [c.id for c in study.question(name).options]
    return Page(name, tuple(ids[i] for i in generator(seed, "options", name).permutation(len(ids))))


def least(slots: int, taken: Mapping[int, int], order: Sequence[int]) -> int:
    """The slot with the fewest people that count; ties go by ``order``, so that blocks fill evenly."""
    return min((order[i] for i in range(slots)), key=lambda slot: taken.get(slot, 0))
