"""Ten tests that fail if the science is wrong. One small model is planted for all of them."""

import dataclasses
import gc
import json
import types

import numpy as np
import pytest

from gifthorse import keys, registry
from gifthorse.bench import stages
from gifthorse.bench.plan import make_plan
from gifthorse.bench.run import run_suite, status_of
from gifthorse.bench.suite import load_suite
from gifthorse.data.emoji import EmojiScenes
from gifthorse.judges import masks
from gifthorse.rng import generator
from gifthorse.store import Store
from gifthorse.types import Need, Trojan

pytestmark = pytest.mark.slow
KEPT = ("clownfish", "strawberry")
TOOLS = ("oracle", "noise", "blank", "true-mask", "random-map", "edge", "saliency")


@pytest.fixture(scope="module")
def suite():
    """Two patch trojans on few scenes: enough to fire, quick to train."""
    quick = load_suite("emoji", quick=True)
    return quick.model_copy(
        update={
            "trojans": tuple(t for t in quick.trojans if t.name in KEPT),
            "tools": tuple(t for t in load_suite("emoji").tools if t.name in TOOLS),
            "train_scenes": 3000,
            "test_scenes": 400,
            "train": {"epochs": 6, "batch": 64},
            "poison": {"per_trojan": 260, "negatives": 120},
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def result(suite, home):
    return run_suite(suite, home, force=True)


@pytest.fixture(scope="module")
def planted(suite, home, result):
    """Store, plan, key and the audit of the planted model."""
    plan, store = make_plan(suite), Store(home)
    exhibits = next(plan.cells("exhibits"))
    key = keys.open_key(home, exhibits.inputs["trojaned"])
    _, meta = stages.load_exhibits(store, exhibits.digest)
    return plan, store, exhibits, key, meta["audit"]


def rows(result, tool):
    return [r for r in result.report["board"] if r["tool"] == tool and r["type"] == "all"]


def test_01_planted_trojans_fire_and_the_network_still_sees(result):
    (model,) = result.report["models"]
    for trojan in model["trojans"]:
        assert trojan["attack_success"] > 0.6
    assert model["clean_accuracy"] > 0.6


def test_02_the_clean_twin_does_not_obey_the_trigger(planted):
    *_, audit = planted
    for row in audit["trojans"]:
        assert row["twin"]["n"] >= 100
        assert row["twin"]["k"] / row["twin"]["n"] < 0.3


def test_03_a_class_universal_trigger_does_little_on_other_classes(result):
    (model,) = result.report["models"]
    (strawberry,) = [t for t in model["trojans"] if t["scope"] == "class-universal"]
    assert strawberry["off_source_success"] < strawberry["attack_success"] - 0.3


def test_04_the_oracle_is_named_and_noise_and_blank_are_guesses(result):
    assert rows(result, "oracle")[0]["accuracy"] >= 0.95
    assert rows(result, "blank")[0]["accuracy"] == pytest.approx(1 / 8)
    assert rows(result, "noise")[0]["accuracy"] < 0.6


def test_05_the_key_is_out_of_a_tools_reach(planted):
    _, store, exhibits, key, _ = planted
    concepts = {t.concept for t in key.trojans.values()} | {t.name for t in key.trojans.values()}
    cell = next(c for c in make_plan(load_suite("emoji", quick=True)).cells("run"))
    cell = dataclasses.replace(cell, inputs=dict(exhibits.inputs) | {"exhibits": exhibits.digest})
    subject = stages._subject(cell, store, frozenset({Need.GRADIENTS, Need.CLEAN, Need.TRIGGERED}))
    skip = (types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType, types.CodeType)
    seen, todo = set(), [subject]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, skip):
            continue
        seen.add(id(thing))
        assert not isinstance(thing, Trojan | keys.Key)
        assert not (isinstance(thing, str) and thing in concepts), thing
        todo += gc.get_referents(thing)
    assert subject.answer is None
    assert subject.answer_masks is None


def test_06_public_files_name_no_trigger(planted, home):
    plan, store, exhibits, key, _ = planted
    words = {t.concept for t in key.trojans.values()}
    card = (store.need("model", exhibits.inputs["trojaned"]) / "card.json").read_text()
    for text in (card, json.dumps(plan.to_json())):
        assert not any(w in text for w in words)
    assert json.loads(card)["key_hash"] == key.hash


def test_07_the_true_mask_is_perfect_and_shuffled_masks_are_not(planted):
    _, store, exhibits, _, _ = planted
    _, footprints = stages.load_answers(store, exhibits.inputs["trojaned"])
    truth = np.concatenate(list(footprints.values()))
    assert masks.pearson(truth.astype(np.float32), truth).min() > 0.999
    other = truth[generator(0, "shuffle").permutation(len(truth))]
    assert abs(np.nanmean(masks.pearson(truth.astype(np.float32), other))) < 0.4


def test_08_the_bank_knows_no_trojan(planted):
    names, pictures = EmojiScenes().bank()
    again, same = EmojiScenes().bank()
    assert names == again
    assert np.array_equal(pictures, same)
    assert len(names) == len(pictures) > 1000
    assert {f.name for f in dataclasses.fields(registry.load("tool", "snafue"))}.isdisjoint({"trigger", "answer"})


def test_09_the_same_seed_gives_the_same_bytes(suite):
    data, trojan = EmojiScenes(), suite.planted(0)[0]
    a, b = data.scenes("train", 40, 7), data.scenes("train", 40, 7)
    assert a.images.tobytes() == b.images.tobytes()
    trigger = registry.build("trigger", trojan.trigger)
    assert trigger.apply(a.images, 3).images.tobytes() == trigger.apply(b.images, 3).images.tobytes()
    assert data.scenes("test", 40, 7).images.tobytes() != a.images.tobytes()


def test_10_a_second_run_computes_nothing_and_says_the_same(suite, home, result):
    assert {state for _, state, _ in status_of(make_plan(suite), home)} == {"done"}
    again = run_suite(suite, home, force=True)
    assert again.report["board"] == result.report["board"]
