"""``gifthorse survey``: people as judges."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError, MissingResource
from ..store import default_home

app = typer.Typer(no_args_is_help=True, help="Ask people: make a study, serve it, export the answers.")

Folder = Annotated[Path, typer.Argument(help="Study folder that `survey new` made.")]
Database = Annotated[str, typer.Option("--db", help="Database URL; answers.db in the study folder by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _print(value: Any, as_json: bool, lines: list[str]) -> None:
    typer.echo(json.dumps(value, indent=1) if as_json else "\n".join(lines))


def _ledger(study: Any, url: str) -> Any:
    """The study's database."""
    try:
        from ..survey.db import Ledger
    except ImportError as error:
        raise MissingResource(f"{error.name} is not installed; pip install 'gifthorse[survey]'") from error
    return Ledger(url or f"sqlite:///{(study.folder / 'answers.db').resolve()}", study)


@app.command()
def new(
    source: Annotated[str, typer.Argument(help="Finished suite, folder with source.json, or `rehearsal`.")],
    out: Annotated[Path, typer.Option("--out", help="The new folder.")],
    settings: Annotated[Path | None, typer.Option("--settings", help="TOML: title, consent, rules ...")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The suite's quick form.")] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Model seed; the suite's first by default.")] = None,
    tool: Annotated[list[str] | None, typer.Option("--tool", help="Show this tool only; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Make a study folder from a finished run; oracle and noise are always among its arms."""
    from ..survey.create import create
    from ..survey.source import from_folder, from_run, rehearsal
    from ..survey.study import SEALED, load_settings

    chosen, folder = load_settings(settings), Path(source)
    if folder.is_dir():
        made = create(from_folder(folder), chosen, out)
    elif source == "rehearsal":
        made = create(rehearsal(), chosen, out)
    else:
        made = create(from_run(source, default_home(), quick=quick, seed=seed, tools=tool or ()), chosen, out)
    file = made.file
    data = {"study": file.id, "folder": str(out), "arms": len(file.arms), "trojans": len(file.items)}
    data |= {"pictures": len(file.pictures), "checksum": file.checksum, "marking": str(out / SEALED)}
    pages = 1 + len(file.items) + len(file.checks)
    lines = [f"{out}: {len(file.arms)} arms, {len(file.items)} trojans, {pages} pages per person"]
    lines += [f"checksum {file.checksum}", f"marking: {out / SEALED} (move it away from the server)"]
    _print(data, as_json, [*lines, f"next: gifthorse survey serve {out}"])


@app.command()
def serve(
    study: Folder, db: Database = "", host: str = "127.0.0.1", port: int = 8000,
    base: Annotated[str, typer.Option("--base", help="Public address, for the links printed.")] = "",
) -> None:  # fmt: skip
    """Serve a study until Ctrl-C; no access log is written."""
    from ..survey import secret
    from ..survey import study as files

    loaded = files.load(study)
    key, ledger = secret.load(study), _ledger(loaded, db)
    import uvicorn

    from ..survey.app import create_app
    from ..survey.flow import PARAMETER

    where = base.rstrip("/") or f"http://{host}:{port}"
    provider = loaded.settings.provider
    value = {"prolific": "{{%PROLIFIC_PID%}}", "connect": "{participantId}", "generic": "..."}[provider]
    typer.echo(f"for people:   {where}/start" + (f"?{PARAMETER[provider]}={value}" if provider != "generic" else ""))
    typer.echo(f"for yourself: {where}/progress/{key.access}")
    uvicorn.run(
        create_app(ledger, key), host=host, port=port, access_log=False, log_level="warning", server_header=False,
        proxy_headers=False, timeout_keep_alive=75,
    )  # fmt: skip


@app.command("export")
def export_(
    study: Folder, db: Database = "",
    marking: Annotated[Path | None, typer.Option("--marking", help="The sealed file, where it was moved.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder; `export` in the study folder by default.")] = None,
    board: Annotated[bool, typer.Option("--board", help="Also put people on the board of the suite's report.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Join answers and marking: CSV, Parquet and the board of people, with and without exclusions."""
    from ..survey import study as files
    from ..survey.export import export, for_board, write_board

    loaded = files.load(study)
    target, ledger = out or study / "export", _ledger(loaded, db)
    marks = files.load_marking(loaded, marking)
    body = export(loaded, marks, ledger, target)
    where = [f"written to {target}"]
    if board:
        where.append(f"people judge in {write_board(for_board(loaded, marks, ledger), default_home())}")
    lines = [
        f"{body['finished']} of {body['began']} people finished; {sum(body['excluded'].values())} excluded by rule"
    ]
    lines.append(f"{'tool':<22}{'accuracy':>9}  {'95 % (people, trojans)':<24}{'after exclusions':>16}  answers")
    after = {r["tool"]: r["accuracy"] for r in body["after_exclusions"] if r["type"] == "all"}
    for row in sorted((r for r in body["all"] if r["type"] == "all"), key=lambda r: -r["accuracy"]):
        span = f"{row['two_way_low']:.2f} to {row['two_way_high']:.2f}"
        left = f"{after[row['tool']]:.2f}" if row["tool"] in after else "none"
        lines.append(f"{row['tool']:<22}{row['accuracy']:>9.2f}  {span:<24}{left:>16}  {row['answers']}")
    _print(body, as_json, [*lines, *where])


@app.command()
def erase(
    study: Folder, db: Database = "",
    number: Annotated[str, typer.Option("--number", help="The number shown to the person.")] = "",
    panel_id: Annotated[str, typer.Option("--panel-id", help="The person's id at the panel.")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Erase one person for good; export again afterwards to drop them from exported files."""
    from ..survey import secret
    from ..survey import study as files

    if bool(number) == bool(panel_id):
        raise InputError("give either --number or --panel-id")
    loaded = files.load(study)
    ledger = _ledger(loaded, db)
    person = secret.load(study).person(loaded.settings.provider, panel_id.strip()) if panel_id else ""
    if not ledger.erase(person or number, hashed=bool(person)):
        raise InputError("nobody of that name has taken part; check the number")
    _print({"erased": 1}, as_json, ["erased; run `gifthorse survey export` again where answers were exported before"])


@app.command("power")
def power_(
    people: Annotated[list[int], typer.Option("--people", help="People in the study; may be repeated.")],
    trojans: Annotated[list[int], typer.Option("--trojans", help="Trojans; may be repeated.")],
    tools: Annotated[int, typer.Option("--tools", help="Arms, oracle and noise included.")] = 8,
    design: Annotated[str, typer.Option("--design", help="latin or between.")] = "latin",
    runs: Annotated[int, typer.Option("--runs", min=10, help="Simulated studies.")] = 2000,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Half-width of a tool's interval, by simulation, before anybody is asked."""
    from ..survey.power import power

    if design not in ("latin", "between"):
        raise InputError(f"--design {design!r}: latin or between")
    rows = [power(p, t, tools, design, runs=runs) for t in trojans for p in people]  # type: ignore[arg-type]
    lines = [f"{'trojans':>8}{'people':>8}{'answers':>9}  {'these trojans':>13}  {'trojans like these':>18}"]
    lines += [
        f"{r.trojans:>8}{r.people:>8}{r.answers:>9.0f}  {100 * r.fixed:>11.1f} %  {100 * r.sampled:>16.1f} %"
        for r in rows
    ]
    _print(
        [dataclasses.asdict(r) for r in rows], as_json, [*lines, f"95 % half-widths of one of {tools} tools, in points"]
    )
