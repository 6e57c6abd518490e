"""How well attribution maps show a trigger's footprint; every metric is one number per map.

Maps are float ``(n, h, w)``, higher where the tool sees more reason for the target; masks are bool
``(n, h, w)``. A map can be read in three ways: signed as it is, its positive part only, or its absolute values.
`CHOSEN` fixes beforehand which reading each metric is reported with.

A constant map gets what guessing gets: 0 for correlations, 0.5 for AUROC, the mask's share s of the picture for
mass and pointing, and s / (2 - s) for IoU, since every tie counts by its share inside the mask. L1 has no such
value: a map without a positive value scores s, a constant positive one 1 - s. NaN and infinity are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import ToolError
from ..types import Masks

Floats = NDArray[np.float64]
Maps = NDArray[np.floating[Any]]
Reading = Literal["signed", "positive", "absolute"]

READINGS: Final[tuple[Reading, ...]] = get_args(Reading)
CHOSEN: Final[dict[str, Reading]] = {
    "pearson": "signed",
    "spearman": "signed",
    "auroc": "signed",
    "pointing": "signed",
    "mass": "positive",
    "iou": "signed",
    "l1": "positive",
}
"""The reading of each metric, fixed before any tool ran. L1 is the paper's first metric, kept as a legacy."""

RANGES: Final[dict[str, tuple[float, float]]] = {
    name: (-1.0, 1.0) if name in ("pearson", "spearman") else (0.0, 1.0) for name in CHOSEN
}
LOWER_IS_BETTER: Final = frozenset({"l1"})
PERCENTILE = 99.0
CHUNK = 1 << 18  # pixels looked at together: they stay in the processor's cache


@dataclass(frozen=True)
class _Pixels:
    """Maps ``(n, p)`` and masks ``(n, p)``; what several metrics need is worked out once."""

    x: Maps
    y: Masks

    @cached_property
    def rising(self) -> Maps:
        """Each map's values in order."""
        return np.sort(self.x, axis=1)

    @cached_property
    def area(self) -> Floats:
        """Pixels of each mask."""
        return np.asarray(self.y.sum(1), np.float64)

    @cached_property
    def positive(self) -> Floats:
        """The positive part of each map."""
        return np.maximum(self.x, 0).astype(np.float64)

    @cached_property
    def inside(self) -> list[tuple[Maps, Maps]]:
        """For each map all values and those in the mask, both in order."""
        return [(rising, np.sort(x[y])) for x, rising, y in zip(self.x, self.rising, self.y, strict=True)]

    def within(self, values: Floats) -> Floats:
        """Sum of the values ``(n, p)`` in each mask."""
        return np.array([v[y].sum() for v, y in zip(values, self.y, strict=True)])

    @cached_property
    def rank_sum(self) -> Floats:
        """Sum of the ranks of each mask's pixels, from 1, ties share their mean rank."""
        sums = [np.searchsorted(a, v, "left").sum() + np.searchsorted(a, v, "right").sum() for a, v in self.inside]
        return (np.array(sums, np.float64) + self.area) / 2

    @cached_property
    def ties(self) -> Floats:
        """Sum of t³ - t over the groups of t equal values of each map."""
        out = np.zeros(len(self.x))
        for i, new in enumerate(self.rising[:, 1:] != self.rising[:, :-1]):
            if not new.all():
                ends = np.flatnonzero(np.append(new, True))
                t = np.diff(ends, prepend=-1).astype(np.float64)
                out[i] = (t**3 - t).sum()
        return out


def _pearson(m: _Pixels) -> Floats:
    largest = np.maximum(np.abs(m.rising[:, 0]), np.abs(m.rising[:, -1])).astype(np.float64)
    x = m.x / np.where(largest > 0, largest, 1)[:, None]
    x -= x.mean(1, keepdims=True)
    spread = np.einsum("ij,ij->i", x, x) * m.area * (1 - m.area / x.shape[1])
    usable = (m.rising[:, 0] < m.rising[:, -1]) & (spread > 0)
    return np.where(usable, m.within(x) / np.sqrt(np.where(usable, spread, 1)), 0.0).clip(-1, 1)


