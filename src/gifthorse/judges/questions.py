"""Evidence and answer key -> blind multiple choice; the marking leaves by a separate door.

The rule for distractors, fixed before any tool runs: all options of the truth's category except the truth
are equally likely, drawn without replacement by a generator seeded by the suite's seed, the task, the truth
and the number of the draw. No picture, tool, network or result enters that draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..rng import generator
from ..types import Evidence, Option, Pictures, Question, no_pictures

OPTIONS = 8
FADED = 0.15  # how much of a picture is left where its heat map is cold

Marking = Mapping[str, int]
Show = Literal["pictures", "names", "both"]


def ask(
    evidence: Evidence,
    truth: Option,
    decoys: Sequence[Option],
    draws: int,
    seed: int,
    *,
    options: int = OPTIONS,
    show: Show = "both",
    below: Pictures | None = None,
) -> tuple[list[Question], dict[str, int]]:
    """Multiple-choice questions about one piece of evidence, and the key to mark them with.

    All tools (and the twin) meet the same decoys; the order of the options depends on the evidence too.
    Every option of a question shows equally many exemplars, in random order, so that their number gives
    nothing away.

    Args:
        evidence: what the tool showed: pictures, texts, both, or heat maps with the pictures ``below``.
        truth: the right option.
        decoys: options to draw the wrong ones from; one with the truth's name or of another category
            is passed over.
        draws: how many questions to ask.
        seed: seed of all draws.
        options: how many options a question has.
        show: whether options show their pictures, their names or both.
        below: ``(n, h, w, 3)`` the pictures that the heat maps explain.

    Returns:
        The questions, which do not hold the answer, and the index of the right option by question id.

    Raises:
        InputError: nothing to show, too few decoys, two decoys alike, or an option that cannot be shown.
    """
    pool = [decoy for decoy in decoys if decoy.name != truth.name and decoy.category == truth.category]
    images = _images(evidence, below)
    _check(evidence.task, truth, pool, options, show)
    shown = hashlib.sha256(images.tobytes() + "\n".join(evidence.texts).encode()).hexdigest()
    form = [] if (options, show) == (OPTIONS, "both") else [f"{options} {show}"]
    questions: list[Question] = []
    marking: dict[str, int] = {}
    for draw in range(draws):
        path = (evidence.task, truth.name, draw)
        chosen = generator(seed, "decoys", *path).choice(len(pool), options - 1, replace=False)
        offered = [truth, *(pool[i] for i in chosen)]
        order = generator(seed, "order", *path, shown).permutation(options)
        fewest = 0 if show == "names" else min(len(option.pictures) for option in offered)
        trimmed = [_trim(o, fewest, show, generator(seed, "exemplars", *path, o.name)) for o in offered]
        name = hashlib.sha256("/".join([str(seed), *map(str, path), shown, *form]).encode()).hexdigest()[:16]
        questions.append(Question(name, images, tuple(trimmed[i] for i in order), evidence.texts))
        marking[name] = int(np.flatnonzero(order == 0)[0])
    return questions, marking


def record(question: Question) -> dict[str, Any]:
    """What was shown, in order, as plain JSON: the evidence's digest and each option's name and digest."""
    return {
        "question": question.id,
        "evidence": _digest(question.images),
        "texts": list(question.texts),
        "options": [{"name": o.name, "pictures": _digest(o.pictures)} for o in question.options],
    }


def highlight(pictures: Pictures, maps: NDArray[np.floating[Any]]) -> Pictures:
    """Pictures ``(n, h, w, 3)`` that fade to grey where their heat map ``(n, h, w)`` is cold.

    A map's positive part is divided by its maximum; a map without one fades its whole picture.
    """
    warm = np.maximum(maps.astype(np.float64), 0)
    top = warm.max(axis=(1, 2), keepdims=True)
    keep = FADED + (1 - FADED) * np.divide(warm, top, out=np.zeros_like(warm), where=top > 0)[..., None]
    faded: Pictures = np.rint(pictures * keep + 127 * (1 - keep)).astype(np.uint8)
    return faded


def _images(evidence: Evidence, below: Pictures | None) -> Pictures:
    """The evidence as pictures; none where it consists of texts."""
    if len(evidence.images) or evidence.texts:
        return evidence.images
    if below is None or evidence.heatmaps is None:
        raise InputError(
            f"evidence for {evidence.task} holds no pictures: score its heat maps with judges.masks, "
            "or give the pictures below them"
        )
    if below.shape[:3] != evidence.heatmaps.shape:
        raise InputError(
            f"evidence for {evidence.task}: heat maps {evidence.heatmaps.shape} do not fit the pictures "
            f"below them {below.shape[:3]}; give one picture of the same size per map"
        )
    return highlight(below, evidence.heatmaps)


def _trim(option: Option, count: int, show: Show, rng: np.random.Generator) -> Option:
    """``count`` exemplars of an option, in random order, and its name where that is shown."""
    keep = rng.permutation(len(option.pictures))[:count]
    name = "" if show == "pictures" else option.name
    return Option(name, option.pictures[keep] if count else no_pictures(), option.category)


def _digest(pictures: Pictures) -> str:
    return hashlib.sha256(str(pictures.shape).encode() + pictures.tobytes()).hexdigest()[:16]


def _check(task: str, truth: Option, pool: Sequence[Option], options: int, show: Show) -> None:
    if options < 2:
        raise InputError(f"a question for {task} needs at least 2 options, got {options}")
    if show not in ("pictures", "names", "both"):
        raise InputError(f"options for {task}: show is {show!r}, but must be 'pictures', 'names' or 'both'")
    names = [decoy.name for decoy in pool]
    if len(set(names)) < len(names):
        raise InputError(f"two decoys for {task} share a name; give every option its own")
    if len(pool) < options - 1:
        raise InputError(
            f"{len(pool)} decoys for {task}, but {options} options need {options - 1}; add more of its kind"
        )
    owners: dict[str, str] = {}
    for option in (truth, *pool):
        if show != "pictures" and not option.name.strip():
            raise InputError(f"an option for {task} has no name to show; name it or show pictures only")
        if show == "names":
            continue
        if len(option.pictures) == 0:
            raise InputError(f"option {option.name!r} has no exemplar pictures; add at least one")
        other = owners.setdefault(_digest(option.pictures), option.name)
        if other != option.name:
            raise InputError(f"options {other!r} and {option.name!r} show the same pictures; keep one of them")
