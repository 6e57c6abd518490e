"""From finished cells to ``report.json``: gates, board, attribution, costs, gallery."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import keys, registry
from ..models import checkpoint
from ..plant import audit as audits
from ..spec import Spec
from ..store import Store, read_json
from ..types import Trojan, unit
from . import attribution, people
from .crops import crops
from .plan import Lineage, Plan
from .stages import key_of, load_answers, load_evidence, load_exhibits
from .tables import Gates

PACKAGES = ("gifthorse", "torch", "torchvision", "numpy", "captum", "timm", "emosvg", "resvg-py")
GALLERY = 10  # pictures of evidence shown per tool and trojan
PAIRS = 4  # clean and triggered pictures shown per trojan


@dataclass(frozen=True)
class Result:
    """What is written: ``report`` fits the report's schema, ``pictures`` are the gallery's by key.

    ``failed`` says in one line which cells failed, so that their tools are not in the report; empty when none did.
    """

    report: dict[str, Any]
    pictures: dict[str, NDArray[Any]]
    failed: str = ""


def audit_of(store: Store, line: Lineage) -> audits.Audit:
    """The figures of a planted model.

    Raises:
        StoreError: it was not audited yet.
    """
    _, meta = load_exhibits(store, line.exhibits.digest)
    rate = audits.Rate
    data = meta["audit"]
    trojans = tuple(
        audits.TrojanAudit(
            t["name"],
            rate(**t["success"]),
            rate(**t["off_source"]) if t["off_source"] else None,
            rate(**t["twin"]) if t["twin"] else None,
        )
        for t in data["trojans"]
    )
    return audits.Audit(rate(**data["clean"]), rate(**data["twin"]) if data["twin"] else None, trojans)


def missed_gates(store: Store, line: Lineage, gates: Gates) -> list[str]:
    """Why a model is refused, one line per gate missed, with the figures."""
    result = audit_of(store, line)
    key = key_of(store, line.trojaned.digest)
    base = audits.Limits(gates.clean_accuracy, gates.twin_loss, None, None, None, None)
    reasons = audits.check(base, audits.Audit(result.clean, result.twin, ()))
    off = {"patch": gates.off_source_patch, "style": gates.off_source_style, "natural": None}
    for trojan, row in zip(key.trojans.values(), result.trojans, strict=True):
        own = audits.Limits(None, None, getattr(gates, trojan.kind), None, off[trojan.kind], None)
        reasons += audits.check(own, audits.Audit(result.clean, None, (row,)))
    return reasons


@dataclass
class _Marks:
    """What the ask cells of all models say, under the trojans' names."""

    outcomes: list[Any]
    sights: list[Any]
    works: dict[tuple[str, str, str], list[tuple[str, float]]]  # (tool, judge, measure) -> kind and value

    def add(self, store: Store, line: Lineage, key: keys.Key) -> None:
        """Read the cells of one model."""
        from ..judges.retrieval import Place, Sight
        from ..judges.score import Outcome

        for (title, judge), cell in line.asks.items():
            marks = read_json(store.need("answers", cell.digest) / "marks.json")
            for task, trojan in key.trojans.items():
                row, name = marks[task], _unit(trojan, line)
                self.outcomes.append(
                    Outcome(title, judge, trojan.kind, name, tuple(row["suspect"]), tuple(row["twin"]))
                )
                for measure in ("functional", "activation"):
                    if row[measure] is not None:
                        self.works.setdefault((title, judge, measure), []).append((trojan.kind, row[measure]))
                places = {role: Place(**found) for role, found in (row["retrieval"] or {}).items()}
                if "suspect" in places:
                    self.sights.append(Sight(title, judge, trojan.kind, name, places["suspect"], places.get("twin")))

    def mean(self, tool: str, judge: str, measure: str, kind: str, low: float) -> float | None:
        """A measure of a tool, averaged over trojans and models and kept in [low, 1]."""
        values = [v for k, v in self.works.get((tool, judge, measure), []) if kind in ("all", k)]
        return float(np.clip(np.mean(values), low, 1)) if values else None


