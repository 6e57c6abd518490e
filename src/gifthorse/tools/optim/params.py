"""How a picture is parametrised for optimisation: a Fourier spectrum with normalised contrast."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

COLOUR_SPREAD = (1.0, 0.45, 0.25)
"""Spread along the axes bright-dark, red-blue and green-magenta, as natural pictures roughly have it."""


@lru_cache(maxsize=1)
def _colour_matrix() -> Tensor:
    """``(3, 3)`` matrix from decorrelated colour axes to red, green, blue."""
    axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
    axes = axes / axes.norm(dim=1, keepdim=True)
    out: Tensor = (axes * torch.tensor(COLOUR_SPREAD)[:, None]).T.contiguous()
    return out


@lru_cache(maxsize=8)
def _falloff(size: int, decay: float, blur: float) -> Tensor:
    """``(size, size // 2 + 1)`` amplitude of each frequency."""
    y, x = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None, :]
    cycles = torch.sqrt(y * y + x * x).clamp(min=1.0 / size)
    out: Tensor = (cycles * size).pow(-decay) * torch.exp(-2 * (math.pi * blur * cycles) ** 2)
    return out


@dataclass(frozen=True)
class FourierImage:
    """Pictures as spectra, colours decorrelated, contrast held fixed.

    Without the fixed contrast optimisation drives every pixel to black or white.

    Attributes:
        size: side of the square picture in pixels.
        decay: power by which amplitude falls with frequency.
        blur: standard deviation in pixels of a Gaussian that every picture is blurred with.
        contrast: spread of the pixel logits.
    """

    size: int
    decay: float = 1.4
    contrast: float = 1.3
    blur: float = 0.0

    def start(self, n: int, draw: torch.Generator) -> Tensor:
        """Random spectra ``(n, 3, size, size // 2 + 1, 2)`` with standard deviation 0.01."""
        return 0.01 * torch.randn(n, 3, self.size, self.size // 2 + 1, 2, generator=draw)

    def __call__(self, spectra: Tensor) -> Tensor:
        """Pictures ``(n, 3, size, size)`` in (0, 1)."""
        scaled = torch.view_as_complex(spectra) * _falloff(self.size, self.decay, self.blur)
        planes = torch.fft.irfft2(scaled, s=(self.size, self.size), norm="forward")
        colours = (_colour_matrix() @ planes.flatten(2)).flatten(1)
        centred = colours - colours.mean(dim=1, keepdim=True)  # by hand: the gradient of torch.std takes twice as long
        spread = (centred.square().sum(dim=1, keepdim=True) / (colours.shape[1] - 1)).sqrt()
        return torch.sigmoid(colours * (self.contrast / (spread + 1e-8))).view_as(planes)
