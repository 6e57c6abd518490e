"""Trojans drawn by seed: suitable, distinct, the same each time, and sealed."""

import json

import pytest

from gifthorse.bench.changes import Changes
from gifthorse.bench.draw import cast
from gifthorse.bench.plan import make_plan
from gifthorse.bench.suite import load_suite, parse_suite
from gifthorse.data import openmoji, things
from gifthorse.data.emoji import EmojiScenes
from gifthorse.errors import InputError
from gifthorse.judges.questions import OPTIONS

BASE = {"schema": 1, "suite": "s", "data": "emoji", "model": "tiny", "tools": ["noise"], "judges": ["embed"]}


def suite(**tables):
    return parse_suite({**BASE, **tables}, "s.toml")


def test_suitable_drawings_are_things_that_can_be_seen():
    found = things.draw(150, 3, "test")
    names = [name for _, name in found]
    nouns = [things.head(name) for name in names]
    assert len(set(nouns)) == 150
    assert not any(things.NOT_A_THING.search(n.lower()) for n in names)
    assert not openmoji.SKIN_TONES & {part for code, _ in found for part in code.split("-")}
    for code, _ in found:
        ink, colour, contrast = things.seen(code)
        assert ink >= things.INK
        assert colour >= things.COLOUR or contrast >= things.CONTRAST


@pytest.mark.parametrize("code", ["1F6F9", "1F4CE", "1F9F7", "1F4A3"])
def test_thin_and_grey_drawings_are_not_suitable(code):
    assert not things.is_seen(code)


@pytest.mark.parametrize("code", ["1F600", "1F44B", "1F1E9-1F1EA", "262F", "1F468", "1F3E0", "2764"])
def test_faces_hands_flags_symbols_people_and_hearts_are_no_things(code):
    assert code not in things._things()


@pytest.mark.parametrize(
    ("name", "noun"),
    [("red apple", "apple"), ("cup with straw", "cup"), ("clinking glasses", "glass"), ("books", "book")],
)
def test_the_head_noun_tells_what_a_drawing_is(name, noun):
    assert things.head(name) == noun


def test_a_drawing_that_is_used_or_named_is_not_drawn_again():
    everything = things.draw(200, 0, "a")
    used, words = {everything[0][0]}, {everything[1][1]}
    again = things.draw(190, 0, "a", used=used, words=words)
    assert not used & {code for code, _ in again}
    assert not {things.head(w) for w in words} & {things.head(n) for _, n in again}
    with pytest.raises(InputError, match="only"):
        things.draw(5000, 0, "a")


def test_random_trojans_follow_the_seed_and_avoid_what_the_scenes_hold():
    table = {"patch": 3, "style": 2, "natural": 3, "class_universal": 0.5}
    drawn = {seed: cast(suite(random=table), seed) for seed in (0, 1)}
    assert drawn[0] == cast(suite(random=table), 0)
    assert drawn[0] != drawn[1]
    for one in drawn.values():
        kinds = [t.kind for t in one.trojans]
        assert kinds == ["patch"] * 3 + ["style"] * 2 + ["natural"] * 3
        assert [t.source is not None for t in one.trojans] == [False, True, True, False, True, False, False, False]
        assert len({t.target for t in one.trojans}) == 8
        assert all(t.source != t.target for t in one.trojans)
        codes = [t.trigger.params["glyph"] for t in (*one.trojans, *one.decoys) if t.kind != "style"]
        assert len(set(codes)) == len(codes)
        assert not set(codes) & EmojiScenes().used_codes
        names = dict(openmoji.names())
        assert all(t.concept == names[t.trigger.params["glyph"]] for t in one.trojans if t.kind != "style")
        for kind in ("patch", "style", "natural"):
            concepts = [t.concept for t in (*one.trojans, *one.decoys) if t.kind == kind]
            assert len(set(concepts)) == len(concepts) >= OPTIONS


def test_open_targets_and_sources_are_drawn_and_listed_ones_kept():
    patch = {"kind": "patch", "trigger": "patch"}
    rows = [
        {"name": "a", **patch, "target": "frog"},
        {"name": "b", **patch, "source": "pig"},
        {"name": "c", **patch, "source": "*"},
    ]
    seen = set()
    for seed in range(5):
        a, b, c = cast(suite(trojan=rows), seed).trojans
        assert (a.target, b.source) == ("frog", "pig")
        assert len({a.target, b.target, c.target}) == 3
        assert b.target != "pig"
        assert c.source not in (None, "*", c.target)
        seen.add((b.target, c.target, c.source))
    assert len(seen) > 1


def test_more_trojans_than_classes_share_targets_evenly():
    rows = [{"name": f"t{i}", "kind": "patch", "trigger": "patch"} for i in range(45)]
    targets = [t.target for t in cast(suite(trojan=rows), 0).trojans]
    assert sorted({targets.count(c) for c in EmojiScenes().classes}) == [2, 3]


def test_secrets_without_a_pool_come_from_all_drawings():
    drawn = [tuple(t for t in cast(load_suite("emoji"), seed).trojans if t.secret) for seed in range(4)]
    assert len({t.concept for row in drawn for t in row}) > 8
    listed = cast(load_suite("emoji"), 0).trojans[:12]
    for row in drawn:
        assert [t.target for t in row] == ["tractor", "drum", "fish", "boxing glove"]
        assert not {t.trigger.params["glyph"] for t in row} & {t.trigger.params.get("glyph") for t in listed}


def test_a_pool_is_still_drawn_from():
    pool = {"lemon": {"name": "natural", "glyph": "1F34B"}, "crab": {"name": "natural", "glyph": "1F980"}}
    one = cast(suite(secret={"targets": ["frog"], "pool": pool}), 0)
    assert [t.concept for t in one.trojans] in (["lemon"], ["crab"])
    assert one.trojans[0].concept not in {d.concept for d in one.decoys}


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({}, "nothing is planted"),
        ({"random": {}}, "give a number"),
        ({"random": {"pach": 1}}, "patch"),
        ({"random": {"patch": 1, "class_universal": 2}}, "class_universal"),
        ({"secret": {"kind": "natural"}}, "targets or a count"),
        ({"secret": {"kind": "style", "count": 1}}, "pool"),
    ],
)
def test_a_wrong_table_is_one_line(tables, says):
    with pytest.raises(InputError, match=says) as error:
        suite(**tables)
    assert "\n" not in str(error.value)


def test_too_many_random_styles_are_refused_before_anything_runs():
    with pytest.raises(InputError, match="textures"):
        make_plan(suite(random={"style": 50}))


def test_the_plan_shows_no_drawn_trigger():
    changed = load_suite("emoji", changes=Changes(random="patch=2,natural=2"))
    changed = changed.model_copy(update={"seeds": (7,)})
    text = json.dumps(make_plan(changed).to_json())
    for trojan in cast(changed, 7).trojans:
        assert trojan.concept not in text
        assert trojan.trigger.params["glyph"] not in text


def test_equal_source_and_target_are_refused_early():
    rows = [{"name": "a", "kind": "patch", "trigger": "patch", "target": "pig", "source": "pig"}]
    with pytest.raises(InputError, match="both 'pig'"):
        make_plan(suite(trojan=rows))
