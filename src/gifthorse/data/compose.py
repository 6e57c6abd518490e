"""Pasting sprites into pictures: batched affine sampling of premultiplied RGBA, with exact masks."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray

from ..types import Masks
from .openmoji import hue_matrices

Floats = NDArray[np.float32]
CHUNK = 128  # pictures sampled at a time: keeps the work in cache


def _column(value: ArrayLike | None, n: int, default: float) -> Floats:
    filled = np.full(n, default, np.float32) if value is None else np.asarray(value, np.float32)
    return np.broadcast_to(filled, (n,))


def _grid(centre: Floats, size: Floats, angle: Floats, flip: Floats, out: tuple[int, int]) -> torch.Tensor:
    """Sampling grid ``(n, h, w, 2)`` that maps output pixels to sprite coordinates in [-1, 1]."""
    h, w = out
    side = size * min(h, w)
    radians = np.deg2rad(angle)
    cos, sin = np.cos(radians), np.sin(radians)
    mirror = np.where(flip > 0.5, -1.0, 1.0)
    x, y = 2 * centre[:, 0] - 1, 2 * centre[:, 1] - 1
    across = (np.arange(w, dtype=np.float32) * 2 + 1) / w - 1
    down = (np.arange(h, dtype=np.float32) * 2 + 1) / h - 1
    dx, dy = (across - x[:, None]) * w / side[:, None], (down - y[:, None]) * h / side[:, None]
    grid = np.empty((len(size), h, w, 2), np.float32)
    np.add((mirror * cos)[:, None, None] * dx[:, None, :], (mirror * sin)[:, None, None] * dy[:, :, None], grid[..., 0])
    np.add(-sin[:, None, None] * dx[:, None, :], cos[:, None, None] * dy[:, :, None], grid[..., 1])
    return torch.as_tensor(grid)


def layers(
    sprites: NDArray[np.uint8],
    centre: ArrayLike,
    size: ArrayLike,
    angle: ArrayLike | None = None,
    flip: ArrayLike | None = None,
    hue: ArrayLike | None = None,
    brightness: ArrayLike | None = None,
    *,
    out: tuple[int, int],
) -> Floats:
    """Each sprite moved, turned and coloured on its own transparent canvas.

    Args:
        sprites: ``(n, s, s, 4)`` uint8 straight RGBA.
        centre: ``(n, 2)`` x and y as fractions of width and height.
        size: ``(n,)`` side as a fraction of the canvas's short side.
        angle: ``(n,)`` degrees, clockwise as seen.
        flip: ``(n,)`` bool, mirrored left to right before turning.
        hue: ``(n,)`` turns, positive from red towards green.
        brightness: ``(n,)`` factor on the colours.
        out: height and width of the canvas in pixels.

    Returns:
        ``(n, h, w, 4)`` float32 premultiplied RGBA in [0, 1].
    """
    n = len(sprites)
    size, angle = _column(size, n, 0.5), _column(angle, n, 0.0)
    flip, hue, light = _column(flip, n, 0.0), _column(hue, n, 0.0), _column(brightness, n, 1.0)
    centre = np.broadcast_to(np.asarray(centre, np.float32), (n, 2))
    canvas = np.empty((n, *out, 4), np.float32)
    with torch.no_grad():
        for lo in range(0, n, CHUNK):
            part = slice(lo, min(n, lo + CHUNK))
            x = torch.as_tensor(np.ascontiguousarray(sprites[part])).permute(0, 3, 1, 2).float().div_(255)
            shrink = int(x.shape[-1] / max(1.0, float(np.median(size[part])) * min(out)) + 0.25)
            x[:, :3] *= x[:, 3:]
            if shrink > 1:  # a coarser copy first, so that small sprites do not alias
                x = F.avg_pool2d(x, shrink, ceil_mode=False)
            matrix = torch.as_tensor(hue_matrices(hue[part]) * light[part, None, None])
            rgb = torch.bmm(matrix, x[:, :3].flatten(2)).view_as(x[:, :3])
            x[:, :3] = torch.minimum(rgb.clamp_(min=0), x[:, 3:])
            grid = _grid(centre[part], size[part], angle[part], flip[part], out)
            y = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
            canvas[part] = y.permute(0, 2, 3, 1).numpy()
    return canvas


def over(images: Floats, layer: Floats, opacity: Floats | None = None) -> Floats:
    """Premultiplied ``layer`` (n, h, w, 4) over ``images`` (n, h, w, 3); opacity ``(n, h, w)`` scales it."""
    if opacity is not None:
        layer = layer * opacity[..., None]
    return images * (1 - layer[..., 3:]) + layer[..., :3]


def place(
    images: Floats,
    sprites: NDArray[np.uint8],
    centre: ArrayLike,
    size: ArrayLike,
    angle: ArrayLike | None = None,
    flip: ArrayLike | None = None,
    hue: ArrayLike | None = None,
    brightness: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    *,
    noise: float = 0.0,
    threshold: float = 0.25,
) -> tuple[Floats, Masks]:
    """Pictures with one sprite pasted on each; the input is left as it was.

    Args:
        images: ``(n, h, w, 3)`` float32 in [0, 1].
        sprites: ``(n, s, s, 4)`` uint8 straight RGBA, as `openmoji.glyph` gives them.
        centre: ``(n, 2)`` x and y of the sprite's middle, as fractions of width and height.
        size: ``(n,)`` side of the sprite as a fraction of the picture's short side.
        angle: ``(n,)`` rotation in degrees, clockwise as seen.
        flip: ``(n,)`` bool, mirrored left to right before turning.
        hue: ``(n,)`` hue shift in turns, positive from red towards green.
        brightness: ``(n,)`` factor on the sprite's colours; 1 leaves them.
        rng: source of the sprite's own pixel noise; only read when ``noise`` is above 0.
        noise: standard deviation of Gaussian noise on the sprite's pixels, in [0, 1] units.
        threshold: least opacity at which a pixel belongs to the mask.

    Returns:
        The pictures, float32 in [0, 1], and ``(n, h, w)`` bool masks of the pasted pixels.
    """
    layer = layers(sprites, centre, size, angle, flip, hue, brightness, out=(images.shape[1], images.shape[2]))
    if noise > 0 and rng is not None:
        alpha = layer[..., 3:]
        layer[..., :3] += noise * alpha * rng.standard_normal(images.shape, np.float32)
        np.clip(layer[..., :3], 0, alpha, out=layer[..., :3])
    return over(images, layer), layer[..., 3] >= threshold
