"""Feature visualisation with pictures that are small networks from coordinates to colour (CPPN)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...types import Emits, Evidence, Family, Need
from ..optim.params import CppnImage
from ..optim.twin import declare_twin
from ..optim.visualise import Views, show_logit, show_units
from ..protocol import Subject


@dataclass(frozen=True)
class Cppn:
    """CPPN feature visualisation of the target logit (Mordvintsev et al. 2018), under random views.

    A picture is a network of 1x1 convolutions from the pixel's coordinates to its colour, so it is smooth and has no
    fixed resolution. Layers, width, the unbiased activation and the rate of its example are lucid's. Ours: decorrelated
    colours and a fixed contrast (see `CppnImage`), without which small networks are shown plain colours, and the small
    drawing during optimisation.

    Attributes:
        steps: Adam steps, at most (ours; lucid's example takes 512).
        lr: Adam's learning rate (that of lucid's example; at twice the rate pictures saturate).
        jitter: largest shift, as a share of the side (ours, as are turn and scale).
        degrees: largest turn.
        scale: largest relative change of size.
        layers: 1x1 convolutions of a picture's network.
        width: channels of each.
        sketch: side, as a share, at which pictures are drawn while they are optimised (ours); shown are drawings at
            the full side.
        restarts: pictures made for each one shown; those with the best score are shown.
        patience: steps without progress after which a picture is finished; 0: never.
        twin: weight of the clean twin's target logit, which is subtracted (see `optim.twin`).
    """

    steps: int = 140
    lr: float = 0.005
    jitter: float = 0.094
    degrees: float = 20.0
    scale: float = 0.3
    layers: int = 8
    width: int = 24
    sketch: float = 0.5
    restarts: int = 1
    patience: int = 40
    twin: float = 0.0

    name: ClassVar[str] = "cppn"
    version: ClassVar[int] = 3
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        Views.of(self)
        _image(self, 1)
        if self.restarts < 1:
            raise ValueError("restarts must be at least 1")
        declare_twin(self)

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` whole pictures per task, sorted by the target logit they reach."""
        return show_logit(Views.of(self), _image(self, subject.size), subject, pictures, self.restarts, seed)


@dataclass(frozen=True)
class CppnInner:
    """CPPN feature visualisation of inner units; the units are chosen as by `FeatureVisInner`.

    Attributes:
        steps: Adam steps, at most.
        lr: Adam's learning rate.
        jitter: largest shift, as a share of the side.
        degrees: largest turn.
        scale: largest relative change of size.
        layers: 1x1 convolutions of a picture's network.
        width: channels of each.
        sketch: side, as a share, at which pictures are drawn while they are optimised.
        layer: name of a module, as in ``net.named_modules()``; empty for the pooled last block.
        spare: units tried for each one shown.
        patience: steps without progress after which a picture is finished; 0: never.
        twin: weight of the clean twin's target logit.
    """

    steps: int = 140
    lr: float = 0.005
    jitter: float = 0.094
    degrees: float = 20.0
    scale: float = 0.3
    layers: int = 8
    width: int = 24
    sketch: float = 0.5
    layer: str = ""
    spare: int = 1
    patience: int = 40
    twin: float = 0.0

    name: ClassVar[str] = "cppn-inner"
    version: ClassVar[int] = 3
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        Views.of(self)
        _image(self, 1)
        if self.spare < 1:
            raise ValueError("spare must be at least 1")
        declare_twin(self)

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` whole pictures per task, sorted by the unit's share of the target logit; ``notes`` names them.

        Raises:
            ToolError: the network lacks the layer, or a target's units cannot be excited.
        """
        return show_units(Views.of(self), _image(self, subject.size), subject, pictures, self.layer, self.spare, seed)


def _image(tool: Cppn | CppnInner, size: int) -> CppnImage:
    """The parametrisation that a tool's fields describe.

    Raises:
        ValueError: a number out of range.
    """
    if not 0 < tool.sketch <= 1:
        raise ValueError("sketch must lie in (0, 1]")
    return CppnImage(size, tool.layers, tool.width, max(1, round(tool.sketch * size)))
