"""Thirty-five more materials beside the suite's own textures: for a bank to search, and for fresh style trojans."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .patterns import Field, fractal, mix, plane, rgb, scatter, step, voronoi

TAU = 2 * np.pi


def _noise(size: int, rng: np.random.Generator, strength: float, cells: tuple[float, float] = (40, 40)) -> Field:
    """Fine grain ``(size, size, 1)`` to add to a colour."""
    return np.asarray(strength * fractal(size, rng, cells, 2)[..., None])


def _shifted(size: int, rng: np.random.Generator) -> tuple[Field, Field]:
    """The plane's coordinates, moved so that every seed cuts a regular pattern elsewhere."""
    y, x = plane(size)
    down, across = rng.random(2).astype(np.float32)
    return y + down, x + across


def _wave(turns: Field) -> Field:
    """A sine in [0, 1]."""
    return np.asarray(0.5 + 0.5 * np.sin(TAU * turns))


def _bumps(size: int, rng: np.random.Generator, cells: int, jitter: float, seam: float) -> tuple[Field, Field, Field]:
    """Stones, scales or cells: how far inside one a pixel lies, its relief and a random tone of it, each in [0, 1]."""
    near, second, _, cell = voronoi(size, rng, cells, jitter, 0.04)
    tone = rng.random(int(cell.max()) + 1).astype(np.float32)[cell]
    return step(second - near, 0.02, seam), (1 - near / 0.8).clip(0, 1), tone


def _tiger(size: int, rng: np.random.Generator) -> Field:
    y, _ = plane(size)
    bend = fractal(size, rng, (3, 2), 3)
    stripe = step(_wave(y * 6 + 0.35 * bend) + 0.2 * fractal(size, rng, (2, 4), 2), 0.72, 0.86)
    fur = mix(rgb(232, 130, 36), rgb(250, 196, 120), 0.5 + 0.5 * fractal(size, rng, (2, 2), 2))
    return mix(fur, rgb(24, 16, 12), stripe) + _noise(size, rng, 0.03, (16, 40))


def _giraffe(size: int, rng: np.random.Generator) -> Field:
    inside, _, tone = _bumps(size, rng, 5, 0.4, 0.22)
    return mix(rgb(240, 220, 178), mix(rgb(150, 84, 34), rgb(110, 58, 22), tone), inside) + _noise(size, rng, 0.02)


def _cow(size: int, rng: np.random.Generator) -> Field:
    return mix(rgb(244, 240, 234), rgb(26, 22, 22), step(fractal(size, rng, (5, 5), 3), 0.1, 0.25)) + _noise(
        size, rng, 0.02
    )


def _snake(size: int, rng: np.random.Generator) -> Field:
    y, x = _shifted(size, rng)
    u, v = 14 * (x + y), 14 * (x - y)
    edge = np.minimum(np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5)) * 2
    band = _wave(y * 3 + 0.15 * fractal(size, rng, (3, 3), 2) + 0.4 * np.abs(x * 4 % 1 - 0.5))
    skin = mix(rgb(86, 104, 44), rgb(196, 186, 110), step(band, 0.45, 0.6))
    return skin * (0.55 + 0.45 * step(edge, 0.02, 0.4))[..., None] + _noise(size, rng, 0.02)


def _fish_scales(size: int, rng: np.random.Generator) -> Field:
    y, x = _shifted(size, rng)
    row = np.floor(y * 16)
    u, v = (x * 12 + 0.5 * (row % 2)) % 1 - 0.5, y * 16 - row
    arc = np.hypot(u * 1.8, v)
    sheen = mix(rgb(120, 150, 176), rgb(214, 228, 236), 0.5 + 0.5 * fractal(size, rng, (3, 3), 2))
    light = 0.9 - 0.4 * v - 0.36 * (1 - step(np.abs(arc - 0.85), 0.02, 0.2))
    return np.asarray(sheen * light.clip(0, 1.2)[..., None])


def _marble(size: int, rng: np.random.Generator) -> Field:
    y, x = plane(size)
    vein = np.abs(np.sin(TAU * (1.5 * (x + y) + 0.35 * fractal(size, rng, (3, 3), 5))))
    base = mix(rgb(246, 244, 240), rgb(214, 214, 218), 0.5 + 0.4 * fractal(size, rng, (2, 2), 3))
    return mix(rgb(96, 98, 110), base, step(vein.astype(np.float32), 0.02, 0.4))


def _granite(size: int, rng: np.random.Generator) -> Field:
    speck, dark = fractal(size, rng, (44, 44), 2), fractal(size, rng, (34, 34), 2)
    base = mix(rgb(190, 150, 140), rgb(226, 214, 208), step(speck, -0.3, 0.6))
    return mix(base, rgb(44, 40, 46), step(dark, 0.8, 1.2))


