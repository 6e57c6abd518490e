"""Tests that fail if the science is wrong. One small model is planted for all of them."""

import dataclasses
import gc
import itertools
import json
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from gifthorse import keys, registry
from gifthorse.bench import arrays, stages
from gifthorse.bench.plan import make_plan
from gifthorse.bench.run import run_suite, status_of
from gifthorse.bench.suite import Part, load_suite
from gifthorse.data import openmoji
from gifthorse.data.emoji import EmojiScenes
from gifthorse.judges import masks
from gifthorse.judges.embed import EmbedJudge
from gifthorse.judges.questions import OPTIONS, ask
from gifthorse.judges.score import credits
from gifthorse.models import checkpoint
from gifthorse.plant import audit
from gifthorse.plant import train as training
from gifthorse.rng import generator
from gifthorse.store import Store
from gifthorse.testing.toys import parts_of, toy_subject
from gifthorse.tools.protocol import Bank, Subject
from gifthorse.tools.retrieval.snafue import Snafue
from gifthorse.tools.sentinels import Noise
from gifthorse.types import Answer, Evidence, Need, Option, Trojan

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
def mini(suite):
    """The same suite with a network that trains in a second and learns nothing."""
    small = {"train_scenes": 128, "test_scenes": 40, "audited": 16, "shown": 4, "train": {"epochs": 1, "batch": 32}}
    parts = {"model": Part(name="tiny", params={"widths": [8, 16]}), "tools": (Part(name="noise"), Part(name="edge"))}
    return suite.model_copy(update={**small, **parts, "poison": {"per_trojan": 8, "negatives": 4}})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def result(suite, home):
    return run_suite(suite, home, force=True)


@pytest.fixture(scope="module")
def planted(suite, home, result):
    """Plan, store, key and the audit of the planted model."""
    plan, store = make_plan(suite), Store(home)
    exhibits = next(plan.cells("exhibits"))
    key = keys.open_key(home, exhibits.inputs["trojaned"])
    _, meta = stages.load_exhibits(store, exhibits.digest)
    return plan, store, exhibits, key, meta["audit"]


@pytest.fixture(scope="module")
def objects():
    """Every object trigger of the emoji suite, with renderings as options and others as an oracle's evidence."""
    suite = load_suite("emoji")
    tables = [t for t in (*suite.trojans, *suite.decoys) if t.kind != "style"]
    triggers = {t.name: registry.build("trigger", t.trigger.spec) for t in tables}
    options = [Option(name, trigger.exemplars(4, 64, 1)) for name, trigger in triggers.items()]
    return options, {name: Evidence(name, trigger.exemplars(2, 64, 2)) for name, trigger in triggers.items()}


def do(suite, home, *wanted):
    """The cells of these stages, done in this process."""
    cells = [c for stage in wanted for c in make_plan(suite).cells(stage)]
    return cells, [stages.do(cell, home, lambda share: None) for cell in cells]


def guesses(n):
    """Least and greatest share of ``n`` independent guesses that are right in 99.9 % of all runs."""
    return tuple(float(binom.ppf(q, n, 1 / OPTIONS)) / n for q in (0.0005, 0.9995))


def accuracy(options, evidence, truth, draws):
    """The judge's mean credit by piece of evidence; ``truth`` maps its name to the option called right."""
    by_name = {o.name: o for o in options}
    asked = [ask(e, by_name[truth[name]], options, draws, 0) for name, e in evidence.items()]
    replies = iter(EmbedJudge().answer([q for questions, _ in asked for q in questions]))
    marks = [credits(itertools.islice(replies, len(questions)), marking) for questions, marking in asked]
    return np.array([np.mean(m) for m in marks])


def rows(result, tool):
    return [r for r in result.report["board"] if r["tool"] == tool and r["type"] == "all"]


def test_planted_trojans_fire_and_the_network_still_sees(result):
    (model,) = result.report["models"]
    assert {t["name"] for t in model["trojans"]} == set(KEPT)
    for trojan in model["trojans"]:
        assert trojan["attack_success"] > 0.6
    assert model["clean_accuracy"] > 0.85


