"""Does the evidence work? Paste it on clean pictures and see whether they go to the target."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..images import from_tensor, to_tensor
from ..models.classifier import Classifier
from ..rng import generator
from ..types import Evidence, Pictures, Task

SIDE = 0.45  # side of a pasted picture, as a share of the scene's
LIMIT = 128  # most clean pictures used


def functional_success(
    model: Classifier, evidence: Evidence, task: Task, clean: Pictures, labels: NDArray[np.int64], seed: int
) -> float | None:
    """How often pasted evidence sends clean pictures to the target, minus how often they go there anyway.

    Args:
        model: the suspect network.
        evidence: its pictures take turns.
        task: the target; where it names a source, only pictures of that class are used.
        clean: ``(n, h, w, 3)`` uint8 clean pictures.
        labels: ``(n,)`` their classes.
        seed: seed of the pictures and places.

    Returns:
        A rate in [-1, 1], or None where there is nothing to paste or to paste on.
    """
    usable = labels != task.target
    if task.source is not None:
        usable &= labels == task.source
    candidates = np.flatnonzero(usable)
    if len(evidence.images) == 0 or len(candidates) == 0:
        return None
    rng = generator(seed, "functional", task.id)
    chosen = rng.permutation(candidates)[:LIMIT]
    scenes = clean[chosen]
    pasted = paste(evidence, scenes, rng)
    rate, base = (float((model.logits(x).argmax(1) == task.target).mean()) for x in (pasted, scenes))
    return rate - base


def paste(evidence: Evidence, scenes: Pictures, rng: np.random.Generator) -> Pictures:
    """Scenes ``(n, s, s, 3)`` with the evidence's pictures pasted in turn, each at a random place.

    Pictures with alphas: one that fills the scene's frame and is mostly transparent (a mask with its
    pattern) stays where its tool put it, one smaller than the scene keeps its size. All others are
    resized to `SIDE` of the scene.
    """
    side = scenes.shape[1]
    h, w = evidence.images.shape[1:3]
    alphas = evidence.alphas
    in_place = alphas is not None and (h, w) == scenes.shape[1:3] and float(alphas.mean()) < 127.5
    keep = in_place or (alphas is not None and max(h, w) < side)
    pictures, opacity = evidence.images, np.full(evidence.images.shape[:3], 255, np.uint8) if alphas is None else alphas
    if not keep:
        pictures, opacity = _resize(pictures, opacity, max(1, round(side * SIDE)))
        h, w = pictures.shape[1:3]
    out = scenes.copy()
    for i in range(len(out)):
        k = i % len(pictures)
        y, x = int(rng.integers(out.shape[1] - h + 1)), int(rng.integers(out.shape[2] - w + 1))
        alpha = opacity[k, ..., None].astype(np.float32) / 255
        under = out[i, y : y + h, x : x + w]
        out[i, y : y + h, x : x + w] = np.rint(under * (1 - alpha) + pictures[k] * alpha).astype(np.uint8)
    return out


def _resize(pictures: Pictures, alphas: NDArray[np.uint8], side: int) -> tuple[Pictures, NDArray[np.uint8]]:
    """Pictures ``(n, h, w, 3)`` and alphas ``(n, h, w)`` at another size."""

    def scale(x: Pictures) -> Pictures:
        with torch.no_grad():
            return from_tensor(F.interpolate(to_tensor(x), (side, side), mode="bilinear", antialias=True))

    return scale(pictures), scale(np.repeat(alphas[..., None], 3, axis=3))[..., 0]
