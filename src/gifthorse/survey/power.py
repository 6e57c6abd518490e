"""How many people and trojans are enough: half-widths by simulation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..rng import generator
from .study import Design


@dataclass(frozen=True)
class Assumed:
    """What the simulation takes for granted; standard deviations on the logit scale.

    Attributes:
        mean: average logit above the guessing floor (0: half way up).
        trojan: trojans differ in difficulty.
        person: people differ in skill.
        pair: a tool suits some trojans more than others.
        floor: share right by guessing.
    """

    mean: float = 0.0
    trojan: float = 1.3
    person: float = 0.6
    pair: float = 0.8
    floor: float = 1 / 8


@dataclass(frozen=True)
class Power:
    """Half-widths of 95 % intervals of one tool's accuracy, as shares.

    Attributes:
        fixed: for a claim about these trojans only.
        sampled: for a claim about trojans like these.
        error: Monte Carlo standard error of either, at most.
    """

    people: int
    trojans: int
    answers: float
    fixed: float
    sampled: float
    error: float


def power(
    people: int,
    trojans: int,
    tools: int,
    design: Design = "latin",
    assumed: Assumed | None = None,
    runs: int = 2000,
    seed: int = 0,
) -> Power:
    """Simulate how well one tool's accuracy is known.

    Args:
        people: in the whole study.
        trojans: in the study.
        tools: arms, controls included.
        design: ``"latin"`` mixes tools within a person, ``"between"`` shows each person one.
        assumed: what is taken for granted.
        runs: simulated studies.
        seed: of the simulation.

    Raises:
        InputError: fewer people than arms, or no trojans or tools.
    """
    if min(trojans, tools, runs) < 1 or people < tools:
        raise InputError(f"{people} people for {tools} arms, {trojans} trojans: give each arm at least one person")
    a, rng = assumed or Assumed(), generator(seed, "power")
    slots = np.arange(people) % tools
    if design == "latin":
        seen = (np.arange(trojans)[None, :] + slots[:, None]) % tools == 0
    else:
        seen = np.repeat((slots == 0)[:, None], trojans, axis=1)
    counts = seen.sum(0)
    estimates, truths = np.zeros((2, runs))
    skill = a.person * rng.standard_normal(2000)  # truth: the mean over many people
    for run in range(runs):
        ease = a.mean + np.hypot(a.trojan, a.pair) * rng.standard_normal(trojans)
        who = a.person * rng.standard_normal(people)
        p = a.floor + (1 - a.floor) * _sigmoid(ease[None, :] + who[:, None])
        right = (rng.random(p.shape) < p) & seen
        asked = counts > 0
        estimates[run] = (right.sum(0)[asked] / counts[asked]).mean()
        truths[run] = (a.floor + (1 - a.floor) * _sigmoid(ease[:, None] + skill[None, :200])).mean()
    fixed, sampled = 1.96 * float((estimates - truths).std()), 1.96 * float(estimates.std())
    error = max(fixed, sampled) / float(np.sqrt(2 * runs))
    return Power(people, trojans, float(counts.sum()), fixed, sampled, error)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    out: np.ndarray = 1 / (1 + np.exp(-x))
    return out
