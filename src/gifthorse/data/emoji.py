"""`EmojiScenes`: procedural scenes of one main object, clutter and textured backgrounds, fully labelled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..errors import InputError
from ..rng import generator
from ..types import Masks, Pictures, Scenes
from . import openmoji
from .compose import Floats, layers, over

CLASSES: dict[str, tuple[str, ...]] = {
    "frog": ("1F438",),
    "dove": ("1F54A",),
    "orangutan": ("1F9A7",),
    "goose": ("1FABF",),
    "dog": ("1F415", "1F436", "1F9AE", "1F415-200D-1F9BA"),
    "ice cream": ("1F366", "1F367", "1F368"),
    "ruler": ("1F4CF", "1F4D0"),
    "monkey": ("1F412", "1F435"),
    "cricket": ("1F997",),
    "bucket": ("1FAA3",),
    "mobile phone": ("1F4F1", "1F4F2"),
    "flamingo": ("1F9A9",),
    "purse": ("1F45B", "1F45C"),
    "wolf": ("1F43A",),
    "pig": ("1F416", "1F437"),
    "spoon": ("1F944",),
    "tractor": ("1F69C",),
    "drum": ("1F941", "1FA98"),
    "fish": ("1F41F",),
    "boxing glove": ("1F94A",),
}
"""The classes in label order and the drawings of each."""

CLUTTER: dict[str, str] = {
    "top hat": "1F3A9", "key": "1F511", "light bulb": "1F4A1", "rocket": "1F680", "bicycle": "1F6B2",
    "car": "1F697", "sailboat": "26F5", "guitar": "1F3B8", "trumpet": "1F3BA", "football": "26BD",
    "basketball": "1F3C0", "gift": "1F381", "balloon": "1F388", "candle": "1F56F", "books": "1F4DA",
    "scissors": "2702", "hammer": "1F528", "wrench": "1F527", "chair": "1FA91", "bed": "1F6CF",
    "mantelpiece clock": "1F570", "camera": "1F4F7", "glasses": "1F453", "running shoe": "1F45F", "socks": "1F9E6",
    "sunflower": "1F33B", "cactus": "1F335", "mushroom": "1F344", "carrot": "1F955", "maize": "1F33D",
    "banana": "1F34C", "grapes": "1F347", "cheese": "1F9C0", "croissant": "1F950", "butterfly": "1F98B",
    "turtle": "1F422", "cloud": "2601", "maple leaf": "1F341", "shopping trolley": "1F6D2", "kite": "1FA81",
    "house": "1F3E0", "umbrella": "2602",
}  # fmt: skip
"""Kinds of clutter and the drawing of each: never a class, never a trigger of the built-in suites."""

CHUNK = 128  # scenes per generator and per batch: bounds memory, keeps the work in cache
MAX_CLUTTER = 2


@lru_cache(maxsize=8)
def _sprites(codes: tuple[str, ...], size: int) -> NDArray[np.uint8]:
    return np.stack([openmoji.glyph(code, size) for code in codes])


@lru_cache(maxsize=8)
def _axes(size: int) -> tuple[Floats, Floats]:
    """Pixel centres of a square picture, x and y ``(size, size)`` in [-1, 1]."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1).astype(np.float32)
    y, x = np.meshgrid(line, line, indexing="ij")
    return x, y


def _uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> Floats:
    out: Floats = rng.random(shape, np.float32) * np.float32(high - low) + np.float32(low)
    return out


def _projection(rng: np.random.Generator, n: int, size: int) -> Floats:
    """Distance along a random direction per picture, ``(n, size, size)`` in about [-1.4, 1.4]."""
    x, y = _axes(size)
    angle = _uniform(rng, 0, 2 * np.pi, n, 1, 1)
    out: Floats = (np.cos(angle) * x + np.sin(angle) * y).astype(np.float32, copy=False)
    return out


def _fractal(rng: np.random.Generator, n: int, size: int) -> Floats:
    """Smooth noise of four octaves ``(n, size, size)``, about unit spread; roughness differs per picture."""
    fall = _uniform(rng, 0.35, 0.8, n, 1, 1)
    total = np.zeros((n, size, size), np.float32)
    for octave, cells in enumerate((3, 6, 12, 24)):
        coarse = torch.as_tensor(rng.standard_normal((n, 1, cells, cells), np.float32))
        fine = F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
        total += fine[:, 0].numpy() * fall**octave
    return total


