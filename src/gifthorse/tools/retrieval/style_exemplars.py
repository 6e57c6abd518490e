"""Style exemplars: the materials in which redrawn pictures go to the target in the suspect and not in its twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...errors import ToolError
from ...images import to_tensor
from ...types import Emits, Evidence, Family, Need
from ..optim.loop import working_copy
from ..optim.restyle import redrawn_confidence, ways
from ..protocol import Subject
from .ranking import Found, answers, two_passes


@dataclass(frozen=True)
class StyleExemplars:
    """Materials of a texture bank whose redrawing raises the target's confidence most from clean twin to suspect.

    What `exemplars` does with objects, done with styles: clean pictures are redrawn in every piece of the bank, in
    the two ways of `optim.restyle`, which knows nothing of how styles are planted; the better way counts. The best
    pieces are tried again on more pictures and shown bare. The bank holds pieces of many materials, among them other
    pieces of those that the suite plants, as the bank of objects holds the drawings that it plants; a style that no
    bank holds is out of this tool's reach, and `style-search` is for that. The method and all defaults are ours. On
    the twin itself nothing rises, so what is shown there is the bank's order.

    Attributes:
        first: clean pictures that every piece is tried on, in either way.
        shortlist: pieces per task that are tried again.
        trials: clean pictures of the second pass.
        low: smallest share of the texture in a redrawn picture.
        high: largest share.
        cuttings: how many cuttings of the texture the first way chooses from at every place; the other takes one.
        keep: a piece is shown if its rise is at least this share of the best one's.
    """

    first: int = 4
    shortlist: int = 40
    trials: int = 16
    low: float = 0.5
    high: float = 0.8
    cuttings: int = 6
    keep: float = 0.8

    name: ClassVar[str] = "style-exemplars"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "retrieval"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CLEAN, Need.TWIN, Need.TEXTURES})
    emits: ClassVar[Emits] = "images"

    def __post_init__(self) -> None:
        if min(self.first, self.shortlist, self.trials, self.cuttings) < 1 or not 0 < self.low <= self.high <= 1:
            raise ValueError("needs first, shortlist, trials and cuttings of at least 1 and 0 < low <= high <= 1")
        if not 0 <= self.keep <= 1:
            raise ValueError(f"keep is {self.keep}, but is a share in [0, 1]")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` textures per task, largest rise first; ``notes`` names them.

        Raises:
            ToolError: fewer textures than are to be shown, textures smaller than pictures, or a twin of other classes.
        """
        bank, twin = subject.need_textures(), subject.need_twin()
        if len(bank.pictures) < pictures:
            raise ToolError(f"the texture bank holds {len(bank.pictures)} pieces, {pictures} are to be shown; add some")
        side = bank.pictures.shape[1]
        if side < subject.size:
            raise ToolError(f"textures of {side} pixels cannot cover pictures of {subject.size}; give larger ones")
        sheets = to_tensor(bank.pictures)
        with working_copy(subject.model) as suspect, working_copy(twin) as honest:

            def gain(wanted: Found, scenes: Tensor, draw: torch.Generator) -> Tensor:
                both = ways(scenes, (self.low, self.high), self.cuttings, side - subject.size, draw)
                sure = [redrawn_confidence((suspect, honest), sheets[wanted], way) for way in both]
                return torch.stack([found[0] - found[1] for found in sure])

            passes = (self.first, self.shortlist, self.trials)
            ranked = two_passes(subject, len(sheets), gain, passes, pictures, seed, self.name)
        edge = (side - subject.size) // 2
        inner = slice(edge, edge + subject.size)
        return answers(subject.tasks, ranked, bank.names, bank.pictures[:, inner, inner], pictures, self.keep)
