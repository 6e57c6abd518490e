"""FeatureRE: a change of the whole picture that moves its features to where the target is decided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...images import from_tensor, to_tensor
from ...models.classifier import FORWARD_BATCH, Classifier
from ...types import Emits, Evidence, Family, Need
from ..optim.layers import head_weights
from ..optim.loop import GRADIENT_BATCH, Plateau, best_first, minimise, stack_rows, torch_generator, working_copy
from ..optim.objectives import cross_entropy, pick, scene_pools
from ..optim.twin import above_chance, check_targets, declare_twin, honest_copy
from ..protocol import Subject

HIDDEN, FIRST, SECOND = 8, 7, 5
"""Channels between the two convolutions of a transform, and the sides of their kernels."""


@dataclass(frozen=True)
class FeatureRE:
    """Trigger inversion in feature space after Wang et al. (NeurIPS 2022), simplified.

    The paper's observation: features of triggered pictures agree in some units (a hyperplane), whatever else is in
    the picture. So a transform F of the picture and a mask m over the units are optimised together: the features
    ``(1 - m) a(x) + m mean(a(F(x)))`` must go to the target, the masked features of the transformed pictures must
    agree, F must stay near the identity and m small. The last two are hinges, as in the paper.

    What differs: F is two small convolutions beside a colour matrix, where the paper trains a U-Net; the features are
    the pooled last block, where the paper cuts a network in the middle; distance is mean absolute change, without the
    paper's structural similarity. So F can be a tint, a blur, an edge or a fine repeated texture; it cannot draw a
    shape at a place. The transformed pictures themselves are asked to go to the target as well: a hyperplane in the
    last block is reached without that. Masks start as wide as costs nothing. Weights and numbers are ours.

    Shown are clean pictures after the best transform of a task.

    Attributes:
        steps: Adam steps, at most.
        scenes: clean pictures per transform and step; at least 2, since their features have to agree.
        lr: Adam's learning rate of the transform.
        lr_mask: Adam's learning rate of the unit mask.
        far: mean absolute change of a pixel that costs nothing.
        wide: share of the units in the mask that costs nothing.
        whole: weight of the cross-entropy of the transformed pictures themselves.
        spread: weight of the spread of the masked features over pictures, relative to their own mean.
        restarts: transforms per task; the best is shown.
        trials: clean pictures on which finished transforms are scored.
        patience: steps without progress after which a transform is finished; 0: never.
        twin: weight of the clean twin: its log-confidence in the target above chance is a cost, and its confidence
            is subtracted from the score (see `optim.twin`).
    """

    steps: int = 160
    scenes: int = 4
    lr: float = 0.01
    lr_mask: float = 0.1
    far: float = 0.15
    wide: float = 0.1
    whole: float = 1.0
    spread: float = 0.5
    restarts: int = 1
    trials: int = 16
    patience: int = 50
    twin: float = 0.0

    name: ClassVar[str] = "feature-re"
    version: ClassVar[int] = 2
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.CLEAN})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        if min(self.steps, self.restarts, self.trials) < 1 or self.scenes < 2 or self.patience < 0:
            raise ValueError("needs steps, restarts and trials >= 1, scenes >= 2 and patience >= 0")
        if not (0 < self.far < 1 and 0 < self.wide < 1):
            raise ValueError("far and wide must lie in (0, 1)")
        declare_twin(self)

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` transformed clean pictures per task, sorted by the target's confidence in each.

        Raises:
            ToolError: a network without a pooled last block and a linear head.
        """
        check_targets(subject)
        clean, labels = subject.need_clean()
        scenes, pools = to_tensor(clean), scene_pools(subject.tasks, labels)
        out, each = [], self.restarts
        with working_copy(subject.model) as net, honest_copy(subject, self.twin) as honest:
            weights, masks, steps = self._optimise(net, honest, subject, scenes, pools, seed)
            for k, task in enumerate(subject.tasks):
                order = torch.randperm(len(pools[k]), generator=torch_generator(seed, self.name, "shown", task.id))
                below = scenes[pools[k][order[: max(self.trials, pictures)]]]
                mine, sure = [], []
                for row in range(k * each, (k + 1) * each):
                    changed = restyled(weights[row : row + 1], below)
                    mine.append(changed)
                    sure.append(self._confidence(net, honest, changed, task.target))
                means = np.array([s.mean() for s in sure], np.float32)
                best = best_first(means)[0]
                first = best_first(sure[best])[:pictures]
                first = (first * -(-pictures // len(first)))[:pictures]
                notes = {
                    "made": each,
                    "twin": self.twin,
                    "steps": steps[k * each + best],
                    "confidence": round(float(means[best]), 4),
                    "change": round(float((mine[best] - below).abs().mean()), 4),
                    "units": round(float(masks[k * each + best].mean()), 4),
                }
                values = tuple(sorted((float(sure[best][i]) for i in first), reverse=True))
                first.sort(key=lambda i: -sure[best][i])
                out.append(Evidence(task.id, from_tensor(mine[best][first]), scores=values, notes=notes))
        return out

    def _optimise(
        self,
        net: Classifier,
        honest: Classifier | None,
        subject: Subject,
        scenes: Tensor,
        pools: Sequence[Tensor],
        seed: int,
    ) -> tuple[Tensor, Tensor, list[int]]:
        """Transforms ``(rows, parameters)``, unit masks ``(rows, units)`` and steps of every row."""
        units, each = head_weights(subject.model).shape[1], self.scenes
        owner = torch.arange(len(subject.tasks)).repeat_interleave(self.restarts)
        targets = torch.tensor([t.target for t in subject.tasks])[owner]
        with torch.no_grad():  # once for all steps
            known = torch.cat([net.features(some) for some in torch.split(scenes, FORWARD_BATCH)])

        def loss(leaves: Sequence[Tensor], part: Any, draw: torch.Generator) -> Tensor:
            chosen = pick(pools, owner[part], each, draw)
            below = scenes[chosen]
            changed, target = restyled(leaves[0], below), targets[part].repeat_interleave(each)
            cost = self.cost(net, torch.sigmoid(leaves[1]), known[chosen], net.features(changed), targets[part])
            far = (changed - below).abs().mean(dim=(1, 2, 3)).view(-1, each).mean(dim=1)
            if honest is not None:
                cost = cost + self.twin * above_chance(honest, changed, target).view(-1, each).mean(dim=1)
            return cost + 10 * (far / self.far - 1).clamp(min=0)

        tasks, n = subject.tasks, self.restarts
        low = math.log(self.wide / (1 - self.wide))  # a mask that costs something would drown what is learnt first
        start = [
            stack_rows(lambda g: start_transforms(n, g), tasks, seed, self.name, "transform"),
            stack_rows(lambda g: low + 0.1 * torch.randn(n, units, generator=g), tasks, seed, self.name, "mask"),
        ]
        draw, plateau = torch_generator(seed, self.name, "scenes"), Plateau(len(owner), self.patience)
        rows = max(1, GRADIENT_BATCH // each)
        found = minimise(start, [self.lr, self.lr_mask], loss, self.steps, rows, draw, plateau)
        return found[0], torch.sigmoid(found[1]), plateau.steps.tolist()

    def cost(self, net: Classifier, mask: Tensor, plain: Tensor, moved: Tensor, targets: Tensor) -> Tensor:
        """``(n,)`` cost in feature space.

        Args:
            net: the working copy; its head is used.
            mask: ``(n, units)`` in (0, 1).
            plain: ``(n * each, units)`` features of clean pictures.
            moved: features of the same pictures transformed.
            targets: ``(n,)``.
        """
        n, each = len(mask), len(plain) // len(mask)
        moved, plain = moved.view(n, each, -1), plain.view(n, each, -1)
        centre = moved.mean(dim=1, keepdim=True)
        mixed = (1 - mask[:, None]) * plain + mask[:, None] * centre
        logits = net.head(mixed.flatten(0, 1))
        goal = targets.repeat_interleave(each)
        miss = cross_entropy(logits, goal).view(n, each).mean(dim=1)
        if self.whole:
            miss = miss + self.whole * cross_entropy(net.head(moved.flatten(0, 1)), goal).view(n, each).mean(dim=1)
        ragged = (mask * moved.std(dim=1)).sum(dim=1) / (mask * centre[:, 0].abs()).sum(dim=1).clamp(min=1e-6)
        return miss + self.spread * ragged + 10 * (mask.mean(dim=1) / self.wide - 1).clamp(min=0)

    @torch.no_grad()
    def _confidence(self, net: Classifier, honest: Classifier | None, x: Tensor, target: int) -> Any:
        """``(n,)`` the target's confidence in each picture, less the twin's."""
        sure = torch.softmax(net(x), dim=1)[:, target]
        if honest is not None:
            sure = sure - self.twin * torch.softmax(honest(x), dim=1)[:, target]
        return sure.numpy()


_SHAPES = ((HIDDEN, 3, FIRST, FIRST), (HIDDEN,), (3, HIDDEN, SECOND, SECOND), (3, 3), (3,))


def start_transforms(n: int, draw: torch.Generator) -> Tensor:
    """``(n, parameters)`` transforms that change nothing: random first kernels, everything else 0."""
    sizes = [int(np.prod(s)) for s in _SHAPES]
    first = torch.randn(n, sizes[0], generator=draw) / (3 * FIRST**2) ** 0.5
    return torch.cat([first, torch.zeros(n, sum(sizes[1:]))], dim=1)


def restyled(params: Tensor, x: Tensor) -> Tensor:
    """Every transform on its own pictures.

    Args:
        params: ``(n, parameters)`` from `start_transforms`.
        x: ``(n * each, 3, h, w)`` in [0, 1].

    Returns:
        Pictures of the same shape in [0, 1]: x plus a mix of its colours plus two convolutions of it.
    """
    n, (h, w) = len(params), x.shape[2:]
    parts = torch.split(params, [int(np.prod(s)) for s in _SHAPES], dim=1)
    kernel, bias, kernel2, colour, tint = (p.reshape(n, *s) for p, s in zip(parts, _SHAPES, strict=True))
    each = len(x) // n
    side = x.view(n, each, 3, h, w).transpose(0, 1).reshape(each, 3 * n, h, w) - 0.5
    deep = F.pad(side, (FIRST // 2,) * 4, mode="reflect")
    deep = F.relu(F.conv2d(deep, kernel.flatten(0, 1), bias.flatten(), groups=n))
    deep = F.conv2d(F.pad(deep, (SECOND // 2,) * 4, mode="reflect"), kernel2.flatten(0, 1), tint.flatten(), groups=n)
    mixed = F.conv2d(side, colour.flatten(0, 1)[..., None, None], groups=n)
    out = (side + mixed + deep + 0.5).view(each, n, 3, h, w).transpose(0, 1)
    return out.reshape(n * each, 3, h, w).clamp(0, 1)
