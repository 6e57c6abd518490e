"""Random views and pasting, each as one affine resampling."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .loop import uniform

PLAIN = 0.04
"""What differs from a ground by less in every channel belongs to it."""


def jitter_view(x: Tensor, pixels: float, degrees: float, scale: float, draw: torch.Generator) -> Tensor:
    """Each picture shifted, turned and scaled at random, in one resampling; edges are mirrored.

    Args:
        x: ``(n, c, h, w)``.
        pixels: largest shift in pixels.
        degrees: largest turn.
        scale: largest relative change of size.
        draw: random generator.
    """
    n, side = len(x), x.shape[-1]
    shift = 2.0 * pixels / side
    theta = _theta(
        uniform(-degrees, degrees, n, draw),
        1.0 + uniform(-scale, scale, n, draw),
        uniform(-shift, shift, n, draw),
        uniform(-shift, shift, n, draw),
    )
    grid = _mirrored(_grid(theta, x.shape[-2], side))
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def random_places(n: int, low: float, high: float, degrees: float, draw: torch.Generator) -> Tensor:
    """``(n, 2, 3)`` places for `paste`: sides ``low`` to ``high`` of the scene's, wholly inside it."""
    size = uniform(low, high, n, draw)
    x, y = uniform(-1, 1, n, draw) * (1 - size), uniform(-1, 1, n, draw) * (1 - size)
    return _theta(uniform(-degrees, degrees, n, draw), size, x, y)


def paste(scenes: Tensor, patches: Tensor, alpha: Tensor, places: Tensor) -> Tensor:
    """Scenes with a patch blended into each.

    Args:
        scenes: ``(n, 3, h, w)`` in [0, 1].
        patches: ``(n, 3, p, p)`` in [0, 1].
        alpha: ``(p, p)`` or ``(n, 1, p, p)`` opacity in [0, 1].
        places: ``(n, 2, 3)`` from `random_places`.
    """
    opacity = alpha.expand(len(scenes), 1, *alpha.shape[-2:])
    grid = _grid(places, *scenes.shape[-2:])
    laid, cover = (F.grid_sample(x, grid, mode="bilinear", align_corners=False) for x in (patches * opacity, opacity))
    return torch.addcmul(scenes + laid, scenes, cover, value=-1)  # no gradient is taken of what has none


def soft_disc(side: int, softness: float = 0.2) -> Tensor:
    """``(side, side)`` opacity of a disc that fades over ``softness`` of its radius."""
    axis = (torch.arange(side) + 0.5) / side * 2 - 1
    return ((1 - torch.hypot(axis[:, None], axis[None, :])) / softness).clamp(0, 1)


def cut_out(pictures: Tensor, other: Tensor) -> Tensor:
    """Opacity ``(n, 1, p, p)`` of single objects: an object on a plain ground is cut out of it.

    Args:
        pictures: ``(n, 3, p, p)`` in [0, 1].
        other: ``(p, p)`` opacity of those that stand on no plain ground.
    """
    edge = torch.cat([pictures[..., 0, :], pictures[..., -1, :], pictures[..., 0], pictures[..., -1]], dim=2)
    ground = edge.median(dim=2).values[:, :, None, None]
    plain = ((edge - ground[..., 0]).abs().amax(dim=1) < PLAIN).float().mean(dim=1) > 0.5
    opacity = ((pictures - ground).abs().amax(dim=1, keepdim=True) / PLAIN - 0.5).clamp(0, 1)
    plain &= opacity.mean(dim=(1, 2, 3)) > 0.01  # an empty ground is a picture of itself
    return torch.where(plain[:, None, None, None], opacity, other)


def _grid(theta: Tensor, height: int, width: int) -> Tensor:
    """``(n, height, width, 2)`` what `affine_grid` gives for ``(n, 2, 3)`` matrices, in a fraction of its time."""
    x = (torch.arange(width) + 0.5) * (2 / width) - 1
    y = (torch.arange(height) + 0.5) * (2 / height) - 1
    across, down, shift = theta[:, None, None].unbind(-1)
    return across * x[:, None] + (down * y[:, None, None] + shift)


def _mirrored(grid: Tensor) -> Tensor:
    """Places brought inside by one reflection at the edge; so far out that two were needed, they stay at the edge."""
    return torch.add(grid.clamp(-1, 1) * 2, grid, alpha=-1)


def _theta(degrees: Tensor, size: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``(n, 2, 3)`` matrices that look up a picture turned, of relative ``size``, centred at (x, y)."""
    angle = degrees * (math.pi / 180)
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    top = torch.stack([cos, sin, -(cos * x + sin * y)], dim=1)
    bottom = torch.stack([-sin, cos, sin * x - cos * y], dim=1)
    return torch.stack([top, bottom], dim=1)
