"""Live progress on a terminal, plain lines elsewhere; always on stderr, so that ``--json`` stays clean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..bench.executors import CellStatus
from ..bench.run import Watch


@contextmanager
def watching(quiet: bool = False) -> Iterator[Watch]:
    """A watch that shows what happens, or nothing when ``quiet``."""
    console = Console(stderr=True, highlight=False)
    if quiet:
        yield Watch()
    elif not console.is_terminal:
        yield Watch(
            lambda name, todo, found: console.print(f"{name}: {todo} to do, {found} found"),
            done=lambda s: console.print(_line(s), soft_wrap=True),
        )
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bars:
            yield _bars(bars)


def _bars(bars: Progress) -> Watch:
    state: dict[str, TaskID] = {}
    cells: dict[str, TaskID] = {}

    def stage(name: str, todo: int, found: int) -> None:
        if todo:
            state["now"] = bars.add_task(f"{name} ({found} found)", total=todo)

    def progress(label: str, share: float) -> None:
        if label not in cells:
            cells[label] = bars.add_task(f"  {label}", total=1.0)
        bars.update(cells[label], completed=share)

    def done(status: CellStatus) -> None:
        if status.cell.label in cells:
            bars.remove_task(cells.pop(status.cell.label))
        bars.advance(state["now"])
        bars.console.print(_line(status))

    return Watch(stage, progress, done)


def _line(status: CellStatus) -> str:
    tail = f"FAILED: {status.error}" if status.error else f"{status.seconds:.1f} s"
    return f"  {status.cell.label}: {tail}"
