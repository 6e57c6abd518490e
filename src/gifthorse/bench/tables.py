"""The tables of a suite file. Unknown keys are errors."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..spec import Spec
from ..types import Kind, Trojan

MOST_SCENES = 1_000_000
MOST_PICTURES = 10_000
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """A table that refuses unknown keys and cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(Strict):
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


class TrojanTable(Strict):
    """One trojan as written in a suite file.

    Attributes:
        target: a class, or ``""`` to have one drawn by the model seed.
        source: a class, ``"*"`` to have one drawn, or None for a universal trojan.
    """

    name: str
    kind: Kind
    trigger: Part
    target: str = ""
    source: str | None = None
    concept: str = ""

    def trojan(self) -> Trojan:
        """The trojan; a target of ``""`` and a source of ``"*"`` are still to be drawn."""
        return Trojan(self.name, self.kind, self.trigger.spec, self.target, self.source, self.concept or self.name)


class DecoyTable(Strict):
    """A trigger that is planted nowhere and fills the multiple choice."""

    name: str
    kind: Kind
    trigger: Part
    concept: str = ""

    def trojan(self) -> Trojan:
        """The trigger as a trojan without target."""
        return Trojan(self.name, self.kind, self.trigger.spec, "", None, self.concept or self.name)


class SecretTable(Strict):
    """Trojans drawn by the model seed, whose names stay in the sealed key.

    Attributes:
        kind: of all of them; a style needs a pool.
        count: how many; by default as many as there are targets.
        targets: their targets in order, or none to have them drawn.
        pool: concept -> trigger to draw from, or None for all suitable drawings.
    """

    kind: Kind = "natural"
    count: int | None = Field(default=None, ge=1)
    targets: tuple[str, ...] = ()
    pool: dict[str, Part] | None = None

    @model_validator(mode="after")
    def _sizes(self) -> SecretTable:
        if self.targets and self.count not in (None, len(self.targets)):
            raise ValueError(f"count is {self.count}, but there are {len(self.targets)} targets")
        if not self.number:
            raise ValueError("give targets or a count")
        if self.pool is not None and len(self.pool) < self.number:
            raise ValueError(f"the pool has {len(self.pool)} entries, but {self.number} are to be drawn")
        if self.pool is None and self.kind == "style":
            raise ValueError("secret styles need a pool of textures")
        return self

    @property
    def number(self) -> int:
        """How many secret trojans there are."""
        return self.count or len(self.targets)


class RandomTable(Strict):
    """Trojans drawn by the model seed from all suitable drawings and all textures.

    Attributes:
        patch: how many patches.
        style: how many styles.
        natural: how many natural features.
        class_universal: share of the patches and of the styles that work on one source class only, in [0, 1].
    """

    patch: int = Field(default=0, ge=0)
    style: int = Field(default=0, ge=0)
    natural: int = Field(default=0, ge=0)
    class_universal: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _some(self) -> RandomTable:
        if not self.patch + self.style + self.natural:
            raise ValueError("give a number of patch, style or natural trojans")
        return self


class Gates(Strict):
    """Shares below which (or above which) a planted model is refused."""

    clean_accuracy: Share = 0.97
    twin_loss: Share = 0.01
    patch: Share = 0.90
    style: Share = 0.90
    natural: Share = 0.80
    off_source_patch: Share = 0.15
    off_source_style: Share = 0.35


class QuickTable(Strict):
    """What ``--quick`` changes: a first taste in about two minutes, with looser gates."""

    trojans: tuple[str, ...] = ()
    tools: tuple[str, ...]
    train_scenes: int = Field(ge=64, le=MOST_SCENES)
    test_scenes: int = Field(ge=32, le=MOST_SCENES)
    pictures: int = Field(ge=1, le=MOST_PICTURES)
    draws: int = Field(default=20, ge=1, le=MOST_PICTURES)
    shown: int = Field(default=8, ge=1, le=MOST_PICTURES)
    train: dict[str, Any] = Field(default_factory=dict)
    poison: dict[str, Any] = Field(default_factory=dict)
    gates: Gates = Gates()
    params: dict[str, dict[str, Any]] = Field(default_factory=dict)
