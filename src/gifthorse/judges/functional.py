"""Does the evidence work? Paste it on clean pictures and see whether they go to the target, as the trigger does.

Two figures, reported side by side and never mixed: how often it succeeds, and whether it moves the network's
penultimate activations the way the true trigger does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..errors import InputError
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


def shift_agreement(
    evidence: NDArray[np.floating[Any]],
    trigger: NDArray[np.floating[Any]],
    others: Sequence[NDArray[np.floating[Any]]],
) -> float:
    """How much more the evidence's shift points along the true trigger's than along other triggers'.

    Half the difference of two mean cosines over pictures: with the true trigger's shift, and with the other
    trojans' (averaged over trojans). A picture that does not move has cosine 0.

    Args:
        evidence: ``(n, d)`` change of each clean picture's activations when the evidence is pasted on it.
        trigger: ``(n, d)`` the same for the true trigger.
        others: the same for each other trojan's trigger, at least one.

    Returns:
        In [-1, 1]: 1 along the true trigger and against all others, 0 no preference.

    Raises:
        InputError: no other trigger, or shifts of different shapes.
    """
    if not others or any(x.shape != evidence.shape for x in (trigger, *others)) or len(evidence) == 0:
        raise InputError("shifts of evidence, trigger and at least one other trigger must be of one shape (n, d)")
    own = _mean_cosine(evidence, trigger)
    rest = float(np.mean([_mean_cosine(evidence, other) for other in others]))
    return (own - rest) / 2


@dataclass(frozen=True)
class Reference:
    """How a network's penultimate activations move when triggers are put on the same scenes.

    Attributes:
        scenes: ``(n, h, w, 3)`` uint8 clean pictures on which the true trigger works (of its source class).
        clean: ``(n, d)`` their activations.
        trigger: ``(n, d)`` change under the true trigger.
        others: the same for each other trojan's trigger.
    """

    scenes: Pictures
    clean: NDArray[np.floating[Any]]
    trigger: NDArray[np.floating[Any]]
    others: tuple[NDArray[np.floating[Any]], ...]


def reference(model: Classifier, scenes: Pictures, triggered: Pictures, others: Sequence[Pictures]) -> Reference:
    """What `activation_match` compares with; one serves all tools.

    Args:
        model: the suspect network.
        scenes: ``(n, h, w, 3)`` clean pictures.
        triggered: the same pictures with the true trigger.
        others: the same pictures with each other trojan's trigger.

    Raises:
        InputError: triggered pictures that do not match the scenes.
    """
    if any(x.shape != scenes.shape for x in (triggered, *others)):
        raise InputError("triggered pictures must be the scenes themselves with a trigger; stamp the same scenes")
    if len(scenes) == 0:
        nothing = np.zeros((0, 0))
        return Reference(scenes, nothing, nothing, (nothing,) * len(others))
    clean = model.embed(scenes)
    return Reference(scenes, clean, model.embed(triggered) - clean, tuple(model.embed(x) - clean for x in others))


def activation_match(model: Classifier, evidence: Evidence, to: Reference, seed: int) -> float | None:
    """`shift_agreement` of pasted evidence with the true trigger in a network's penultimate activations.

    Args:
        model: the suspect network.
        evidence: its pictures take turns, pasted as for `functional_success`.
        to: how the triggers move it.
        seed: seed of the places.

    Returns:
        In [-1, 1], or None where there is nothing to paste, to paste on or to tell apart.
    """
    if len(evidence.images) == 0 or len(to.scenes) == 0 or not to.others:
        return None
    pasted = paste(evidence, to.scenes, generator(seed, "activation", evidence.task))
    return shift_agreement(model.embed(pasted) - to.clean, to.trigger, to.others)


def _mean_cosine(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> float:
    """Mean over rows of the cosine, in [-1, 1]; 0 for a row that does not move."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    cosines = np.divide((x * y).sum(1), size, out=np.zeros(len(x)), where=size > 0)
    return float(np.clip(cosines, -1, 1).mean())


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
