"""Every error gifthorse raises on purpose.

    GifthorseError                 exit code 2
    ├── InputError                 a file, folder, name or value the user gave is wrong
    │   └── UnknownName            a name that no catalogue lists, with a suggestion
    ├── MissingResource            weights, pictures or a package that is not installed
    ├── GateError                  a planted model that misses its gates   (exit code 4)
    ├── ToolError                  a tool broke its contract               (exit code 3)
    └── StoreError                 a damaged or unwritable store

Each message says what is wrong, where, and what to do next, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class GifthorseError(Exception):
    """Base of all errors that carry a one-line message for the user."""

    exit_code = 2


class InputError(GifthorseError):
    """A file, folder, name or value that the user gave is wrong."""


def first_problem(error: ValidationError) -> str:
    """The first thing that pydantic finds wrong, as ``place: what``."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"]) or "the file"
    return f"{place}: {problem['msg']}"


class UnknownName(InputError):
    """A name that the catalogue does not list.

    Args:
        what: the kind of thing looked up, for example ``"tool"``.
        name: the name that was asked for.
        known: the names that exist; the nearest one is suggested.
    """

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
        super().__init__(f"no {what} is called {name!r}; {hint}")


class MissingResource(GifthorseError):
    """Weights, pictures or a package are not installed."""


class GateError(GifthorseError):
    """A planted model misses its gates and is refused."""

    exit_code = 4


class ToolError(GifthorseError):
    """A tool broke its contract: wrong shapes, NaN, or a changed network."""

    exit_code = 3


class StoreError(GifthorseError):
    """The store is damaged, full or cannot be written."""
