"""Which class stands out: the anomaly index over all classes, and successive halving, which only ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import ToolError

CONSISTENT = 1.4826
"""What a median absolute deviation is multiplied with to be a normal distribution's spread."""

Floats = NDArray[np.float64]
Advance = Callable[[NDArray[np.int64], int], NDArray[np.float64]]
"""(classes still alive, further steps) -> the size of each one's trigger after them."""


def anomaly_index(sizes: Floats) -> Floats:
    """How far each class's trigger is smaller than usual, in spreads (Wang et al. 2019); above 2 is suspicious.

    The published index is its absolute value, of which small triggers count only; here large ones are negative. It
    means something only where every class had the same number of steps, so take it before any class is dropped.

    Args:
        sizes: ``(classes,)`` sizes of the reconstructed triggers, for example sums of masks.

    Raises:
        ToolError: fewer than three classes, or a size that is not finite.
    """
    if len(sizes) < 3 or not np.isfinite(sizes).all():
        raise ToolError(f"the anomaly index needs finite trigger sizes of three classes or more, got {len(sizes)}")
    middle = float(np.median(sizes))
    spread = CONSISTENT * float(np.median(np.abs(sizes - middle)))
    out: Floats = (middle - sizes) / max(spread, 1e-9 * max(1.0, abs(middle)))
    return out


@dataclass(frozen=True)
class Halving:
    """The outcome of successive halving.

    Attributes:
        order: classes, smallest trigger first; those dropped later come before those dropped earlier.
        sizes: ``(classes,)`` the size of each class's trigger when it was last looked at: not comparable over rungs.
        index: ``(classes,)`` the anomaly index at the first rung, where all classes are alive.
        steps: steps spent, summed over classes.
        full: steps that no dropping would have taken.
    """

    order: tuple[int, ...]
    sizes: Floats
    index: Floats
    steps: int
    full: int


def successive_halving(advance: Advance, classes: int, rungs: Sequence[int], keep: float = 0.5) -> Halving:
    """Rank classes by trigger size, dropping the larger ones after every rung.

    Args:
        advance: optimises the triggers of some classes further.
        classes: how many classes there are.
        rungs: steps of each rung.
        keep: share of the classes that goes on to the next rung.

    Raises:
        ToolError: too few classes, or a size that is not finite.
    """
    alive, left = np.arange(classes), list[int]()
    sizes, index, spent = np.full(classes, np.inf), np.zeros(classes), 0
    for i, steps in enumerate(rungs):
        sizes[alive] = advance(alive, steps)
        spent += steps * len(alive)
        if i == 0:
            index = anomaly_index(sizes)
        alive = alive[np.argsort(sizes[alive], kind="stable")]
        if i < len(rungs) - 1:
            kept = max(1, round(keep * len(alive)))
            left, alive = [*alive[kept:].tolist(), *left], np.sort(alive[:kept])
    return Halving((*alive.tolist(), *left), sizes, index, spent, sum(rungs) * classes)
