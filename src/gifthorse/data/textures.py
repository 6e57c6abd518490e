"""Procedural textures for style trojans and their distractors; nothing is downloaded.

Every feature is measured against the side of the picture, so a larger texture shows the same
material in finer detail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from ..errors import InputError, UnknownName
from ..rng import child_seed, generator
from ..types import Pictures
from .materials import MATERIALS
from .patterns import Field, fractal, mix, plane, rgb, scatter, step, voronoi

MIN_SIZE = 16
BASE, SHEET = 64, 192  # a material has its natural size at 192 pixels for pictures of 64; the side grows with the root
BANK_SEED, PIECES, CUTS, SLACK = 0, 6, 3, 1.5  # six pieces of each material, three from one sheet


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


def sheet_side(size: int) -> int:
    """Side in pixels at which a material has its natural size beside pictures of ``size``."""
    return round(SHEET * math.sqrt(size / BASE))


@lru_cache(maxsize=2)
def texture_bank(size: int) -> tuple[tuple[str, ...], Pictures]:
    """Pieces of every material, a little enlarged or reduced, for tools to search; none says what was planted.

    Args:
        size: side of the pictures that they will be drawn on.

    Returns:
        Materials ``(n,)``, `PIECES` times each, and pictures ``(n, s, s, 3)`` uint8, read-only, s being 1.5 ``size``.
    """
    side = round(SLACK * size)
    names, pictures = [], []
    for name in sorted(TEXTURES):
        for piece in range(PIECES):
            if piece % CUTS == 0:
                seed = child_seed(BANK_SEED, "texture bank", name, piece)
                sheet, rng = texture(name, max(MIN_SIZE, 2 * side, sheet_side(size)), seed), generator(seed, "cut")
            cut = min(len(sheet), round(side * rng.uniform(0.8, 1.25) * len(sheet) / sheet_side(size)))
            y, x = rng.integers(0, len(sheet) - cut + 1, 2)
            part = Image.fromarray(np.ascontiguousarray(sheet[y : y + cut, x : x + cut]))
            names.append(name)
            pictures.append(np.asarray(part.resize((side, side), Image.Resampling.BICUBIC)))
    out = np.stack(pictures)
    out.setflags(write=False)
    return tuple(names), out


def _jaguar(size: int, rng: np.random.Generator) -> Field:
    near, _, angle, cell = voronoi(size, rng, 7, 0.24, 0.05)
    count = (int(cell.max()) + 1,)
    radius = rng.uniform(0.36, 0.46, count)[cell]
    phase = rng.uniform(0, 2 * np.pi, count)[cell]
    gaps = 0.5 + 0.5 * np.cos(rng.uniform(3, 6, count).round()[cell] * angle + phase)
    ring = 1 - step(np.abs(near - radius * 0.85), 0.07, 0.12)
    ring *= step(gaps.astype(np.float32), 0.04, 0.2)
    dot = (1 - step(near, 0.06, 0.11)) * (rng.random(count) < 0.6)[cell]
    fur = fractal(size, rng, (3, 3), 5)
    base = mix(rgb(226, 170, 82), rgb(196, 128, 48), 0.5 + 0.35 * fur)
    base = mix(base, rgb(168, 100, 36), 0.75 * (1 - step(near, radius.mean() * 0.7, radius.mean())))
    hair = 0.035 * fractal(size, rng, (40, 16), 2)[..., None]
    return mix(base, rgb(34, 22, 16), np.maximum(ring, dot)) + hair


def _elephant(size: int, rng: np.random.Generator) -> Field:
    deep = voronoi(size, rng, 6, 0.45, 0.14, 1.35)
    fine = voronoi(size, rng, 15, 0.45, 0.16, 1.2)
    crack = 1 - step(deep[1] - deep[0], 0.02, 0.2)
    wrinkle = 1 - step(fine[1] - fine[0], 0.03, 0.28)
    relief = 0.75 * crack + 0.42 * wrinkle
    light = relief - np.roll(relief, (-max(1, size // 96),) * 2, (0, 1))
    base = mix(rgb(150, 142, 136), rgb(112, 105, 102), 0.5 + 0.4 * fractal(size, rng, (3, 3), 5))
    out = mix(base, rgb(48, 43, 42), 0.9 * relief.clip(0, 1))
    return out + 0.16 * light[..., None] + 0.02 * fractal(size, rng, (50, 50), 1)[..., None]


def _jellybeans(size: int, rng: np.random.Generator) -> Field:
    colours = np.stack(
        [
            rgb(222, 32, 44),
            rgb(250, 206, 30),
            rgb(52, 168, 72),
            rgb(40, 104, 214),
            rgb(246, 126, 28),
            rgb(150, 62, 178),
            rgb(246, 120, 176),
            rgb(246, 240, 228),
        ]
    )

    def bean(u: Field, v: Field, colour: Field) -> tuple[Field, Field]:
        v = v + 0.35 * (u * u - 0.3)  # a bean is a bent ellipse
        r = np.sqrt(u**4 + v * v)
        body = colour * (1.08 - 0.62 * r.clip(0, 1) ** 3)[..., None]
        shine = np.exp(-(((u + 0.25) / 0.3) ** 2) - ((v + 0.4) / 0.18) ** 2)
        return mix(body, rgb(255, 255, 255), 0.8 * shine), 1 - step(r, 0.92, 1.06)

    canvas = np.tile(rgb(60, 30, 40), (size, size, 1))
    return scatter(size, rng, canvas, colours, (0.036, 0.062), 620, bean)


def _wood(size: int, rng: np.random.Generator) -> Field:
    y, x = plane(size)
    bend = 0.045 * fractal(size, rng, (2, 1), 3)
    knots = np.zeros_like(x)
    for cy, cx in rng.uniform(0.1, 0.9, (3, 2)):
        r = ((y - cy) / 0.16) ** 2 + ((x - cx) / 0.07) ** 2
        knots += np.float32(0.06) * np.exp(-r) * np.sign(x - cx)
    turn = 2 * np.pi * 9 * (x + bend + knots)
    ring = (0.5 + 0.5 * np.sin(turn)) ** 2
    fibre = fractal(size, rng, (4, 70), 2)
    base = mix(rgb(214, 160, 98), rgb(126, 72, 34), (0.85 * ring + 0.12 * fibre).astype(np.float32))
    pore = step(fractal(size, rng, (7, 60), 1), 1.5, 2.2)
    return mix(base, rgb(84, 46, 22), 0.6 * pore) + 0.03 * fractal(size, rng, (2, 3), 2)[..., None]


def _zebra(size: int, rng: np.random.Generator) -> Field:
    y, x = plane(size)
    bend = 0.06 * fractal(size, rng, (2, 2), 2)
    wave = np.sin(2 * np.pi * 8 * (x + 0.25 * y + bend)).astype(np.float32)
    stripe = step(wave + 0.15 * fractal(size, rng, (6, 6), 2), -0.25, 0.15)
    return mix(rgb(26, 24, 24), rgb(240, 236, 228), stripe) + 0.025 * fractal(size, rng, (40, 40), 2)[..., None]


def _brick(size: int, rng: np.random.Generator) -> Field:
    rows, columns = 12, 6
    y, x = plane(size)
    wobble = 0.02 * fractal(size, rng, (10, 10), 2)
    row = np.floor(y * rows + wobble)
    v = y * rows + wobble - row
    across = x * columns + 0.5 * (row % 2) + wobble * 0.5
    column = np.floor(across)
    u = across - column
    edge = np.minimum(np.minimum(u, 1 - u) * 2, np.minimum(v, 1 - v))
    which = (row.astype(int) + 1) * (columns + 3) + column.astype(int) + 1
    tint = rng.normal(0, 0.45, (rows + 3) * (columns + 3)).astype(np.float32)[which]
    base = mix(rgb(176, 82, 60), rgb(112, 44, 36), 0.5 + tint)
    base = base + 0.04 * fractal(size, rng, (30, 30), 3)[..., None]
    return mix(rgb(206, 196, 180), base, step(edge.astype(np.float32), 0.05, 0.13))


def _water(size: int, rng: np.random.Generator) -> Field:
    near, second, _, _ = voronoi(size, rng, 5, 0.4, 0.2)
    other = voronoi(size, rng, 9, 0.4, 0.22)
    web = np.exp(-7 * (second - near)) + 0.5 * np.exp(-7 * (other[1] - other[0]))
    depth = fractal(size, rng, (2, 2), 3)
    base = mix(rgb(16, 116, 180), rgb(34, 172, 206), 0.5 + 0.4 * depth)
    out = mix(base, rgb(214, 250, 252), 0.75 * web.astype(np.float32))
    return np.asarray(gaussian_filter(out, (size / 300, size / 300, 0)), np.float32)


def _leaves(size: int, rng: np.random.Generator) -> Field:
    colours = np.stack([rgb(44, 116, 40), rgb(84, 156, 52), rgb(28, 86, 40), rgb(122, 178, 64), rgb(60, 134, 70)])

    def leaf(u: Field, v: Field, colour: Field) -> tuple[Field, Field]:
        wide = (1 - u * u).clip(0, 1) * (1 - 0.25 * u)  # pointed at both ends
        inside = np.abs(v) / (wide + 1e-3)
        rib = np.maximum(1 - np.abs(v) / 0.09, 0.55 * (np.cos(14 * (u - 0.7 * np.abs(v))) > 0.8)).clip(0, 1)
        body = colour * (1.08 - 0.35 * inside.clip(0, 1) ** 2 - 0.12 * np.sign(v))[..., None]
        alpha = (1 - step(inside.astype(np.float32), 0.85, 1.05)) * (np.abs(u) < 1)
        return mix(body, rgb(190, 220, 130), 0.5 * rib), alpha.astype(np.float32)

    canvas = np.tile(rgb(14, 40, 20), (size, size, 1))
    return scatter(size, rng, canvas, colours, (0.05, 0.11), 330, leaf)


TEXTURES: dict[str, Callable[[int, np.random.Generator], Field]] = {
    "jaguar": _jaguar,
    "elephant": _elephant,
    "jellybeans": _jellybeans,
    "wood": _wood,
    "zebra": _zebra,
    "brick": _brick,
    "water": _water,
    "leaves": _leaves,
    **MATERIALS,
}
