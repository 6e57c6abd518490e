"""Where answers live: SQLite (WAL, synchronous=FULL) or PostgreSQL, by URL.

An answer is committed before its page is acknowledged, is stored once, and is never overwritten.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, create_engine, delete, event, func, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from ..errors import InputError, MissingResource, StoreError
from . import tables as t
from .commit import GroupCommit
from .flow import Page, least, pages
from .secret import token_hash
from .study import Study

BUSY_SECONDS = 30
THREADS = 40  # of the web server; each may hold a connection

T = TypeVar("T")

# statements are made once: making one costs more than running it
_ALL = select(t.people, t.answers.c.place, t.answers.c.question, t.answers.c.choice, t.answers.c.at).select_from(
    t.people.outerjoin(t.answers)
)
_BY_TOKEN = _ALL.where(t.people.c.token == bindparam("key")).order_by(t.answers.c.place)
_BY_NUMBER = _ALL.where(t.people.c.number == bindparam("key")).order_by(t.answers.c.place)
_STATE = (
    select(t.people.c.slot, t.people.c.began, func.count(t.answers.c.place), func.max(t.answers.c.at))
    .select_from(t.people.outerjoin(t.answers))
    .group_by(t.people.c.number)
)
_ANSWER = ("place", "question", "choice", "at")
_ROW = (
    select(t.people.c.number, *(bindparam(n, type_=t.answers.c[n].type).label(n) for n in _ANSWER))
    .where(t.people.c.number == bindparam("of"))
    .with_for_update(read=True, key_share=True)  # nobody is erased in between
)


@dataclass(frozen=True)
class Answered:
    """One stored answer."""

    place: int
    question: str
    choice: str
    at: float


@dataclass(frozen=True)
class Person:
    """One person and all that is stored of them.

    Attributes:
        number: random; the only name that leaves the database.
        slot: row of the Latin square, or arm.
        consent: version of the text agreed to.
        began: seconds since 1970.
        pages: what they see, as shown.
        answers: what is stored, by place.
    """

    number: str
    slot: int
    consent: str
    began: float
    pages: tuple[Page, ...]
    answers: tuple[Answered, ...] = ()

    @property
    def place(self) -> int:
        """Index of the first page without an answer; the number of pages once all are stored."""
        stored = {a.place for a in self.answers}
        return next((i for i in range(len(self.pages)) if i not in stored), len(self.pages))

    @property
    def finished(self) -> bool:
        """Whether every answer is stored."""
        return self.place == len(self.pages)


class Ledger:
    """The database of one study.

    Args:
        url: ``sqlite:///file`` or ``postgresql+pg8000://...``.
        study: the study that it belongs to.

    Raises:
        InputError: a wrong URL, or a database of another study or of a newer gifthorse.
        MissingResource: no driver for the URL.
        StoreError: it cannot be opened or written.
    """

    def __init__(self, url: str, study: Study) -> None:
        self.study = study
        self.lite = url.startswith("sqlite")
        try:
            place = make_url(url)
            if place.drivername == "postgresql":
                place = place.set(drivername="postgresql+pg8000")
            if self.lite:
                if place.database in (None, "", ":memory:"):
                    raise InputError("--db needs a file, as in sqlite:///answers.db: memory does not last")
                Path(str(place.database)).touch(0o600)
            wait = {"timeout": BUSY_SECONDS} if self.lite else {}
            self.engine = create_engine(
                place, pool_size=THREADS, max_overflow=8, hide_parameters=True, connect_args=wait,
                pool_pre_ping=not self.lite,
            )  # fmt: skip
        except (ArgumentError, NoSuchModuleError) as error:
            raise InputError(f"--db: not a database URL ({error}); as in sqlite:///answers.db") from error
        except ImportError as error:
            raise MissingResource(f"--db: {error}; pip install pg8000 for PostgreSQL") from error
        except OSError as error:
            raise StoreError(f"--db: {error.filename}: {error.strerror}; check the folder") from error
        once = (sqlite if self.lite else postgresql).insert
        rows = once(t.answers).from_select(["number", *_ANSWER], _ROW)
        self._put = rows.on_conflict_do_nothing().returning(t.answers.c.place)
        self._own = once(t.study).on_conflict_do_nothing()
        self._group = GroupCommit(self._begin)
        if self.lite:
            event.listen(self.engine, "connect", _pragmas)
            event.listen(self.engine, "begin", _begin)
        self._open()

    def _open(self) -> None:
        try:
            migrate(self.engine)
            with self._begin() as c:
                c.execute(self._own.values(id=self.study.file.id, checksum=self.study.file.checksum))
                rows = c.execute(select(t.study)).all()
        except SQLAlchemyError as error:
            raise StoreError(f"--db: the database cannot be opened ({_why(error)}); check URL and rights") from error
        if [tuple(r) for r in rows] != [(self.study.file.id, self.study.file.checksum)]:
            raise InputError("--db: this database belongs to another study; name a new one, or serve its own folder")

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        with self.engine.connect().execution_options(write=True) as c, c.begin():
            yield c

    def _write(self, work: Callable[[Connection], T]) -> T:
        """The result of ``work``, committed; PostgreSQL groups commits itself."""
        if self.lite:
            return self._group(work)
        with self._begin() as c:
            return work(c)

    def join(self, person: str, token: str, consent: str, now: float) -> str:
        """Take part, or go on: the same person always gets the same place.

        Args:
            person: keyed hash of the panel's id.
            token: the person's link token; only its hash is stored.
            consent: version of the text agreed to.
            now: seconds since 1970.

        Returns:
            The person's number.
        """
        return self._write(lambda c: self._join(c, person, token, consent, now))

    def _join(self, c: Connection, person: str, token: str, consent: str, now: float) -> str:
        c.execute(select(t.study).with_for_update()).all()  # one at a time: balance needs a steady count
        found = c.execute(select(t.people.c.number).where(t.people.c.person == person)).scalar()
        if found:
            return str(found)
        slot, number = self._slot(c, now), secrets.token_hex(5).upper()
        shown = pages(self.study, slot, secrets.randbits(63))
        plan = json.dumps([[p.question, list(p.order)] for p in shown], separators=(",", ":"))
        row = {"number": number, "person": person, "token": token_hash(token), "slot": slot, "consent": consent}
        c.execute(insert(t.people).values(**row, began=now, pages=plan))
        return number

    def _slot(self, c: Connection, now: float) -> int:
        """The arm with the fewest people who have finished or are still at it."""
        since = now - 60 * self.study.settings.stale_minutes
        total = 1 + len(self.study.file.items) + len(self.study.file.checks)
        taken: Counter[int] = Counter()
        for slot, began, stored, at in c.execute(_STATE):
            if stored == total or max(began, at or 0) >= since:
                taken[slot] += 1
        return least(len(self.study.file.arms), taken, range(len(self.study.file.arms)))

    def find(self, token: str) -> Person | None:
        """The person whose link this is."""
        return self._person(_BY_TOKEN, token_hash(token))

    def number(self, number: str) -> Person | None:
        """The person with this number."""
        return self._person(_BY_NUMBER, number.upper())

    def _person(self, query: Any, key: str) -> Person | None:
        with self.engine.connect() as c:
            rows = c.execute(query, {"key": key}).all()
        return next(_people(rows), None)

    def answer(self, person: Person, place: int, choice: str, now: float) -> bool:
        """Store an answer unless there is one; when this returns, it is durable.

        Returns:
            Whether this choice was stored now; not where there was an answer, or the person was erased.
        """
        row = {"place": place, "question": person.pages[place].question, "choice": choice, "at": now}
        return self._write(lambda c: c.execute(self._put, {"of": person.number, **row}).first() is not None)

    def everyone(self) -> list[Person]:
        """Every person with their answers, in order of their random numbers."""
        with self.engine.connect() as c:
            rows = c.execute(_ALL.order_by(t.people.c.number, t.answers.c.place)).all()
        return list(_people(rows))

    def erase(self, where: str, *, hashed: bool = False) -> bool:
        """Delete a person and their answers for good, write-ahead log included.

        Args:
            where: the person's number, or (``hashed``) the keyed hash of the panel's id.
            hashed: which of the two.

        Returns:
            Whether there was such a person.
        """
        column, value = (t.people.c.person, where) if hashed else (t.people.c.number, where.upper())

        def work(c: Connection) -> bool:
            found = c.execute(select(t.people.c.number).where(column == value).with_for_update()).scalar()
            if found is None:
                return False
            c.execute(delete(t.answers).where(t.answers.c.number == found))
            c.execute(delete(t.people).where(t.people.c.number == found))
            return True

        erased = self._write(work)
        if erased and self.lite:  # deleted cells are overwritten (secure_delete); empty the log that still holds them
            with self._group.turn, self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
                c.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        return erased


def migrate(engine: Any) -> None:
    """Bring a database to the present schema.

    Raises:
        InputError: it was made by a newer gifthorse.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    try:
        with engine.connect().execution_options(write=True) as c, c.begin():
            config.attributes["connection"] = c
            command.upgrade(config, "head")
    except CommandError as error:
        raise InputError(f"--db: the database is newer than this gifthorse ({error}); update gifthorse") from error


def _people(rows: Sequence[Any]) -> Iterator[Person]:
    """Joined rows, sorted by person and place."""
    by: dict[str, tuple[Any, list[Answered]]] = {}
    for row in rows:
        stored = by.setdefault(row.number, (row, []))[1]
        if row.place is not None:
            stored.append(Answered(row.place, row.question, row.choice, row.at))
    for row, stored in by.values():
        shown = tuple(Page(q, tuple(order)) for q, order in json.loads(row.pages))
        yield Person(row.number, row.slot, row.consent, row.began, shown, tuple(stored))


def _pragmas(connection: Any, _: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(c: Connection) -> None:
    if c.get_execution_options().get("write"):
        c.exec_driver_sql("BEGIN IMMEDIATE")


def _why(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or type(error).__name__).strip().split("\n")[0]
