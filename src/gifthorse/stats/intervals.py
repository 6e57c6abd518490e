"""95 % intervals of rates in [0, 1], and of means and medians of other bounded values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom
from scipy.stats import t as student

from ..rng import generator

Floats = NDArray[np.float64]
RESAMPLES = 1000
EPSILON = 1e-9


def wilson(k: float, n: float, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a rate.

    Args:
        k: hits.
        n: trials; with none of them the interval is all of [0, 1].
        z: half-width in standard errors (1.96: 95 %).

    Returns:
        Lower and upper end, within [0, 1]; exactly 0 (or 1) where no (or every) trial hit.

    Raises:
        ValueError: not ``0 <= k <= n``.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} hits in {n} trials: hits must lie between 0 and the trials")
    if n == 0:
        return 0.0, 1.0
    p, share = k / n, z * z / n
    centre = (p + share / 2) / (1 + share)
    half = math.sqrt(p * (1 - p) * share + share * share / 4) / (1 + share)
    return (0.0 if k == 0 else max(0.0, centre - half)), (1.0 if k == n else min(1.0, centre + half))


def mean(values: Floats) -> tuple[float, float]:
    """Interval of the mean of values in [0, 1], one per unit.

    Wilson's interval at the effective sample size of Korn and Graubard (1998): as many all-or-nothing
    values as would leave the mean equally uncertain, with Student's quantile. Values that are all 0 or 1,
    and values that are all the same, count as they are.

    Args:
        values: ``(n,)``; without any the interval is all of [0, 1].
    """
    n = len(values)
    p, variance = (float(values.mean()), float(values.var(ddof=1))) if n > 1 else (float(values.sum()), 0.0)
    p = min(1.0, max(0.0, p))
    if variance < EPSILON or np.isin(values, (0, 1)).all():
        return wilson(p * n, n)
    size = max(n, n * p * (1 - p) / variance)
    return wilson(p * size, size, float(student.ppf(0.975, n - 1)))


def bounded_mean(values: Floats, low: float, high: float) -> tuple[float, float]:
    """Student's interval of the mean of values in [low, high], one per unit, cut off at these bounds.

    Values that are all the same give an interval without width, as constant maps do by construction; a single
    value gives the bounds, for it says nothing of other units.
    """
    n = len(values)
    if n < 2:
        return low, high
    half = float(student.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))
    centre = float(values.mean())
    return max(low, centre - half), min(high, centre + half)


def bounded_median(values: Floats, low: float, high: float) -> tuple[float, float]:
    """Interval of the median of values in [low, high] between two of them, right for any distribution.

    Below six values no two of them hold the median with 95 %, and the bounds are given.
    """
    n = len(values)
    outer = int(binom.ppf(0.025, n, 0.5)) if n else 0  # values to leave out at either end
    if outer < 1:
        return low, high
    ordered = np.sort(values)
    return float(ordered[outer - 1]), float(ordered[n - outer])


@dataclass(frozen=True)
class Claims:
    """One rate and its interval under two claims.

    Attributes:
        rate: mean over trojans of the share of people who were right.
        these: interval for these trojans; other people might have been asked.
        general: interval for trojans in general; other people and other trojans might have been drawn.
    """

    rate: float
    these: tuple[float, float]
    general: tuple[float, float]


def claims(scores: Floats, seed: int) -> Claims:
    """What a survey of people says about these trojans, and about trojans in general.

    Bootstrap over people, and over trojans; the general claim adds the two variances and takes off once
    the chance of single answers, which both hold. A variance becomes an effective sample size, as in
    `mean`; Student's quantile has as many degrees of freedom as units drawn, less one.

    Args:
        scores: ``(people, trojans)`` in [0, 1], NaN where a person did not meet the tool on a trojan.
        seed: seed of the bootstrap.

    Raises:
        ValueError: fewer than two people or trojans, or a trojan that nobody answered.
    """
    people, trojans = scores.shape
    seen = ~np.isnan(scores)
    if people < 2 or trojans < 2 or not seen.any(0).all():
        raise ValueError(f"{people} people by {trojans} trojans: at least two of each, and an answer per trojan")
    values, counts = np.where(seen, scores, 0.0), seen.astype(np.float64)
    own = values.sum(0) / counts.sum(0)
    rate = float(own.mean())
    rng = generator(seed, "two-way")
    heads = rng.multinomial(people, np.full(people, 1 / people), RESAMPLES).astype(np.float64)
    asked = heads @ counts
    cells = np.where(asked > 0, heads @ values / np.maximum(asked, 1), own)
    drawn = own[rng.integers(trojans, size=(RESAMPLES, trojans))]
    met = float(counts.sum(0).mean())
    by_people = float(cells.mean(1).var()) * met / max(met - 1, 1)
    by_trojans = float(drawn.mean(1).var()) * trojans / (trojans - 1)
    both = max(by_people, by_trojans, by_people + by_trojans - _noise(values, counts))
    return Claims(
        rate,
        _effective(rate, by_people, people, people - 1),
        _effective(rate, both, trojans, min(people, trojans) - 1),
    )


def _noise(values: Floats, counts: Floats) -> float:
    """Variance of the mean over trojans that single answers ``(people, trojans)`` cause."""
    number = counts.sum(0)
    within = (counts * (values - values.sum(0) / number) ** 2).sum(0) / np.maximum(number - 1, 1)
    return float((within / number).sum() / len(number) ** 2)


def _effective(rate: float, variance: float, units: int, freedom: int) -> tuple[float, float]:
    """Wilson's interval at the sample size that leaves a rate with this variance."""
    size = rate * (1 - rate) / variance if variance > EPSILON else units
    return wilson(rate * size, size, float(student.ppf(0.975, freedom)))


@dataclass(frozen=True)
class BothWays:
    """A survey's result with everybody, and without those whom the written rule excludes."""

    everybody: Claims
    kept: Claims
    excluded: int


def both_ways(scores: Floats, excluded: NDArray[np.bool_], seed: int) -> BothWays:
    """Exclusions reported both ways.

    Args:
        scores: as in `claims`.
        excluded: ``(people,)`` whom the rule excludes.
        seed: seed of the bootstrap.

    Raises:
        ValueError: as in `claims`, for everybody or for those kept.
    """
    return BothWays(claims(scores, seed), claims(scores[~excluded], seed), int(excluded.sum()))
