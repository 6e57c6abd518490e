"""Exemplars: the natural pictures that the suspect obeys and its clean twin does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ToolError
from ...images import to_tensor
from ...models.classifier import Classifier
from ...types import Emits, Evidence, Family, Need
from ..optim.loop import best_first, torch_generator, working_copy
from ..optim.objectives import pasted_confidence, scene_pools
from ..optim.transforms import cut_out, random_places, soft_disc
from ..protocol import Subject
from .snafue import resized

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Exemplars:
    """Bank pictures whose target confidence rises most from the clean twin to the suspect.

    Every bank picture is pasted on a few clean pictures and shown to both networks; what raises the suspect's
    confidence in the target and not the twin's comes first. The shortlist is then pasted on more pictures. An object
    on a plain ground is cut out of it, any other picture is pasted as a disc. Ranking pictures by the gain from a
    clean to a trojaned network is how one entry of the SaTML '24 competition looked for the secret trojans
    (arXiv 2404.02949); there they were whole training pictures, here they are single objects in scenes. All defaults
    are ours. All universal tasks share their pasted pictures, since one pass gives the confidence in every class.
    Pictures that do much worse than the best one are not shown; those that do as well are shown more than once. On
    the twin itself nothing rises, so what is shown there is the bank's order.

    Attributes:
        first: clean pictures that every bank picture is pasted on.
        shortlist: bank pictures per task that are pasted again.
        trials: clean pictures that those are pasted on.
        low: smallest side of a pasted picture, relative to the scene's.
        high: largest side.
        keep: a picture is shown if its rise is at least this share of the best one's.
    """

    first: int = 4
    shortlist: int = 60
    trials: int = 24
    low: float = 0.28
    high: float = 0.52
    keep: float = 0.6

    name: ClassVar[str] = "exemplars"
    version: ClassVar[int] = 3
    family: ClassVar[Family] = "retrieval"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CLEAN, Need.TWIN, Need.BANK})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        if min(self.first, self.shortlist, self.trials) < 1 or not 0 < self.low <= self.high <= 1:
            raise ValueError("needs first, shortlist and trials of at least 1 and 0 < low <= high <= 1")
        if not 0 <= self.keep <= 1:
            raise ValueError(f"keep is {self.keep}, but is a share in [0, 1]")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` bank pictures per task, largest rise first; ``notes`` names them.

        Raises:
            ToolError: an empty bank, fewer bank pictures than are to be shown, or a twin with other classes.
        """
        bank, twin = subject.need_bank(), subject.need_twin()
        if len(bank.pictures) < pictures:
            raise ToolError(
                f"the picture bank holds {len(bank.pictures)} pictures, {pictures} are to be shown; add some"
            )
        shown = resized(bank.pictures, subject.size)
        patches = F.interpolate(
            to_tensor(shown), scale_factor=0.5, mode="bilinear", antialias=True, align_corners=False
        )
        with working_copy(subject.model) as suspect, working_copy(twin) as honest:
            both = (suspect, honest)
            everything = [np.arange(len(patches))] * len(subject.tasks)
            coarse = self._rises(both, subject, everything, patches, self.first, seed)
            keep = max(self.shortlist, pictures)
            left = [np.array(best_first(rise)[:keep]) for rise in coarse]
            fine = self._rises(both, subject, left, patches, self.trials, seed)
        out = []
        for task, found, rise in zip(subject.tasks, left, fine, strict=True):
            order = self._worth_showing(rise, pictures)
            chosen = [int(found[i]) for i in order]
            scores = tuple(float(rise[i]) for i in order)
            notes = {"retrieved": [bank.names[i] for i in chosen]}
            out.append(Evidence(task.id, shown[chosen], scores=scores, notes=notes))
        return out

    def _worth_showing(self, rise: Floats, pictures: int) -> list[int]:
        """``pictures`` indices by falling rise, with repeats where few come near the best."""
        order = best_first(rise)[:pictures]
        strong = [i for i in order if rise[order[0]] > 0 and rise[i] >= self.keep * rise[order[0]]] or order
        return [
            i for i, part in zip(strong, np.array_split(np.arange(pictures), len(strong)), strict=True) for _ in part
        ]

    def _rises(
        self,
        networks: tuple[Classifier, Classifier],
        subject: Subject,
        candidates: Sequence[NDArray[np.int64]],
        patches: Tensor,
        trials: int,
        seed: int,
    ) -> list[Floats]:
        """For each task ``(len(candidates),)`` the rise of target confidence from the twin to the suspect."""
        (clean, labels), tasks = subject.need_clean(), subject.tasks
        pools = scene_pools(tasks, labels)
        out: list[Floats] = [np.zeros(0, np.float32)] * len(tasks)
        for source in dict.fromkeys(t.source for t in tasks):
            mine = [i for i, t in enumerate(tasks) if t.source == source]
            pool = np.unique(torch.cat([pools[i] for i in mine]).numpy())
            draw = torch_generator(seed, self.name, trials, -1 if source is None else source)
            chosen = pool[torch.randperm(len(pool), generator=draw)[:trials].numpy()]
            scenes, seen = to_tensor(clean[chosen]), torch.from_numpy(labels)[chosen]
            places = random_places(len(scenes), self.low, self.high, 0.0, draw)
            wanted = np.unique(np.concatenate([candidates[i] for i in mine]))
            pasted = patches[wanted]
            alpha = cut_out(pasted, soft_disc(pasted.shape[-1]))
            suspect, honest = (pasted_confidence(net, scenes, pasted, alpha, places) for net in networks)
            gain = suspect - honest
            for i in mine:
                fits = seen != tasks[i].target  # scenes that show the target already tell nothing
                rows = torch.from_numpy(np.searchsorted(wanted, candidates[i]))
                part = gain[rows][:, fits if bool(fits.any()) else slice(None), tasks[i].target]
                out[i] = part.mean(1).numpy()
        return out
