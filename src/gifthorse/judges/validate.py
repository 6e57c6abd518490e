"""Does a judge answer as people did? Measured on a published study's pictures.

The folder holds ``published.json`` (``columns``: trojans; ``types``: kind by trojan; ``human``, ``clip``:
rates by method, one per trojan; ``folders``: folder by method), ``crops/<folder>/<trojan>/*`` with the
pictures people saw, and ``triggers/*`` with the triggers that have a picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import images, registry, stats
from ..errors import InputError
from ..rng import child_seed
from ..types import Evidence, Pictures, Question
from . import exemplars as material
from .protocol import Judge
from .questions import ask
from .score import credits

Floats = NDArray[np.float64]
SHOWN = 56  # pixels of a published picture
DRAWS = 20


@dataclass(frozen=True)
class Published:
    """A published study.

    Attributes:
        source: where the figures come from.
        methods: the tools that people saw.
        trojans: names of the trojans, which are the options.
        kinds: kind of each trojan.
        human: ``(methods, trojans)`` share of people who were right.
        clip: the same for the published CLIP column, or None.
        folders: folder of pictures by method.
        root: the study's folder.
    """

    source: str
    methods: tuple[str, ...]
    trojans: tuple[str, ...]
    kinds: tuple[str, ...]
    human: Floats
    clip: Floats | None
    folders: Mapping[str, str]
    root: Path

    def shown(self, method: str, trojan: str) -> Pictures:
        """The pictures ``(n, 56, 56, 3)`` of a method for a trojan.

        Raises:
            InputError: no such folder, or no picture in it.
        """
        folder = self.root / "crops" / self.folders[method] / material.slug(trojan)
        return np.stack([images.read(path, SHOWN) for path in material.pictures(folder)])


@dataclass(frozen=True)
class Agreement:
    """How closely one column of rates follows people's.

    Attributes:
        pearson: over cells; the interval draws cells.
        spearman: the same of ranks.
        pearson_trojans: over cells; the interval draws whole trojans.
        spearman_trojans: the same of ranks.
        means: Pearson of the methods' means; the interval draws trojans, the methods stay.
        types: Pearson over the cells of each kind of trojan.
        left_out: Pearson without each method in turn.
        alone: Pearson over the cells of each method alone.
    """

    pearson: stats.Correlation
    spearman: stats.Correlation
    pearson_trojans: stats.Correlation
    spearman_trojans: stats.Correlation
    means: stats.Correlation
    types: Mapping[str, stats.Correlation]
    left_out: Mapping[str, float]
    alone: Mapping[str, float]


@dataclass(frozen=True)
class Validation:
    """What `validate` found; `to_json` is what a report shows.

    Attributes:
        judge: the judge's spec.
        study: the published study.
        photographs: user pictures by option.
        draws: questions per cell.
        seed: seed of everything drawn.
        rate: ``(methods, trojans)`` how often the judge was right, as on a board.
        weight: ``(methods, trojans)`` mean weight on the right option.
        agreement: of ``"rate"``, ``"weight"`` and, where published, ``"clip"`` with people.
    """

    judge: Mapping[str, Any]
    study: Published
    photographs: Mapping[str, int]
    draws: int
    seed: int
    rate: Floats
    weight: Floats
    agreement: Mapping[str, Agreement]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "schema": 1,
            "judge": dict(self.judge),
            "source": self.study.source,
            "methods": list(self.study.methods),
            "trojans": list(self.study.trojans),
            "n": int(self.rate.size),
            "photographs": dict(self.photographs),
            "draws": self.draws,
            "seed": self.seed,
            "agreement": {name: asdict(a) for name, a in self.agreement.items()},
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row per cell: method, trojan, type, human, clip, rate, weight."""
        s = self.study
        return [
            {
                "method": method,
                "trojan": trojan,
                "type": s.kinds[j],
                "human": float(s.human[i, j]),
                "clip": None if s.clip is None else float(s.clip[i, j]),
                "rate": float(self.rate[i, j]),
                "weight": float(self.weight[i, j]),
            }
            for i, method in enumerate(s.methods)
            for j, trojan in enumerate(s.trojans)
        ]


