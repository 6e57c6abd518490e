"""One strict, lazy registry for every kind of component, built-in or from another package.

A component is a frozen dataclass with class attributes ``name`` and ``version``; its fields are its
parameters. Built-ins are listed in `catalog`; others add an entry point in the group
``gifthorse.<kind>s`` and carry their package in their name (``acme/mean-gradient``).
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from .catalog import BUILTIN
from .errors import InputError, UnknownName
from .spec import Spec
from .types import Need

KINDS = tuple(BUILTIN)


def names(kind: str) -> dict[str, str]:
    """Every component of a kind: name -> ``"module:object"``, built-ins first.

    Raises:
        UnknownName: no such kind.
        InputError: an outside component takes a built-in's name or carries no package prefix.
    """
    if kind not in BUILTIN:
        raise UnknownName("kind of component", kind, BUILTIN)
    table = dict(BUILTIN[kind])
    for point in entry_points(group=f"gifthorse.{kind}s"):
        if "/" not in point.name:
            raise InputError(
                f"{kind} {point.name!r} from {point.value}: names of outside components carry their package, "
                f"as in 'acme/{point.name}'; rename the entry point"
            )
        if point.name in table:
            raise InputError(f"two packages offer the {kind} {point.name!r}: {table[point.name]} and {point.value}")
        table[point.name] = point.value
    return table


def load(kind: str, name: str) -> Any:
    """The class behind a name.

    Raises:
        UnknownName: not listed, with a suggestion.
        InputError: it cannot be imported, or an outside tool asks for the answer.
    """
    table = names(kind)
    if name not in table:
        raise UnknownName(kind, name, table)
    module, _, attribute = table[name].partition(":")
    try:
        component = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise InputError(f"{kind} {name!r} ({table[name]}) cannot be imported: {error}") from error
    if kind == "tool" and Need.ANSWER in component.needs and name not in BUILTIN["tool"]:
        raise InputError(f"tool {name!r} asks for the answer, which only built-in sentinels may have")
    return component


def build(kind: str, spec: Spec | str, **params: Any) -> Any:
    """The component with these parameters.

    Args:
        kind: a key of `KINDS`.
        spec: a name, or a name with parameters.
        params: further parameters; they win over the spec's.

    Raises:
        UnknownName: no such component.
        InputError: no such parameter, or a value it refuses.
    """
    spec = Spec(spec) if isinstance(spec, str) else spec
    component = load(kind, spec.name)
    known = [f.name for f in dataclasses.fields(component)]
    given: Mapping[str, Any] = {**spec.params, **params}
    for key in given:
        if key not in known:
            raise UnknownName(f"parameter of {kind} {spec.name!r}", key, known)
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    try:
        return component(**frozen)
    except (TypeError, ValueError) as error:
        raise InputError(f"{kind} {spec.name!r}: {error}") from error


def spec_of(component: Any) -> Spec:
    """The spec of a built component, with every parameter written out."""
    params = {f.name: getattr(component, f.name) for f in dataclasses.fields(component)}
    return Spec(component.name, params, component.version)
