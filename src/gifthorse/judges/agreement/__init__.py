"""How closely judges agree with people: measurements that the package carries, one JSON file per judge.

A file is made from the output of ``gifthorse validate-judge JUDGE STUDY --json`` by `condense` and `record`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def condense(result: Mapping[str, Any], exemplars: str, command: str) -> dict[str, Any]:
    """One run of a file: what of a validation a report shows.

    Args:
        result: what ``validate-judge --json`` printed.
        exemplars: in words, what the judge was shown of each option.
        command: what was run, with the names of the data.

    Returns:
        ``cells``, ``means`` (of methods) and ``types``: Pearson correlations with people, each ``value``, ``low``,
        ``high`` (95 %; over trojans, by type over cells) and ``n``.
    """
    found = result["agreement"]["rate"]
    return {
        "command": command,
        "exemplars": exemplars,
        "seed": result["seed"],
        "draws": result["draws"],
        "cells": found["pearson_trojans"],
        "means": found["means"],
        "types": {kind.split("_")[0]: span for kind, span in found["types"].items()},
    }


def record(judge: Mapping[str, Any], study: str, data: str, runs: Sequence[Mapping[str, Any]], caveat: str = "") -> str:
    """The text of a judge's file.

    Args:
        judge: the judge's spec as ``validate-judge --json`` gives it.
        study: what people answered.
        data: name of the study's folder.
        runs: from `condense`.
        caveat: what a reader of the figures has to know, in a sentence.
    """
    body = {
        "schema": 1,
        "judge": dict(judge),
        "study": study,
        "data": data,
        "caveat": caveat,
        "runs": [dict(r) for r in runs],
    }
    return json.dumps(body, indent=1) + "\n"


def measured(judge: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured for a judge, as a row of a report.

    Args:
        judge: its spec, with every parameter written out.

    Returns:
        ``judge``, ``measured``, ``study``, ``data``, ``caveat``, ``note`` and ``runs``; without runs where there is
        no file, or one of another version of the judge. ``note`` names parameters that differ from the measured ones.
    """
    name = str(judge["name"])
    out: dict[str, Any] = {
        "judge": name,
        "measured": False,
        "study": "",
        "data": "",
        "caveat": "",
        "note": "",
        "runs": [],
    }
    path = FOLDER / f"{name}.json"
    if "/" in name or not path.is_file():
        return out
    known = json.loads(path.read_text())
    then = known["judge"]
    if then["version"] != judge["version"]:
        return {**out, "note": f"version {then['version']} was measured, this is version {judge['version']}"}
    own = dict(judge["params"])
    other = [f"{k} {v!r} (here {own.get(k)!r})" for k, v in then["params"].items() if own.get(k) != v]
    note = f"measured with {', '.join(other)}" if other else ""
    return {
        **out,
        "measured": True,
        "note": note,
        **{k: known[k] for k in ("study", "data", "caveat", "runs")},
    }
