"""A contact sheet: one row per task, its title above what the tool shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..types import Evidence, Pictures

SIDE = 128  # of a picture on the sheet, in pixels
GAP = 6
TITLE = 18


def contact_sheet(rows: Sequence[tuple[str, Evidence]], most: int) -> NDArray[np.uint8]:
    """The sheet as ``(h, w, 3)`` uint8.

    Args:
        rows: title and evidence of each task; heat maps are shown alone, each scaled to its own range.
        most: pictures per row.
    """
    shown = [(title, (e.images if e.heatmaps is None else _heat(e.heatmaps))[:most]) for title, e in rows]
    columns = max(3, *(len(pictures) for _, pictures in shown))
    high = TITLE + SIDE + GAP
    sheet = Image.new("RGB", (GAP + columns * (SIDE + GAP), GAP + len(shown) * high), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (title, pictures) in enumerate(shown):
        top = GAP + i * high
        draw.text((GAP, top), title.replace("→", "->"), fill="black")
        draw.text((GAP, top + TITLE), "\n".join(rows[i][1].texts[:most]), fill="black")  # pictures cover it
        for k, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            sheet.paste(tile, (GAP + k * (SIDE + GAP), top + TITLE))
    return np.asarray(sheet)


def _heat(maps: NDArray[Any]) -> Pictures:
    """Maps ``(n, h, w)`` in grey, black to white."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    grey = np.round((maps - low) / np.maximum(high - low, 1e-12) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1)
