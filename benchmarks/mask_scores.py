"""How long is the scoring of 64 maps at 224 px? All metrics at once against one map and one metric after the other.

Run: ``python benchmarks/mask_scores.py [--rounds 5]``

The loop is derived anew from the metrics' definitions, with scipy's ranks; Quantus is timed where it is installed
(it is not a dependency). Values must agree to 1e-6. Mass and rank are Quantus' relevance mass and rank accuracy;
its rank accuracy r is ours as an intersection over union r / (2 - r).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
from measure import ratio, rounds_from, spread, turns, verdict
from numpy.typing import NDArray
from scipy.stats import rankdata

from gifthorse.judges import masks

N, SIDE, CLOSE, SEED = 64, 224, 1e-6, 0
BARS = {"mass": 50, "iou": 50, "auroc": 8}
Floats = NDArray[np.float64]


def data() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Maps of noise with a warm square, a third of the pixels exactly 0, and the squares as masks."""
    rng = np.random.default_rng(SEED)
    footprints = np.zeros((N, SIDE, SIDE), bool)
    for mask, (top, left) in zip(footprints, rng.integers(0, SIDE - 65, (N, 2)), strict=True):
        mask[top : top + 65, left : left + 65] = True
    maps = rng.normal(size=footprints.shape) + 0.7 * footprints
    maps[rng.random(maps.shape) < 1 / 3] = 0
    return maps.astype(np.float32), footprints


def one_by_one(metric: str, maps: NDArray[np.float32], footprints: NDArray[np.bool_]) -> Floats:
    """A metric of one map after the other, straight from its definition."""
    return np.array(
        [_one(metric, m.ravel().astype(np.float64), y.ravel()) for m, y in zip(maps, footprints, strict=True)]
    )


def _one(metric: str, x: Floats, y: NDArray[np.bool_]) -> float:
    if metric == "pearson":
        return float(np.corrcoef(x, y)[0, 1])
    if metric == "spearman":
        return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])
    if metric == "auroc":
        inside = y.sum()
        return float((rankdata(x)[y].sum() - inside * (inside + 1) / 2) / (inside * (~y).sum()))
    if metric == "pointing":
        return float(y[x == x.max()].mean())
    if metric == "iou":
        order = np.argsort(-x)[: y.sum()]
        top = np.zeros_like(y)
        top[order] = True
        return float((top & y).sum() / (top | y).sum())
    warm = np.maximum(x, 0)
    if metric == "mass":
        return float(warm[y].sum() / warm.sum())
    return float(np.abs(np.clip(warm / np.percentile(warm, masks.PERCENTILE), 0, 1) - y).mean())


def quantus(metric: str, maps: NDArray[np.float32], footprints: NDArray[np.bool_]) -> Floats | None:
    """The same by Quantus, one call per batch; None where it is not installed or has no such metric."""
    names = {"mass": "RelevanceMassAccuracy", "iou": "RelevanceRankAccuracy", "auroc": "AUC"}
    if metric not in names or importlib.util.find_spec("quantus") is None:
        return None
    import quantus as library

    scorer = getattr(library, names[metric])(abs=False, normalise=False, disable_warnings=True)
    shown = np.zeros((N, 3, SIDE, SIDE), np.float32)
    found = scorer(
        model=None, x_batch=shown, y_batch=np.zeros(N, int), a_batch=np.maximum(maps, 0)[:, None] if metric == "mass"
        else maps[:, None], s_batch=footprints[:, None].astype(int), device="cpu",
    )  # fmt: skip
    values = np.array(found, np.float64)
    return values / (2 - values) if metric == "iou" else values


def main() -> None:
    """Check every metric and time it."""
    rounds = rounds_from(__doc__, 5)
    maps, footprints = data()
    print(f"{N} maps at {SIDE} px, seed {SEED}; ours over one map at a time, CPU seconds")
    largest = 0.0
    sides: dict[str, Callable[[], object]] = {"all": lambda: masks.measure(maps, footprints)}
    for name, metric in masks.METRICS.items():
        sides[f"ours {name}"] = lambda metric=metric: metric(maps, footprints)
        sides[f"loop {name}"] = lambda name=name: one_by_one(name, maps, footprints)
        wanted = {"the loop": one_by_one(name, maps, footprints), "Quantus": quantus(name, maps, footprints)}
        if wanted["Quantus"] is not None:
            sides[f"quantus {name}"] = lambda name=name: quantus(name, maps, footprints)
        for other, values in wanted.items():
            apart = 0.0 if values is None else float(np.abs(metric(maps, footprints) - values).max())
            if not apart < CLOSE:
                raise SystemExit(f"{name}: ours and {other} differ by {apart:.1e}; timing them says nothing")
            largest = max(largest, apart)
    print(f"  values agree to {largest:.0e} (bar: {CLOSE:.0e})")
    times = turns(sides, rounds)
    for name in masks.METRICS:
        print(f"  {name:9} ours {spread(list(times[f'ours {name}'].cpu))} s", end="")
        print(f"  loop/ours {ratio(times[f'loop {name}'], times[f'ours {name}'])}", end="")
        if (key := f"quantus {name}") in times:
            gain = ratio(times[key], times[f"ours {name}"])
            print(f"  Quantus/ours {gain}  {verdict(gain.median, BARS[name], least=True)}", end="")
        print()
    together = [sum(c) for c in zip(*(times[f"loop {name}"].cpu for name in masks.METRICS), strict=True)]
    print(f"  all seven {spread(list(times['all'].cpu))} s", end="")
    print(f"  loop/ours {spread([a / b for a, b in zip(together, times['all'].cpu, strict=True)])}")
    if importlib.util.find_spec("quantus") is None:
        print("  Quantus is not installed: the ratio to it was not measured")


if __name__ == "__main__":
    main()
