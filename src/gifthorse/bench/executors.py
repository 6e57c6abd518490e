"""Who does the cells: this process, or several single-threaded ones. Cells travel as JSON.

A cell that fails is recorded and the others go on. Whatever a component prints goes to stderr, because stdout
belongs to the command line. Workers end with their parent, however it ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ..device import CPU, Machine
from ..errors import GifthorseError
from .plan import Cell

Progress = Callable[[str, float], None]  # label of the cell, share done in [0, 1]
PATIENCE = 5.0  # seconds that a worker has to tidy up
MALLOPT = {-1: 1 << 30, -2: 64 << 20, -3: 32 << 20}  # glibc: bytes kept when freed, bytes fetched at once, own mapping
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


def work(text: str, home: str, progress: Progress, machine: Machine = CPU) -> tuple[float, str]:
    """Do one cell.

    Args:
        text: the cell as JSON.
        home: the folder of store and keys.
        progress: told the share done while a long cell runs.
        machine: what it is computed with.

    Returns:
        Seconds, and an error in one line or an empty string; a traceback goes to ``HOME/failed``.
    """
    from .stages import do

    cell, start = Cell.from_json(json.loads(text)), time.perf_counter()
    note = Path(home) / "failed" / f"{cell.digest}.json"
    try:
        with contextlib.redirect_stdout(sys.stderr):
            do(cell, Path(home), lambda share: progress(cell.label, share), machine)
        note.unlink(missing_ok=True)
        return time.perf_counter() - start, ""
    except (Exception, SystemExit) as error:  # a component that calls sys.exit fails like any other
        first = next(iter(str(error).splitlines()), "") or "no message"
        line = first if isinstance(error, GifthorseError) else f"{type(error).__name__}: {first} (see {note})"
        _write_note(note, cell, line)
        return time.perf_counter() - start, line


def _write_note(note: Path, cell: Cell, line: str) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"cell": cell.label, "error": line, "traceback": traceback.format_exc()}, indent=1))
    except OSError:  # the disk that failed the cell is full: the status line still says why
        return


def prepare_process() -> None:
    """Make this process quick at cells: it computes in one thread and keeps the memory that it frees.

    Every step needs tensors as large as the last one's; fetched from the kernel anew they cost up to a fifth of a step.
    """
    import torch

    torch.set_num_threads(1)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda option, value: None)  # other C libraries have none
        for option, value in MALLOPT.items():
            mallopt(option, value)


@dataclass(frozen=True)
class Serial:
    """One cell after another in this process."""

    machine: Machine = CPU

    def run(self, cells: Sequence[Cell], home: Path, progress: Progress) -> Iterator[CellStatus]:
        """Do every cell in order."""
        for cell in cells:
            seconds, error = work(json.dumps(cell.to_json()), str(home), progress, self.machine)
            yield CellStatus(cell, "failed" if error else "done", seconds, error)


@dataclass(frozen=True)
class Processes:
    """Several spawned processes of one thread each: on two cores faster than one process of two threads.

    Attributes:
        workers: processes, at most.
        machine: as in `work`.
    """

    workers: int = 2
    machine: Machine = CPU

    def run(self, cells: Sequence[Cell], home: Path, progress: Progress) -> Iterator[CellStatus]:
        """Do the cells as workers become free; on Ctrl-C the workers end at once and nothing half is kept."""
        if not cells:
            return
        context = multiprocessing.get_context("spawn")
        channel = context.Queue()
        count = min(self.workers, len(cells))
        pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=(channel,))
        finished = False
        try:
            pending = _submit(pool, cells, home, self.machine)
            while pending:
                ready, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                _drain(channel, progress)
                for future in ready:
                    yield _status(pending.pop(future), future)
            finished = True
        finally:
            if not finished:
                _end(list((pool._processes or {}).values()))
            pool.shutdown(cancel_futures=True)  # waits: the interpreter's exit would meet a pipe that its thread closes
            channel.cancel_join_thread()
            channel.close()


def _submit(
    pool: ProcessPoolExecutor, cells: Sequence[Cell], home: Path, machine: Machine
) -> dict[Future[tuple[float, str]], Cell]:
    """Hand every cell to the pool; the workers that this starts inherit a blocked Ctrl-C."""
    out: dict[Future[tuple[float, str]], Cell] = {}
    with _ctrl_c_held():
        for cell in cells:
            try:
                future = pool.submit(_remote, json.dumps(cell.to_json()), str(home), machine)
            except BrokenProcessPool as error:
                future = Future()
                future.set_exception(error)
            out[future] = cell
    return out


@contextlib.contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Ctrl-C waits until the block is left, where the system can do that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(workers: Sequence[multiprocessing.process.BaseProcess]) -> None:
    """End the workers: they are asked, so that they tidy up, and then made to."""
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + PATIENCE
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.is_alive():
            worker.kill()
            worker.join()


def _status(cell: Cell, future: Future[tuple[float, str]]) -> CellStatus:
    try:
        seconds, error = future.result()
    except BrokenProcessPool:
        return CellStatus(
            cell,
            "failed",
            0.0,
            "a worker process was killed (out of memory?); use fewer --workers or a smaller --max-batch",
        )
    return CellStatus(cell, "failed" if error else "done", seconds, error)


def _drain(channel: Any, progress: Progress) -> None:
    while True:
        try:
            progress(*channel.get_nowait())
        except queue.Empty:
            return


class _Ended(BaseException):
    """The parent wants this worker to end; it passes every handler of errors."""


def _start(channel: Any) -> None:
    """Prepare a worker: quick at cells, Ctrl-C left to the parent, no life after it."""
    global _channel
    _channel = channel
    channel.cancel_join_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    os.dup2(2, 1)  # stdout belongs to the parent: its --json must stay clean
    prepare_process()


def _raise_ended(signum: int, frame: Any) -> None:
    raise _Ended


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _remote(text: str, home: str, machine: Machine) -> tuple[float, str]:
    signal.signal(signal.SIGTERM, _raise_ended)  # between cells there is nothing to tidy
    try:
        return work(text, home, lambda label, share: _channel.put((label, share)), machine)
    except _Ended:
        os._exit(1)  # what was half written is tidied away by now
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
