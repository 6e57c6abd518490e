"""The report: a published schema, tables made from it, and one offline HTML folder. Needs no torch.

``Report`` is the schema as classes, ``json_schema()`` as JSON schema, ``PUBLISHED`` the path of the same in a
file; ``load`` reads a ``report.json`` and ``write`` makes the folder.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {"PUBLISHED": "schema", "Report": "schema", "json_schema": "schema", "load": "schema", "write": "site"}

__all__ = ["PUBLISHED", "Report", "json_schema", "load", "write"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'gifthorse.report' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
