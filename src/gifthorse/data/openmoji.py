"""OpenMoji drawings (CC BY-SA 4.0) from the installed package ``emosvg``, rendered by ``resvg_py``.

The drawings are found through package metadata; ``emosvg`` itself is never imported, because its
import needs a system library that may be missing.
"""

from __future__ import annotations

import io
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError, MissingResource, UnknownName
from ..types import Pictures

LIGHT_GREY = 224
FOLDER = "openmoji-svg-color"
SKIN_TONES = frozenset({"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"})
# Rotates hue in the YIQ plane: rows are Y, I, Q as combinations of R, G, B.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_RGB = np.linalg.inv(_YIQ)


def hue_matrices(turns: NDArray[np.floating]) -> NDArray[np.float32]:
    """Colour matrices that turn hue and keep luma.

    Args:
        turns: ``(n,)`` hue shift in turns (1.0 is the whole circle); positive moves red towards yellow and green.

    Returns:
        ``(n, 3, 3)``; ``matrix @ rgb`` is the shifted colour. Linear, so it also holds for premultiplied RGB.
    """
    angle = 2 * np.pi * np.asarray(turns, np.float64)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.zeros((len(angle), 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = cos
    turn[:, 1, 2], turn[:, 2, 1] = sin, -sin
    out: NDArray[np.float32] = (_RGB @ turn @ _YIQ).astype(np.float32)
    return out


@lru_cache(maxsize=1)
def drawings() -> dict[str, Path]:
    """Every drawing: code points as in ``"1F415-200D-1F9BA"`` (upper case) -> SVG file.

    Raises:
        MissingResource: the package ``emosvg`` or its drawings are not installed.
    """
    try:
        listed = files("emosvg") or []
    except PackageNotFoundError as error:
        raise MissingResource("package 'emosvg' (the OpenMoji drawings) is missing; pip install emosvg") from error
    found = {f.stem: Path(str(f.locate())) for f in listed if f.suffix == ".svg" and f.parent.name == FOLDER}
    if not found:
        raise MissingResource("package 'emosvg' holds no OpenMoji drawings; pip install --force-reinstall emosvg")
    return dict(sorted(found.items()))


@lru_cache(maxsize=1)
def names() -> dict[str, str]:
    """Named drawings without skin tone: code -> English name as in ``"red apple"``; names are unique."""
    import emoji

    english: dict[str, str] = {}
    for text, entry in emoji.EMOJI_DATA.items():
        english.setdefault(text.replace("\ufe0f", ""), entry["en"].strip(":").replace("_", " "))
    out: dict[str, str] = {}
    taken: set[str] = set()
    for code in drawings():
        parts = code.split("-")
        if SKIN_TONES & set(parts):
            continue
        name = english.get("".join(chr(int(p, 16)) for p in parts if p != "FE0F"))
        if name and name not in taken:
            taken.add(name)
            out[code] = name
    return out


def _square(rgba: Image.Image) -> Image.Image:
    """Trimmed to content (alpha above 8 of 255) and padded to a square."""
    box = rgba.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    if box is None:
        raise InputError("the drawing, or this crop of it, is empty; choose another code or crop")
    rgba = rgba.crop(box)
    side = max(rgba.size)
    out = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    out.paste(rgba, ((side - rgba.width) // 2, (side - rgba.height) // 2))
    return out


@lru_cache(maxsize=8192)
def _glyph(code: str, size: int, crop: tuple[float, float, float, float] | None, hue: float) -> NDArray[np.uint8]:
    import resvg_py

    known = drawings()
    if code not in known:
        raise UnknownName("OpenMoji drawing", code, known)
    zoom = 1.5 if crop is None else 1.5 / max(0.05, min(crop[2] - crop[0], crop[3] - crop[1]))
    side = min(2048, max(72, round(size * zoom)))
    try:
        data = resvg_py.svg_to_bytes(svg_path=str(known[code]), width=side, height=side, skip_system_fonts=True)
    except (ValueError, OSError) as error:
        raise MissingResource(f"{known[code]}: cannot be drawn ({error}); reinstall emosvg") from error
    picture = _square(Image.open(io.BytesIO(bytes(data))).convert("RGBA"))
    if crop is not None:
        left, top, right, bottom = (round(c * picture.width) for c in crop)
        picture = _square(picture.crop((left, top, right, bottom)))
    premultiplied = picture.convert("RGBa").resize((size, size), Image.Resampling.BICUBIC)
    out = np.array(premultiplied.convert("RGBA"))
    if hue % 1.0:
        rgb = out[..., :3].astype(np.float32) @ hue_matrices(np.array([hue]))[0].T
        out[..., :3] = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    out.setflags(write=False)
    return out


def glyph(
    code: str, size: int, crop: tuple[float, float, float, float] | None = None, hue: float = 0.0
) -> NDArray[np.uint8]:
    """One drawing, trimmed to its content and centred in a square.

    Args:
        code: code points, as in ``"1F438"``; case does not matter.
        size: side in pixels.
        crop: left, top, right, bottom as fractions of the trimmed square; what is cut out is trimmed again.
        hue: hue shift in turns, positive from red towards green.

    Returns:
        ``(size, size, 4)`` uint8, straight (not premultiplied) RGBA, read-only.

    Raises:
        UnknownName: no such drawing.
        InputError: nothing is drawn inside the crop, or the crop or size is not sensible.
        MissingResource: the drawings are not installed.
    """
    if size < 1:
        raise InputError(f"glyph {code}: size must be at least 1 pixel, got {size}")
    if crop is not None and not (0 <= crop[0] < crop[2] <= 1 and 0 <= crop[1] < crop[3] <= 1):
        raise InputError(f"glyph {code}: crop must be left < right, top < bottom within 0..1, got {crop}")
    box = None if crop is None else (float(crop[0]), float(crop[1]), float(crop[2]), float(crop[3]))
    return _glyph(code.upper(), int(size), box, float(hue))


def flatten(rgba: NDArray[np.uint8], grey: int = LIGHT_GREY) -> Pictures:
    """RGBA ``(..., s, s, 4)`` on an even grey, as uint8 RGB ``(..., s, s, 3)``."""
    alpha = rgba[..., 3:].astype(np.uint16)
    mixed: Pictures = ((rgba[..., :3] * alpha + np.uint16(grey) * (255 - alpha) + 127) // 255).astype(np.uint8)
    return mixed


@lru_cache(maxsize=4)
def bank(size: int) -> tuple[tuple[str, ...], Pictures]:
    """All named drawings without skin tone on light grey, with no hint of any role.

    Args:
        size: side in pixels.

    Returns:
        Names and ``(n, size, size, 3)`` uint8 pictures (read-only), in the order of the code points.
    """
    pictures = np.stack([flatten(_glyph.__wrapped__(code, size, None, 0.0)) for code in names()])
    pictures.setflags(write=False)
    return tuple(names().values()), pictures
