"""Attribution by the gradient of the target logit with respect to the input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...images import to_tensor
from ...models.classifier import Classifier
from ...types import Emits, Evidence, Family, Need, Pictures, Task
from ..maps import heatmaps
from ..optim.loop import GRADIENT_BATCH, working_copy
from ..protocol import Subject

Attribute = Callable[[Tensor, int], Tensor]


def mean_colour(net: Classifier) -> Tensor:
    """``(1, 3, 1, 1)`` the mean colour of the network's training pictures: what hidden means."""
    return net.get_buffer("mean")


def explain(subject: Subject, batch: int, method: Callable[[Classifier], Attribute]) -> list[Evidence]:
    """Maps of every triggered picture of every task, for the class that the task targets.

    Args:
        subject: what may be looked at.
        batch: pictures explained at once.
        method: takes the working copy of the network and returns (pictures ``(n, 3, h, w)``, target) ->
            attributions ``(n, c, h, w)``.
    """
    with working_copy(subject.model) as net:
        attribute = method(net)

        def explained(images: Pictures, task: Task) -> NDArray[np.float32]:
            parts = torch.split(to_tensor(images), batch)
            return torch.cat([attribute(x, task.target).detach() for x in parts]).numpy()

        return heatmaps(subject, explained)


@dataclass(frozen=True)
class Saliency:
    """The gradient of the target logit."""

    name: ClassVar[str] = "saliency"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(subject, GRADIENT_BATCH, self._method)

    @staticmethod
    def _method(net: Classifier) -> Attribute:
        def attribute(x: Tensor, target: int) -> Tensor:
            with torch.enable_grad():
                leaf = x.clone().requires_grad_()
                return torch.autograd.grad(net(leaf)[:, target].sum(), leaf)[0]

        return attribute


@dataclass(frozen=True)
class IntegratedGradients:
    """The gradient integrated from the mean colour to the picture, times the difference (Captum).

    Attributes:
        n_steps: points of the integral.
        batch: pictures explained at once; two points of each pass through the network together.
    """

    n_steps: int = 50
    batch: int = 8

    name: ClassVar[str] = "integrated-gradients"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.n_steps < 1 or self.batch < 1:
            raise ValueError("n_steps and batch must be at least 1")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(subject, self.batch, self._method)

    def _method(self, net: Classifier) -> Attribute:
        from captum.attr import IntegratedGradients as Captum  # slow to import

        method = Captum(net)

        def attribute(x: Tensor, target: int) -> Tensor:
            out: Tensor = method.attribute(
                x,
                baselines=mean_colour(net).expand_as(x),
                target=target,
                n_steps=self.n_steps,
                internal_batch_size=2 * self.batch,
            )
            return out

        return attribute
