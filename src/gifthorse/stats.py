"""Intervals; numpy only."""

from __future__ import annotations

import numpy as np


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
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
    half = float(np.sqrt(p * (1 - p) * share + share * share / 4)) / (1 + share)
    return (0.0 if k == 0 else max(0.0, centre - half)), (1.0 if k == n else min(1.0, centre + half))
