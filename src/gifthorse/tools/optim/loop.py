"""The one optimisation loop of every synthesis tool: Adam on the parameters of many pictures at once.

Pictures of all tasks form one batch of independent rows. The batch is worked off in micro-batches that
stay inside the processor's cache; each is optimised to its end before the next one starts, which gives
the same pictures as interleaving them and keeps the Adam state small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

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

Loss = Callable[[Sequence[Tensor], Any, torch.Generator], Tensor]
"""Loss of a micro-batch: (its parameters, its rows, random generator) -> scalar, summed over rows, or ``(rows,)``.

The rows are a slice, or ``(rows,)`` indices where finished rows drop out. Both index a tensor.
"""

Done = Callable[[Tensor, Tensor, Sequence[Tensor]], Tensor]
"""Which rows have converged: (indices of the rows, their losses, their parameters) -> ``(rows,)`` bool."""


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
    start: Sequence[Tensor],
    rates: Sequence[float],
    loss: Loss,
    steps: int,
    rows: int,
    draw: torch.Generator,
    done: Done | None = None,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    still: bool = False,
) -> list[Tensor]:
    """Minimise a loss over rows with Adam; gradients are taken with respect to the parameters only.

    Args:
        start: parameter tensors; the first axis of each counts the rows.
        rates: Adam's learning rate of each tensor.
        loss: the loss of a micro-batch.
        steps: Adam steps, at most.
        rows: rows per micro-batch.
        draw: source of the random draws that `loss` makes.
        done: asked after every step which rows have converged; these take part in no further one.
        betas: Adam's memory of gradients and of their squares.
        still: whether the parameters may stay where they started, as where a network is compared with itself.

    Returns:
        The final parameters, in the order of ``start``.

    Raises:
        ToolError: a parameter is no longer finite, or none has moved.
    """
    final = [torch.empty_like(p) for p in start]
    for begin in range(0, len(start[0]), max(1, rows)):
        part = slice(begin, min(begin + max(1, rows), len(start[0])))
        left: Any = part if done is None else torch.arange(part.start, part.stop)
        leaves = [p[part].clone().requires_grad_() for p in start]
        adam = _Adam(leaves, rates, betas)
        for _ in range(steps):
            with torch.enable_grad():
                losses = loss(leaves, left, draw)
            adam.step(torch.autograd.grad(losses.sum(), leaves))
            if done is not None and bool((ready := done(left, losses.detach(), leaves)).any()):
                for out, leaf in zip(final, leaves, strict=True):
                    out[left[ready]] = leaf.detach()[ready]
                left, leaves = left[~ready], adam.keep(~ready)
                if not len(left):
                    break
        for out, leaf in zip(final, leaves, strict=True):
            out[left] = leaf.detach()
        if not all(bool(torch.isfinite(p[part]).all()) for p in final):
            raise ToolError("optimisation diverged to NaN or infinity; lower lr or check the network's weights")
    if not still and all(torch.equal(out, p) for out, p in zip(final, start, strict=True)):
        raise ToolError("no gradient reaches the pictures: the targets cannot be reached; check the network's weights")
    return final


class Plateau:
    """A row has converged when the running mean of its loss has not fallen for a while.

    Args:
        rows: how many rows there are.
        patience: steps without a new low after which a row is finished; 0 lets every row run on.
        least: by which share of its whole fall so far the mean has to fall to count.
    """

    def __init__(self, rows: int, patience: int, least: float = 0.01) -> None:
        self.patience, self.least = patience, least
        self.steps, self.since = torch.zeros(rows, dtype=torch.long), torch.zeros(rows, dtype=torch.long)
        self.first, self.mean, self.low = (torch.zeros(rows) for _ in range(3))

    def __call__(self, rows: Tensor, losses: Tensor, leaves: Sequence[Tensor]) -> Tensor:
        """``(rows,)`` whether each is finished; `steps` counts how many each took."""
        new = self.steps[rows] == 0
        self.steps[rows] += 1
        if not self.patience:
            return torch.zeros(len(rows), dtype=torch.bool)
        first, low = (torch.where(new, losses, old[rows]) for old in (self.first, self.low))
        mean = torch.where(new, losses, self.mean[rows].lerp(losses, 0.1))
        fell = new | (mean < low - self.least * (first - low))
        self.first[rows], self.mean[rows], self.low[rows] = first, mean, torch.where(fell, mean, low)
        self.since[rows] = torch.where(fell, 0, self.since[rows] + 1)
        return self.since[rows] >= self.patience


class _Adam:
    """Adam with its usual constants; `torch.optim` costs more per step than a small network's pass."""

    def __init__(self, leaves: Sequence[Tensor], rates: Sequence[float], betas: tuple[float, float]) -> None:
        self.leaves, self.rates, self.betas, self.steps = list(leaves), rates, betas, 0
        self.means = [torch.zeros_like(p) for p in leaves]
        self.squares = [torch.zeros_like(p) for p in leaves]

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor]) -> None:
        """Move each parameter against its gradient."""
        self.steps += 1
        b1, b2 = self.betas
        bias, bias2 = 1 - b1**self.steps, 1 - b2**self.steps
        for leaf, rate, grad, mean, square in zip(
            self.leaves, self.rates, grads, self.means, self.squares, strict=True
        ):
            mean.lerp_(grad, 1 - b1)
            square.mul_(b2).addcmul_(grad, grad, value=1 - b2)
            leaf.addcdiv_(mean, square.sqrt().div_(bias2**0.5).add_(1e-8), value=-rate / bias)

    @torch.no_grad()
    def keep(self, rows: Tensor) -> list[Tensor]:
        """Go on with some of the rows; their parameters, as leaves."""
        self.leaves = [p.detach()[rows].requires_grad_() for p in self.leaves]
        self.means, self.squares = [m[rows] for m in self.means], [s[rows] for s in self.squares]
        return self.leaves


def best_first(scores: NDArray[np.float32]) -> list[int]:
    """Indices by falling score; ties keep their order."""
    return [int(i) for i in np.argsort(-scores, kind="stable")]
