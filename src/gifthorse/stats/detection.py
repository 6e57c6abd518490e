"""How well scores tell two groups apart: the area under the ROC curve and its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .intervals import wilson

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Auroc:
    """Area under the ROC curve: how often a positive's score is above a negative's, ties counting half.

    Attributes:
        value: the area, in [0, 1].
        interval: 95 %, after DeLong et al. (1988) on the scale of log-odds; where the groups are fully apart, or
            the variance vanishes, Wilson's interval of as many trials as the smaller group holds. Scores count as
            independent of one another, which classes of one network are not.
        positives: how many.
        negatives: how many.
    """

    value: float
    interval: tuple[float, float]
    positives: int
    negatives: int


def auroc(positives: Floats, negatives: Floats) -> Auroc:
    """The area under the ROC curve of scores ``(n,)`` and ``(m,)``.

    Raises:
        ValueError: an empty group, or a score that is NaN.
    """
    n, m = len(positives), len(negatives)
    if not n or not m or np.isnan(positives).any() or np.isnan(negatives).any():
        raise ValueError(f"{n} positives, {m} negatives: at least one of each, and no NaN")
    wins = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    area = float(wins.mean())
    parts = [side.var(ddof=1) / len(side) for side in (wins.mean(1), wins.mean(0)) if len(side) > 1]
    spread = math.sqrt(float(sum(parts)))
    if not 0 < area < 1 or spread == 0:
        return Auroc(area, wilson(area * min(n, m), min(n, m)), n, m)
    centre, half = math.log(area / (1 - area)), 1.96 * spread / (area * (1 - area))
    low, high = (1 / (1 + math.exp(-(centre + side * half))) for side in (-1, 1))
    return Auroc(area, (low, high), n, m)
