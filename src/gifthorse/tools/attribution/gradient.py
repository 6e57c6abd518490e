"""Attribution by the gradient of the target logit with respect to the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...errors import ToolError
from ...images import to_tensor
from ...models.classifier import Classifier
from ...rng import generator
from ...types import Emits, Evidence, Family, Need
from ..optim.loop import GRADIENT_BATCH
from ..protocol import Subject
from .engine import Program, leaf, rows_of
from .explain import Attribute, Part, explain, mean_colour

Function = Callable[[Tensor], Tensor]


def input_gradient(function: Function, x: Tensor, target: int) -> Tensor:
    """Gradient of the target's logit with respect to ``x``, row by row."""
    with torch.enable_grad():
        held = leaf(x)
        return torch.autograd.grad(function(held)[:, target].sum(), held)[0]


def batched_gradient(function: Function, x: Tensor, target: int, rows: int) -> Tensor:
    """`input_gradient` in micro-batches."""
    return torch.cat([input_gradient(function, part, target) for part in torch.split(x, rows)])


@dataclass(frozen=True)
class Saliency:
    """The size of the target logit's gradient (Simonyan et al. 2014); nothing to choose."""

    name: ClassVar[str] = "saliency"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, GRADIENT_BATCH, self._method, low=True)

    @staticmethod
    def _method(net: Classifier, notes: dict[str, Any]) -> Attribute:
        return lambda part: input_gradient(net, part.x, part.target).abs()


@dataclass(frozen=True)
class InputXGradient:
    """Input times gradient (Shrikumar et al. 2016); nothing to choose.

    The input is the normalised picture, as the network sees it, so the mean colour gets nothing.
    """

    name: ClassVar[str] = "input-x-gradient"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, GRADIENT_BATCH, self._method, low=True)

    @staticmethod
    def _method(net: Classifier, notes: dict[str, Any]) -> Attribute:
        return lambda part: (part.x - mean_colour(net)) * input_gradient(net, part.x, part.target)


@dataclass(frozen=True)
class IntegratedGradients:
    """The gradient integrated from the mean colour to the picture, times the difference (Sundararajan et al. 2017).

    Points and weights are those of Gauss and Legendre, as in Captum. Layers up to the first non-linear one are
    affine, so they are gone through once, and back once, rather than at every point.

    Attributes:
        n_steps: points of the integral; Captum's 50, within the paper's 20 to 300.
        batch: points that pass through the network together (ours).
    """

    n_steps: int = 50
    batch: int = 16

    name: ClassVar[str] = "integrated-gradients"
    version: ClassVar[int] = 2
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.n_steps < 1 or self.batch < 1:
            raise ValueError("n_steps and batch must be at least 1")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, self.batch, self._method, low=True)

    def _method(self, net: Classifier, notes: dict[str, Any]) -> Attribute:
        path = Path(net, self.n_steps, self.batch)
        return lambda part: path.integrate(part.x, mean_colour(net).expand_as(part.x), part.target)


class Path:
    """Integrals of the gradient along straight lines between pictures.

    Args:
        net: the working copy.
        n_steps: points of the integral.
        batch: points that pass through the network together at 64 pixels, see `rows_of`.
    """

    def __init__(self, net: Classifier, n_steps: int, batch: int) -> None:
        points, weights = np.polynomial.legendre.leggauss(n_steps)
        self.points = torch.tensor((1 + points) / 2, dtype=torch.float32)
        self.weights = torch.tensor(weights / 2, dtype=torch.float32)
        self.net, self.batch = net, batch
        try:
            self.program = Program(net, "integrated-gradients")
        except ToolError:  # nothing to share: every point takes the whole way
            self.head: Function = lambda x: x
            self.tail: Function = net
            return
        self.cut = self.program.affine()
        self.head = lambda x: self.program.span(net.normalise(x), 1, self.cut)
        self.tail = lambda h: self.program.span(h, self.cut, len(self.program.ops))

    def integrate(self, x: Tensor, baseline: Tensor, target: int) -> Tensor:
        """Integrated gradients ``(n, 3, h, w)`` from baseline to picture, both ``(n, 3, h, w)``."""
        with torch.enable_grad():
            held = leaf(x)
            end = self.head(held)
        start = self.head(baseline)
        step = end.detach() - start
        total = torch.zeros_like(step, dtype=torch.promote_types(step.dtype, torch.float32))
        rows = rows_of(self.net, self.batch)
        for i, row in enumerate(torch.split(torch.arange(len(x)).repeat_interleave(len(self.points)), rows)):
            at = torch.arange(len(row)) + i * rows
            alpha = self.points[at % len(self.points)].view(-1, *[1] * (step.ndim - 1))
            if self.tail is not self.net:
                self.net.forwards += len(row)
                self.net.backwards += len(row)
            slopes = input_gradient(self.tail, (start[row] + alpha * step[row]).to(step.dtype), target)
            total.index_add_(0, row, slopes * self.weights[at % len(self.weights)].view_as(alpha))
        return torch.autograd.grad(end, held, total.to(end.dtype))[0] * (x - baseline)


