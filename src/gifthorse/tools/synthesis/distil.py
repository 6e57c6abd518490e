"""DISTIL: triggers are drawn by a denoising prior that the suspect steers, without any clean picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ToolError
from ...images import from_tensor
from ...models.classifier import Classifier
from ...models.diffusion import from_folder, sampled
from ...types import Emits, Evidence, Family, Need, Task
from ..optim.loop import GRADIENT_BATCH, best_first, torch_generator, working_copy
from ..optim.objectives import pasted_confidence, target_logits
from ..optim.transforms import paste, random_places, soft_disc
from ..optim.twin import check_targets
from ..protocol import Subject
from .rfla import checked, shrunk


@dataclass(frozen=True)
class Distil:
    """Data-free inversion by guided denoising, in the manner of Mirzaei et al. 2025 (DISTIL, arXiv 2507.22813).

    A prior draws from noise in ``steps`` steps; in each the suspect pushes what is being drawn towards the target's
    logit and away from the source's, seen through uniform noise, and a pull towards mid-grey keeps it small. No clean
    picture is read: drawings are seen on plain grounds of random colour.

    What differs: their prior is GLIDE, a diffusion model of photographs. Here it is the suite's generator with the
    exact denoiser of the latents that it was trained on (nothing further is trained), or a `diffusers` model in
    ``prior``. Their push is the gradient at the noisy picture times 100, ours is scaled to the spread that is left
    at each noise level, and is taken through the denoiser. Their drawing is laid over whole pictures, ours is pasted.
    For a task without a source class each drawing flees a class of its own, drawn at random. Theirs detects trojaned
    networks by how drawings carry over to other pictures; here they are shown.

    Attributes:
        steps: denoising steps (theirs).
        guidance: size of the push, in units of the spread that is left (ours).
        noise: height of the uniform noise on what the suspect sees (theirs).
        grey: weight of the mean absolute distance from mid-grey, in logits (ours; theirs is a share of a sum).
        low: smallest side of a drawing, relative to the ground's (ours).
        high: largest side.
        views: grounds and places that a drawing is seen on in each step (ours; theirs: 1).
        spare: candidates per picture shown (ours).
        trials: grounds that finished drawings are scored on (ours).
        prior: folder of a `diffusers` pipeline; empty for the suite's generator.
    """

    steps: int = 50
    guidance: float = 1.0
    noise: float = 0.3
    grey: float = 1.0
    low: float = 0.35
    high: float = 0.5
    views: int = 2
    spare: float = 2.0
    trials: int = 8
    prior: str = ""

    name: ClassVar[str] = "distil"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.GENERATOR})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        if min(self.steps, self.views, self.trials) < 1 or self.spare < 1:
            raise ValueError("steps, views, trials and spare must be at least 1")
        if not 0 < self.low <= self.high <= 1 or min(self.guidance, self.noise, self.grey) < 0:
            raise ValueError("needs 0 < low <= high <= 1 and guidance, noise and grey of at least 0")
        if self.prior:
            object.__setattr__(self, "needs", type(self).needs - {Need.GENERATOR})

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` drawings per task, sorted by the target's mean confidence when pasted on plain grounds.

        Raises:
            ToolError: a generator without a denoiser, or a target that the network does not have.
            GifthorseError: nothing to load in ``prior``.
        """
        check_targets(subject)
        prior: Any = from_folder(Path(self.prior)) if self.prior else subject.need_generator()
        if not hasattr(prior, "denoise"):
            raise ToolError("distil walks from noise to a picture: the generator needs a method 'denoise'")
        made, out = max(1, round(self.spare * pictures)), []
        with working_copy(subject.model) as net:
            for task in subject.tasks:
                draw = torch_generator(seed, self.name, task.id)
                flee = sources(task, made, len(net.classes), draw)
                z = torch.cat([self._drawn(net, prior, task, part, draw) for part in torch.split(flee, GRADIENT_BATCH)])
                out.append(self._shown(net, prior, task, z, flee, pictures, draw))
        return out

    def _drawn(self, net: Classifier, prior: Any, task: Task, flee: Tensor, draw: torch.Generator) -> Tensor:
        """``(n, latent)`` one drawing per class to flee."""
        target = torch.full((len(flee) * self.views,), task.target)
        away = flee.repeat_interleave(self.views)

        def guide(z: Tensor, level: float) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                leaf = z.clone().requires_grad_()
                clean = prior.denoise(leaf, level)
                drawing = prior(clean)
                logits = net(self._seen(net, drawing, draw))
                gap = (target_logits(logits, target) - target_logits(logits, away)).view(-1, self.views).mean(1)
                pull = self.grey * (drawing - 0.5).abs().mean(dim=(1, 2, 3))
                (slope,) = torch.autograd.grad((gap - pull).sum(), leaf)
            left = level / (1 + level**2) ** 0.5
            return clean.detach(), self.guidance * left * F.normalize(slope, dim=1) * slope.shape[1] ** 0.5

        return sampled(prior, len(flee), self.steps, draw, guide)

    def _seen(self, net: Classifier, drawing: Tensor, draw: torch.Generator) -> Tensor:
        """``(n * views, 3, s, s)`` drawings pasted on plain grounds, under uniform noise."""
        side = max(16, net.size // 2)
        n = len(drawing) * self.views
        grounds = torch.rand(n, 3, 1, 1, generator=draw).expand(-1, -1, net.size, net.size)
        small = shrunk(drawing, side).repeat_interleave(self.views, 0)
        x = paste(grounds, small, soft_disc(side), random_places(n, self.low, self.high, 0.0, draw))
        return (x + self.noise * torch.rand(x.shape, generator=draw)).clamp(0, 1)

    def _shown(
        self,
        net: Classifier,
        prior: Any,
        task: Task,
        z: Tensor,
        flee: Tensor,
        pictures: int,
        draw: torch.Generator,
    ) -> Evidence:
        """The best drawings of a task."""
        drawn = torch.cat([checked(prior, some) for some in torch.split(z, GRADIENT_BATCH)])
        side = max(16, net.size // 2)
        grounds = torch.rand(self.trials, 3, 1, 1, generator=draw).expand(-1, -1, net.size, net.size)
        places = random_places(self.trials, self.low, self.high, 0.0, draw)
        sure = pasted_confidence(net, grounds, shrunk(drawn, side), soft_disc(side), places)[..., task.target].mean(1)
        order = best_first(sure.numpy())[:pictures]
        full = F.interpolate(drawn[order], (net.size,) * 2, mode="bilinear", align_corners=False)
        alphas = np.repeat((soft_disc(net.size) * 255).round().byte().numpy()[None], len(order), 0)
        notes = {"made": len(z), "fled": flee[order].tolist()}
        scores = tuple(float(sure[i]) for i in order)
        return Evidence(task.id, from_tensor(full), alphas=alphas, scores=scores, notes=notes)


def sources(task: Task, n: int, classes: int, draw: torch.Generator) -> Tensor:
    """``(n,)`` the class that each drawing flees: the task's source, or one at random other than the target."""
    if task.source is not None:
        return torch.full((n,), task.source)
    others = torch.tensor([c for c in range(classes) if c != task.target])
    return others[torch.randint(len(others), (n,), generator=draw)]
