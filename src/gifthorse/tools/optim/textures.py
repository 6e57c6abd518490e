"""Textures from recipes: six kinds of pattern, fifteen dials and a palette, drawn many at once.

A recipe is a point in a space that can be searched: random ones look like cloth, stone, fur, cells or sweets, and a
small change of a recipe is a small change of its texture. No picture is read and no material is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .loop import torch_generator

KINDS = ("noise", "waves", "cells", "spots", "shapes", "bricks")
DIALS = (
    "frequency", "stretch", "angle", "warp", "sharpness", "balance", "ring", "disorder",
    "relief", "grain", "fineness", "tint", "colours", "length",
)  # fmt: skip
COLOURS = 8  # slots of a palette; the first is the ground
LATTICE = 41  # lattice points per side before the pattern repeats
PLANES = 8  # different noise planes that recipes share
RENDER_BATCH = 64


@dataclass(frozen=True)
class Recipes:
    """Recipes of ``n`` textures.

    Attributes:
        kind: ``(n,)`` index into `KINDS`.
        dials: ``(n, len(DIALS))`` in [0, 1].
        palette: ``(n, COLOURS, 3)`` in [0, 1].
        piece: ``(n,)`` which piece of the material is drawn, in [0, PLANES).
    """

    kind: Tensor
    dials: Tensor
    palette: Tensor
    piece: Tensor

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, rows: Tensor | slice) -> Recipes:
        return Recipes(self.kind[rows], self.dials[rows], self.palette[rows], self.piece[rows])

    def dial(self, name: str) -> Tensor:
        """``(n, 1, 1)`` the values of one dial."""
        return self.dials[:, DIALS.index(name), None, None]

    def other_piece(self) -> Recipes:
        """The same materials, each another piece."""
        return Recipes(self.kind, self.dials, self.palette, (self.piece + 1) % PLANES)


def join(*parts: Recipes) -> Recipes:
    """Recipes one after another."""
    return Recipes(*(torch.cat([getattr(p, name) for p in parts]) for name in ("kind", "dials", "palette", "piece")))


def random_recipes(n: int, draw: torch.Generator) -> Recipes:
    """Recipes with evenly drawn kinds and dials; a palette is near one hue or free, pale or strong, flat or deep."""

    def rand(*shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=draw)

    kind = torch.randint(0, len(KINDS), (n,), generator=draw)
    dials = rand(len(DIALS))
    hue = (rand(1) + rand(1).square() * (rand(COLOURS) - 0.5)) % 1
    strength = (rand(1) + 0.4 * (rand(COLOURS) - 0.5)).clamp(0, 1)
    value = (0.2 + 0.8 * rand(1) + 0.6 * rand(1) * (2 * rand(COLOURS) - 1)).clamp(0.05, 1)
    piece = torch.randint(0, PLANES, (n,), generator=draw)
    return Recipes(kind, dials, _rgb(hue, strength, value), piece)


def varied(parents: Recipes, others: Recipes, rate: float, draw: torch.Generator) -> Recipes:
    """Children of ``parents``: dials and colours moved a little, now and then the palette of ``others``.

    Args:
        parents: ``n`` recipes.
        others: ``n`` recipes to take palettes from.
        rate: size of the changes; 1 is bold.
        draw: random generator.
    """
    n = len(parents)

    def step(size: float, share: float, *shape: int) -> Tensor:
        chosen = torch.rand(n, *shape, generator=draw) < share
        return rate * size * torch.randn(n, *shape, generator=draw) * chosen

    moved = parents.dials + step(0.3, 0.4, len(DIALS))
    turn = DIALS.index("angle")
    dials = moved.clamp(0, 1)
    dials[:, turn] = moved[:, turn] % 1
    palette = torch.where(torch.rand(n, 1, 1, generator=draw) < 0.25, others.palette, parents.palette)
    palette = palette + step(0.2, 0.5, 1, 3) + step(0.25, 0.3, COLOURS, 1) + step(0.25, 0.3, COLOURS, 3)
    piece = torch.randint(0, PLANES, (n,), generator=draw)
    return Recipes(parents.kind, dials, palette.clamp(0, 1), piece)


def _rgb(hue: Tensor, strength: Tensor, value: Tensor) -> Tensor:
    """Hue, saturation and value ``(...)`` in [0, 1] -> ``(..., 3)``."""
    place = (torch.tensor([5.0, 3.0, 1.0]) + hue[..., None] * 6) % 6
    away = torch.minimum(place, 4 - place).clamp(0, 1)
    return value[..., None] * (1 - strength[..., None] * away)


class Renderer:
    """Draws recipes; what is random in a texture comes from planes that all recipes share.

    Args:
        size: side of the textures in pixels.
        unit: pixels that frequencies refer to.
        seed: of the shared planes; a recipe's texture depends on nothing else.
    """

    def __init__(self, size: int, unit: int, seed: int) -> None:
        self.size, self.unit = size, unit
        draw = torch_generator(seed, "textures")
        self.white = torch.randn(PLANES, size, size, generator=draw)
        self.fine, self.coarse = (_smooth(2 * PLANES, size, cells, draw) for cells in (3, 2))
        self.lattice = torch.rand(4, PLANES, LATTICE, LATTICE, generator=draw)
        fy, fx = torch.fft.fftfreq(size)[:, None] * unit, torch.fft.rfftfreq(size)[None] * unit
        self.waves = (fy.expand(size, size // 2 + 1), fx.expand(size, size // 2 + 1))
        self.spectra = torch.fft.rfft2(self.white)

    def __call__(self, recipes: Recipes) -> Tensor:
        """Textures ``(n, 3, size, size)`` in [0, 1]."""
        parts = [self._some(recipes[i : i + RENDER_BATCH]) for i in range(0, len(recipes), RENDER_BATCH)]
        return torch.cat(parts) if parts else torch.zeros(0, 3, self.size, self.size)

    def _some(self, r: Recipes) -> Tensor:
        n = len(r)
        drawn, relief = torch.zeros(n, self.size, self.size), torch.zeros(n, self.size, self.size)
        which = torch.ones(n, self.size, self.size, dtype=torch.long)
        makers: tuple[Callable[[Recipes, Tensor, Tensor], _Parts], ...] = (
            self._noise, self._bands, self._cells, self._spots, self._shapes, self._bricks
        )  # fmt: skip
        for k, maker in enumerate(makers):
            rows = (r.kind == k).nonzero()[:, 0]
            if len(rows):
                some = r[rows]
                drawn[rows], which[rows], relief[rows] = maker(some, *self._axes(some))
        paint = r.palette.gather(1, which.view(n, -1, 1).expand(-1, -1, 3)).view(n, self.size, self.size, 3)
        ground = r.palette[:, 0, None, None]
        colour = ground + (paint - ground) * drawn[..., None]
        light = 1 + 1.2 * r.dial("relief") * relief * drawn + 0.12 * r.dial("tint") * self.coarse[r.piece]
        light = light + 0.16 * r.dial("grain") ** 1.5 * self._bandpass(r, 8 + 24 * r.dial("fineness"))
        return (colour * light[..., None]).clamp(0, 1).permute(0, 3, 1, 2).contiguous()

    def _axes(self, r: Recipes) -> tuple[Tensor, Tensor]:
        """Coordinates along and across the pattern ``(n, size, size)``, one per period, warped."""
        line = (torch.arange(self.size) + 0.5) / self.unit
        angle, frequency = math.pi * r.dial("angle"), _frequency(r)
        cos, sin = torch.cos(angle), torch.sin(angle)
        warp = 0.7 * (r.dial("warp") - 0.3).clamp(min=0)
        y, x = line[:, None], line[None]
        u = (cos * x + sin * y) * frequency + warp * self.fine[r.piece]
        v = (cos * y - sin * x) * frequency / _stretch(r) + warp * self.fine[r.piece + PLANES]
        return u, v

    def _bandpass(self, r: Recipes, frequency: Tensor) -> Tensor:
        """Noise ``(n, size, size)`` of unit spread around a frequency, stretched along the pattern."""
        angle = math.pi * r.dial("angle")
        cos, sin = torch.cos(angle), torch.sin(angle)
        fy, fx = self.waves
        radius = torch.hypot(cos * fx + sin * fy, (cos * fy - sin * fx) * _stretch(r)) + 1e-3
        shaped = self.spectra[r.piece] * torch.exp(-2 * torch.log(radius / frequency).square())
        raw = torch.fft.irfft2(shaped, s=(self.size, self.size))
        out: Tensor = raw / (raw.std((1, 2), keepdim=True) + 1e-6)
        return out

    def _noise(self, r: Recipes, u: Tensor, v: Tensor) -> _Parts:
        """Blotches, hair and clouds; the second smooth plane chooses the colour."""
        z = self._bandpass(r, _frequency(r))
        drawn = torch.sigmoid(_sharp(r) * (0.6 * z + 2 * (r.dial("balance") - 0.5)))
        return drawn, _choose(torch.floor(3 * self.fine[r.piece + PLANES]).long(), r), torch.zeros_like(u)

    def _bands(self, r: Recipes, u: Tensor, v: Tensor) -> _Parts:
        """Stripes."""
        wave = torch.sin(2 * math.pi * u)
        drawn = torch.sigmoid(_sharp(r) * (wave + 1.4 * (r.dial("balance") - 0.5)))
        return drawn, _choose(torch.floor(u + 0.25).long(), r), 0.5 * wave

    def _bricks(self, r: Recipes, u: Tensor, v: Tensor) -> _Parts:
        """Rows of rectangles, in line or shifted by half."""
        rows = v * _stretch(r) / (1 + 1.5 * r.dial("relief"))
        row = torch.floor(rows)
        across = u / (1 + 2 * r.dial("length")) + 0.5 * (row % 2) * (r.dial("ring") > 0.4)
        column = torch.floor(across)
        a, b = across - column, rows - row
        edge = torch.minimum(torch.minimum(a, 1 - a), torch.minimum(b, 1 - b))
        drawn = torch.sigmoid(3 * _sharp(r) * (edge - 0.02 - 0.25 * r.dial("balance")))
        return drawn, _choose(_hash(column.long(), row.long()), r), edge

    def _cells(self, r: Recipes, u: Tensor, v: Tensor) -> _Parts:
        """Cells with seams between them: scales, stones, cracks."""
        first, second, cell = self._nearest(r, u, v)
        drawn = torch.sigmoid(4 * _sharp(r) * (second - first - 0.05 - 0.4 * r.dial("balance")))
        return drawn, _choose(cell, r), 0.5 - first

    def _spots(self, r: Recipes, u: Tensor, v: Tensor) -> _Parts:
        """Dots or, where the dial says so, rings."""
        first, _, cell = self._nearest(r, u, v)
        radius, sharp = 0.2 + 0.35 * r.dial("balance"), 4 * _sharp(r)
        hole = torch.sigmoid(sharp * (0.65 * radius - first)) * (r.dial("ring") > 0.5)
        return torch.sigmoid(sharp * (radius - first)) - hole, _choose(cell, r), radius - first

    def _nearest(self, r: Recipes, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distances to the nearest and second lattice point, and a number for the nearest."""
        first = torch.full_like(u, 9.0)
        second, cell = first.clone(), torch.zeros_like(u, dtype=torch.long)
        for column, row, dx, dy, _, _ in self._around(r, u, v):
            distance = torch.sqrt(dx * dx + dy * dy)
            closer = distance < first
            second = torch.where(closer, first, torch.minimum(second, distance))
            cell = torch.where(closer, _hash(column, row), cell)
            first = torch.minimum(first, distance)
        return first, second, cell

    def _shapes(self, r: Recipes, u: Tensor, v: Tensor) -> _Parts:
        """Lit ellipses that lie over one another at random angles: leaves, sweets, pebbles."""
        over, inside = torch.full_like(u, -1.0), torch.full_like(u, 9.0)
        cell, relief = torch.zeros_like(u, dtype=torch.long), torch.zeros_like(u)
        slim = 1 + 2 * r.dial("length")
        for column, row, dx, dy, rank, turn in self._around(r, u, v):
            cos, sin = torch.cos(math.pi * turn), torch.sin(math.pi * turn)
            side = (cos * dy - sin * dx) * slim
            radius = torch.sqrt((cos * dx + sin * dy).square() + side * side) / 0.85
            top = (radius < 1) & (rank > over)
            over, inside = torch.where(top, rank, over), torch.where(top, radius, inside)
            cell = torch.where(top, _hash(column, row), cell)
            relief = torch.where(top, 0.5 - 0.8 * radius * radius - 0.3 * side, relief)
        return torch.sigmoid(3 * _sharp(r) * (1 - inside)), _choose(cell, r), relief

    def _around(self, r: Recipes, u: Tensor, v: Tensor) -> list[tuple[Tensor, ...]]:
        """For each of the nine lattice points around a place: column, row, offset to it, rank and turn."""
        disorder, piece = 0.95 * r.dial("disorder"), r.piece[:, None, None]
        left, top = torch.floor(u).long(), torch.floor(v).long()
        out: list[tuple[Tensor, ...]] = []
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                column, row = left + right, top + down
                x, y, rank, turn = self.lattice[:, piece, row % LATTICE, column % LATTICE]
                dx = u - column - 0.5 - disorder * (x - 0.5) - 0.5 * (row % 2)
                out.append((column, row, dx, v - row - 0.5 - disorder * (y - 0.5), rank, turn))
        return out


