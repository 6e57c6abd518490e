"""What patch and natural-feature triggers share: a checked sprite, pasting, and renderings alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ...data import compose, openmoji
from ...data.patterns import fractal
from ...errors import InputError
from ...rng import generator
from ...types import Pictures, Stamped

Crop = tuple[float, float, float, float]
EDGE = 0.1  # least opacity that counts as part of the trigger
MARGIN = 0.06  # transparent border around a sprite, as a share of its side, so that its edge can soften


def check_images(images: Pictures, who: str) -> None:
    """Refuse anything but uint8 ``(n, h, w, 3)``.

    Raises:
        InputError: another type or shape.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise InputError(f"{who}: pictures must be uint8 (n, h, w, 3), got {images.dtype} {images.shape}; convert them")


def check_range(who: str, field: str, value: tuple[float, float], low: float, high: float) -> None:
    """Refuse a pair that is not ``low < value[0] <= value[1] <= high``.

    Raises:
        InputError: not such a pair.
    """
    if len(value) != 2 or not low < value[0] <= value[1] <= high:
        raise InputError(f"{who}: {field} must be two numbers in order within ({low}, {high}], got {value}")


def sharpness(size: tuple[float, float], short: int) -> int:
    """Side of the drawing to paste at these shares of a ``short`` pixel side.

    It stays below 1.75 times the least pasted side, so that `compose` never shrinks it first: that
    would make a picture's pixels depend on its neighbours in the batch.
    """
    return max(8, round(min(1.4 * size[1], 1.6 * size[0]) * short))


def sprite(code: str, side: int, crop: Crop | None, hue: float) -> NDArray[np.uint8]:
    """The drawing as ``(side + border, side + border, 4)`` uint8 RGBA with a transparent border."""
    border = max(1, round(MARGIN * side))
    return np.pad(openmoji.glyph(code, side, crop, hue), ((border, border), (border, border), (0, 0)))


def soften(rgba: NDArray[np.uint8], radius: float) -> NDArray[np.uint8]:
    """The sprite with its opacity faded inwards over ``radius`` pixels of the sprite."""
    alpha = rgba[..., 3].astype(np.float32) / 255
    faded = np.minimum(alpha, gaussian_filter(alpha, radius) * 2 - 0.5).clip(0, 1)
    out = rgba.copy()
    out[..., 3] = np.minimum(rgba[..., 3], np.rint(255 * np.maximum(faded, 0.35 * alpha))).astype(np.uint8)
    return out


def stamp(
    images: Pictures,
    rgba: NDArray[np.uint8],
    centre: NDArray[np.float64],
    size: NDArray[np.float64],
    angle: NDArray[np.float64],
    *,
    flip: NDArray[np.bool_] | None = None,
    hue: NDArray[np.float64] | None = None,
    light: NDArray[np.float64] | None = None,
    noise: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Stamped:
    """The sprite pasted once on every picture; pixels outside the mask keep their bytes.

    Args:
        images: ``(n, h, w, 3)`` uint8.
        rgba: ``(s, s, 4)`` uint8, as `sprite` gives it.
        centre: ``(n, 2)`` x and y of its middle, as shares of the picture.
        size: ``(n,)`` side of the drawing as a share of the picture's short side.
        angle: ``(n,)`` degrees.
        flip: ``(n,)`` mirrored left to right.
        hue: ``(n,)`` turns.
        light: ``(n,)`` factor on its colours.
        noise: standard deviation of its own pixel noise, in [0, 1] units.
        rng: source of that noise.
    """
    whole = size * (1 + 2 * MARGIN)  # the border belongs to the sprite
    out = images.copy()
    masks = np.zeros(images.shape[:3], bool)
    for lo in range(0, len(images), compose.CHUNK):
        part = slice(lo, lo + compose.CHUNK)
        under = np.divide(images[part], 255, dtype=np.float32)
        pasted, mask = compose.place(
            under,
            np.broadcast_to(rgba, (len(under), *rgba.shape)),
            centre[part],
            whole[part],
            angle[part],
            None if flip is None else flip[part],
            None if hue is None else hue[part],
            None if light is None else light[part],
            rng,
            noise=noise,
            threshold=EDGE,
        )
        np.copyto(out[part], np.rint(pasted.clip(0, 1) * 255).astype(np.uint8), where=mask[..., None])
        masks[part] = mask
    return Stamped(out, masks)


def backdrops(n: int, size: int, rng: np.random.Generator) -> Pictures:
    """``(n, size, size, 3)`` uint8 plain grounds: two soft colours under smooth noise."""
    out = np.empty((n, size, size, 3), np.uint8)
    for i in range(n):
        low, high = rng.uniform(0.35, 0.9, (2, 1)) + rng.uniform(-0.15, 0.15, (2, 3))
        blend = (0.5 + 0.3 * fractal(size, rng, (1.5, 1.5), 2)).clip(0, 1)[..., None]
        out[i] = np.rint(255 * (low * (1 - blend) + high * blend).clip(0, 1)).astype(np.uint8)
    return out


def alone(rgba: NDArray[np.uint8], n: int, size: int, seed: int, *, turn: float, hue: float, flip: bool) -> Pictures:
    """The sprite large and central on ``n`` plain grounds ``(n, size, size, 3)``; turn in degrees, hue in turns."""
    rng = generator(seed, "exemplars")
    u = rng.random((n, 7))
    centre = 0.5 + 0.12 * (u[:, :2] - 0.5)
    return stamp(
        backdrops(n, size, generator(seed, "exemplars", "ground")),
        rgba,
        centre,
        0.62 + 0.28 * u[:, 2],
        turn * (2 * u[:, 3] - 1),
        flip=(u[:, 4] < 0.5) if flip else None,
        hue=hue * (2 * u[:, 5] - 1),
        light=0.92 + 0.16 * u[:, 6],
    ).images
