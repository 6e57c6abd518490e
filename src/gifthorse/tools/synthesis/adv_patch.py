"""Adversarial patch: a pasted picture that sends clean scenes to the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...images import from_tensor, to_tensor
from ...models.classifier import Classifier
from ...types import Emits, Evidence, Family, Need
from ..optim.loop import (
    GRADIENT_BATCH,
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
    """

    steps: int = 130
    scenes: int = 3
    low: float = 0.35
    high: float = 0.5
    degrees: float = 10.0
    lr: float = 0.05
    smooth: float = 0.2
    trials: int = 8

    name: ClassVar[str] = "adv-patch"
    version: ClassVar[int] = 2
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.CLEAN})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        if min(self.steps, self.scenes, self.trials) < 1 or not 0 < self.low <= self.high <= 1:
            raise ValueError("needs steps, scenes and trials of at least 1 and 0 < low <= high <= 1")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` patches per task on grey, sorted by mean gain of target confidence when pasted."""
        with working_copy(subject.model) as net:
            patches, gains = self.patches(net, subject, pictures, seed)
        disc = soft_disc(subject.size)
        alpha = (disc * 255).round().byte().numpy()
        shown = from_tensor(patches * disc + 0.5 * (1 - disc))
        out = []
        for k, task in enumerate(subject.tasks):
            order = best_first(gains[k])
            scores = tuple(float(gains[k][i]) for i in order)
            images = shown[k * pictures : (k + 1) * pictures][order]
            out.append(Evidence(task.id, images, alphas=np.repeat(alpha[None], pictures, 0), scores=scores))
        return out

    def patches(
        self, net: Classifier, subject: Subject, pictures: int, seed: int
    ) -> tuple[Tensor, list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]]:
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
        clean, labels = subject.need_clean()
        scenes, pools = to_tensor(clean), scene_pools(subject.tasks, labels)
        side = max(16, subject.size // 2)
        image, alpha = FourierImage(side), soft_disc(side)
        targets = target_rows(subject.tasks, pictures)
        owner = torch.arange(len(subject.tasks)).repeat_interleave(pictures)
        each = self.scenes

        def loss(leaves: Sequence[Tensor], part: slice, draw: torch.Generator) -> Tensor:
            patch = image(leaves[0])
            n = len(patch) * each
            light = uniform(0.9, 1.1, n, draw)[:, None, None, None]
            places = random_places(n, self.low, self.high, self.degrees, draw)
            below = scenes[pick(pools, owner[part], each, draw)]
            x = paste(below, patch.repeat_interleave(each, 0) * light, alpha, places).clamp(0, 1)
            miss = cross_entropy(net(x), targets[part].repeat_interleave(each))
            return miss.sum() / each + self.smooth * total_variation(patch).sum()

        start = stack_rows(lambda g: image.start(pictures, g), subject.tasks, seed, self.name)
        draw = torch_generator(seed, self.name, "scenes")
        rows = max(1, GRADIENT_BATCH // each)
        (spectra,) = minimise([start], [self.lr], loss, self.steps, rows, draw)
        with torch.no_grad():
            found = image(spectra)
        gains = []
        for k, task in enumerate(subject.tasks):
            draw = torch_generator(seed, self.name, "trials", task.id)
            below = scenes[pick([pools[k]], torch.zeros(1, dtype=torch.long), self.trials, draw)]
            mine = found[k * pictures : (k + 1) * pictures]
            gains.append(pasted_gain(net, below, mine, alpha, task.target, (self.low, self.high), draw))
        large = F.interpolate(found, size=(subject.size, subject.size), mode="bilinear", align_corners=False)
        return large, gains
