"""`StudySource` -> study folder: pictures under random names, the marking sealed apart."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..types import Kind, Option
from . import pictures as art
from . import secret as secret_file
from .study import FILE, PICTURES, SEALED, Choice, Fixed, Settings, Study, checksum, load, marking_hash

OPTIONS = 8


@dataclass(frozen=True)
class Item:
    """One trojan as people meet it: eight options, one of them right.

    Attributes:
        trojan: its name, for the board.
        kind: ``"patch"``, ``"style"`` or ``"natural"``.
        options: eight, each with at least one exemplar picture.
        right: name of the right option.
    """

    trojan: str
    kind: Kind
    options: tuple[Option, ...]
    right: str


@dataclass(frozen=True)
class StudySource:
    """All that a study is made of.

    Attributes:
        suite: the name of the suite.
        items: the trojans.
        shown: by tool and trojan the evidence, pictures ``(h, w, 3)`` uint8, best first; it holds ``"oracle"``.
    """

    suite: str
    items: tuple[Item, ...]
    shown: Mapping[str, Mapping[str, Sequence[art.Picture]]]


@dataclass
class _Album:
    """Pictures on their way to disk, in two groups that are each padded to one size."""

    pixels: int
    groups: dict[str, dict[str, art.Picture]] = field(default_factory=lambda: {"evidence": {}, "options": {}})

    def add(self, group: str, picture: art.Picture) -> str:
        name = secrets.token_hex(16)
        self.groups[group][name] = art.square(picture, self.pixels)
        return name

    def write(self, folder: Path) -> dict[str, str]:
        """Write all pictures in the order of their random names; SHA-256 by name."""
        folder.mkdir(mode=0o755)
        files: dict[str, bytes] = {}
        for group in self.groups.values():
            files |= dict(zip(group, art.encode(list(group.values())), strict=True))
        for name in sorted(files):
            path = folder / f"{name}.png"
            path.write_bytes(files[name])
            os.utime(path, (0, 0))
        return {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}


def create(source: StudySource, settings: Settings, out: Path) -> Study:
    """Make a study folder.

    Args:
        source: trojans, options and evidence; a noise arm is drawn where it has none.
        settings: what the maker chose.
        out: the folder; it must not exist or be empty.

    Returns:
        The study, as `study.load` reads it back.

    Raises:
        InputError: the folder is not empty, no oracle, or evidence, options or pictures that do not fit.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: already exists and is not empty; name a new folder with --out")
    tools = _tools(source)
    temp = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        temp.mkdir(parents=True)
        _write(source, tools, settings, temp)
        if out.is_dir():
            out.rmdir()
        temp.rename(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); free space or name another --out") from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return load(out)


def _tools(source: StudySource) -> list[str]:
    """Every arm's tool; checks what is there."""
    if not source.items:
        raise InputError("the run has no trojans to ask about")
    if "oracle" not in source.shown:
        raise InputError("no oracle arm: nothing would show that people can recognise the triggers; add the oracle")
    for item in source.items:
        names = [option.name for option in item.options]
        if len(set(names)) != OPTIONS or len(names) != OPTIONS:
            raise InputError(
                f"trojan {item.trojan!r}: {len(set(names))} different options, but {OPTIONS} are asked for"
            )
        if item.right not in names:
            raise InputError(f"trojan {item.trojan!r}: the right option {item.right!r} is not among {names}")
        for tool, shown in source.shown.items():
            if not len(shown.get(item.trojan, ())):
                raise InputError(f"tool {tool!r} shows no pictures for trojan {item.trojan!r}; run it or leave it out")
    return [*source.shown, *(["noise"] if "noise" not in source.shown else [])]


