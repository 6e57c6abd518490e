"""Feature visualisation: the pictures that excite the target logit most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...images import from_tensor
from ...types import Emits, Evidence, Family, Need
from ..optim.loop import GRADIENT_BATCH, best_first, minimise, stack_rows, target_rows, torch_generator, working_copy
from ..optim.objectives import target_logits
from ..optim.params import FourierImage
from ..optim.transforms import jitter_view
from ..protocol import Subject


@dataclass(frozen=True)
class FeatureVis:
    """Fourier feature visualisation of the target logit under random shifts, turns and scales.

    Attributes:
        steps: Adam steps.
        lr: Adam's learning rate.
        jitter: largest shift, as a share of the side.
        degrees: largest turn.
        scale: largest relative change of size.
        decay: power by which a picture's amplitude falls with frequency.
        blur: standard deviation, as a share of the side, of the Gaussian that pictures are blurred with;
            without it a network that averages over places is excited most by a fine regular pattern.
    """

    steps: int = 160
    lr: float = 0.05
    jitter: float = 0.094
    degrees: float = 20.0
    scale: float = 0.3
    decay: float = 2.0
    blur: float = 0.023

    name: ClassVar[str] = "feature-vis"
    version: ClassVar[int] = 2
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be at least 1")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` whole pictures per task, sorted by the target logit they reach."""
        image = FourierImage(subject.size, self.decay, blur=self.blur * subject.size)
        targets = target_rows(subject.tasks, pictures)
        start = stack_rows(lambda g: image.start(pictures, g), subject.tasks, seed, self.name)
        draw = torch_generator(seed, self.name, "views")
        with working_copy(subject.model) as net:

            def loss(leaves: Sequence[Tensor], part: slice, draw: torch.Generator) -> Tensor:
                views = jitter_view(image(leaves[0]), self.jitter * subject.size, self.degrees, self.scale, draw)
                return -target_logits(net(views), targets[part]).sum()

            (spectra,) = minimise([start], [self.lr], loss, self.steps, GRADIENT_BATCH, draw)
            with torch.no_grad():
                shown = from_tensor(image(spectra))
            reached = torch.from_numpy(net.logits(shown))
        values = target_logits(reached, targets).numpy()
        out = []
        for k, task in enumerate(subject.tasks):
            mine = slice(k * pictures, (k + 1) * pictures)
            order = best_first(values[mine])
            scores = tuple(float(values[mine][i]) for i in order)
            out.append(Evidence(task.id, shown[mine][order], scores=scores))
        return out
