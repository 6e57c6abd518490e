"""Verbs on the store: ls, verify, gc."""

from __future__ import annotations

import typer

from ..store import Store, default_home
from .say import AsJson, say

store = typer.Typer(no_args_is_help=True, help="Look after the store.")


@store.command("ls")
def ls(as_json: AsJson = False) -> None:
    """Every finished folder."""
    rows = list(Store(default_home()).ls())
    data = [{"kind": e.kind, "digest": e.digest, "bytes": e.bytes} for e in rows]
    say(data, as_json, [f"{e.kind:<9} {e.digest[:12]} {e.bytes / 1e6:9.2f} MB" for e in rows])


@store.command("verify")
def verify(as_json: AsJson = False) -> None:
    """Check every file against its checksum; exit code 3 where one differs."""
    home = Store(default_home())
    problems = [p for entry in home.ls() for p in home.verify(entry)]
    say(problems, as_json, problems or ["every file is as it was written"])
    if problems:
        raise typer.Exit(3)


@store.command("gc")
def gc(keep: list[str], dry: bool = False, as_json: AsJson = False) -> None:
    """Delete what none of the suites named (name, name:quick or file) needs."""
    from ..bench.plan import make_plan
    from ..bench.suite import load_suite

    wanted: set[str] = set()
    for name in keep:
        base, _, how = name.partition(":")
        wanted |= make_plan(load_suite(base, quick=how == "quick")).digests()
    gone = Store(default_home()).gc(wanted, dry)
    say([e.digest for e in gone], as_json, [f"{'would delete' if dry else 'deleted'} {len(gone)} folders"])
