"""Suites are strict, plans are stable, and the emoji suite is the paper's."""

import json
import tomllib

import pytest

from gifthorse.bench.draw import cast
from gifthorse.bench.plan import Cell, make_plan
from gifthorse.bench.suite import builtin_suites, load_suite, parse_suite
from gifthorse.errors import InputError


@pytest.fixture(scope="module")
def table():
    return tomllib.loads(builtin_suites()["emoji"].read_text())


def test_the_emoji_suite_plants_twelve_trojans_and_four_secret_ones():
    suite = load_suite("emoji")
    planted = cast(suite, 0).trojans
    assert len(planted) == 16
    assert [t.secret for t in planted] == [False] * 12 + [True] * 4
    assert len({t.target for t in planted}) == 16
    assert {k: sum(t.kind == k and not t.secret for t in planted) for k in ("patch", "style", "natural")} == {
        "patch": 4, "style": 4, "natural": 4
    }  # fmt: skip
    drawn = [tuple(t.concept for t in cast(suite, s).trojans if t.secret) for s in range(6)]
    assert len(set(drawn)) > 1
    assert drawn[0] == tuple(t.concept for t in cast(load_suite("emoji"), 0).trojans if t.secret)


def test_every_trojan_finds_seven_decoys_of_its_kind():
    for suite in (load_suite("emoji"), load_suite("emoji", quick=True)):
        options = [*cast(suite, 0).trojans, *cast(suite, 0).decoys]
        for trojan in cast(suite, 0).trojans:
            assert len({o.concept for o in options if o.kind == trojan.kind}) >= 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"picturs": 3}, "pictures"),
        ({"tools": ["snafu"]}, "snafue"),
        ({"seeds": []}, "seed"),
        ({"gates": {"clean_acuracy": 1}}, "clean_accuracy"),
        ({"schema": 2}, "schema"),
    ],
)
def test_a_wrong_key_or_name_is_one_line_with_a_suggestion(table, change, says):
    with pytest.raises(InputError, match=says) as error:
        parse_suite({**table, **change}, "x.toml")
    assert "\n" not in str(error.value)


def test_a_wrong_recipe_key_is_named_before_anything_runs(table):
    suite = parse_suite({**table, "train": {"epoch": 3}}, "x.toml")
    with pytest.raises(InputError, match="epochs"):
        make_plan(suite)


def test_plans_are_stable_and_show_no_trigger():
    suite = load_suite("emoji", quick=True)
    plan, again = make_plan(suite), make_plan(suite)
    assert [c.digest for c in plan.cells()] == [c.digest for c in again.cells()]
    text = json.dumps(plan.to_json())
    assert "1F374" not in text
    assert "apple" not in text
    for cell in plan.cells("run"):
        assert "trojans" not in cell.spec  # what a tool's process is sent holds no answer
        assert Cell.from_json(json.loads(json.dumps(cell.to_json()))).digest == cell.digest


def test_another_tool_or_seed_changes_only_its_own_cells():
    suite = load_suite("emoji", quick=True)
    less = suite.model_copy(update={"tools": suite.tools[:-1]})
    assert make_plan(less).digests() < make_plan(suite).digests()
    assert not make_plan(suite.model_copy(update={"seeds": (7,)})).digests() & make_plan(suite).digests()
