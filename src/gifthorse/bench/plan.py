"""A suite expanded to cells: one stage of one model each, named by a digest of all that it depends on.

Device, executor, time and code commit are in no digest; component versions are.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .. import registry
from ..errors import InputError, UnknownName
from ..keys import trojan_to_json
from ..spec import Spec, canonical, digest
from ..types import Family, Need, Trojan
from . import crops, resources
from .draw import Cast, cast
from .suite import Suite
from .tables import Part

SCHEMA = 1
MEASURES = {"retrieval": 1, "functional": 1, "activation": 1}  # versions of what is measured beside the choices
Stage = Literal["plant", "exhibits", "run", "combine", "ask"]
STAGES: tuple[Stage, ...] = ("plant", "exhibits", "run", "combine", "ask")
KIND_OF: dict[Stage, str] = {
    "plant": "model", "exhibits": "exhibits", "run": "evidence", "combine": "evidence", "ask": "answers"
}  # fmt: skip
SHOWN = "shown by "  # before the title of a tool whose evidence a cell reads


@dataclass(frozen=True)
class Cell:
    """One unit of work: JSON in, one folder of the store out.

    Attributes:
        stage: which function of `bench.stages` does it.
        label: for people, as in ``"seed 0 · snafue · twin"``; in no digest.
        seed: the model seed.
        spec: everything that the result depends on, JSON-able.
        inputs: digests of the cells that it reads.
    """

    stage: Stage
    label: str
    seed: int
    spec: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Name of the result in the store."""
        body = {k: v for k, v in self.to_json().items() if k not in ("label", "digest")}
        return digest({"schema": SCHEMA, **body})

    @property
    def kind(self) -> str:
        """The store's kind of the result."""
        return KIND_OF[self.stage]

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary; `from_json` is its inverse."""
        return {
            "stage": self.stage,
            "label": self.label,
            "seed": self.seed,
            "spec": json.loads(canonical(dict(self.spec))),
            "inputs": dict(self.inputs),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Cell:
        """The cell that `to_json` wrote."""
        return Cell(**{k: data[k] for k in ("stage", "label", "seed", "spec", "inputs")})


@dataclass(frozen=True)
class Column:
    """A tool of the suite as the board shows it; ``title`` is unique in the suite."""

    title: str
    spec: Spec
    family: Family
    emits: str
    needs: frozenset[Need]


@dataclass(frozen=True)
class Lineage:
    """The cells of one model seed."""

    seed: int
    trojaned: Cell
    twin: Cell
    exhibits: Cell
    runs: Mapping[tuple[str, str], Cell]  # (tool title, "suspect" or "twin")
    asks: Mapping[tuple[str, str], Cell]  # (tool title, judge name)

    @property
    def name(self) -> str:
        """What a report calls the suspect network."""
        return f"seed-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """All cells of a suite."""

    suite: Suite
    columns: tuple[Column, ...]
    lineages: tuple[Lineage, ...]

    def cells(self, stage: Stage | None = None) -> Iterator[Cell]:
        """The cells of one stage, or all in an order in which they can be done."""
        for wanted in STAGES if stage is None else (stage,):
            for line in self.lineages:
                if wanted == "plant":
                    yield from (line.trojaned, line.twin)
                elif wanted == "exhibits":
                    yield line.exhibits
                else:
                    yield from (c for c in (*line.runs.values(), *line.asks.values()) if c.stage == wanted)

    def digests(self) -> set[str]:
        """Every digest of the plan, those of the resources that its tools use included."""
        cells = list(self.cells())
        return {cell.digest for cell in cells} | {d for cell in cells for d in resources.digests(cell.spec)}

    def to_json(self) -> dict[str, Any]:
        """The plan for review, without triggers: those are in the suite file and in the keys."""
        rows = []
        for cell in self.cells():
            row = {"digest": cell.digest, **cell.to_json()}
            if "trojans" in row["spec"]:
                row["spec"] = {**row["spec"], "trojans": digest(row["spec"]["trojans"])}
            if "decoys" in row["spec"]:
                row["spec"] = {**row["spec"], "decoys": digest(row["spec"]["decoys"])}
            rows.append(row)
        return {"schema": SCHEMA, "suite": self.suite.suite, "seeds": list(self.suite.seeds), "cells": rows}


def strict(cls: type[Any], values: Mapping[str, Any], what: str) -> Any:
    """A dataclass from a table of a suite file.

    Raises:
        UnknownName: a key that the dataclass does not have.
        InputError: a value that it refuses.
    """
    return registry.construct(cls, values, f"key of [{what}]", f"[{what}]")


def columns(suite: Suite) -> tuple[Column, ...]:
    """The suite's tools, built once to check their parameters.

    Raises:
        InputError: a wrong parameter, or the same tool with the same parameters twice.
    """
    out: list[Column] = []
    listed = [p.name for p in suite.tools]
    for part in suite.tools:
        tool = registry.build("tool", part.spec)
        extra = ",".join(f"{k}={v}" for k, v in sorted(part.params.items()))
        title = f"{part.name}({extra})" if listed.count(part.name) > 1 and extra else part.name
        if any(c.title == title for c in out):
            raise InputError(f"tool {title!r} is listed twice in suite {suite.suite!r}; remove one")
        out.append(Column(title, registry.spec_of(tool), tool.family, tool.emits, tool.needs))
    return tuple(out)


def members(cols: Iterable[Column]) -> list[Column]:
    """The tools whose evidence others may combine: those that show pictures and know no answer."""
    return [c for c in cols if c.emits == "images" and c.family != "sentinel" and Need.EVIDENCE not in c.needs]


def _full(kind: str, part: Part) -> dict[str, Any]:
    """A component's spec with every parameter written out."""
    return registry.spec_of(registry.build(kind, part.spec)).to_json()