def _spearman(m: _Pixels) -> Floats:
    p, k = float(m.x.shape[1]), m.area
    spread = (p**3 - p - m.ties) / 12 * k * (1 - k / p)
    usable = spread > 0
    return np.where(usable, (m.rank_sum - k * (p + 1) / 2) / np.sqrt(np.where(usable, spread, 1)), 0.0).clip(-1, 1)


def _auroc(m: _Pixels) -> Floats:
    pairs = m.area * (m.x.shape[1] - m.area)
    wins = m.rank_sum - m.area * (m.area + 1) / 2
    return np.where(pairs > 0, wins / np.maximum(pairs, 1), 0.5)


def _pointing(m: _Pixels) -> Floats:
    highest = m.x == m.x.max(1, keepdims=True)
    return np.asarray((highest & m.y).sum(1) / highest.sum(1))


def _mass(m: _Pixels) -> Floats:
    total = m.positive.sum(1)
    share = m.within(m.positive) / np.where(total > 0, total, 1)
    return np.asarray(np.where(total > 0, share, m.area / m.x.shape[1]))


def _iou(m: _Pixels) -> Floats:
    out = np.zeros(len(m.x))
    for i, (values, inside) in enumerate(m.inside):
        k = len(inside)
        if k == 0:
            continue
        least = values[-k]
        start, stop = np.searchsorted(values, least, "left"), np.searchsorted(values, least, "right")
        first, last = np.searchsorted(inside, least, "left"), np.searchsorted(inside, least, "right")
        places = k - (len(values) - stop)  # left for the ties
        hits = (k - last) + places * (last - first) / (stop - start)
        out[i] = hits / (2 * k - hits)
    return out


def _l1(m: _Pixels) -> Floats:
    p = m.x.shape[1]
    place = PERCENTILE / 100 * (p - 1)
    ends = [np.maximum(m.rising[:, min(int(place) + i, p - 1)], 0, dtype=np.float64) for i in (0, 1)]
    top = ends[0] + (ends[1] - ends[0]) * (place - int(place))
    top = np.where(top > 0, top, np.maximum(m.rising[:, -1], 0))[:, None]
    scaled = np.minimum(m.positive / np.where(top > 0, top, 1), 1)
    return np.asarray((scaled.sum(1) - 2 * m.within(scaled) + m.area) / p)


def pearson(maps: Maps, masks: Masks) -> Floats:
    """Correlation ``(n,)`` of map and mask over pixels; 0 for a constant map or mask."""
    return _over(_pearson, maps, masks)


def spearman(maps: Maps, masks: Masks) -> Floats:
    """Rank correlation ``(n,)``, ties share their mean rank; 0 for a constant map or mask."""
    return _over(_spearman, maps, masks)


def auroc(maps: Maps, masks: Masks) -> Floats:
    """Chance ``(n,)`` that a pixel in the mask scores above one outside, ties count half; 0.5 where undefined."""
    return _over(_auroc, maps, masks)


def l1(maps: Maps, masks: Masks) -> Floats:
    """Mean absolute distance ``(n,)`` in [0, 1], lower is better.

    The positive part of the map is divided by its 99th percentile (by its maximum where that is 0) and clipped
    to 1. A blank map scores the share of the mask, so read it beside a blank map's score.
    """
    return _over(_l1, maps, masks)


def mass(maps: Maps, masks: Masks) -> Floats:
    """Share ``(n,)`` of the map's positive part that lies in the mask; the mask's share for an empty map."""
    return _over(_mass, maps, masks)


def pointing(maps: Maps, masks: Masks) -> Floats:
    """Whether the map's maximum lies in the mask ``(n,)``; tied maxima count by their share inside."""
    return _over(_pointing, maps, masks)


