"""The answer keys: one sealed file per model, outside the store; only its salted hash is public.

The hash in the card commits to the answer before any tool runs; the salt keeps anybody from finding
a short list of trojans by guessing.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from .errors import StoreError
from .spec import Spec, canonical
from .types import Trojan


@dataclass(frozen=True)
class Key:
    """What was planted: for every task id its trojan; ``salt`` is 32 hex digits."""

    salt: str
    trojans: Mapping[str, Trojan]

    @property
    def hash(self) -> str:
        """SHA-256 of salt and trojans: the commitment that the card shows."""
        body = {task: trojan_to_json(t) for task, t in self.trojans.items()}
        return sha256((self.salt + canonical(body)).encode()).hexdigest()


def trojan_to_json(trojan: Trojan) -> dict[str, Any]:
    """A JSON-able dictionary; `trojan_from_json` is its inverse."""
    return {
        "name": trojan.name,
        "kind": trojan.kind,
        "trigger": trojan.trigger.to_json(),
        "target": trojan.target,
        "source": trojan.source,
        "concept": trojan.concept,
        "secret": trojan.secret,
    }


def trojan_from_json(data: Mapping[str, Any]) -> Trojan:
    """The trojan that `trojan_to_json` wrote."""
    return Trojan(**{**data, "trigger": Spec.from_json(data["trigger"])})


def task_ids(n: int) -> list[str]:
    """``n`` opaque task identifiers."""
    return [f"t{i + 1:02d}" for i in range(n)]


def key_path(home: Path, model: str) -> Path:
    """Where the key of a model digest lives."""
    return home / "keys" / f"{model}.json"


def seal(home: Path, model: str, trojans: Sequence[Trojan]) -> Key:
    """Write the key of a model with mode 0600, or return the one written before for the same trojans.

    Of two processes that seal at once the first wins, and both return its key.

    Raises:
        StoreError: the folder cannot be written, or a different key is there.
    """
    path = key_path(home, model)
    table = dict(zip(task_ids(len(trojans)), trojans, strict=True))
    if not path.exists():
        _write(path, Key(secrets.token_hex(16), table))
    key = open_key(home, model)
    if dict(key.trojans) != table:
        raise StoreError(f"{path} holds other trojans than this suite; delete it and run the same command again")
    return key


def _write(path: Path, key: Key) -> None:
    """Write a key whole, unless another process was first."""
    body = {"schema": 1, "salt": key.salt, "trojans": {k: trojan_to_json(t) for k, t in key.trojans.items()}}
    temp = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(body, file, indent=1)
        _claim(temp, path)
    except OSError as error:
        raise StoreError(f"cannot write the key {path}: {error.strerror}; free space or set GIFTHORSE_HOME") from error
    finally:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)


def _claim(temp: Path, path: Path) -> None:
    """Give ``temp`` its name unless that is taken; where the disk knows no links, a rename has to do."""
    try:
        os.link(temp, path)
    except FileExistsError:
        return
    except OSError:
        temp.replace(path)


def open_key(home: Path, model: str, expected: str | None = None) -> Key:
    """The key of a model.

    Args:
        home: the folder that holds ``keys``.
        model: digest of the model.
        expected: the hash in the model's card, or None not to check it.

    Raises:
        StoreError: missing, damaged, or not the key that the card commits to.
    """
    path = key_path(home, model)
    try:
        data = json.loads(path.read_text())
        key = Key(str(data["salt"]), {k: trojan_from_json(t) for k, t in data["trojans"].items()})
    except FileNotFoundError:
        raise StoreError(f"the answer key {path} is missing; run the same command again to plant anew") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"the answer key {path} is damaged ({error}); restore or delete it, then run again") from error
    if expected is not None and key.hash != expected:
        raise StoreError(f"the answer key {path} is not the one that the model card commits to; do not score with it")
    return key
