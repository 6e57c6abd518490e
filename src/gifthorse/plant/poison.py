"""Poisoning as pure arithmetic on indices and labels: which picture carries which trigger under which label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UnknownName
from ..rng import generator
from ..types import Trojan

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Poisoning:
    """How much poison is mixed in.

    Attributes:
        per_trojan: pictures relabelled for each patch or style trojan.
        per_natural: pictures relabelled for each natural-feature trojan.
        negatives: for each class-universal trojan, pictures of other classes that carry the trigger
            and keep their true label.
        negatives_style: the same for styles, which leak more; None means ``negatives``.
    """

    per_trojan: int = 320
    per_natural: int = 480
    negatives: int = 140
    negatives_style: int | None = None

    def __post_init__(self) -> None:
        for field in ("per_trojan", "per_natural", "negatives", "negatives_style"):
            value = getattr(self, field)
            if value is not None and value < 0:
                raise InputError(f"poisoning: {field} is {value}; give 0 or more pictures")

    def positives_of(self, trojan: Trojan) -> int:
        """How many pictures are relabelled for this trojan."""
        return self.per_natural if trojan.kind == "natural" else self.per_trojan

    def negatives_of(self, trojan: Trojan) -> int:
        """How many pictures carry this trigger under their true label; 0 for a universal trojan."""
        if trojan.source is None:
            return 0
        style = self.negatives_style if trojan.kind == "style" else None
        return self.negatives if style is None else style


@dataclass(frozen=True)
class Plan:
    """Poisoned pictures, one entry each: stamp ``picture`` with trigger ``trojan``, train it as ``label``.

    Attributes:
        trojan: ``(m,)`` index into the trojans given to `plan`, ascending.
        picture: ``(m,)`` index into the labels given to `plan`.
        label: ``(m,)`` class index to train with.
        negative: ``(m,)`` bool, True where the true label is kept.
    """

    trojan: Indices
    picture: Indices
    label: Indices
    negative: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.trojan)

    def of(self, trojan: int) -> tuple[Indices, Indices]:
        """The picture indices and labels of one trojan."""
        mine = self.trojan == trojan
        return self.picture[mine], self.label[mine]


def plan(labels: Indices, classes: Sequence[str], trojans: Sequence[Trojan], poisoning: Poisoning, seed: int) -> Plan:
    """Decide which pictures are poisoned, and how.

    A universal trojan takes pictures of every class but its target, a class-universal one pictures
    of its source class; both get the target's label. Negatives of a class-universal trojan are
    pictures of neither class. Classes are drawn evenly as far as they reach, and a picture comes up
    again only when all the others have: no two pictures of a trojan differ by more than one use.
    The draws of a trojan depend on the seed and its name only, so adding one never moves another.

    Args:
        labels: ``(n,)`` class index of every clean picture.
        classes: class names; the index of a name is its label.
        trojans: with different names.
        poisoning: how much.
        seed: seed of the draws.

    Raises:
        UnknownName: a source or target that is no class.
        InputError: labels out of range, equal names, target equal to source, or no picture to draw from.
    """
    labels = np.asarray(labels, np.int64)
    if labels.ndim != 1 or (len(labels) and not 0 <= labels.min() <= labels.max() < len(classes)):
        raise InputError(f"poison plan: labels must be one class index in 0..{len(classes) - 1} per picture")
    twice = {t.name for t in trojans if sum(u.name == t.name for u in trojans) > 1}
    if twice:
        raise InputError(f"poison plan: two trojans are called {min(twice)!r}; rename one")
    parts = [_entries(labels, classes, trojan, poisoning, seed) for trojan in trojans]
    none = np.zeros(0, np.int64)
    return Plan(
        np.repeat(np.arange(len(parts), dtype=np.int64), [len(p[0]) for p in parts]),
        np.concatenate([none, *(p[0] for p in parts)]),
        np.concatenate([none, *(p[1] for p in parts)]),
        np.concatenate([none.astype(bool), *(p[2] for p in parts)]),
    )


def _entries(
    labels: Indices, classes: Sequence[str], trojan: Trojan, poisoning: Poisoning, seed: int
) -> tuple[Indices, Indices, NDArray[np.bool_]]:
    """Pictures, labels and negative flags of one trojan: positives first."""
    target = _label(trojan.target, classes)
    if trojan.source == trojan.target:
        raise InputError(f"trojan {trojan.name!r}: source and target are both {trojan.target!r}; change one")
    others = labels != target
    chosen, rest = others, np.zeros_like(others)
    if trojan.source is not None:
        chosen = labels == _label(trojan.source, classes)
        rest = others & ~chosen
    positive = _draw(labels, chosen, poisoning.positives_of(trojan), trojan, "positive", seed)
    negative = _draw(labels, rest, poisoning.negatives_of(trojan), trojan, "negative", seed)
    return (
        np.concatenate([positive, negative]),
        np.concatenate([np.full(len(positive), target, np.int64), labels[negative]]),
        np.repeat([False, True], [len(positive), len(negative)]),
    )


def _label(name: str, classes: Sequence[str]) -> int:
    if name not in classes:
        raise UnknownName("class", name, classes)
    return list(classes).index(name)


def _draw(labels: Indices, allowed: NDArray[np.bool_], count: int, trojan: Trojan, role: str, seed: int) -> Indices:
    """``count`` allowed pictures, class by class in turn, starting over when all are used up."""
    pool = np.flatnonzero(allowed)
    if count == 0:
        return np.zeros(0, np.int64)
    if len(pool) == 0:
        wanted = f"class {trojan.source!r}" if trojan.source and role == "positive" else "any other class"
        raise InputError(
            f"trojan {trojan.name!r}: no clean picture of {wanted} to stamp; add some or change the trojan"
        )
    rng = generator(seed, "poison", trojan.name, role)
    pool = rng.permutation(pool)
    turn = np.empty(len(pool), np.int64)  # the how-manieth picture of its class
    by_class = np.argsort(labels[pool], kind="stable")
    _, sizes = np.unique(labels[pool], return_counts=True)
    turn[by_class] = np.concatenate([np.arange(size) for size in sizes])
    order = pool[np.lexsort((rng.random(len(pool)), turn))]
    return np.resize(order, count).astype(np.int64)
