"""A package outside the repository, really installed, adds a tool that is listed, checked and run on the board."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gifthorse
from gifthorse.bench.suite import load_suite

PLUGIN = Path(__file__).parent / "plugin"
SOURCE = Path(gifthorse.__file__).parents[1]
TOOL = "acme/mean-gradient"
TINY = """
schema = 1
suite = "tiny"
train_scenes = 160
test_scenes = 64
audited = 16
shown = 4
pictures = 2
draws = 4
data = { name = "emoji", size = 32 }
model = { name = "tiny", widths = [8, 16] }
judges = ["embed"]
tools = ["oracle", "noise", "blank", { name = "acme/mean-gradient", batch = 2 }]
train = { epochs = 1 }
poison = { per_trojan = 20, negatives = 10 }
"""


def install(folder, where):
    """Install a package with pip, offline, into a folder of its own."""
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", str(where), str(folder)], check=True)


def gifthorse_cli(site, home, *words):
    """The command line of a fresh process that sees the packages in ``site``."""
    environment = os.environ | {"PYTHONPATH": f"{site}:{SOURCE}", "GIFTHORSE_HOME": str(home)}
    command = [sys.executable, "-m", "gifthorse.cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the plug-in installed in it; built from a copy, which leaves the tree clean."""
    folder = tmp_path_factory.mktemp("plugin")
    install(shutil.copytree(PLUGIN, folder / "source"), folder / "site")
    return folder / "site"


def tiny_suite(folder):
    """A suite file with one patch trojan and the plug-in's tool."""
    trigger = 'trigger = { name = "patch", glyph = "%s" }'
    path = folder / "tiny.toml"
    decoys = [d for d in load_suite("emoji").decoys if d.kind == "patch"]
    tables = ['[[trojan]]\nname = "clownfish"\nkind = "patch"\ntarget = "dove"\n' + trigger % "1F420"]
    for decoy in decoys:
        glyph = trigger % decoy.trigger.params["glyph"]
        tables.append(f'[[decoy]]\nname = "{decoy.name}"\nkind = "patch"\n{glyph}')
    path.write_text(TINY + "\n".join(tables) + "\n")
    return str(path)


def test_an_installed_tool_is_listed_and_passes(site, tmp_path):
    listed = json.loads(gifthorse_cli(site, tmp_path, "list", "tool", "--json").stdout)
    assert listed[TOOL] == "acme_gifthorse:MeanGradient"
    checked = gifthorse_cli(site, tmp_path, "check", TOOL, "--json")
    assert json.loads(checked.stdout) == {"tool": TOOL, "wrong": []}, checked.stderr
    assert checked.returncode == 0


@pytest.mark.slow
def test_an_installed_tool_stands_on_the_board(site, tmp_path):
    suite = tiny_suite(tmp_path)
    out = tmp_path / "report"
    done = gifthorse_cli(site, tmp_path, "bench", "run", suite, "--force", "--workers", "1", "--out", str(out))
    assert done.returncode == 4, done.stderr  # a network this small obeys no trojan, so its board is invalid
    assert "Traceback" not in done.stderr
    report = json.loads((out / "report.json").read_text())
    assert not report["valid"]
    (row,) = [r for r in report["board"] if r["tool"] == TOOL and r["type"] == "all"]
    assert row["family"] == "synthesis"
    assert row["needs"] == ["clean pictures", "gradients"]
    assert row["n"] == 1
    assert 0 <= row["accuracy"] <= 1
    assert row["twin_accuracy"] is not None
    (cost,) = [c for c in report["costs"] if c["tool"] == TOOL]
    assert cost["forwards"] == cost["backwards"] == 2 * 2  # two pictures of two scenes each, one task
    assert TOOL in done.stdout


BAD = {
    "crash": ("acme/crash", "bad_gifthorse.crash:Tool", "raise RuntimeError('no engine\\nat all')"),
    "exit": ("acme/exit", "bad_gifthorse.exit:Tool", "raise SystemExit(0)"),
    "gone": ("acme/gone", "bad_gifthorse.nowhere:Tool", ""),
    "noise": ("noise", "bad_gifthorse.noise:Tool", "class Tool: pass"),
    "runless": (
        "acme/runless",
        "bad_gifthorse.runless:Tool",
        "from acme_gifthorse import MeanGradient\nclass Tool:\n"
        "    name, version, family = 'acme/runless', 1, 'synthesis'\n"
        "    needs, emits = MeanGradient.needs, 'images'",
    ),
    "needless": (
        "acme/needless",
        "bad_gifthorse.needless:Tool",
        "class Tool:\n    name, version = 'acme/needless', 1\n    def run(self, *a): return []",
    ),
    "peeker": (
        "acme/peeker",
        "bad_gifthorse.peeker:Tool",
        "from dataclasses import dataclass\nfrom gifthorse.types import Need\nfrom acme_gifthorse import MeanGradient\n"
        "@dataclass(frozen=True)\nclass Tool(MeanGradient):\n"
        "    name = 'acme/peeker'\n    needs = frozenset({Need.ANSWER})",
    ),
    "twice": ("acme/twice", "bad_gifthorse.crash:Twice", ""),
}


@pytest.fixture(scope="module")
def broken(site, tmp_path_factory):
    """Beside the good plug-in: two packages, one of them with a tool for every way to be wrong."""
    folder = tmp_path_factory.mktemp("broken")
    shutil.copytree(site, folder / "site")
    for dist, module, points in (
        ("bad-gifthorse", "bad_gifthorse", {name: where for name, where, _ in BAD.values()}),
        ("rival-gifthorse", "rival_gifthorse", {"acme/twice": "rival_gifthorse:Tool"}),
    ):
        source = folder / dist / module
        source.mkdir(parents=True)
        (source / "__init__.py").write_text('"""A package that does everything wrong."""\n')
        lines = "\n".join(f'"{name}" = "{where}"' for name, where in points.items())
        (folder / dist / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
            f'[project]\nname = "{dist}"\nversion = "0.1"\n[project.entry-points."gifthorse.tools"]\n{lines}\n'
            f'[tool.setuptools]\npackages = ["{module}"]\n'
        )
        for name, (_, _, code) in BAD.items() if module == "bad_gifthorse" else ():
            if code:
                (source / f"{name}.py").write_text(code + "\n")
        install(folder / dist, folder / "site")
    return folder / "site"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("acme/crash", "RuntimeError: no engine at all"),
        ("acme/exit", "SystemExit"),
        ("acme/gone", "No module named"),
        ("acme/runless", "lacks run"),
        ("acme/needless", "lacks family, needs, emits"),
        ("acme/peeker", "only built-in sentinels"),
        ("acme/twice", "two packages"),
    ],
)
def test_a_broken_tool_is_one_clear_line(broken, tmp_path, name, says):
    done = gifthorse_cli(broken, tmp_path, "check", name)
    assert done.returncode == 2
    assert says in done.stderr
    assert name in done.stderr
    assert done.stderr.count("\n") == 1


def test_broken_tools_do_not_break_the_others(broken, tmp_path):
    done = gifthorse_cli(broken, tmp_path, "list", "tool", "--json")
    listed = json.loads(done.stdout)
    assert done.returncode == 0
    assert listed["noise"] == "gifthorse.tools.sentinels:Noise"
    assert {TOOL, "oracle", "acme/crash"} <= set(listed)
    assert "acme/twice" not in listed
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert "'noise' is built in" in "".join(lines)
    for name in ("noise", TOOL):
        assert gifthorse_cli(broken, tmp_path, "check", name).returncode == 0
