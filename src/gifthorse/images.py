"""The only place for picture conventions: uint8 HWC at rest, float [0, 1] NCHW in compute."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from .errors import InputError
from .types import Pictures

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64_000_000


def to_tensor(images: Pictures) -> Tensor:
    """``(n, h, w, 3)`` uint8 -> ``(n, 3, h, w)`` float32 in [0, 1]."""
    import torch

    owned = np.require(images, requirements=["C", "W"])  # copies a read-only picture: torch cannot mark it so
    return torch.from_numpy(owned).permute(0, 3, 1, 2).float().div_(255)


def from_tensor(x: Tensor) -> Pictures:
    """``(n, 3, h, w)`` float in [0, 1] -> ``(n, h, w, 3)`` uint8; values outside are clipped."""
    out: Pictures = x.detach().clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    return out


def read(path: Path, size: int) -> NDArray[np.uint8]:
    """A picture file as ``(size, size, 3)``: short side resized (bicubic), centre cropped, RGB.

    Raises:
        InputError: missing, truncated, too large, or not PNG, JPEG or WebP.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise InputError(f"{path}: {picture.width}x{picture.height} pixels is too large; remove or shrink it")
            picture.draft("RGB", (size, size))
            return resize_crop(picture.convert("RGB"), size)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable PNG, JPEG or WebP picture ({error}); remove or replace it") from error


def resize_crop(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """Short side to ``size`` (bicubic), centre crop, as ``(size, size, 3)``."""
    w, h = picture.size
    scale = size / min(w, h)
    resized = picture.resize((max(size, round(w * scale)), max(size, round(h * scale))), Image.Resampling.BICUBIC)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))


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
