"""Verbs on a model: plant, verify, probe, card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError, StoreError
from ..store import Store, default_home
from .options import Device, Force, Workers, on_suite
from .say import AsJson, audit, say

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A model's folder, or the beginning of its digest.")]


@on_suite
def plant(
    suite: Any, workers: Workers = 2, device: Device = "cpu", force: Force = False, as_json: AsJson = False
) -> None:
    """Plant the trojans of a suite, audit them and show them; exit code 4 where a gate is missed."""
    from ..bench.board import missed_gates
    from ..bench.plan import make_plan
    from ..bench.run import folder_of, run_stages
    from ..report import site
    from ..report.schema import Report
    from .progress import watching
    from .suites import executor

    plan, home = make_plan(suite), default_home()
    with watching(as_json) as watch:
        run_stages(plan, home, executor(workers, device=device), watch, until="exhibits", force=force)
    store = Store(home)
    missed = [f"seed {x.seed}: {r}" for x in plan.lineages for r in missed_gates(store, x, suite.gates)]
    report, pictures = _planted(suite, store, missed)
    page = site.write(Report.model_validate(report), pictures, folder_of(suite, home) / "planted")
    lines, rows = [], []
    for model in report["models"]:
        folder = store.need("model", model["card"]["digest"])
        rows.append({"model": str(folder), "card": str(folder / "card.json"), "audit": model})
        lines += [*audit(model), f"  model: {folder}", f"  card: {folder / 'card.json'}"]
    lines += [*(f"gate missed: {reason}" for reason in missed), f"gallery: {page}"]
    say({"models": rows, "gallery": str(page), "missed": missed}, as_json, lines)


def _planted(suite: Any, store: Store, missed: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report of models that no tool has looked at, its secret trojans left out of sight."""
    from ..bench.board import assemble
    from ..bench.plan import make_plan

    result = assemble(make_plan(suite.model_copy(update={"tools": ()})), store)
    models = [
        {**m, "trojans": [{**t, "concept": "" if t["secret"] else t["concept"]} for t in m["trojans"]]}
        for m in result.report["models"]
    ]
    sealed = {t["name"] for m in models for t in m["trojans"] if t["secret"]}
    gallery = [row for row in result.report["gallery"] if row["trojan"] not in sealed]
    reasons = ["only planted and audited: no tool has looked yet", *missed]
    return {**result.report, "models": models, "gallery": gallery, "valid": False, "reasons": reasons}, result.pictures


def verify(model: ModelName, as_json: AsJson = False) -> None:
    """Checksums, the sealed key, and the figures measured anew; exit code 3 where one does not hold."""
    from ..bench.probe import find
    from ..bench.verify import verify as check

    home = default_home()
    verdict = check(find(model, home), home)
    rows = [
        {"name": m.name, "agrees": m.agrees}
        | {f"{role}_{k}": v for role, r in (("written", m.written), ("anew", m.anew)) for k, v in _rate(r).items()}
        for m in verdict.figures
    ]
    lines = [f"{'':<34}{'as audited':<34}measured anew"] if rows else []
    lines += [f"{m.name:<34}{_span(m.written):<34}{_span(m.anew)}" for m in verdict.figures]
    lines += list(verdict.problems) or ["checksums, key and figures hold"]
    say({"sound": not verdict.problems, "problems": list(verdict.problems), "figures": rows}, as_json, lines)
    if verdict.problems:
        raise typer.Exit(3)


def _rate(rate: Any) -> dict[str, float]:
    low, high = rate.interval
    return {"value": rate.value, "low": low, "high": high, "n": rate.n}


def _span(rate: Any) -> str:
    low, high = rate.interval
    return f"{rate.value:.1%} ({low:.1%} to {high:.1%}, n {rate.n})"


def probe(
    model: ModelName,
    tool: Annotated[str, typer.Option("--tool", help="The tool; see `gifthorse list tool`.")],
    target: Annotated[str | None, typer.Option("--target", help="Only the trojans of this target class.")] = None,
    pictures: Annotated[int, typer.Option("--pictures", min=1, max=64, help="Pictures per trojan.")] = 6,
    out: Annotated[Path | None, typer.Option("--out", help="The PNG file to write.")] = None,
    as_json: AsJson = False,
) -> None:
    """What one tool shows of one model, as one picture. The answer is never shown."""
    from .. import images
    from ..bench import probe as probing
    from .contact import contact_sheet

    home = default_home()
    planted = probing.find(model, home)
    path = out or Path(f"probe-{planted.entry.digest[:12]}-{tool.replace('/', '-')}.png")
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: a contact sheet is a PNG; give --out a name that ends in .png")
    shown = probing.probe(planted, tool, home, pictures, target)
    words = probing.titles(planted)
    data = images.png(contact_sheet([(words[e.task], e) for e in shown], pictures))
    try:
        path.write_bytes(data)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror}); give another --out") from error
    rows = [words[e.task] for e in shown]
    say({"tool": tool, "tasks": rows, "picture": str(path)}, as_json, [*rows, f"picture: {path}"])


def card(model: ModelName, as_json: AsJson = False) -> None:
    """The public card of a model."""
    from ..bench.probe import find
    from ..models.checkpoint import read_card

    folder = Path(model)
    data = read_card(folder if folder.is_dir() else find(model, default_home()).entry.path)
    say(data, as_json, [f"{k}: {v}" for k, v in data.items()])
