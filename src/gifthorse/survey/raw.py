"""Stored answers as plain rows: what was shown and chosen, without the marking."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..errors import MissingResource
from .db import Person
from .study import Study

COLUMNS = tuple(
    ["number", "slot", "consent", "place", "question", "item", "arm", "order", "choice", "position", "at", "seconds"]
)


def raw_rows(study: Study, people: Iterable[Person]) -> Iterator[dict[str, Any]]:
    """One row per stored answer; ``seconds`` since the answer before, ``position`` of the choice from 0."""
    for person in people:
        before = person.began
        for a in person.answers:
            order = person.pages[a.place].order
            item, _, arm = a.question.partition(".")
            yield {
                "number": person.number,
                "slot": person.slot,
                "consent": person.consent,
                "place": a.place,
                "question": a.question,
                "item": item if arm else "",
                "arm": arm,
                "order": " ".join(order),
                "choice": a.choice,
                "position": order.index(a.choice),
                "at": round(a.at, 3),
                "seconds": round(a.at - before, 3),
            }
            before = a.at


def parquet(rows: Sequence[dict[str, Any]], columns: Sequence[str] = COLUMNS) -> bytes:
    """Rows as a Parquet file.

    Raises:
        MissingResource: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet as files
    except ImportError as error:
        raise MissingResource("Parquet needs pyarrow; pip install 'gifthorse[survey]'") from error
    out = io.BytesIO()
    files.write_table(pyarrow.table({c: [r[c] for r in rows] for c in columns}), out)
    return out.getvalue()
