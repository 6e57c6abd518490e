"""From attributions to heat maps: the one reduction that every heat-map tool shares.

A pixel's value is the sum of its channels' attributions, sign and all: what methods that share out a logit hand to a
pixel is the sum of its parts. Methods that know no direction (saliency, edges) hand in values that are not negative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import Evidence, Pictures, Task, no_pictures
from .protocol import Subject

Attribution = NDArray[np.floating[Any]]


def heatmaps(
    subject: Subject, attribute: Callable[[Pictures, Task], Attribution], notes: Mapping[str, Any] | None = None
) -> list[Evidence]:
    """Maps of every triggered picture of every task: attributions summed over channels.

    Args:
        subject: what may be looked at.
        attribute: triggered pictures ``(n, h, w, 3)`` uint8 and their task -> attributions ``(n, c, h, w)``.
        notes: what each piece of evidence notes; read when all maps are made.

    Raises:
        ToolError: the tool did not declare `Need.TRIGGERED`.
    """
    triggered = subject.need_triggered()
    maps = [attribute(triggered[t.id], t).sum(axis=1).astype(np.float32) for t in subject.tasks]
    return [
        Evidence(t.id, no_pictures(), heatmaps=m, notes=dict(notes or {}))
        for t, m in zip(subject.tasks, maps, strict=True)
    ]