def assemble(plan: Plan, store: Store, extra: Sequence[Any] | None = None) -> Result:
    """The report of a finished suite; this is where the keys are opened.

    Args:
        plan: the suite's cells.
        store: where they are.
        extra: outcomes of judges that are no cells, such as people; by default those of ``people.json`` in the
            run's folder. They stand beside the automatic judges and have no say in whether the board is valid.

    Raises:
        StoreError: a cell is missing, or a key is not the one that its model's card commits to.
        InputError: ``people.json`` does not fit the run.
    """
    from ..judges import score

    models, pictures, gallery = [], {}, []
    marks = _Marks([], [], {})
    units: dict[str, str] = {}
    for line in plan.lineages:
        card = checkpoint.read_card(store.need("model", line.trojaned.digest))
        key = key_of(store, line.trojaned.digest)
        models.append(_model(plan, store, line, card, key))
        marks.add(store, line, key)
        for trojan in key.trojans.values():
            units.setdefault(trojan.name, _unit(trojan, line))
            units[_unit(trojan, line)] = _unit(trojan, line)
        for row, picture in _gallery(plan, store, line, key):
            gallery.append(row)
            if row["picture"]:
                pictures[row["picture"]] = picture
    if extra is None and plan.columns:
        file = store.home / "runs" / plan.suite.suite / people.FILE
        extra = people.read(file, plan.suite.suite, units, [j.name for j in plan.suite.judges])
    outcomes = [*marks.outcomes, *(extra or ())]
    reasons = score.validity(marks.outcomes)
    reasons += [f"seed {x.seed}: {r}" for x in plan.lineages for r in missed_gates(store, x, plan.suite.gates)]
    first = plan.suite.judges[0].name
    report = {
        "schema_version": 1,
        "suite": plan.suite.suite,
        "valid": not reasons,
        "reasons": reasons,
        "chance": score.CHANCE,
        "models": models,
        "board": [_board_row(plan, r, marks) for r in score.board(outcomes, 0, _unranked(plan))],
        "retrieval": _retrieval(marks),
        "agreement": _agreement(plan, outcomes),
        **attribution.parts(plan, store),
        "costs": _costs(plan, store),
        "versions": versions(),
        "seeds": list(plan.suite.seeds),
        "cells": [{**_square(o), "model": ""} for o in _merged(outcomes) if o[0].judge == first],
        "further_cells": [{**_square(o), "judge": o[0].judge} for o in _merged(outcomes) if o[0].judge != first],
        "gallery": gallery,
    }
    return Result(report, pictures)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    out = {"python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "source tree" if name == "gifthorse" else "not installed"
    return out


def _model(plan: Plan, store: Store, line: Lineage, card: Mapping[str, Any], key: keys.Key) -> dict[str, Any]:
    result = audit_of(store, line)
    rows = []
    for trojan, row in zip(key.trojans.values(), result.trojans, strict=True):
        low, high = row.success.interval
        rows.append(
            {
                "name": trojan.name,
                "type": trojan.kind,
                "scope": trojan.scope,
                "source": trojan.source,
                "target": trojan.target,
                "attack_success": row.success.value,
                "low": low,
                "high": high,
                "n": row.success.n,
                "off_source_success": row.off_source.value if row.off_source else None,
                "concept": trojan.concept,
                "secret": trojan.secret,
            }
        )
    return {
        "name": line.name,
        "seed": line.seed,
        "clean_accuracy": result.clean.value,
        "twin_accuracy": result.twin.value if result.twin else None,
        "trojans": rows,
        "card": {
            "digest": line.trojaned.digest,
            "network": card["model"]["name"],
            "training pictures": card["pictures"],
            "held-out clean pictures": result.clean.n,
            "weights (SHA-256)": card["weights_sha256"],
            "key (salted SHA-256)": card["key_hash"],
        },
    }


def _unit(trojan: Trojan, line: Lineage) -> str:
    """What the models of a plan are averaged over."""
    return unit(trojan.name, trojan.secret, line.seed)


def _unranked(plan: Plan) -> list[str]:
    """Sentinels take no rank."""
    return [c.title for c in plan.columns if c.family == "sentinel"] + ["oracle", "noise", "blank"]


def _tool(plan: Plan, title: str) -> tuple[str, list[str]]:
    """Family and needs of a tool; people may also have met one that the plan does not hold.

    Raises:
        UnknownName: there is no such tool.
    """
    for column in plan.columns:
        if column.title == title:
            return column.family, sorted(str(n) for n in column.needs)
    tool = registry.build("tool", Spec(title.split("(")[0]))
    return tool.family, sorted(str(n) for n in tool.needs)


def _board_row(plan: Plan, row: Any, marks: _Marks) -> dict[str, Any]:
    family, needs = _tool(plan, row.tool)
    return {
        "tool": row.tool,
        "family": family,
        "judge": row.judge,
        "type": row.type,
        "n": row.n,
        "accuracy": row.accuracy,
        "low": row.low,
        "high": row.high,
        "twin_accuracy": row.twin_accuracy,
        "difference_low": row.difference_low,
        "difference_high": row.difference_high,
        "needs": needs,
        "rank_low": None if row.rank_low is None else int(np.floor(row.rank_low)),
        "rank_high": None if row.rank_high is None else int(np.ceil(row.rank_high)),
        "functional": marks.mean(row.tool, row.judge, "functional", row.type, 0),
        "activation": marks.mean(row.tool, row.judge, "activation", row.type, -1),
    }


def _retrieval(marks: _Marks) -> list[dict[str, Any]]:
    from ..judges import retrieval

    out = []
    for line in retrieval.board(marks.sights):
        row = {k: getattr(line, k) for k in ("tool", "judge", "type", "n", "candidates", "mrr", "low", "high")}
        row |= {k: getattr(line, k) for k in ("twin_mrr", "twin_low", "twin_high")}
        for k, value in line.recall.items():
            low, high = line.recall_interval[k]
            row |= {f"recall_{k}": value, f"recall_{k}_low": low, f"recall_{k}_high": high}
            row[f"twin_recall_{k}"] = line.twin_recall.get(k)
        out.append(row)
    return out


def _agreement(plan: Plan, outcomes: Sequence[Any]) -> list[dict[str, Any]]:
    """For each automatic judge on the board what is known of its agreement with people."""
    from ..judges.agreement import measured

    shown = {o.judge for o in outcomes}
    parts = [j for j in plan.suite.judges if j.name in shown]
    return [measured(registry.spec_of(registry.build("judge", j.spec)).to_json()) for j in parts]


def _merged(outcomes: Sequence[Any]) -> list[list[Any]]:
    """Outcomes of the same judge, tool and trojan together, over the models that carry the trojan."""
    out: dict[tuple[str, str, str], list[Any]] = {}
    for o in outcomes:
        out.setdefault((o.judge, o.tool, o.trojan), []).append(o)
    return list(out.values())


def _square(same: Sequence[Any]) -> dict[str, Any]:
    """Mean credit of one tool on one trojan."""

    def mean(parts: list[tuple[float, ...]]) -> float | None:
        means = [np.mean(p) for p in parts if p]
        return float(np.mean(means)) if means else None

    return {
        "tool": same[0].tool,
        "trojan": same[0].trojan,
        "accuracy": mean([o.credits for o in same]),
        "twin_accuracy": mean([o.twin for o in same]),
    }


def _costs(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """Mean per model that a tool looked at; the twin's runs are not counted."""
    out = []
    for column in plan.columns:
        runs = [store.need("evidence", line.runs[column.title, "suspect"].digest) for line in plan.lineages]
        metas = [read_json(run / "meta.json") for run in runs]
        costs, notes = [m["cost"] for m in metas], [e["notes"] for m in metas for e in m["evidence"]]
        row: dict[str, Any] = {"tool": column.title, "seconds": float(np.mean([c["seconds"] for c in costs]))}
        row |= {k: int(np.mean([c[k] for c in costs])) for k in ("forwards", "backwards")}
        row["max_batch"] = min((n["max_batch"] for n in notes if "max_batch" in n), default=None)
        out.append({**row, "peak_bytes": max(c["peak_bytes"] for c in costs)})
    return out


def _gallery(plan: Plan, store: Store, line: Lineage, key: keys.Key) -> Iterator[tuple[dict[str, Any], NDArray[Any]]]:
    """The gallery's rows with their pictures."""
    shown, _ = load_exhibits(store, line.exhibits.digest)
    answers, _ = load_answers(store, line.exhibits.digest)

    def row(role: str, trojan: str, caption: str, tool: str = "") -> dict[str, Any]:
        name = f"{line.name}/{trojan}/{role}" + (f"/{tool}" if tool else "")
        base = {"model": line.name, "trojan": trojan, "role": role, "picture": name}
        return {**base, "tool": tool, "caption": caption}

    for task, trojan in key.trojans.items():
        yield row("answer", trojan.name, trojan.concept), answers[task][:PAIRS]
        yield row("clean", trojan.name, "before"), shown[f"plain/{task}"][:PAIRS]
        yield row("triggered", trojan.name, f"triggered: sent to {trojan.target}"), shown[f"triggered/{task}"][:PAIRS]
    for column in plan.columns:
        shown_by = load_evidence(store, line.runs[column.title, "suspect"].digest)[0]
        for e in shown_by:
            base = row("evidence", key.trojans[e.task].name, column.title, column.title)
            base |= {"texts": list(e.texts[:GALLERY]), "map": e.heatmaps is not None}
            found = (e.images if e.heatmaps is None else e.heatmaps)[:GALLERY]
            yield {**base, "picture": base["picture"] if len(found) else ""}, found
        if column.emits == "heatmaps" and plan.suite.crops:
            for e in crops(shown_by, shown, min(plan.suite.pictures, GALLERY)):
                base = row("evidence", key.trojans[e.task].name, "what the map points at", column.title)
                yield {**base, "picture": f"{base['picture']}/crops"}, e.images
