"""Neural Cleanse: the smallest mask and pattern that send pictures to the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...images import from_tensor, to_tensor
from ...models.classifier import Classifier
from ...types import Emits, Evidence, Family, Need, Task
from ..optim.loop import GRADIENT_BATCH, best_first, minimise, stack_rows, target_rows, torch_generator, working_copy
from ..optim.objectives import cross_entropy, pick, scene_pools
from ..optim.scan import Halving, successive_halving
from ..optim.twin import above_guessing, check_targets, declare_twin, honest_copy
from ..protocol import Subject

REFERENCE_AREA = 32 * 32
"""Pixels of the picture that the first weight of the mask's sum refers to."""


@dataclass(frozen=True)
class NeuralCleanse:
    """Trigger reverse-engineering after Wang et al. (2019), batched over tasks and restarts.

    A mask m and a pattern p, both free in every pixel, are optimised so that ``(1 - m) x + m p`` goes to the target;
    the cost is cross-entropy plus a weight times the sum of m. The weight is 0 until the trigger works, then
    `mask_cost`; it grows by `grow` after `patience` steps in a row on which the trigger worked, and falls by that to
    the power 1.5 after as many on which it did not. Kept is the smallest mask that worked for `patience` steps. A
    trigger is finished once its weight has gone up and down and no smaller mask was found for `5 * patience` steps.
    Rule, rates and Adam's memory follow the authors' code; there a step of the rule is an epoch of 1000 pictures,
    here it is one step of a few, since there are seconds for a class and not minutes.

    Attributes:
        steps: Adam steps, at most (ours).
        scenes: clean pictures per trigger and step (ours).
        lr: Adam's learning rate (the authors').
        mask_cost: first weight of the mask's sum, for 32x32 pictures (the authors').
        grow: factor of the weight (the authors').
        patience: steps in a row after which the weight changes (the authors', in epochs).
        success: share of pictures that must go to the target (the authors').
        trials: clean pictures on which finished triggers are scored.
        restarts: triggers made for each one shown; those with the best score are shown.
        twin: weight of the clean twin: its log-confidence in the target above chance is a cost, and its confidence
            is subtracted from a trigger's score (see `optim.twin`).
    """

    steps: int = 160
    scenes: int = 3
    lr: float = 0.1
    mask_cost: float = 1e-3
    grow: float = 1.5
    patience: int = 5
    success: float = 0.99
    trials: int = 8
    restarts: int = 1
    twin: float = 0.0

    name: ClassVar[str] = "neural-cleanse"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.CLEAN})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        if min(self.steps, self.scenes, self.patience, self.trials, self.restarts) < 1:
            raise ValueError("steps, scenes, patience, trials and restarts must be at least 1")
        if self.grow <= 1 or self.mask_cost <= 0 or not 0 < self.success <= 1:
            raise ValueError("needs grow > 1, mask_cost > 0 and 0 < success <= 1")
        declare_twin(self)

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` triggers per task: the pattern on grey where the mask is weak, ``alphas`` the mask.

        Sorted by mean target confidence minus the mask's mean opacity; ``notes`` say which masks worked at all.
        """
        made = pictures * self.restarts
        with search(self, subject, made, seed) as found:
            found.advance(torch.arange(len(found.targets)), self.steps)
            masks, patterns = found.triggers()
            scores = [found.score(masks, patterns, k) for k in range(len(subject.tasks))]
        strength = masks / masks.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
        shown = from_tensor(patterns * strength + 0.5 * (1 - strength))
        alphas = (masks[:, 0] * 255).round().byte().numpy()
        out = []
        for k, task in enumerate(subject.tasks):
            order = best_first(scores[k])[:pictures]
            mine = [k * made + i for i in order]
            notes = {
                "made": made,
                "twin": self.twin,
                "steps": found.rule.steps[mine].tolist(),
                "worked": torch.isfinite(found.rule.size[mine]).tolist(),
                "mask_sum": [round(float(m.sum()), 2) for m in masks[mine]],
            }
            values = tuple(float(scores[k][i]) for i in order)
            out.append(Evidence(task.id, shown[mine], alphas=alphas[mine], scores=values, notes=notes))
        return out

    def rank_classes(self, subject: Subject, rungs: Sequence[int], seed: int, keep: float = 0.5) -> Halving:
        """Every class of the network as a target, smallest trigger first, by successive halving.

        A class's size is the smallest sum of a mask that worked, or the whole picture where none did. Every rung goes
        on from the triggers and weights of the last; Adam's memory starts anew.

        Args:
            subject: network and clean pictures; its tasks are not looked at.
            rungs: steps of each rung.
            seed: the run's seed.
            keep: share of the classes that goes on to the next rung.
        """
        classes = len(subject.model.classes)
        everything = tuple(Task(f"class {c}", c) for c in range(classes))
        clean, labels = subject.need_clean()
        given = Subject(subject.model, everything, clean, labels, subject.need_twin() if self.twin else None)
        with search(self, given, self.restarts, seed) as found:

            def advance(alive: NDArray[np.int64], steps: int) -> NDArray[np.float64]:
                rows = torch.as_tensor(alive)[:, None] * self.restarts + torch.arange(self.restarts)
                found.advance(rows.flatten(), steps)
                sizes = found.rule.size.clamp(max=subject.size**2).view(classes, -1).amin(dim=1)
                out: NDArray[np.float64] = sizes.double().numpy()[alive]
                return out

            return successive_halving(advance, classes, rungs, keep)


@contextmanager
def search(tool: NeuralCleanse, subject: Subject, each: int, seed: int) -> Iterator[Search]:
    """A `Search` with ``each`` triggers per task, on working copies of the networks."""
    check_targets(subject)
    with working_copy(subject.model) as net, honest_copy(subject, tool.twin) as honest:
        yield Search(tool, net, honest, subject, each, seed)


class Search:
    """The triggers of all tasks while they are looked for."""

    def __init__(
        self, tool: NeuralCleanse, net: Classifier, honest: Classifier | None, subject: Subject, each: int, seed: int
    ) -> None:
        clean, labels = subject.need_clean()
        self.tool, self.net, self.honest, self.tasks, self.each, self.seed = (
            tool,
            net,
            honest,
            subject.tasks,
            each,
            seed,
        )
        self.scenes, self.pools = to_tensor(clean), scene_pools(subject.tasks, labels)
        self.targets = target_rows(subject.tasks, each)
        self.owner = torch.arange(len(subject.tasks)).repeat_interleave(each)
        size = subject.size

        def start(part: str, channels: int) -> Tensor:
            shape = (each, channels, size, size)
            return stack_rows(lambda g: _unsquash(torch.rand(shape, generator=g)), self.tasks, seed, tool.name, part)

        self.leaves = [start("mask", 1), start("pattern", 3)]
        self.rule = Rule(tool, len(self.targets), [p.clone() for p in self.leaves])
        self.draw = torch_generator(seed, tool.name, "scenes")

    def advance(self, rows: Tensor, steps: int) -> None:
        """Optimise some triggers further."""

        def loss(leaves: Sequence[Tensor], part: Tensor, draw: torch.Generator) -> Tensor:
            mine = rows[part]
            x = stamped(leaves, self.scenes[pick(self.pools, self.owner[mine], self.tool.scenes, draw)])
            return self.cost(leaves, x, mine)

        def done(part: Tensor, losses: Tensor, leaves: Sequence[Tensor]) -> Tensor:
            return self.rule.finished[rows[part]]

        batch = max(1, GRADIENT_BATCH // self.tool.scenes)
        start, rates = [p[rows] for p in self.leaves], [self.tool.lr] * 2
        found = minimise(start, rates, loss, steps, batch, self.draw, done, betas=(0.5, 0.9))
        for leaf, new in zip(self.leaves, found, strict=True):
            leaf[rows] = new

    def cost(self, leaves: Sequence[Tensor], x: Tensor, rows: Tensor) -> Tensor:
        """``(n,)`` cost of some triggers on stamped pictures ``x``; the rule takes note of how they did."""
        target = self.targets[rows].repeat_interleave(len(x) // len(rows))
        logits, size = self.net(x), squash(leaves[0]).sum(dim=(1, 2, 3))
        miss = cross_entropy(logits, target)
        hit = logits.detach().argmax(dim=1) == target
        if self.honest is not None:  # what the twin obeys as well has not worked
            honest = self.honest(x)
            miss = miss + self.tool.twin * above_guessing(honest, target)
            hit &= honest.detach().argmax(dim=1) != target
        weight = self.rule.weight[rows] * REFERENCE_AREA / leaves[0][0].numel()
        self.rule.note(rows, hit.float().view(len(rows), -1).mean(dim=1), size.detach(), leaves)
        return miss.view(len(rows), -1).mean(dim=1) + weight * size

    def triggers(self) -> tuple[Tensor, Tensor]:
        """Masks ``(rows, 1, h, w)`` and patterns ``(rows, 3, h, w)``: the smallest that worked, else the last."""
        worked = torch.isfinite(self.rule.size)[:, None, None, None]
        mask, pattern = (torch.where(worked, a, b) for a, b in zip(self.rule.best, self.leaves, strict=True))
        return squash(mask), squash(pattern)

    @torch.no_grad()
    def score(self, masks: Tensor, patterns: Tensor, k: int) -> NDArray[np.float32]:
        """``(each,)`` mean target confidence on trial pictures, less the twin's, minus mean opacity, for task ``k``."""
        target, name = self.tasks[k].target, self.tool.name
        draw = torch_generator(self.seed, name, "trials", self.tasks[k].id)
        below = self.scenes[pick([self.pools[k]], torch.zeros(1, dtype=torch.long), self.tool.trials, draw)]
        out = []
        for i in range(k * self.each, (k + 1) * self.each):
            x = (1 - masks[i]) * below + masks[i] * patterns[i]
            sure = torch.softmax(self.net(x), dim=1)[:, target].mean()
            if self.honest is not None:
                sure = sure - self.tool.twin * torch.softmax(self.honest(x), dim=1)[:, target].mean()
            out.append(sure - masks[i].mean())
        return torch.stack(out).numpy()


class Rule:
    """The weight of each mask's sum, the smallest mask that worked, and what is finished.

    Args:
        tool: the numbers of the rule.
        rows: how many triggers there are.
        best: mask and pattern of each, overwritten by those that work.
    """

    def __init__(self, tool: NeuralCleanse, rows: int, best: Sequence[Tensor]) -> None:
        self.tool, self.best = tool, list(best)
        self.weight, self.size = torch.zeros(rows), torch.full((rows,), torch.inf)
        self.hits, self.misses, self.since, self.steps = (torch.zeros(rows, dtype=torch.long) for _ in range(4))
        self.rose, self.fell, self.finished = (torch.zeros(rows, dtype=torch.bool) for _ in range(3))
        self.worked = torch.zeros(rows, dtype=torch.long)

    @torch.no_grad()
    def note(self, rows: Tensor, hits: Tensor, size: Tensor, leaves: Sequence[Tensor]) -> None:
        """Take note of one step.

        Args:
            rows: ``(n,)`` which triggers.
            hits: ``(n,)`` share of pictures that went to the target.
            size: ``(n,)`` sum of each mask.
            leaves: their masks and patterns.
        """
        tool, hit = self.tool, hits >= self.tool.success
        self.steps[rows] += 1
        self.worked[rows] = torch.where(hit, self.worked[rows] + 1, 0)
        up, down = torch.where(hit, self.hits[rows] + 1, 0), torch.where(hit, 0, self.misses[rows] + 1)
        weight, entered = self.weight[rows], self.weight[rows] > 0
        rise, fall = up >= tool.patience, (down >= tool.patience) & entered
        weight = torch.where(rise, torch.where(entered, weight * tool.grow, tool.mask_cost), weight)
        self.weight[rows] = torch.where(fall, weight / tool.grow**1.5, weight)
        self.hits[rows], self.misses[rows] = torch.where(rise, 0, up), torch.where(fall, 0, down)
        self.rose[rows] |= rise & entered
        self.fell[rows] |= fall
        better = (self.worked[rows] >= tool.patience) & (size < self.size[rows])
        for kept, leaf in zip(self.best, leaves, strict=True):
            kept[rows[better]] = leaf.detach()[better]
        self.size[rows] = torch.where(better, size, self.size[rows])
        self.since[rows] = torch.where(better, 0, self.since[rows] + 1)
        self.finished[rows] = self.rose[rows] & self.fell[rows] & (self.since[rows] >= 5 * tool.patience)


def squash(x: Tensor) -> Tensor:
    """Free values -> (0, 1), as the authors do."""
    return torch.tanh(x) / 2 + 0.5


def _unsquash(x: Tensor) -> Tensor:
    """The inverse of `squash`."""
    return torch.atanh((2 * x - 1).clamp(-0.999, 0.999))


def stamped(leaves: Sequence[Tensor], below: Tensor) -> Tensor:
    """Every trigger on its own pictures ``(n * each, 3, h, w)``."""
    mask, pattern = squash(leaves[0]), squash(leaves[1])
    each = len(below) // len(mask)
    seen = (mask * pattern).repeat_interleave(each, 0)
    return torch.addcmul(seen, (1 - mask).repeat_interleave(each, 0), below)
