"""Networks and subjects that the tests of attribution methods share."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from captum.attr._utils.custom_modules import Addition_Module
from torch import Tensor, nn
from torch.nn import functional as F

from gifthorse.models.classifier import Classifier
from gifthorse.rng import generator
from gifthorse.tools.protocol import Subject
from gifthorse.types import Task

SIDE, CLASSES, TARGET, PICTURES, SEED = 32, 5, 2, 6, 3
SIXTEEN = (
    "integrated-gradients", "deep-lift", "guided-gradcam", "saliency", "gradient-shap", "deep-lift-shap",
    "guided-backprop", "deconvolution", "lrp", "input-x-gradient", "feature-ablation", "feature-permutation", "lime",
    "occlusion", "kernel-shap", "shapley-sampling",
)  # fmt: skip
BEYOND = ("smooth-grad", "gradcam", "gradcam-pp", "layercam", "scorecam", "rise", "xrai")
FEW = {
    "occlusion": {"window": 16, "stride": 8},
    "feature-ablation": {"cells": 4},
    "feature-permutation": {"cells": 4},
    "shapley-sampling": {"cells": 4, "n_samples": 4},
    "lime": {"cells": 4, "n_samples": 40, "alpha": 1e-4},
    "kernel-shap": {"cells": 4, "n_samples": 60},
    "integrated-gradients": {"n_steps": 12},
    "xrai": {"n_steps": 8},
    "rise": {"masks": 256, "cells": 4},
    "smooth-grad": {"n_samples": 8},
}  # fmt: skip


class Blocks(nn.Module):
    """Convolutions, batch norm with statistics of its own, a sum of branches: all in modules, as Captum needs it."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv1, self.bn1, self.act1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
            self.conv2, self.bn2, self.act2 = nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
            self.conv3, self.bn3, self.act3 = nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
            self.add, self.pool, self.fc = Addition_Module(), nn.AdaptiveAvgPool2d(1), nn.Linear(8, CLASSES)
            for bn in (self.bn1, self.bn2, self.bn3):
                nn.init.normal_(bn.bias, 0, 0.2)
                nn.init.uniform_(bn.weight, 0.5, 1.5)
                bn.running_mean.normal_(0, 0.2)
                bn.running_var.uniform_(0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.act2(self.bn2(self.conv2(x)))))
        return self.fc(torch.flatten(self.pool(self.act3(self.add(y, x))), 1))


class Careless(Blocks):
    """The same network, written as networks often are: one ReLU for all, in place, and a sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.act1 = self.act2 = self.act3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(x)), inplace=True)))
        y += x
        return self.fc(self.act1(y).mean((2, 3)))


class Reader(nn.Module):
    """Class 2 is what one region holds; the rest of the picture is multiplied by nothing."""

    def __init__(self, size: int = SIDE) -> None:
        super().__init__()
        window = torch.zeros(1, 1, size, size)
        window[..., 8:16, 16:24] = 1
        self.register_buffer("window", window)
        self.register_buffer("classes", F.one_hot(torch.tensor([TARGET]), CLASSES).float())
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        with torch.no_grad():
            self.conv.weight.fill_(0.02)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.relu(self.conv(x * self.window)).sum((1, 2, 3))
        return seen[:, None] * self.classes / 8


class Linear(nn.Module):
    """A weight for every pixel and channel, and a bias."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.fc = nn.Linear(3 * SIDE * SIDE, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def classifier(net: nn.Module, size: int = SIDE, classes: int = CLASSES) -> Classifier:
    return Classifier(net, tuple(f"c{i}" for i in range(classes)), size, (0.5, 0.45, 0.4), (0.25, 0.2, 0.3))


def subject(net: nn.Module, n: int = PICTURES, size: int = SIDE, **changes: Any) -> Subject:
    rng = generator(1, "attribution")
    triggered = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    clean = rng.integers(0, 256, (8, size, size, 3), dtype=np.uint8)
    tasks = (Task("t01", TARGET),)
    full = Subject(classifier(net, size), tasks, clean, np.arange(8) % CLASSES, triggered={"t01": triggered})
    return dataclasses.replace(full, **changes)


def maps_of(tool: Any, given: Subject, seed: int = SEED) -> np.ndarray:
    maps = tool.run(given, 1, seed)[0].heatmaps
    assert maps is not None
    return maps


class Branching(Blocks):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.mean() < 9 else x


class Overwriting(Blocks):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x[:, 0] = 0
        return self.fc(self.act1(x).mean((2, 3)))


class Tokens(nn.Module):
    """One layer of attention over 16 patches; every token attends to the one whose key is largest."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.patch, self.attend = nn.Conv2d(3, 8, 8, 8), nn.MultiheadAttention(8, 2, batch_first=True)
            self.act, self.fc = nn.GELU(), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        t = self.patch(x).flatten(2).transpose(1, 2)
        t = t + self.attend(t, t, t, need_weights=False)[0]
        return self.fc(self.act(t).mean(1))