def _write(source: StudySource, tools: list[str], settings: Settings, folder: Path) -> None:
    rng = np.random.default_rng(secrets.randbits(63))
    album = _Album(settings.pixels)
    arms = {f"a{i + 1:02d}": tools[j] for i, j in enumerate(rng.permutation(len(tools)))}
    order = rng.permutation(len(source.items))
    items, marked, shown = {}, {}, {}
    for i, j in enumerate(order):
        item, name = source.items[j], f"i{i + 1:03d}"
        items[name] = _choices(item, album)
        right = next(c.id for c in items[name] if c.name == item.right)
        marked[name] = {"trojan": item.trojan, "kind": item.kind, "right": right}
        for arm, tool in arms.items():
            evidence = source.shown[tool][item.trojan] if tool in source.shown else _noise(settings, rng)
            some = [art.checked(p, f"tool {tool!r}, trojan {item.trojan!r}") for p in evidence[: settings.evidence]]
            shown[f"{name}.{arm}"] = tuple(album.add("evidence", p) for p in some)
    practice, checks = _fixed(settings, album, rng)
    marking: dict[str, Any] = {
        "schema": 1,
        "salt": secrets.token_hex(16),
        "arms": arms,
        "items": marked,
        "checks": {c.id: c.right for c in checks},
    }
    body = {
        "schema": 1,
        "kind": "gifthorse study",
        "id": secrets.token_hex(6),
        "suite": source.suite,
        "settings": settings.model_dump(mode="json"),
        "arms": list(arms),
        "items": {k: [c.model_dump() for c in v] for k, v in items.items()},
        "shown": shown,
        "practice": practice.model_dump(),
        "checks": [c.model_copy(update={"right": ""}).model_dump() for c in checks],
        "pictures": album.write(folder / PICTURES),
        "marking_hash": marking_hash(marking),
    }
    body = json.loads(json.dumps(body))
    _dump(folder / FILE, {**body, "checksum": checksum(body)}, 0o644)
    _dump(folder / SEALED, marking, 0o600)
    secret_file.make(folder)


def _choices(item: Item, album: _Album) -> tuple[Choice, ...]:
    """The options under random ids, in the order of those."""
    out = []
    for option in item.options:
        if not len(option.pictures):
            raise InputError(f"trojan {item.trojan!r}: option {option.name!r} has no picture; add at least one")
        some = [art.checked(p, f"option {option.name!r}") for p in option.pictures]
        picture = album.add("options", art.tiled(some, album.pixels))
        out.append(Choice(id=secrets.token_hex(4), name=option.name, picture=picture))
    return tuple(sorted(out, key=lambda c: c.id))


def _noise(settings: Settings, rng: np.random.Generator) -> list[art.Picture]:
    size = (settings.pixels, settings.pixels, 3)
    return [rng.integers(0, 256, size, dtype=np.uint8) for _ in range(settings.evidence)]


def _fixed(settings: Settings, album: _Album, rng: np.random.Generator) -> tuple[Fixed, list[Fixed]]:
    """The practice question and the attention checks, drawn from plain shapes."""

    def one(name: str, text: str, drawn: str, right: str) -> Fixed:
        options = [
            Choice(id=secrets.token_hex(4), name=s, picture=album.add("options", art.shape(s, album.pixels, rng)))
            for s in art.SHAPES
        ]
        wanted = next(c.id for c in options if c.name == right)
        evidence = tuple(album.add("evidence", art.shape(drawn, album.pixels, rng)) for _ in range(4))
        return Fixed(id=name, text=text, pictures=evidence, options=tuple(options), right=wanted)

    practice = one("practice", "Which of the eight options do these pictures remind you of most?", "star", "star")
    checks = []
    for i in range(settings.checks):
        drawn, asked = rng.choice(art.SHAPES, 2, replace=False)
        text = f"This page checks your attention: whatever the pictures show, please choose “{asked}”."
        checks.append(one(f"check{i + 1}", text, str(drawn), str(asked)))
    return practice, checks


def _dump(path: Path, value: Any, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        json.dump(value, file, indent=1, ensure_ascii=False, default=list)
        file.write("\n")