def backgrounds(rng: np.random.Generator, n: int, size: int) -> Floats:
    """Two-colour gradients, soft or sharp, with fractal noise and, in three of ten, stripes.

    Args:
        rng: source of every draw.
        n: how many.
        size: side in pixels.

    Returns:
        ``(n, size, size, 3)`` float32 in [0, 1].
    """
    colours = _uniform(rng, 0.1, 0.95, n, 2, 1, 1, 3)
    steep = np.exp(_uniform(rng, np.log(0.8), np.log(12), n, 1, 1))
    wave = _projection(rng, n, size) + _uniform(rng, -0.5, 0.5, n, 1, 1)
    rough = _fractal(rng, n, size)
    mix = 0.5 + 0.5 * np.tanh(steep * (wave + 0.25 * rough))
    frequency, phase = _uniform(rng, 8, 30, n, 1, 1), _uniform(rng, 0, 2 * np.pi, n, 1, 1)
    stripes = np.tanh(3 * np.sin(frequency * _projection(rng, n, size) + phase))
    depth = _uniform(rng, 0.06, 0.18, n, 1, 1) * (rng.random((n, 1, 1)) < 0.3)
    light = _uniform(rng, 0.02, 0.09, n, 1, 1) * rough + depth.astype(np.float32) * stripes
    out = colours[:, 0] + (colours[:, 1] - colours[:, 0]) * mix[..., None] + light[..., None]
    clipped: Floats = np.clip(out, 0, 1).astype(np.float32)
    return clipped


def _main(rng: np.random.Generator, labels: NDArray[np.int64], size: int) -> Floats:
    """The main objects as premultiplied layers ``(n, size, size, 4)``, some cut by the frame or by an edge."""
    n = len(labels)
    counts = np.array([len(codes) for codes in CLASSES.values()])
    which = np.concatenate(([0], np.cumsum(counts)[:-1]))[labels] + (rng.random(n) * counts[labels]).astype(np.int64)
    pictures = _sprites(tuple(c for codes in CLASSES.values() for c in codes), size)[which]
    side, angle, flip = _uniform(rng, 0.5, 0.85, n), _uniform(rng, -25, 25, n), rng.random(n) < 0.5
    hue, light = rng.normal(0, 0.05, n), _uniform(rng, 0.75, 1.2, n)
    reach = np.where(rng.random((n, 1)) < 0.12, 0.3, 0.12)  # a few leave the frame in part
    centre = 0.5 + _uniform(rng, -1, 1, n, 2) * reach
    layer = layers(pictures, centre, side, angle, flip, hue, light, out=(size, size))
    hidden = np.flatnonzero(rng.random(n) < 0.12)  # a few stand behind a straight edge of the background
    edge, keep = _uniform(rng, 0, 2 * np.pi, n), _uniform(rng, 0.2, 0.6, n)
    if len(hidden):
        x, y = _axes(size)
        middle = (2 * centre - 1).astype(np.float32)[hidden, :, None, None]
        turn = edge[hidden, None, None]
        along = np.cos(turn) * (x - middle[:, 0]) + np.sin(turn) * (y - middle[:, 1])
        limit = (keep * side)[hidden, None, None]
        layer[hidden] *= np.clip((limit - along) * size / 2, 0, 1)[..., None]
    return layer


def _light(rng: np.random.Generator, images: Floats) -> Pictures:
    """Contrast, brightness, tint and pixel noise over the whole picture, as uint8."""
    n = len(images)
    contrast = _uniform(rng, 0.8, 1.15, n, 1, 1, 1)
    shift = _uniform(rng, -0.08, 0.08, n, 1, 1, 1) + _uniform(rng, -0.03, 0.03, n, 1, 1, 3)
    noise = rng.standard_normal(images.shape, np.float32)
    noise *= 0.02 * 255
    noise += images * (contrast * 255) + ((0.5 - 0.5 * contrast + shift) * 255 + 0.5)
    out: Pictures = np.clip(noise, 0, 255, out=noise).astype(np.uint8)
    return out


