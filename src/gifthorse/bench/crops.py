"""Heat maps as evidence that a judge can look at: what each map points at in its triggered picture, enlarged.

Made of the map and the picture below it alone, which the tool was given as well: neither key nor footprint is read.
The twin's maps of the same pictures give the twin's crops, so what any network points at there counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from numpy.typing import NDArray

from ..images import hot_spots
from ..types import Evidence

VERSION: Final = 1
SHARE: Final = 3 / 8  # of the picture's side, whatever the trigger's size: that is part of the answer


def spec(pictures: int) -> dict[str, Any]:
    """What crops depend on, for the digest of the cells that ask about them."""
    return {"version": VERSION, "share": SHARE, "pictures": pictures}


def crops(
    shown: Iterable[Evidence], exhibits: Mapping[str, NDArray[Any]], pictures: int, share: float = SHARE
) -> list[Evidence]:
    """The evidence of a heat-map tool as pictures: the square that each map weighs most.

    Args:
        shown: maps of the triggered pictures, by task.
        exhibits: the public pictures that tools are given; ``triggered/TASK`` are those below the maps.
        pictures: how many to show, the first ones; fewer where fewer are triggered.
        share: side of the square as a share of the picture's.

    Returns:
        Evidence with pictures instead of maps, in the same order; evidence without maps as it is.
    """
    out = []
    for e in shown:
        if e.heatmaps is None:
            out.append(e)
            continue
        images = hot_spots(exhibits[f"triggered/{e.task}"][:pictures], e.heatmaps[:pictures], share)
        out.append(Evidence(e.task, images, notes=e.notes))
    return out
