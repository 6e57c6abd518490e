"""CPPN pictures: lucid's network, no plain colours, and as far up as spectra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gifthorse.tools.optim.loop import torch_generator
from gifthorse.tools.optim.params import EVEN, MIDDLE, ODD, CppnImage, _Both
from gifthorse.tools.synthesis.cppn import Cppn
from gifthorse.tools.synthesis.feature_vis import FeatureVis
from synthesis_support import HORIZONTAL, VERTICAL, subject


def test_cppn_pictures_are_lucids_network() -> None:
    image = CppnImage(12, layers=4, width=5)
    params = image.start(2, torch_generator(0)) + 0.1 * torch.randn(2, 5 * 2 + 5 + 2 * (5 * 10 + 5) + 3 * 10 + 3)
    axis = torch.linspace(-math.sqrt(3), math.sqrt(3), 12)
    matrix = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1.0]])
    matrix = (F.normalize(matrix, dim=1) * torch.tensor([[1], [0.45], [0.25]])).T
    for row, got in zip(params, image(params), strict=True):
        x, at = torch.stack([axis.expand(12, 12), axis[:, None].expand(12, 12)])[None], 0
        for i, (out, inputs) in enumerate([(5, 2), (5, 10), (5, 10), (3, 10)]):
            conv = nn.Conv2d(inputs, out, 1)
            conv.weight.data = row[at : at + out * inputs].view(out, inputs, 1, 1)
            conv.bias.data = row[at + out * inputs : at + out * inputs + out]
            at += out * inputs + out
            x = conv(x)
            if i < 3:
                x = torch.cat([torch.atan(x) / 0.67, (torch.atan(x).square() - 0.45) / 0.396], 1)
        colours = (matrix @ x.flatten(2))[0]
        mean = colours.mean(1, keepdim=True)
        logits = 1.3 * ((colours - mean) / (colours - mean).std() + torch.tanh(mean))
        assert torch.allclose(got, torch.sigmoid(logits).view(3, 12, 12), atol=1e-3)
    x = torch.randn(2, 3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(_Both.apply, x)
    bent = torch.atan(torch.randn(100_000, generator=torch_generator(0)))
    rest = bent.square() - MIDDLE
    assert (bent.std(), rest.mean(), rest.std()) == pytest.approx((ODD, 0, EVEN), abs=0.005)


def test_no_cppn_picture_is_plain_and_a_sketch_is_the_picture_small() -> None:
    image = CppnImage(32, sketch=16)
    params = image.start(4, torch_generator(0))
    params[:, -3:] = 50.0  # a bias that would make every pixel white
    whole, sketch = image.finished(params), image(params)
    assert whole.std(dim=(2, 3)).min() > 0.02
    assert whole.shape == sketch.shape
    assert (F.avg_pool2d(whole, 4) - F.avg_pool2d(sketch, 4)).abs().mean() < 0.03
    assert torch.equal(CppnImage(32)(params), whole)


def test_a_cppn_goes_as_far_as_a_spectrum() -> None:
    """Judged on the toy's stripes; on planted networks the docs have figures."""
    given = subject(VERTICAL, HORIZONTAL)
    drawn = Cppn(steps=100, patience=0, degrees=5.0).run(given, 2, 0)
    spectra = FeatureVis(steps=100, degrees=5.0).run(given, 2, 0)
    for one, other in zip(drawn, spectra, strict=True):
        assert np.mean(one.scores) > 0.5 * np.mean(other.scores)
        assert one.images.std(axis=(1, 2)).max(axis=-1).min() > 20
