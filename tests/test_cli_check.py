"""`gifthorse check`: the verb says what is wrong, in words and by its exit code."""

import json

from typer.testing import CliRunner

from gifthorse.cli.app import app


def test_a_built_in_tool_keeps_every_rule():
    done = CliRunner().invoke(app, ["check", "noise", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"tool": "noise", "wrong": []}


def test_a_tool_that_returns_nothing_is_told_so(monkeypatch):
    from gifthorse.tools.sentinels import Noise

    monkeypatch.setattr(Noise, "run", lambda *_: [])
    done = CliRunner().invoke(app, ["check", "noise"])
    assert done.exit_code == 3
    assert "tasks are ['t01', 't02']" in done.stdout
