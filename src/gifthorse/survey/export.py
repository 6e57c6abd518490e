"""Stored answers joined with the sealed marking: rows, exclusions by rule, and the board of people."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..errors import InputError
from ..judges import score
from ..rng import generator
from ..types import Answer
from .db import Ledger, Person
from .raw import parquet, raw_rows
from .study import Marking, Study

JUDGE = "people"
PEOPLE = "people.json"
RESAMPLES = 2000


@dataclass(frozen=True)
class Row:
    """One marked answer of one person.

    Attributes:
        number: the person's random number.
        tool: whose evidence was shown.
        trojan: what it was about.
        kind: ``"patch"``, ``"style"`` or ``"natural"``.
        order: names of the options as shown.
        choice: name of the one chosen.
        right: whether it is the trigger.
        place: page, counted from the practice page as 0.
        seconds: since the answer before.
        excluded: why the person is left out of the second board; empty otherwise.
        complete: whether the person answered everything.
    """

    number: str
    tool: str
    trojan: str
    kind: str
    order: tuple[str, ...]
    choice: str
    right: bool
    place: int
    seconds: float
    excluded: str
    complete: bool

    def answer(self) -> Answer:
        """The row as any judge's answer: all weight on the option chosen."""
        name = f"{self.number}.{self.place}"
        return Answer(name, tuple(float(option == self.choice) for option in self.order))


def excluded(study: Study, marking: Marking, person: Person) -> str:
    """Why the study's own rules leave a person out; empty when they do not.

    Never for wrong answers to the trojans: that would select on the outcome.
    """
    rules = study.settings.rules
    rows = list(raw_rows(study, [person]))
    failed = sum(r["choice"] != marking.checks[r["question"]] for r in rows if r["question"] in marking.checks)
    asked = [r for r in rows if r["item"]]
    reasons = []
    if failed >= rules.failed_checks:
        reasons.append(f"failed {failed} attention checks")
    if asked and median(r["seconds"] for r in asked) < rules.median_seconds:
        reasons.append(f"median below {rules.median_seconds:g} s per question")
    if len(asked) >= 5 and max(Counter(r["position"] for r in asked).values()) / len(asked) >= rules.same_place:
        reasons.append("always the same position")
    return "; ".join(reasons)


def marked(study: Study, marking: Marking, people: Sequence[Person]) -> list[Row]:
    """The answers about trojans, marked; practice and checks are left out."""
    out = []
    for person in people:
        why = excluded(study, marking, person)
        for r in raw_rows(study, [person]):
            if r["item"]:
                names = {c.id: c.name for c in study.file.items[r["item"]]}
                item = marking.items[r["item"]]
                order = tuple(names[i] for i in r["order"].split())
                base = (person.number, marking.arms[r["arm"]], item["trojan"], item["kind"], order, names[r["choice"]])
                out.append(Row(*base, r["choice"] == item["right"], r["place"], r["seconds"], why, person.finished))
    return out


def outcomes(rows: Sequence[Row], *, exclude: bool = False) -> list[score.Outcome]:
    """Rows of people who finished, as the board's outcomes under the judge ``"people"``.

    Args:
        rows: marked answers.
        exclude: leave out people whom the rules exclude.
    """
    cells: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.complete and not (exclude and row.excluded):
            cells.setdefault((row.tool, row.kind, row.trojan), []).append(row)
    out = []
    for (tool, kind, trojan), some in sorted(cells.items()):
        answers = [r.answer() for r in some]
        marks = {a.question: r.order.index(r.choice) if r.right else -1 for a, r in zip(answers, some, strict=True)}
        out.append(score.Outcome(tool, JUDGE, kind, trojan, score.credits(answers, marks)))
    return out


def for_board(study: Study, marking: Marking, ledger: Ledger) -> dict[str, Any]:
    """People as the report's judge: outcomes of those who finished and are not excluded by rule.

    Returns:
        ``schema`` (1), ``suite``, ``study``, ``checksum``, ``people`` (who count), ``excluded`` (people by reason) and
        ``outcomes``: rows with ``tool``, ``judge``, ``kind``, ``trojan`` and ``credits`` (one per answer, 1 or 0).

    Raises:
        InputError: nobody is left.
    """
    done = [p for p in ledger.everyone() if p.finished]
    why = {p.number: excluded(study, marking, p) for p in done}
    left = [p for p in done if not why[p.number]]
    if not left:
        raise InputError(f"none of {len(done)} people who finished is left for the board; ask more people")
    return {
        "schema": 1,
        "suite": study.file.suite,
        "study": study.file.id,
        "checksum": study.file.checksum,
        "people": len(left),
        "excluded": Counter(filter(None, why.values())),
        "outcomes": [
            {"tool": o.tool, "judge": o.judge, "kind": o.kind, "trojan": o.trojan, "credits": o.credits}
            for o in outcomes(marked(study, marking, left))
        ],
    }


