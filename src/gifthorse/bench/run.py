"""The loop: which cells are missing, do them stage by stage, refuse models below their gates, assemble."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import GateError, StoreError, ToolError
from ..store import Store
from .board import Result, assemble, missed_gates
from .executors import CellStatus, Executor, Progress, Serial
from .plan import STAGES, Cell, Plan, make_plan
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
        The report and its pictures.

    Raises:
        GateError: a planted model misses its gates.
        ToolError: some cells failed; what was finished is kept, the same command goes on.
    """
    plan, store = make_plan(suite), Store(home)
    executor, watch = executor or Serial(), watch or Watch()
    write_plan(plan, home)
    for stage in STAGES:
        cells = {c.digest: c for c in plan.cells(stage)}
        todo = [c for c in cells.values() if not is_done(c, store)]
        for cell in todo:
            _drop_half(cell, store)
        watch.stage(stage, len(todo), len(cells) - len(todo))
        failed: list[CellStatus] = []
        for status in executor.run(todo, home, watch.progress):
            watch.done(status)
            failed += [status] if status.state == "failed" else []
        if failed:
            more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            raise ToolError(
                f"{failed[0].cell.label}{more} failed: {failed[0].error}; the same command goes on from here"
            )
        if stage == "exhibits" and not force:
            _refuse(plan, store)
    return assemble(plan, store)


def status_of(plan: Plan, home: Path) -> list[tuple[Cell, Literal["done", "failed", "missing"], str]]:
    """Every cell of a plan with its state and, where it failed, why."""
    store, out = Store(home), []
    for cell in plan.cells():
        note = home / "failed" / f"{cell.digest}.json"
        state: Literal["done", "failed", "missing"] = "done" if is_done(cell, store) else "missing"
        why = ""
        if state == "missing" and note.is_file():
            try:
                state, why = "failed", str(json.loads(note.read_text())["error"])
            except (OSError, ValueError, KeyError):
                why = f"unreadable note {note}"
        out.append((cell, state, why))
    return out


def counts(plan: Plan, home: Path) -> dict[str, int]:
    """How many cells are done, failed and missing."""
    found = Counter(state for _, state, _ in status_of(plan, home))
    return {state: found.get(state, 0) for state in ("done", "failed", "missing")}


def folder_of(suite: Suite, home: Path) -> Path:
    """Where a suite's plan and report are written."""
    return home / "runs" / suite.suite


def write_plan(plan: Plan, home: Path) -> Path:
    """Write ``plan.json`` for review.

    Raises:
        StoreError: the folder cannot be written.
    """
    path = folder_of(plan.suite, home) / "plan.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(plan.to_json(), indent=1) + "\n")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror}); free space or set GIFTHORSE_HOME") from error
    return path


def _drop_half(cell: Cell, store: Store) -> None:
    """A result whose half of the key is gone cannot be scored: make it anew."""
    path = store.get(cell.kind, cell.digest)
    if path is not None:
        from ..store import Entry

        store.remove(Entry(cell.kind, cell.digest, path, 0))


def _refuse(plan: Plan, store: Store) -> None:
    reasons = [f"seed {line.seed}: {r}" for line in plan.lineages for r in missed_gates(store, line, plan.suite.gates)]
    if reasons:
        raise GateError(
            f"{len(reasons)} gates missed, no board is shown: {'; '.join(reasons)}. "
            "Try another --seed, or --force to see the (invalid) board"
        )
