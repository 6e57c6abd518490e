"""The loop: which cells are missing, do them stage by stage, refuse models below their gates, assemble."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..errors import GateError, StoreError, ToolError
from ..store import Entry, Store
from .board import Result, assemble, missed_gates
from .executors import CellStatus, Executor, Progress, Serial
from .plan import STAGES, Cell, Plan, Stage, make_plan
from .stages import is_done
from .suite import Suite


@dataclass(frozen=True)
class Watch:
    """Who is told what happens; every field may be left alone.

    Attributes:
        stage: called before each stage with its name, its cells to do, and its cells found done.
        progress: called with a cell's label and the share done.
        done: called with each finished cell.
    """

    stage: Callable[[str, int, int], None] = lambda name, todo, found: None
    progress: Progress = lambda label, share: None
    done: Callable[[CellStatus], None] = lambda status: None


def run_suite(
    suite: Suite, home: Path, executor: Executor | None = None, watch: Watch | None = None, *, force: bool = False
) -> Result:
    """Do what is missing of a suite and assemble its report.

    Args:
        suite: what to run.
        home: the folder of store and keys.
        executor: who does the cells; in this process by default.
        watch: who is told.
        force: show models that miss their gates (the report is then invalid) instead of refusing them.

    Returns:
        The report and its pictures. A tool of which a cell failed is left out of the report, which is then
        invalid, and ``failed`` says why; the same call goes on from there.

    Raises:
        GateError: a planted model misses its gates.
        ToolError: no model could be planted and audited, or every tool failed; what was finished is kept.
    """
    plan, store = make_plan(suite), Store(home)
    failed = run_stages(plan, home, executor, watch, force=force)
    return _assemble(plan, store, failed) if failed else assemble(plan, store)


def retry_suite(
    suite: Suite, home: Path, executor: Executor | None = None, watch: Watch | None = None, *, force: bool = False
) -> tuple[Result | None, int]:
    """Do again the cells of a suite that failed, and no others.

    Arguments and errors are those of `run_suite`.

    Returns:
        The report, or None while other cells are missing; and how many cells were done again.
    """
    plan, store = make_plan(suite), Store(home)
    again = {cell.digest for cell, state, _ in status_of(plan, home) if state == "failed"}
    for digest in again:
        failure_note(home, digest).unlink(missing_ok=True)
    failed = run_stages(plan, home, executor, watch, force=force, only=again)
    if counts(plan, home)["missing"]:
        if failed:
            raise ToolError(_why(failed.values()))
        return None, len(again)
    return (_assemble(plan, store, failed) if failed else assemble(plan, store)), len(again)


def run_stages(
    plan: Plan,
    home: Path,
    executor: Executor | None = None,
    watch: Watch | None = None,
    *,
    until: Stage = "ask",
    force: bool = False,
    only: Collection[str] | None = None,
) -> dict[str, CellStatus]:
    """Do what is missing of a plan, stage by stage.

    Args:
        plan: what to do.
        home: the folder of store and keys.
        executor: who does the cells; in this process by default.
        watch: who is told.
        until: the last stage; ``"exhibits"`` plants and audits the models and lets no tool look.
        force: go on with models that miss their gates.
        only: digests of the cells that may be done, or None for all.

    Returns:
        The tools' cells that failed, by digest.

    Raises:
        GateError: a planted model misses its gates.
        ToolError: no model could be planted and audited.
    """
    store, executor, watch = Store(home), executor or Serial(), watch or Watch()
    write_plan(plan, home)
    failed: dict[str, CellStatus] = {}
    for stage in STAGES[: STAGES.index(until) + 1]:
        for status in _do(stage, plan, store, executor, watch, failed.keys(), only):
            watch.done(status)
            if status.state == "failed":
                failed[status.cell.digest] = status
        if stage == "exhibits" and failed:
            raise ToolError(_why(failed.values()))
        if stage == "exhibits" and not force and all(is_done(c, store) for c in plan.cells(stage)):
            _refuse(plan, store)
    return failed


def _do(
    stage: Stage,
    plan: Plan,
    store: Store,
    executor: Executor,
    watch: Watch,
    failed: Collection[str],
    only: Collection[str] | None,
) -> Iterator[CellStatus]:
    """Do what is missing of a stage, but for cells that would read a failed one."""
    cells = {c.digest: c for c in plan.cells(stage) if not set(c.inputs.values()) & set(failed)}
    cells = cells if only is None else {d: c for d, c in cells.items() if d in only}
    todo = [c for c in cells.values() if not is_done(c, store)]
    for cell in todo:
        _drop_half(cell, store)
    if cells:
        watch.stage(stage, len(todo), len(cells) - len(todo))
    yield from executor.run(todo, store.home, watch.progress)


def _why(failed: Iterable[CellStatus]) -> str:
    first, *others = failed
    more = f" and {len(others)} more" if others else ""
    return f"{first.cell.label}{more} failed: {first.error}; the same command goes on from here"


def _assemble(plan: Plan, store: Store, failed: Mapping[str, CellStatus]) -> Result:
    """The invalid report of the tools that did not fail."""
    why: dict[str, str] = {}
    for line in plan.lineages:
        for (title, _), cell in (*line.runs.items(), *line.asks.items()):
            if cell.digest in failed:
                why.setdefault(title, failed[cell.digest].error)
            elif broken := [failed[d] for d in cell.inputs.values() if d in failed]:
                why.setdefault(title, f"needs {broken[0].cell.label}: {broken[0].error}")
    left = replace(plan, columns=tuple(c for c in plan.columns if c.title not in why))
    if not left.columns:
        raise ToolError(_why(failed.values()))
    lines = (replace(x, runs=_without(x.runs, why), asks=_without(x.asks, why)) for x in plan.lineages)
    result = assemble(replace(left, lineages=tuple(lines)), store)
    reasons = [*(f"{title} failed: {error}" for title, error in why.items()), *result.report["reasons"]]
    return Result({**result.report, "valid": False, "reasons": reasons}, result.pictures, _why(failed.values()))


def _without(cells: Mapping[tuple[str, str], Cell], titles: Collection[str]) -> dict[tuple[str, str], Cell]:
    return {key: cell for key, cell in cells.items() if key[0] not in titles}


def status_of(plan: Plan, home: Path) -> list[tuple[Cell, Literal["done", "failed", "missing"], str]]:
    """Every cell of a plan with its state and, where it failed, why."""
    store, out = Store(home), []
    for cell in plan.cells():
        note = failure_note(home, cell.digest)
        state: Literal["done", "failed", "missing"] = "done" if is_done(cell, store) else "missing"
        why = ""
        if state == "missing" and note.is_file():
            try:
                state, why = "failed", str(json.loads(note.read_text())["error"])
            except (OSError, ValueError, KeyError):
                why = f"unreadable note {note}"
        out.append((cell, state, why))
    return out


def failure_note(home: Path, digest: str) -> Path:
    """Where it is written why a cell failed."""
    return home / "failed" / f"{digest}.json"


def counts(plan: Plan, home: Path) -> dict[str, int]:
    """How many cells are done, failed and missing."""
    found = Counter(state for _, state, _ in status_of(plan, home))
    return {state: found.get(state, 0) for state in ("done", "failed", "missing")}


def folder_of(suite: Suite, home: Path) -> Path:
    """Where a suite's plan and report are written."""
    return home / "runs" / suite.suite


