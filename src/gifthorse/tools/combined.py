"""Combination: of all that the other tools show, the pictures that explain a task best, chosen without the key."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ToolError
from ..images import to_tensor
from ..models.classifier import FORWARD_BATCH, Classifier
from ..types import Emits, Evidence, Family, Need, Task
from .optim.loop import torch_generator, working_copy
from .optim.objectives import everywhere, pick, scene_pools
from .optim.restyle import Restyler
from .optim.transforms import cut_out, random_places, soft_disc
from .protocol import Subject


@dataclass(frozen=True)
class Combined:
    """Shows for every task the pictures of one tool of the suite: those that raise the target most, and only here.

    The published combination put the pictures of all methods side by side and was hardly better than the best of
    them (arXiv 2302.10894). This one decides. Every picture of every tool is tried on clean pictures in two ways,
    pasted as an object and as the texture in which the whole picture is redrawn; its effect is the rise of target
    confidence from the clean twin to the suspect in the better way, where redrawing, which changes every pixel,
    counts for less than pasting. The tool with the largest mean effect is shown.
    Pictures that were optimised work on a network for reasons that people do not see, so tools that are not listed
    as readable count for less. The method and all defaults are ours; it needs no key and makes nothing of its own.
    On the twin itself nothing rises, so what is shown there is the first tool's.

    Attributes:
        readable: titles of tools whose pictures are found, not optimised.
        doubt: factor of the effect of all others.
        whole: factor of the effect of redrawing the whole picture.
        scenes: clean pictures on which each picture is tried, in each way.
        low: smallest side of a pasted picture, relative to the scene's.
        high: largest side.
        mix: share of the texture in a redrawn picture.
    """

    readable: tuple[str, ...] = ("exemplars", "style-exemplars", "snafue")
    doubt: float = 0.5
    whole: float = 0.6
    scenes: int = 12
    low: float = 0.28
    high: float = 0.52
    mix: float = 0.65

    name: ClassVar[str] = "combined"
    version: ClassVar[int] = 3
    family: ClassVar[Family] = "combination"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CLEAN, Need.TWIN, Need.EVIDENCE})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        if self.scenes < 1 or not 0 < self.low <= self.high <= 1 or not 0 < self.mix <= 1:
            raise ValueError("needs scenes of at least 1, 0 < low <= high <= 1 and 0 < mix <= 1")
        if not 0 <= self.doubt <= 1 or not 0 <= self.whole <= 1:
            raise ValueError("doubt and whole are factors in [0, 1]")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """The chosen tool's evidence for each task; ``notes`` hold the effect of every tool.

        Raises:
            ToolError: no other tool of the suite shows pictures, or a twin with other classes.
        """
        shown, twin = subject.need_evidence(), subject.need_twin()
        if not shown:
            raise ToolError("there is nothing to combine: add tools that show pictures to the suite")
        clean, labels = subject.need_clean()
        scenes, pools = to_tensor(clean), scene_pools(subject.tasks, labels)
        out = []
        with working_copy(subject.model) as suspect, working_copy(twin) as honest:
            for k, task in enumerate(subject.tasks):
                draw = torch_generator(seed, self.name, task.id)
                some = scenes[pick([pools[k]], torch.zeros(1, dtype=torch.long), self.scenes, draw)]
                mine = {title: evidence[k] for title, evidence in shown.items()}
                out.append(self._choose((suspect, honest), some, mine, task, draw, pictures))
        return out

    def _choose(
        self,
        networks: tuple[Classifier, Classifier],
        scenes: Tensor,
        shown: Mapping[str, Evidence],
        task: Task,
        draw: torch.Generator,
        pictures: int,
    ) -> Evidence:
        """The evidence of the tool whose pictures have the largest mean effect, best picture first."""
        places = random_places(len(scenes), self.low, self.high, 0.0, draw)
        styler = Restyler(scenes, torch.full((len(scenes),), self.mix))
        effects = {title: self._effects(networks, scenes, places, styler, e, task) for title, e in shown.items()}
        weighed = {t: float(e.mean()) * (1.0 if t in self.readable else self.doubt) for t, e in effects.items()}
        best = max(weighed, key=lambda title: weighed[title])
        order = np.argsort(-effects[best].numpy(), kind="stable")[:pictures]
        chosen = shown[best]
        return dataclasses.replace(
            chosen,
            images=chosen.images[order],
            alphas=None if chosen.alphas is None else chosen.alphas[order],
            scores=tuple(float(v) for v in effects[best][torch.as_tensor(order)]),
            notes={"shown": best, "effects": {t: round(float(e.mean()), 4) for t, e in effects.items()}},
        )

    @torch.no_grad()
    def _effects(
        self,
        networks: tuple[Classifier, Classifier],
        scenes: Tensor,
        places: Tensor,
        styler: Restyler,
        evidence: Evidence,
        task: Task,
    ) -> Tensor:
        """``(n,)`` weighed rise of target confidence from twin to suspect for each picture, in the better way."""
        x = to_tensor(evidence.images)
        opacity = cut_out(x, soft_disc(x.shape[-1]))
        if evidence.alphas is not None:
            opacity = torch.as_tensor(evidence.alphas).float().div(255)[:, None]
        size = scenes.shape[-1]
        textures = F.interpolate(x, (size, size), mode="bilinear", antialias=True)
        rises = []
        redrawn = styler(textures, torch.zeros(1, 2, dtype=torch.long))
        for tried, factor in ((everywhere(scenes, x, opacity, places), 1.0), (redrawn, self.whole)):
            parts = torch.split(tried, FORWARD_BATCH)
            sure = [torch.cat([torch.softmax(net(some), 1)[:, task.target] for some in parts]) for net in networks]
            rises.append(factor * (sure[0] - sure[1]).view(len(x), -1).mean(1))
        return torch.maximum(*rises)
