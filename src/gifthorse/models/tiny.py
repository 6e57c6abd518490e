"""`TinyResNet`: a residual network that trains from scratch on a CPU in minutes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..rng import child_seed
from .classifier import Classifier

MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; children stand in call order so that norms can be folded."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        shortcut: list[nn.Module] = []
        if stride > 1:
            shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if inputs != outputs:
            shortcut += [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.shortcut = nn.Sequential(*shortcut)
        self.act2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        out: Tensor = self.act2(y + self.shortcut(x))
        return out


class _TinyNet(nn.Module):
    """Stem, one block per width, mean over the places, linear head."""

    mean = MEAN
    std = STD

    def __init__(self, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, widths[0], 5, 2, 2, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        self.act = nn.ReLU()
        before = (widths[0], *widths[:-1])
        self.blocks = nn.Sequential(
            *(_Block(a, b, 1 if i == 0 else 2) for i, (a, b) in enumerate(zip(before, widths, strict=True)))
        )
        self.fc = nn.Linear(widths[-1], classes)

    def features(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.act(self.bn(self.conv(x)))).mean((2, 3))
        return out

    def head(self, f: Tensor) -> Tensor:
        out: Tensor = self.fc(f)
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def _initialise(net: nn.Module, seed: int) -> None:
    """He weights from a generator of their own; each block starts as little more than its shortcut."""
    draw = torch.Generator().manual_seed(child_seed(seed, "tiny", "weights"))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=draw)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01, generator=draw)
            nn.init.zeros_(module.bias)
    for module in net.modules():
        if isinstance(module, _Block):
            nn.init.constant_(module.bn2.weight, 0.2)


@dataclass(frozen=True)
class TinyResNet:
    """A small residual network (0.69 M parameters by default).

    Attributes:
        widths: channels of each block; the first keeps the stem's resolution, the others halve it.
    """

    name: ClassVar[str] = "tiny"
    version: ClassVar[int] = 1
    widths: tuple[int, ...] = (24, 48, 96, 192)

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise InputError(f"model 'tiny': widths {self.widths} must be positive numbers, as in (24, 48, 96, 192)")

    def build(self, classes: tuple[str, ...], size: int, seed: int) -> nn.Module:
        """An untrained network; the same seed gives the same weights.

        Args:
            classes: class names, one output each.
            size: side of the square input in pixels.
            seed: seed of the weights; the global generator is left alone.

        Returns:
            A module that maps normalised ``(n, 3, size, size)`` to logits ``(n, classes)`` and offers
            ``features``, ``head``, ``mean`` and ``std``.
        """
        if size < 2 ** len(self.widths):
            raise InputError(f"model 'tiny' needs pictures of {2 ** len(self.widths)} pixels or more, got {size}")
        with torch.random.fork_rng(devices=[]):
            net = _TinyNet(tuple(self.widths), len(classes))
        _initialise(net, seed)
        return net

    def classifier(self, net: nn.Module, classes: tuple[str, ...], size: int) -> Classifier:
        """``net`` with its normalisation inside, frozen."""
        return Classifier(net, tuple(classes), size, MEAN, STD)
