"""Does a map change where the trigger is? Maps of triggered pictures, less those of the same scenes without it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import ToolError
from ..types import Evidence, Pictures

if TYPE_CHECKING:
    from ..tools.protocol import Subject, Tool


def difference_maps(
    tool: Tool, subject: Subject, plain: Mapping[str, Pictures], pictures: int, seed: int
) -> list[Evidence]:
    """One tool's maps with the trigger minus its maps without, both for the task's target and with the same seed.

    What the tool says about the scene itself, and what it makes of any picture, cancels; positive is where the
    trigger added a reason for the target. They are scored by `judges.masks` like any maps. A person who hunts an
    unknown trojan has no such pairs: this asks what a map is worth, not what a tool finds.

    Args:
        tool: one that emits heat maps.
        subject: what the tool may look at, with triggered pictures.
        plain: for each task id the same scenes without trigger, as the exhibits' ``plain/TASK``.
        pictures: as in `Tool.run`.
        seed: as in `Tool.run`.

    Raises:
        ToolError: the tool emits no maps, or a task's scenes do not pair with its triggered pictures.
    """
    if tool.emits != "heatmaps":
        raise ToolError(f"tool {tool.name!r} emits {tool.emits}; only heat maps can be subtracted")
    for task, triggered in subject.need_triggered().items():
        if task not in plain or plain[task].shape != triggered.shape:
            got = plain[task].shape if task in plain else "none"
            raise ToolError(
                f"tool {tool.name!r}, {task}: pictures {triggered.shape} need as many plain ones, got {got}"
            )
    without = dataclasses.replace(subject, triggered=plain)
    pairs = zip(tool.run(subject, pictures, seed), tool.run(without, pictures, seed), strict=True)
    out = []
    for a, b in pairs:
        if a.heatmaps is None or b.heatmaps is None:
            raise ToolError(f"tool {tool.name!r}, {a.task}: no map was shown")
        out.append(Evidence.of_heatmaps(a.task, a.heatmaps - b.heatmaps))
    return out
