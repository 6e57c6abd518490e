"""FEUD: a patch is inverted, named in words, and drawn anew by a generator that starts from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ToolError
from ...images import from_tensor, to_tensor
from ...models.classifier import Classifier
from ...types import Emits, Evidence, Family, Need
from ..optim.loop import GRADIENT_BATCH, best_first, minimise, stack_rows, target_rows, torch_generator, working_copy
from ..optim.objectives import cross_entropy, pasted_gain, pick, scene_pools, total_variation
from ..optim.transforms import paste, random_places, soft_disc
from ..protocol import Subject
from ..retrieval.snafue import resized
from .rfla import checked, shrunk


@dataclass(frozen=True)
class Feud:
    """Feature embeddings using diffusion (Moore et al., SaTML '24 competition), with a small generator and names.

    1. Invert: pixels of a patch are moved until pasted it sends clean pictures to the target, smooth and near 0 or 1.
    2. Caption: the bank's names nearest to the patch. What the clean twin sees in the patch is sent to word space by
       a linear map fitted on named pictures; the names with the highest cosine are the caption.
    3. Refine: a generator starts at the drawing that the twin finds most like the patch, and is moved to look like it
       to the twin, from near (much of the patch) to far (much of the drawing) over the pictures shown.

    What differs: the original captions with CLIP and BLIP and refines with a text-guided diffusion model for 25 steps;
    here caption and drawing follow from the patch side by side, and the caption does not steer the drawing. Its loss
    is multiplied by a random whole number where the patch resembles the target class; that is left out. Weights 1e-4
    of total variation and 1e-2 of the push to 0 or 1 are its own; sizes, steps and rates are ours.

    Attributes:
        steps: Adam steps of the inversion.
        lr: its learning rate.
        scenes: clean pictures per patch and step.
        low: smallest side of the patch, relative to the scene's.
        high: largest side.
        smooth: weight of total variation, summed over pixels.
        crisp: weight of the push of pixels to 0 or 1.
        inversions: patches per task; the one that works best goes on.
        words: words of the caption.
        redraw: Adam steps of the refinement.
        weaken: how much less the patch counts for each picture shown after the first, as a share.
        trials: clean pictures that pictures are scored on.
    """

    steps: int = 120
    lr: float = 0.05
    scenes: int = 3
    low: float = 0.35
    high: float = 0.5
    smooth: float = 1e-4
    crisp: float = 1e-2
    inversions: int = 3
    words: int = 5
    redraw: int = 40
    weaken: float = 0.05
    trials: int = 8

    name: ClassVar[str] = "feud"
    version: ClassVar[int] = 2
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.GRADIENTS, Need.CLEAN, Need.TWIN, Need.BANK, Need.GENERATOR, Need.WORDS}
    )
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        if min(self.steps, self.scenes, self.inversions, self.words, self.redraw, self.trials) < 1:
            raise ValueError("steps, scenes, inversions, words, redraw and trials must be at least 1")
        if not 0 < self.low <= self.high <= 1:
            raise ValueError("needs 0 < low <= high <= 1")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` refined drawings per task, best gain first; ``texts`` are the caption.

        Raises:
            ToolError: a twin with other classes, or an empty bank.
        """
        bank, twin = subject.need_bank(), subject.need_twin()
        if not len(bank.pictures):
            raise ToolError("the picture bank is empty; give feud named pictures to caption with")
        with working_copy(subject.model) as suspect, working_copy(twin) as honest:
            patches = self._inverted(suspect, subject, seed)
            captions = self._captions(honest, subject, patches)
            drawn = self._redrawn(honest, subject, patches, pictures, seed)
            return self._shown(suspect, subject, drawn, captions, pictures, seed)

    def _inverted(self, suspect: Classifier, subject: Subject, seed: int) -> Tensor:
        """``(tasks, 3, s, s)`` the patch of each task that works best."""
        clean, labels = subject.need_clean()
        scenes, pools = to_tensor(clean), scene_pools(subject.tasks, labels)
        side, each = max(16, subject.size // 2), self.scenes
        alpha, targets = soft_disc(side), target_rows(subject.tasks, self.inversions)
        owner = torch.arange(len(subject.tasks)).repeat_interleave(self.inversions)

        def loss(leaves: Sequence[Tensor], part: slice, draw: torch.Generator) -> Tensor:
            patch = torch.sigmoid(leaves[0])
            n = len(patch) * each
            turned = torch.where(torch.rand(len(patch), 1, 1, 1, generator=draw) < 0.5, patch, patch.flip(3))
            below = scenes[pick(pools, owner[part], each, draw)]
            places = random_places(n, self.low, self.high, 0.0, draw)
            x = paste(below, turned.repeat_interleave(each, 0), alpha, places)
            miss = cross_entropy(suspect(x), targets[part].repeat_interleave(each)).sum() / each
            grey = (1 - (2 * patch - 1).abs()).mean(dim=(1, 2, 3)).sum()
            return miss + self.smooth * patch[0].numel() * total_variation(patch).sum() + self.crisp * grey

        start = stack_rows(
            lambda g: 0.1 * torch.randn(self.inversions, 3, side, side, generator=g), subject.tasks, seed, self.name
        )
        draw = torch_generator(seed, self.name, "scenes")
        (pixels,) = minimise([start], [self.lr], loss, self.steps, max(1, GRADIENT_BATCH // each), draw)
        found, best = torch.sigmoid(pixels), []
        for k, task in enumerate(subject.tasks):
            draw = torch_generator(seed, self.name, "inversions", task.id)
            below = scenes[pick([pools[k]], torch.zeros(1, dtype=torch.long), self.trials, draw)]
            mine = found[k * self.inversions : (k + 1) * self.inversions]
            gains = pasted_gain(suspect, below, mine, alpha, task.target, (self.low, self.high), draw)
            best.append(mine[best_first(gains)[0]])
        return torch.stack(best)

    def _captions(self, honest: Classifier, subject: Subject, patches: Tensor) -> list[tuple[str, ...]]:
        """For each patch the names nearest to what the twin sees in it."""
        bank = subject.need_bank()
        names = torch.as_tensor(np.asarray(subject.need_words()(bank.names), np.float32))
        seen = torch.as_tensor(honest.embed(resized(bank.pictures, subject.size)))
        middle, centre = seen.mean(0), names.mean(0)
        spread = (seen - middle).square().mean().sqrt().clamp(min=1e-8)
        x, y = (seen - middle) / spread, names - centre
        back = torch.linalg.solve(x.T @ x / len(x) + 0.05 * torch.eye(x.shape[1]), x.T @ y / len(x))
        shown = torch.as_tensor(honest.embed(resized(from_tensor(patches), subject.size)))
        spoken = F.normalize((shown - middle) / spread @ back, dim=1) @ F.normalize(y, dim=1).T
        first = min(self.words, len(bank.names))
        return [tuple(bank.names[int(i)] for i in row.topk(first).indices) for row in spoken]

    def _redrawn(self, honest: Classifier, subject: Subject, patches: Tensor, pictures: int, seed: int) -> Tensor:
        """``(tasks * pictures, 3, s, s)`` drawings that resemble the patches, less and less."""
        generator, size = subject.need_generator(), subject.size
        draw = torch_generator(seed, self.name, "drawings")
        pool = generator.starts(max(200, pictures), draw)
        ideas = torch.cat([checked(generator, some) for some in torch.split(pool, GRADIENT_BATCH)])
        with torch.no_grad():
            goal = honest.features(shrunk(patches, size))
            known = torch.cat([honest.features(shrunk(some, size)) for some in torch.split(ideas, GRADIENT_BATCH)])
        middle = known.mean(0)
        near = F.normalize(goal - middle, dim=1) @ F.normalize(known - middle, dim=1).T
        start = torch.cat([pool[row.topk(pictures).indices] for row in near])
        strength = (1 - self.weaken * torch.arange(pictures)).clamp(min=0.1).repeat(len(patches))
        goals = goal.repeat_interleave(pictures, 0)
        scale = (known - middle).square().mean().clamp(min=1e-8)

        def loss(leaves: Sequence[Tensor], part: slice, draw: torch.Generator) -> Tensor:
            seen = honest.features(shrunk(generator(leaves[0]), size))
            off = (seen - goals[part]).square().mean(1) / scale
            return (strength[part] * off + 0.1 * (leaves[0] - start[part]).square().mean(1)).sum()

        (z,) = minimise([start], [0.03], loss, self.redraw, GRADIENT_BATCH, draw)
        return torch.cat([checked(generator, some) for some in torch.split(z, GRADIENT_BATCH)])

    def _shown(
        self,
        suspect: Classifier,
        subject: Subject,
        drawn: Tensor,
        captions: Sequence[tuple[str, ...]],
        pictures: int,
        seed: int,
    ) -> list[Evidence]:
        clean, labels = subject.need_clean()
        scenes, pools = to_tensor(clean), scene_pools(subject.tasks, labels)
        side = max(16, subject.size // 2)
        alphas = np.repeat((soft_disc(subject.size) * 255).round().byte().numpy()[None], pictures, 0)
        full, out = from_tensor(shrunk(drawn, subject.size)), []
        for k, task in enumerate(subject.tasks):
            mine = slice(k * pictures, (k + 1) * pictures)
            draw = torch_generator(seed, self.name, "trials", task.id)
            below = scenes[pick([pools[k]], torch.zeros(1, dtype=torch.long), self.trials, draw)]
            small, size = shrunk(drawn[mine], side), (self.low, self.high)
            gains = pasted_gain(suspect, below, small, soft_disc(side), task.target, size, draw)
            order = best_first(gains)
            scores = tuple(float(gains[i]) for i in order)
            out.append(Evidence(task.id, full[mine][order], alphas=alphas, scores=scores, texts=captions[k]))
        return out
