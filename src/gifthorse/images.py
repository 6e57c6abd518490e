"""The only place for picture conventions: uint8 HWC at rest, float [0, 1] NCHW in compute."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import InputError
from .types import Masks, Pictures

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64_000_000
MAX_RATIO = 16  # of the sides: a longer strip is cut to it around its middle before it is resized


def to_tensor(images: Pictures) -> Tensor:
    """``(n, h, w, 3)`` uint8 -> ``(n, 3, h, w)`` float32 in [0, 1]."""
    import torch

    owned = np.require(images, requirements=["C", "W"])  # copies a read-only picture: torch cannot mark it so
    return torch.as_tensor(owned).permute(0, 3, 1, 2).float().div_(255)


def from_tensor(x: Tensor) -> Pictures:
    """``(n, 3, h, w)`` float in [0, 1] -> ``(n, h, w, 3)`` uint8; values outside are clipped."""
    out: Pictures = x.detach().clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return out


def read(path: Path, size: int) -> NDArray[np.uint8]:
    """A picture file as ``(size, size, 3)``: short side resized (bicubic), centre cropped, RGB.

    Grey, 16-bit, palette and CMYK pictures are converted, transparent ones laid on white; of an animation the
    first picture counts.

    Raises:
        InputError: missing, truncated, too large, or not PNG, JPEG or WebP.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise InputError(f"{path}: {picture.width}x{picture.height} pixels is too large; remove or shrink it")
            picture.draft("RGB", (size, size))
            return resize_crop(_strip(_rgb(picture)), size)
    except InputError:
        raise
    except Exception as error:  # what a decoder raises on damaged bytes is not documented
        reason = getattr(error, "strerror", None) or str(error).split(": ")[0] or type(error).__name__
        raise InputError(
            f"{path}: not a readable PNG, JPEG or WebP picture ({reason}); remove or replace it"
        ) from error


def _rgb(picture: Image.Image) -> Image.Image:
    """Any mode as RGB: 16-bit values scaled down, transparency laid on white."""
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.int64)
        return Image.fromarray(np.clip(deep >> 8, 0, 255).astype(np.uint8)).convert("RGB")
    if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA"):
        above = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
    return picture.convert("RGB")


def _strip(picture: Image.Image) -> Image.Image:
    """A picture at most `MAX_RATIO` times as long as wide, so that resizing cannot fill the memory."""
    w, h = picture.size
    limit = MAX_RATIO * min(w, h)
    if max(w, h) <= limit:
        return picture
    left, top = max(0, (w - limit) // 2), max(0, (h - limit) // 2)
    return picture.crop((left, top, min(w, left + limit), min(h, top + limit)))


def resize_crop(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """Short side to ``size`` (bicubic), centre crop, as ``(size, size, 3)``."""
    w, h = picture.size
    scale = size / min(w, h)
    resized = picture.resize((max(size, round(w * scale)), max(size, round(h * scale))), Image.Resampling.BICUBIC)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def close_ups(images: Pictures, masks: Masks, margin: float = 0.35) -> Pictures:
    """The square around each mask, enlarged to the whole picture.

    Args:
        images: ``(n, s, s, 3)`` uint8.
        masks: ``(n, s, s)`` bool; an empty one shows the whole picture.
        margin: how much wider than the mask the square is, as a share of it.
    """
    out, side = np.empty_like(images), images.shape[1]
    for i, (picture, mask) in enumerate(zip(images, masks, strict=True)):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        wide = max(np.ptp(rows), np.ptp(columns)) + 1 if len(rows) else side
        width = min(side, round(wide * (1 + margin)))
        top, left = (
            int(np.clip((where[0] + where[-1] - width) // 2 + 1, 0, side - width)) if len(where) else 0
            for where in (rows, columns)
        )
        out[i] = resize_crop(Image.fromarray(picture[top : top + width, left : left + width]), side)
    return out


def hot_spots(images: Pictures, maps: NDArray[np.floating[Any]], share: float = 3 / 8) -> Pictures:
    """The square that holds most of each map's positive part, enlarged to the whole picture.

    Where several squares hold as much, the one nearest to the middle of them all: a small spot away from the border
    is shown in the middle, and a map that says nothing shows the middle of its picture.

    Args:
        images: ``(n, s, s, 3)`` uint8.
        maps: ``(n, s, s)`` finite.
        share: side of the square as a share of the picture's.

    Raises:
        InputError: maps and pictures do not fit.
    """
    side = images.shape[1]
    if maps.shape != images.shape[:3] or images.shape[2] != side:
        raise InputError(f"maps {maps.shape} do not fit square pictures {images.shape}; give one map per picture")
    width = max(1, round(share * side))
    total = np.zeros((len(maps), side + 1, side + 1))
    np.maximum(maps, 0, dtype=np.float64).cumsum(1).cumsum(2, out=total[:, 1:, 1:])
    held = total[:, width:, width:] - total[:, :-width, width:] - total[:, width:, :-width] + total[:, :-width, :-width]
    out = np.empty_like(images)
    for i, picture in enumerate(images):
        best = np.argwhere(held[i] >= held[i].max() - 1e-9 * total[i, -1, -1])
        top, left = best[np.abs(best - best.mean(0)).sum(1).argmin()]
        out[i] = resize_crop(Image.fromarray(picture[top : top + width, left : left + width]), side)
    return out


def png(image: NDArray[np.uint8], scale: int = 1) -> bytes:
    """A picture ``(h, w, 3)`` or ``(h, w)`` as PNG bytes, enlarged by whole pixels."""
    picture = Image.fromarray(image)
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return out.getvalue()


def sheet(images: Pictures, columns: int, gap: int = 2) -> NDArray[np.uint8]:
    """Pictures ``(n, h, w, 3)`` side by side on white."""
    n, h, w, _ = images.shape
    rows = -(-n // columns)
    out = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = (i // columns) * (h + gap), (i % columns) * (w + gap)
        out[y : y + h, x : x + w] = image
    return out
