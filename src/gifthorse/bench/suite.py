"""Suite files: what is planted, which tools look, who judges. Unknown keys are errors with a suggestion."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from ..errors import InputError, UnknownName, first_problem
from ..registry import names
from .changes import Changes
from .tables import (
    MOST_PICTURES,
    MOST_SCENES,
    DecoyTable,
    Gates,
    Part,
    QuickTable,
    RandomTable,
    SecretTable,
    Strict,
    TrojanTable,
)


class Suite(Strict):
    """A whole suite.

    Attributes:
        seeds: one trojaned network and one clean twin are planted per seed.
        train_scenes: clean training pictures.
        test_scenes: held-out pictures that accuracy is measured on.
        shown: triggered test pictures per trojan given to tools.
        pictures: pictures of evidence per trojan.
        draws: distractor draws per trojan.
        precision: what tools' copies of the networks compute in; bfloat16 is quicker where the device has it.
        crops: also ask judges about what heat maps point at, and run their tools on the clean twin.
    """

    version: Literal[1] = Field(alias="schema")
    suite: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    seeds: tuple[int, ...] = (0,)
    data: Part
    model: Part
    train: dict[str, Any] = Field(default_factory=dict)
    poison: dict[str, Any] = Field(default_factory=dict)
    gates: Gates = Gates()
    tools: tuple[Part, ...] = Field(min_length=1)
    judges: tuple[Part, ...] = Field(min_length=1)
    trojans: tuple[TrojanTable, ...] = Field(default=(), alias="trojan")
    decoys: tuple[DecoyTable, ...] = Field(default=(), alias="decoy")
    random: RandomTable | None = None
    secret: SecretTable | None = None
    train_scenes: int = Field(default=12000, ge=64, le=MOST_SCENES)
    test_scenes: int = Field(default=2000, ge=32, le=MOST_SCENES)
    audited: int = Field(default=100, ge=8, le=MOST_PICTURES)
    shown: int = Field(default=16, ge=1, le=MOST_PICTURES)
    pictures: int = Field(default=10, ge=1, le=MOST_PICTURES)
    draws: int = Field(default=60, ge=1, le=MOST_PICTURES)
    precision: Literal["float32", "bfloat16"] = "float32"
    crops: bool = False
    quick: QuickTable | None = None

    @field_validator("seeds")
    @classmethod
    def _some_seed(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) != len(seeds):
            raise ValueError("give at least one seed, each once")
        return seeds

    @model_validator(mode="after")
    def _some_trojan(self) -> Suite:
        if not (self.trojans or self.random or self.secret):
            raise ValueError("nothing is planted; add a [[trojan]], a [random] or a [secret] table")
        return self

    def quickened(self) -> Suite:
        """The suite that ``--quick`` runs.

        Raises:
            InputError: the file has no ``[quick]`` table.
        """
        q = self.quick
        if q is None:
            raise InputError(f"suite {self.suite!r} has no [quick] table; run it without --quick")
        by_name = {t.name: t for t in self.trojans}
        for name in q.trojans:
            if name not in by_name:
                raise UnknownName(f"trojan of suite {self.suite!r}", name, by_name)
        tools = {t.name for t in self.tools}
        for name in (*q.tools, *q.params):
            if name not in tools:
                raise UnknownName(f"tool of suite {self.suite!r}", name, tools)
        chosen = tuple(by_name[n] for n in q.trojans)
        rest = tuple(
            DecoyTable(name=t.name, kind=t.kind, trigger=t.trigger, concept=t.concept)
            for t in self.trojans
            if t.name not in q.trojans
        )
        kept = (t for t in self.tools if t.name in q.tools)
        return self.model_copy(
            update={
                "suite": f"{self.suite}-quick",
                "seeds": self.seeds[:1],
                "trojans": chosen,
                "decoys": self.decoys + rest,
                "secret": None,
                "tools": tuple(Part(name=t.name, params={**t.params, **q.params.get(t.name, {})}) for t in kept),
                "train_scenes": q.train_scenes,
                "test_scenes": q.test_scenes,
                "pictures": q.pictures,
                "draws": q.draws,
                "shown": q.shown,
                "train": {**self.train, **q.train},
                "poison": {**self.poison, **q.poison},
                "gates": q.gates,
                "quick": None,
            }
        )


KEYS = tuple(f.alias or n for n, f in Suite.model_fields.items() if n not in ("quick", "version"))


def builtin_suites() -> dict[str, Path]:
    """The suites that the package carries."""
    folder = resources.files("gifthorse.bench") / "suites"
    return {Path(str(f)).stem: Path(str(f)) for f in folder.iterdir() if f.name.endswith(".toml")}


def load_suite(name: str, *, quick: bool = False, seeds: tuple[int, ...] = (), changes: Changes | None = None) -> Suite:
    """A suite by built-in name or by path of a TOML file.

    Args:
        name: ``"emoji"``, or a path that ends in ``.toml``.
        quick: apply the file's ``[quick]`` table.
        seeds: replaces the file's seeds where given.
        changes: made last; the suite's name gets their tag, so that it runs in a folder of its own.

    Raises:
        InputError: unreadable, not TOML, or a wrong key or value; the message names the first one.
    """
    known = builtin_suites()
    path = Path(name) if name.endswith(".toml") else known.get(name)
    if path is None:
        raise UnknownName("suite", name, known)
    try:
        data = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a built-in name or a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    suite = parse_suite(data, str(path))
    suite = suite.quickened() if quick else suite
    if changes:
        table = changes.applied(suite.model_dump(by_alias=True), KEYS)
        table["suite"] = f"{table['suite']}-{changes.tag}"
        suite = parse_suite(table, f"{path.name} as changed by the options")
    if suite.data.name == "folder" and not suite.data.params.get("root"):
        raise InputError(f"suite {name!r} has no pictures of its own; add --images FOLDER, one sub-folder per class")
    return parse_seeds(suite, seeds) if seeds else suite


def parse_seeds(suite: Suite, seeds: tuple[int, ...]) -> Suite:
    """The suite with other seeds.

    Raises:
        InputError: a seed is given twice.
    """
    if len(set(seeds)) != len(seeds):
        raise InputError(f"seeds {list(seeds)}: each seed may be given once")
    return suite.model_copy(update={"seeds": seeds})


def parse_suite(data: Mapping[str, Any], where: str) -> Suite:
    """A suite from its parsed TOML, with every component's name checked.

    Raises:
        InputError: a wrong key, value or name.
    """
    try:
        suite = Suite.model_validate(dict(data))
    except ValidationError as error:
        raise InputError(f"{where}: {_first(error, data)}") from error
    parts = [("dataset", suite.data), ("model", suite.model)]
    parts += [("tool", t) for t in suite.tools] + [("judge", j) for j in suite.judges]
    parts += [("trigger", t.trigger) for t in suite.trojans] + [("trigger", d.trigger) for d in suite.decoys]
    for kind, part in parts:
        if part.name not in (table := names(kind)):
            raise InputError(f"{where}: {UnknownName(kind, part.name, table)}")
    listed = [t.name for t in suite.trojans] + [d.name for d in suite.decoys]
    twice = sorted({n for n in listed if listed.count(n) > 1})
    if twice:
        raise InputError(f"{where}: two trojans or decoys are called {twice[0]!r}; rename one")
    options = [(t.kind, t.concept) for t in (*(x.trojan() for x in suite.trojans), *(x.trojan() for x in suite.decoys))]
    same = next((o for o in options if options.count(o) > 1), None)
    if same:
        raise InputError(f"{where}: two {same[0]} triggers have the concept {same[1]!r}; give each its own")
    judges = [j.name for j in suite.judges]
    if len(set(judges)) < len(judges):
        raise InputError(f"{where}: a judge is listed twice in {judges}; remove one")
    return suite


def _first(error: ValidationError, data: Mapping[str, Any]) -> str:
    """The first thing wrong, as ``table.key: what``, with a suggestion for a misspelt key."""
    problem = error.errors()[0]
    if problem["type"] != "extra_forbidden":
        return first_problem(error)
    place = ".".join(str(p) for p in problem["loc"])
    owners: dict[str, type[BaseModel]] = {
        "trojan": TrojanTable,
        "decoy": DecoyTable,
        "random": RandomTable,
        "secret": SecretTable,
        "gates": Gates,
        "quick": QuickTable,
    }
    loc = problem["loc"]
    owner = Suite if len(loc) == 1 else owners.get(str(loc[0]), Suite)
    owner = Gates if "gates" in loc[:-1] else owner
    known = [f.alias or n for n, f in owner.model_fields.items()]
    return str(UnknownName(f"key (in {place})", str(loc[-1]), known))
