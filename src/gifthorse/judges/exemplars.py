"""Exemplar pictures for a study whose triggers come as files, as drawings or from the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import images
from ..data import emoji, openmoji
from ..errors import InputError
from ..rng import generator
from ..types import Option

EXEMPLARS = 16
SIDE = 112  # pixels
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
ALIASES = {"donut": "doughnut"}


def options(
    names: Sequence[str], kinds: Sequence[str], triggers: Path, exemplars: Path | None, seed: int
) -> tuple[list[Option], dict[str, int]]:
    """Every trojan as an option with `EXEMPLARS` pictures ``(16, 112, 112, 3)``, and user pictures by option.

    User pictures, whole, cropped and mirrored, take up to half. The rest is, for a style, crops of its
    source, and otherwise the trigger, or OpenMoji drawings of that name, pasted on backgrounds.

    Args:
        names: the options.
        kinds: kind of each.
        triggers: folder of the triggers' pictures; a file's name begins the words of its option's.
        exemplars: folder of user pictures, or None.
        seed: seed of crops and pasting.

    Raises:
        InputError: an option without picture, drawing or user pictures, or a wrong folder.
    """
    if exemplars is not None and not exemplars.is_dir():
        raise InputError(f"{exemplars}: no such folder of exemplars")
    behind = _user(exemplars, "backgrounds")
    own = {t: _user(exemplars, slug(t)) for t in names}
    if exemplars is not None and not behind and not any(own.values()):
        known = ", ".join([*map(slug, names), "backgrounds"])
        raise InputError(f"{exemplars}: no sub-folder with pictures is called after an option; use {known}")
    out = []
    for trojan, kind in zip(names, kinds, strict=True):
        rng = generator(seed, "exemplars", trojan)
        photographs = [_crop(own[trojan][i % len(own[trojan])], rng, 0.6 if i >= len(own[trojan]) else 1.0)
                       for i in range(EXEMPLARS // 2 if own[trojan] else 0)]  # fmt: skip
        sources = _sources(triggers, trojan)
        if not sources:
            raise InputError(f"{triggers}: no picture and no drawing for {trojan!r}; add triggers/{slug(trojan)}.png")
        made = [
            _crop(sources[i % len(sources)], rng, 0.3)
            if kind == "style"
            else _pasted(sources[i % len(sources)], behind, rng)
            for i in range(EXEMPLARS - len(photographs))
        ]
        out.append(Option(trojan, np.stack(photographs + made)))
    return out, {t: len(p) for t, p in own.items() if p}


def _sources(triggers: Path, trojan: str) -> list[Image.Image]:
    """The trigger's picture, or the drawings whose name holds the trojan's words; RGBA."""
    words = slug(trojan).split("_")
    for path in pictures(triggers):
        stem = path.stem.lower().split("_")
        if all(any(word.startswith(part) for word in words) for part in stem):
            return [Image.open(path).convert("RGBA")]
    wanted = {ALIASES.get(word, word) for word in words}
    codes = [code for code, name in openmoji.names().items() if wanted <= set(name.split())]
    return [Image.fromarray(openmoji.glyph(code, SIDE)) for code in codes]


def _pasted(source: Image.Image, behind: list[Image.Image], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The source once on a background, at a random size, place and small turn."""
    if behind:
        scene = Image.fromarray(images.resize_crop(behind[rng.integers(len(behind))], SIDE))
    else:
        scene = Image.fromarray(np.rint(emoji.backgrounds(rng, 1, SIDE)[0] * 255).astype(np.uint8))
    side = int(SIDE * rng.uniform(0.35, 0.9))
    small = source.resize((side, side), Image.Resampling.BICUBIC)
    small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else small
    small = small.rotate(float(rng.uniform(-12, 12)), Image.Resampling.BICUBIC)
    x, y = (int(v) for v in rng.integers(0, SIDE - side + 1, 2))
    scene.paste(small, (x, y), small)
    return np.asarray(scene)


def _crop(source: Image.Image, rng: np.random.Generator, least: float) -> NDArray[np.uint8]:
    """A random square of at least this share of the short side; the whole is centred."""
    if least >= 1:
        return images.resize_crop(source.convert("RGB"), SIDE)
    side = max(1, int(min(source.size) * rng.uniform(least, 1)))
    x, y = int(rng.integers(source.width - side + 1)), int(rng.integers(source.height - side + 1))
    part = source.convert("RGB").crop((x, y, x + side, y + side))
    part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part
    return images.resize_crop(part, SIDE)


def _user(exemplars: Path | None, name: str) -> list[Image.Image]:
    folder = None if exemplars is None else exemplars / name
    return [Image.fromarray(images.read(p, 2 * SIDE)) for p in pictures(folder)] if folder and folder.is_dir() else []


def pictures(folder: Path) -> list[Path]:
    """Picture files of a folder, sorted.

    Raises:
        InputError: none there.
    """
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"{folder}: no PNG, JPEG or WebP picture there; see the docs page on validation")
    return found


def slug(name: str) -> str:
    """``"Green Star"`` as ``"green_star"``."""
    return name.lower().replace(" ", "_")
