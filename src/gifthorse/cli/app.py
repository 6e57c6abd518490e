"""The verbs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError, StoreError
from ..store import Store, default_home

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help="Look it in the mouth."
)
bench = typer.Typer(no_args_is_help=True, help="Plan and run suites.")
store_app = typer.Typer(no_args_is_help=True, help="Look after the store.")
app.add_typer(bench, name="bench")
app.add_typer(store_app, name="store")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quick = Annotated[bool, typer.Option("--quick", help="A first taste: fewer trojans and pictures, looser gates.")]
Seeds = Annotated[list[int] | None, typer.Option("--seed", help="Model seed; may be repeated.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes of one thread each.")]
Force = Annotated[bool, typer.Option("--force", help="Show models that miss their gates; the board is invalid.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the report.")]


def _say(text: str) -> None:
    typer.echo(text)


def _print(value: Any, as_json: bool, lines: list[str]) -> None:
    _say(json.dumps(value, indent=1) if as_json else "\n".join(lines))


def _suite(name: str, quick: bool, seeds: list[int] | None) -> Any:
    from ..bench.suite import load_suite

    return load_suite(name, quick=quick, seeds=tuple(seeds or ()))


def _go(
    name: str, quick: bool, seeds: list[int] | None, workers: int, force: bool, out: Path | None, as_json: bool
) -> None:
    """Run a suite, write its report, print its board; exit code 4 where the board is invalid."""
    from ..bench.executors import Processes, Serial
    from ..bench.run import folder_of, run_suite
    from ..report import site
    from ..report.schema import Report
    from .progress import watching

    suite, home = _suite(name, quick, seeds), default_home()
    with watching(as_json) as watch:
        result = run_suite(suite, home, Serial() if workers == 1 else Processes(workers), watch, force=force)
    report = Report.model_validate(result.report)
    page = site.write(report, result.pictures, out or folder_of(suite, home) / "report")
    _print(result.report, as_json, [*_board(result.report), f"report: {page}"])
    if not report.valid:
        raise typer.Exit(4)


def _board(report: dict[str, Any]) -> list[str]:
    lines = [f"{'tool':<22}{'accuracy':>9}  {'95 %':<14}{'twin':>6}  trojans"]
    for row in sorted((r for r in report["board"] if r["type"] == "all"), key=lambda r: -r["accuracy"]):
        twin = "" if row["twin_accuracy"] is None else f"{row['twin_accuracy']:.2f}"
        span = f"{row['low']:.2f} to {row['high']:.2f}"
        lines.append(f"{row['tool']:<22}{row['accuracy']:>9.2f}  {span:<14}{twin:>6}  {row['n']}")
    for row in (r for r in report["attribution"] if r["type"] == "all" and r["metric"] == "pearson"):
        lines.append(f"{row['tool']:<22}{row['mean']:>9.2f}  correlation with the footprint over {row['n']} trojans")
    state = "valid" if report["valid"] else "INVALID: " + "; ".join(report["reasons"])
    return [*lines, f"chance {report['chance']:.3f}; board {state}"]


@app.command()
def demo(
    quick: Quick = False, seed: Seeds = None, workers: Workers = 2, force: Force = False, out: Out = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """The default suite, end to end: plant, look, judge, report."""
    _go("emoji", quick, seed, workers, force, out, as_json)


@bench.command("run")
def bench_run(
    suite: str, quick: Quick = False, seed: Seeds = None, workers: Workers = 2, force: Force = False, out: Out = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Do what is missing of a suite (a built-in name or a TOML file) and write its report."""
    _go(suite, quick, seed, workers, force, out, as_json)


@bench.command("plan")
def bench_plan(suite: str, quick: Quick = False, seed: Seeds = None, as_json: AsJson = False) -> None:
    """Expand a suite to cells and write plan.json, without computing anything."""
    from ..bench.plan import make_plan
    from ..bench.run import write_plan

    plan = make_plan(_suite(suite, quick, seed))
    path = write_plan(plan, default_home())
    rows = [f"{cell.digest[:12]}  {cell.stage:<9} {cell.label}" for cell in plan.cells()]
    _print(plan.to_json(), as_json, [*rows, f"plan: {path}"])


@bench.command("status")
def bench_status(suite: str, quick: Quick = False, seed: Seeds = None, as_json: AsJson = False) -> None:
    """Which cells of a suite are done, failed or missing; exit code 3 where some failed."""
    from ..bench.plan import make_plan
    from ..bench.run import status_of

    rows = status_of(make_plan(_suite(suite, quick, seed)), default_home())
    table = [{"digest": c.digest, "label": c.label, "state": s, "error": why} for c, s, why in rows]
    _print(table, as_json, [f"{s:<8} {c.label}  {why}".rstrip() for c, s, why in rows])
    if any(s == "failed" for _, s, _ in rows):
        raise typer.Exit(3)


