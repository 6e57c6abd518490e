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

from .errors import InputError, ToolError
from .spec import Spec

Pictures = NDArray[np.uint8]
Masks = NDArray[np.bool_]
Kind = Literal["patch", "style", "natural"]
Emits = Literal["images", "heatmaps", "texts"]
Family = Literal["sentinel", "attribution", "synthesis", "retrieval", "combination"]


class Need(StrEnum):
    """What a tool asks for beyond the suspect network and its targets; the board shows it."""

    GRADIENTS = "gradients"
    CLEAN = "clean pictures"
    TWIN = "clean twin"
    TRIGGERED = "triggered pictures"
    BANK = "picture bank"
    TEXTURES = "texture bank"
    GENERATOR = "generator"
    WORDS = "word encoder"
    EVIDENCE = "other tools' evidence"
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


def unit(name: str, secret: bool, seed: int) -> str:
    """What a board counts a trojan as: its name; secrets differ from seed to seed, so each is its own."""
    return f"{name}@{seed}" if secret else name


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


def no_pictures() -> Pictures:
    """An empty stack, for evidence and options without pictures."""
    return np.zeros((0, 1, 1, 3), np.uint8)


@dataclass(frozen=True)
class Evidence:
    """What a tool shows for one task; judged as it stands, never curated.

    Attributes:
        task: the id of the task it answers.
        images: ``(n, h, w, 3)`` uint8 pictures, best first; empty for heat maps and texts.
        alphas: ``(n, h, w)`` uint8 or None: where the pictures are a patch or mask and pattern,
            how opaque each pixel is when pasted (None: the whole picture is pasted).
        heatmaps: ``(n, h, w)`` float32 attribution maps, one per triggered picture, or None.
        scores: ``(n,)`` the tool's own score per picture, or per text where it shows no pictures; higher is better.
        notes: JSON-able remarks, for example which bank pictures were retrieved.
        texts: captions or concepts in words, best first.
    """

    task: str
    images: Pictures
    alphas: NDArray[np.uint8] | None = None
    heatmaps: NDArray[np.float32] | None = None
    scores: tuple[float, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[-1] != 3:
            raise ToolError(
                f"evidence for {self.task}: images must be uint8 (n, h, w, 3), "
                f"got {self.images.dtype} {self.images.shape}"
            )
        if self.heatmaps is not None and not np.isfinite(self.heatmaps).all():
            raise ToolError(f"evidence for {self.task}: a heat map holds NaN or infinity")
        if not all(isinstance(text, str) and text.strip() for text in self.texts):
            raise ToolError(f"evidence for {self.task}: every text must be a string with words in it")
        if len(self.images) == 0 and self.heatmaps is None and not self.texts:
            raise ToolError(f"evidence for {self.task}: neither pictures nor heat maps nor texts")

    @staticmethod
    def of_heatmaps(task: str, maps: NDArray[np.float32]) -> Evidence:
        """Evidence that consists of attribution maps ``(n, h, w)``."""
        return Evidence(task, no_pictures(), heatmaps=maps.astype(np.float32))

    @staticmethod
    def of_texts(task: str, *texts: str) -> Evidence:
        """Evidence in words, best first."""
        return Evidence(task, no_pictures(), texts=texts)


@dataclass(frozen=True)
class Cost:
    """What a tool spent, measured by the harness: pictures forward and backward, seconds, bytes."""

    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True)
class Option:
    """One answer of a multiple choice, as shown: a name, exemplar pictures, or both.

    Attributes:
        name: in words; empty where the name is not shown.
        pictures: ``(k, h, w, 3)`` uint8 exemplars; none where only the name is shown.
        category: what kind of trigger it is; distractors come from the truth's own. Judges do not read it.
    """

    name: str
    pictures: Pictures = field(default_factory=no_pictures)
    category: str = ""


@dataclass(frozen=True)
class Question:
    """A blind multiple choice: which option does this evidence show? It does not know the answer.

    Attributes:
        id: opaque identifier.
        images: ``(n, h, w, 3)`` uint8, the evidence as shown.
        options: the options in the order shown.
        texts: the evidence in words, best first.

    Raises:
        InputError: nothing to judge, or two options that cannot be told apart.
    """

    id: str
    images: Pictures
    options: tuple[Option, ...]
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.images) == 0 and not self.texts:
            raise InputError(f"question {self.id}: neither pictures nor texts to judge; give it some evidence")
        named = [option.name for option in self.options if option.name]
        if len(set(named)) < len(named):
            twice = next(name for name in named if named.count(name) > 1)
            raise InputError(f"question {self.id}: option {twice!r} is offered twice; give each option once")
        bare = [hash(option.pictures.tobytes()) for option in self.options if not option.name]
        if len(set(bare)) < len(bare):
            raise InputError(f"question {self.id}: two options show the same pictures; give each option once")


@dataclass(frozen=True)
class Answer:
    """A judge's reply: one weight per option, in the order shown, summing to 1.

    Attributes:
        question: the question's id.
        weights: in [0, 1]; all equal means that the judge cannot tell.
        note: why there was no choice, for example ``"refused"``; empty otherwise.
    """

    question: str
    weights: tuple[float, ...]
    note: str = ""

    @property
    def choice(self) -> int | None:
        """Index of the chosen option, or None when the judge cannot tell them apart."""
        top = max(self.weights)
        winners = [i for i, w in enumerate(self.weights) if top - w <= 1e-9]
        return winners[0] if len(winners) == 1 else None

    @staticmethod
    def undecided(question: Question, note: str = "") -> Answer:
        """Equal weights."""
        return Answer(question.id, (1 / len(question.options),) * len(question.options), note)
