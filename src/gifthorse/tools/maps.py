"""From attributions to heat maps: the one reduction that every heat-map tool shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import Evidence, Pictures, Task
from .protocol import Subject

Attribution = NDArray[np.floating[Any]]


def heatmaps(subject: Subject, attribute: Callable[[Pictures, Task], Attribution]) -> list[Evidence]:
    """Maps of every triggered picture of every task: absolute attributions summed over channels.

    Args:
        subject: what may be looked at.
        attribute: triggered pictures ``(n, h, w, 3)`` uint8 and their task -> attributions ``(n, c, h, w)``.

    Raises:
        ToolError: the tool did not declare `Need.TRIGGERED`.
    """
    triggered = subject.need_triggered()
    return [
        Evidence.of_heatmaps(t.id, np.abs(attribute(triggered[t.id], t)).sum(axis=1).astype(np.float32))
        for t in subject.tasks
    ]
