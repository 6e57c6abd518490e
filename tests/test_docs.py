"""The documents hold: Python runs, suites parse, commands exist, links lead somewhere, and no verb is forgotten."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from gifthorse.bench.draw import cast
from gifthorse.bench.suite import parse_suite
from gifthorse.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = typer.main.get_command(app)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def verbs(command: Any = COMMAND, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every verb of the command line, as words."""
    if not hasattr(command, "commands"):
        return [path]
    return [found for name, sub in command.commands.items() for found in verbs(sub, (*path, name))]


def commands() -> list[str]:
    """Every command line of the documents."""
    shown = [line for page in PAGES for block in blocks(page, "console") for line in block.splitlines()]
    return sorted({line for line in shown if line.strip()})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIFTHORSE_HOME", str(tmp_path / "home"))
    space: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec", dont_inherit=True), space)


def test_the_tool_of_the_readme_keeps_every_rule() -> None:
    from gifthorse.testing.conformance import check_tool

    space: dict[str, Any] = {"__name__": "readme"}
    for block in blocks(ROOT / "README.md", "python"):
        exec(compile(block, "README.md", "exec", dont_inherit=True), space)
    assert check_tool(space["SureOfIt"]()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_suites_parse(page: Path) -> None:
    for block in blocks(page, "toml"):
        data = tomllib.loads(block)
        if "suite" in data:
            assert cast(parse_suite(data, page.name), 0).trojans


@pytest.mark.parametrize("line", commands())
def test_commands_exist_with_the_options_shown(line: str) -> None:
    program, *words = shlex.split(line)
    assert program == "gifthorse"
    command, path = COMMAND, ["gifthorse"]
    while hasattr(command, "commands"):
        assert words, f"{line}: a verb is missing"
        path.append(words[0])
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    command.make_context(" ".join(path), words)


def test_every_verb_and_option_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert [" ".join(v) for v in verbs() if f"`gifthorse {' '.join(v)}`" not in text] == []
    rows = dict(re.findall(r"^\| `gifthorse ([^`]+)` \|.*\| ([\d ]+) \|$", text, re.MULTILINE))
    assert sorted(rows) == sorted(" ".join(v) for v in verbs())
    options = set()
    for verb in verbs():
        command: Any = COMMAND
        for word in verb:
            command = command.commands[word]
        options |= {o for p in command.params for o in p.opts if o.startswith("--")}
    assert [o for o in sorted(options) if f"`{o}" not in text] == []


def test_exit_codes_of_the_parser_are_those_documented(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    codes = re.findall(r"^\| (\d+) \| ", text, re.MULTILINE)
    assert codes == ["0", "2", "3", "4", "130", "143"]
    env = {**os.environ, "GIFTHORSE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "gifthorse.cli", "list", "suite"], env=env, capture_output=True)
    assert done.returncode == 0


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            heads = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in heads], target


def test_the_readme_shows_the_board() -> None:
    (source,) = re.findall(r'<img src="([^"]+)"', (ROOT / "README.md").read_text())
    picture = ROOT / source
    if not picture.is_file():
        pytest.skip(f"{source} has not been made; see docs/make_picture.py")
    from PIL import Image

    with Image.open(picture) as opened:
        assert opened.width >= 2000


def test_the_readme_states_two_commands() -> None:
    lines = re.findall(r"^    (\S.*)$", (ROOT / "README.md").read_text().split("## What you get")[0], re.MULTILINE)
    assert lines == [
        "pip install -c constraints.txt . && gifthorse demo",
        "pip install -q -c constraints.txt -e '.[test]' && pytest -n 2 --dist loadfile",
    ]


def test_make_picture_says_how_to_use_it() -> None:
    pytest.importorskip("playwright")
    with contextlib.redirect_stdout(io.StringIO()):
        done = subprocess.run([sys.executable, str(ROOT / "docs" / "make_picture.py")], capture_output=True, text=True)
    assert done.returncode == 1
    assert "REPORT_FOLDER" in done.stderr
