"""TABOR: reconstruct the trigger as a mask and a pattern, with regularisers against false ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...images import from_tensor, to_tensor
from ...models.classifier import Classifier
from ...types import Emits, Evidence, Family, Need
from ..optim.loop import (
    GRADIENT_BATCH,
    Plateau,
    best_first,
    minimise,
    stack_rows,
    target_rows,
    torch_generator,
    working_copy,
)
from ..optim.objectives import cross_entropy, elastic, pick, roughness, scene_pools
from ..optim.params import FourierImage
from ..optim.twin import above_chance, check_targets, declare_twin, honest_copy
from ..protocol import Subject

REFERENCE_AREA = 64 * 64
"""Pixels of the picture that the weights of summed terms refer to."""


@dataclass(frozen=True)
class Tabor:
    """Trigger reverse-engineering after Guo et al. (2019), with the weights of its usual implementation.

    A mask m and a pattern p are optimised so that ``(1 - m) x + m p`` goes to the target. Terms: size
    of the mask; elastic norms of m and ``(1 - m) p`` (over-large triggers); squared differences of
    neighbours of both (scattered triggers); cross-entropy of ``m p`` alone, on one picture
    (overlaying triggers). The term against blocking triggers has weight 0 there and is left out.

    Attributes:
        steps: Adam steps.
        scenes: clean pictures per mask and step; one more forward serves the overlay term.
        grid: side of the mask before it is enlarged.
        lr: Adam's learning rate of the mask.
        lr_pattern: Adam's learning rate of the pattern.
        mask_cost: weight of the mask's size.
        large_mask: weight of the mask's elastic norm.
        large_pattern: weight of the hidden pattern's elastic norm.
        rough_mask: weight of the mask's roughness.
        rough_pattern: weight of the hidden pattern's roughness.
        overlay: weight of the cross-entropy of the masked pattern alone.
        trials: clean pictures on which finished triggers are scored.
        restarts: triggers made for each one shown; those with the best score are shown.
        patience: steps without progress after which a trigger is finished; 0: never.
        twin: weight of the clean twin: its log-confidence in the target above chance is a cost, and its confidence
            is subtracted from a trigger's score (see `optim.twin`).
    """

    steps: int = 150
    scenes: int = 2
    grid: int = 16
    lr: float = 0.1
    lr_pattern: float = 0.05
    mask_cost: float = 1e-3
    large_mask: float = 1e-6
    large_pattern: float = 1e-5
    rough_mask: float = 1e-7
    rough_pattern: float = 1e-8
    overlay: float = 1e-2
    trials: int = 8
    restarts: int = 1
    patience: int = 0
    twin: float = 0.0

    name: ClassVar[str] = "tabor"
    version: ClassVar[int] = 3
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.CLEAN})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        if min(self.steps, self.scenes, self.grid, self.trials, self.restarts) < 1:
            raise ValueError("steps, scenes, grid, trials and restarts must be at least 1")
        declare_twin(self)

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` triggers per task: the pattern on grey where the mask is weak, ``alphas`` the mask.

        Sorted by mean target confidence minus the mask's mean opacity.
        """
        check_targets(subject)
        clean, labels = subject.need_clean()
        scenes, pools = to_tensor(clean), scene_pools(subject.tasks, labels)
        made = pictures * self.restarts
        with working_copy(subject.model) as net, honest_copy(subject, self.twin) as honest:
            masks, patterns, steps = self._optimise(net, honest, subject, scenes, pools, made, seed)
            scores = [
                self._score(net, honest, scenes, pools[k], masks[part], patterns[part], task.target, seed)
                for k, task in enumerate(subject.tasks)
                for part in [slice(k * made, (k + 1) * made)]
            ]
        strength = masks / masks.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
        shown = from_tensor(patterns * strength + 0.5 * (1 - strength))
        alphas = (masks[:, 0] * 255).round().byte().numpy()
        plain = self.restarts == 1 and not self.patience and not self.twin
        out = []
        for k, task in enumerate(subject.tasks):
            order = best_first(scores[k])[:pictures]
            mine = [k * made + i for i in order]
            values = tuple(float(scores[k][i]) for i in order)
            notes = {} if plain else {"made": made, "steps": [steps[i] for i in mine], "twin": self.twin}
            out.append(Evidence(task.id, shown[mine], alphas=alphas[mine], scores=values, notes=notes))
        return out

    def _optimise(
        self,
        net: Classifier,
        honest: Classifier | None,
        subject: Subject,
        scenes: Tensor,
        pools: Sequence[Tensor],
        pictures: int,
        seed: int,
    ) -> tuple[Tensor, Tensor, list[int]]:
        """Masks ``(rows, 1, size, size)`` and patterns ``(rows, 3, size, size)`` of every row, and its steps."""
        image, each, size = FourierImage(subject.size), self.scenes, subject.size
        targets = target_rows(subject.tasks, pictures)
        owner = torch.arange(len(subject.tasks)).repeat_interleave(pictures)
        share = REFERENCE_AREA / size**2

        def loss(leaves: Sequence[Tensor], part: Any, draw: torch.Generator) -> Tensor:
            mask, pattern = _enlarge(leaves[0], size), image(leaves[1])
            n, target = len(mask), targets[part]
            seen, hidden = mask * pattern, (1 - mask) * pattern
            below = scenes[pick(pools, owner[part], each, draw)]
            stamped = (1 - mask).repeat_interleave(each, 0) * below + seen.repeat_interleave(each, 0)
            logits = net(torch.cat([stamped, seen]))
            miss = cross_entropy(logits[: n * each], target.repeat_interleave(each))
            alone = cross_entropy(logits[n * each :], target)
            if honest is not None:
                miss = miss + self.twin * above_chance(honest, stamped, target.repeat_interleave(each))
            return miss.view(n, each).sum(dim=1) / each + self.overlay * alone + share * self.penalty(mask, hidden)

        masks = stack_rows(
            lambda g: 0.5 * torch.randn(pictures, 1, self.grid, self.grid, generator=g),
            subject.tasks, seed, self.name, "mask",
        )  # fmt: skip
        spectra = stack_rows(lambda g: image.start(pictures, g), subject.tasks, seed, self.name, "pattern")
        draw, plateau = torch_generator(seed, self.name, "scenes"), Plateau(len(masks), self.patience)
        rows = max(1, GRADIENT_BATCH // (each + 1))
        found = minimise([masks, spectra], [self.lr, self.lr_pattern], loss, self.steps, rows, draw, plateau)
        with torch.no_grad():
            return _enlarge(found[0], size), image(found[1]), plateau.steps.tolist()

    def penalty(self, mask: Tensor, hidden: Tensor) -> Tensor:
        """``(n,)`` the terms that depend on mask ``(n, 1, h, w)`` and hidden pattern ``(n, 3, h, w)`` alone."""
        return (
            self.mask_cost * mask.sum(dim=(1, 2, 3))
            + self.large_mask * elastic(mask)
            + self.large_pattern * elastic(hidden)
            + self.rough_mask * roughness(mask)
            + self.rough_pattern * roughness(hidden)
        )

    @torch.no_grad()
    def _score(
        self,
        net: Classifier,
        honest: Classifier | None,
        scenes: Tensor,
        pool: Tensor,
        masks: Tensor,
        patterns: Tensor,
        target: int,
        seed: int,
    ) -> NDArray[np.float32]:
        """``(n,)`` mean target confidence of stamped trial pictures, less the twin's, minus mean opacity."""
        draw = torch_generator(seed, self.name, "trials", target)
        below = scenes[pick([pool], torch.zeros(1, dtype=torch.long), self.trials, draw)]
        out = []
        for m, p in zip(masks, patterns, strict=True):
            stamped = (1 - m) * below + m * p
            sure = torch.softmax(net(stamped), dim=1)[:, target].mean()
            if honest is not None:
                sure = sure - self.twin * torch.softmax(honest(stamped), dim=1)[:, target].mean()
            out.append(sure - m.mean())
        return torch.stack(out).numpy()


def _enlarge(mask: Tensor, size: int) -> Tensor:
    """Mask logits ``(n, 1, g, g)`` -> opacity ``(n, 1, size, size)``."""
    return torch.sigmoid(F.interpolate(mask, size=(size, size), mode="bilinear", align_corners=False))