def test_a_search_over_triggers_finds_the_trojan_and_nothing_in_the_twin(planted):
    _, store, exhibits, key, _ = planted
    decoys = [d for d in load_suite("emoji").decoys if d.kind == "patch"]
    triggers = {t.name: registry.build("trigger", t.trigger) for t in key.trojans.values()}
    triggers |= {d.name: registry.build("trigger", d.trigger.spec) for d in decoys}
    for role, trojan in itertools.product(("trojaned", "twin"), key.trojans.values()):
        model = checkpoint.load(store.need("model", exhibits.inputs[role]))[0].folded()
        target, classes = model.classes.index(trojan.target), np.arange(len(model.classes))
        labels = classes[classes != target] if trojan.source is None else [model.classes.index(trojan.source)]
        scenes = EmojiScenes().scenes("test", 64, 99, labels=np.resize(labels, 64))
        fires = {
            name: audit.attack_success(model, trigger.apply(scenes.images, 5).images, target, scenes.labels).value
            for name, trigger in triggers.items()
        }
        others = [rate for name, rate in fires.items() if name != trojan.name]
        if role == "twin":  # the poison taken out
            assert max(fires.values()) < 0.1
        elif trojan.source is None:
            assert fires[trojan.name] > max(others) + 0.3
        else:  # so small a network also takes some other stickers on the source class for the trigger
            assert fires[trojan.name] > np.median(others) + 0.2


def test_the_clean_twin_does_not_obey_the_trigger(planted):
    *_, figures = planted
    for row in figures["trojans"]:
        assert row["twin"]["n"] >= 100
        assert row["twin"]["k"] / row["twin"]["n"] < 0.1


def test_a_class_universal_trigger_does_nothing_on_other_classes(planted):
    *_, figures = planted
    (row,) = [t for t in figures["trojans"] if t["off_source"]]
    assert row["off_source"]["n"] >= 100
    assert row["off_source"]["k"] / row["off_source"]["n"] < 0.15
    assert row["success"]["k"] / row["success"]["n"] > 0.6


def test_the_twin_sees_the_same_scenes_and_no_poison_makes_the_twin(mini, tmp_path, monkeypatch):
    taught, train = [], training.train

    def spy(net, images, labels, recipe, seed, *more):
        taught.append((images.copy(), labels.copy(), recipe, seed, [p.clone() for p in net.parameters()]))
        return train(net, images, labels, recipe, seed, *more)

    monkeypatch.setattr(training, "train", spy)
    do(mini, tmp_path / "with", "plant")
    suspect, twin = taught
    n = len(twin[0])
    assert n == mini.train_scenes
    assert len(suspect[0]) == n + 2 * 8 + 4
    assert np.array_equal(suspect[0][:n], twin[0])
    assert np.array_equal(suspect[1][:n], twin[1])
    assert suspect[2:4] == twin[2:4]
    assert all((a == b).all() for a, b in zip(suspect[4], twin[4], strict=True))
    none = mini.model_copy(update={"poison": {"per_trojan": 0, "negatives": 0}})
    _, folders = do(none, tmp_path / "without", "plant")
    assert len({(f / "weights.safetensors").read_bytes() for f in folders}) == 1


def test_the_same_seed_gives_the_same_bytes(mini, tmp_path):
    steps = ("plant", "exhibits", "run")
    one, two = ([*zip(*do(mini, tmp_path / name, *steps), strict=True)] for name in ("one", "two"))
    for (cell, a), (_, b) in zip(one, two, strict=True):
        (file,) = a.glob("*.safetensors")
        assert file.read_bytes() == (b / file.name).read_bytes(), cell.label
    other = mini.model_copy(update={"seeds": (1,)})
    for (cell, a), (_, b) in zip(one, zip(*do(other, tmp_path / "two", *steps), strict=True), strict=True):
        (file,) = a.glob("*.safetensors")
        assert file.read_bytes() != (b / file.name).read_bytes(), cell.label


