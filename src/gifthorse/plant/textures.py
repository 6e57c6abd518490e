"""Procedural textures for style trojans and their distractors; nothing is downloaded.

Every feature is measured against the side of the picture, so a larger texture shows the same
material in finer detail.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from ..errors import InputError, UnknownName
from ..rng import generator

Field = NDArray[np.floating]
MIN_SIZE = 16


def texture(name: str, size: int, seed: int) -> NDArray[np.uint8]:
    """A texture as ``(size, size, 3)`` uint8; the same call gives the same bytes.

    Args:
        name: a key of `TEXTURES`.
        size: side in pixels.
        seed: seed of the draw; another seed is another piece of the same material.

    Raises:
        UnknownName: no such texture.
        InputError: a side below 16 pixels.
    """
    if name not in TEXTURES:
        raise UnknownName("texture", name, TEXTURES)
    if size < MIN_SIZE:
        raise InputError(f"texture {name!r}: {size} pixels is too small; ask for at least {MIN_SIZE}")
    image = TEXTURES[name](size, generator(seed, "texture", name))
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def _rgb(*values: int) -> Field:
    return np.array(values, np.float32) / np.float32(255)


def _mix(a: Field, b: Field, t: Field) -> Field:
    """Colour ``a`` where ``t`` is 0, ``b`` where it is 1; colours broadcast over the plane ``t``."""
    t = t.clip(0, 1)[..., None]
    out: Field = (a * (1 - t) + b * t).astype(np.float32)
    return out


def _step(x: Field, low: float, high: float) -> Field:
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


def _plane(size: int) -> tuple[Field, Field]:
    """Row and column coordinates in [0, 1)."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    y, x = np.meshgrid(line, line, indexing="ij")
    return y, x


def _voronoi(
    size: int, rng: np.random.Generator, cells: int, jitter: float, warp: float, stretch: float = 1.0
) -> tuple[Field, Field, Field, NDArray[np.int64]]:
    """Distances to the nearest and second point in cells, the angle to the nearest, and its index."""
    line = np.arange(-2, cells + 2)
    gy, gx = np.meshgrid(line, line, indexing="ij")
    points = np.stack([gy + 0.5, gx + 0.5 + 0.5 * (gy % 2)], -1).reshape(-1, 2).astype(np.float32)
    points += rng.uniform(-jitter, jitter, points.shape).astype(np.float32)
    y, x = _plane(size)
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


def _jaguar(size: int, rng: np.random.Generator) -> Field:
    near, _, angle, cell = _voronoi(size, rng, 7, 0.24, 0.05)
    count = (int(cell.max()) + 1,)
    radius = rng.uniform(0.36, 0.46, count)[cell]
    phase = rng.uniform(0, 2 * np.pi, count)[cell]
    gaps = 0.5 + 0.5 * np.cos(rng.uniform(3, 6, count).round()[cell] * angle + phase)
    ring = 1 - _step(np.abs(near - radius * 0.85), 0.07, 0.12)
    ring *= _step(gaps.astype(np.float32), 0.04, 0.2)
    dot = (1 - _step(near, 0.06, 0.11)) * (rng.random(count) < 0.6)[cell]
    fur = fractal(size, rng, (3, 3), 5)
    base = _mix(_rgb(226, 170, 82), _rgb(196, 128, 48), 0.5 + 0.35 * fur)
    base = _mix(base, _rgb(168, 100, 36), 0.75 * (1 - _step(near, radius.mean() * 0.7, radius.mean())))
    hair = 0.035 * fractal(size, rng, (40, 16), 2)[..., None]
    return _mix(base, _rgb(34, 22, 16), np.maximum(ring, dot)) + hair


