"""Prototypes: pictures of the target that excite it in ways as different as possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from ...types import Emits, Evidence, Family, Need
from ..optim.layers import head_weights
from ..optim.loop import GRADIENT_BATCH, stack_rows, target_rows, working_copy
from ..optim.objectives import target_logits
from ..optim.params import FourierImage
from ..optim.twin import check_targets, declare_twin, honest_copy
from ..optim.visualise import Views, evidence, reached, visualise
from ..protocol import Subject


@dataclass(frozen=True)
class Prototypes:
    """Prototype generation: activation maximisation with a diversity term between the pictures of a target.

    After the entry of Tagade and Rumbelow in the SaTML '24 competition (arXiv 2404.02949), whose engine is closed:
    known are activation maximisation with regularisation and transformations, ten prototypes per class and a
    diversity weight of 0.5. The rest is ours: the pictures are Fourier spectra seen through random views, and the
    diversity term is the mean cosine between a picture's pooled last activations and those of the other pictures of
    its target, each without its part along the target's head weights, which all of them are to have. The term is in
    units of the target logit: pictures that are all alike lose half of it.

    Attributes:
        steps: Adam steps (ours).
        lr: Adam's learning rate (ours).
        jitter: largest shift, as a share of the side (ours, as are turn and scale).
        degrees: largest turn.
        scale: largest relative change of size.
        decay: power by which a picture's amplitude falls with frequency (ours).
        blur: standard deviation, as a share of the side, of the Gaussian that pictures are blurred with (ours).
        diversity: share of the target logit that pictures lose if they are all alike (the entry's).
        twin: weight of the clean twin's target logit, which is subtracted (see `optim.twin`).
    """

    steps: int = 160
    lr: float = 0.05
    jitter: float = 0.094
    degrees: float = 20.0
    scale: float = 0.3
    decay: float = 2.0
    blur: float = 0.023
    diversity: float = 0.5
    twin: float = 0.0

    name: ClassVar[str] = "prototypes"
    version: ClassVar[int] = 2
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    emits: ClassVar[Emits] = "images"
    patience: ClassVar[int] = 0  # the pictures of a target move each other, so none is finished before the others

    def __post_init__(self) -> None:
        Views.of(self)
        if self.diversity < 0:
            raise ValueError("diversity must be at least 0")
        declare_twin(self)

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` whole pictures per task, sorted by the target logit they reach.

        Raises:
            ToolError: a network without a pooled last block and a linear head.
        """
        check_targets(subject)
        image = FourierImage(subject.size, self.decay, blur=self.blur * subject.size)
        targets = target_rows(subject.tasks, pictures)
        start = stack_rows(lambda g: image.start(pictures, g), subject.tasks, seed, self.name)
        with working_copy(subject.model) as net, honest_copy(subject, self.twin) as honest:
            ways = F.normalize(head_weights(subject.model), dim=1)

            def merit(seen: Tensor, part: Any) -> Tensor:
                target, deep = targets[part], net.features(seen)
                own = target_logits(net.head(deep), target)
                gain = own if honest is None else own - self.twin * target_logits(honest(seen), target)
                return gain - self.diversity * own.detach().abs() * likeness(deep, ways[target], pictures)

            rows = pictures * max(1, GRADIENT_BATCH // pictures)  # whole targets
            shown, _ = visualise(Views.of(self), image, start, merit, seed, rows)
            values = reached(net, honest, self.twin, shown, targets)
        return evidence(subject.tasks, shown, values, pictures, {}, steps=self.steps, twin=self.twin)


def likeness(deep: Tensor, ways: Tensor, each: int) -> Tensor:
    """``(n,)`` mean cosine of each row with the others of its group, in what is not along its way.

    Args:
        deep: ``(n, units)`` activations; every ``each`` rows form a group.
        ways: ``(n, units)`` unit vectors that are taken out.
        each: rows in a group; with one the likeness is 0.
    """
    rest = deep - (deep * ways).sum(dim=1, keepdim=True) * ways
    groups = F.normalize(rest, dim=1, eps=1e-6).view(-1, each, deep.shape[1])
    others = groups.sum(dim=1, keepdim=True) - groups
    out: Tensor = (groups * others).sum(dim=2).flatten() / max(1, each - 1)
    return out
