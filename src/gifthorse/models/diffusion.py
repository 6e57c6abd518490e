"""Denoising priors: how a noisy latent looks without its noise, and the sampler that walks from noise to a picture.

A prior is a `Generator` that can also denoise. Latents are noised by adding: ``z = clean + level * noise``.
The suite's own generator is one already (`ConvGenerator.denoise`); `from_folder` makes one of a `diffusers` model.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import InputError, MissingResource
from .generator import Generator

LOWEST = 0.02
"""Noise level at which sampling ends."""

INSTALL = "pip install 'gifthorse[diffusion]'"

Guide = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""(noisy latents ``(n, latent)``, their noise level) -> (clean latents expected there, a push to add to these)."""


class Denoiser(Generator, Protocol):
    """A generator that knows how its latents are spread.

    Attributes:
        highest: noise level at which nothing of a latent is left.
    """

    highest: float

    def denoise(self, z: Tensor, level: float) -> Tensor:
        """``(n, latent)`` the clean latent expected where ``z`` is one plus ``level`` times normal noise."""
        ...


def levels(highest: float, steps: int) -> list[float]:
    """``steps + 1`` falling noise levels, evenly apart in their logarithm; the last is 0."""
    ratio = (LOWEST / highest) ** (1 / max(1, steps - 1))
    return [*(highest * ratio**i for i in range(steps)), 0.0]


@torch.no_grad()
def sampled(prior: Denoiser, n: int, steps: int, draw: torch.Generator, guide: Guide | None = None) -> Tensor:
    """``(n, latent)`` latents drawn by ancestral sampling, from noise alone.

    Args:
        prior: what latents look like.
        n: how many.
        steps: denoising steps.
        draw: random generator.
        guide: says in each step which clean latents to expect and where to push them; default: no push.
    """
    falling = levels(prior.highest, steps)
    z = falling[0] * torch.randn(n, prior.latent, generator=draw)
    for now, then in pairwise(falling):
        clean, push = (prior.denoise(z, now), 0.0) if guide is None else guide(z, now)
        kept = (then / now) ** 2  # share of the old noise that stays; fresh noise makes up for the rest
        fresh = then * (1 - kept) ** 0.5
        z = clean + push + kept * (z - clean) + fresh * torch.randn(z.shape, generator=draw)
    return z


class DiffusersPrior(nn.Module):
    """An unconditional pixel model of `diffusers` as a prior; its latents are pixels in [-1, 1], in one row.

    Args:
        unet: maps noisy pictures ``(n, 3, s, s)`` and a time step to the noise in them.
        kept: ``(times,)`` share of the picture's variance that is left at each time step, falling.
        side: side of the square picture in pixels.
        steps: denoising steps of `starts`.
    """

    kept: Tensor

    def __init__(self, unet: nn.Module, kept: Tensor, side: int, steps: int = 30) -> None:
        super().__init__()
        self.unet, self.side, self.steps = unet, side, steps
        self.latent = 3 * side * side
        self.register_buffer("kept", kept.float())
        self.highest = float(((1 - kept[-1]) / kept[-1]).sqrt())
        self.eval().requires_grad_(False)

    def forward(self, z: Tensor) -> Tensor:
        """Pictures ``(n, 3, side, side)`` in [0, 1]."""
        return (z.view(-1, 3, self.side, self.side) / 2 + 0.5).clamp(0, 1)

    def denoise(self, z: Tensor, level: float) -> Tensor:
        """``(n, latent)`` what the model takes for the clean picture, held to [-1, 1]."""
        noise = ((1 - self.kept) / self.kept).sqrt()
        time = int((noise - level).abs().argmin())
        x = (z / (1 + level**2) ** 0.5).view(-1, 3, self.side, self.side)
        found: Tensor = self.unet(x, time, return_dict=False)[0]
        return (z - level * found.flatten(1)).clamp(-1, 1)

    def starts(self, n: int, draw: torch.Generator) -> Tensor:
        """``(n, latent)`` pictures drawn by the model."""
        return sampled(self, n, self.steps, draw)


def from_folder(folder: Path) -> DiffusersPrior:
    """The prior in a folder that a `diffusers` pipeline was saved to, with ``unet`` and ``scheduler``.

    Nothing is loaded from the net.

    Raises:
        MissingResource: `diffusers` is not installed.
        InputError: no such model, or one that is not unconditional, in colour, square and predicting its noise.
    """
    try:
        from diffusers import DDPMScheduler, UNet2DModel
    except ImportError as error:
        raise MissingResource(f'a diffusion model needs the package diffusers; run "{INSTALL}"') from error
    try:
        unet: Any = UNet2DModel.from_pretrained(folder / "unet", local_files_only=True)
        scheduler: Any = DDPMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{folder}: no diffusers pipeline with unet and scheduler ({reason}); save one there"
        ) from error
    sizes, kind = unet.config, scheduler.config.prediction_type
    if (sizes.in_channels, sizes.out_channels, kind) != (3, 3, "epsilon") or not isinstance(sizes.sample_size, int):
        raise InputError(
            f"{folder}: {sizes.in_channels} channels in, {sizes.out_channels} out, side {sizes.sample_size}, predicts "
            f"{kind!r}; give a square model of 3 channels that predicts its noise ('epsilon')"
        )
    return DiffusersPrior(unet, scheduler.alphas_cumprod, sizes.sample_size)