def read(root: Path) -> Published:
    """A published study.

    Raises:
        InputError: no folder, or not the layout of this module's description.
    """
    path = root / "published.json"
    if not path.is_file():
        raise InputError(f"{root}: no published.json; give the folder that holds it beside crops/ and triggers/")
    try:
        data = json.loads(path.read_text())
        columns, folders = tuple(data["columns"]), dict(data["folders"])
        methods = tuple(m for m in data["human"] if m in folders)
        tables = [np.array([data[k][m] for m in methods], float) for k in ("human", "clip") if k in data]
        kinds = tuple(str(data["types"][c]) for c in columns)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a published study ({error!r}); see the docs page on validation") from error
    for table in tables:
        if table.shape != (len(methods), len(columns)) or not ((table >= 0) & (table <= 1)).all():
            raise InputError(f"{path}: every method needs one rate in [0, 1] for each of {len(columns)} columns")
    if len(methods) < 3 or len(columns) < 8:
        raise InputError(f"{path}: {len(methods)} methods by {len(columns)} trojans; 3 by 8 is the least")
    clip = tables[1] if len(tables) > 1 else None
    return Published(str(data.get("source", path)), methods, columns, kinds, tables[0], clip, folders, root)


def validate(
    judge: Judge, study: Published, exemplars: Path | None = None, seed: int = 0, draws: int = DRAWS
) -> Validation:
    """Ask a judge what people were asked, and compare.

    Distractors are drawn from the other trojans, since the survey's own are not published.

    Args:
        judge: the judge.
        study: from `read`.
        exemplars: a folder of user pictures, one sub-folder per option named as in ``crops``; pictures in
            ``backgrounds`` stand behind drawn exemplars.
        seed: seed of exemplars, questions and bootstrap.
        draws: questions per cell.

    Raises:
        InputError: pictures missing or unreadable.
    """
    options, used = material.options(study.trojans, study.kinds, study.root / "triggers", exemplars, seed)
    whole = {option.name: option for option in options}
    questions: list[Question] = []
    marking: dict[str, int] = {}
    for method in study.methods:
        for truth in options:
            evidence = Evidence(f"{method}/{truth.name}", study.shown(method, truth.name))
            some, marks = ask(evidence, truth, options, draws, child_seed(seed, "validate"))
            # options of all questions share their pictures: copies would fill the memory
            questions += [replace(q, options=tuple(whole[o.name] for o in q.options)) for q in some]
            marking |= marks
    answers = judge.answer(questions)
    shape = (*study.human.shape, draws)
    rate = np.array(credits(answers, marking)).reshape(shape).mean(2)
    weight = np.array([a.weights[marking[a.question]] for a in answers]).reshape(shape).mean(2)
    columns = {"rate": rate, "weight": weight} | ({} if study.clip is None else {"clip": study.clip})
    found = {name: agreement(column, study, seed) for name, column in columns.items()}
    return Validation(registry.spec_of(judge).to_json(), study, used, draws, seed, rate, weight, found)


def agreement(column: Floats, study: Published, seed: int) -> Agreement:
    """Agreement of a judge's rates ``(methods, trojans)`` with people's."""
    human, kinds = study.human, np.array(study.kinds)
    unit = np.tile(np.arange(len(kinds)), len(study.methods))
    x, y = column.ravel(), human.ravel()

    def of(rows: Any, columns: Any) -> float:
        return stats.pearson(column[rows][..., columns].ravel(), human[rows][..., columns].ravel())

    every, names = slice(None), list(dict.fromkeys(study.kinds))
    methods = list(enumerate(study.methods))
    rest = {m: [k for k, _ in methods if k != i] for i, m in methods}
    return Agreement(
        stats.correlation(x, y, seed),
        stats.correlation(x, y, seed, kind="spearman"),
        stats.correlation(x, y, seed, groups=unit),
        stats.correlation(x, y, seed, kind="spearman", groups=unit),
        stats.correlation_of_means(column, human, seed),
        {k: stats.correlation(column[:, kinds == k].ravel(), human[:, kinds == k].ravel(), seed) for k in names},
        {m: of(rest[m], every) for _, m in methods},
        {m: of([i], every) for i, m in methods},
    )