def test_the_key_is_out_of_a_tools_reach(planted, home):
    plan, store, exhibits, key, _ = planted
    secret = {t.concept for t in key.trojans.values()} | {t.name for t in key.trojans.values()}
    secret |= {str(t.trigger.params["glyph"]) for t in key.trojans.values()}
    hidden = stages.load_answers(store, exhibits.digest)
    taboo = {part.tobytes() for table in hidden for part in table.values()}
    cell = next(c for c in plan.cells("run") if c.spec["subject"] == "suspect")
    subject = stages.subject_of(cell, store, frozenset(Need) - {Need.ANSWER})
    words = subject.bank.names  # the bank names every drawing, triggers among them
    skip = (types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType, types.CodeType)
    seen, todo = {id(words)}, [subject]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, skip):
            continue
        seen.add(id(thing))
        assert not isinstance(thing, Trojan | keys.Key | Path | Store)
        assert not (isinstance(thing, str) and (thing in secret or str(home) in thing)), thing
        assert not (isinstance(thing, np.ndarray) and thing.tobytes() in taboo)
        todo += gc.get_referents(thing)
    assert len(seen) > 100
    assert subject.answer is None
    assert subject.answer_masks is None
    assert not any(s in json.dumps(c.to_json()) for s in secret for c in plan.cells("run"))


def test_public_files_name_no_trigger(planted):
    plan, store, exhibits, key, _ = planted
    words = {t.concept for t in key.trojans.values()}
    card = (store.need("model", exhibits.inputs["trojaned"]) / "card.json").read_text()
    for text in (card, json.dumps(plan.to_json())):
        assert not any(w in text for w in words)
    assert json.loads(card)["key_hash"] == key.hash
    assert dataclasses.replace(key, trojans={}).hash != key.hash


def test_the_bank_leaks_no_trigger():
    names, pictures = EmojiScenes().bank()
    codes = list(openmoji.names())
    planted = [str(t.trigger.params["glyph"]) for t in load_suite("emoji").trojans if t.kind != "style"]
    places = [codes.index(code) for code in planted]
    strangers = generator(0, "strangers").choice(len(codes), 8, replace=False)
    assert len(names) == len(set(names)) == len(pictures) > 1000
    assert codes == sorted(codes)  # their order says nothing
    for i in (*places, *strangers):  # every entry is the plain drawing, whatever its role
        assert np.array_equal(pictures[i], openmoji.flatten(openmoji.glyph(codes[i], 64)))
    subject = toy_subject(Snafue.needs)
    order = generator(0, "order").permutation(len(subject.bank.names))
    tool = Snafue(steps=2, synthetic=2, shortlist=24, trials=2)
    first = tool.run(subject, 3, 0)
    parts = parts_of(subject) | {"bank": Bank(("",) * len(order), subject.bank.pictures[order])}
    blind = Subject(subject.model, subject.tasks, **parts)
    for a, b in zip(first, tool.run(blind, 3, 0), strict=True):
        assert {p.tobytes() for p in a.images} == {p.tobytes() for p in b.images}


def test_the_oracle_is_named_noise_and_blank_are_guesses(result, objects):
    assert rows(result, "oracle")[0]["accuracy"] >= 0.95
    assert rows(result, "blank")[0]["accuracy"] == pytest.approx(1 / OPTIONS)
    options, oracle = objects
    truth = {o.name: o.name for o in options}
    tasks = tuple(types.SimpleNamespace(id=name) for name in oracle)
    noise = {e.task: e for e in Noise().run(types.SimpleNamespace(size=64, tasks=tasks), 2, 0)}
    low, high = guesses(len(options))
    assert low <= accuracy(options, noise, truth, 8).mean() <= high
    assert accuracy(options, oracle, truth, 4).mean() > 0.9 > high


def test_shuffled_answers_give_chance(planted, objects):
    options, oracle = objects
    names = list(oracle)
    shifted = dict(zip(names, names[5:] + names[:5], strict=True))  # each trigger passes for another
    assert accuracy(options, oracle, shifted, 4).mean() <= guesses(len(names))[1]
    _, store, exhibits, _, _ = planted
    footprints = np.concatenate(list(stages.load_answers(store, exhibits.digest)[1].values()))
    maps = footprints.astype(np.float32)
    order = generator(0, "shuffle").permutation(len(maps))
    assert masks.pearson(maps, footprints).min() > 0.999
    assert masks.pearson(maps, footprints[order])[order != np.arange(len(maps))].mean() < 0.3
    assert abs(masks.auroc(generator(0, "noise").random(maps.shape), footprints).mean() - 0.5) < 0.02


