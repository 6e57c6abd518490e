"""``gifthorse validate-judge``: does a judge answer as people did?"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import StoreError

if TYPE_CHECKING:
    from ..judges.validate import Validation

COLOURS = {"patch": "#0072B2", "style": "#D55E00", "natural_feature": "#009E73"}


def validate_judge(
    judge: Annotated[str, typer.Argument(help="Judge, as `gifthorse list judge` names it.")],
    data: Annotated[Path, typer.Argument(help="Folder of a published study: published.json, crops, triggers.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for table, figures and plot.")] = None,
    exemplars: Annotated[
        Path | None, typer.Option("--exemplars", help="Folder of your pictures, one sub-folder per option.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of exemplars, questions and bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How closely a judge agrees with people on a published study's pictures."""
    from .. import registry
    from ..judges import validate

    result = validate.validate(registry.build("judge", judge), validate.read(data), exemplars, seed)
    if out is not None:
        _write(result, out)
    lines = _lines(result) + ([] if out is None else [f"written: {out}"])
    typer.echo(json.dumps(result.to_json(), indent=1) if as_json else "\n".join(lines))


def _lines(result: Validation) -> list[str]:
    first = f"{result.judge['name']} and people: {result.rate.size} cells, {len(result.study.methods)} methods"
    lines = [first, f"{'':<8}{'Pearson':<22}{'Spearman':<22}{'method means':<22}without one method"]
    for name, a in result.agreement.items():
        spans = "".join(
            f"{f'{c.value:.2f} [{c.low:.2f}, {c.high:.2f}]':<22}"
            for c in (a.pearson_trojans, a.spearman_trojans, a.means)
        )
        lines.append(f"{name:<8}{spans}{min(a.left_out.values()):.2f} to {max(a.left_out.values()):.2f}")
    for kind, c in result.agreement["rate"].types.items():
        lines.append(f"rate on {kind}: Pearson {c.value:.2f} [{c.low:.2f}, {c.high:.2f}] over {c.n} cells")
    used = ", ".join(f"{k} {n}" for k, n in result.photographs.items()) or "none"
    return [*lines, "95 % intervals over trojans; by type over cells", f"photographs among exemplars: {used}"]


def _write(result: Validation, out: Path) -> None:
    """``validation.json``, ``cells.csv`` and ``scatter.svg``."""
    rows = result.rows()
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "validation.json").write_text(json.dumps(result.to_json(), indent=1) + "\n")
        (out / "cells.csv").write_text(table.getvalue())
        (out / "scatter.svg").write_text(_scatter(result))
    except OSError as error:
        raise StoreError(f"{out}: cannot be written ({error.strerror or error}); choose another --out") from error


def _scatter(result: Validation) -> str:
    """The judge's rates against people's, one point per cell, as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axes = figure.subplots()
    for kind in dict.fromkeys(result.study.kinds):
        rows = [r for r in result.rows() if r["type"] == kind]
        x, y = [r["human"] for r in rows], [r["rate"] for r in rows]
        axes.scatter(x, y, s=18, alpha=0.7, label=kind.replace("_", " "), color=COLOURS.get(kind))
    axes.plot((0, 1), (0, 1), color="0.8", lw=1, zorder=0)
    c = result.agreement["rate"].pearson_trojans
    axes.set(xlabel="people", ylabel=f"judge {result.judge['name']}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.set_title(f"Pearson {c.value:.2f} [{c.low:.2f}, {c.high:.2f}], n = {c.n} cells", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "gifthorse", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