def iou(maps: Maps, masks: Masks) -> Floats:
    """Intersection over union ``(n,)`` of the mask and as many highest pixels; 0 for an empty mask.

    Where pixels tie for the last places, the intersection is its mean over all ways to choose among them.
    """
    return _over(_iou, maps, masks)


METRICS: dict[str, Callable[[Maps, Masks], Floats]] = {
    "pearson": pearson,
    "spearman": spearman,
    "auroc": auroc,
    "pointing": pointing,
    "mass": mass,
    "iou": iou,
    "l1": l1,
}
_ON_PIXELS: dict[str, Callable[[_Pixels], Floats]] = {
    "pearson": _pearson,
    "spearman": _spearman,
    "auroc": _auroc,
    "pointing": _pointing,
    "mass": _mass,
    "iou": _iou,
    "l1": _l1,
}


def usable(masks: Masks) -> NDArray[np.bool_]:
    """Which masks ``(n,)`` say something: an empty or a full one does not."""
    return np.asarray(masks.any((1, 2)) & ~masks.all((1, 2)))


def measure(maps: Maps, masks: Masks, who: str = "") -> dict[str, Floats]:
    """Every metric by name, in its chosen reading; pictures whose mask is empty or full are left out.

    Args:
        maps: ``(n, h, w)``.
        masks: ``(n, h, w)`` bool.
        who: the tool and task of the maps, for the error.

    Raises:
        ToolError: maps and masks do not fit, or a map holds NaN or infinity.
    """
    # mass and L1 read the positive part themselves, so the maps as they are serve every metric
    return _all(maps, masks, who)


def readings(maps: Maps, masks: Masks, who: str = "") -> dict[Reading, dict[str, Floats]]:
    """What `measure` gives, for each reading of the maps; maps without a negative value read alike in all three.

    Arguments and errors are those of `measure`.
    """
    signed = _all(maps, masks, who)
    if not (maps < 0).any():
        return dict.fromkeys(READINGS, signed)
    return {
        "signed": signed,
        "positive": _all(np.maximum(maps, 0), masks, who),
        "absolute": _all(np.abs(maps), masks, who),
    }


def _all(maps: Maps, masks: Masks, who: str) -> dict[str, Floats]:
    _check(maps, masks, who)
    keep = usable(masks)
    parts = [{name: metric(m) for name, metric in _ON_PIXELS.items()} for m in _chunks(maps[keep], masks[keep])]
    return {name: np.concatenate([part[name] for part in parts] or [np.zeros(0)]) for name in METRICS}


def _over(metric: Callable[[_Pixels], Floats], maps: Maps, masks: Masks) -> Floats:
    _check(maps, masks, "")
    return np.concatenate([metric(m) for m in _chunks(maps, masks)] or [np.zeros(0)])


def _chunks(maps: Maps, masks: Masks) -> Iterator[_Pixels]:
    pixels = maps.shape[1] * maps.shape[2]
    step = max(1, CHUNK // pixels)
    for i in range(0, len(maps), step):
        x, y = maps[i : i + step], masks[i : i + step]
        yield _Pixels(x.reshape(len(x), pixels), y.reshape(len(y), pixels))


def _check(maps: Maps, masks: Masks, who: str) -> None:
    of = f"{who}: " if who else ""
    if maps.shape != masks.shape or maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ToolError(
            f"{of}heat maps {maps.shape} do not fit the masks {masks.shape}: give one map per triggered picture"
        )
    if not np.issubdtype(maps.dtype, np.floating) or masks.dtype != np.bool_:
        raise ToolError(f"{of}maps must be float and masks bool, got {maps.dtype} and {masks.dtype}")
    if not np.isfinite(maps).all():
        raise ToolError(f"{of}a heat map holds NaN or infinity: the tool must return finite numbers")