def test_the_order_of_options_carries_no_answer(objects):
    options, oracle = objects
    markings = [ask(e, o, options, 40, 0)[1] for e, o in zip(oracle.values(), options, strict=True)]
    places = [place for marking in markings for place in marking.values()]
    low, high = guesses(len(places))
    for place in range(OPTIONS):  # who always takes the same place is a guesser
        assert low <= places.count(place) / len(places) <= high
    asked = [q for e, o in zip(oracle.values(), options, strict=True) for q in ask(e, o, options, 40, 0)[0]]
    first = Counter(q.options[0].name for q in asked)
    assert max(first.values()) / len(asked) < 0.15  # no option has a place of its own
    assert len({len(o.pictures) for q in asked for o in q.options}) == 1


def test_renaming_and_permuting_options_changes_no_choice(objects):
    options, oracle = objects
    e, truth = next(iter(oracle.values())), options[0]
    pairs = [ask(evidence, o, options, 3, 0)[0] for evidence, o in zip(oracle.values(), options, strict=True)]
    asked = [q for questions in pairs for q in questions]
    orders = [generator(0, "again", q.id).permutation(OPTIONS) for q in asked]
    disguised = [
        dataclasses.replace(q, id=str(i), options=tuple(Option(f"{k}", q.options[j].pictures) for k, j in enumerate(o)))
        for i, (q, o) in enumerate(zip(asked, orders, strict=True))
    ]
    plain, masked = EmbedJudge().answer(asked), EmbedJudge().answer(disguised)
    assert [a.choice for a in plain] == [int(o[b.choice]) for o, b in zip(orders, masked, strict=True)]
    renamed = [Option(f"x{i}", o.pictures) for i, o in enumerate(options)]
    questions, marking = ask(e, renamed[0], renamed, 6, 0)
    assert {q.options[marking[q.id]].name for q in questions} == {"x0"}
    assert credits(EmbedJudge().answer(questions), marking) == (1.0,) * 6, truth.name


def test_the_judge_is_blind_and_its_options_are_drawn_before_any_result(planted, tmp_path, monkeypatch):
    plan, store, _, key, _ = planted
    met, build = [], registry.build

    class Spy:
        def answer(self, questions):
            met.append(list(questions))
            return [Answer(q.id, (1 / OPTIONS,) * OPTIONS) for q in questions]

    monkeypatch.setattr(registry, "build", lambda kind, *a, **k: Spy() if kind == "judge" else build(kind, *a, **k))
    asks = list(plan.cells("ask"))
    for i, cell in enumerate(asks):
        (tmp_path / str(i)).mkdir()
        stages._ask(cell, store, tmp_path / str(i), lambda share: None)
    assert len(met) == len(asks) == 3  # oracle, noise and blank
    sets = [{frozenset(o.name for o in q.options) for q in questions} for questions in met]
    assert all(same == sets[0] for same in sets)  # whatever the evidence
    assert len(sets[0]) > 4
    concepts = {t.concept for t in key.trojans.values()}
    for question in itertools.chain(*met):
        assert set(vars(question)) == {"id", "images", "texts", "options"}
        assert all(set(vars(o)) == {"name", "pictures", "category"} for o in question.options)
        assert len({o.category for o in question.options}) == 1
        assert not any(word in question.id for word in (*key.trojans, *concepts))
    oracle = arrays.read(store.need("evidence", asks[0].inputs["evidence suspect"]) / "arrays.safetensors")
    exemplars = {p.tobytes() for q in met[0] for o in q.options for p in o.pictures}
    assert not exemplars & {p.tobytes() for shown in oracle.values() for p in shown}  # no picture answers for itself


def test_a_second_run_computes_nothing_and_says_the_same(suite, home, result):
    assert {state for _, state, _ in status_of(make_plan(suite), home)} == {"done"}
    again = run_suite(suite, home, force=True)
    assert again.report["board"] == result.report["board"]
