"""How well attribution maps show a trigger's footprint; every metric is one number per map.

Maps are float ``(n, h, w)``, higher where the tool sees more reason for the target; masks are bool
``(n, h, w)``. A constant map gets what guessing gets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ..errors import ToolError
from ..types import Masks

Floats = NDArray[np.float64]
Maps = NDArray[np.floating[Any]]
PERCENTILE = 99.0


def pearson(maps: Maps, masks: Masks) -> Floats:
    """Correlation ``(n,)`` of map and mask over pixels; 0 for a constant map or mask."""
    return _correlate(*_flat(maps, masks))


def spearman(maps: Maps, masks: Masks) -> Floats:
    """Rank correlation ``(n,)``, ties share their mean rank; 0 for a constant map or mask."""
    x, y = _flat(maps, masks)
    return _correlate(_ranks(x), _ranks(y))


def auroc(maps: Maps, masks: Masks) -> Floats:
    """Chance ``(n,)`` that a pixel in the mask scores above one outside, ties count half; 0.5 where undefined."""
    x, y = _flat(maps, masks)
    inside = y.sum(1)
    pairs = inside * (y.shape[1] - inside)
    wins = (_ranks(x) * y).sum(1) - inside * (inside + 1) / 2
    return np.where(pairs > 0, wins / np.maximum(pairs, 1), 0.5)


def l1(maps: Maps, masks: Masks) -> Floats:
    """Mean absolute distance ``(n,)`` in [0, 1], lower is better.

    The positive part of the map is divided by its 99th percentile and clipped to 1. A blank map scores
    the share of the mask, so read it beside a blank map's score.
    """
    x, y = _flat(maps, masks)
    x = np.maximum(x, 0)
    top = np.percentile(x, PERCENTILE, axis=1, keepdims=True)
    top = np.where(top > 0, top, x.max(1, keepdims=True))
    scaled = np.where(top > 0, np.minimum(x / np.where(top > 0, top, 1), 1), 0)
    return np.asarray(np.abs(scaled - y).mean(1))


def mass(maps: Maps, masks: Masks) -> Floats:
    """Share ``(n,)`` of the map's positive part that lies in the mask; the mask's share for an empty map."""
    x, y = _flat(maps, masks)
    x = np.maximum(x, 0)
    total = x.sum(1)
    return np.asarray(np.where(total > 0, (x * y).sum(1) / np.where(total > 0, total, 1), y.mean(1)))


def pointing(maps: Maps, masks: Masks) -> Floats:
    """Whether the map's maximum lies in the mask ``(n,)``; tied maxima count by their share inside."""
    x, y = _flat(maps, masks)
    top = x == x.max(1, keepdims=True)
    return np.asarray((top * y).sum(1) / top.sum(1))


METRICS: dict[str, Callable[[Maps, Masks], Floats]] = {
    "pearson": pearson,
    "spearman": spearman,
    "auroc": auroc,
    "l1": l1,
    "mass": mass,
    "pointing": pointing,
}


def measure(maps: Maps, masks: Masks) -> dict[str, Floats]:
    """Every metric by name; pictures whose mask is empty or full say nothing and are left out."""
    _flat(maps, masks)
    share = masks.reshape(len(masks), -1).mean(1)
    keep = (share > 0) & (share < 1)
    return {name: metric(maps[keep], masks[keep]) if keep.any() else np.zeros(0) for name, metric in METRICS.items()}


def _flat(maps: Maps, masks: Masks) -> tuple[Floats, Floats]:
    """Maps and masks as float64 ``(n, h * w)``."""
    if maps.shape != masks.shape or maps.ndim != 3:
        raise ToolError(
            f"heat maps {maps.shape} do not fit the masks {masks.shape}: give one map per triggered picture"
        )
    if not np.isfinite(maps).all():
        raise ToolError("a heat map holds NaN or infinity: the tool must return finite numbers")
    shape = (len(maps), maps.shape[1] * maps.shape[2])
    return maps.reshape(shape).astype(np.float64), masks.reshape(shape).astype(np.float64)


def _ranks(x: Floats) -> Floats:
    return np.asarray(rankdata(x, axis=1), np.float64)


def _correlate(x: Floats, y: Floats) -> Floats:
    constant = (np.ptp(x, axis=1) == 0) | (np.ptp(y, axis=1) == 0)
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    spread = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    usable = ~constant & (spread > 0)
    return np.where(usable, (x * y).sum(1) / np.where(usable, spread, 1), 0.0)
