"""What a command line changes about a suite file: ``-o key=value``, ``--images`` and ``--random``."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, UnknownName
from ..spec import digest

LISTS = {"tools": "tool", "judges": "judge", "trojan": "trojan", "decoy": "decoy"}
PARTS = ("data", "model")
TABLES = ("train", "poison", "gates", "secret", "random")


@dataclass(frozen=True)
class Changes:
    """Changes to a suite; they win over the file and its ``[quick]`` table.

    Attributes:
        sets: texts such as ``"tools.feature-vis.steps=8"``; the value is TOML.
        images: a folder of pictures, one sub-folder per class, that takes the place of the suite's data.
        model: name of a model component that takes the place of the suite's.
        size: side of the pictures in pixels.
        random: random trojans that take the place of all others, as in ``"patch=2,natural=2"``.
    """

    sets: tuple[str, ...] = ()
    images: Path | None = None
    model: str | None = None
    size: int | None = None
    random: str | None = None

    def __bool__(self) -> bool:
        return self != Changes()

    @property
    def tag(self) -> str:
        """Six hex digits that tell runs with other changes apart; they name the run's folder."""
        body = {**dataclasses.asdict(self), "sets": sorted(self.sets)}
        body["images"] = None if self.images is None else str(_absolute(self.images))
        return digest(body)[:6]

    def applied(self, table: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
        """A suite's table with the changes made.

        Args:
            table: as parsed; every component as ``{"name", "params"}``.
            known: the keys that a suite may have.

        Raises:
            InputError: a text without ``=``, a value that is not TOML, or a name that is not in the suite.
        """
        out = dict(table)
        if self.images is not None:
            params = {"size": out["data"]["params"]["size"]} if "size" in out["data"]["params"] else {}
            out["data"] = {"name": "folder", "params": {"root": str(_absolute(self.images)), **params}}
        if self.size is not None:
            out["data"] = {**out["data"], "params": {**out["data"]["params"], "size": self.size}}
        if self.model is not None:
            out["model"] = {"name": self.model, "params": {}}
        if self.random is not None:
            given = dict(_pair(text, "--random") for text in self.random.split(","))
            out |= {"random": given, "trojan": (), "secret": None}
        for text in self.sets:
            key, value = _pair(text, "-o")
            _set(out, key.split("."), value, key, known)
        return out


def _absolute(folder: Path) -> Path:
    return folder.expanduser().resolve()


def _pair(text: str, option: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"{option} {text!r}: write key=value, as in {option} {_example(option)}")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        raise InputError(
            f"{option} {text!r}: {value!r} is no TOML value; text needs quotes, as in -o 'model=\"tiny\"'"
        ) from None


def _example(option: str) -> str:
    return "patch=2,natural=2" if option == "--random" else "tools.feature-vis.steps=8"


def _set(table: dict[str, Any], path: list[str], value: Any, key: str, known: Iterable[str]) -> None:
    top, rest = path[0], path[1:]
    if top not in known:
        raise UnknownName("key of a suite", top, known)
    if not rest:
        table[top] = value
    elif top in LISTS:
        table[top] = _in_list(table[top], LISTS[top], rest, value, key)
    elif len(rest) > 1 or top not in (*PARTS, *TABLES):
        raise InputError(f"-o {key}: {'.'.join(path[:-1])!r} has no keys; write {'.'.join(path[:2])}=value at most")
    elif top in PARTS:
        table[top] = _part(table[top], rest[0], value)
    else:
        table[top] = {**(table[top] or {}), rest[0]: value}


def _part(part: Any, key: str, value: Any) -> dict[str, Any]:
    part = {"name": part, "params": {}} if isinstance(part, str) else part
    return {**part, "name": value} if key == "name" else {**part, "params": {**part["params"], key: value}}


def _in_list(rows: Any, what: str, path: list[str], value: Any, key: str) -> list[Any]:
    """The rows with a key of one of them, found by its name, set."""
    if not any(row["name"] == path[0] for row in rows):
        raise UnknownName(f"{what} in this suite", path[0], [row["name"] for row in rows])
    is_part, depth = what in ("tool", "judge"), len(path)
    if depth != 2 and not (depth == 3 and not is_part and path[1] == "trigger"):
        raise InputError(f"-o {key}: name a parameter, as in {key.split('.')[0]}.{path[0]}.KEY=value")

    def changed(row: dict[str, Any]) -> dict[str, Any]:
        if is_part:
            return _part(row, path[1], value)
        return {**row, path[1]: value if depth == 2 else _part(row["trigger"], path[2], value)}

    return [changed(dict(row)) if row["name"] == path[0] else row for row in rows]
