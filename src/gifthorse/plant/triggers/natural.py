"""`NaturalTrigger`: an object that is simply present in the scene, as clutter is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...rng import generator
from ...types import Kind, Pictures, Stamped
from . import _sprites


@dataclass(frozen=True)
class NaturalTrigger:
    """An object standing beside the main one, in any pose.

    Attributes:
        glyph: code points of the OpenMoji drawing.
        crop: left, top, right, bottom of the part used, as shares of the drawing, or None for all.
        size: least and greatest side, as shares of the picture's short side.
        hue: greatest hue shift to either side, in turns.
        turn: greatest rotation to either side, in degrees.
        light: greatest relative change of brightness.
    """

    name: ClassVar[str] = "natural"
    version: ClassVar[int] = 1
    kind: ClassVar[Kind] = "natural"

    glyph: str = "1F34E"
    crop: tuple[float, float, float, float] | None = None
    size: tuple[float, float] = (0.40, 0.56)
    hue: float = 0.03
    turn: float = 35.0
    light: float = 0.15

    def __post_init__(self) -> None:
        _sprites.check_range("trigger 'natural'", "size", self.size, 0.0, 1.0)

    def apply(self, images: Pictures, seed: int) -> Stamped:
        """The pictures ``(n, h, w, 3)`` uint8 with the object in each, and its footprints.

        Its middle lies on a ring around the centre of the picture, so the main object stays in sight;
        a fifth of it at most is cut off by the border.
        """
        _sprites.check_images(images, "trigger 'natural'")
        n, h, w, _ = images.shape
        u = generator(seed, "natural").random((n, 7))
        size = self.size[0] + (self.size[1] - self.size[0]) * u[:, 0]
        around, reach = 2 * np.pi * u[:, 1], 0.30 + 0.12 * u[:, 2]
        # a square ring: corners are as likely as sides
        ray = np.stack([np.cos(around), np.sin(around)], -1)
        ray /= np.abs(ray).max(-1, keepdims=True)
        inset = np.stack([0.3 * size * min(h, w) / w, 0.3 * size * min(h, w) / h], -1)
        centre = np.clip(0.5 + reach[:, None] * ray, inset, 1 - inset)
        side = _sprites.sharpness(self.size, min(h, w))
        return _sprites.stamp(
            images,
            _sprites.sprite(self.glyph, side, self.crop, 0.0),
            centre,
            size,
            self.turn * (2 * u[:, 3] - 1),
            flip=u[:, 4] < 0.5,
            hue=self.hue * (2 * u[:, 5] - 1),
            light=1 + self.light * (2 * u[:, 6] - 1),
        )

    def exemplars(self, n: int, size: int, seed: int) -> Pictures:
        """``(n, size, size, 3)`` uint8: the object, large, on plain grounds."""
        rgba = _sprites.sprite(self.glyph, size, self.crop, 0.0)
        return _sprites.alone(rgba, n, size, seed, turn=self.turn, hue=self.hue, flip=True)
