"""The parts every optimisation tool shares: pictures as spectra, random views, pasting, independent rows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gifthorse.tools.optim.loop import minimise, torch_generator
from gifthorse.tools.optim.params import FourierImage, _Contrast
from gifthorse.tools.optim.transforms import (
    _grid,
    _mirrored,
    _theta,
    jitter_view,
    paste,
    random_places,
    soft_disc,
)

SIDE = 32


def test_fourier_pictures_do_not_saturate() -> None:
    image = FourierImage(SIDE)
    spectra = image.start(4, torch_generator(0)) * 100  # far gone
    x = image(spectra)
    assert x.shape == (4, 3, SIDE, SIDE)
    assert ((x < 0.02) | (x > 0.98)).float().mean() < 0.02
    assert x.std() > 0.15


def test_transforms_place_what_they_say() -> None:
    scenes, red = torch.zeros(8, 3, SIDE, SIDE), torch.ones(8, 3, 16, 16)
    out = paste(scenes, red, torch.ones(16, 16), random_places(8, 0.5, 0.5, 0.0, torch_generator(0)))
    assert out.mean().item() == pytest.approx(0.25, abs=0.01)
    assert out[:, 0].flatten(1).std(dim=1).min() > 0.3
    still = jitter_view(out, 0, 0, 0, torch_generator(0))
    assert torch.allclose(still, out, atol=1e-5)
    disc = soft_disc(32)
    assert disc[0, 0] == 0
    assert disc[16, 16] == 1


def test_rows_are_independent_of_micro_batches() -> None:
    start, goal = torch.zeros(7, 3), torch.arange(21.0).view(7, 3) / 20

    def loss(leaves: list[torch.Tensor], part: slice, draw: torch.Generator) -> torch.Tensor:
        return (leaves[0] - goal[part]).square().sum()

    runs = [minimise([start], [0.1], loss, 200, rows, torch_generator(0))[0] for rows in (1, 3, 7)]
    assert torch.allclose(runs[0], goal, atol=1e-2)
    assert torch.allclose(runs[0], runs[2], atol=1e-6)
    assert torch.allclose(runs[1], runs[2], atol=1e-6)


def test_held_contrast_has_the_gradient_that_autograd_gives() -> None:
    x = torch.randn(3, 20, dtype=torch.double, generator=torch_generator(0)).requires_grad_()
    plain = torch.sigmoid(x * (1.3 / (x.std(dim=1, keepdim=True) + 1e-8)))
    assert torch.allclose(_Contrast.apply(x, 1.3), plain)
    assert torch.autograd.gradcheck(lambda rows: _Contrast.apply(rows, 1.3), (x,))


def test_places_are_those_of_torch_mirrored_at_the_edge() -> None:
    turn, shift = torch.tensor([0.0, 20.0, -75.0]), torch.tensor([0.0, 0.4, -0.3])
    theta, x = _theta(turn, torch.tensor([1.0, 0.8, 1.5]), shift, -shift), torch.rand(3, 2, 12, 20)
    grid = F.affine_grid(theta, [3, 2, 12, 20], align_corners=False)
    assert torch.allclose(_grid(theta, 12, 20), grid, atol=1e-6)
    assert grid.abs().max() > 1.3
    wanted = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    assert torch.allclose(
        F.grid_sample(x, _mirrored(grid), padding_mode="border", align_corners=False), wanted, atol=1e-5
    )
