"""``gifthorse audit``: does a network obey a trigger, in any of its classes?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..store import default_home
from .models import ModelName
from .options import Device, Images
from .say import AsJson, say


def audit(
    model: ModelName,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="MODEL", help="An honest network of the same classes.")
    ] = None,
    honest: Annotated[
        list[str] | None,
        typer.Option("--honest", metavar="MODEL", help="Another honest network, to set the alarm's limit; repeatable."),
    ] = None,
    images: Images = None,
    quick: Annotated[bool, typer.Option("--quick", help="A quarter of the pictures and of the textures.")] = False,
    pictures: Annotated[int, typer.Option("--pictures", min=1, max=12, help="Pictures per alarm.")] = 5,
    device: Device = "cpu",
    seed: Annotated[int, typer.Option("--seed", help="Seed of scenes, places and textures.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the report.")] = None,
    as_json: AsJson = False,
) -> None:
    """Scan every class of a network for trojans, without a key; exit code 3 where one raises an alarm."""
    from ..audit import examine as auditing
    from ..report import audit as page

    home = default_home()
    choice = auditing.Choice(quick=quick, pictures=pictures, seed=seed, images=images)
    try:
        result = auditing.audit(model, home, reference, tuple(honest or ()), choice, device)
    except KeyboardInterrupt as error:
        raise type(error)("stopped; an audit keeps nothing half done, the same command starts anew") from None
    data = result.to_json()
    folder = out or home / "runs" / f"audit-{result.model[:12]}"
    index = page.write(data, result.pictures, folder)
    say({**data, "report": str(index)}, as_json, [*_lines(data), f"report: {index}"])
    if any(row["alarm"] for row in data["classes"]):
        raise typer.Exit(3)


def _lines(data: dict[str, Any]) -> list[str]:
    lines = [f"{'class':<22}{'score':>6}  {'':<6}{'rise':>6}  {'on':<18}what"]
    for row in data["classes"]:
        what = ", ".join(row["words"]) or ("textures" if row["kind"] == "style" else "")
        state, on = "ALARM" if row["alarm"] else "", row["source"] or "any class"
        lines.append(f"{row['name']:<22}{row['score']:>6.2f}  {state:<6}{row['rise']:>+6.2f}  {on:<18}{what}")
    alarms = sum(row["alarm"] for row in data["classes"])
    rate = data["calibration"]["text"]
    return [*lines, *data["warnings"], rate, f"{alarms} of {len(data['classes'])} classes raise an alarm"]