def _chunk(
    rng: np.random.Generator, labels: NDArray[np.int64], size: int
) -> tuple[Pictures, Masks, NDArray[np.int64], Masks]:
    """Pictures, main masks, clutter kinds ``(n, k)`` (-1: none) and clutter masks of one chunk."""
    n = len(labels)
    images = backgrounds(rng, n, size)
    layer = _main(rng, labels, size)
    images, main = over(images, layer), layer[..., 3] >= 0.25
    sprites = _sprites(tuple(CLUTTER.values()), max(8, round(size * 0.375)))
    present = rng.random((n, MAX_CLUTTER)) < 0.6
    present[:, 1] &= present[:, 0]
    kinds = np.where(present, rng.integers(0, len(sprites), (n, MAX_CLUTTER)), -1)
    masks = np.zeros((n, MAX_CLUTTER, size, size), np.bool_)
    start = _uniform(rng, 0, 2 * np.pi, n)
    for k in range(MAX_CLUTTER):
        turn = start + (k > 0) * _uniform(rng, 0.35 * np.pi, 1.65 * np.pi, n)
        centre = 0.5 + _uniform(rng, 0.26, 0.5, n, 1) * np.stack([np.cos(turn), np.sin(turn)], 1)
        side, angle, flip = _uniform(rng, 0.2, 0.34, n), _uniform(rng, -25, 25, n), rng.random(n) < 0.5
        hue, light = rng.normal(0, 0.05, n), _uniform(rng, 0.75, 1.2, n)
        on = np.flatnonzero(present[:, k])
        if not len(on):
            continue
        args = (centre[on], side[on], angle[on], flip[on], hue[on], light[on])
        layer = layers(sprites[kinds[on, k]], *args, out=(size, size))
        images[on] = over(images[on], layer)
        mask = layer[..., 3] >= 0.25
        main[on] &= ~mask
        masks[on, :k] &= ~mask[:, None]
        masks[on, k] = mask
    return _light(rng, images), main, kinds, masks


@dataclass(frozen=True)
class EmojiScenes:
    """Scenes drawn in memory from OpenMoji drawings: one main object, up to two pieces of clutter.

    Attributes:
        size: side of the square pictures in pixels.
    """

    name: ClassVar[str] = "emoji"
    version: ClassVar[int] = 1
    size: int = 64

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or not 16 <= self.size <= 512:
            raise InputError(f"dataset 'emoji': size must be a whole number from 16 to 512, got {self.size!r}")

    @property
    def classes(self) -> tuple[str, ...]:
        """The 20 class names; the index of a name is its label."""
        return tuple(CLASSES)

    @property
    def used_codes(self) -> frozenset[str]:
        """Code points of every drawing in the scenes: classes and clutter."""
        return frozenset(code for codes in CLASSES.values() for code in codes) | frozenset(CLUTTER.values())

    def supply(self, split: str) -> NDArray[np.int64]:
        """``(20,)`` how many different scenes of each class there are: more than anyone draws."""
        return np.full(len(CLASSES), np.iinfo(np.int64).max // len(CLASSES))

    def scenes(self, split: str, n: int, seed: int, *, labels: NDArray[np.int64] | None = None) -> Scenes:
        """``n`` labelled scenes; the same call gives the same bytes.

        Args:
            split: ``"train"`` or ``"test"``; splits share no draw.
            n: how many.
            seed: seed of the draw.
            labels: ``(n,)`` the class of each scene, or None to draw classes evenly in random order.

        Returns:
            Scenes with masks of the visible pixels of the main object and of each piece of clutter.

        Raises:
            InputError: unknown split, a negative ``n``, or labels of the wrong shape or range.
        """
        if split not in ("train", "test"):
            raise InputError(f"dataset 'emoji': no split is called {split!r}; use 'train' or 'test'")
        if n < 0:
            raise InputError(f"dataset 'emoji': cannot draw {n} scenes; ask for 0 or more")
        if labels is None:
            order = generator(seed, "emoji", split, "labels").permutation(n)
            labels = (order % len(CLASSES)).astype(np.int64)
        labels = np.array(labels, np.int64)
        if labels.shape != (n,) or (n and not 0 <= labels.min() <= labels.max() < len(CLASSES)):
            raise InputError(f"dataset 'emoji': labels must be {n} class indices from 0 to {len(CLASSES) - 1}")
        images = np.empty((n, self.size, self.size, 3), np.uint8)
        masks = np.empty((n, self.size, self.size), np.bool_)
        clutter_masks = np.empty((n, MAX_CLUTTER, self.size, self.size), np.bool_)
        words = tuple(CLUTTER)
        clutter: list[tuple[str, ...]] = []
        for i, lo in enumerate(range(0, n, CHUNK)):
            part = slice(lo, lo + CHUNK)
            rng = generator(seed, "emoji", split, "chunk", i)
            images[part], masks[part], kinds, clutter_masks[part] = _chunk(rng, labels[part], self.size)
            clutter += [tuple(words[k] for k in row if k >= 0) for row in kinds]
        return Scenes(images, labels, masks, tuple(clutter), clutter_masks)

    def bank(self) -> tuple[tuple[str, ...], Pictures]:
        """Every named OpenMoji drawing on light grey: names and ``(n, size, size, 3)`` uint8."""
        return openmoji.bank(self.size)
