"""A small picture generator, trained on a data set's own bank: the prior of tools that optimise latents.

Generative latent optimisation (Bojanowski et al. 2017, arXiv 1707.05776): decoder and one latent per picture are
learnt together, with no encoder and no discriminator. It is the cheapest way to recognisable objects on one core.
The bank carries no role: a trigger's drawing is one of all drawings, and no network of the suite is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..images import to_tensor
from ..rng import child_seed
from ..types import Pictures
from .checkpoint import read_tensors, tensor_bytes, write_atomic

FILE = "generator.safetensors"
PYRAMID = 3  # resolutions at which pictures are compared
RISE = 0.05  # share of the steps in which the learning rate rises


class Generator(Protocol):
    """What tools ask of a generator: any `nn.Module` with these members.

    A class-conditional generator (BigGAN) is wrapped so that its class vector is part of ``z``; a diffusion model so
    that ``z`` is its starting noise. ``starts`` says where latents are good: real pictures' latents, or random ones.
    """

    latent: int

    def __call__(self, z: Tensor) -> Tensor:
        """Pictures ``(n, 3, s, s)`` in [0, 1] of latents ``(n, latent)``."""
        ...

    def starts(self, n: int, draw: torch.Generator) -> Tensor:
        """``(n, latent)`` latents drawn from where the generator is at home."""
        ...


@dataclass(frozen=True)
class GeneratorRecipe:
    """How the generator is trained. All defaults are ours, set by eye on the emoji bank.

    Attributes:
        latent: length of a latent.
        widths: channels at 4, 8, 16, ... pixels; the picture's side is 8 * 2^(len(widths) - 1).
        steps: Adam steps.
        batch: pictures per step.
        lr: highest learning rate of the decoder; latents move three times as fast.
        noise: spread of the noise on latents while training, so that their neighbourhood draws the same object.
    """

    latent: int = 64
    widths: tuple[int, ...] = (96, 64, 40, 24)
    steps: int = 1000
    batch: int = 32
    lr: float = 3e-3
    noise: float = 0.3

    def __post_init__(self) -> None:
        if self.latent < 1 or not self.widths or min(*self.widths, self.steps, self.batch) < 1 or self.noise < 0:
            raise InputError(f"generator recipe: a value is out of range in {self}; see GeneratorRecipe")

    @property
    def side(self) -> int:
        """Side of the pictures in pixels."""
        return int(8 * 2 ** (len(self.widths) - 1))


class _Rise(nn.Module):
    """Channels scaled by the latent, a 3x3 convolution, and twice the resolution by sub-pixels."""

    def __init__(self, inputs: int, outputs: int, latent: int) -> None:
        super().__init__()
        self.gain = nn.Linear(latent, inputs)
        self.conv = nn.Conv2d(inputs, 4 * outputs, 3, padding=1)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        scaled = x * (1 + self.gain(z))[:, :, None, None]
        out: Tensor = F.pixel_shuffle(self.conv(scaled), 2)
        return out


class ConvGenerator(nn.Module):
    """Sub-pixel convolutions from 4 pixels up, steered by the latent at every resolution.

    Args:
        recipe: its sizes.
        pictures: rows of the table of latents, one per picture it was trained on.
    """

    table: Tensor

    def __init__(self, recipe: GeneratorRecipe, pictures: int) -> None:
        super().__init__()
        self.latent, self.side = recipe.latent, recipe.side
        self.width, self.noise = recipe.widths[0], recipe.noise
        self.seed = nn.Linear(recipe.latent, 16 * self.width)
        ahead = (*recipe.widths[1:], 3)
        self.rises = nn.ModuleList(_Rise(a, b, recipe.latent) for a, b in zip(recipe.widths, ahead, strict=True))
        self.register_buffer("table", torch.zeros(pictures, recipe.latent))

    def forward(self, z: Tensor) -> Tensor:
        """Pictures ``(n, 3, side, side)`` in [0, 1]."""
        x = self.seed(z).view(len(z), self.width, 4, 4).contiguous(memory_format=torch.channels_last)
        for rise in self.rises:
            x = rise(F.leaky_relu(x, 0.2), z)
        return torch.sigmoid(x)

    def starts(self, n: int, draw: torch.Generator) -> Tensor:
        """Latents of ``n`` pictures of the bank, drawn at random with replacement."""
        return self.table[torch.randint(len(self.table), (n,), generator=draw)].clone()

    @property
    def highest(self) -> float:
        """Noise level beside which the spread of the table is small."""
        return 3.0 * max(float(self.table.std()), 1e-3)

    def denoise(self, z: Tensor, level: float) -> Tensor:
        """``(n, latent)`` the clean latent expected where ``z`` is one plus ``level`` times normal noise.

        No network is trained for this. The decoder learnt on latents of the table with noise of spread ``noise``; for
        that mixture of normal distributions the expectation is known in closed form.
        """
        own, added = self.noise**2, level**2
        far = (z.square().sum(1)[:, None] - 2 * z @ self.table.T + self.table.square().sum(1)) / (2 * (own + added))
        near = torch.softmax(-far, dim=1) @ self.table
        return near + (z - near) * (own / max(own + added, 1e-12))


def train(
    pictures: Pictures, recipe: GeneratorRecipe, seed: int, progress: Callable[[float], None] = lambda share: None
) -> ConvGenerator:
    """A generator of pictures ``(n, h, w, 3)``; the same call on one thread gives the same bytes.

    Raises:
        InputError: an empty bank.
    """
    if not len(pictures):
        raise InputError("the picture bank is empty; give the generator pictures to learn from")
    goal = resized(pictures, recipe.side)
    draw = torch.Generator().manual_seed(child_seed(seed, "generator"))
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(child_seed(seed, "generator", "weights"))
        net = ConvGenerator(recipe, len(goal)).to(memory_format=torch.channels_last)
        latents = _principal(goal, recipe.latent).requires_grad_()
    groups: list[dict[str, Any]] = [{"params": net.parameters(), "lr": 0.0}, {"params": [latents], "lr": 0.0}]
    adam = torch.optim.Adam(groups, betas=(0.9, 0.99))
    with torch.enable_grad():
        for step in range(recipe.steps):
            rate = recipe.lr * _schedule(step / recipe.steps)
            adam.param_groups[0]["lr"], adam.param_groups[1]["lr"] = rate, 3 * rate
            rows = torch.randint(len(goal), (recipe.batch,), generator=draw)
            z = latents[rows] + recipe.noise * torch.randn(recipe.batch, recipe.latent, generator=draw)
            adam.zero_grad()
            _distance(net(z), goal[rows]).backward()  # type: ignore[no-untyped-call]
            adam.step()
            if step % 50 == 0:
                progress(step / recipe.steps)
    net.table.copy_(latents.detach())
    return net.eval().requires_grad_(False)


def resized(pictures: Pictures, side: int) -> Tensor:
    """Pictures ``(n, h, w, 3)`` as ``(n, 3, side, side)`` in [0, 1]."""
    goal = to_tensor(pictures)
    if goal.shape[-2:] != (side, side):
        goal = F.interpolate(goal, (side, side), mode="bilinear", antialias=True, align_corners=False)
    return goal.clamp(0, 1)


def _principal(goal: Tensor, latent: int) -> Tensor:
    """First latents ``(n, latent)``: principal components at unit spread, with zeros where there are fewer."""
    flat = goal.flatten(1) - goal.flatten(1).mean(0)
    rank = min(latent, *flat.shape)
    left, _, _ = torch.svd_lowrank(flat, min(rank + 10, *flat.shape), niter=3)
    return F.pad(left[:, :rank] * math.sqrt(len(goal)), (0, latent - rank))


def _schedule(share: float) -> float:
    """Learning rate in [0, 1]: a short rise, then a cosine to nothing."""
    return min(1.0, share / RISE) * (0.5 + 0.5 * math.cos(math.pi * share))


def _distance(made: Tensor, goal: Tensor) -> Tensor:
    """Mean absolute difference at several resolutions, summed."""
    total = (made - goal).abs().mean()
    for _ in range(PYRAMID - 1):
        made, goal = F.avg_pool2d(made, 2), F.avg_pool2d(goal, 2)
        total = total + (made - goal).abs().mean()
    return total


def save(folder: Path, net: ConvGenerator, recipe: GeneratorRecipe) -> None:
    """Write weights, latents and sizes as safetensors."""
    write_atomic(folder / FILE, tensor_bytes(net.state_dict(), {"recipe": _text(recipe)}))


def load(folder: Path, recipe: GeneratorRecipe) -> ConvGenerator:
    """The generator that `save` wrote.

    Raises:
        InputError: missing, damaged, or of another recipe.
    """
    tensors, metadata = read_tensors(folder / FILE)
    if metadata.get("recipe") != _text(recipe) or "table" not in tensors:
        raise InputError(f"{folder / FILE}: was made by another recipe; delete its folder and run again")
    with torch.random.fork_rng(devices=[]):
        net = ConvGenerator(recipe, len(tensors["table"]))
    net.load_state_dict(tensors)
    return net.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _text(recipe: GeneratorRecipe) -> str:
    return repr(asdict(recipe))


def identity(data: dict[str, Any], recipe: GeneratorRecipe, seed: int) -> dict[str, Any]:
    """What a generator depends on, for its digest: data set, recipe, seed and the version of this file."""
    return {"resource": "generator", "version": 1, "data": data, "recipe": asdict(recipe), "seed": seed}


def sheet_of(net: ConvGenerator, n: int, seed: int, spread: float = 0.0) -> Pictures:
    """``(n, s, s, 3)`` pictures of random bank latents, moved by noise of this spread: to look at."""
    from ..images import from_tensor

    draw = torch.Generator().manual_seed(child_seed(seed, "generator", "sheet"))
    z = net.starts(n, draw)
    with torch.no_grad():
        out: Pictures = np.asarray(from_tensor(net(z + spread * torch.randn(z.shape, generator=draw))))
    return out
