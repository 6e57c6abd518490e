"""Attribution by going backwards through the network under another rule than the gradient's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...models.classifier import Classifier
from ...types import Emits, Evidence, Family, Need
from ..optim.loop import GRADIENT_BATCH
from ..protocol import Subject
from .engine import Program, leaf, memo, rows_of
from .explain import Attribute, Part, explain, mean_colour
from .gradient import draw_clean
from .rules import Forward, Reference, deconvolved, guided, need_relus, references, relevance

PRODUCTS = "which multiplies or normalises by what it sees; the method's rules cover sums, pools and activations only"


@dataclass(frozen=True)
class GuidedBackprop:
    """The gradient, cut to its positive part at every open ReLU (Springenberg et al. 2015); nothing to choose.

    ReLUs written as functions and ReLU6, which Captum passes over, count as well.
    """

    name: ClassVar[str] = "guided-backprop"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, GRADIENT_BATCH, self._method)

    def _method(self, net: Classifier, notes: dict[str, Any]) -> Attribute:
        program = Program(net, self.name)
        need_relus(program)
        return lambda part: Forward(program, part.x, part.target).gradient(guided)


@dataclass(frozen=True)
class Deconvolution:
    """The gradient with ReLUs applied to what goes back, not by what went forward (Zeiler and Fergus 2014).

    Nothing to choose. ReLUs written as functions and ReLU6, which Captum passes over, count as well.
    """

    name: ClassVar[str] = "deconvolution"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, GRADIENT_BATCH, self._method)

    def _method(self, net: Classifier, notes: dict[str, Any]) -> Attribute:
        program = Program(net, self.name)
        need_relus(program)
        return lambda part: Forward(program, part.x, part.target).gradient(deconvolved)


def rescaled(program: Program, grounds: list[Reference], x: Tensor, target: int) -> list[Tensor]:
    """DeepLift's multipliers ``(n, 3, h, w)`` against each reference, from one forward pass."""
    once = Forward(program, x, target, kinds=("activation", "maxpool"))
    return [once.gradient(reference) for reference in grounds]


@dataclass(frozen=True)
class DeepLift:
    """The change of the logit against the mean colour, shared out by DeepLift's rescale rule (Shrikumar et al. 2017).

    The mean colour's activations are computed once. Overlapping max-pools add up what one input gets from several
    windows, which Captum's lose. Nothing to choose.
    """

    name: ClassVar[str] = "deep-lift"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, GRADIENT_BATCH, self._method)

    def _method(self, net: Classifier, notes: dict[str, Any]) -> Attribute:
        program = Program(net, self.name)
        program.refuse(("attention", "other"), PRODUCTS)
        grey = mean_colour(net)
        known = memo(net)
        if "mean colour" not in known:
            known["mean colour"] = references(program, grey.expand(1, 3, net.size, net.size))
        grounds = known["mean colour"]
        return lambda part: (part.x - grey) * rescaled(program, grounds, part.x, part.target)[0]


@dataclass(frozen=True)
class DeepLiftShap:
    """DeepLift against several clean pictures, averaged (Lundberg and Lee 2017).

    Attributes:
        baselines: clean pictures drawn as the background, the same for all pictures (ours; Captum has no default).
    """

    baselines: int = 5

    name: ClassVar[str] = "deep-lift-shap"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED, Need.CLEAN})
    emits: ClassVar[Emits] = "heatmaps"

    def __post_init__(self) -> None:
        if self.baselines < 1:
            raise ValueError("baselines must be at least 1")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture."""
        background = draw_clean(subject, self.baselines, seed, self.name)
        return explain(self.name, subject, GRADIENT_BATCH, lambda net, notes: self._method(net, background))

    def _method(self, net: Classifier, background: Tensor) -> Attribute:
        program = Program(net, self.name)
        program.refuse(("attention", "other"), PRODUCTS)
        grounds = references(program, background)

        def attribute(part: Part) -> Tensor:
            found = []
            for x in torch.split(part.x, rows_of(net, GRADIENT_BATCH)):
                slopes = rescaled(program, grounds, x, part.target)
                found.append(sum((x - b) * s for b, s in zip(background, slopes, strict=True)) / len(background))
            return torch.cat(found)

        return attribute


@dataclass(frozen=True)
class Lrp:
    """Layer-wise relevance propagation with the epsilon rule (Bach et al. 2015).

    Sums of branches follow the rule as layers do; Captum hands each branch the whole unless the network is written
    with its own module for sums. Relevance passes activations unchanged. The input is the normalised picture.

    Attributes:
        epsilon: what keeps divisors from zero (Captum's 1e-9).
    """

    epsilon: float = 1e-9

    name: ClassVar[str] = "lrp"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError("epsilon must be above 0")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, GRADIENT_BATCH, self._method)

    def _method(self, net: Classifier, notes: dict[str, Any]) -> Attribute:
        program = Program(net, self.name)
        program.refuse(("attention", "other"), PRODUCTS)
        rule = relevance(self.epsilon)

        def attribute(part: Part) -> Tensor:
            net._count(part.x.detach().requires_grad_())
            with torch.enable_grad():
                held = leaf(net.normalise(part.x))
                logits = program.span(held, 1, len(program.ops), rule)
                logit = logits[:, part.target]
                return torch.autograd.grad((logit * logit.detach()).sum(), held)[0]

        return attribute
