"""Do judges agree with people, and people with one another?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from scipy.stats import t as student

from ..rng import generator

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
RESAMPLES = 1000
LIMIT = 0.999999


@dataclass(frozen=True)
class Correlation:
    """A correlation in [-1, 1] with its 95 % interval.

    Attributes:
        value: the correlation; 0 where one side is constant.
        low: lower end.
        high: upper end.
        n: pairs.
    """

    value: float
    low: float
    high: float
    n: int


def correlation(
    x: Floats,
    y: Floats,
    seed: int,
    *,
    kind: Literal["pearson", "spearman"] = "pearson",
    groups: NDArray[Any] | None = None,
) -> Correlation:
    """Correlation of two columns with a bootstrap interval.

    The spread of Fisher's z over bootstrap samples, times Student's quantile, around the z observed: the
    percentiles themselves are too narrow for few units. With groups, whole groups are drawn.

    Args:
        x: ``(n,)``.
        y: ``(n,)``.
        seed: seed of the bootstrap.
        kind: of values or of ranks (ties share their mean).
        groups: ``(n,)`` the unit each pair belongs to, or None where each is its own.

    Raises:
        ValueError: different lengths, or fewer than three units.
    """
    _, unit = np.unique(np.arange(len(x)) if groups is None else groups, return_inverse=True)
    count = int(unit.max(initial=-1)) + 1
    if not len(x) == len(y) == len(unit) or count < 3:
        raise ValueError(f"{len(x)} and {len(y)} values in {count} units: pairs in at least three units are needed")
    measure = pearson if kind == "pearson" else spearman
    members = [np.flatnonzero(unit == g) for g in range(count)]

    def drawn(units: Indices) -> float:
        chosen = np.concatenate([members[g] for g in units])
        return measure(x[chosen], y[chosen])

    return _around(measure(x, y), drawn, count, len(x), seed)


def correlation_of_means(x: Floats, y: Floats, seed: int) -> Correlation:
    """Pearson correlation of the row means of two tables ``(n, columns)``; the interval draws columns.

    Raises:
        ValueError: different shapes, or fewer than three rows or columns.
    """
    if x.shape != y.shape or min(x.shape) < 3:
        raise ValueError(f"tables {x.shape} and {y.shape}: one shape of at least three rows and columns is needed")

    def drawn(units: Indices) -> float:
        return pearson(x[:, units].mean(1), y[:, units].mean(1))

    return _around(pearson(x.mean(1), y.mean(1)), drawn, x.shape[1], len(x), seed)


def pearson(x: Floats, y: Floats) -> float:
    """Pearson's correlation of two columns ``(n,)``; 0 where one is constant."""
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 1e-12 else 0.0


def spearman(x: Floats, y: Floats) -> float:
    """Pearson's correlation of ranks; ties share their mean rank."""
    return pearson(np.asarray(rankdata(x), np.float64), np.asarray(rankdata(y), np.float64))


def _around(value: float, drawn: Callable[[Indices], float], units: int, n: int, seed: int) -> Correlation:
    rng = generator(seed, "correlation")
    z = [_fisher(drawn(rng.integers(units, size=units))) for _ in range(RESAMPLES)]
    half = float(np.std(z)) * np.sqrt(units / (units - 1)) * float(student.ppf(0.975, units - 1))
    middle = _fisher(value)
    return Correlation(value, float(np.tanh(middle - half)), float(np.tanh(middle + half)), n)


def _fisher(r: float) -> float:
    return float(np.arctanh(np.clip(r, -LIMIT, LIMIT)))


def krippendorff(answers: Floats) -> float:
    """Krippendorff's alpha for nominal answers: 1 is full agreement, 0 is chance; units with one answer do not count.

    Args:
        answers: ``(people, questions)`` codes, NaN where not answered.

    Raises:
        ValueError: no question with two answers.
    """
    codes = np.unique(answers[~np.isnan(answers)])
    counts = (
        np.stack([(answers == code).sum(0) for code in codes], 1).astype(np.float64) if len(codes) else np.zeros((1, 1))
    )
    counts = counts[counts.sum(1) >= 2]
    if not len(counts):
        raise ValueError("no question has two answers, so there is no agreement to measure")
    size = counts.sum(1)
    total, by_code = size.sum(), counts.sum(0)
    seen = float(((size**2 - (counts**2).sum(1)) / (size - 1)).sum() / total)
    expected = float((total**2 - (by_code**2).sum()) / (total * (total - 1)))
    return 1.0 if expected == 0 else 1 - seen / expected
