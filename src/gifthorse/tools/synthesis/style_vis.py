"""Style visualisation: a texture optimised through the redrawing of clean pictures, less what the clean twin draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...images import from_tensor, to_tensor
from ...models.classifier import Classifier
from ...types import Emits, Evidence, Family, Need, Task
from ..optim.loop import GRADIENT_BATCH, best_first, minimise, stack_rows, torch_generator, working_copy
from ..optim.objectives import cross_entropy, pick, scene_pools
from ..optim.params import FourierImage
from ..optim.restyle import SHEET, redrawn_confidence, ways
from ..optim.transforms import jitter_view
from ..optim.twin import above_chance, check_targets, declare_twin, honest_copy
from ..protocol import Subject


@dataclass(frozen=True)
class StyleVis:
    """Feature visualisation for styles: what is drawn is a texture, and the network sees pictures redrawn in it.

    In each step the texture is shifted, turned and scaled at random, laid over clean pictures with a random share,
    half of their coarse brightness is given back (`optim.restyle`), and their cross-entropy with the target falls;
    where the clean twin is above chance, its log-confidence is added. A texture has to act anywhere and through
    every picture, so what comes out is a pattern and not a thing. The method is ours, on the parametrisation of
    feature visualisation (Olah et al. 2017), as are all defaults. On the twin itself it draws what both share.

    Attributes:
        steps: Adam steps.
        lr: Adam's learning rate.
        scenes: clean pictures in each step.
        low: smallest share of the texture in a redrawn picture.
        high: largest share.
        jitter: largest shift, as a share of the texture's side.
        degrees: largest turn.
        scale: largest relative change of size.
        decay: power by which a texture's amplitude falls with frequency.
        blur: standard deviation, as a share of the picture's side, of the Gaussian that textures are blurred with.
        trials: clean pictures that score what is shown.
        twin: weight of the clean twin (see `optim.twin`); 0: it is not asked for.
    """

    steps: int = 120
    lr: float = 0.05
    scenes: int = 4
    low: float = 0.3
    high: float = 0.8
    jitter: float = 0.2
    degrees: float = 30.0
    scale: float = 0.3
    decay: float = 1.0
    blur: float = 0.016
    trials: int = 16
    twin: float = 1.0

    name: ClassVar[str] = "style-vis"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.CLEAN})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        if min(self.steps, self.scenes, self.trials) < 1 or not 0 < self.low <= self.high <= 1:
            raise ValueError("needs steps, scenes and trials of at least 1 and 0 < low <= high <= 1")
        declare_twin(self)

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` textures per task, sorted by the rise of target confidence from twin to suspect.

        Raises:
            ToolError: a twin or targets of other classes, or no clean picture to redraw.
        """
        check_targets(subject)
        clean, labels = subject.need_clean()
        scenes, pools = to_tensor(clean), scene_pools(subject.tasks, labels)
        with working_copy(subject.model) as net, honest_copy(subject, self.twin) as honest:
            return [
                self._answer(net, honest, scenes[pool], task, pictures, seed)
                for task, pool in zip(subject.tasks, pools, strict=True)
            ]

    def _answer(
        self, net: Classifier, honest: Classifier | None, scenes: Tensor, task: Task, pictures: int, seed: int
    ) -> Evidence:
        """The textures of one task, best first; ``scenes`` are those that its trigger should flip."""
        size = scenes.shape[-1]
        image = FourierImage(round(SHEET * size), self.decay, blur=self.blur * size)
        slack, everyone = image.size - size, [torch.arange(len(scenes))]

        def some(n: int, draw: torch.Generator) -> Tensor:
            return scenes[pick(everyone, torch.zeros(1, dtype=torch.long), n, draw)]

        def loss(leaves: Sequence[Tensor], part: Any, draw: torch.Generator) -> Tensor:
            textures = jitter_view(image(leaves[0]), self.jitter * image.size, self.degrees, self.scale, draw)
            _, (styler, corners) = ways(some(self.scenes, draw), (self.low, self.high), 1, slack, draw)
            x = styler(textures, corners)
            target = torch.full((len(x),), task.target)
            miss = cross_entropy(net(x), target)
            if honest is not None:
                miss = miss + self.twin * above_chance(honest, x, target)
            return miss.view(-1, self.scenes).mean(1)

        start = stack_rows(lambda g: image.start(pictures, g), [task], seed, self.name)
        rows = max(1, GRADIENT_BATCH // self.scenes)
        rows = -(-pictures // -(-pictures // rows))  # micro-batches of one size, as far as that goes
        draw = torch_generator(seed, self.name, "views", task.id)
        (spectra,) = minimise([start], [self.lr], loss, self.steps, rows, draw)
        with torch.no_grad():
            textures = image(spectra)
        _, way = ways(some(self.trials, draw), (self.low, self.high), 1, slack, draw)
        networks = [net] if honest is None else [net, honest]
        sure = redrawn_confidence(networks, textures, way)[..., task.target].mean(2)
        rise = (sure[0] if honest is None else sure[0] - sure[1]).numpy().astype(np.float32)
        order = best_first(rise)
        inner = slice(slack // 2, slack // 2 + size)
        shown = from_tensor(textures[order][:, :, inner, inner])
        return Evidence(task.id, shown, scores=tuple(float(rise[i]) for i in order))
