"""The one optimisation loop of every synthesis tool: Adam on the parameters of many pictures at once.

Pictures of all tasks form one batch of independent rows. The batch is worked off in micro-batches that
stay inside the processor's cache; each is optimised to its end before the next one starts, which gives
the same pictures as interleaving them and keeps the Adam state small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ToolError
from ...models.classifier import Classifier
from ...rng import child_seed
from ...types import Task

GRADIENT_BATCH = 16
"""Most pictures that pass through the network at once while gradients are taken."""

Loss = Callable[[Sequence[Tensor], slice, torch.Generator], Tensor]
"""Loss of a micro-batch: (its parameters, its rows, random generator) -> scalar, summed over rows."""


@contextmanager
def working_copy(model: Classifier) -> Iterator[Classifier]:
    """The folded copy of a network, frozen and faster; its work is added to the network's counters."""
    copy = model.folded()
    try:
        yield copy
    finally:
        model.forwards += copy.forwards
        model.backwards += copy.backwards


def torch_generator(seed: int, *path: str | int) -> torch.Generator:
    """A torch generator for `child_seed(seed, *path)`; the global one is never touched."""
    return torch.Generator().manual_seed(child_seed(seed, *path))


def uniform(low: float, high: float, n: int, draw: torch.Generator) -> Tensor:
    """``(n,)`` floats drawn evenly from ``[low, high)``."""
    return torch.rand(n, generator=draw) * (high - low) + low


def target_rows(tasks: Sequence[Task], pictures: int) -> Tensor:
    """``(tasks * pictures,)`` the target class of each row, task by task."""
    return torch.tensor([t.target for t in tasks]).repeat_interleave(pictures)


def stack_rows(make: Callable[[torch.Generator], Tensor], tasks: Sequence[Task], seed: int, *path: str) -> Tensor:
    """Starting parameters of every row; those of one task do not depend on the other tasks.

    Args:
        make: draws the ``(pictures, ...)`` parameters of one task.
        tasks: the tasks, in order.
        seed: the run's seed.
        path: names that tell these draws from others.
    """
    return torch.cat([make(torch_generator(seed, *path, task.id)) for task in tasks])


def minimise(
    start: Sequence[Tensor], rates: Sequence[float], loss: Loss, steps: int, rows: int, draw: torch.Generator
) -> list[Tensor]:
    """Minimise a loss over rows with Adam; gradients are taken with respect to the parameters only.

    Args:
        start: parameter tensors; the first axis of each counts the rows.
        rates: Adam's learning rate of each tensor.
        loss: the loss of a micro-batch.
        steps: Adam steps.
        rows: rows per micro-batch.
        draw: source of the random draws that `loss` makes.

    Returns:
        The final parameters, in the order of ``start``.

    Raises:
        ToolError: a parameter is no longer finite.
    """
    final = [torch.empty_like(p) for p in start]
    for begin in range(0, len(start[0]), max(1, rows)):
        part = slice(begin, min(begin + max(1, rows), len(start[0])))
        leaves = [p[part].clone().requires_grad_() for p in start]
        adam = _Adam(leaves, rates)
        for _ in range(steps):
            with torch.enable_grad():
                value = loss(leaves, part, draw)
            adam.step(torch.autograd.grad(value, leaves))
        for out, leaf in zip(final, leaves, strict=True):
            out[part] = leaf.detach()
    if not all(bool(torch.isfinite(p).all()) for p in final):
        raise ToolError("optimisation diverged to NaN or infinity; lower lr or check the network's weights")
    return final


class _Adam:
    """Adam with its usual constants; `torch.optim` costs more per step than a small network's pass."""

    def __init__(self, leaves: Sequence[Tensor], rates: Sequence[float]) -> None:
        self.leaves, self.rates, self.steps = leaves, rates, 0
        self.means = [torch.zeros_like(p) for p in leaves]
        self.squares = [torch.zeros_like(p) for p in leaves]

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor]) -> None:
        """Move each parameter against its gradient."""
        self.steps += 1
        bias, bias2 = 1 - 0.9**self.steps, 1 - 0.999**self.steps
        for leaf, rate, grad, mean, square in zip(
            self.leaves, self.rates, grads, self.means, self.squares, strict=True
        ):
            mean.lerp_(grad, 0.1)
            square.mul_(0.999).addcmul_(grad, grad, value=0.001)
            leaf.addcdiv_(mean, square.sqrt().div_(bias2**0.5).add_(1e-8), value=-rate / bias)


def best_first(scores: NDArray[np.float32]) -> list[int]:
    """Indices by falling score; ties keep their order."""
    return [int(i) for i in np.argsort(-scores, kind="stable")]