def write_board(body: dict[str, Any], home: Path) -> Path:
    """Put `for_board`'s body beside the run, where `gifthorse report` finds it, in one step.

    Args:
        body: what `for_board` returned.
        home: the folder of store and runs.

    Raises:
        InputError: no such run, or its folder cannot be written.
    """
    run = home / "runs" / str(body["suite"])
    if not run.is_dir():
        raise InputError(f"{run}: no run of suite {body['suite']!r} here; set GIFTHORSE_HOME to where it was run")
    temp = run / f".{PEOPLE}"
    try:
        temp.write_text(json.dumps(body, indent=1) + "\n")
        temp.replace(run / PEOPLE)
    except OSError as error:
        raise InputError(f"{run}: cannot be written ({error.strerror}); check its rights and free space") from error
    return run / PEOPLE


def two_way(rows: Sequence[Row], tool: str, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of a tool's accuracy over people and trojans at once, both drawn anew."""
    mine = [r for r in rows if r.tool == tool]
    people, trojans = sorted({r.number for r in mine}), sorted({r.trojan for r in mine})
    if not mine:
        return 0.0, 1.0
    hits, seen = np.zeros((2, len(people), len(trojans)))
    for r in mine:
        at = people.index(r.number), trojans.index(r.trojan)
        hits[at] += r.right
        seen[at] += 1
    rng = generator(seed, "two-way", tool)
    means = []
    for _ in range(RESAMPLES):
        w = np.bincount(rng.integers(len(people), size=len(people)), minlength=len(people))
        v = np.bincount(rng.integers(len(trojans), size=len(trojans)), minlength=len(trojans))
        n = w @ seen
        keep = (n > 0) & (v > 0)
        if keep.any():
            means.append(np.average((w @ hits)[keep] / n[keep], weights=v[keep]))
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def export(study: Study, marking: Marking, ledger: Ledger, out: Path) -> dict[str, Any]:
    """Write ``answers.csv``, ``answers.parquet``, ``raw.csv``, ``people.csv`` and ``board.json``.

    Args:
        study: the study.
        marking: its sealed half.
        ledger: its database.
        out: folder; made where missing.

    Returns:
        What ``board.json`` holds: the board of everybody who finished, and the same after exclusions.

    Raises:
        InputError: nobody has finished yet.
        MissingResource: pyarrow is not installed.
    """
    people = ledger.everyone()
    rows = marked(study, marking, people)
    done = [p for p in people if p.finished]
    if not done:
        raise InputError(f"none of {len(people)} people has finished; export when the first one has")
    out.mkdir(parents=True, exist_ok=True)
    table = [{**dataclasses.asdict(r), "order": " | ".join(r.order)} for r in rows]
    (out / "answers.csv").write_text(_csv(table))
    (out / "answers.parquet").write_bytes(parquet(table, list(table[0])))
    (out / "raw.csv").write_text(_csv(list(raw_rows(study, people))))
    persons = [
        {"number": p.number, "slot": p.slot, "consent": p.consent, "answers": len(p.answers), "finished": p.finished}
        | {"excluded": excluded(study, marking, p)}
        for p in people
    ]
    (out / "people.csv").write_text(_csv(persons))
    body = {
        "schema": 1,
        "study": study.file.id,
        "suite": study.file.suite,
        "checksum": study.file.checksum,
        "rules": study.settings.rules.model_dump(),
        "began": len(people),
        "finished": len(done),
        "excluded": Counter(p["excluded"] for p in persons if p["excluded"] and p["finished"]),
        "all": _board([r for r in rows if r.complete]),
        "after_exclusions": _board([r for r in rows if r.complete and not r.excluded]),
    }
    (out / "board.json").write_text(json.dumps(body, indent=1) + "\n")
    return body


def _board(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Lines of the board, each with answers, people and the interval over people and trojans."""
    out = []
    for line in score.board(outcomes(rows), 0):
        mine = [r for r in rows if r.tool == line.tool and line.type in ("all", r.kind)]
        low, high = two_way(mine, line.tool)
        more = {"answers": len(mine), "people": len({r.number for r in mine})}
        out.append({**dataclasses.asdict(line), **more, "two_way_low": low, "two_way_high": high})
    return out


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