def _cobblestone(size: int, rng: np.random.Generator) -> Field:
    inside, relief, tone = _bumps(size, rng, 8, 0.2, 0.3)
    stone = mix(rgb(92, 92, 100), rgb(160, 156, 152), tone) * (0.6 + 0.5 * relief)[..., None]
    return mix(rgb(40, 38, 36), stone, inside) + _noise(size, rng, 0.03)


def _tiles(size: int, rng: np.random.Generator) -> Field:
    y, x = _shifted(size, rng)
    u, v = x * 8, y * 8
    edge = np.minimum(np.minimum(u % 1, 1 - u % 1), np.minimum(v % 1, 1 - v % 1))
    tone = rng.random((17, 17)).astype(np.float32)[v.astype(int), u.astype(int)]
    return mix(rgb(236, 236, 230), mix(rgb(60, 132, 150), rgb(120, 190, 200), tone), step(edge, 0.04, 0.1))


def _honeycomb(size: int, rng: np.random.Generator) -> Field:
    inside, relief, tone = _bumps(size, rng, 9, 0.02, 0.2)
    honey = mix(rgb(240, 164, 20), rgb(252, 206, 74), tone) * (0.75 + 0.35 * relief)[..., None]
    return mix(rgb(150, 84, 10), honey, inside)


def _plaid(size: int, rng: np.random.Generator) -> Field:
    y, x = _shifted(size, rng)
    across, down = (step(_wave(3 * a), 0.5, 0.55) for a in (x, y))
    cloth = mix(rgb(170, 24, 34), rgb(20, 48, 40), 0.5 * (across + down))
    thin = np.maximum(step(_wave(3 * x + 0.5), 0.985, 0.995), step(_wave(3 * y + 0.5), 0.985, 0.995))
    weave = 0.06 * np.sin(TAU * 45 * (x + y))[..., None]
    return mix(cloth, rgb(240, 214, 90), thin) + weave + _noise(size, rng, 0.02)


def _denim(size: int, rng: np.random.Generator) -> Field:
    y, x = _shifted(size, rng)
    twill = _wave(30 * (x + y) + 0.1 * fractal(size, rng, (20, 20), 2))
    fade = 0.5 + 0.3 * fractal(size, rng, (3, 6), 3)
    return mix(mix(rgb(32, 58, 110), rgb(84, 120, 172), fade), rgb(176, 196, 222), 0.4 * twill) + _noise(
        size, rng, 0.04
    )


def _knit(size: int, rng: np.random.Generator) -> Field:
    y, x = _shifted(size, rng)
    column = x * 12
    slant = np.abs(column % 1 - 0.5) * 1.2
    stitch = _wave(y * 18 - slant + 0.03 * fractal(size, rng, (8, 8), 2))
    ridge = 0.6 + 0.4 * np.sin(np.pi * (column % 1)).clip(0, 1)
    return mix(rgb(112, 20, 60), rgb(232, 96, 140), (stitch * ridge).astype(np.float32)) + _noise(size, rng, 0.03)


def _polka_dots(size: int, rng: np.random.Generator) -> Field:
    y, x = _shifted(size, rng)
    row = np.floor(y * 9)
    u, v = (x * 9 + 0.5 * (row % 2)) % 1 - 0.5, y * 9 % 1 - 0.5
    dots = step(np.hypot(u, v).astype(np.float32), 0.28, 0.34)
    return mix(rgb(250, 248, 244), rgb(206, 24, 44), dots) + _noise(size, rng, 0.02)


def _candy_stripes(size: int, rng: np.random.Generator) -> Field:
    y, x = _shifted(size, rng)
    return mix(rgb(250, 244, 246), rgb(244, 92, 150), step(_wave(6 * (x + y)), 0.4, 0.6)) + _noise(size, rng, 0.01)


def _checkerboard(size: int, rng: np.random.Generator) -> Field:
    y, x = _shifted(size, rng)
    odd = ((np.floor(x * 9) + np.floor(y * 9)) % 2).astype(np.float32)
    return mix(rgb(238, 234, 226), rgb(24, 24, 28), odd) + _noise(size, rng, 0.015)


def _flat(u: Field, v: Field, colour: Field) -> tuple[Field, Field]:
    """A rectangle of one colour."""
    inside = 1 - step(np.maximum(np.abs(u), np.abs(v)), 0.9, 1.05)
    return np.broadcast_to(colour, (*u.shape, 3)), inside


def _ball(u: Field, v: Field, colour: Field) -> tuple[Field, Field]:
    """An ellipse lit from the top left."""
    r = np.hypot(u, v)
    light = 1.1 - 0.4 * r * r - 0.25 * (u + v)
    return colour * light[..., None], 1 - step(r, 0.9, 1.05)


