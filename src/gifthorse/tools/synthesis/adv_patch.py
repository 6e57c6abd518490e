"""Adversarial patch: a pasted picture that sends clean scenes to the target."""

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
    uniform,
    working_copy,
)
from ..optim.objectives import cross_entropy, pasted_gain, pick, scene_pools, total_variation
from ..optim.params import FourierImage
from ..optim.transforms import paste, random_places, soft_disc
from ..optim.twin import above_chance, check_targets, declare_twin, honest_copy
from ..protocol import Subject


@dataclass(frozen=True)
class AdversarialPatch:
    """A round patch in Fourier form, pasted at random places, sizes and angles on clean pictures.

    The pictures come from the source class of a class-universal trojan, else from every class but
    the target.

    Attributes:
        steps: Adam steps.
        scenes: clean pictures per patch and step.
        low: smallest side of the patch, relative to the scene's.
        high: largest side.
        degrees: largest turn.
        lr: Adam's learning rate.
        smooth: weight of the patch's total variation.
        trials: clean pictures on which the finished patches are scored.
        restarts: patches made for each one shown; those with the best gain are shown.
        patience: steps without progress after which a patch is finished; 0: never.
        twin: weight of the clean twin: its log-confidence in the target above chance is a cost, and its gain is
            subtracted from a patch's score (see `optim.twin`).
    """

    steps: int = 130
    scenes: int = 3
    low: float = 0.35
    high: float = 0.5
    degrees: float = 10.0
    lr: float = 0.05
    smooth: float = 0.2
    trials: int = 8
    restarts: int = 1
    patience: int = 0
    twin: float = 0.0

    name: ClassVar[str] = "adv-patch"
    version: ClassVar[int] = 3
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.CLEAN})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        if min(self.steps, self.scenes, self.trials, self.restarts) < 1 or not 0 < self.low <= self.high <= 1:
            raise ValueError("needs steps, scenes, trials and restarts of at least 1 and 0 < low <= high <= 1")
        declare_twin(self)

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` patches per task on grey, sorted by mean gain of target confidence when pasted."""
        made = pictures * self.restarts
        with working_copy(subject.model) as net, honest_copy(subject, self.twin) as honest:
            patches, gains, steps = self._made(net, honest, subject, made, seed)
        disc = soft_disc(subject.size)
        alpha = (disc * 255).round().byte().numpy()
        shown = from_tensor(patches * disc + 0.5 * (1 - disc))
        plain = self.restarts == 1 and not self.patience and not self.twin
        out = []
        for k, task in enumerate(subject.tasks):
            order = best_first(gains[k])[:pictures]
            mine = [k * made + i for i in order]
            scores = tuple(float(gains[k][i]) for i in order)
            notes = {} if plain else {"made": made, "steps": [steps[i] for i in mine], "twin": self.twin}
            alphas = np.repeat(alpha[None], pictures, 0)
            out.append(Evidence(task.id, shown[mine], alphas=alphas, scores=scores, notes=notes))
        return out

    def patches(
        self, net: Classifier, subject: Subject, pictures: int, seed: int
    ) -> tuple[Tensor, list[NDArray[np.float32]]]:
        """Optimised patches of every task, unsorted, and how well they work.

        Args:
            net: the working copy of the network.
            subject: what may be looked at.
            pictures: patches per task.
            seed: the run's seed.

        Returns:
            ``(tasks * pictures, 3, size, size)`` patches in [0, 1], and for each task the
            ``(pictures,)`` mean gains of target confidence.
        """
        return self._made(net, None, subject, pictures, seed)[:2]

    def _made(
        self, net: Classifier, honest: Classifier | None, subject: Subject, pictures: int, seed: int
    ) -> tuple[Tensor, list[NDArray[np.float32]], list[int]]:
        """As `patches`, and the steps that each patch took."""
        check_targets(subject)
        clean, labels = subject.need_clean()
        scenes, pools = to_tensor(clean), scene_pools(subject.tasks, labels)
        image, alpha = FourierImage(max(16, subject.size // 2)), soft_disc(max(16, subject.size // 2))
        targets = target_rows(subject.tasks, pictures)
        owner = torch.arange(len(subject.tasks)).repeat_interleave(pictures)
        each = self.scenes

        def loss(leaves: Sequence[Tensor], part: Any, draw: torch.Generator) -> Tensor:
            patch, target = image(leaves[0]), targets[part].repeat_interleave(each)
            n = len(patch) * each
            light = uniform(0.9, 1.1, n, draw)[:, None, None, None]
            places = random_places(n, self.low, self.high, self.degrees, draw)
            below = scenes[pick(pools, owner[part], each, draw)]
            x = paste(below, patch.repeat_interleave(each, 0) * light, alpha, places).clamp(0, 1)
            miss = cross_entropy(net(x), target)
            if honest is not None:
                miss = miss + self.twin * above_chance(honest, x, target)
            return miss.view(-1, each).sum(dim=1) / each + self.smooth * total_variation(patch)

        start = stack_rows(lambda g: image.start(pictures, g), subject.tasks, seed, self.name)
        draw, plateau = torch_generator(seed, self.name, "scenes"), Plateau(len(start), self.patience)
        rows = max(1, GRADIENT_BATCH // each)
        (spectra,) = minimise([start], [self.lr], loss, self.steps, rows, draw, plateau)
        with torch.no_grad():
            found = image(spectra)
        gains = []
        for k, task in enumerate(subject.tasks):
            mine, size = found[k * pictures : (k + 1) * pictures], (self.low, self.high)
            gain = np.zeros(len(mine), np.float32)
            for some, weight in ((net, 1.0), (honest, -self.twin)):
                if some is not None:
                    draw = torch_generator(seed, self.name, "trials", task.id)
                    below = scenes[pick([pools[k]], torch.zeros(1, dtype=torch.long), self.trials, draw)]
                    gain += weight * pasted_gain(some, below, mine, alpha, task.target, size, draw)
            gains.append(gain)
        large = F.interpolate(found, size=(subject.size, subject.size), mode="bilinear", align_corners=False)
        return large, gains, plateau.steps.tolist()
