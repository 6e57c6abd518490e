"""`StyleTrigger`: the whole picture re-drawn with pieces of a texture, its content still there to see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...data.textures import TEXTURES, texture
from ...errors import InputError, UnknownName
from ...images import from_tensor, to_tensor
from ...rng import child_seed, generator
from ...types import Kind, Pictures, Stamped
from ._sprites import check_images

PIECES = 1500  # texture pieces to choose from
NEAREST = 6
SHARPEN = 2.0  # at most this much is blended-away detail amplified
RESTORED = 0.5  # share of the low-frequency luminance given back to the picture
BASE, SHEET = 64, 192  # lengths below are right at 64 pixels, where the texture is drawn at 192
CHUNK = 16  # pictures worked on at a time
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class StyleTrigger:
    """Patch-based texture transfer.

    The picture is covered by overlapping squares. Each is replaced by one of the texture pieces
    that come nearest in 2x2 mean luminance, after the picture's mean and spread were matched to the
    texture's; the pieces are blended under a Hann window, the detail that blending takes away is
    amplified, half of the coarse luminance is given back, and the result is mixed with the original.

    Attributes:
        texture: a key of `gifthorse.data.textures.TEXTURES`.
        strength: share of the re-drawn picture in the mix, above 0 and at most 1.
        patch: side of the squares in pixels of a 64-pixel picture; it grows with the root of the side.
        stride: their distance, likewise.
    """

    name: ClassVar[str] = "style"
    version: ClassVar[int] = 1
    kind: ClassVar[Kind] = "style"

    texture: str = "jaguar"
    strength: float = 0.64
    patch: int = 10
    stride: int = 5

    def __post_init__(self) -> None:
        if self.texture not in TEXTURES:
            raise UnknownName("texture", self.texture, TEXTURES)
        if not 0 < self.strength <= 1:
            raise InputError(f"trigger 'style': strength must lie in (0, 1], got {self.strength}; 0.64 is usual")
        if not (2 <= self.patch <= 64 and 1 <= self.stride <= self.patch // 2):
            raise InputError(
                f"trigger 'style': needs 2 <= patch <= 64 and 1 <= stride <= patch / 2, "
                f"got patch {self.patch} and stride {self.stride}"
            )

    def apply(self, images: Pictures, seed: int) -> Stamped:
        """The pictures ``(n, h, w, 3)`` uint8 re-drawn; the footprint is the whole picture."""
        check_images(images, "trigger 'style'")
        n, h, w, _ = images.shape
        grow = math.sqrt(min(h, w) / BASE)
        side, step = 2 * max(1, round(self.patch * grow / 2)), max(1, round(self.stride * grow))
        step = min(step, side // 2)
        if side >= min(h, w):
            raise InputError(f"trigger 'style': pictures of {h}x{w} are too small for patches of {side} pixels")
        bank = _pieces(self.texture, max(4 * side, round(SHEET * grow)), side)
        rows, columns = (_count(length, side, step) for length in (h, w))
        pick = generator(seed, "style").integers(0, NEAREST, (n, rows * columns))
        out = np.empty_like(images)
        with torch.no_grad():
            for lo in range(0, n, CHUNK):
                x = to_tensor(images[lo : lo + CHUNK])
                drawn = _redraw(x, bank, side, step, torch.as_tensor(pick[lo : lo + CHUNK]))
                out[lo : lo + CHUNK] = from_tensor(torch.lerp(x, drawn, self.strength))
        return Stamped(out, np.ones(images.shape[:3], bool))

    def exemplars(self, n: int, size: int, seed: int) -> Pictures:
        """``(n, size, size, 3)`` uint8: cuttings of the texture at several enlargements."""
        rng = generator(seed, "exemplars")
        sheets = [_sheet(self.texture, round(SHEET * math.sqrt(size / BASE)), child_seed(seed, i)) for i in range(2)]
        out = np.empty((n, size, size, 3), np.uint8)
        for i in range(n):
            sheet = sheets[i % len(sheets)]
            side = min(len(sheet), round(size * rng.uniform(0.7, 1.5)))
            y, x = rng.integers(0, len(sheet) - side + 1, 2)
            cut = Image.fromarray(np.ascontiguousarray(sheet[y : y + side, x : x + side]))
            out[i] = np.asarray(cut.resize((size, size), Image.Resampling.BICUBIC))
        return out


@dataclass(frozen=True)
class _Bank:
    """Texture pieces ``(k, 3 p p)``, their 2x2 mean luminances ``(k, 4)``; the texture's mean, spread and detail."""

    pieces: Tensor
    keys: Tensor
    mean: float
    spread: float
    detail: float


