"""What every attribution method shares: the working copy, micro-batches, and the maps of all tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ToolError
from ...images import to_tensor
from ...models.classifier import Classifier
from ...rng import generator
from ...types import Evidence, Pictures, Task
from ..maps import heatmaps
from ..optim.loop import working_copy
from ..protocol import Subject


@dataclass(frozen=True)
class Part:
    """Neighbouring triggered pictures of one task.

    Attributes:
        x: ``(n, 3, h, w)`` pictures in [0, 1].
        target: index of the class to explain.
        task: the task's id.
        first: place of the first picture among those of its task.
    """

    x: Tensor
    target: int
    task: str
    first: int

    def draws(self, seed: int, name: str) -> list[np.random.Generator]:
        """One source of random numbers per picture, the same whatever is explained beside it."""
        return [generator(seed, name, self.task, self.first + i) for i in range(len(self.x))]


Attribute = Callable[[Part], Tensor]
Method = Callable[[Classifier, dict[str, Any]], Attribute]


def mean_colour(net: Classifier) -> Tensor:
    """``(1, 3, 1, 1)`` the mean colour of the network's training pictures: what hidden means."""
    return net.get_buffer("mean")


def explain(subject: Subject, batch: int, method: Method) -> list[Evidence]:
    """Maps of every triggered picture of every task, for the class that the task targets.

    Args:
        subject: what may be looked at.
        batch: pictures explained at once.
        method: takes the working copy of the network and the evidence's notes, to which it may add, and returns
            part -> attributions ``(n, c, h, w)``.

    Raises:
        ToolError: a picture or a target does not fit the network.
    """
    notes: dict[str, Any] = {}
    with working_copy(subject.model) as net:
        attribute = method(net, notes)

        def explained(images: Pictures, task: Task) -> NDArray[np.float32]:
            _check(net, images, task)
            parts = torch.split(to_tensor(images), batch)
            maps = [attribute(Part(x, task.target, task.id, i * batch)).detach() for i, x in enumerate(parts)]
            return torch.cat(maps).numpy()

        return heatmaps(subject, explained, notes)


def _check(net: Classifier, images: Pictures, task: Task) -> None:
    """Refuse what the network cannot be asked."""
    if images.ndim != 4 or images.shape[1:] != (net.size, net.size, 3) or not len(images):
        raise ToolError(
            f"{task.id}: pictures {images.shape} do not fit a network of {net.size}x{net.size}x3; give one or more "
            "colour pictures of that size"
        )
    if not 0 <= task.target < len(net.classes):
        raise ToolError(f"{task.id}: target {task.target} is none of the network's {len(net.classes)} classes")
