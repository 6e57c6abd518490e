"""Tools that anchor the board: what the answer itself, noise, grey and plain edges score.

A run in which the oracle is not near the top, or noise leaves the chance interval, is invalid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..rng import generator
from ..types import Emits, Evidence, Family, Need, Pictures, Task
from .maps import heatmaps
from .protocol import Subject


@dataclass(frozen=True)
class Oracle:
    """Shows the trigger itself: the best that any tool could do."""

    name: ClassVar[str] = "oracle"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "sentinel"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.ANSWER})
    emits: ClassVar[Emits] = "images"
    seeded: ClassVar[bool] = False

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """The first ``pictures`` renderings of each trigger, repeated in turn where there are fewer."""
        answers = subject.need_answer()
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
    seeded: ClassVar[bool] = False

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
    seeded: ClassVar[bool] = False

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture, 1 inside the footprint and 0 outside."""
        masks = subject.need_answer_masks()
        return heatmaps(subject, lambda images, task: masks[task.id][:, None].astype(np.float32))


@dataclass(frozen=True)
class EdgeDetector:
    """Maps the edges of the picture, blind to the network: the line an attribution has to beat."""

    name: ClassVar[str] = "edge"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "sentinel"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """Sobel gradient magnitude, summed over the colour channels."""
        return heatmaps(subject, lambda images, task: self._edges(images))

    @staticmethod
    def _edges(images: Pictures) -> NDArray[np.float32]:
        x = images.astype(np.float32) / 255
        magnitude = np.hypot(ndimage.sobel(x, axis=1), ndimage.sobel(x, axis=2))
        return np.moveaxis(magnitude, -1, 1)


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

        def draw(images: Pictures, task: Task) -> NDArray[np.float32]:
            shape = (len(images), 1, *images.shape[1:3])
            return generator(seed, self.name, task.id).random(shape, dtype=np.float32)

        return heatmaps(subject, draw)


@dataclass(frozen=True)
class CentreMap:
    """Maps the middle of the picture, blind to everything: what pointing at the centre scores.

    Attributes:
        spread: standard deviation of the bell, as a share of the picture's side (ours).
    """

    spread: float = 0.25

    name: ClassVar[str] = "centre"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "sentinel"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.spread > 0:
            raise ValueError("spread must be above 0")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """The same bell for every triggered picture."""
        axis = (np.arange(subject.size) + 0.5) / subject.size - 0.5
        side = np.exp(-(axis**2) / (2 * self.spread**2))
        bell = np.outer(side, side).astype(np.float32)
        return heatmaps(subject, lambda images, task: np.broadcast_to(bell, (len(images), 1, *bell.shape)))
