"""Class activation maps: the last feature maps of a convolutional network, weighted for the target and enlarged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import ToolError
from ...models.classifier import FORWARD_BATCH, Classifier
from ...types import Emits, Evidence, Family, Need
from ..optim.loop import GRADIENT_BATCH
from ..protocol import Subject
from .engine import Op, Program, leaf, plain, rows_of
from .explain import Attribute, Part, explain, mean_colour
from .rules import Forward, guided, need_relus

Weigh = Callable[[Tensor, Tensor], Tensor]


def last_maps(program: Program) -> Op:
    """The last operation whose result is a feature map of more than one place, pools of single places left out.

    Raises:
        ToolError: the network has none, or works on tokens.
    """
    program.refuse(("attention",), "which works on tokens; class activation maps read convolutional feature maps")
    found: list[Op] = []

    def note(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = plain(op, args, kwargs)
        if op.inputs and isinstance(out, Tensor) and out.ndim == 4 and out[0, 0].numel() > 1:
            found.append(op)
        return out

    side = program.net.size
    with torch.no_grad():
        program.span(torch.zeros(1, 3, side, side), 1, len(program.ops), note)
    if not found:
        raise ToolError(
            f"{program.who}: {type(program.net.net).__name__} has no feature map of more than one place; "
            "use a method that reads the picture, such as saliency or occlusion"
        )
    return found[-1]


def maps_and_gradient(program: Program, layer: Op, x: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Feature maps ``(n, k, h, w)`` and the target logit's gradient there; only the layers above go backwards."""
    held: list[Tensor] = []

    def rule(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = plain(op, args, kwargs)
        if op is layer:
            held.append(leaf(out))
            return held[0]
        return out

    with torch.enable_grad():
        logit = program.run(x, rule)[:, target].sum()
    program.net.backwards += len(x)
    return held[0].detach(), torch.autograd.grad(logit, held)[0]


def enlarge(maps: Tensor, size: int, how: str = "bilinear") -> Tensor:
    """Maps ``(n, k, h, w)`` at the size of the picture."""
    if how == "nearest":
        return F.interpolate(maps, (size, size), mode="nearest")
    return F.interpolate(maps, (size, size), mode="bilinear", align_corners=False)


def traced(net: Classifier, who: str, notes: dict[str, Any]) -> tuple[Program, Op]:
    """The network's operations and its last feature map, which the evidence notes."""
    program = Program(net, who)
    layer = last_maps(program)
    notes["layer"] = layer.name
    return program, layer


def added_up(maps: Tensor, weights: Tensor) -> Tensor:
    """``(n, 1, h, w)`` the positive part of the weighted sum of feature maps ``(n, k, h, w)``."""
    return F.relu((weights * maps).sum(1, keepdim=True))


def cam(who: str, weigh: Weigh) -> Callable[[Classifier, dict[str, Any]], Attribute]:
    """The method whose map is the positive part of the feature maps, weighed by ``weigh(maps, gradient)``."""

    def method(net: Classifier, notes: dict[str, Any]) -> Attribute:
        program, layer = traced(net, who, notes)

        def attribute(part: Part) -> Tensor:
            maps, gradient = maps_and_gradient(program, layer, part.x, part.target)
            return enlarge(added_up(maps, weigh(maps, gradient)), net.size)

        return attribute

    return method


@dataclass(frozen=True)
class GradCam:
    """Feature maps weighed by the mean of the logit's gradient (Selvaraju et al. 2017).

    The layer is the last one with a feature map of more than one place, as the paper has it; the evidence notes it.
    Positive part and bilinear enlargement are the paper's. Nothing to choose.
    """

    name: ClassVar[str] = "gradcam"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, GRADIENT_BATCH, cam(self.name, self._weigh))

    @staticmethod
    def _weigh(maps: Tensor, gradient: Tensor) -> Tensor:
        return gradient.mean((2, 3), keepdim=True)


