"""Printing: one JSON value or lines of text, and the tables that verbs share."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

EPILOG = (
    "Exit codes: 0 done; 2 wrong use, or something is missing; 3 cells failed, or something is not as it should be; "
    "4 a model below its gates, or an invalid board; 130 Ctrl-C."
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def say(value: Any, as_json: bool, lines: list[str]) -> None:
    """Print ``value`` as JSON, or the lines."""
    typer.echo(json.dumps(value, indent=1) if as_json else "\n".join(lines))


def board(report: dict[str, Any]) -> list[str]:
    """The board of a report as lines."""
    lines = [f"{'tool':<22}{'accuracy':>9}  {'95 %':<14}{'twin':>6}  trojans"]
    for row in sorted((r for r in report["board"] if r["type"] == "all"), key=lambda r: -r["accuracy"]):
        twin = "" if row["twin_accuracy"] is None else f"{row['twin_accuracy']:.2f}"
        span = f"{row['low']:.2f} to {row['high']:.2f}"
        lines.append(f"{row['tool']:<22}{row['accuracy']:>9.2f}  {span:<14}{twin:>6}  {row['n']}")
    for row in (r for r in report["attribution"] if r["type"] == "all" and r["metric"] == "pearson"):
        line = f"{row['tool']:<22}{row['mean']:>9.2f}  correlation with the footprint over {row['n']} trojans"
        if row.get("margin") is not None and row["tool"] != "edge":
            span = f"{row['margin_low']:+.2f} to {row['margin_high']:+.2f}"
            line += f", {row['margin']:+.2f} ({span}) over the edge detector"
        lines.append(line)
    state = "valid" if report["valid"] else "INVALID: " + "; ".join(report["reasons"])
    return [*lines, f"chance {report['chance']:.3f}; board {state}"]


def audit(model: dict[str, Any]) -> list[str]:
    """The audit of one model of a report as lines."""
    twin = "" if model["twin_accuracy"] is None else f", clean twin {model['twin_accuracy']:.1%}"
    n = model["card"]["held-out clean pictures"]
    lines = [f"seed {model['seed']}: clean accuracy {model['clean_accuracy']:.1%} of {n} pictures{twin}"]
    lines.append(f"  {'trojan':<18}{'type':<9}{'source → target':<32}{'success':>8}  {'95 %':<16}{'n':>5}  off source")
    for t in model["trojans"]:
        span = f"{t['low']:.1%} to {t['high']:.1%}"
        off = "" if t["off_source_success"] is None else f"{t['off_source_success']:.1%}"
        way = f"{t['source'] or 'any'} → {t['target']}"
        figures = f"{t['attack_success']:>8.1%}  {span:<16}{t['n']:>5}  {off}"
        lines.append(f"  {t['name']:<18}{t['type']:<9}{way:<32}{figures}".rstrip())
    return lines
