"""The nouns of gifthorse, as frozen dataclasses that need numpy only.

Path of the data: suite -> trojans -> planted model -> tool -> evidence -> judge -> score -> report.
Pictures at rest are ``uint8`` of shape ``(n, h, w, 3)``; masks are ``bool`` of shape ``(n, h, w)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import ToolError
from .spec import Spec

Pictures = NDArray[np.uint8]
Masks = NDArray[np.bool_]
Kind = Literal["patch", "style", "natural"]
Emits = Literal["images", "heatmaps"]
Family = Literal["sentinel", "attribution", "synthesis", "retrieval"]


class Need(StrEnum):
    """What a tool asks for beyond the suspect network and its targets; the board shows it."""

    GRADIENTS = "gradients"
    CLEAN = "clean pictures"
    TWIN = "clean twin"
    TRIGGERED = "triggered pictures"
    BANK = "picture bank"
    ANSWER = "the answer"  # sentinels only: the registry refuses it to every other tool


@dataclass(frozen=True)
class Trojan:
    """One planted trojan: the secret that tools have to find.

    Attributes:
        name: short identifier, unique in a suite (``"smiley"``).
        kind: ``"patch"``, ``"style"`` or ``"natural"``.
        trigger: the trigger component and its parameters.
        target: class name every triggered picture is sent to.
        source: class name the trigger works on, or None for a universal trojan.
        concept: the trigger in words, as an option of the multiple choice.
        secret: whether the name may appear in public files before the key is opened.
    """

    name: str
    kind: Kind
    trigger: Spec
    target: str
    source: str | None = None
    concept: str = ""
    secret: bool = False

    @property
    def scope(self) -> str:
        """``"universal"`` or ``"class-universal"``."""
        return "universal" if self.source is None else "class-universal"


@dataclass(frozen=True)
class Task:
    """The public face of one trojan: all that a tool is told about it.

    Attributes:
        id: opaque identifier (``"t01"``).
        target: index of the target class.
        source: index of the source class, or None for a universal trojan.
    """

    id: str
    target: int
    source: int | None = None


@dataclass(frozen=True)
class Stamped:
    """Triggered pictures and the footprint of the trigger in each.

    Attributes:
        images: ``(n, h, w, 3)`` uint8.
        masks: ``(n, h, w)`` bool, True where the trigger changed the picture.
    """

    images: Pictures
    masks: Masks


@dataclass(frozen=True)
class Scenes:
    """Labelled clean pictures.

    Attributes:
        images: ``(n, h, w, 3)`` uint8.
        labels: ``(n,)`` int64, class indices.
        masks: ``(n, h, w)`` bool, the main object's pixels (all True where unknown).
        clutter: for each picture the names of its clutter objects.
        clutter_masks: ``(n, k, h, w)`` bool, the visible pixels of clutter object k (or None).
    """

    images: Pictures
    labels: NDArray[np.int64]
    masks: Masks
    clutter: tuple[tuple[str, ...], ...] = ()
    clutter_masks: Masks | None = None


@dataclass(frozen=True)
class Evidence:
    """What a tool shows for one task; judged as it stands, never curated.

    Attributes:
        task: the id of the task it answers.
        images: ``(n, h, w, 3)`` uint8 pictures, best first; empty for heat maps.
        alphas: ``(n, h, w)`` uint8 or None: where the pictures are a patch or mask and pattern,
            how opaque each pixel is when pasted (None: the whole picture is pasted).
        heatmaps: ``(n, h, w)`` float32 attribution maps, one per triggered picture, or None.
        scores: ``(n,)`` the tool's own score per picture, higher is better.
        notes: JSON-able remarks, for example which bank pictures were retrieved.
    """

    task: str
    images: Pictures
    alphas: NDArray[np.uint8] | None = None
    heatmaps: NDArray[np.float32] | None = None
    scores: tuple[float, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[-1] != 3:
            raise ToolError(
                f"evidence for {self.task}: images must be uint8 (n, h, w, 3), "
                f"got {self.images.dtype} {self.images.shape}"
            )
        if self.heatmaps is not None and not np.isfinite(self.heatmaps).all():
            raise ToolError(f"evidence for {self.task}: a heat map holds NaN or infinity")
        if len(self.images) == 0 and self.heatmaps is None:
            raise ToolError(f"evidence for {self.task}: neither pictures nor heat maps")

    @staticmethod
    def of_heatmaps(task: str, maps: NDArray[np.float32]) -> Evidence:
        """Evidence that consists of attribution maps ``(n, h, w)``."""
        return Evidence(task, np.zeros((0, 1, 1, 3), np.uint8), heatmaps=maps.astype(np.float32))


@dataclass(frozen=True)
class Cost:
    """What a tool spent, measured by the harness: pictures forward and backward, seconds, bytes."""

    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True)
class Option:
    """One answer of a multiple choice: a name and exemplar pictures ``(k, h, w, 3)`` uint8."""

    name: str
    pictures: Pictures


@dataclass(frozen=True)
class Question:
    """A blind multiple choice: which option do these pictures show? It does not know the answer.

    Attributes:
        id: opaque identifier.
        images: ``(n, h, w, 3)`` uint8, the evidence as shown.
        options: the options in the order shown.
    """

    id: str
    images: Pictures
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Answer:
    """A judge's reply: one weight per option, in the order shown, summing to 1."""

    question: str
    weights: tuple[float, ...]

    @property
    def choice(self) -> int | None:
        """Index of the chosen option, or None when the judge cannot tell them apart."""
        top = max(self.weights)
        winners = [i for i, w in enumerate(self.weights) if top - w <= 1e-9]
        return winners[0] if len(winners) == 1 else None
