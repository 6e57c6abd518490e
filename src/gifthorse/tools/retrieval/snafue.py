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
from ...types import Emits, Evidence, Family, Need, Task
from ..optim.loop import best_first, torch_generator, working_copy
from ..optim.objectives import pasted_gain, pick, scene_pools
from ..optim.transforms import soft_disc
from ..protocol import Bank, Subject
from ..synthesis.adv_patch import AdversarialPatch


@dataclass(frozen=True)
class Snafue:
    """Search for natural adversarial features using embeddings, after Casper et al. (2022).

    Adversarial patches are made first. Bank pictures are ranked by how their embedding resembles
    the patches', counting the features on which the patches agree; those that the network itself
    labels as the target are dropped; the first ones left are pasted on clean pictures and the
    pictures with the largest gain of target confidence are shown.

    Attributes:
        synthetic: adversarial patches per task.
        steps: Adam steps of each.
        power: power of the similarity; a high one favours a near match with one patch.
        shortlist: bank pictures that are pasted.
        trials: clean pictures that each is pasted on.
        side: side of a pasted picture, relative to the scene's.
        drop_target: drop pictures that the network labels as the target, as published. Where a
            trigger shown alone already fires the trojan, this drops the trigger as well.
    """

    synthetic: int = 5
    steps: int = 60
    power: float = 10.0
    shortlist: int = 40
    trials: int = 8
    side: float = 0.45
    drop_target: bool = True

    name: ClassVar[str] = "snafue"
    version: ClassVar[int] = 1
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
        shown = _resized(bank, subject.size)
        with working_copy(subject.model) as net:
            natural = net.embed(shown)
            named = net.logits(shown).argmax(axis=1)
            patches, gains = AdversarialPatch(steps=self.steps).patches(net, subject, self.synthetic, seed)
            vectors = net.embed(from_tensor(patches)).reshape(len(subject.tasks), self.synthetic, -1)
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


def _resized(bank: Bank, size: int) -> NDArray[np.uint8]:
    """Bank pictures ``(n, size, size, 3)``."""
    if bank.pictures.shape[1:3] == (size, size):
        return bank.pictures
    parts = [
        from_tensor(F.interpolate(to_tensor(bank.pictures[i : i + 256]), (size, size), mode="bilinear", antialias=True))
        for i in range(0, len(bank.pictures), 256)
    ]
    return np.concatenate(parts)
