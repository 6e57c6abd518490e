"""The options that choose and change a suite, shared by every verb that runs one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

SuiteName = Annotated[
    str | None,
    typer.Argument(
        metavar="[SUITE]", help="A built-in suite or a TOML file; by default 'emoji', or 'photos' with --images."
    ),
]
Quick = Annotated[bool, typer.Option("--quick", help="A first taste: fewer trojans and pictures, looser gates.")]
Seeds = Annotated[list[int] | None, typer.Option("--seed", help="Model seed; may be repeated.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "-o", "--set", metavar="KEY=VALUE", help="Change the suite, as in -o tools.feature-vis.steps=8; repeatable."
    ),
]
Images = Annotated[Path | None, typer.Option("--images", help="Folder of pictures: one sub-folder per class.")]
Model = Annotated[str | None, typer.Option("--model", help="Network; see `gifthorse list model`.")]
Size = Annotated[int | None, typer.Option("--size", min=16, help="Side of the pictures in pixels.")]
Random = Annotated[
    str | None,
    typer.Option("--random", metavar="patch=2,natural=2", help="Random trojans instead of the suite's."),
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes of one thread each.")]
MaxBatch = Annotated[
    int | None,
    typer.Option(
        "--max-batch", min=1, help="Most pictures a map tool passes at once; halved by itself when memory runs out."
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="Where networks are trained and looked at, as in cuda or cuda:1.")
]
Force = Annotated[bool, typer.Option("--force", help="Go on with models that miss their gates.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the report.")]
Beside = Annotated[
    Path | None,
    typer.Option("--beside", metavar="REPORT", help="Another report; its box plots of maps are drawn beside."),
]


def choose(
    suite: SuiteName = None,
    quick: Quick = False,
    seed: Seeds = None,
    sets: Sets = None,
    images: Images = None,
    model: Model = None,
    size: Size = None,
    random: Random = None,
) -> Any:
    """The suite that the options name, changed as they say.

    Raises:
        InputError: no such suite, key or value.
    """
    from ..bench.changes import Changes
    from ..bench.suite import load_suite

    name = suite or ("emoji" if images is None else "photos")
    changes = Changes(tuple(sets or ()), images, model, size, random)
    return load_suite(name, quick=quick, seeds=tuple(seed or ()), changes=changes)


def on_suite(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb whose first parameter is a finished suite, with the options of `choose` in its place."""
    own = list(inspect.signature(verb, eval_str=True).parameters.values())[1:]
    given = list(inspect.signature(choose, eval_str=True).parameters.values())

    @functools.wraps(verb)
    def wrapped(**values: Any) -> None:
        verb(choose(**{p.name: values.pop(p.name) for p in given}), **values)

    keyword = inspect.Parameter.KEYWORD_ONLY
    wrapped.__signature__ = inspect.Signature([p.replace(kind=keyword) for p in (*given, *own)])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in (*given, *own)}
    del wrapped.__wrapped__
    return wrapped
