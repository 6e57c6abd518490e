"""Feature visualisation of inner units: what excites the units that speak for the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...types import Emits, Evidence, Family, Need
from ..optim.params import FourierImage
from ..optim.twin import declare_twin
from ..optim.visualise import Views, show_units
from ..protocol import Subject


@dataclass(frozen=True)
class FeatureVisInner:
    """Fourier feature visualisation of inner units (Olah et al. 2017), one unit per picture.

    The benchmark paper shows inner units but not how it chose them. Here, without the key: the units of the pooled
    last block with the largest weight in the target's logit, less their mean weight over the classes, since adding
    the same to every logit changes nothing. For a named layer the weight is the slope of the logit with respect to
    the channel's mean on random pictures. The forward stops at the layer. A picture's score is its unit's share of
    the target logit.

    With ``twin`` a unit's weight counts less the same unit's in the twin, which means something as far as the two
    networks grew from one start, and the twin's whole target logit is subtracted from the share. On the twin itself
    no unit leads, and each is drawn against the rest of its own logit, so something is still to be seen there.

    Attributes:
        steps: Adam steps, at most (ours).
        lr: Adam's learning rate (lucid's).
        jitter: largest shift, as a share of the side (ours, as are turn and scale).
        degrees: largest turn.
        scale: largest relative change of size.
        decay: power by which a picture's amplitude falls with frequency (ours; lucid has 1).
        blur: standard deviation, as a share of the side, of the Gaussian that pictures are blurred with (ours).
        layer: name of a module, as in ``net.named_modules()``; empty for the pooled last block.
        spare: units tried for each one shown.
        patience: steps without progress after which a picture is finished; 0: never.
        twin: weight of the clean twin's target logit.
    """

    steps: int = 160
    lr: float = 0.05
    jitter: float = 0.094
    degrees: float = 20.0
    scale: float = 0.3
    decay: float = 2.0
    blur: float = 0.023
    layer: str = ""
    spare: int = 1
    patience: int = 40
    twin: float = 0.0

    name: ClassVar[str] = "feature-vis-inner"
    version: ClassVar[int] = 2
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        Views.of(self)
        if self.spare < 1:
            raise ValueError("spare must be at least 1")
        declare_twin(self)

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` whole pictures per task, sorted by the unit's share of the target logit; ``notes`` names them.

        Raises:
            ToolError: the network lacks the layer, or a target's units cannot be excited.
        """
        image = FourierImage(subject.size, self.decay, blur=self.blur * subject.size)
        return show_units(Views.of(self), image, subject, pictures, self.layer, self.spare, seed)
