"""From finished cells to ``report.json``: gates, board, attribution, costs, gallery."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import keys
from ..models import checkpoint
from ..plant import audit as audits
from ..store import Store, read_json
from .plan import Column, Lineage, Plan
from .stages import load_answers, load_evidence, load_exhibits
from .suite import Gates

METRICS = ("pearson", "auroc", "l1")
PACKAGES = ("gifthorse", "torch", "torchvision", "numpy", "captum", "timm", "emosvg", "resvg-py")
GALLERY = 10  # pictures of evidence shown per tool and trojan
PAIRS = 4  # clean and triggered pictures shown per trojan


@dataclass(frozen=True)
class Result:
    """What is written: ``report`` fits the report's schema, ``pictures`` are the gallery's by key."""

    report: dict[str, Any]
    pictures: dict[str, NDArray[Any]]


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
    key = keys.open_key(store.home, line.trojaned.digest)
    base = audits.Gates(gates.clean_accuracy, gates.twin_loss, None, None, None, None)
    reasons = audits.check(base, audits.Audit(result.clean, result.twin, ()))
    off = {"patch": gates.off_source_patch, "style": gates.off_source_style, "natural": None}
    for trojan, row in zip(key.trojans.values(), result.trojans, strict=True):
        own = audits.Gates(None, None, getattr(gates, trojan.kind), None, off[trojan.kind], None)
        reasons += audits.check(own, audits.Audit(result.clean, None, (row,)))
    return reasons


def assemble(plan: Plan, store: Store) -> Result:
    """The report of a finished suite; this is where the keys are opened.

    Raises:
        StoreError: a cell is missing, or a key is not the one that its model's card commits to.
    """
    from ..judges import score

    models, pictures, gallery = [], {}, []
    outcomes: list[Any] = []
    works: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for line in plan.lineages:
        card = checkpoint.read_card(store.need("model", line.trojaned.digest))
        key = keys.open_key(store.home, line.trojaned.digest, card["key_hash"])
        models.append(_model(plan, store, line, card, key))
        outcomes += _outcomes(plan, store, line, key, works)
        for row, picture in _gallery(plan, store, line, key):
            gallery.append(row)
            pictures[row["picture"]] = picture
    reasons = score.validity(outcomes)
    reasons += [f"seed {x.seed}: {r}" for x in plan.lineages for r in missed_gates(store, x, plan.suite.gates)]
    report = {
        "schema_version": 1,
        "suite": plan.suite.suite,
        "valid": not reasons,
        "reasons": reasons,
        "chance": score.CHANCE,
        "models": models,
        "board": [_board_row(plan, r, works) for r in score.board(outcomes, 0)],
        "attribution": _attribution(plan, store),
        "costs": _costs(plan, store),
        "versions": versions(),
        "seeds": list(plan.suite.seeds),
        "cells": _cells(plan, outcomes),
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
        "name": _name(line),
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


def _name(line: Lineage) -> str:
    return f"seed-{line.seed}"


def _outcomes(
    plan: Plan, store: Store, line: Lineage, key: keys.Key, works: dict[tuple[str, str], list[tuple[str, float]]]
) -> Iterator[Any]:
    from ..judges.score import Outcome

    for (title, judge), cell in line.asks.items():
        marks = read_json(store.need("answers", cell.digest) / "marks.json")
        for task, trojan in key.trojans.items():
            row = marks[task]
            if row["functional"] is not None:
                works.setdefault((title, judge), []).append((trojan.kind, row["functional"]))
            # secrets differ from seed to seed: each is a trojan of its own
            name = f"{trojan.name}@{line.seed}" if trojan.secret else trojan.name
            yield Outcome(title, judge, trojan.kind, name, tuple(row["suspect"]), tuple(row["twin"]))


def _column(plan: Plan, title: str) -> Column:
    return next(c for c in plan.columns if c.title == title)


def _board_row(plan: Plan, row: Any, works: Mapping[tuple[str, str], list[tuple[str, float]]]) -> dict[str, Any]:
    column = _column(plan, row.tool)
    fires = [v for kind, v in works.get((row.tool, row.judge), []) if row.type in ("all", kind)]
    return {
        "tool": row.tool,
        "family": column.family,
        "judge": row.judge,
        "type": row.type,
        "n": row.n,
        "accuracy": row.accuracy,
        "low": row.low,
        "high": row.high,
        "twin_accuracy": row.twin_accuracy,
        "needs": sorted(str(n) for n in column.needs),
        "rank_low": None if row.rank_low is None else int(np.floor(row.rank_low)),
        "rank_high": None if row.rank_high is None else int(np.ceil(row.rank_high)),
        "functional": float(np.clip(np.mean(fires), 0, 1)) if fires else None,
    }


def _cells(plan: Plan, outcomes: list[Any]) -> list[dict[str, Any]]:
    out = []
    first = plan.suite.judges[0].name
    for o in outcomes:
        if o.judge == first:
            twin = float(np.mean(o.twin)) if o.twin else None
            row = {"tool": o.tool, "trojan": o.trojan, "accuracy": float(np.mean(o.credits)), "twin_accuracy": twin}
            out.append({**row, "model": ""})
    merged: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in out:
        merged.setdefault((row["tool"], row["trojan"]), []).append(row)
    return [_mean_cell(rows) for rows in merged.values()]


def _mean_cell(rows: list[dict[str, Any]]) -> dict[str, Any]:
    twins = [r["twin_accuracy"] for r in rows if r["twin_accuracy"] is not None]
    mean = {"accuracy": float(np.mean([r["accuracy"] for r in rows]))}
    return {**rows[0], **mean, "twin_accuracy": float(np.mean(twins)) if twins else None}


def _attribution(plan: Plan, store: Store) -> list[dict[str, Any]]:
    from ..judges import masks

    out = []
    for column in plan.columns:
        if column.emits != "heatmaps":
            continue
        values: dict[tuple[str, str], dict[str, list[float]]] = {}
        for line in plan.lineages:
            key = keys.open_key(store.home, line.trojaned.digest)
            _, true = load_answers(store, line.trojaned.digest)
            for e in load_evidence(store, line.runs[column.title, "suspect"].digest)[0]:
                trojan = key.trojans[e.task]
                if trojan.kind == "style" or e.heatmaps is None:
                    continue  # a style is everywhere: it has no footprint
                for metric, v in masks.measure(e.heatmaps, true[e.task]).items():
                    if metric in METRICS and len(v):
                        name = f"{trojan.name}@{line.seed}" if trojan.secret else trojan.name
                        for kind in ("all", trojan.kind):
                            values.setdefault((metric, kind), {}).setdefault(name, []).append(float(v.mean()))
        out += [_spread(column.title, kind, metric, table) for (metric, kind), table in sorted(values.items())]
    return out


def _spread(tool: str, kind: str, metric: str, table: Mapping[str, list[float]]) -> dict[str, Any]:
    """Mean over trojans with its 95 % t-interval: few trojans, so no normal approximation."""
    from scipy.stats import t

    values = np.array([np.mean(v) for v in table.values()])
    n, mean = len(values), float(values.mean())
    half = float(t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    row = {"tool": tool, "type": kind, "metric": metric, "n": n, "mean": mean, "low": mean - half, "high": mean + half}
    return {**row, "values": [float(v) for v in values]}


def _costs(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """Mean per model that a tool looked at; the twin's runs are not counted."""
    out = []
    for column in plan.columns:
        costs = [load_evidence(store, line.runs[column.title, "suspect"].digest)[1]["cost"] for line in plan.lineages]
        row: dict[str, Any] = {"tool": column.title, "seconds": float(np.mean([c["seconds"] for c in costs]))}
        row |= {k: int(np.mean([c[k] for c in costs])) for k in ("forwards", "backwards")}
        out.append({**row, "peak_bytes": max(c["peak_bytes"] for c in costs)})
    return out


