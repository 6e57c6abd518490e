"""`PatchTrigger`: one fixed drawing pasted at a random place, size and turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...rng import generator
from ...types import Kind, Pictures, Stamped
from . import _sprites


@dataclass(frozen=True)
class PatchTrigger:
    """A fixed drawing pasted on the picture like a sticker.

    Attributes:
        glyph: code points of the OpenMoji drawing.
        crop: left, top, right, bottom of the part used, as shares of the drawing, or None for all.
        hue: hue shift of the drawing in turns; the same in every picture.
        size: least and greatest side, as shares of the picture's short side.
        turn: greatest rotation to either side, in degrees.
        jitter: greatest relative change of brightness; hue shifts by a tenth of it at most, in turns.
        noise: standard deviation of the patch's own pixel noise, in [0, 1] units.
    """

    name: ClassVar[str] = "patch"
    version: ClassVar[int] = 1
    kind: ClassVar[Kind] = "patch"

    glyph: str = "1F642"
    crop: tuple[float, float, float, float] | None = None
    hue: float = 0.0
    size: tuple[float, float] = (0.26, 0.34)
    turn: float = 12.0
    jitter: float = 0.1
    noise: float = 0.03

    def __post_init__(self) -> None:
        _sprites.check_range("trigger 'patch'", "size", self.size, 0.0, 1.0)

    def apply(self, images: Pictures, seed: int) -> Stamped:
        """The pictures ``(n, h, w, 3)`` uint8 with the patch on each, and its footprints.

        The whole patch lies inside the picture wherever it lands, but for the tips of a turned one.
        """
        _sprites.check_images(images, "trigger 'patch'")
        n, h, w, _ = images.shape
        u = generator(seed, "patch").random((n, 6))
        size = self.size[0] + (self.size[1] - self.size[0]) * u[:, 0]
        half = 0.5 * size * min(h, w)
        room = np.stack([half / w, half / h], -1)
        side = _sprites.sharpness(self.size, min(h, w))
        return _sprites.stamp(
            images,
            _sprites.soften(_sprites.sprite(self.glyph, side, self.crop, self.hue), 1.2),
            room + (1 - 2 * room) * u[:, 1:3],
            size,
            self.turn * (2 * u[:, 3] - 1),
            hue=0.1 * self.jitter * (2 * u[:, 4] - 1),
            light=1 + self.jitter * (2 * u[:, 5] - 1),
            noise=self.noise,
            rng=generator(seed, "patch", "noise"),
        )

    def exemplars(self, n: int, size: int, seed: int) -> Pictures:
        """``(n, size, size, 3)`` uint8: the patch, large, on plain grounds."""
        rgba = _sprites.sprite(self.glyph, size, self.crop, self.hue)
        return _sprites.alone(rgba, n, size, seed, turn=self.turn, hue=0.1 * self.jitter, flip=False)
