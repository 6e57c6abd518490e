"""`Spec`: the identity of a component, and the digests everything in the store is named by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``, as 64 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


@dataclass(frozen=True)
class Spec:
    """A component by name, version and parameters; round-trips through JSON.

    Attributes:
        name: name in the catalogue.
        params: parameters that differ from or restate the component's defaults.
        version: the component's version; it is bumped when outputs change.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary; `from_json` is its inverse."""
        return {"name": self.name, "params": json.loads(canonical(dict(self.params))), "version": self.version}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Spec:
        """The spec that `to_json` wrote."""
        return Spec(str(data["name"]), dict(data.get("params", {})), int(data.get("version", 1)))

    @property
    def digest(self) -> str:
        """SHA-256 of name, version and parameters."""
        return digest(self.to_json())
