"""What a data set gives to the rest: labelled clean pictures and a bank of single objects."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ..types import Pictures, Scenes


class Dataset(Protocol):
    """A component that draws or reads labelled pictures, deterministic by seed."""

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; the index of a name is its label."""
        ...

    @property
    def size(self) -> int:
        """Side of the square pictures in pixels."""
        ...

    def supply(self, split: str) -> NDArray[np.int64]:
        """``(classes,)`` how many different pictures of each class a split can give."""
        ...

    def scenes(self, split: str, n: int, seed: int, *, labels: NDArray[np.int64] | None = None) -> Scenes:
        """``n`` labelled pictures of a split (``"train"`` or ``"test"``); the same call, the same bytes.

        Args:
            split: pictures of different splits share no draw.
            n: how many.
            seed: seed of the draw.
            labels: ``(n,)`` the class of each picture, or None to draw classes evenly.
        """
        ...

    def bank(self) -> tuple[tuple[str, ...], Pictures]:
        """Every single object of the data set, unlabelled by role: names and ``(n, s, s, 3)`` pictures."""
        ...