def _gallery(plan: Plan, store: Store, line: Lineage, key: keys.Key) -> Iterator[tuple[dict[str, Any], NDArray[Any]]]:
    """The gallery's rows with their pictures."""
    shown, _ = load_exhibits(store, line.exhibits.digest)
    answers, _ = load_answers(store, line.trojaned.digest)

    def row(role: str, trojan: str, caption: str, tool: str = "") -> dict[str, Any]:
        name = f"{_name(line)}/{trojan}/{role}" + (f"/{tool}" if tool else "")
        base = {"model": _name(line), "trojan": trojan, "role": role, "picture": name}
        return {**base, "tool": tool, "caption": caption}

    for task, trojan in key.trojans.items():
        yield row("answer", trojan.name, trojan.concept), answers[task][:PAIRS]
        yield row("clean", trojan.name, "before"), shown[f"plain/{task}"][:PAIRS]
        yield row("triggered", trojan.name, f"triggered: sent to {trojan.target}"), shown[f"triggered/{task}"][:PAIRS]
    for column in plan.columns:
        for e in load_evidence(store, line.runs[column.title, "suspect"].digest)[0]:
            trojan = key.trojans[e.task]
            if e.heatmaps is None:
                yield row("evidence", trojan.name, column.title, column.title), e.images[:GALLERY]
            else:
                yield row("evidence", trojan.name, column.title, column.title), e.heatmaps[:GALLERY]
