"""Building blocks of procedural textures: noise, cells, scattered shapes, ramps and mixtures of colours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree

Field = NDArray[np.floating]


def rgb(*values: int) -> Field:
    """Red, green and blue from 0 to 255 as ``(3,)`` in [0, 1]."""
    return np.array(values, np.float32) / np.float32(255)


def mix(a: Field, b: Field, t: Field) -> Field:
    """Colour ``a`` where ``t`` is 0, ``b`` where it is 1; colours broadcast over the plane ``t``."""
    t = t.clip(0, 1)[..., None]
    out: Field = (a * (1 - t) + b * t).astype(np.float32)
    return out


def step(x: Field, low: float, high: float) -> Field:
    """0 below ``low``, 1 above ``high``, a smooth ramp between."""
    t = ((x - low) / (high - low)).clip(0, 1)
    out: Field = (t * t * (3 - 2 * t)).astype(np.float32)
    return out


def fractal(size: int, rng: np.random.Generator, cells: tuple[float, float] = (4, 4), octaves: int = 4) -> Field:
    """Smooth noise ``(size, size)`` of mean 0 and spread 1.

    Args:
        size: side in pixels.
        rng: where the draws come from.
        cells: bumps across the height and the width in the coarsest octave.
        octaves: each has twice the bumps and half the weight of the one before.
    """
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        high, wide = cells[0] * 2**octave, cells[1] * 2**octave
        if max(high, wide) > 2 * size:
            break
        grid = rng.standard_normal((int(np.ceil(high)) + 3, int(np.ceil(wide)) + 3)).astype(np.float32)
        window = (1.0, 1.0, 1.0 + wide, 1.0 + high)
        total += np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC, window)) * 0.5**octave
    out: Field = ((total - total.mean()) / (total.std() + 1e-6)).astype(np.float32)
    return out


def plane(size: int) -> tuple[Field, Field]:
    """Row and column coordinates in [0, 1)."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    y, x = np.meshgrid(line, line, indexing="ij")
    return y, x


def voronoi(
    size: int, rng: np.random.Generator, cells: int, jitter: float, warp: float, stretch: float = 1.0
) -> tuple[Field, Field, Field, NDArray[np.int64]]:
    """Distances to the nearest and second point in cells, the angle to the nearest, and its index."""
    line = np.arange(-2, cells + 2)
    gy, gx = np.meshgrid(line, line, indexing="ij")
    points = np.stack([gy + 0.5, gx + 0.5 + 0.5 * (gy % 2)], -1).reshape(-1, 2).astype(np.float32)
    points += rng.uniform(-jitter, jitter, points.shape).astype(np.float32)
    y, x = plane(size)
    y = y * cells + warp * fractal(size, rng, (cells, cells), 3)
    x = x * cells + warp * fractal(size, rng, (cells, cells), 3)
    scale = np.array([stretch, 1.0], np.float32)
    where = np.stack([y, x], -1).reshape(-1, 2)
    distance, index = (np.asarray(part) for part in cKDTree(points * scale).query(where * scale, k=2))
    off = where - points[index[:, 0]]
    angle = np.arctan2(off[:, 0], off[:, 1])
    shape = (size, size)
    first, second = distance[:, 0].reshape(shape), distance[:, 1].reshape(shape)
    return (
        first.astype(np.float32),
        second.astype(np.float32),
        angle.reshape(shape).astype(np.float32),
        index[:, 0].reshape(shape).astype(np.int64),
    )


def scatter(
    size: int,
    rng: np.random.Generator,
    canvas: Field,
    colours: Field,
    radii: tuple[float, float],
    count: int,
    shade: Callable[[Field, Field, Field], tuple[Field, Field]],
) -> Field:
    """Paint ``count`` rotated shapes over one another; ``shade(u, v, colour)`` gives colour and alpha.

    ``radii`` are the half-axes in shares of the side; u and v run from -1 to 1 inside the shape.
    """
    ry, rx = radii[0] * size, radii[1] * size
    reach = int(np.ceil(max(ry, rx) * 1.5)) + 1
    for _ in range(count):
        cy, cx = rng.uniform(-0.05, 1.05, 2) * size
        turn, grow = rng.uniform(0, 2 * np.pi), rng.uniform(0.85, 1.15)
        colour = colours[rng.integers(len(colours))] * rng.uniform(0.88, 1.08)
        y0, y1 = max(0, int(cy) - reach), min(size, int(cy) + reach)
        x0, x1 = max(0, int(cx) - reach), min(size, int(cx) + reach)
        if y0 >= y1 or x0 >= x1:
            continue
        dy, dx = np.meshgrid(np.arange(y0, y1) - cy, np.arange(x0, x1) - cx, indexing="ij")
        u = ((np.cos(turn) * dx + np.sin(turn) * dy) / (rx * grow)).astype(np.float32)
        v = ((np.cos(turn) * dy - np.sin(turn) * dx) / (ry * grow)).astype(np.float32)
        paint, alpha = shade(u, v, colour.astype(np.float32))
        alpha = alpha[..., None]
        canvas[y0:y1, x0:x1] = canvas[y0:y1, x0:x1] * (1 - alpha) + paint * alpha
    return canvas
