"""Robust feature-level adversaries: patches from a generator, by moving its latents or its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ...errors import ToolError
from ...images import from_tensor, to_tensor
from ...models.classifier import Classifier
from ...types import Emits, Evidence, Family, Need
from ..optim.loop import GRADIENT_BATCH, best_first, minimise, stack_rows, torch_generator, uniform, working_copy
from ..optim.objectives import cross_entropy, pasted_gain, pick, scene_pools, total_variation
from ..optim.transforms import jitter_view, paste, random_places, soft_disc
from ..protocol import Subject

NEEDS = frozenset({Need.GRADIENTS, Need.CLEAN, Need.TWIN, Need.GENERATOR})


@dataclass(frozen=True)
class Rfla:
    """What both forms share: the loss of a drawn picture, and its choice by mean gain of target confidence.

    Attributes:
        scenes: clean pictures that a drawn picture is pasted on per step.
        low: smallest side of the pasted picture, relative to the scene's.
        high: largest side.
        degrees: largest turn.
        miss: weight of the suspect's cross-entropy on pasted pictures.
        smooth: weight of total variation, summed over the picture's pixels.
        disguise: weight of what the twin reads in the bare picture: its cross-entropy to the target is raised.
        definite: weight of the twin's entropy on the bare picture, which is lowered.
        trials: clean pictures that finished pictures are scored on.
    """

    scenes: int = 3
    low: float = 0.35
    high: float = 0.5
    degrees: float = 10.0
    miss: float = 3.0
    smooth: float = 1e-3
    disguise: float = 0.2
    definite: float = 0.2
    trials: int = 8

    def _check(self) -> None:
        if min(self.scenes, self.trials) < 1 or not 0 < self.low <= self.high <= 1:
            raise ValueError("needs scenes and trials of at least 1 and 0 < low <= high <= 1")
        if min(self.miss, self.smooth, self.disguise, self.definite) < 0:
            raise ValueError("weights of the loss must be at least 0")

    def losses(self, stage: Stage, drawn: Tensor, owner: Tensor, draw: torch.Generator) -> Tensor:
        """``(n,)`` loss of drawn pictures ``(n, 3, s, s)`` in [0, 1], each for the task with the index ``owner``."""
        targets, each = stage.targets[owner], self.scenes
        small = shrunk(drawn, stage.side)
        n = len(small) * each
        views = jitter_view(small, 0.0, self.degrees, 0.0, draw).repeat_interleave(each, 0)
        light = uniform(0.8, 1.2, n, draw)[:, None, None, None]
        noise = 0.05 * torch.randn(views.shape, generator=draw)
        below = stage.scenes[pick(stage.pools, owner, each, draw)]
        places = random_places(n, self.low, self.high, 0.0, draw)
        x = paste(below, (views * light + noise).clamp(0, 1), stage.alpha, places)
        miss = cross_entropy(stage.suspect(x), targets.repeat_interleave(each)).view(-1, each).mean(1)
        total = self.miss * miss + self.smooth * small[0].numel() * total_variation(small)
        return self.disguised(total, stage, drawn, targets)

    def disguised(self, total: Tensor, stage: Stage, drawn: Tensor, targets: Tensor) -> Tensor:
        """``(n,)`` losses plus disguise and entropy: what the twin reads in the bare drawings."""
        if self.disguise or self.definite:
            bare = F.interpolate(drawn, (stage.suspect.size,) * 2, mode="bilinear", align_corners=False)
            seen = torch.log_softmax(stage.twin(bare), dim=1)
            total = total + self.disguise * seen.gather(1, targets[:, None])[:, 0]
            total = total - self.definite * (seen.exp() * seen).sum(1)
        return total

    def _shown(self, stage: Stage, drawn: Tensor, pictures: int, seed: int, name: str) -> list[Evidence]:
        """The best ``pictures`` of each task's equally many candidates."""
        out, each = [], len(drawn) // len(stage.subject.tasks)
        full = from_tensor(F.interpolate(drawn, (stage.suspect.size,) * 2, mode="bilinear", align_corners=False))
        opaque = (soft_disc(stage.suspect.size) * 255).round().byte().numpy()
        for k, task in enumerate(stage.subject.tasks):
            mine = slice(k * each, (k + 1) * each)
            draw = torch_generator(seed, name, "trials", task.id)
            below = stage.scenes[pick([stage.pools[k]], torch.zeros(1, dtype=torch.long), self.trials, draw)]
            small = shrunk(drawn[mine], stage.side)
            gains = pasted_gain(stage.suspect, below, small, stage.alpha, task.target, (self.low, self.high), draw)
            order = best_first(gains)[:pictures]
            alphas = np.repeat(opaque[None], pictures, 0)
            scores = tuple(float(gains[i]) for i in order)
            out.append(Evidence(task.id, full[mine][order], alphas=alphas, scores=scores))
        return out


