"""Which interpretability tools actually work? Plant trojans, let tools look, judge what they show."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Answer": "types",
    "Evidence": "types",
    "Need": "types",
    "Option": "types",
    "Question": "types",
    "Spec": "spec",
    "Stamped": "types",
    "Store": "store",
    "Suite": "bench.suite",
    "Task": "types",
    "Trojan": "types",
    "build": "registry",
    "load_suite": "bench.suite",
    "make_plan": "bench.plan",
    "run_suite": "bench.run",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used; nothing heavy is loaded before."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'gifthorse' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