_Parts = tuple[Tensor, Tensor, Tensor]  # how much paint, which slot of the palette, how far it stands out


def _frequency(r: Recipes) -> Tensor:
    """2 to 16 periods per unit."""
    return 2 * 8 ** r.dial("frequency")


def _stretch(r: Recipes) -> Tensor:
    """1 for four recipes in ten, up to 8."""
    return 8 ** ((r.dial("stretch") - 0.4).clamp(min=0) / 0.6)


def _sharp(r: Recipes) -> Tensor:
    return 1.5 * 12 ** r.dial("sharpness")


def _hash(a: Tensor, b: Tensor) -> Tensor:
    """A number that looks random for each pair of whole numbers."""
    mixed = (a * 73856093) ^ (b * 19349663)
    return (mixed ^ (mixed >> 13)) * 40503 >> 7


def _choose(number: Tensor, r: Recipes) -> Tensor:
    """Which paint: the first one only, or several, as the dial says."""
    return 1 + number % (1 + (r.dial("colours") * (COLOURS - 1.01)).long())


def _smooth(n: int, size: int, cells: int, draw: torch.Generator) -> Tensor:
    """Smooth noise ``(n, size, size)`` of three octaves and unit spread."""
    out = torch.zeros(n, size, size)
    for octave in range(3):
        side = cells * 2**octave + 2
        grid = torch.randn(n, 1, side, side, generator=draw)
        out += F.interpolate(grid, (size, size), mode="bicubic", align_corners=True)[:, 0] * 0.5**octave
    return out / (out.std((1, 2), keepdim=True) + 1e-6)
