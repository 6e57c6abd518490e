"""The study file: what is shown to whom, fixed before the first person; which option is right lies elsewhere."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InputError, first_problem
from ..spec import canonical

FILE, SEALED, PICTURES = "study.json", "marking.sealed.json", "pictures"
Design = Literal["latin", "between"]
Provider = Literal["generic", "prolific", "connect"]
Shows = Literal["names", "pictures", "both"]

CONSENT = (
    "You are invited to take part in a research study. You will look at pictures made by computer programs and choose, "
    "from eight options, what they remind you of. It takes about ten minutes.\n\n"
    "Taking part is voluntary. You may stop at any time by closing the page, and you may have your answers erased "
    "with the link at the end of every page.\n\n"
    "We store your answers and the time of each. We do not store your name, e-mail address or network address; a "
    "participant id from a panel is stored only in a scrambled form that we cannot read back. Answers are published "
    "without anything that points to you."
)
INSTRUCTIONS = (
    "Each page shows pictures that a computer program made. They all hint at one and the same thing, but they can be "
    "strange, blurred or colourful. Choose the option that they remind you of most. If you are not sure, choose what "
    "seems nearest; there is no penalty for being wrong. The first page is for practice."
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Consent(_Strict):
    """The text that a person agrees to; paragraphs are parted by blank lines."""

    version: str = "1"
    text: str = CONSENT


class Rules(_Strict):
    """Who is left out of the second board; fixed before the study starts.

    Attributes:
        failed_checks: left out with at least this many failed attention checks.
        median_seconds: left out below this median time per question.
        same_place: left out when this share of choices is at one position.
    """

    failed_checks: int = Field(default=2, ge=1)
    median_seconds: float = Field(default=2.0, ge=0)
    same_place: float = Field(default=0.9, gt=0, le=1)


class Settings(_Strict):
    """What the maker of a study may choose; the keys of the ``--settings`` file.

    Attributes:
        provider: where people come from; it names the parameters of the link.
        return_url: shown at the end; ``{code}`` becomes the completion code.
        expires: last day on which a person may start.
        design: ``"latin"`` mixes tools within a person, ``"between"`` shows one tool to each.
        options: whether options are shown by name, picture or both.
        pixels: side of every picture.
        evidence: most pictures per question.
        checks: attention checks per person.
        stale_minutes: who has been silent for longer no longer counts for the balance of arms.
    """

    title: str = "What do these pictures show?"
    language: str = Field(default="en", pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$")
    contact: str = "the person who sent you the link"
    provider: Provider = "generic"
    return_url: str = Field(default="", pattern=r"^(https://\S+)?$")
    expires: date | None = None
    design: Design = "latin"
    options: Shows = "both"
    pixels: int = Field(default=128, ge=32, le=512)
    evidence: int = Field(default=10, ge=1, le=24)
    checks: int = Field(default=2, ge=0, le=4)
    stale_minutes: int = Field(default=60, ge=1)
    consent: Consent = Consent()
    instructions: str = INSTRUCTIONS
    rules: Rules = Rules()


class Choice(_Strict):
    """One option; its picture is the name of a file."""

    id: str
    name: str
    picture: str


class Fixed(_Strict):
    """A question that everybody gets: practice (its right option is told) or an attention check."""

    id: str
    text: str
    pictures: tuple[str, ...]
    options: tuple[Choice, ...]
    right: str = ""


class StudyFile(_Strict):
    """``study.json``. Arms stand for tools and items for trojans; only the sealed file knows which.

    Attributes:
        shown: the pictures of every ``"item.arm"``.
        pictures: SHA-256 of every picture file by name.
        marking_hash: commitment to the sealed file.
    """

    version: Literal[1] = Field(alias="schema")
    kind: Literal["gifthorse study"]
    id: str
    suite: str
    settings: Settings
    arms: tuple[str, ...]
    items: dict[str, tuple[Choice, ...]]
    shown: dict[str, tuple[str, ...]]
    practice: Fixed
    checks: tuple[Fixed, ...]
    pictures: dict[str, str]
    marking_hash: str
    checksum: str


@dataclass(frozen=True)
class Study:
    """A study folder that was checked."""

    folder: Path
    file: StudyFile

    @property
    def settings(self) -> Settings:
        """What its maker chose."""
        return self.file.settings

    @cached_property
    def questions(self) -> dict[str, Fixed]:
        """Every question by id: practice, checks, and every ``"item.arm"``."""
        text = "Which of the eight options do these pictures remind you of most?"
        asked = {
            name: Fixed(id=name, text=text, pictures=pictures, options=self.file.items[name.partition(".")[0]])
            for name, pictures in self.file.shown.items()
        }
        return asked | {fixed.id: fixed for fixed in (self.file.practice, *self.file.checks)}

    def question(self, name: str) -> Fixed:
        """A question by id."""
        return self.questions[name]


@dataclass(frozen=True)
class Marking:
    """The sealed half.

    Attributes:
        arms: tool by arm.
        items: ``{"trojan": name, "kind": kind, "right": option id}`` by item.
        checks: the option asked for, by attention check.
    """

    arms: dict[str, str]
    items: dict[str, dict[str, str]]
    checks: dict[str, str]


def checksum(body: dict[str, Any]) -> str:
    """SHA-256 over all of a study file but its checksum."""
    return hashlib.sha256(canonical({k: v for k, v in body.items() if k != "checksum"}).encode()).hexdigest()


def load(folder: Path) -> Study:
    """A study folder; every picture is compared with its checksum.

    Raises:
        InputError: missing, edited by hand, of another version, or a picture was changed.
    """
    path = folder / FILE
    body = _json(path, "make a study with `gifthorse survey new`")
    if body.get("kind") != "gifthorse study":
        raise InputError(f"{path}: not a study file; make one with `gifthorse survey new`")
    if body.get("schema") != 1:
        raise InputError(f"{path}: schema {body.get('schema')!r} is not known here; update gifthorse")
    if body.get("checksum") != checksum(body):
        raise InputError(
            f"{path}: was edited after it was made (its checksum differs); put the old file back, or make a new "
            "study with `gifthorse survey new --settings`, so that all people see one design"
        )
    try:
        file = StudyFile.model_validate(body)
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error)}") from error
    for name, expected in file.pictures.items():
        picture = folder / PICTURES / f"{name}.png"
        if not picture.is_file():
            raise InputError(f"{picture}: is missing; copy the whole study folder")
        if hashlib.sha256(picture.read_bytes()).hexdigest() != expected:
            raise InputError(f"{picture}: was changed after the study was made; put the old file back")
    return Study(folder, file)


def load_marking(study: Study, path: Path | None = None) -> Marking:
    """The sealed half of a study.

    Args:
        study: the study.
        path: where the sealed file lies; in the study folder by default.

    Raises:
        InputError: missing, damaged, or not the one that the study commits to.
    """
    path = path or study.folder / SEALED
    body = _json(path, "give its place with --marking")
    if marking_hash(body) != study.file.marking_hash:
        raise InputError(f"{path}: not the marking that the study was made with; do not score with it")
    return Marking(body["arms"], body["items"], body["checks"])


def marking_hash(body: dict[str, Any]) -> str:
    """Salted commitment to the sealed file (the salt is one of its keys)."""
    return hashlib.sha256(canonical(body).encode()).hexdigest()


def load_settings(path: Path | None) -> Settings:
    """Settings from a TOML file, or the defaults.

    Raises:
        InputError: unreadable, or a wrong key or value.
    """
    if path is None:
        return Settings()
    try:
        return Settings.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the name") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    except ValidationError as error:
        known = ", ".join(Settings.model_fields)
        raise InputError(f"{path}: {first_problem(error)}; keys: {known}") from error


def _json(path: Path, hint: str) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path}: is missing; {hint}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable JSON ({error}); put the old file back") from error
    if not isinstance(body, dict):
        raise InputError(f"{path}: not a JSON object; put the old file back")
    return body
