"""The command line gives one line and the right exit code."""

import json
import os
import subprocess
import sys

import pytest


def run(tmp_path, *words):
    env = {**os.environ, "GIFTHORSE_HOME": str(tmp_path)}
    return subprocess.run(
        [sys.executable, "-m", "gifthorse.cli", *words], capture_output=True, text=True, env=env, check=False
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("list", "tol"), "tool"),
        (("show", "snafu"), "snafue"),
        (("bench", "plan", "emojy"), "emoji"),
        (("bench", "plan", "none.toml"), "none.toml"),
        (("card", "abc"), "store ls"),
        (("report", "emoji", "--quick"), "bench run"),
        (("frobnicate",), "frobnicate"),
        (("bench", "run", "emoji", "--device", "nowhere"), "leave --device out"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, words, says):
    done = run(tmp_path, *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_plan_and_status_speak_json(tmp_path):
    plan = run(tmp_path, "bench", "plan", "emoji", "--quick", "--json")
    assert plan.returncode == 0, plan.stderr
    cells = json.loads(plan.stdout)["cells"]
    status = run(tmp_path, "bench", "status", "emoji", "--quick", "--json")
    rows = json.loads(status.stdout)
    assert [r["digest"] for r in rows] == [c["digest"] for c in cells]
    assert {r["state"] for r in rows} == {"missing"}


def test_an_empty_store_verifies(tmp_path):
    assert run(tmp_path, "store", "verify").returncode == 0
    assert "oracle" in run(tmp_path, "list", "tool").stdout
