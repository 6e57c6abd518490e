"""SNAFUE: search natural pictures that work on the network as adversarial patches do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ToolError
from ...images import from_tensor, to_tensor
from ...models.classifier import Classifier
from ...types import Emits, Evidence, Family, Need, Pictures, Task
from ..optim.loop import best_first, torch_generator, working_copy
from ..optim.objectives import pasted_gain, pick, scene_pools
from ..optim.transforms import soft_disc
from ..protocol import Subject
from ..synthesis.adv_patch import AdversarialPatch


@dataclass(frozen=True)
class Snafue:
    """Search for natural adversarial features using embeddings, after Casper et al. (2022).

    Adversarial patches are made first. Bank pictures are ranked by how their embedding resembles
    the patches', counting the features on which the patches agree; the first ones are pasted on
    clean pictures and the pictures with the largest gain of target confidence are shown. Both are
    embedded as small as they are pasted, as published, though in the middle of the mean colour
    rather than alone, so that the network sees its own input size.

    Attributes:
        synthetic: adversarial patches per task.
        steps: Adam steps of each.
        power: power of the similarity; a high one favours a near match with one patch.
        shortlist: bank pictures that are pasted.
        trials: clean pictures that each is pasted on.
        side: side of a pasted and of an embedded picture, relative to the scene's.
        drop_target: drop pictures that the network itself labels as the target, as published. Off by
            default: it keeps out drawings of the target class, but a trigger that fires the trojan
            without a scene goes with them.
    """

    synthetic: int = 5
    steps: int = 60
    power: float = 10.0
    shortlist: int = 40
    trials: int = 8
    side: float = 0.45
    drop_target: bool = False

    name: ClassVar[str] = "snafue"
    version: ClassVar[int] = 3
    family: ClassVar[Family] = "retrieval"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.CLEAN, Need.BANK})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        if self.synthetic < 2 or min(self.steps, self.shortlist, self.trials) < 1 or not 0 < self.side <= 1:
            raise ValueError("needs synthetic >= 2, steps, shortlist and trials >= 1 and 0 < side <= 1")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """Up to ``pictures`` bank pictures per task, best gain first; ``notes`` names them."""
        bank = subject.need_bank()
        if not len(bank.pictures):
            raise ToolError("the picture bank is empty; give snafue pictures to search")
        clean, labels = subject.need_clean()
        scenes, pools = to_tensor(clean), scene_pools(subject.tasks, labels)
        shown = resized(bank.pictures, subject.size)
        with working_copy(subject.model) as net:
            small = self._framed(net, shown)
            natural = net.embed(small)
            named = net.logits(small).argmax(axis=1)
            patches, gains = AdversarialPatch(steps=self.steps).patches(net, subject, self.synthetic, seed)
            vectors = net.embed(self._framed(net, from_tensor(patches))).reshape(len(subject.tasks), self.synthetic, -1)
            out = []
            for k, task in enumerate(subject.tasks):
                rank = similarity(natural, vectors[k], gains[k], self.power)
                order = best_first(rank)
                left = [i for i in order if not self.drop_target or named[i] != task.target][
                    : max(self.shortlist, pictures)
                ]
                if len(left) < pictures:  # too few others: fill up rather than show less
                    left += [i for i in order if i not in left][: pictures - len(left)]
                rise = self._gain(net, shown[left], scenes, pools[k], task, seed)
                best = best_first(rise)[:pictures]
                chosen = [left[i] for i in best]
                notes = {"retrieved": [bank.names[i] for i in chosen]}
                scores = tuple(float(rise[i]) for i in best)
                out.append(Evidence(task.id, shown[chosen], scores=scores, notes=notes))
        return out

    def _framed(self, net: Classifier, pictures: Pictures) -> Pictures:
        """Pictures as small as they are pasted, in the middle of the mean colour."""
        size = pictures.shape[1]
        side = max(1, round(self.side * size))
        inside = slice((size - side) // 2, (size - side) // 2 + side)
        colour = from_tensor(net.get_buffer("mean"))
        out = np.repeat(np.broadcast_to(colour, (1, size, size, 3)), len(pictures), axis=0)
        out[:, inside, inside] = resized(pictures, side)
        return out

    def _gain(
        self, net: Classifier, found: NDArray[np.uint8], scenes: Tensor, pool: Tensor, task: Task, seed: int
    ) -> NDArray[np.float32]:
        """``(n,)`` mean gain of target confidence of bank pictures pasted as round patches."""
        draw = torch_generator(seed, self.name, "trials", task.id)
        below = scenes[pick([pool], torch.zeros(1, dtype=torch.long), self.trials, draw)]
        small = F.interpolate(to_tensor(found), scale_factor=0.5, mode="bilinear", antialias=True, align_corners=False)
        return pasted_gain(net, below, small, soft_disc(small.shape[-1]), task.target, (self.side, self.side), draw)


def similarity(
    natural: NDArray[np.float32], synthetic: NDArray[np.float32], gains: NDArray[np.float32], power: float
) -> NDArray[np.float32]:
    """How well natural pictures match synthetic ones, on the features that the latter share.

    Args:
        natural: ``(n, d)`` embeddings.
        synthetic: ``(k, d)`` embeddings.
        gains: ``(k,)`` how well each synthetic picture works; those that do not work count less.
        power: power of the cosine.

    Returns:
        ``(n,)`` scores.
    """
    mean, spread = synthetic.mean(axis=0), synthetic.std(axis=0)
    weight = np.clip(1 - spread / (np.abs(mean) + 1e-8), 0, None)
    sparse = synthetic * weight
    unit = sparse / (np.linalg.norm(sparse, axis=1, keepdims=True) + 1e-8)
    cosine = natural @ unit.T / (np.linalg.norm(natural, axis=1, keepdims=True) + 1e-8)
    worth = np.clip(gains / max(float(gains.max()), 1e-8), 0, 1)
    if not worth.any():
        worth = np.ones_like(worth)
    out: NDArray[np.float32] = ((np.clip(cosine, 0, 1) * worth) ** power).mean(axis=1).astype(np.float32)
    return out


def resized(pictures: Pictures, size: int) -> Pictures:
    """Pictures ``(n, size, size, 3)``."""
    if pictures.shape[1:3] == (size, size):
        return pictures
    parts = [
        from_tensor(F.interpolate(to_tensor(pictures[i : i + 256]), (size, size), mode="bilinear", antialias=True))
        for i in range(0, len(pictures), 256)
    ]
    return np.concatenate(parts)