@app.command()
def report(suite: str, quick: Quick = False, seed: Seeds = None, out: Out = None, as_json: AsJson = False) -> None:
    """Write the report of a finished suite again."""
    from ..bench.board import assemble
    from ..bench.plan import make_plan
    from ..bench.run import counts, folder_of
    from ..report import site
    from ..report.schema import Report

    plan, home = make_plan(_suite(suite, quick, seed)), default_home()
    found = counts(plan, home)
    if found["missing"] + found["failed"]:
        raise InputError(f"suite {suite!r} is not finished ({found}); run `gifthorse bench run {suite}` first")
    result = assemble(plan, Store(home))
    parsed = Report.model_validate(result.report)
    page = site.write(parsed, result.pictures, out or folder_of(plan.suite, home) / "report")
    _print(result.report, as_json, [*_board(result.report), f"report: {page}"])
    if not parsed.valid:
        raise typer.Exit(4)


@app.command()
def card(model: str, as_json: AsJson = False) -> None:
    """The public card of a model: a folder, or the beginning of its digest."""
    from ..models.checkpoint import read_card

    folder = Path(model)
    if not folder.is_dir():
        found = [e for e in Store(default_home()).ls() if e.kind == "model" and e.digest.startswith(model)]
        if len(found) != 1:
            raise InputError(f"{len(found)} models match {model!r}; see `gifthorse store ls`")
        folder = found[0].path
    data = read_card(folder)
    _print(data, as_json, [f"{k}: {v}" for k, v in data.items()])


@app.command("list")
def list_(kind: str, as_json: AsJson = False) -> None:
    """Components of a kind: dataset, model, trigger, tool, judge; or suite."""
    from .. import registry
    from ..bench.suite import builtin_suites

    table = {k: str(v) for k, v in builtin_suites().items()} if kind == "suite" else registry.names(kind)
    _print(table, as_json, [f"{name:<24}{where}" for name, where in table.items()])


@app.command()
def show(name: str, as_json: AsJson = False) -> None:
    """A component's description and parameters."""
    from .. import registry
    from ..errors import UnknownName

    for kind in registry.KINDS:
        if name in registry.names(kind):
            cls = registry.load(kind, name)
            data = {"kind": kind, **registry.spec_of(cls()).to_json(), "about": cls.__doc__ or ""}
            _print(data, as_json, [f"{kind} {name} (version {cls.version})", data["about"], f"{data['params']}"])
            return
    raise UnknownName("component", name, [n for k in registry.KINDS for n in registry.names(k)])


@app.command()
def check(name: str, as_json: AsJson = False) -> None:
    """Whether a tool keeps the rules that every tool keeps; exit code 3 where it does not."""
    from .. import registry
    from ..testing.conformance import check_tool

    wrong = check_tool(registry.build("tool", name))
    _print({"tool": name, "wrong": wrong}, as_json, wrong or [f"{name}: every rule kept"])
    if wrong:
        raise typer.Exit(3)


@store_app.command("ls")
def store_ls(as_json: AsJson = False) -> None:
    """Every finished folder."""
    rows = list(Store(default_home()).ls())
    data = [{"kind": e.kind, "digest": e.digest, "bytes": e.bytes} for e in rows]
    _print(data, as_json, [f"{e.kind:<9} {e.digest[:12]} {e.bytes / 1e6:9.2f} MB" for e in rows])


@store_app.command("verify")
def store_verify(as_json: AsJson = False) -> None:
    """Check every file against its checksum; exit code 3 where one differs."""
    store = Store(default_home())
    problems = [p for entry in store.ls() for p in store.verify(entry)]
    _print(problems, as_json, problems or ["every file is as it was written"])
    if problems:
        raise typer.Exit(3)


@store_app.command("gc")
def store_gc(keep: list[str], dry: bool = False, as_json: AsJson = False) -> None:
    """Delete what none of the suites named (name, name:quick or file) needs."""
    from ..bench.plan import make_plan

    wanted: set[str] = set()
    for name in keep:
        base, _, how = name.partition(":")
        wanted |= make_plan(_suite(base, how == "quick", None)).digests()
    gone = Store(default_home()).gc(wanted, dry)
    _print([e.digest for e in gone], as_json, [f"{'would delete' if dry else 'deleted'} {len(gone)} folders"])


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
    _print(data, as_json, [f"{k:<12} {v}" for k, v in data.items()])
