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
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from .catalog import BUILTIN
from .errors import InputError, UnknownName
from .spec import Spec, canonical
from .types import Need

KINDS = tuple(BUILTIN)


def names(kind: str) -> dict[str, str]:
    """Every component of a kind: name -> ``"module:object"``, built-ins first; refused ones are left out.

    Raises:
        UnknownName: no such kind.
    """
    return BUILTIN[_known(kind)] | _outside(kind)[0]


def refused(kind: str) -> dict[str, str]:
    """Outside components that cannot be told apart from others: name -> why, in one line.

    Raises:
        UnknownName: no such kind.
    """
    return _outside(_known(kind))[1]


def _known(kind: str) -> str:
    if kind not in BUILTIN:
        raise UnknownName("kind of component", kind, BUILTIN)
    return kind


def _outside(kind: str) -> tuple[dict[str, str], dict[str, str]]:
    """What other packages offer: name -> ``"module:object"``, and what is wrong with the rest."""
    found: dict[str, str] = {}
    wrong: dict[str, str] = {}
    for point in entry_points(group=f"gifthorse.{kind}s"):
        if "/" not in point.name:
            taken = f" ({point.name!r} is built in)" if point.name in BUILTIN[kind] else ""
            wrong[point.name] = (
                f"{kind} {point.name!r} from {point.value}: names of outside components carry their package, "
                f"as in 'acme/{point.name}'{taken}; rename the entry point"
            )
        elif point.name in found:
            wrong[point.name] = (
                f"two packages offer the {kind} {point.name!r}: {found[point.name]} and {point.value}; uninstall one"
            )
        else:
            found[point.name] = point.value
    return {name: where for name, where in found.items() if name not in wrong}, wrong


def load(kind: str, name: str) -> Any:
    """The class behind a name.

    Raises:
        UnknownName: not listed, with a suggestion.
        InputError: its name is refused, it cannot be imported, it lacks what its kind needs, or an outside
            tool asks for the answer.
    """
    table = names(kind)
    if name not in table:
        raise InputError(wrong[name]) if name in (wrong := refused(kind)) else UnknownName(kind, name, table)
    module, _, attribute = table[name].partition(":")
    try:
        component = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(
            f"{kind} {name!r} ({table[name]}) cannot be imported: {why}; mend or uninstall its package"
        ) from error
    if name not in BUILTIN[kind]:
        _check(kind, name, table[name], component)
    return component


def _check(kind: str, name: str, where: str, component: Any) -> None:
    """Refuse an outside class that cannot be built and recorded, or a tool that asks for the answer."""
    wanted = ("name", "version", *(("family", "needs", "emits", "run") if kind == "tool" else ()))
    missing = [a for a in wanted if not hasattr(component, a)]
    if missing or not hasattr(component, "__dataclass_fields__"):
        why = f"lacks {', '.join(missing)}" if missing else "is no dataclass"
        raise InputError(f"{kind} {name!r} ({where}) {why}; its author finds the rules in gifthorse.testing")
    if component.name != name:
        raise InputError(f"{kind} {name!r} ({where}) calls itself {component.name!r}; give both the same name")
    if kind == "tool" and Need.ANSWER in component.needs:
        raise InputError(f"tool {name!r} asks for the answer, which only built-in sentinels may have")


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
    return construct(
        component, {**spec.params, **params}, f"parameter of {kind} {spec.name!r}", f"{kind} {spec.name!r}"
    )


def construct(cls: type[Any], values: Mapping[str, Any], key: str, where: str) -> Any:
    """A dataclass from values that a user wrote; lists become tuples.

    Args:
        cls: the dataclass.
        values: field -> value.
        key: what a field is called in messages.
        where: what the whole is called in messages.

    Raises:
        UnknownName: no such field.
        InputError: a value of the wrong type, or one that the dataclass refuses.
    """
    known = [f.name for f in dataclasses.fields(cls)]
    for name in values:
        if name not in known:
            raise UnknownName(key, name, known)
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        hints = get_type_hints(cls)
        for name, value in frozen.items():
            _check_type(name, value, hints[name])
        return cls(**frozen)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: {error}") from error


def _check_type(name: str, value: Any, hint: Any) -> None:
    """Refuse plain values, as TOML has them, that do not fit a field; richer ones are the class's own affair."""
    if not isinstance(value, str | int | float | tuple):
        return
    try:
        TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value, strict=True)
        canonical(value)
    except ValidationError as error:
        raise TypeError(f"{name} is {value!r}: {error.errors()[0]['msg']}") from error
    except ValueError as error:
        raise ValueError(f"{name} is {value!r}, but must be finite") from error


def spec_of(component: Any) -> Spec:
    """The spec of a built component, with every parameter written out."""
    params = {f.name: getattr(component, f.name) for f in dataclasses.fields(component)}
    return Spec(component.name, params, component.version)
