"""How a picture is parametrised for optimisation: a Fourier spectrum, or a network from coordinates to colour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

COLOUR_SPREAD = (1.0, 0.45, 0.25)
"""Spread along the axes bright-dark, red-blue and green-magenta, as natural pictures roughly have it."""

ODD, MIDDLE, EVEN = 0.67, 0.45, 0.396
"""Divisors of the two halves of a CPPN's activation, and what is taken off the even half: lucid's unbiased form."""


@lru_cache(maxsize=4)
def _colour_matrix(device: torch.device) -> Tensor:
    """``(3, 3)`` matrix from decorrelated colour axes to red, green, blue."""
    axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
    axes = axes / axes.norm(dim=1, keepdim=True)
    out: Tensor = (axes * torch.tensor(COLOUR_SPREAD)[:, None]).T.contiguous()
    return out.to(device)


@lru_cache(maxsize=8)
def _falloff(size: int, decay: float, blur: float, device: torch.device) -> Tensor:
    """``(size, size // 2 + 1)`` amplitude of each frequency."""
    y, x = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None, :]
    cycles = torch.sqrt(y * y + x * x).clamp(min=1.0 / size)
    out: Tensor = (cycles * size).pow(-decay) * torch.exp(-2 * (math.pi * blur * cycles) ** 2)
    return out.to(device)


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
        scaled = torch.view_as_complex(spectra) * _falloff(self.size, self.decay, self.blur, spectra.device)
        planes = torch.fft.irfft2(scaled, s=(self.size, self.size), norm="forward")
        colours = (_colour_matrix(planes.device) @ planes.flatten(2)).flatten(1)
        out: Tensor = _Contrast.apply(colours, self.contrast)
        return out.view_as(planes)

    def finished(self, spectra: Tensor) -> Tensor:
        """The pictures as they are shown: the same."""
        return self(spectra)


class _Contrast(torch.autograd.Function):
    """Each row brought to a given spread, then squashed into (0, 1)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, contrast: float) -> Tensor:
        """``(n, p)`` -> ``(n, p)``."""
        centred = x - x.mean(dim=1, keepdim=True)
        spread = (torch.linalg.vecdot(centred, centred)[:, None] / (x.shape[1] - 1)).sqrt() + 1e-8
        out = torch.sigmoid(x * (contrast / spread))
        ctx.save_for_backward(x, spread, out)
        ctx.contrast = contrast
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """The chain rule by hand: it passes over the pixels four times where autograd does twelve times."""
        x, spread, out = ctx.saved_tensors
        factor = ctx.contrast / spread
        inner = torch.ops.aten.sigmoid_backward(grads[0], out)
        pull = -factor * torch.linalg.vecdot(inner, x)[:, None] / ((x.shape[1] - 1) * spread.square())
        return (inner * factor).addcmul_(x, pull).sub_(pull * x.mean(dim=1, keepdim=True)), None


class _Both(torch.autograd.Function):
    """Arc tangent and its square, each with mean about 0 and spread about 1; one backward pass serves both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """``(n, c, p)`` -> ``(n, 2 c, p)``."""
        bent = torch.atan(x)
        ctx.save_for_backward(x, bent)
        return torch.cat([bent / ODD, (bent.square() - MIDDLE) / EVEN], dim=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """The chain rule by hand: it keeps two tensors where autograd keeps five."""
        x, bent = ctx.saved_tensors
        odd, even = grads[0].chunk(2, dim=1)
        return torch.addcmul(odd / ODD, even, bent, value=2 / EVEN).div_(x.square().add_(1))


@dataclass(frozen=True)
class CppnImage:
    """Pictures as networks from coordinates to colour (Mordvintsev et al. 2018), one network per row.

    Each layer is one batched matrix product over all rows, so many rows cost little more than one. What is ours: the
    contrast over the places is held fixed, so that no picture can be one plain colour, which is where steepest ascent
    leads first and where the sigmoid's slope dies; hence the last layer does not start at zero. And since such a
    picture has no resolution of its own, it is drawn small and enlarged while it is optimised.

    Attributes:
        size: side of the square picture in pixels.
        layers: 1x1 convolutions, the last one included.
        width: channels of each.
        sketch: side at which pictures are drawn before they are enlarged; 0: ``size``.
        contrast: spread of the pixel logits over the places, and bound of their mean.
    """

    size: int
    layers: int = 8
    width: int = 24
    sketch: int = 0
    contrast: float = 1.3

    def __post_init__(self) -> None:
        if self.layers < 2 or self.width < 1 or not 0 <= self.sketch <= self.size:
            raise ValueError("needs layers >= 2, width >= 1 and sketch from 0 to size")

    def _shapes(self) -> list[tuple[int, int]]:
        """(outputs, inputs) of each layer."""
        inner = [(self.width, 2 * self.width)] * (self.layers - 2)
        return [(self.width, 2), *inner, (3, 2 * self.width)]

    def start(self, n: int, draw: torch.Generator) -> Tensor:
        """``(n, parameters)`` weights with spread one over the root of the inputs; biases 0."""
        parts = []
        for out, inputs in self._shapes():
            parts += [torch.randn(n, out * inputs, generator=draw) / math.sqrt(inputs), torch.zeros(n, out)]
        return torch.cat(parts, dim=1)

    def __call__(self, params: Tensor) -> Tensor:
        """Pictures ``(n, 3, size, size)`` in (0, 1), drawn at ``sketch`` and enlarged."""
        x = self._drawn(params, self.sketch or self.size)
        return x if x.shape[-1] == self.size else F.interpolate(x, (self.size,) * 2, mode="bilinear")

    def finished(self, params: Tensor) -> Tensor:
        """The pictures as they are shown: drawn at ``size``."""
        return self._drawn(params, self.size)

    def _drawn(self, params: Tensor, side: int) -> Tensor:
        """Pictures ``(n, 3, side, side)``."""
        n, at = len(params), 0
        x = _coordinates(side, params.device).expand(n, -1, -1)
        for i, (out, inputs) in enumerate(self._shapes()):
            weight = params[:, at : at + out * inputs].view(n, out, inputs)
            bias = params[:, at + out * inputs : at + out * (inputs + 1)].unsqueeze(2)
            at += out * (inputs + 1)
            x = torch.baddbmm(bias, weight, x)
            if i < self.layers - 1:
                x = _Both.apply(x)
        colours = _colour_matrix(x.device) @ x
        mean = colours.mean(dim=2, keepdim=True)
        parts = colours - mean
        spread = parts.flatten(1).std(dim=1)[:, None, None] + 1e-4
        return torch.sigmoid(self.contrast * (parts / spread + torch.tanh(mean))).view(n, 3, side, side)


@lru_cache(maxsize=8)
def _coordinates(size: int, device: torch.device) -> Tensor:
    """``(1, 2, size * size)`` places of the pixels, each axis with mean 0 and spread 1."""
    axis = torch.linspace(-math.sqrt(3), math.sqrt(3), size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()])[None].to(device)
