"""Pictures of a study: checked on the way in, re-encoded so that file name, size and metadata say nothing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from ..errors import InputError
from ..images import FORMATS, MAX_PIXELS

Picture = NDArray[np.uint8]

MAX_BYTES = 20_000_000
TILES = 4  # exemplars that share the picture of one option
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "stripes", "dots")
INKS = ((176, 42, 48), (24, 104, 60), (20, 84, 150), (120, 60, 140))
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"  # a stored deflate block that holds nothing


def read(path: Path) -> Picture:
    """A picture file as ``(h, w, 3)`` uint8, transparency on white.

    Raises:
        InputError: missing, truncated, animated, larger than `MAX_BYTES` or `MAX_PIXELS`, or not PNG, JPEG or WebP.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: {path.stat().st_size / 1e6:.0f} MB is too large; shrink it below 20 MB")
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise InputError(f"{path}: {picture.width}x{picture.height} pixels is too large; shrink it")
            if getattr(picture, "n_frames", 1) > 1:
                raise InputError(f"{path}: an animated picture; save one frame as PNG")
            picture.load()
            upright = ImageOps.exif_transpose(picture).convert("RGBA")
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not a PNG, JPEG or WebP picture; convert it to PNG") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: too large once unpacked; shrink it") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: is missing; check the name in source.json") from error
    except (OSError, SyntaxError, ValueError, zlib.error) as error:
        raise InputError(f"{path}: damaged or truncated ({error}); save it again") from error
    page = Image.new("RGBA", upright.size, "white")
    page.alpha_composite(upright)
    return np.asarray(page.convert("RGB"))


def checked(picture: Picture, where: str) -> Picture:
    """The picture itself.

    Raises:
        InputError: not ``(h, w, 3)`` uint8, empty, or larger than `MAX_PIXELS`.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise InputError(f"{where}: a picture must be uint8 (h, w, 3), got {picture.dtype} {picture.shape}")
    if picture.shape[0] * picture.shape[1] > MAX_PIXELS:
        raise InputError(f"{where}: {picture.shape[1]}x{picture.shape[0]} pixels is too large; shrink it")
    return picture


def square(picture: Picture, pixels: int) -> Picture:
    """The whole picture on a white square of ``pixels``."""
    fitted = ImageOps.contain(Image.fromarray(picture), (pixels, pixels), Image.Resampling.BICUBIC)
    page = Image.new("RGB", (pixels, pixels), "white")
    page.paste(fitted, ((pixels - fitted.width) // 2, (pixels - fitted.height) // 2))
    return np.asarray(page)


def tiled(pictures: Sequence[Picture], pixels: int) -> Picture:
    """Up to `TILES` exemplars of one option as one square picture."""
    if len(pictures) < TILES:
        return square(pictures[0], pixels)
    half = pixels // 2
    page = np.full((pixels, pixels, 3), 255, np.uint8)
    for i, picture in enumerate(pictures[:TILES]):
        y, x = half * (i // 2), half * (i % 2)
        page[y : y + half - 1, x : x + half - 1] = square(picture, half - 1)
    return page


def encode(pictures: Sequence[Picture]) -> list[bytes]:
    """Pictures of one shape as PNG files without metadata, all of the same number of bytes."""
    packed = [_pack(picture) for picture in pictures]
    longest = max((len(head) + len(body) + len(tail) for head, body, tail in packed), default=0)
    return [_png(*parts, longest + 48) for parts in packed]


def shape(name: str, pixels: int, rng: np.random.Generator) -> Picture:
    """One of `SHAPES` in a random colour, size and place: the pictures of practice and attention checks."""
    page = Image.new("RGB", (pixels, pixels), "white")
    draw, ink = ImageDraw.Draw(page), INKS[int(rng.integers(len(INKS)))]
    r = pixels * rng.uniform(0.28, 0.4)
    x, y = rng.uniform(r, pixels - r, 2)
    box = (x - r, y - r, x + r, y + r)
    if name in ("circle", "ring"):
        draw.ellipse(box, fill=ink if name == "circle" else None, outline=ink, width=max(3, pixels // 12))
    elif name == "square":
        draw.rectangle(box, fill=ink)
    elif name == "cross":
        draw.rectangle((x - r / 3, y - r, x + r / 3, y + r), fill=ink)
        draw.rectangle((x - r, y - r / 3, x + r, y + r / 3), fill=ink)
    elif name in ("triangle", "star"):
        corners = 3 if name == "triangle" else 10
        turns = np.arange(corners) * 2 * np.pi / corners - np.pi / 2
        radii = [r if name == "triangle" or i % 2 == 0 else r * 0.42 for i in range(corners)]
        draw.polygon([(x + q * np.cos(t), y + q * np.sin(t)) for q, t in zip(radii, turns, strict=True)], fill=ink)
    elif name == "stripes":
        for at in np.arange(0, pixels, pixels / 6):
            draw.rectangle((0, at, pixels, at + pixels / 14), fill=ink)
    else:
        for at in np.ndindex(4, 4):
            cx, cy = (np.array(at) + 0.5) * pixels / 4
            draw.ellipse((cx - pixels / 14, cy - pixels / 14, cx + pixels / 14, cy + pixels / 14), fill=ink)
    return np.asarray(page)


def _pack(picture: Picture) -> tuple[bytes, bytes, bytes]:
    """The header chunk, and the compressed rows up to and after a place where padding may go."""
    out = BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    data, at, rows, header = out.getvalue(), 8, b"", b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IHDR":
            header = data[at : at + 12 + size]
        elif kind == b"IDAT":
            rows += data[at + 8 : at + 8 + size]
        at += 12 + size
    squeeze = zlib.compressobj(9)
    body = squeeze.compress(zlib.decompress(rows)) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    return header, body, squeeze.flush()


def _png(header: bytes, body: bytes, tail: bytes, length: int) -> bytes:
    """A PNG padded to ``length`` plus frame: empty blocks count 5 bytes, empty chunks 12, which reach every sum."""
    gap = length - len(header) - len(body) - len(tail)
    chunks = gap * 3 % 5
    rows = body + EMPTY_BLOCK * ((gap - 12 * chunks) // 5) + tail
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(rows) + _chunk(b"") * chunks + _chunk(b"", b"IEND")


def _chunk(data: bytes, kind: bytes = b"IDAT") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