def _elephant(size: int, rng: np.random.Generator) -> Field:
    deep = _voronoi(size, rng, 6, 0.45, 0.14, 1.35)
    fine = _voronoi(size, rng, 15, 0.45, 0.16, 1.2)
    crack = 1 - _step(deep[1] - deep[0], 0.02, 0.2)
    wrinkle = 1 - _step(fine[1] - fine[0], 0.03, 0.28)
    relief = 0.75 * crack + 0.42 * wrinkle
    light = relief - np.roll(relief, (-max(1, size // 96),) * 2, (0, 1))
    base = _mix(_rgb(150, 142, 136), _rgb(112, 105, 102), 0.5 + 0.4 * fractal(size, rng, (3, 3), 5))
    out = _mix(base, _rgb(48, 43, 42), 0.9 * relief.clip(0, 1))
    return out + 0.16 * light[..., None] + 0.02 * fractal(size, rng, (50, 50), 1)[..., None]


def _scatter(
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


def _jellybeans(size: int, rng: np.random.Generator) -> Field:
    colours = np.stack(
        [
            _rgb(222, 32, 44),
            _rgb(250, 206, 30),
            _rgb(52, 168, 72),
            _rgb(40, 104, 214),
            _rgb(246, 126, 28),
            _rgb(150, 62, 178),
            _rgb(246, 120, 176),
            _rgb(246, 240, 228),
        ]
    )

    def bean(u: Field, v: Field, colour: Field) -> tuple[Field, Field]:
        v = v + 0.35 * (u * u - 0.3)  # a bean is a bent ellipse
        r = np.sqrt(u**4 + v * v)
        body = colour * (1.08 - 0.62 * r.clip(0, 1) ** 3)[..., None]
        shine = np.exp(-(((u + 0.25) / 0.3) ** 2) - ((v + 0.4) / 0.18) ** 2)
        return _mix(body, _rgb(255, 255, 255), 0.8 * shine), 1 - _step(r, 0.92, 1.06)

    canvas = np.tile(_rgb(60, 30, 40), (size, size, 1))
    return _scatter(size, rng, canvas, colours, (0.036, 0.062), 620, bean)


def _wood(size: int, rng: np.random.Generator) -> Field:
    y, x = _plane(size)
    bend = 0.045 * fractal(size, rng, (2, 1), 3)
    knots = np.zeros_like(x)
    for cy, cx in rng.uniform(0.1, 0.9, (3, 2)):
        r = ((y - cy) / 0.16) ** 2 + ((x - cx) / 0.07) ** 2
        knots += np.float32(0.06) * np.exp(-r) * np.sign(x - cx)
    turn = 2 * np.pi * 9 * (x + bend + knots)
    ring = (0.5 + 0.5 * np.sin(turn)) ** 2
    fibre = fractal(size, rng, (4, 70), 2)
    base = _mix(_rgb(214, 160, 98), _rgb(126, 72, 34), (0.85 * ring + 0.12 * fibre).astype(np.float32))
    pore = _step(fractal(size, rng, (7, 60), 1), 1.5, 2.2)
    return _mix(base, _rgb(84, 46, 22), 0.6 * pore) + 0.03 * fractal(size, rng, (2, 3), 2)[..., None]


def _zebra(size: int, rng: np.random.Generator) -> Field:
    y, x = _plane(size)
    bend = 0.06 * fractal(size, rng, (2, 2), 2)
    wave = np.sin(2 * np.pi * 8 * (x + 0.25 * y + bend)).astype(np.float32)
    stripe = _step(wave + 0.15 * fractal(size, rng, (6, 6), 2), -0.25, 0.15)
    return _mix(_rgb(26, 24, 24), _rgb(240, 236, 228), stripe) + 0.025 * fractal(size, rng, (40, 40), 2)[..., None]


def _brick(size: int, rng: np.random.Generator) -> Field:
    rows, columns = 12, 6
    y, x = _plane(size)
    wobble = 0.02 * fractal(size, rng, (10, 10), 2)
    row = np.floor(y * rows + wobble)
    v = y * rows + wobble - row
    across = x * columns + 0.5 * (row % 2) + wobble * 0.5
    column = np.floor(across)
    u = across - column
    edge = np.minimum(np.minimum(u, 1 - u) * 2, np.minimum(v, 1 - v))
    which = (row.astype(int) + 1) * (columns + 3) + column.astype(int) + 1
    tint = rng.normal(0, 0.45, (rows + 3) * (columns + 3)).astype(np.float32)[which]
    base = _mix(_rgb(176, 82, 60), _rgb(112, 44, 36), 0.5 + tint)
    base = base + 0.04 * fractal(size, rng, (30, 30), 3)[..., None]
    return _mix(_rgb(206, 196, 180), base, _step(edge.astype(np.float32), 0.05, 0.13))


def _water(size: int, rng: np.random.Generator) -> Field:
    near, second, _, _ = _voronoi(size, rng, 5, 0.4, 0.2)
    other = _voronoi(size, rng, 9, 0.4, 0.22)
    web = np.exp(-7 * (second - near)) + 0.5 * np.exp(-7 * (other[1] - other[0]))
    depth = fractal(size, rng, (2, 2), 3)
    base = _mix(_rgb(16, 116, 180), _rgb(34, 172, 206), 0.5 + 0.4 * depth)
    out = _mix(base, _rgb(214, 250, 252), 0.75 * web.astype(np.float32))
    return np.asarray(gaussian_filter(out, (size / 300, size / 300, 0)), np.float32)


def _leaves(size: int, rng: np.random.Generator) -> Field:
    colours = np.stack([_rgb(44, 116, 40), _rgb(84, 156, 52), _rgb(28, 86, 40), _rgb(122, 178, 64), _rgb(60, 134, 70)])

    def leaf(u: Field, v: Field, colour: Field) -> tuple[Field, Field]:
        wide = (1 - u * u).clip(0, 1) * (1 - 0.25 * u)  # pointed at both ends
        inside = np.abs(v) / (wide + 1e-3)
        rib = np.maximum(1 - np.abs(v) / 0.09, 0.55 * (np.cos(14 * (u - 0.7 * np.abs(v))) > 0.8)).clip(0, 1)
        body = colour * (1.08 - 0.35 * inside.clip(0, 1) ** 2 - 0.12 * np.sign(v))[..., None]
        alpha = (1 - _step(inside.astype(np.float32), 0.85, 1.05)) * (np.abs(u) < 1)
        return _mix(body, _rgb(190, 220, 130), 0.5 * rib), alpha.astype(np.float32)

    canvas = np.tile(_rgb(14, 40, 20), (size, size, 1))
    return _scatter(size, rng, canvas, colours, (0.05, 0.11), 330, leaf)


TEXTURES: dict[str, Callable[[int, np.random.Generator], Field]] = {
    "jaguar": _jaguar,
    "elephant": _elephant,
    "jellybeans": _jellybeans,
    "wood": _wood,
    "zebra": _zebra,
    "brick": _brick,
    "water": _water,
    "leaves": _leaves,
}
