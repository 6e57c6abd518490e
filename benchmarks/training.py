"""Is our training loop faster than the plain one? Pictures per second at 64 px; the bar is 1.9 where bf16 exists.

Run: ``python benchmarks/training.py [--rounds 5]``

Plain is what one would write without gifthorse: a `DataLoader` without workers over a data set that shifts and
mirrors each picture with torchvision transforms, AdamW, OneCycleLR, fp32, default layout. Same network, number
of steps, batch and shift; weights and pictures are random.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from measure import ratio, rounds_from, spread, turns, verdict
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from gifthorse.device import has_bf16
from gifthorse.models.tiny import MEAN, STD, TinyResNet
from gifthorse.plant.train import TrainRecipe, train
from gifthorse.types import Pictures

PICTURES, SIZE, BAR = 512, 64, 1.9
CLASSES = tuple(f"class {i}" for i in range(20))


class Plain(Dataset[tuple[Tensor, int]]):
    """Pictures one at a time, augmented by torchvision."""

    def __init__(self, images: Pictures, labels: np.ndarray[tuple[int], np.dtype[np.int64]], shift: int) -> None:
        self.images, self.labels = images, labels
        self.change = v2.Compose(
            [
                v2.ToImage(),
                v2.RandomCrop(SIZE, padding=shift, padding_mode="edge"),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.change(self.images[i]), int(self.labels[i])


def plain_epoch(net: nn.Module, data: Plain, recipe: TrainRecipe) -> None:
    """One epoch of the plain loop."""
    loader = DataLoader(data, recipe.batch, shuffle=True, drop_last=True)
    optimiser = torch.optim.AdamW(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.lr, total_steps=len(loader), pct_start=recipe.warmup)
    net.train()
    for x, y in loader:
        loss = F.cross_entropy(net(x), y, label_smoothing=recipe.label_smoothing)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()


def main() -> None:
    """Time one epoch of each side per round; fp32 of ours shows what bf16 adds."""
    rounds = rounds_from(__doc__, 5)
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (PICTURES, SIZE, SIZE, 3), np.uint8)
    labels = draw.integers(0, len(CLASSES), PICTURES)
    recipe = TrainRecipe(epochs=1)
    plain, ours, ours_fp32 = (TinyResNet().build(CLASSES, SIZE, 0) for _ in range(3))
    data = Plain(images, labels, recipe.shift)
    sides = {
        "plain": lambda: plain_epoch(plain, data, recipe),
        "gifthorse": lambda: train(ours, images, labels, recipe),
    }
    if has_bf16():
        sides["gifthorse, fp32"] = lambda: train(ours_fp32, images, labels, replace(recipe, bf16=False))
    times = turns(sides, rounds)
    print(f"tiny, n = {PICTURES} pictures each round in batches of {recipe.batch}; ours ran in", end=" ")
    print("bf16" if has_bf16() else "fp32: no bf16 here")
    for name, spent in times.items():
        print(f"  {name:16} pictures per CPU second  {spread([PICTURES / s for s in spent.cpu])}")
    for name in list(times)[1:]:
        gain = ratio(times["plain"], times[name])
        judged = (
            verdict(gain.median, BAR, least=True) if name == "gifthorse" and has_bf16() else "(no bar without bf16)"
        )
        print(f"  {name:16} times plain              {gain}  {judged}")


if __name__ == "__main__":
    main()
