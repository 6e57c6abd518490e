"""Suite files: what is planted, which tools look, who judges. Unknown keys are errors with a suggestion."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..errors import InputError, UnknownName
from ..registry import names
from ..rng import generator
from ..spec import Spec
from ..types import Kind, Trojan


class _Strict(BaseModel):
    """A table that refuses unknown keys and cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Strict):
    """A component: its name, and its parameters as further keys."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and "params" not in value:
            return {"name": value.get("name"), "params": {k: v for k, v in value.items() if k != "name"}}
        return value

    @property
    def spec(self) -> Spec:
        """The part as a spec."""
        return Spec(self.name, self.params)


class TrojanTable(_Strict):
    """One trojan as written in a suite file."""

    name: str
    kind: Kind
    trigger: Part
    target: str
    source: str | None = None
    concept: str = ""

    def trojan(self) -> Trojan:
        """The trojan."""
        return Trojan(self.name, self.kind, self.trigger.spec, self.target, self.source, self.concept or self.name)


class DecoyTable(_Strict):
    """A trigger that is planted nowhere and fills the multiple choice."""

    name: str
    kind: Kind
    trigger: Part
    concept: str = ""

    def trojan(self) -> Trojan:
        """The trigger as a trojan without target."""
        return Trojan(self.name, self.kind, self.trigger.spec, "", None, self.concept or self.name)


class SecretTable(_Strict):
    """Trojans drawn by seed: each picks an unused entry of ``pool`` (concept -> trigger) and the next target."""

    kind: Kind = "natural"
    targets: tuple[str, ...]
    pool: dict[str, Part]

    def draw(self, seed: int) -> list[Trojan]:
        """The secret trojans of one model seed."""
        order = generator(seed, "secret trojans").permutation(len(self.pool))
        concepts = [sorted(self.pool)[i] for i in order[: len(self.targets)]]
        return [
            Trojan(f"secret-{i + 1}", self.kind, self.pool[c].spec, target, None, c, secret=True)
            for i, (c, target) in enumerate(zip(concepts, self.targets, strict=True))
        ]


class Gates(_Strict):
    """Shares below which (or above which) a planted model is refused."""

    clean_accuracy: float = 0.97
    twin_loss: float = 0.01
    patch: float = 0.90
    style: float = 0.90
    natural: float = 0.80
    off_source_patch: float = 0.15
    off_source_style: float = 0.35


class QuickTable(_Strict):
    """What ``--quick`` changes: a first taste in about two minutes, with looser gates."""

    trojans: tuple[str, ...]
    tools: tuple[str, ...]
    train_scenes: int
    test_scenes: int
    pictures: int
    draws: int = 20
    shown: int = 8
    train: dict[str, Any] = Field(default_factory=dict)
    poison: dict[str, Any] = Field(default_factory=dict)
    gates: Gates = Gates()
    params: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Suite(_Strict):
    """A whole suite.

    Attributes:
        seeds: one trojaned network and one clean twin are planted per seed.
        train_scenes: clean training pictures.
        test_scenes: held-out pictures that accuracy is measured on.
        shown: triggered test pictures per trojan given to tools.
        pictures: pictures of evidence per trojan.
        draws: distractor draws per trojan.
    """

    version: Literal[1] = Field(alias="schema")
    suite: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    seeds: tuple[int, ...] = (0,)
    data: Part
    model: Part
    train: dict[str, Any] = Field(default_factory=dict)
    poison: dict[str, Any] = Field(default_factory=dict)
    gates: Gates = Gates()
    tools: tuple[Part, ...]
    judges: tuple[Part, ...]
    trojans: tuple[TrojanTable, ...] = Field(alias="trojan", min_length=1)
    decoys: tuple[DecoyTable, ...] = Field(default=(), alias="decoy")
    secret: SecretTable | None = None
    train_scenes: int = Field(default=12000, ge=64)
    test_scenes: int = Field(default=2000, ge=32)
    audited: int = Field(default=100, ge=8)
    shown: int = Field(default=16, ge=1)
    pictures: int = Field(default=10, ge=1)
    draws: int = Field(default=60, ge=1)
    quick: QuickTable | None = None

    @field_validator("seeds")
    @classmethod
    def _some_seed(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) != len(seeds):
            raise ValueError("give at least one seed, each once")
        return seeds

    def planted(self, seed: int) -> list[Trojan]:
        """Every trojan of one network: the listed ones, then the secret ones."""
        listed = [t.trojan() for t in self.trojans]
        return listed + (self.secret.draw(seed) if self.secret else [])

    def distractors(self) -> list[Trojan]:
        """Triggers that are planted nowhere and only fill the multiple choice."""
        return [t.trojan() for t in self.decoys]

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
        chosen = tuple(by_name[n] for n in q.trojans)
        rest = tuple(
            DecoyTable(name=t.name, kind=t.kind, trigger=t.trigger, concept=t.concept)
            for t in self.trojans
            if t.name not in q.trojans
        )
        tools = tuple(t for t in self.tools if t.name in q.tools)
        tools = tuple(Part(name=t.name, params={**t.params, **q.params.get(t.name, {})}) for t in tools)
        return self.model_copy(
            update={
                "suite": f"{self.suite}-quick",
                "seeds": self.seeds[:1],
                "trojans": chosen,
                "decoys": self.decoys + rest,
                "secret": None,
                "tools": tools,
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


def builtin_suites() -> dict[str, Path]:
    """The suites that the package carries."""
    folder = resources.files("gifthorse.bench") / "suites"
    return {Path(str(f)).stem: Path(str(f)) for f in folder.iterdir() if f.name.endswith(".toml")}


def load_suite(name: str, *, quick: bool = False, seeds: tuple[int, ...] = ()) -> Suite:
    """A suite by built-in name or by path of a TOML file.

    Args:
        name: ``"emoji"``, or a path that ends in ``.toml``.
        quick: apply the file's ``[quick]`` table.
        seeds: replaces the file's seeds where given.

    Raises:
        InputError: unreadable, not TOML, or a wrong key or value; the message names the first one.
    """
    known = builtin_suites()
    path = Path(name) if name.endswith(".toml") else known.get(name)
    if path is None:
        raise UnknownName("suite", name, known)
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a built-in name or a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    suite = parse_suite(data, str(path))
    suite = suite.quickened() if quick else suite
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
    return suite


def _first(error: ValidationError, data: Mapping[str, Any]) -> str:
    """The first thing wrong, as ``table.key: what``, with a suggestion for a misspelt key."""
    problem = error.errors()[0]
    place = ".".join(str(p) for p in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{place}: {problem['msg']}"
    owners: dict[str, type[BaseModel]] = {
        "trojan": TrojanTable,
        "decoy": DecoyTable,
        "secret": SecretTable,
        "gates": Gates,
        "quick": QuickTable,
    }
    loc = problem["loc"]
    owner = Suite if len(loc) == 1 else owners.get(str(loc[0]), Suite)
    owner = Gates if "gates" in loc[:-1] else owner
    known = [f.alias or n for n, f in owner.model_fields.items()]
    return str(UnknownName(f"key (in {place})", str(loc[-1]), known))