def make_plan(suite: Suite) -> Plan:
    """The cells of a suite, with every name and parameter checked before anything is computed.

    Raises:
        InputError: a wrong class, parameter or recipe.
    """
    from ..plant.poison import Poisoning
    from ..plant.train import TrainRecipe

    recipe = dataclasses.asdict(strict(TrainRecipe, suite.train, "train"))
    poison = dataclasses.asdict(strict(Poisoning, suite.poison, "poison"))
    data = registry.build("dataset", suite.data.spec)
    casts = {seed: cast(suite, seed) for seed in suite.seeds}
    for one in casts.values():
        _check_trojans(one.trojans, data.classes)
        for trojan in (*one.trojans, *one.decoys):
            registry.build("trigger", trojan.trigger)
    cols = columns(suite)
    base = {
        "data": registry.spec_of(data).to_json(),
        "model": _full("model", suite.model),
        "train": recipe,
        "scenes": suite.train_scenes,
    }
    return Plan(suite, cols, tuple(_lineage(suite, cols, base, poison, s, one) for s, one in casts.items()))


def _check_trojans(trojans: Iterable[Trojan], classes: Sequence[str]) -> None:
    for trojan in trojans:
        for role, label in (("target", trojan.target), ("source", trojan.source)):
            if label is not None and label not in classes:
                raise InputError(f"trojan {trojan.name!r}: {UnknownName(f'{role} class', label, classes)}")
        if trojan.source == trojan.target:
            raise InputError(f"trojan {trojan.name!r}: source and target are both {trojan.target!r}; change one")


def _lineage(
    suite: Suite, cols: tuple[Column, ...], base: Mapping[str, Any], poison: Mapping[str, Any], seed: int, players: Cast
) -> Lineage:
    who = f"seed {seed}"
    trojans = [trojan_to_json(t) for t in players.trojans]
    trojaned = Cell(
        "plant", f"{who} · trojaned model", seed, {**base, "role": "trojaned", "trojans": trojans, "poison": poison}
    )
    twin = Cell("plant", f"{who} · clean twin", seed, {**base, "role": "twin"})
    pair = {"trojaned": trojaned.digest, "twin": twin.digest}
    shared = {"data": base["data"], "model": base["model"]}
    sizes = {"test_scenes": suite.test_scenes, "audited": suite.audited, "shown": suite.shown}
    exhibits = Cell("exhibits", f"{who} · exhibits and audit", seed, {**shared, **sizes, "trojans": trojans}, pair)
    runs: dict[tuple[str, str], Cell] = {}
    asks: dict[tuple[str, str], Cell] = {}
    decoys = [trojan_to_json(t) for t in players.decoys]
    for col in sorted(cols, key=lambda c: Need.EVIDENCE in c.needs):  # what combines others comes after them
        for role in ("suspect", "twin"):
            if role == "twin" and col.emits == "heatmaps" and not suite.crops:
                continue  # maps are scored against footprints, which a network without trojan does not use
            spec = {**shared, "tool": col.spec.to_json(), "pictures": suite.pictures, "subject": role}
            spec |= resources.depends(col.needs, base["data"])
            if suite.precision != "float32" and col.family != "sentinel":
                spec["precision"] = suite.precision
            inputs = {**pair, "exhibits": exhibits.digest}
            if Need.EVIDENCE in col.needs:
                inputs |= {f"{SHOWN}{m.title}": runs[m.title, role].digest for m in members(cols)}
            stage: Stage = "combine" if Need.EVIDENCE in col.needs else "run"
            runs[col.title, role] = Cell(stage, f"{who} · {col.title} · {role}", seed, spec, inputs)
        maps = col.emits == "heatmaps"
        if maps and not suite.crops:
            continue
        for judge in suite.judges:
            spec = {**shared, "judge": _full("judge", judge), "draws": suite.draws}
            spec |= {"decoys": decoys, "exemplars": "alone and in scenes", "measures": MEASURES}
            spec |= {"crops": crops.spec(suite.pictures)} if maps else {}
            inputs = {f"evidence {r}": runs[col.title, r].digest for r in ("suspect", "twin")}
            inputs |= {**pair, "exhibits": exhibits.digest}
            asks[col.title, judge.name] = Cell("ask", f"{who} · {judge.name} on {col.title}", seed, spec, inputs)
    return Lineage(seed, trojaned, twin, exhibits, runs, asks)
