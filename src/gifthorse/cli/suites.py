"""Verbs on a suite: demo, bench run, plan, status and retry, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ..errors import InputError, ToolError
from ..store import Store, default_home
from .options import Beside, Device, Force, MaxBatch, Out, Workers, on_suite
from .say import EPILOG, AsJson, board, say

bench = typer.Typer(no_args_is_help=True, help="Plan and run suites.", epilog=EPILOG)


def executor(workers: int, max_batch: int | None = None, device: str = "cpu") -> Any:
    """This process for one worker, else several processes.

    Raises:
        InputError: no such device here.
    """
    from ..bench.executors import Processes, Serial, prepare_process
    from ..device import Machine, device_of

    device_of(device)
    machine = Machine(device, max_batch)
    if workers > 1:
        return Processes(workers, machine)
    prepare_process()
    return Serial(machine)


def _show(result: Any, suite: Any, out: Path | None, as_json: bool, beside: Path | None = None) -> None:
    """Write a report and print its board; exit code 3 where cells failed, 4 where the board is invalid."""
    from ..bench.run import folder_of
    from ..report import site
    from ..report.schema import Report, load

    other = load(beside) if beside else None
    report = Report.model_validate(result.report)
    page = site.write(report, result.pictures, out or folder_of(suite, default_home()) / "report", other)
    say(result.report, as_json, [*board(result.report), f"report: {page}"])
    if result.failed:
        raise ToolError(result.failed)
    if not report.valid:
        raise typer.Exit(4)


def _run(suite: Any, executor: Any, force: bool, out: Path | None, as_json: bool) -> None:
    from ..bench.run import run_suite
    from .progress import watching

    with watching(as_json) as watch:
        result = run_suite(suite, default_home(), executor, watch, force=force)
    _show(result, suite, out, as_json)


@on_suite
def demo(
    suite: Any,
    workers: Workers = 2,
    max_batch: MaxBatch = None,
    device: Device = "cpu",
    force: Force = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """The default suite, end to end: plant, look, judge, report."""
    _run(suite, executor(workers, max_batch, device), force, out, as_json)


bench.command("run", help="Do what is missing of a suite and write its report.")(demo)


@bench.command("retry")
@on_suite
def retry(
    suite: Any,
    workers: Workers = 2,
    max_batch: MaxBatch = None,
    device: Device = "cpu",
    force: Force = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Do again the cells that failed, and no others."""
    from ..bench.run import retry_suite
    from .progress import watching

    with watching(as_json) as watch:
        result, again = retry_suite(suite, default_home(), executor(workers, max_batch, device), watch, force=force)
    if result is not None:
        _show(result, suite, out, as_json)
        return
    line = f"{again} failed cells done again; others are missing, `gifthorse bench run` does them"
    say({"retried": again, "finished": False}, as_json, [line if again else line.replace("done again", "found")])


@bench.command("plan")
@on_suite
def plan(suite: Any, as_json: AsJson = False) -> None:
    """Expand a suite to cells and write plan.json, without computing anything."""
    from ..bench.plan import make_plan
    from ..bench.run import write_plan

    cells = make_plan(suite)
    path = write_plan(cells, default_home())
    rows = [f"{cell.digest[:12]}  {cell.stage:<9} {cell.label}" for cell in cells.cells()]
    say(cells.to_json(), as_json, [*rows, f"plan: {path}"])


@bench.command("status")
@on_suite
def status(suite: Any, as_json: AsJson = False) -> None:
    """Which cells of a suite are done, failed or missing; exit code 3 where some failed."""
    from ..bench.plan import make_plan
    from ..bench.run import status_of

    rows = status_of(make_plan(suite), default_home())
    table = [{"digest": c.digest, "label": c.label, "state": s, "error": why} for c, s, why in rows]
    say(table, as_json, [f"{s:<8} {c.label}  {why}".rstrip() for c, s, why in rows])
    if any(s == "failed" for _, s, _ in rows):
        raise typer.Exit(3)


@on_suite
def report(suite: Any, out: Out = None, beside: Beside = None, as_json: AsJson = False) -> None:
    """Write the report of a finished suite again."""
    from ..bench.board import assemble
    from ..bench.plan import make_plan
    from ..bench.run import counts

    cells, home = make_plan(suite), default_home()
    found = counts(cells, home)
    if found["missing"] + found["failed"]:
        raise InputError(
            f"suite {suite.suite!r} is not finished ({found}); run `gifthorse bench run` with the same options first"
        )
    _show(assemble(cells, Store(home)), suite, out, as_json, beside)
