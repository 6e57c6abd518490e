"""Evidence and answer key -> blind multiple choice; the marking leaves by a separate door."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import InputError
from ..rng import generator
from ..types import Evidence, Option, Question

OPTIONS = 8

Marking = Mapping[str, int]


def ask(
    evidence: Evidence, truth: Option, decoys: Sequence[Option], draws: int, seed: int
) -> tuple[list[Question], dict[str, int]]:
    """Multiple-choice questions about one piece of evidence, and the key to mark them with.

    The decoy sets depend on ``seed``, the task and the draw only, so that all tools (and the twin) meet
    the same ones; the order of the options depends on the pictures too. Every option of a question shows
    equally many exemplars, in random order, so that their number gives nothing away.

    Args:
        evidence: what the tool showed; it must hold pictures.
        truth: the right option.
        decoys: options to draw the wrong ones from; one with the truth's name is passed over.
        draws: how many questions to ask.
        seed: seed of all draws.

    Returns:
        The questions, which do not hold the answer, and the index of the right option by question id.

    Raises:
        InputError: no pictures, too few decoys, two decoys of one name, or an option without exemplars.
    """
    pool = [decoy for decoy in decoys if decoy.name != truth.name]
    _check(evidence, truth, pool)
    shown = hashlib.sha256(evidence.images.tobytes()).hexdigest()
    questions: list[Question] = []
    marking: dict[str, int] = {}
    for draw in range(draws):
        path = (evidence.task, truth.name, draw)
        chosen = generator(seed, "decoys", *path).choice(len(pool), OPTIONS - 1, replace=False)
        options = [truth, *(pool[i] for i in chosen)]
        order = generator(seed, "order", *path, shown).permutation(OPTIONS)
        fewest = min(len(option.pictures) for option in options)
        trimmed = [_trim(option, fewest, generator(seed, "exemplars", *path, option.name)) for option in options]
        text = "/".join([str(seed), *map(str, path), shown])
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        questions.append(Question(name, evidence.images, tuple(trimmed[i] for i in order)))
        marking[name] = int(np.flatnonzero(order == 0)[0])
    return questions, marking


def _trim(option: Option, count: int, rng: np.random.Generator) -> Option:
    """``count`` exemplars of an option, in random order."""
    keep = rng.permutation(len(option.pictures))[:count]
    return Option(option.name, option.pictures[keep])


def _check(evidence: Evidence, truth: Option, pool: Sequence[Option]) -> None:
    if len(evidence.images) == 0:
        raise InputError(
            f"evidence for {evidence.task} holds no pictures: score its heat maps with judges.masks instead"
        )
    names = [decoy.name for decoy in pool]
    if len(set(names)) < len(names):
        raise InputError(f"two decoys for {evidence.task} share a name; give every option its own")
    if len(pool) < OPTIONS - 1:
        raise InputError(
            f"{len(pool)} decoys for {evidence.task}, but {OPTIONS} options need {OPTIONS - 1}; add more of its kind"
        )
    for option in (truth, *pool):
        if len(option.pictures) == 0:
            raise InputError(f"option {option.name!r} has no exemplar pictures; add at least one")
