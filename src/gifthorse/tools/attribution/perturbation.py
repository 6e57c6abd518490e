"""Attribution by hiding parts of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...models.classifier import FORWARD_BATCH, Classifier
from ...types import Emits, Evidence, Family, Need
from ..protocol import Subject
from .gradient import Attribute, explain, mean_colour

REFERENCE = 64
"""Side of the picture, in pixels, that window and stride refer to; both grow with the picture."""


@dataclass(frozen=True)
class Occlusion:
    """How much the target logit falls when a square is painted in the mean colour.

    A pixel's value is the mean fall over the squares that cover it, whatever its sign.

    Attributes:
        window: side of the square in pixels of a 64-pixel picture.
        stride: distance between squares, likewise.
    """

    window: int = 12
    stride: int = 4

    name: ClassVar[str] = "occlusion"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.window <= REFERENCE:
            raise ValueError(f"needs 1 <= stride <= window <= {REFERENCE}")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(subject, 1, self._method)

    def _method(self, net: Classifier) -> Attribute:
        windows = self._windows(net.size)
        grey = mean_colour(net)
        cover = windows.sum(dim=0).clamp(min=1)

        @torch.inference_mode()
        def attribute(x: Tensor, target: int) -> Tensor:
            before = net(x)[:, target]
            falls = [
                before - net(torch.where(w, grey, x))[:, target] for w in torch.split(windows[:, None], FORWARD_BATCH)
            ]
            fall = torch.cat(falls)
            out: Tensor = torch.tensordot(fall, windows.float(), dims=1) / cover
            return out[None, None]

        return attribute

    def _windows(self, size: int) -> Tensor:
        """``(k, size, size)`` bool, the squares; the last row and column touch the border."""
        side = max(1, round(self.window * size / REFERENCE))
        step = max(1, round(self.stride * size / REFERENCE))
        starts = torch.tensor(sorted({*range(0, size - side, step), size - side}))
        axis = torch.arange(size)
        inside = (axis >= starts[:, None]) & (axis < starts[:, None] + side)
        return (inside[:, None, :, None] & inside[None, :, None, :]).reshape(-1, size, size)