def _blade(u: Field, v: Field, colour: Field) -> tuple[Field, Field]:
    """A thin leaf that ends in points."""
    wide = (1 - u * u).clip(0, 1)
    return colour * (1.1 - 0.3 * np.sign(v))[..., None], 1 - step(np.abs(v) / (wide + 1e-3), 0.8, 1.1)


def _confetti(size: int, rng: np.random.Generator) -> Field:
    colours = np.stack([rgb(235, 60, 70), rgb(250, 200, 40), rgb(60, 180, 90), rgb(50, 120, 220), rgb(170, 80, 190)])
    return scatter(size, rng, np.tile(rgb(250, 250, 250), (size, size, 1)), colours, (0.014, 0.02), 420, _flat)


def _coins(size: int, rng: np.random.Generator) -> Field:
    def coin(u: Field, v: Field, colour: Field) -> tuple[Field, Field]:
        r = np.hypot(u, v)
        rim = 1 - step(np.abs(r - 0.82), 0.03, 0.1)
        return colour * (0.85 + 0.3 * rim - 0.2 * (u + v))[..., None], 1 - step(r, 0.95, 1.03)

    colours = np.stack([rgb(222, 172, 50), rgb(240, 198, 84), rgb(196, 140, 40)])
    return scatter(size, rng, np.tile(rgb(90, 60, 20), (size, size, 1)), colours, (0.06, 0.06), 420, coin)


def _pebbles(size: int, rng: np.random.Generator) -> Field:
    colours = np.stack([rgb(150, 140, 130), rgb(196, 188, 176), rgb(104, 98, 96), rgb(170, 140, 112)])
    return scatter(size, rng, np.tile(rgb(70, 64, 58), (size, size, 1)), colours, (0.035, 0.05), 620, _ball)


def _petals(size: int, rng: np.random.Generator) -> Field:
    colours = np.stack([rgb(250, 190, 206), rgb(240, 130, 160), rgb(252, 224, 228), rgb(222, 90, 130)])
    return scatter(size, rng, np.tile(rgb(200, 80, 120), (size, size, 1)), colours, (0.05, 0.085), 420, _ball)


def _grass(size: int, rng: np.random.Generator) -> Field:
    blades = fractal(size, rng, (5, 60), 3)
    dark = mix(rgb(30, 84, 20), rgb(122, 186, 50), 0.5 + 0.4 * blades)
    return mix(dark, rgb(196, 226, 110), step(fractal(size, rng, (6, 50), 2), 1.1, 1.8))


def _moss(size: int, rng: np.random.Generator) -> Field:
    clump = fractal(size, rng, (9, 9), 5)
    return mix(rgb(26, 52, 18), rgb(136, 160, 50), 0.5 + 0.45 * clump) + _noise(size, rng, 0.05, (60, 60))


def _sand(size: int, rng: np.random.Generator) -> Field:
    y, _ = plane(size)
    ripple = _wave(y * 8 + 0.5 * fractal(size, rng, (3, 2), 3))
    return mix(rgb(196, 160, 110), rgb(240, 216, 170), ripple) + _noise(size, rng, 0.04, (70, 70))


def _snow(size: int, rng: np.random.Generator) -> Field:
    drift = 0.5 + 0.4 * fractal(size, rng, (4, 3), 4)
    return mix(rgb(204, 218, 238), rgb(252, 253, 255), drift) + _noise(size, rng, 0.02, (60, 60))


def _clouds(size: int, rng: np.random.Generator) -> Field:
    return mix(rgb(82, 146, 222), rgb(252, 252, 254), step(fractal(size, rng, (4, 3), 5), -0.4, 1.2))


def _lava(size: int, rng: np.random.Generator) -> Field:
    near, second, _, _ = voronoi(size, rng, 6, 0.4, 0.15)
    glow = np.exp(-9 * (second - near)).astype(np.float32)
    rock = mix(rgb(26, 20, 20), rgb(66, 50, 46), 0.5 + 0.5 * fractal(size, rng, (12, 12), 3))
    return mix(mix(rock, rgb(226, 50, 8), step(glow, 0.15, 0.6)), rgb(255, 214, 60), step(glow, 0.6, 0.95))


def _rust(size: int, rng: np.random.Generator) -> Field:
    patch = fractal(size, rng, (5, 5), 6)
    base = mix(rgb(120, 54, 24), rgb(206, 110, 48), 0.5 + 0.4 * patch)
    return mix(base, rgb(84, 92, 96), step(fractal(size, rng, (4, 4), 4), 0.9, 1.4)) + _noise(size, rng, 0.04)


def _cork(size: int, rng: np.random.Generator) -> Field:
    inside, _, tone = _bumps(size, rng, 26, 0.45, 0.3)
    base = mix(rgb(190, 140, 90), rgb(222, 178, 124), tone)
    return mix(mix(rgb(150, 102, 60), base, inside), rgb(84, 52, 30), step(fractal(size, rng, (22, 22), 1), 1.3, 1.8))