@dataclass(frozen=True)
class GradientShap:
    """Expected gradients between clean pictures and the picture (Lundberg and Lee 2017; Erion et al. 2021).

    Each sample takes the gradient at a random point between the picture and a random clean one, times their
    difference. Samples belong to a picture, so its map does not depend on its neighbours.

    Attributes:
        n_samples: samples per picture (Captum's 5).
        stdev: spread of the noise added to the picture first, in units of its range [0, 1] (Captum's 0).
        baselines: clean pictures drawn as the background (ours).
    """

    n_samples: int = 5
    stdev: float = 0.0
    baselines: int = 16

    name: ClassVar[str] = "gradient-shap"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED, Need.CLEAN})
    emits: ClassVar[Emits] = "heatmaps"

    def __post_init__(self) -> None:
        if self.n_samples < 1 or self.baselines < 1 or self.stdev < 0:
            raise ValueError("n_samples and baselines must be at least 1, stdev at least 0")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture."""
        background = draw_clean(subject, self.baselines, seed, self.name)

        def method(net: Classifier, notes: dict[str, Any]) -> Attribute:
            return lambda part: self.attribute(net, part, background, seed)

        return explain(self.name, subject, GRADIENT_BATCH, method, low=True)

    def attribute(self, net: Classifier, part: Part, background: Tensor, seed: int) -> Tensor:
        """Attributions ``(n, 3, h, w)``."""
        x = part.x.repeat_interleave(self.n_samples, 0)
        alpha, which, noise = self._draw(part, len(background), seed)
        base, x = background[which], x + self.stdev * noise if self.stdev else x
        slopes = batched_gradient(net, base + alpha * (x - base), part.target, rows_of(net, GRADIENT_BATCH))
        return torch.unflatten((x - base) * slopes, 0, (-1, self.n_samples)).mean(1)

    def _draw(self, part: Part, background: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Positions ``(n * n_samples, 1, 1, 1)``, background pictures ``(n * n_samples,)`` and noise."""
        draws = part.draws(seed, self.name)
        alpha = np.concatenate([d.random((self.n_samples, 1, 1, 1), np.float32) for d in draws])
        which = np.concatenate([d.integers(0, background, self.n_samples) for d in draws])
        if not self.stdev:
            return torch.as_tensor(alpha), torch.as_tensor(which), torch.zeros(())
        noise = np.concatenate([d.standard_normal((self.n_samples, *part.x.shape[1:]), np.float32) for d in draws])
        return torch.as_tensor(alpha), torch.as_tensor(which), torch.as_tensor(noise)


def draw_clean(subject: Subject, n: int, seed: int, name: str) -> Tensor:
    """``(n, 3, h, w)`` clean pictures, drawn once for all tasks; all of them where there are fewer."""
    clean, _ = subject.need_clean()
    return to_tensor(clean[generator(seed, name, "background").permutation(len(clean))[:n]])


@dataclass(frozen=True)
class SmoothGrad:
    """The size of the gradient's mean over noisy copies of the picture (Smilkov et al. 2017).

    Attributes:
        n_samples: noisy copies (the paper's 50).
        noise: spread of the noise as a share of the picture's own range (the paper's 10 to 20 %).
    """

    n_samples: int = 50
    noise: float = 0.15

    name: ClassVar[str] = "smooth-grad"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"

    def __post_init__(self) -> None:
        if self.n_samples < 1 or self.noise < 0:
            raise ValueError("n_samples must be at least 1, noise at least 0")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture."""
        return explain(
            self.name, subject, 1, lambda net, notes: lambda part: self._attribute(net, part, seed), low=True
        )

    def _attribute(self, net: Classifier, part: Part, seed: int) -> Tensor:
        (draw,) = part.draws(seed, self.name)
        noise = torch.as_tensor(draw.standard_normal((self.n_samples, *part.x.shape[1:]), np.float32))
        noisy = part.x + self.noise * (part.x.max() - part.x.min()) * noise
        return batched_gradient(net, noisy, part.target, rows_of(net, GRADIENT_BATCH)).mean(0, keepdim=True).abs()
