"""Who does the cells: this process, or several single-threaded ones. Cells travel as JSON."""

from __future__ import annotations

import json
import multiprocessing
import queue
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ..errors import GifthorseError
from .plan import Cell

Progress = Callable[[str, float], None]  # label of the cell, share done in [0, 1]
_channel: Any = None  # the progress queue of a worker process


@dataclass(frozen=True)
class CellStatus:
    """What became of a cell; ``error`` is one line, empty when it is done."""

    cell: Cell
    state: Literal["done", "failed"]
    seconds: float = 0.0
    error: str = ""


class Executor(Protocol):
    """Does cells in any order and yields a status for each."""

    def run(self, cells: Sequence[Cell], home: Path, progress: Progress) -> Iterator[CellStatus]:
        """Do every cell; a failed one does not stop the others."""
        ...


def work(text: str, home: str, progress: Progress) -> tuple[float, str]:
    """Do one cell.

    Args:
        text: the cell as JSON.
        home: the folder of store and keys.
        progress: told the share done while a long cell runs.

    Returns:
        Seconds, and an error in one line or an empty string; a traceback goes to ``HOME/failed``.
    """
    from .stages import do

    cell, start = Cell.from_json(json.loads(text)), time.perf_counter()
    note = Path(home) / "failed" / f"{cell.digest}.json"
    try:
        do(cell, Path(home), lambda share: progress(cell.label, share))
        note.unlink(missing_ok=True)
        return time.perf_counter() - start, ""
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else "no message"
        line = first if isinstance(error, GifthorseError) else f"{type(error).__name__}: {first} (see {note})"
        _write_note(note, cell, line)
        return time.perf_counter() - start, line


def _write_note(note: Path, cell: Cell, line: str) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"cell": cell.label, "error": line, "traceback": traceback.format_exc()}, indent=1))
    except OSError:  # the disk that failed the cell is full: the status line still says why
        return


@dataclass(frozen=True)
class Serial:
    """One cell after another in this process."""

    def run(self, cells: Sequence[Cell], home: Path, progress: Progress) -> Iterator[CellStatus]:
        """Do every cell in order."""
        for cell in cells:
            seconds, error = work(json.dumps(cell.to_json()), str(home), progress)
            yield CellStatus(cell, "failed" if error else "done", seconds, error)


@dataclass(frozen=True)
class Processes:
    """Several spawned processes of one thread each: on two cores faster than one process of two threads."""

    workers: int = 2

    def run(self, cells: Sequence[Cell], home: Path, progress: Progress) -> Iterator[CellStatus]:
        """Do the cells as workers become free; on Ctrl-C the workers end at once and nothing half is kept."""
        if not cells:
            return
        context = multiprocessing.get_context("spawn")
        channel = context.Queue()
        count = min(self.workers, len(cells))
        pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=(channel,))
        pending: dict[Future[tuple[float, str]], Cell] = {}
        finished = False
        try:
            pending = {pool.submit(_remote, json.dumps(c.to_json()), str(home)): c for c in cells}
            while pending:
                ready, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                _drain(channel, progress)
                for future in ready:
                    yield _status(pending.pop(future), future)
            finished = True
        finally:
            pool.shutdown(wait=finished, cancel_futures=True)
            if not finished:
                for child in multiprocessing.active_children():
                    child.terminate()
            channel.cancel_join_thread()
            channel.close()


def _status(cell: Cell, future: Future[tuple[float, str]]) -> CellStatus:
    try:
        seconds, error = future.result()
    except BrokenProcessPool:
        return CellStatus(cell, "failed", 0.0, f"{cell.label}: its process died (out of memory?); use fewer workers")
    return CellStatus(cell, "failed" if error else "done", seconds, error)


def _drain(channel: Any, progress: Progress) -> None:
    while True:
        try:
            progress(*channel.get_nowait())
        except queue.Empty:
            return


def _start(channel: Any) -> None:
    """Prepare a worker: one thread, Ctrl-C left to the parent."""
    import torch

    global _channel
    _channel = channel
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _remote(text: str, home: str) -> tuple[float, str]:
    return work(text, home, lambda label, share: _channel.put((label, share)))
