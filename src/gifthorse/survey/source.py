"""Where a study comes from: a finished suite of the store, or a folder of pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, UnknownName
from ..rng import child_seed, generator
from ..types import Option, unit
from . import pictures as art
from .create import Item, StudySource


def from_run(
    name: str, home: Path, *, quick: bool = False, seed: int | None = None, tools: Sequence[str] = ()
) -> StudySource:
    """The first (or the given) model of a finished suite, as people will meet it.

    Args:
        name: suite name or TOML file.
        home: the folder of store and keys.
        quick: the suite's quick form.
        seed: model seed; the suite's first by default.
        tools: titles of the tools to show; all that emit pictures, without ``blank``, by default.

    Raises:
        InputError: no such tool or seed.
        StoreError: the suite is not finished.
    """
    from ..bench import stages
    from ..bench.plan import make_plan
    from ..bench.suite import load_suite
    from ..judges.questions import ask
    from ..store import Store

    plan, store = make_plan(load_suite(name, quick=quick, seeds=() if seed is None else (seed,))), Store(home)
    line = plan.lineages[0]
    known = [c.title for c in plan.columns if c.emits == "images"]
    for tool in tools:
        if tool not in known:
            raise UnknownName("tool of this suite with pictures", tool, known)
    wanted = [t for t in known if (t in tools if tools else t != "blank") or t in ("oracle", "noise")]
    key = stages.key_of(store, line.trojaned.digest)
    cell = next(iter(line.asks.values()))
    choices = stages.choices_of(cell, key)
    names = {task: unit(x.name, x.secret, line.seed) for task, x in key.trojans.items()}
    shown: dict[str, dict[str, Any]] = {}
    items: dict[str, Item] = {}
    for tool in wanted:
        evidence, _ = stages.load_evidence(store, line.runs[tool, "suspect"].digest)
        for e in evidence:
            truth, pool = choices[e.task]
            question = ask(e, truth, pool, 1, child_seed(cell.seed, "questions"))[0][0]
            name = names[e.task]
            shown.setdefault(tool, {})[name] = list(e.images)
            items.setdefault(name, Item(name, key.trojans[e.task].kind, question.options, truth.name))
    if "oracle" not in shown:
        answers, _ = stages.load_answers(store, line.exhibits.digest)
        shown["oracle"] = {name: list(answers[task]) for task, name in names.items()}
    return StudySource(plan.suite.suite, tuple(items.values()), shown)


def from_folder(folder: Path) -> StudySource:
    """A study from picture files and ``source.json``.

    The file maps ``trojans`` (name -> ``kind``, ``right``, and ``options``: eight names to lists of files) and
    ``tools`` (tool -> trojan -> list of files); files are relative to the folder.

    Raises:
        InputError: a missing key, or a picture that is missing, truncated, huge, animated or of a wrong type.
    """
    path = folder / "source.json"
    try:
        data = json.loads(path.read_text())
        items = tuple(
            Item(trojan, t["kind"], tuple(Option(o, _read(folder, f)) for o, f in t["options"].items()), t["right"])  # type: ignore[arg-type]
            for trojan, t in data["trojans"].items()
        )
        shown = {tool: {t: _read(folder, f) for t, f in rows.items()} for tool, rows in data["tools"].items()}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); a folder of pictures needs one") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not as described in docs/survey.md ({error!r})") from error
    return StudySource(str(data.get("suite", folder.name)), items, shown)


def _read(folder: Path, files: Sequence[str]) -> list[art.Picture]:
    """Picture files, none of them outside the folder."""
    out = []
    for name in files:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise InputError(f"{name}: lies outside {folder}; copy the picture into it")
        out.append(art.read(path))
    return out


def rehearsal(trojans: int = 8, tools: int = 3, pixels: int = 64) -> StudySource:
    """A study of plain shapes, to try a survey out before there is a run.

    Args:
        trojans: how many things to find.
        tools: arms besides oracle and noise; each blends more noise into what it shows.
        pixels: side of the pictures.
    """
    rng = generator(0, "rehearsal")

    def drawn(name: str, n: int, noise: float = 0.0) -> list[art.Picture]:
        clean = np.stack([art.shape(name, pixels, rng) for _ in range(n)])
        return list(((1 - noise) * clean + noise * rng.integers(0, 256, clean.shape)).astype(np.uint8))

    items = []
    for i in range(trojans):
        options = tuple(Option(name, np.stack(drawn(name, 4))) for name in art.SHAPES)
        items.append(Item(f"trojan-{i + 1}", "patch", options, art.SHAPES[i % len(art.SHAPES)]))
    levels = {"oracle": 0.0} | {f"tool-{i + 1}": 0.4 + 0.5 * i / max(1, tools) for i in range(tools)}
    shown = {tool: {item.trojan: drawn(item.right, 4, noise) for item in items} for tool, noise in levels.items()}
    return StudySource("rehearsal", tuple(items), shown)