@dataclass(frozen=True)
class GradCamPlusPlus:
    """Feature maps weighed place by place (Chattopadhay et al. 2018).

    The paper's score is the exponential of the logit, which makes its closed form exact. The layer is as in
    `GradCam`. Nothing to choose.
    """

    name: ClassVar[str] = "gradcam-pp"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, GRADIENT_BATCH, cam(self.name, self._weigh))

    @staticmethod
    def _weigh(maps: Tensor, gradient: Tensor) -> Tensor:
        below = 2 * gradient**2 + maps.sum((2, 3), keepdim=True) * gradient**3
        alpha = torch.where(below != 0, gradient**2 / torch.where(below != 0, below, 1), 0)
        return (alpha * F.relu(gradient)).sum((2, 3), keepdim=True)


@dataclass(frozen=True)
class LayerCam:
    """Feature maps weighed by the positive gradient at each place (Jiang et al. 2021).

    The layer is as in `GradCam`; the paper also adds up earlier ones. Nothing to choose.
    """

    name: ClassVar[str] = "layercam"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, GRADIENT_BATCH, cam(self.name, self._weigh))

    @staticmethod
    def _weigh(maps: Tensor, gradient: Tensor) -> Tensor:
        return F.relu(gradient)


@dataclass(frozen=True)
class ScoreCam:
    """Feature maps weighed by the logit of the picture seen through each of them; no gradient (Wang et al. 2020).

    What a map hides is painted in the mean colour. Weights are the softmax of the logits over the maps, as in the
    paper. The layer is as in `GradCam`.

    Attributes:
        channels: most maps used, the strongest of each picture first; 0 means all, as in the paper.
    """

    channels: int = 0

    name: ClassVar[str] = "scorecam"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.channels < 0:
            raise ValueError("channels must be 0, for all, or more")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, 1, self._method)

    def _method(self, net: Classifier, notes: dict[str, Any]) -> Attribute:
        program, layer = traced(net, self.name, notes)
        return torch.no_grad()(lambda part: self._attribute(program, layer, part))

    def _attribute(self, program: Program, layer: Op, part: Part) -> Tensor:
        net, seen = program.net, []

        def rule(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            out = plain(op, args, kwargs)
            if op is layer:
                seen.append(out.clone())
            return out

        program.run(part.x, rule)
        (maps,) = seen
        if self.channels:
            kept = maps.amax((0, 2, 3)).argsort(descending=True, stable=True)[: self.channels]
            maps = maps[:, kept.sort().values]
        scores = []
        for some in torch.split(maps, rows_of(net, FORWARD_BATCH), dim=1):
            veil = enlarge(some, net.size)[0, :, None]
            low, high = veil.amin((1, 2, 3), keepdim=True), veil.amax((1, 2, 3), keepdim=True)
            veil = torch.where(high > low, (veil - low) / torch.where(high > low, high - low, 1), 0)
            scores.append(net(torch.lerp(mean_colour(net), part.x, veil))[:, part.target])
        weights = torch.cat(scores).softmax(0).view(1, -1, 1, 1)
        return enlarge(added_up(maps, weights), net.size)


@dataclass(frozen=True)
class GuidedGradCam:
    """Guided backpropagation times Grad-CAM (Selvaraju et al. 2017), from one forward pass.

    The layer is as in `GradCam`.

    Attributes:
        enlarge: how the class activation map grows: ``"nearest"`` (Captum's) or ``"bilinear"`` (the paper's).
    """

    enlarge: Literal["nearest", "bilinear"] = "nearest"

    name: ClassVar[str] = "guided-gradcam"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, GRADIENT_BATCH, self._method)

    def _method(self, net: Classifier, notes: dict[str, Any]) -> Attribute:
        program, layer = traced(net, self.name, notes)
        need_relus(program)

        def attribute(part: Part) -> Tensor:
            once = Forward(program, part.x, part.target, layer)
            maps, gradient = once.maps()
            map_ = added_up(maps, GradCam._weigh(maps, gradient))
            return once.gradient(guided) * enlarge(map_, net.size, self.enlarge)

        return attribute
