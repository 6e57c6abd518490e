"""Feature visualisation: the pictures that excite the target logit most."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from ...types import Emits, Evidence, Family, Need
from ..optim.params import FourierImage
from ..optim.twin import declare_twin
from ..optim.visualise import Views, show_logit
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
        restarts: pictures made for each one shown; those with the best score are shown.
        patience: steps without progress after which a picture is finished; 0: never.
        twin: weight of the clean twin's target logit, which is subtracted (see `optim.twin`).
    """

    steps: int = 160
    lr: float = 0.05
    jitter: float = 0.094
    degrees: float = 20.0
    scale: float = 0.3
    decay: float = 2.0
    blur: float = 0.023
    restarts: int = 1
    patience: int = 0
    twin: float = 0.0

    name: ClassVar[str] = "feature-vis"
    version: ClassVar[int] = 3
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        Views.of(self)
        if self.restarts < 1:
            raise ValueError("restarts must be at least 1")
        declare_twin(self)

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` whole pictures per task, sorted by the target logit they reach."""
        image = FourierImage(subject.size, self.decay, blur=self.blur * subject.size)
        out = show_logit(Views.of(self), image, subject, pictures, self.restarts, seed)
        plain = self.restarts == 1 and not self.patience and not self.twin
        return [dataclasses.replace(e, notes={}) for e in out] if plain else out
