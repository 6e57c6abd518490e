"""Exemplars: the natural pictures that the suspect obeys and its clean twin does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ToolError
from ...images import to_tensor
from ...types import Emits, Evidence, Family, Need
from ..optim.loop import working_copy
from ..optim.objectives import pasted_confidence
from ..optim.transforms import cut_out, random_places, soft_disc
from ..protocol import Subject
from .ranking import Found, answers, two_passes
from .snafue import resized


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

            def gain(wanted: Found, scenes: Tensor, draw: torch.Generator) -> Tensor:
                places = random_places(len(scenes), self.low, self.high, 0.0, draw)
                pasted = patches[wanted]
                alpha = cut_out(pasted, soft_disc(pasted.shape[-1]))
                sure = [pasted_confidence(net, scenes, pasted, alpha, places) for net in (suspect, honest)]
                return (sure[0] - sure[1])[None]

            passes = (self.first, self.shortlist, self.trials)
            ranked = two_passes(subject, len(patches), gain, passes, pictures, seed, self.name)
        return answers(subject.tasks, ranked, bank.names, shown, pictures, self.keep)
