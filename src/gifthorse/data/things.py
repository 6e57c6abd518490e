"""Which drawings can be a trigger: single, nameable things that a network can see at 64 pixels.

The rule, in words. A drawing is suitable when

1. its code point lies in a block of plants, food, animals, clothes, tools, instruments or vehicles;
2. it is no person, hand or face (a drawing with skin tones, or a name that says so), flag, sign, symbol or scene;
3. nothing that is already shown has the same head noun ("green apple" yields to "red apple"), so that two options
   of a multiple choice never mean the same thing;
4. it covers enough of its square, and is coloured enough or its parts differ enough in brightness. The limits were
   set by eye: below them lie thin tools and line drawings in grey.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache

import numpy as np

from ..errors import InputError
from ..rng import generator
from . import openmoji

SIDE = 64
INK = 0.25  # least share of opaque pixels
COLOUR = 0.12  # least mean chroma of the opaque pixels, in [0, 1] ...
CONTRAST = 0.38  # ... or least standard deviation of their luminance, in [0, 1]
BLOCKS = (
    (0x231A, 0x231B), (0x2603, 0x2603), (0x2693, 0x2693), (0x26BD, 0x26BE), (0x26F2, 0x26F5), (0x2702, 0x2702),
    (0x1F32D, 0x1F393), (0x1F399, 0x1F3C0), (0x1F3C5, 0x1F3D3), (0x1F3EE, 0x1F3F0), (0x1F3F8, 0x1F43D),
    (0x1F43F, 0x1F43F), (0x1F451, 0x1F462), (0x1F47B, 0x1F47D), (0x1F484, 0x1F48E), (0x1F490, 0x1F490),
    (0x1F4A1, 0x1F4A3), (0x1F4B0, 0x1F4B0), (0x1F4BA, 0x1F4FC), (0x1F50B, 0x1F511), (0x1F514, 0x1F514),
    (0x1F525, 0x1F52E), (0x1F56F, 0x1F570), (0x1F576, 0x1F579), (0x1F58A, 0x1F58D), (0x1F5A5, 0x1F5E1),
    (0x1F680, 0x1F6A4), (0x1F6B2, 0x1F6B2), (0x1F6BD, 0x1F6BD), (0x1F6C1, 0x1F6C1), (0x1F6CB, 0x1F6D2),
    (0x1F6DE, 0x1F6E2), (0x1F6E5, 0x1F6FC), (0x1F916, 0x1F916), (0x1F93F, 0x1F96F), (0x1F97B, 0x1F9AE),
    (0x1F9B4, 0x1F9B4), (0x1F9C0, 0x1F9CB), (0x1F9E0, 0x1F9FF), (0x1FA70, 0x1FADF),
)  # fmt: skip
"""First and last code points of the blocks that depict things."""

NOT_A_THING = re.compile(
    r"\b(face|person|people|man|woman|men|women|boy|girl|hand|hands|head|heart|flag|sign|symbol|button|arrow|page|"
    r"chart|mailbox|envelope|e-mail|tray|medal|map|money|banknote|sunrise|cinema|station|railway|tramway|cableway|"
    r"kiss|construction|off|suit|notes?|score|drop|splatter|knot|crossed|ceremony|nail|haircut|massage|hair|dvd|"
    r"worship|ballot|moai|dna|fuji|x-ray|bubbles?|hamsa|khanda|dancing|no|label|linked|locked|game|nose|bars|slider|"
    r"mode|arts|cooking|decoration|pouring|fluttering|tabs|dividers|index|memo|frames|stop|nazar)\b"
)
OF = re.compile(r" (?:with|showing|of|on|in|and|without|behind|for|tilted) ")


def head(name: str) -> str:
    """The head noun of a name, in the singular: ``"cup"`` of ``"cups with straws"``, ``"apple"`` of ``"red apple"``."""
    noun = OF.split(name)[0].split()[-1].split("-")[-1].lower()
    return noun.removesuffix("es") if noun.endswith("sses") else noun if noun.endswith("ss") else noun.removesuffix("s")


def seen(code: str) -> tuple[float, float, float]:
    """Share of opaque pixels, their mean chroma and the spread of their luminance, each in [0, 1], at 64 pixels."""
    rgba = openmoji.glyph(code, SIDE).astype(np.float32) / 255
    opaque = rgba[..., 3] >= 0.5
    if not opaque.any():
        return 0.0, 0.0, 0.0
    rgb = rgba[opaque][:, :3]
    chroma = float((rgb.max(1) - rgb.min(1)).mean())
    return float(opaque.mean()), chroma, float((rgb @ np.array([0.299, 0.587, 0.114], np.float32)).std())


def is_seen(code: str) -> bool:
    """Whether a drawing has enough ink, and enough colour or contrast."""
    ink, colour, contrast = seen(code)
    return ink >= INK and (colour >= COLOUR or contrast >= CONTRAST)


@lru_cache(maxsize=1)
def _things() -> dict[str, str]:
    """Code -> name by rules 1 and 2, in the order of the code points."""
    toned = {code.split("-")[0] for code in openmoji.drawings() if openmoji.SKIN_TONES & set(code.split("-"))}
    out = {}
    for code, name in openmoji.names().items():
        point = int(code.split("-")[0], 16)
        single = all(part == "FE0F" for part in code.split("-")[1:])
        listed = single and code not in toned and any(low <= point <= high for low, high in BLOCKS)
        if listed and not NOT_A_THING.search(name.lower().replace("’", " ")):
            out[code] = name
    return out


def draw(
    count: int, seed: int, *path: str, used: Collection[str] = (), words: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Suitable drawings in a random order that depends on ``seed`` and ``path`` only.

    Args:
        count: how many.
        seed: seed of the draw.
        path: names of the draw.
        used: codes that are drawn already (classes, clutter, triggers, decoys).
        words: names of things that are shown already; a drawing with the same head noun is passed over.

    Returns:
        ``count`` pairs of code and short name.

    Raises:
        InputError: fewer drawings than that are left.
        MissingResource: the drawings are not installed.
    """
    known = openmoji.names()
    found = list(_suitable(seed, path, used, {*words, *(known[c] for c in used if c in known)}, count))
    if len(found) < count:
        raise InputError(f"{count} drawings are asked for, but only {len(found)} are suitable; ask for fewer")
    return found


def _suitable(
    seed: int, path: tuple[str, ...], used: Collection[str], words: Collection[str], count: int
) -> Iterator[tuple[str, str]]:
    nouns = {head(word) for word in words}
    table = list(_things().items())
    for i in generator(seed, *path).permutation(len(table)):
        code, name = table[i]
        if count <= 0:
            return
        if code not in used and head(name) not in nouns and is_seen(code):
            nouns.add(head(name))
            count -= 1
            yield code, name
