"""`check_tool`: the rules that every tool keeps, for built-ins and strangers alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from ..bench.meter import Meter
from ..spec import canonical
from ..types import Emits, Evidence, Family, Need, Task
from .toys import SIDE, TASKS, TRIGGERED, toy_subject
from .watch import doors, traces

SHUFFLED = (Task("t02", 3), Task("t03", 0), Task("t01", 1, source=0))


def check_tool(tool: Any, pictures: int = 2) -> list[str]:
    """What is wrong with a tool, one line per broken rule; an empty list means that it passes.

    Checked: it declares what `Tool` asks for and has a docstring; one evidence per task, in order, for one
    task and for many; number, shape and type of pictures, maps, opacities and scores, also for one picture;
    the same seed gives the same bytes whatever ran before; another seed gives other bytes, unless the class
    says ``seeded = False``; nothing undeclared is read and no gradient taken unannounced; the network, the
    pictures, global random states and torch's settings are left as they were; no file, socket or process
    is opened. The network is a convolutional one unless the class says ``attention = True``.

    Args:
        tool: a built tool.
        pictures: how many pictures to ask for, at least 2.
    """
    wrong = _declaration(tool)
    if wrong:
        return wrong
    first, wrong = _try(tool, TASKS, pictures, 0)
    if not wrong:
        other, wrong = _try(tool, TASKS, pictures, 1)
        again, more = _try(tool, TASKS, pictures, 0)
        wrong += more or _seeds(getattr(tool, "seeded", True), first, other, again)
        for case, tasks in (("one task", TASKS[:1]), ("three tasks", SHUFFLED)):
            wrong += [f"{case}, one picture: {line}" for line in _try(tool, tasks, 1, 0)[1]]
    return list(dict.fromkeys(wrong))


def _declaration(tool: Any) -> list[str]:
    """What the class fails to say about itself."""
    wanted = ("name", "version", "family", "needs", "emits")
    wrong = [f"class attribute {a!r} is missing" for a in wanted if not hasattr(tool, a)]
    if not callable(getattr(tool, "run", None)):
        wrong.append("method 'run(subject, pictures, seed)' is missing")
    if wrong:
        return wrong
    if not getattr(getattr(tool, "__dataclass_params__", None), "frozen", False):
        wrong.append("the class is no frozen dataclass, so its parameters cannot be recorded")
    doc = type(tool).__doc__ or ""
    if not doc or doc.startswith(f"{type(tool).__name__}("):  # what dataclass writes where the author wrote nothing
        wrong.append("the class has no docstring: say what it shows and which paper it follows")
    for name, value, kinds in (("family", tool.family, get_args(Family)), ("emits", tool.emits, get_args(Emits))):
        if value not in kinds:
            wrong.append(f"{name} is {value!r}, not one of {', '.join(kinds)}")
    if not all(isinstance(n, Need) for n in tool.needs):
        wrong.append("needs holds something other than members of types.Need")
    return wrong


def _try(tool: Any, tasks: Sequence[Task], pictures: int, seed: int) -> tuple[list[Evidence], list[str]]:
    """What one run on a fresh toy subject shows, and what is wrong with the run."""
    subject = toy_subject(tool.needs, tasks=tasks, attention=getattr(tool, "attention", False))
    before = traces(subject)
    try:
        with Meter() as meter, doors() as opened:
            shown = tool.run(subject, pictures, seed)
    except Exception as error:
        return [], [f"run failed with {type(error).__name__}: {' '.join(str(error).split())}"]
    wrong = [f"{what}: changed and not put back" for what, digest in traces(subject).items() if before[what] != digest]
    wrong += [f"run opens files, sockets or processes: {what}" for what in opened[:3]]
    if meter.cost().backwards and Need.GRADIENTS not in tool.needs:
        wrong.append("run takes gradients: add Need.GRADIENTS to its needs")
    if not isinstance(shown, list) or not all(isinstance(e, Evidence) for e in shown):
        return [], [*wrong, "run does not return a list of Evidence"]
    if [e.task for e in shown] != [t.id for t in tasks]:
        return [], [*wrong, f"evidence is for {[e.task for e in shown]}, tasks are {[t.id for t in tasks]}"]
    return shown, wrong + [f"{e.task}: {line}" for e in shown for line in _form(tool, e, pictures)]


def _form(tool: Any, e: Evidence, pictures: int) -> list[str]:
    """What is wrong with the form of one piece of evidence."""
    wrong = []
    maps, alphas = e.heatmaps, e.alphas
    if tool.emits == "images" and len(e.images) != pictures:
        wrong.append(f"{pictures} pictures were asked for, {len(e.images)} shown")
    if tool.emits == "texts" and len(e.texts) != pictures:
        wrong.append(f"{pictures} texts were asked for, {len(e.texts)} shown")
    if tool.emits == "heatmaps" and (maps is None or maps.shape != (TRIGGERED, SIDE, SIDE) or maps.dtype != np.float32):
        wrong.append(f"one float32 map of {SIDE}x{SIDE} per triggered picture is expected")
    if alphas is not None and (alphas.dtype != np.uint8 or alphas.shape != e.images.shape[:3]):
        wrong.append(f"alphas are {alphas.dtype} {alphas.shape}, pictures {e.images.shape}: one uint8 per pixel")
    shown = len(e.texts) if tool.emits == "texts" else len(e.images)
    if e.scores and (len(e.scores) != shown or not np.isfinite(e.scores).all()):
        wrong.append("scores must be finite, one per picture (or text)")
    elif list(e.scores) != sorted(e.scores, reverse=True):
        wrong.append("the best picture comes first, so scores must not rise")
    try:
        canonical(dict(e.notes))
    except (TypeError, ValueError) as error:
        wrong.append(f"notes are not plain JSON: {error}")
    return wrong


def _seeds(seeded: bool, first: list[Evidence], other: list[Evidence], again: list[Evidence]) -> list[str]:
    """Whether the seed, and nothing else, decides what is shown."""
    wrong = []
    if _bytes(again) != _bytes(first):
        wrong.append("the same seed gave other bytes: draw from rng.generator(seed, ...) only")
    elif seeded and _bytes(other) == _bytes(first):
        wrong.append("another seed gave the same bytes: use the seed, or declare seeded = False")
    elif not seeded and _bytes(other) != _bytes(first):
        wrong.append("the class says seeded = False, yet the seed changes what it shows")
    return wrong


def _bytes(evidence: list[Evidence]) -> list[bytes]:
    """Everything that evidence holds."""
    rows = []
    for e in evidence:
        arrays = [a for a in (e.images, e.alphas, e.heatmaps) if a is not None]
        text = canonical([list(map(float, e.scores)), dict(e.notes), list(e.texts)])
        rows.append(b"".join(a.tobytes() for a in arrays) + text.encode())
    return rows