@dataclass(frozen=True)
class Stage:
    """What a run works with: networks, scenes, targets and opacity; ``side`` of a picture as it is pasted."""

    subject: Subject
    suspect: Classifier
    twin: Classifier
    scenes: Tensor
    pools: list[Tensor]
    targets: Tensor
    side: int
    alpha: Tensor


def stage_of(subject: Subject, suspect: Classifier, twin: Classifier) -> Stage:
    """The stage of working copies of both networks."""
    clean, labels = subject.need_clean()
    side = max(16, subject.size // 2)
    targets = torch.tensor([t.target for t in subject.tasks])
    pools = scene_pools(subject.tasks, labels)
    return Stage(subject, suspect, twin, to_tensor(clean), pools, targets, side, soft_disc(side))


def shrunk(x: Tensor, side: int) -> Tensor:
    """Pictures at the side they are pasted with, without aliasing."""
    if x.shape[-1] == side:
        return x
    if x.shape[-1] % side == 0:
        out: Tensor = F.avg_pool2d(x, x.shape[-1] // side)
        return out
    return F.interpolate(x, (side, side), mode="bilinear", antialias=True, align_corners=False)


def checked(generator: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Pictures of a generator, held to its contract.

    Raises:
        ToolError: not ``(n, 3, s, s)``, or not finite, or not in [0, 1].
    """
    with torch.no_grad():
        x = generator(z)
    if x.ndim != 4 or x.shape[:2] != (len(z), 3) or x.shape[2] != x.shape[3]:
        raise ToolError(f"the generator draws {tuple(x.shape)} for {len(z)} latents; wanted ({len(z)}, 3, s, s)")
    if not bool(torch.isfinite(x).all()) or float(x.min()) < 0 or float(x.max()) > 1:
        raise ToolError("the generator's pictures leave [0, 1] or are not finite; end it with a sigmoid")
    return x


def tunable(generator: Any) -> tuple[list[Tensor], Callable[[Sequence[Tensor], Tensor], Tensor]]:
    """A generator's weights, each ``(1, ...)``, and how it draws latents with others in their place.

    Raises:
        ToolError: a generator that is no torch module, or without weights.
    """
    if not isinstance(generator, nn.Module) or not any(True for _ in generator.parameters()):
        raise ToolError("rfla-gen tunes the weights of a torch module; the generator has none")
    weights = dict(generator.named_parameters())

    def drawn(leaves: Sequence[Tensor], z: Tensor) -> Tensor:
        own = {name: leaf[0] for name, leaf in zip(weights, leaves, strict=True)}
        out: Tensor = functional_call(generator, own, (z,))
        return out

    return [w.detach()[None] for w in weights.values()], drawn


@dataclass(frozen=True)
class RflaPerturb(Rfla):
    """Latents of a generator moved so that its pasted picture fools the suspect, after Casper et al. (2021).

    Robust feature-level adversaries (arXiv 2110.03605) move an inner layer, the class vector and the noise vector of
    BigGAN. Here the latent of any generator is moved, from that of a random picture. The bare picture is disguised
    before the clean twin, in place of two robust networks and a discriminator: it must not look like the target to an
    honest network, and must look like something. Weights of the loss (3, 1e-3, 0.2, 0.2), 64 steps and several trials
    of which the best are kept are the paper's; sizes, rate and views are ours, and there is no perspective.

    Attributes:
        steps: Adam steps.
        lr: Adam's learning rate.
        spare: candidates per picture shown.
    """

    steps: int = 64
    lr: float = 0.03
    spare: float = 2.0

    name: ClassVar[str] = "rfla-perturb"
    version: ClassVar[int] = 2
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = NEEDS
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        self._check()
        if self.steps < 1 or self.spare < 1:
            raise ValueError("steps and spare must be at least 1")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` drawn pictures per task, sorted by mean gain of target confidence when pasted."""
        generator, each = subject.need_generator(), max(1, round(self.spare * pictures))
        owner = torch.arange(len(subject.tasks)).repeat_interleave(each)
        start = stack_rows(lambda g: generator.starts(each, g), subject.tasks, seed, self.name)
        checked(generator, start[:1])
        draw = torch_generator(seed, self.name, "scenes")
        with working_copy(subject.model) as suspect, working_copy(subject.need_twin()) as twin:
            stage = stage_of(subject, suspect, twin)

            def loss(leaves: Sequence[Tensor], part: slice, draw: torch.Generator) -> Tensor:
                return self.losses(stage, generator(leaves[0]), owner[part], draw).sum()

            rows = max(1, GRADIENT_BATCH // self.scenes)
            (z,) = minimise([start], [self.lr], loss, self.steps, rows, draw)
            drawn = torch.cat([checked(generator, some) for some in torch.split(z, GRADIENT_BATCH)])
            return self._shown(stage, drawn, pictures, seed, self.name)


@dataclass(frozen=True)
class RflaGen(Rfla):
    """A generator's weights tuned to each target, so that whatever it draws fools the suspect (Casper et al. 2023).

    Named in arXiv 2302.10894, which publishes neither layers nor steps nor rates. Those here follow public code for
    the same network: all parameters, 32 steps on fresh latents, cross-entropy times 3, total variation times 1.5e-3,
    entropy, and of fifteen pictures the ten with the highest mean target confidence. There the entropy is that of
    robust networks, here that of the clean twin; there 16 pictures a step, here ``batch``. One step tunes one task;
    scenes, networks and views are shared by all.

    Attributes:
        steps: Adam steps.
        lr: Adam's learning rate of every weight.
        batch: pictures drawn per step.
        spare: candidates per picture shown.
        noise: spread of the noise on the latents that are drawn.
    """

    scenes: int = 2
    smooth: float = 1.5e-3
    disguise: float = 0.0
    steps: int = 32
    lr: float = 2e-3
    batch: int = 8
    spare: float = 1.5
    noise: float = 0.3

    name: ClassVar[str] = "rfla-gen"
    version: ClassVar[int] = 2
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = NEEDS
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        self._check()
        if min(self.steps, self.batch) < 1 or self.spare < 1 or self.noise < 0:
            raise ValueError("steps, batch and spare must be at least 1 and noise at least 0")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` drawn pictures per task, sorted by mean gain of target confidence when pasted.

        Raises:
            ToolError: a generator that is no torch module, or without weights.
        """
        generator = subject.need_generator()
        with working_copy(subject.model) as suspect, working_copy(subject.need_twin()) as twin:
            stage = stage_of(subject, suspect, twin)
            each = max(1, round(self.spare * pictures))
            parts = [self._tuned(stage, generator, k, each, seed) for k in range(len(subject.tasks))]
            return self._shown(stage, torch.cat(parts), pictures, seed, self.name)

    def _tuned(self, stage: Stage, generator: Any, k: int, each: int, seed: int) -> Tensor:
        """``each`` pictures of the generator tuned to the task with index ``k``."""
        draw = torch_generator(seed, self.name, stage.subject.tasks[k].id)
        start, drawn = tunable(generator)
        owner = torch.full((self.batch,), k)

        def latents(n: int, draw: torch.Generator) -> Tensor:
            z: Tensor = generator.starts(n, draw)
            return z + self.noise * torch.randn(z.shape, generator=draw)

        def loss(leaves: Sequence[Tensor], part: slice, draw: torch.Generator) -> Tensor:
            return self.losses(stage, drawn(leaves, latents(self.batch, draw)), owner, draw).mean()

        checked(generator, latents(1, draw))
        tuned = minimise(start, [self.lr] * len(start), loss, self.steps, 1, draw)
        return checked(lambda z: drawn(tuned, z), latents(each, draw))
