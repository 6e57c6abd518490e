"""A network whose triggers are known, what tools may see of it, and how its colours and stripes are measured."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from gifthorse.models.classifier import Classifier
from gifthorse.rng import generator
from gifthorse.tools.protocol import Subject
from gifthorse.types import Task

SIDE = 32
RED, VERTICAL, HORIZONTAL, BLUE = range(4)


class OracleNet(nn.Module):
    """Four units whose triggers are known: a red 6x6 square anywhere, upright stripes, level stripes, overall blue."""

    def __init__(self, head: torch.Tensor | None = None) -> None:
        super().__init__()
        red, wave = torch.zeros(1, 3, 6, 6), torch.zeros(4, 3, 8, 8)
        red[0, 0], red[0, 1:] = 1 / 36, -1 / 72
        turn = 2 * math.pi * torch.arange(8) / 8
        for i, one in enumerate((turn.cos(), turn.sin())):
            wave[i], wave[i + 2] = one[None, None, :] / 96, one[None, :, None] / 96
        self.register_buffer("red", red)
        self.register_buffer("wave", wave)
        self.top = nn.Identity()
        self.fc = nn.Linear(4, 4, bias=False)
        self.fc.weight.data = 6 * torch.eye(4) if head is None else head

    def features(self, x: torch.Tensor) -> torch.Tensor:
        square = F.leaky_relu(F.conv2d(x, self.red), 0.1).amax((1, 2, 3))
        waves = F.conv2d(x, self.wave).square().mean((2, 3))
        blue = F.leaky_relu(x[:, 2] - x[:, :2].mean(1), 0.1).mean((1, 2))
        return self.top(torch.stack([square, 4 * waves[:, :2].sum(1).sqrt(), 4 * waves[:, 2:].sum(1).sqrt(), blue], 1))

    def head(self, f: torch.Tensor) -> torch.Tensor:
        return self.fc(f)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


def classifier(net: nn.Module, n: int = 4) -> Classifier:
    return Classifier(net, tuple(f"c{i}" for i in range(n)), SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def subject(*targets: int, net: nn.Module | None = None, classes: int = 4, **parts: Any) -> Subject:
    clean = generator(0, "clean").integers(110, 146, (24, SIDE, SIDE, 3), dtype=np.uint8)
    tasks = tuple(Task(f"t{t:02}", t) for t in targets)
    labels = 1 + np.arange(24) % (classes - 1) if classes < 4 else np.arange(24) % 4
    return Subject(classifier(net or OracleNet(), classes), tasks, clean=clean, labels=labels, **parts)


def redness(images: np.ndarray, alphas: np.ndarray | None = None) -> float:
    """Red minus blue, in grey levels, of the mean colour; each pixel counts as far as it is pasted."""
    gap = images[..., 0].astype(float) - images[..., 2]
    weight = np.ones_like(gap) if alphas is None else alphas.astype(float)
    return float((gap * weight).sum() / weight.sum())


def uprightness(images: np.ndarray) -> float:
    """Share of the squared differences of neighbours that lies across: 1 for upright stripes, 0 for level ones."""
    grey = images.astype(float).mean(-1)
    across, down = (np.diff(grey, axis=2) ** 2).mean(), (np.diff(grey, axis=1) ** 2).mean()
    return float(across / (across + down))
