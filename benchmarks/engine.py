"""Is our engine as fast as the plain way? Two comparisons in CPU seconds, the sides taking turns.

Run: ``OMP_NUM_THREADS=1 PYTHONPATH=src python benchmarks/engine.py [--rounds 9]``

1. Input gradient of a batch at 64 px: `Classifier.folded` in channels_last against the bare network (batch
   norms apart, default layout) with a hand-written normalisation, parameters frozen in both.
2. Training pictures per second: `plant.train.train` against a plain loop over a `DataLoader` whose dataset
   shifts and mirrors each picture with torchvision, same network, optimiser, batch and number of steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from gifthorse.models.lite0 import EfficientNetLite0
from gifthorse.models.tiny import TinyResNet
from gifthorse.plant.train import TrainRecipe, train

SIZE = 64
CLASSES = tuple(f"class {i}" for i in range(20))


def turns(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each side; every round runs each once, in alternating order, after one warm-up."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for name in sides:
        sides[name]()
    for turn in range(rounds):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            start = time.process_time()
            sides[name]()
            spent[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in spent.items()}


def input_gradient(component: TinyResNet | EfficientNetLite0, batch: int, rounds: int) -> dict[str, float]:
    """CPU milliseconds per picture of forward and input gradient of one logit."""
    net = component.build(CLASSES, SIZE, 0).eval().requires_grad_(False)
    model = component.classifier(net, CLASSES, SIZE).folded()
    mean, std = torch.tensor(net.mean).view(1, 3, 1, 1), torch.tensor(net.std).view(1, 3, 1, 1)
    x = torch.rand(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))

    def gradient(forward: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(forward(leaf)[:, 0].sum(), leaf)[0]

    bare = component.build(CLASSES, SIZE, 0).eval().requires_grad_(False)
    sides = {
        "bare": lambda: gradient(lambda leaf: bare((leaf - mean) / std)),
        "gifthorse": lambda: gradient(model),
    }
    worst = float((sides["bare"]() - sides["gifthorse"]()).abs().max() / sides["bare"]().abs().max())
    spent = turns(sides, rounds)
    return {
        **{f"{name} ms": 1000 * s / batch for name, s in spent.items()},
        "gifthorse / bare": spent["gifthorse"] / spent["bare"],
        "largest difference": worst,
    }


class Plain(Dataset[tuple[torch.Tensor, int]]):
    """Pictures one at a time, augmented by torchvision."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        from torchvision.transforms import v2

        self.images, self.labels = images, labels
        self.change = v2.Compose(
            [
                v2.ToImage(),
                v2.RandomCrop(SIZE, padding=4, padding_mode="edge"),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize((0.5,) * 3, (0.25,) * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.change(self.images[i]), int(self.labels[i])


def plain_epoch(net: nn.Module, data: Dataset[tuple[torch.Tensor, int]], recipe: TrainRecipe) -> None:
    """What one would write without gifthorse: DataLoader, AdamW, OneCycleLR, default layout."""
    loader = DataLoader(data, recipe.batch, shuffle=True, drop_last=True)
    optimiser = torch.optim.AdamW(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.lr, total_steps=len(loader), pct_start=0.2)
    net.train()
    for x, y in loader:
        loss = F.cross_entropy(net(x), y, label_smoothing=recipe.label_smoothing)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()


def training(pictures: int, rounds: int) -> dict[str, float]:
    """Training pictures per CPU second of one short epoch."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (pictures, SIZE, SIZE, 3), np.uint8)
    labels = draw.integers(0, len(CLASSES), pictures)
    recipe, data = TrainRecipe(epochs=1), Plain(images, labels)
    ours, plain = (TinyResNet().build(CLASSES, SIZE, 0) for _ in range(2))
    spent = turns(
        {
            "plain": lambda: plain_epoch(plain, data, recipe),
            "gifthorse": lambda: train(ours, images, labels, recipe),
        },
        rounds,
    )
    rates = {f"{name} pictures/s": pictures / s for name, s in spent.items()}
    return {**rates, "gifthorse / plain": spent["plain"] / spent["gifthorse"]}


def main() -> None:
    """Measure and print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    figures = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "input gradient, tiny, batch 36": input_gradient(TinyResNet(), 36, rounds),
        "input gradient, efficientnet-lite0, batch 12": input_gradient(EfficientNetLite0(), 12, rounds),
        "training, tiny, 64 px": training(512, max(3, rounds // 3)),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