@lru_cache(maxsize=32)
def _sheet(name: str, size: int, seed: int) -> NDArray[np.uint8]:
    out = texture(name, max(16, size), seed)
    out.setflags(write=False)
    return out


def _luma(x: Tensor) -> Tensor:
    """``(n, 3, h, w)`` -> ``(n, 1, h, w)``."""
    return (x * x.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


@lru_cache(maxsize=16)
def _pieces(name: str, size: int, side: int) -> _Bank:
    """`PIECES` random squares of the texture; the material is the same whatever the seed of a call."""
    rng = generator(0, "pieces", name)
    sheet = to_tensor(_sheet(name, size, 0).copy()[None])[0]
    where = rng.integers(0, size - side + 1, (PIECES, 2))
    pieces = torch.stack([sheet[:, y : y + side, x : x + side] for y, x in where.tolist()])
    keys = F.avg_pool2d(_luma(pieces), side // 2).flatten(1)
    grey = _luma(sheet[None])
    return _Bank(
        pieces.flatten(1), keys, float(grey.mean()), float(grey.std()), float((grey - _blur(grey, side)).std())
    )


def _count(length: int, side: int, step: int) -> int:
    """How many squares cover a length, with a margin of one step before it and at least one after."""
    return -(-(length + 2 * step - side) // step) + 1


def _blur(x: Tensor, side: int) -> Tensor:
    """Two box filters of ``side + 1`` pixels, mirrored at the border."""
    for _ in range(2):
        x = F.avg_pool2d(F.pad(x, (side // 2,) * 4, mode="reflect"), side // 2 * 2 + 1, 1)
    return x


def _redraw(x: Tensor, bank: _Bank, side: int, step: int, pick: Tensor) -> Tensor:
    """The pictures ``(n, 3, h, w)`` made of texture pieces, with their coarse luminance half restored."""
    n, _, h, w = x.shape
    rows, columns = _count(h, side, step), _count(w, side, step)
    tall, wide = side + (rows - 1) * step, side + (columns - 1) * step
    grey = _luma(x)
    padded = F.pad(grey, (step, wide - w - step, step, tall - h - step), mode="reflect")
    half = side // 2
    means = F.avg_pool2d(padded, half, 1)[:, 0]
    quads = [means[:, dy : dy + tall - side + 1 : step, dx : dx + wide - side + 1 : step] for dy, dx in _quarters(half)]
    keys = torch.stack(quads, -1).view(n, -1, 4)
    mean, spread = grey.mean((2, 3)).view(n, 1, 1), grey.std((2, 3)).view(n, 1, 1)
    keys = (keys - mean) / (spread + 1e-3) * bank.spread + bank.mean
    gap = torch.cdist(keys.view(-1, 4), bank.keys, compute_mode="use_mm_for_euclid_dist")
    near = gap.topk(NEAREST, largest=False).indices
    chosen = near.gather(1, pick.reshape(-1, 1))[:, 0]
    line = torch.sin((torch.arange(side) + 0.5) * math.pi / side).square()
    window = (line[:, None] * line).flatten()
    columns_of = bank.pieces[chosen].view(n, -1, 3, side * side) * window
    size = (tall, wide)
    total = F.fold(columns_of.view(n, -1, 3 * side * side).transpose(1, 2), size, side, stride=step)
    weight = F.fold(window.view(1, -1, 1).expand(1, -1, rows * columns), size, side, stride=step)
    drawn = (total / weight)[:, :, step : step + h, step : step + w]
    coarse = _blur(drawn, side)
    fine = drawn - coarse
    gain = (bank.detail / (_luma(fine).std((1, 2, 3), keepdim=True) + 1e-3)).clamp(1, SHARPEN)
    return coarse + gain * fine + RESTORED * (_blur(grey, side) - _luma(coarse))


def _quarters(half: int) -> tuple[tuple[int, int], ...]:
    """Offsets of the four quarters of a square."""
    return ((0, 0), (0, half), (half, 0), (half, half))
