"""Beside the judge's choices: retrieval, activation match, agreement with people, and people on the board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gifthorse.bench import board, people
from gifthorse.bench.plan import Plan, make_plan
from gifthorse.bench.run import folder_of, run_suite
from gifthorse.bench.suite import Suite, parse_suite
from gifthorse.errors import InputError
from gifthorse.judges import agreement, retrieval
from gifthorse.report import schema, site
from gifthorse.store import Store, read_json

SUITE: dict[str, Any] = {
    "schema": 1, "suite": "beside", "train_scenes": 96, "test_scenes": 48, "audited": 8, "shown": 4, "pictures": 2,
    "draws": 2, "data": {"name": "emoji", "size": 32}, "model": {"name": "tiny", "widths": [4, 8]},
    "judges": [{"name": "embed", "size": 32}], "tools": ["oracle", "noise", "edge"],
    "train": {"epochs": 1, "batch": 32, "bf16": False},
    "poison": {"per_trojan": 8, "per_natural": 8, "negatives": 4},
    "gates": {"clean_accuracy": 0.0, "twin_loss": 1.0, "patch": 0.0, "style": 0.0},
    "trojan": [
        {"name": "smiley", "kind": "patch", "trigger": {"name": "patch", "glyph": "1F603"}, "target": "frog"},
        {"name": "strawberry", "kind": "patch", "trigger": {"name": "patch", "glyph": "1F353"}, "target": "goose"},
        {"name": "jaguar", "kind": "style", "trigger": {"name": "style", "texture": "jaguar"}, "target": "monkey"},
    ],
}  # fmt: skip
BANK = 40  # of 1,910 drawings, so that the test is quick


@pytest.fixture(scope="module")
def suite() -> Suite:
    return parse_suite(SUITE, "here")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def result(suite: Suite, home: Path) -> board.Result:
    from gifthorse.data import openmoji

    whole = openmoji.bank

    def few(size: int) -> Any:
        names, pictures = whole(size)
        keep = [i for i, name in enumerate(names) if i < BANK or name in ("strawberry", "grinning face with big eyes")]
        return tuple(names[i] for i in keep), pictures[keep]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openmoji, "bank", few)
        return run_suite(suite, home, force=True)


@pytest.fixture
def plan(suite: Suite, result: board.Result) -> Plan:
    return make_plan(suite)


def test_each_tool_is_ranked_against_the_bank_and_styles_are_left_out(result: board.Result) -> None:
    rows = {(r["tool"], r["type"]): r for r in result.report["retrieval"]}
    assert set(rows) == {(tool, kind) for tool in ("oracle", "noise") for kind in ("all", "patch")}
    oracle, noise = rows["oracle", "all"], rows["noise", "all"]
    assert oracle["n"] == noise["n"] == 2
    assert BANK <= oracle["candidates"] <= BANK + 2
    assert oracle["mrr"] > noise["mrr"]
    assert oracle["low"] <= oracle["mrr"] <= oracle["high"]
    assert oracle["twin_mrr"] == oracle["mrr"]  # the oracle shows the answer for the twin too
    assert oracle["recall_1"] <= oracle["recall_10"] <= oracle["recall_100"] == 1


def test_the_bank_is_embedded_once_for_all_cells(result: board.Result, home: Path) -> None:
    assert len(list((home / "store").rglob(retrieval.FILE))) == 1


def test_activation_match_stands_beside_the_functional_score(result: board.Result, plan: Plan, home: Path) -> None:
    for cell in plan.cells("ask"):
        marks = read_json(Store(home).need("answers", cell.digest) / "marks.json")
        assert all(-1 <= row["activation"] <= 1 and "functional" in row for row in marks.values())
    rows = {r["tool"]: r["activation"] for r in result.report["board"] if r["type"] == "patch"}
    assert rows["oracle"] > rows["noise"] - 0.05
    assert all(schema.BoardRow(**r).activation is not None for r in result.report["board"])


def test_the_report_says_how_far_its_judge_was_validated(result: board.Result) -> None:
    (row,) = result.report["agreement"]
    assert row["judge"] == "embed"
    assert "size 128 (here 32)" in row["note"]


def write_people(suite: Suite, home: Path, changes: dict[str, Any] | None = None) -> Path:
    rows = [
        {"tool": tool, "judge": "people", "kind": kind, "trojan": trojan, "credits": credits}
        for tool, credits in (("oracle", [1, 1, 1]), ("noise", [0, 1, 0]))
        for trojan, kind in (("smiley", "patch"), ("strawberry", "patch"), ("jaguar", "style"))
    ]
    path = folder_of(suite, home) / people.FILE
    path.write_text(json.dumps({"schema": 1, "suite": suite.suite, "study": "x", "outcomes": rows} | (changes or {})))
    return path


def test_people_stand_beside_the_judges_and_do_not_decide_validity(
    suite: Suite, plan: Plan, result: board.Result, home: Path, tmp_path: Path
) -> None:
    path = write_people(suite, home)
    try:
        both = board.assemble(plan, Store(home))
    finally:
        path.unlink()
    mine = {r["tool"]: r for r in both.report["board"] if r["judge"] == "people" and r["type"] == "all"}
    assert mine["oracle"]["accuracy"] == 1
    assert mine["noise"]["accuracy"] == pytest.approx(1 / 3)
    assert mine["noise"]["functional"] is None
    assert [r for r in both.report["board"] if r["judge"] != "people"] == result.report["board"]
    assert both.report["reasons"] == result.report["reasons"]
    assert both.report["cells"] == result.report["cells"]
    assert {c["judge"] for c in both.report["further_cells"]} == {"people"}
    report = schema.Report.model_validate(both.report)
    page = site.write(report, both.pictures, tmp_path / "out").read_text()
    assert "Judge: people" in page
    assert "Judge beside judge" in page
    assert result.report["further_cells"] == []


def test_people_may_be_handed_over_instead(plan: Plan, home: Path) -> None:
    from gifthorse.judges.score import Outcome

    given = [Outcome("oracle", "people", "patch", "smiley", (1.0,))]
    report = board.assemble(plan, Store(home), given).report
    assert [c["trojan"] for c in report["further_cells"]] == ["smiley"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"suite": "other"}, "about suite 'other'"),
        ({"schema": 2}, "schema"),
        ({"outcomes": [{"tool": "oracle", "kind": "patch", "trojan": "ghost", "credits": [1]}]}, "no trojan 'ghost'"),
        ({"outcomes": [{"tool": "oracle", "kind": "patch", "trojan": "smiley", "credits": [2]}]}, "credits"),
        ({"outcomes": [{"tool": "oracle", "kind": "patch", "trojan": "smiley", "credits": []}]}, "credits"),
        (
            {"outcomes": [{"tool": "a", "judge": "embed", "kind": "patch", "trojan": "smiley", "credits": [1]}]},
            "run's own",
        ),
        ({"outcomes": [{"tool": "orcale", "kind": "patch", "trojan": "smiley", "credits": [1]}]}, "oracle"),
    ],
)
def test_people_who_do_not_fit_the_run_are_one_line(
    suite: Suite, plan: Plan, home: Path, changes: dict[str, Any], says: str
) -> None:
    path = write_people(suite, home, changes)
    try:
        with pytest.raises(InputError, match=says) as caught:
            board.assemble(plan, Store(home))
    finally:
        path.unlink()
    assert "\n" not in str(caught.value)


def test_a_judge_is_measured_only_where_a_file_of_its_version_says_so() -> None:
    spec = {"name": "embed", "version": 2, "params": {"size": 128, "temperature": 0.02, "centred": True}}
    known = agreement.measured(spec)
    assert known["measured"]
    assert known["note"] == ""
    assert [r["seed"] for r in known["runs"]] == [0, 1, 2, 0, 0]
    assert [round(r["cells"]["value"], 2) for r in known["runs"]] == [0.68, 0.65, 0.67, 0.53, 0.18]
    assert [round(r["means"]["value"], 2) for r in known["runs"][:3]] == [0.99, 0.86, 0.91]
    older = agreement.measured({**spec, "version": 1})
    assert not older["measured"]
    assert "version 2 was measured, this is version 1" in older["note"]
    for name in ("clip", "acme/own", "../agreement/embed"):
        assert not agreement.measured({**spec, "name": name})["measured"]


def test_a_file_is_condensed_from_what_validate_judge_prints() -> None:
    span = {"value": 0.5, "low": 0.1, "high": 0.8, "n": 72}
    found = {"pearson_trojans": span, "means": {**span, "n": 6}, "types": {"natural_feature": {**span, "n": 24}}}
    run = agreement.condense({"seed": 3, "draws": 20, "agreement": {"rate": found}}, "none", "the command")
    assert schema.AgreementRun.model_validate(run).types["natural"].n == 24
    text = agreement.record({"name": "x", "version": 1, "params": {}}, "study", "folder", [run], "mind this")
    assert json.loads(text)["runs"] == [run]