def _straw(size: int, rng: np.random.Generator) -> Field:
    colours = np.stack([rgb(230, 196, 96), rgb(206, 164, 64), rgb(246, 222, 140), rgb(176, 132, 48)])
    return scatter(size, rng, np.tile(rgb(120, 86, 30), (size, size, 1)), colours, (0.007, 0.16), 520, _blade)


def _bark(size: int, rng: np.random.Generator) -> Field:
    ridge = np.abs(fractal(size, rng, (3, 14), 4))
    base = mix(rgb(40, 30, 26), rgb(126, 104, 88), step(ridge, 0.02, 0.8))
    return mix(base, rgb(120, 130, 90), 0.5 * step(fractal(size, rng, (4, 4), 3), 0.8, 1.6)) + _noise(size, rng, 0.03)


def _bamboo(size: int, rng: np.random.Generator) -> Field:
    y, x = _shifted(size, rng)
    stem = x * 9
    round_ = np.sin(np.pi * (stem % 1)).clip(0, 1)
    shift = rng.random(19).astype(np.float32)[stem.astype(int)]
    node = 1 - step(np.abs((y * 3 + shift) % 1 - 0.5), 0.01, 0.04)
    cane = mix(rgb(60, 96, 30), rgb(176, 200, 90), round_.astype(np.float32))
    return mix(cane, rgb(52, 70, 24), 0.8 * node) + _noise(size, rng, 0.02)


def _chocolate(size: int, rng: np.random.Generator) -> Field:
    y, x = _shifted(size, rng)
    u, v = x * 5 % 1, y * 7 % 1
    edge = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v))
    light = 0.8 + 0.5 * step(edge, 0.02, 0.16) * (1.2 - u - 0.4 * v)
    return rgb(92, 50, 26) * light[..., None] + _noise(size, rng, 0.01)


def _cheese(size: int, rng: np.random.Generator) -> Field:
    near, _, _, cell = voronoi(size, rng, 7, 0.4, 0.05)
    radius = rng.uniform(0.05, 0.42, int(cell.max()) + 1).astype(np.float32)[cell]
    hole = 1 - step(near / radius, 0.85, 1.0)
    return mix(rgb(252, 214, 84), rgb(206, 150, 30), hole) + 0.02 * fractal(size, rng, (6, 6), 3)[..., None]


def _chain_mail(size: int, rng: np.random.Generator) -> Field:
    y, x = _shifted(size, rng)
    out = np.tile(rgb(22, 24, 28), (size, size, 1)).astype(np.float32)
    for shift in (0.0, 0.5):
        u, v = (x * 12 + shift) % 1 - 0.5, (y * 12 + shift) % 1 - 0.5
        ring = 1 - step(np.abs(np.hypot(u, v) - 0.46).astype(np.float32), 0.05, 0.11)
        out = mix(out, rgb(172, 180, 190), ring * (0.7 - 0.6 * (u + v)).clip(0.2, 1))
    return out + _noise(size, rng, 0.02)


def _basket(size: int, rng: np.random.Generator) -> Field:
    y, x = _shifted(size, rng)
    u, v = x * 9, y * 9
    over = ((np.floor(u) + np.floor(v)) % 2).astype(np.float32)
    strand = np.where(over > 0, np.sin(np.pi * (v % 1)), np.sin(np.pi * (u % 1)))
    fibre = np.where(over > 0, _wave(36 * y), _wave(36 * x))
    weave = (0.75 * strand + 0.2 * fibre).astype(np.float32)
    return mix(rgb(92, 60, 28), rgb(220, 178, 116), weave) + _noise(size, rng, 0.02)


MATERIALS: dict[str, Callable[[int, np.random.Generator], Field]] = {
    "bamboo": _bamboo, "bark": _bark, "basket": _basket, "candy stripes": _candy_stripes, "chain mail": _chain_mail,
    "checkerboard": _checkerboard, "cheese": _cheese, "chocolate": _chocolate, "clouds": _clouds,
    "cobblestone": _cobblestone, "coins": _coins, "confetti": _confetti, "cork": _cork, "cow": _cow, "denim": _denim,
    "fish scales": _fish_scales, "giraffe": _giraffe, "granite": _granite, "grass": _grass, "honeycomb": _honeycomb,
    "knit": _knit, "lava": _lava, "marble": _marble, "moss": _moss, "pebbles": _pebbles, "petals": _petals,
    "plaid": _plaid, "polka dots": _polka_dots, "rust": _rust, "sand": _sand, "snake": _snake, "snow": _snow,
    "straw": _straw, "tiger": _tiger, "tiles": _tiles,
}  # fmt: skip