def planted_note(home: Path, model: str) -> Path:
    """Where it is written which cell audits a model (without its trojans)."""
    return home / "planted" / f"{model}.json"


def write_plan(plan: Plan, home: Path) -> Path:
    """Write ``plan.json`` for review, and for each model a note of the cell that audits it.

    Raises:
        StoreError: the folder cannot be written.
    """
    path, public = folder_of(plan.suite, home) / "plan.json", plan.to_json()
    texts = {path: public}
    for row in public["cells"]:
        if row["stage"] == "exhibits":
            texts |= {planted_note(home, model): row for model in row["inputs"].values()}
    try:
        for file, value in texts.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(value, indent=1) + "\n")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror}); free space or set GIFTHORSE_HOME") from error
    return path


def _drop_half(cell: Cell, store: Store) -> None:
    """A result whose half of the key is gone cannot be scored: make it anew.

    The key is always written first, so a result that another process finishes meanwhile is whole and stays.
    """
    path = store.get(cell.kind, cell.digest)
    if path is not None and not is_done(cell, store):
        store.remove(Entry(cell.kind, cell.digest, path, 0))


def _refuse(plan: Plan, store: Store) -> None:
    reasons = [f"seed {line.seed}: {r}" for line in plan.lineages for r in missed_gates(store, line, plan.suite.gates)]
    if reasons:
        raise GateError(
            f"{len(reasons)} gates missed, the model is refused: {'; '.join(reasons)}. "
            "Try another --seed, or --force to go on with it (its board is invalid)"
        )
