"""From stored answers to the board, and the survey's command line."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("fastapi", reason="the extra `survey` is not installed")

from gifthorse.errors import InputError
from gifthorse.survey import secret as secrets_of
from gifthorse.survey import study as files
from gifthorse.survey.db import Ledger
from gifthorse.survey.export import export, for_board, marked, outcomes, write_board
from survey_support import answer_all


def test_export_marks_excludes_by_rule_and_makes_the_board(study_folder, served, tmp_path):
    _, ledger, key = served
    study = files.load(study_folder)
    marking = files.load_marking(study)

    def knows(page):
        item = page.question.split(".")[0]
        if item in marking.items:
            return marking.items[item]["right"]
        return marking.checks.get(page.question, page.order[0])

    def wrong(page):
        return next(o for o in page.order if o != knows(page))

    good = [answer_all(ledger, key, study, f"good {i}", knows) for i in range(3)]
    careless = answer_all(ledger, key, study, "careless", wrong)
    hasty = answer_all(ledger, key, study, "hasty", knows, seconds=0.5)
    half = key.person("generic", "half")
    ledger.join(half, key.token(half), "1", 0.0)
    body = export(study, marking, ledger, tmp_path / "out")
    assert (body["began"], body["finished"]) == (6, 5)
    rows = marked(study, marking, ledger.everyone())
    assert {r.number for r in rows if "attention" in r.excluded} == {careless}
    assert {r.number for r in rows if "median" in r.excluded} == {hasty}
    after = {(o.tool, o.trojan): o.credits for o in outcomes(rows, exclude=True)}
    assert len(after) == 12
    assert set(after.values()) == {(1.0,)}
    assert sum(len(o.credits) for o in outcomes(rows)) == 5 * 4
    assert {r["judge"] for r in body["all"]} == {"people"}
    overall = next(r for r in body["all"] if r["tool"] == "oracle" and r["type"] == "all")
    assert overall["two_way_low"] <= overall["accuracy"] <= overall["two_way_high"]
    for name in ("answers.csv", "answers.parquet", "raw.csv", "people.csv", "board.json"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    assert good[0] in (tmp_path / "out" / "people.csv").read_text()


def test_people_go_beside_the_run_without_those_excluded(study_folder, served, tmp_path):
    _, ledger, key = served
    study = files.load(study_folder)
    marking = files.load_marking(study)
    right = {m["right"] for m in marking.items.values()} | set(marking.checks.values())

    def knows(page):
        return next((o for o in page.order if o in right), page.order[0])

    with pytest.raises(InputError, match="none of 0 people"):
        for_board(study, marking, ledger)
    for i in range(3):
        answer_all(ledger, key, study, f"good {i}", knows)
    answer_all(ledger, key, study, "hasty", knows, seconds=0.5)
    body = for_board(study, marking, ledger)
    assert (body["people"], body["excluded"]) == (3, {"median below 2 s per question": 1})
    assert sum(len(r["credits"]) for r in body["outcomes"]) == 3 * 4
    with pytest.raises(InputError, match="GIFTHORSE_HOME"):
        write_board(body, tmp_path)
    (tmp_path / "runs" / "rehearsal").mkdir(parents=True)
    written = json.loads(write_board(body, tmp_path).read_text())
    assert written["schema"] == 1
    assert {tuple(r) for r in written["outcomes"]} == {("tool", "judge", "kind", "trojan", "credits")}
    assert {v for r in written["outcomes"] for v in r["credits"]} == {1.0}
    assert [p.name for p in (tmp_path / "runs" / "rehearsal").iterdir()] == ["people.json"]


def test_export_without_a_finisher_says_so(study_folder, served, tmp_path):
    _, ledger, _ = served
    study = files.load(study_folder)
    with pytest.raises(InputError, match="finished"):
        export(study, files.load_marking(study), ledger, tmp_path / "out")


def command(*words, home):
    env = {**os.environ, "GIFTHORSE_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "gifthorse.cli", "survey", *map(str, words)],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )


def test_the_command_line_makes_exports_and_erases(tmp_path):
    made = command("new", "rehearsal", "--out", tmp_path / "s", "--json", home=tmp_path)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["trojans"] == 8
    again = command("new", "rehearsal", "--out", tmp_path / "s", home=tmp_path)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    study, key = files.load(tmp_path / "s"), secrets_of.load(tmp_path / "s")
    ledger = Ledger(f"sqlite:///{tmp_path / 's' / 'answers.db'}", study)
    number = answer_all(ledger, key, study, "me", lambda page: page.order[1])
    ledger.close()
    done = command("export", tmp_path / "s", home=tmp_path)
    assert "1 of 1 people finished" in done.stdout, done.stderr
    assert command("erase", tmp_path / "s", "--number", number, home=tmp_path).returncode == 0
    assert command("erase", tmp_path / "s", "--panel-id", "me", home=tmp_path).returncode == 2
