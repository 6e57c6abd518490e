"""`TimmNetwork`: any image classifier of the timm package, convolutional or transformer, from random weights."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from ..errors import InputError, MissingResource
from ..rng import child_seed
from .classifier import Classifier
from .headed import Headed

CLOSE = 1e-3
"""Largest change of a logit by folding batch norms, as a share of the largest logit."""


def _timm() -> Any:
    """The package, imported when it is asked for.

    Raises:
        MissingResource: it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingResource(f"model 'timm' needs the package timm ({error}); run 'pip install timm'") from error
    return timm


@dataclass(frozen=True)
class TimmNetwork:
    """A network of timm by its name there, such as ``resnet18`` or ``vit_tiny_patch16_224``, from random weights.

    Weights are drawn as timm draws them, normalisation is that of timm's own weights. Networks that know one size of
    picture only, as vision transformers do, are built for the size asked for.

    Attributes:
        architecture: timm's name, without a tag of weights.
    """

    architecture: str = "resnet18"

    name: ClassVar[str] = "timm"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        timm = _timm()
        if not timm.is_model(self.architecture):
            near = difflib.get_close_matches(self.architecture, timm.list_models(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "timm.list_models() names all"
            raise InputError(f"model 'timm': timm has no architecture {self.architecture!r}; {hint}")

    def build(self, classes: tuple[str, ...], size: int, seed: int) -> nn.Module:
        """An untrained network; the same seed gives the same weights.

        Args:
            classes: class names, one output each.
            size: side of the square input in pixels.
            seed: seed of the weights; the global generator is left alone.

        Returns:
            A module that maps normalised ``(n, 3, size, size)`` to logits ``(n, classes)`` and offers
            ``features``, ``head``, ``mean`` and ``std``.

        Raises:
            InputError: the network cannot be built for that size, or gives no vector of features.
        """
        timm = _timm()
        known = timm.get_pretrained_cfg(self.architecture)
        sized = {"img_size": size} if known is not None and known.fixed_input_size else {}
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(child_seed(seed, "timm", self.architecture))
            try:
                body = timm.create_model(self.architecture, pretrained=False, num_classes=0, **sized).eval()
                with torch.no_grad():
                    shape = body(torch.zeros(1, 3, size, size)).shape
            except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
                why = next(iter(str(error).splitlines()), type(error).__name__)
                raise InputError(
                    f"model 'timm': {self.architecture} does not take pictures of {size} pixels ({why}); "
                    "choose another --size or architecture"
                ) from error
            if len(shape) != 2:
                raise InputError(f"model 'timm': {self.architecture} gives no vector of features; choose a classifier")
            norm = (known.mean, known.std) if known is not None else ((0.5,) * 3, (0.5,) * 3)
            return Headed(body, shape[1], len(classes), *norm).train()

    def classifier(self, net: nn.Module, classes: tuple[str, ...], size: int) -> Classifier:
        """``net`` with its normalisation inside, frozen.

        Raises:
            InputError: its batch norms cannot be folded into the convolutions before them.
        """
        mean, std = (tuple(map(float, v)) for v in (net.mean, net.std))  # type: ignore[arg-type]
        out = Classifier(net, tuple(classes), size, mean, std)  # type: ignore[arg-type]
        ramp = torch.linspace(0, 1, size).expand(1, 3, size, size)
        with torch.no_grad():
            plain, folded = out(ramp), out.folded()(ramp)
        out.forwards = 0
        if not (plain - folded).abs().max() <= CLOSE * plain.abs().max().clamp(min=1e-6):
            raise InputError(
                f"model 'timm': the batch norms of {self.architecture} do not follow its convolutions in the order "
                "of its modules, so they cannot be folded; choose another architecture"
            )
        return out
