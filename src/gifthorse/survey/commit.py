"""Group commit: what many threads want to write at once goes to disk in one transaction."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

T = TypeVar("T")


class _Job:
    """One thread's work; ``done`` only after the commit that holds it, or its error."""

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work, self.done = work, False
        self.result: Any = None
        self.error: BaseException | None = None


class GroupCommit:
    """Writers in turn, for a database that lets them starve each other (SQLite).

    The thread whose turn it is commits the work of all that wait, so that one wait for the disk serves them all.
    Work must leave nothing behind but what it writes: it is done again, alone, when another's work fails.

    Args:
        begin: opens a transaction that commits at its end.
    """

    def __init__(self, begin: Callable[[], AbstractContextManager[Connection]]) -> None:
        self.turn = threading.Lock()
        self._begin = begin
        self._waiting: deque[_Job] = deque()

    def __call__(self, work: Callable[[Connection], T]) -> T:
        """The result of ``work``, which is durable when this returns."""
        job = _Job(work)
        self._waiting.append(job)
        with self.turn:
            if not job.done:
                self._commit([self._waiting.popleft() for _ in range(len(self._waiting))])
        if job.error:
            raise job.error
        return job.result  # type: ignore[no-any-return]

    def _commit(self, jobs: list[_Job]) -> None:
        try:
            with self._begin() as c:
                for job in jobs:
                    job.result = job.work(c)
        except BaseException as error:
            if len(jobs) > 1 and isinstance(error, Exception) and not isinstance(error, OperationalError):
                for job in jobs:  # one of them is at fault, and the others shall not pay for it
                    self._commit([job])
                return
            for job in jobs:  # disk full, locked for too long: no better one by one
                job.error = error
        for job in jobs:
            job.done = True
