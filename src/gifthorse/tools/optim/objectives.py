"""What synthesis tools optimise, and how they score the outcome."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ToolError
from ...models.classifier import FORWARD_BATCH, Classifier
from ...types import Task
from .transforms import paste, random_places


def target_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """``(n,)`` the logit of each row's target class."""
    return logits.gather(1, targets[:, None])[:, 0]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """``(n,)`` cross-entropy of each row."""
    return F.cross_entropy(logits, targets, reduction="none")


def total_variation(x: Tensor) -> Tensor:
    """``(n,)`` mean absolute difference of neighbouring pixels of ``(n, c, h, w)``."""
    across, down = (x[..., 1:] - x[..., :-1]).abs(), (x[..., 1:, :] - x[..., :-1, :]).abs()
    return across.mean(dim=(1, 2, 3)) + down.mean(dim=(1, 2, 3))


def elastic(x: Tensor) -> Tensor:
    """``(n,)`` sum of absolute values and squares of ``(n, c, h, w)``."""
    return x.abs().sum(dim=(1, 2, 3)) + x.square().sum(dim=(1, 2, 3))


def roughness(x: Tensor) -> Tensor:
    """``(n,)`` sum of squared differences of neighbouring pixels of ``(n, c, h, w)``."""
    across, down = (x[..., 1:] - x[..., :-1]).square(), (x[..., 1:, :] - x[..., :-1, :]).square()
    return across.sum(dim=(1, 2, 3)) + down.sum(dim=(1, 2, 3))


def scene_pools(tasks: Sequence[Task], labels: NDArray[np.int64]) -> list[Tensor]:
    """For each task the indices of clean pictures that its trigger should flip.

    They are those of the source class, or of every class but the target for a universal trojan.

    Raises:
        ToolError: no clean picture fits a task.
    """
    pools = []
    for task in tasks:
        fits = labels != task.target if task.source is None else labels == task.source
        if not fits.any():
            wanted = "outside the target class" if task.source is None else f"of source class {task.source}"
            raise ToolError(f"task {task.id}: no clean picture {wanted}; give the tools more clean pictures")
        pools.append(torch.as_tensor(np.flatnonzero(fits)))
    return pools


def pick(pools: Sequence[Tensor], owner: Tensor, each: int, draw: torch.Generator) -> Tensor:
    """``(rows * each,)`` random clean pictures, ``each`` for every row, from the pool of the row's task.

    Args:
        pools: indices per task, from `scene_pools`.
        owner: ``(rows,)`` index of the task each row belongs to.
        each: pictures per row.
        draw: random generator.
    """
    sizes = torch.tensor([len(p) for p in pools])
    first = sizes.cumsum(0) - sizes
    rows = owner.repeat_interleave(each)
    place = (torch.rand(len(rows), generator=draw) * sizes[rows]).long()
    return torch.cat(list(pools))[first[rows] + place.minimum(sizes[rows] - 1)]


def everywhere(scenes: Tensor, patches: Tensor, alpha: Tensor, places: Tensor) -> Tensor:
    """``(n * k, 3, h, w)`` every patch pasted on each of the same scenes, patch by patch.

    Args:
        scenes: ``(k, 3, h, w)`` clean pictures.
        patches: ``(n, 3, p, p)``.
        alpha: opacity, ``(p, p)`` for all patches or ``(n, 1, p, p)``.
        places: ``(k, 2, 3)`` from `random_places`.
    """
    n, k = len(patches), len(scenes)
    opacity = alpha.repeat_interleave(k, 0) if alpha.ndim == 4 else alpha
    return paste(scenes.repeat(n, 1, 1, 1), patches.repeat_interleave(k, 0), opacity, places.repeat(n, 1, 1))


@torch.no_grad()
def pasted_confidence(net: Classifier, scenes: Tensor, patches: Tensor, alpha: Tensor, places: Tensor) -> Tensor:
    """Confidence in every class when each patch is pasted on the same scenes at the same places.

    Args:
        net: the network.
        scenes: ``(k, 3, h, w)`` clean pictures.
        patches: ``(n, 3, p, p)``.
        alpha: opacity, ``(p, p)`` for all patches or ``(n, 1, p, p)``.
        places: ``(k, 2, 3)`` from `random_places`.

    Returns:
        ``(n, k, classes)`` in [0, 1].
    """
    k, parts = len(scenes), []
    each = max(1, FORWARD_BATCH // k)
    for i in range(0, len(patches), each):
        some, opacity = patches[i : i + each], alpha[i : i + each] if alpha.ndim == 4 else alpha
        parts.append(torch.softmax(net(everywhere(scenes, some, opacity, places)), dim=1).view(len(some), k, -1))
    return torch.cat(parts)


@torch.no_grad()
def pasted_gain(
    net: Classifier,
    scenes: Tensor,
    patches: Tensor,
    alpha: Tensor,
    target: int,
    size: tuple[float, float],
    draw: torch.Generator,
) -> NDArray[np.float32]:
    """``(n,)`` mean rise of the target's confidence when each patch is pasted on the same scenes.

    Args:
        net: the network.
        scenes: ``(k, 3, h, w)`` clean pictures.
        patches: ``(n, 3, p, p)``.
        alpha: ``(p, p)`` opacity.
        target: class index.
        size: smallest and largest side, relative to the scene's.
        draw: random generator; every patch is pasted at the same places.
    """
    if not len(patches):
        return np.zeros(0, np.float32)
    places = random_places(len(scenes), *size, 0.0, draw)
    before = torch.softmax(net(scenes), dim=1)[:, target].mean()
    after = pasted_confidence(net, scenes, patches, alpha, places)[..., target]
    return (after.mean(dim=1) - before).numpy()
