"""Tools that anchor the board: what the answer itself, noise, grey and plain edges score.

A run in which the oracle is not near the top, or noise leaves the chance interval, is invalid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import ToolError
from ..rng import generator
from ..types import Emits, Evidence, Family, Need
from .protocol import Subject

T = TypeVar("T", np.uint8, np.bool_)


def _answers(given: Mapping[str, NDArray[T]] | None) -> Mapping[str, NDArray[T]]:
    """The answers, if the harness gave them."""
    if given is None:
        raise ToolError("this sentinel reads the answer: add Need.ANSWER to its needs")
    return given


@dataclass(frozen=True)
class Oracle:
    """Shows the trigger itself: the best that any tool could do."""

    name: ClassVar[str] = "oracle"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "sentinel"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.ANSWER})
    emits: ClassVar[Emits] = "images"

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """The first ``pictures`` renderings of each trigger, repeated in turn where there are fewer."""
        answers = _answers(subject.answer)
        return [Evidence(t.id, np.resize(answers[t.id], (pictures, *answers[t.id].shape[1:]))) for t in subject.tasks]


@dataclass(frozen=True)
class Noise:
    """Shows pixels drawn at random."""

    name: ClassVar[str] = "noise"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "sentinel"
    needs: ClassVar[frozenset[Need]] = frozenset()
    emits: ClassVar[Emits] = "images"

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """Uniform noise pictures of the network's size."""
        shape = (pictures, subject.size, subject.size, 3)
        return [
            Evidence(t.id, generator(seed, self.name, t.id).integers(0, 256, shape, dtype=np.uint8))
            for t in subject.tasks
        ]


@dataclass(frozen=True)
class Blank:
    """Shows plain grey."""

    name: ClassVar[str] = "blank"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "sentinel"
    needs: ClassVar[frozenset[Need]] = frozenset()
    emits: ClassVar[Emits] = "images"

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """Grey pictures of the network's size."""
        grey = np.full((pictures, subject.size, subject.size, 3), 128, np.uint8)
        return [Evidence(t.id, grey.copy()) for t in subject.tasks]


@dataclass(frozen=True)
class TrueMask:
    """Maps the trigger's true footprint: the best that any attribution could do."""

    name: ClassVar[str] = "true-mask"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "sentinel"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED, Need.ANSWER})
    emits: ClassVar[Emits] = "heatmaps"

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture, 1 inside the footprint and 0 outside."""
        masks = _answers(subject.answer_masks)
        return [Evidence.of_heatmaps(t.id, masks[t.id].astype(np.float32)) for t in subject.tasks]


@dataclass(frozen=True)
class EdgeDetector:
    """Maps the edges of the picture, blind to the network: the line an attribution has to beat."""

    name: ClassVar[str] = "edge"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "sentinel"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """Sobel gradient magnitude, summed over the colour channels."""
        triggered = subject.need_triggered()
        return [Evidence.of_heatmaps(t.id, self._edges(triggered[t.id])) for t in subject.tasks]

    @staticmethod
    def _edges(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = images.astype(np.float32) / 255
        down, across = ndimage.sobel(x, axis=1), ndimage.sobel(x, axis=2)
        out: NDArray[np.float32] = np.hypot(down, across).sum(axis=-1).astype(np.float32)
        return out


@dataclass(frozen=True)
class RandomMap:
    """Maps drawn at random."""

    name: ClassVar[str] = "random-map"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "sentinel"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map of uniform noise per triggered picture."""
        triggered = subject.need_triggered()
        return [
            Evidence.of_heatmaps(
                t.id, generator(seed, self.name, t.id).random(triggered[t.id].shape[:3], dtype=np.float32)
            )
            for t in subject.tasks
        ]
