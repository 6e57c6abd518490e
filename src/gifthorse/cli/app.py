"""The command line: which verb lives where, and the verbs that look at components."""

from __future__ import annotations

import typer

from ..errors import StoreError, UnknownName
from ..store import default_home
from . import models, suites
from .audit import audit
from .say import EPILOG, AsJson, say
from .stores import store
from .suites import bench
from .survey import app as survey
from .validate import validate_judge

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Plant trojans in vision networks, let interpretability tools look, and measure what they show.",
    epilog=EPILOG,
)


for verb in (suites.demo, models.plant, models.verify, models.probe, audit, models.card, suites.report):
    app.command(verb.__name__, epilog=EPILOG)(verb)
app.add_typer(bench, name="bench")
app.add_typer(store, name="store")
app.add_typer(survey, name="survey")
app.command("validate-judge", epilog=EPILOG)(validate_judge)


@app.command("list")
def list_(kind: str, as_json: AsJson = False) -> None:
    """Components of a kind: dataset, model, trigger, tool, judge; or suite."""
    from .. import registry
    from ..bench.suite import builtin_suites

    table = {k: str(v) for k, v in builtin_suites().items()} if kind == "suite" else registry.names(kind)
    say(table, as_json, [f"{name:<24}{where}" for name, where in table.items()])
    for why in () if kind == "suite" else registry.refused(kind).values():
        typer.echo(f"gifthorse: left out: {why}", err=True)


@app.command()
def show(name: str, as_json: AsJson = False) -> None:
    """A component's description and parameters."""
    from .. import registry

    for kind in registry.KINDS:
        if name in registry.names(kind):
            cls = registry.load(kind, name)
            data = {"kind": kind, **registry.spec_of(cls()).to_json(), "about": cls.__doc__ or ""}
            say(data, as_json, [f"{kind} {name} (version {cls.version})", data["about"], f"{data['params']}"])
            return
    raise UnknownName("component", name, [n for k in registry.KINDS for n in registry.names(k)])


@app.command()
def check(name: str, as_json: AsJson = False) -> None:
    """Whether a tool keeps the rules that every tool keeps; exit code 3 where it does not."""
    from .. import registry
    from ..testing.conformance import check_tool

    wrong = check_tool(registry.build("tool", name))
    say({"tool": name, "wrong": wrong}, as_json, wrong or [f"{name}: every rule kept"])
    if wrong:
        raise typer.Exit(3)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Versions, drawings, weights and the store: is everything in place?"""
    from ..bench.board import versions
    from ..data import openmoji

    home = default_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{home}: cannot be made ({error.strerror}); set GIFTHORSE_HOME") from error
    data = {"home": str(home), "drawings": len(openmoji.drawings()), **versions()}
    say(data, as_json, [f"{k:<12} {v}" for k, v in data.items()])
