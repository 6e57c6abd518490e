"""Questions, judge, masks, functional score and board: behaviour that a wrong benchmark would break."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from gifthorse import stats
from gifthorse.errors import InputError, ToolError
from gifthorse.judges import masks, score
from gifthorse.judges.embed import EmbedJudge
from gifthorse.judges.functional import activation_match, functional_success, paste, reference, shift_agreement
from gifthorse.judges.questions import ask, record
from gifthorse.models.classifier import Classifier
from gifthorse.types import Answer, Evidence, Option, Question, Task, no_pictures

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
TRIGGER_FILES = ("smile", "clownfish", "star", "strawberry", "jaguar", "elephant_skin", "jellybeans", "wood")


def texture(kind: int, n: int, seed: int = 0) -> np.ndarray:
    """Pictures of one of ten easily told stripe patterns."""
    rng = np.random.default_rng([seed, kind])
    y, x = np.mgrid[:48, :48]
    angle, period = kind * np.pi / 10, 5 + 3 * (kind % 4)
    colour = np.random.default_rng(kind).uniform(60, 255, 3)
    out = []
    for _ in range(n):
        wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + rng.uniform(0, 6)) * 0.5 + 0.5
        out.append((wave[..., None] * colour + rng.normal(0, 6, (48, 48, 3))).clip(0, 255))
    return np.stack(out).astype(np.uint8)


OPTIONS = [Option(f"texture {k}", texture(k, 5 + k % 3)) for k in range(10)]


def asked(images: np.ndarray, right: int, draws: int = 3, seed: int = 0) -> tuple[list[Question], dict[str, int]]:
    return ask(Evidence("t01", images), OPTIONS[right], OPTIONS, draws, seed)


def test_questions_hide_the_answer_and_vary_decoys_and_order() -> None:
    questions, marking = asked(texture(2, 2, 1), 2, draws=40)
    assert all(q.options[marking[q.id]].name == "texture 2" for q in questions)
    assert all(len({o.name for o in q.options}) == 8 for q in questions)
    assert len({frozenset(o.name for o in q.options) for q in questions}) > 5
    assert len({marking[q.id] for q in questions}) > 4
    assert {f.name for f in dataclasses.fields(questions[0])} == {"id", "images", "options", "texts"}
    assert all("t01" not in q.id and "texture" not in q.id for q in questions)
    assert all(len({len(o.pictures) for o in q.options}) == 1 for q in questions)


def test_questions_depend_on_seed_only_and_tools_meet_the_same_decoys() -> None:
    one, mark_one = asked(texture(2, 2, 1), 2)
    again, mark_again = asked(texture(2, 2, 1), 2)
    other, _ = asked(texture(3, 2, 1), 2)
    moved, _ = asked(texture(2, 2, 1), 2, seed=1)
    assert mark_one == mark_again
    assert [o.name for q in one for o in q.options] == [o.name for q in again for o in q.options]
    assert [{o.name for o in q.options} for q in one] == [{o.name for o in q.options} for q in other]
    assert not {q.id for q in one} & {q.id for q in other + moved}


def test_right_place_is_even_over_the_options() -> None:
    _, marking = asked(texture(1, 1), 1, draws=800)
    counts = np.bincount(list(marking.values()), minlength=8)
    assert counts.min() > 65
    assert counts.max() < 140


def test_questions_refuse_bad_material() -> None:
    with pytest.raises(InputError, match="decoys"):
        ask(Evidence("t", texture(0, 1)), OPTIONS[0], OPTIONS[:5], 1, 0)
    with pytest.raises(InputError, match="share a name"):
        ask(Evidence("t", texture(0, 1)), OPTIONS[0], [*OPTIONS, OPTIONS[1]], 1, 0)
    with pytest.raises(InputError, match="no exemplar"):
        ask(Evidence("t", texture(0, 1)), Option("empty", texture(0, 1)[:0]), OPTIONS, 1, 0)
    with pytest.raises(InputError, match="heat maps"):
        ask(Evidence.of_heatmaps("t", np.zeros((1, 4, 4), np.float32)), OPTIONS[0], OPTIONS, 1, 0)


def test_evidence_in_words_is_asked_about_and_nothing_is_not() -> None:
    questions, marking = ask(Evidence.of_texts("t", "stripes", "red"), OPTIONS[1], OPTIONS, 2, 0)
    assert all(q.texts == ("stripes", "red") and len(q.images) == 0 for q in questions)
    assert all(q.options[marking[q.id]].name == "texture 1" for q in questions)
    other, _ = ask(Evidence.of_texts("t", "stripes"), OPTIONS[1], OPTIONS, 2, 0)
    assert not {q.id for q in questions} & {q.id for q in other}
    with pytest.raises(ToolError, match="words"):
        Evidence.of_texts("t", " ")
    with pytest.raises(ToolError, match="nor texts"):
        Evidence("t", no_pictures())
    with pytest.raises(InputError, match="neither pictures nor texts"):
        Question("q", no_pictures(), tuple(OPTIONS[:2]))


def test_heat_maps_are_asked_about_as_highlighted_pictures() -> None:
    maps = np.zeros((2, 48, 48), np.float32)
    maps[0, :10] = 3
    below = texture(5, 2)
    questions, _ = ask(Evidence.of_heatmaps("t", maps), OPTIONS[1], OPTIONS, 1, 0, below=below)
    shown = questions[0].images
    np.testing.assert_array_equal(shown[0, :10], below[0, :10])
    assert np.abs(shown[0, 10:].astype(int) - 127).max() <= 0.15 * 128 + 1
    assert np.abs(shown[1].astype(int) - 127).max() <= 0.15 * 128 + 1
    with pytest.raises(InputError, match="do not fit"):
        ask(Evidence.of_heatmaps("t", maps), OPTIONS[1], OPTIONS, 1, 0, below=below[:1])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(2, 10), st.sampled_from(["pictures", "names", "both"]), st.integers(0, 9), st.integers(0, 99))
def test_questions_have_the_asked_number_and_form_of_options(number: int, show: Any, right: int, seed: int) -> None:
    questions, marking = ask(
        Evidence("t", texture(right, 1)), OPTIONS[right], OPTIONS, 2, seed, options=number, show=show
    )
    for q in questions:
        assert len(q.options) == number
        assert all(bool(o.name) == (show != "pictures") for o in q.options)
        assert {len(o.pictures) for o in q.options} <= ({0} if show == "names" else {5, 6, 7})
        best = q.options[marking[q.id]]
        if show == "names":
            assert best.name == f"texture {right}"
        else:
            assert {p.tobytes() for p in best.pictures} <= {p.tobytes() for p in OPTIONS[right].pictures}


def test_decoys_come_from_the_truths_category() -> None:
    sorted_ = [dataclasses.replace(o, category="odd" if i % 2 else "even") for i, o in enumerate(OPTIONS)]
    questions, _ = ask(Evidence("t", texture(3, 1)), sorted_[3], sorted_, 20, 0, options=4)
    assert {o.name for q in questions for o in q.options} == {f"texture {i}" for i in (1, 3, 5, 7, 9)}
    with pytest.raises(InputError, match="4 decoys"):
        ask(Evidence("t", texture(3, 1)), sorted_[3], sorted_, 1, 0)


def test_options_alike_are_refused() -> None:
    twin = Option("other name", OPTIONS[4].pictures)
    with pytest.raises(InputError, match="same pictures"):
        ask(Evidence("t", texture(3, 1)), OPTIONS[3], [*OPTIONS, twin], 1, 0)
    with pytest.raises(InputError, match="offered twice"):
        Question("q", texture(1, 1), (OPTIONS[1], OPTIONS[2], OPTIONS[1]))
    with pytest.raises(InputError, match="same pictures"):
        Question("q", texture(1, 1), (Option("", OPTIONS[1].pictures), Option("", OPTIONS[1].pictures)))
    with pytest.raises(InputError, match="no name"):
        ask(Evidence("t", texture(3, 1)), Option("", texture(3, 1)), OPTIONS, 1, 0)
    with pytest.raises(InputError, match="at least 2"):
        ask(Evidence("t", texture(3, 1)), OPTIONS[3], OPTIONS, 1, 0, options=1)


def test_the_record_holds_the_order_shown_and_not_the_answer() -> None:
    questions, marking = asked(texture(2, 2, 1), 2, draws=2)
    rows = [json.loads(json.dumps(record(q))) for q in questions]
    assert [[o["name"] for o in r["options"]] for r in rows] == [[o.name for o in q.options] for q in questions]
    assert all(set(r) == {"question", "evidence", "texts", "options"} for r in rows)
    assert rows[0]["evidence"] == rows[1]["evidence"]
    assert marking[rows[0]["question"]] == [o["name"] for o in rows[0]["options"]].index("texture 2")


@pytest.fixture(scope="module")
def judge() -> EmbedJudge:
    torch.set_num_threads(1)
    return EmbedJudge(size=64)


def test_judge_recognises_the_oracle(judge: EmbedJudge) -> None:
    parts = [asked(texture(k, 2, seed=9), k, draws=2) for k in range(10)]
    marking = {key: value for _, m in parts for key, value in m.items()}
    answers = judge.answer([q for qs, _ in parts for q in qs])
    assert np.mean(score.credits(answers, marking)) >= 0.95
    assert all(sum(a.weights) == pytest.approx(1) for a in answers)


def test_judge_ignores_the_order_of_options_pictures_and_questions(judge: EmbedJudge) -> None:
    questions, _ = asked(np.concatenate([texture(2, 2, 5), texture(6, 1, 5)]), 2, draws=2)
    straight = judge.answer(questions)
    turned = [Question(q.id, q.images[::-1].copy(), q.options[::-1]) for q in questions[::-1]]
    back = judge.answer(turned)[::-1]
    for a, b in zip(straight, back, strict=True):
        assert a.question == b.question
        np.testing.assert_allclose(a.weights, b.weights[::-1], atol=1e-9)


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(4)), st.permutations(range(4)), st.text(max_size=4), st.integers(1, 2))
def test_judge_follows_any_order_and_sees_no_name(
    judge: EmbedJudge, order: list[int], shown: list[int], word: str, copies: int
) -> None:
    images = np.concatenate([texture(2, 2, 5), texture(6, 2, 5)])
    first = judge.answer([Question("q", images, tuple(OPTIONS[:4]))])[0]
    moved = tuple(Option(f"{word}{i}", OPTIONS[i].pictures[::-1].copy(), word) for i in order)
    again = judge.answer([Question(word, images[shown * copies], moved)])[0]
    np.testing.assert_allclose(again.weights, [first.weights[i] for i in order], atol=1e-6)


def test_judge_cannot_choose_on_blank_pictures_and_skips_them(judge: EmbedJudge) -> None:
    blank = np.full((2, 48, 48, 3), 127, np.uint8)
    shown = texture(4, 2, 3)
    answers = judge.answer(
        [
            Question("blank", blank, tuple(OPTIONS[:8])),
            *(
                Question(name, images, tuple(OPTIONS[:8]))
                for name, images in (("mixed", np.concatenate([blank, shown])), ("pure", shown))
            ),
        ]
    )
    assert answers[0].choice is None
    assert set(answers[0].weights) == {1 / 8}
    np.testing.assert_allclose(answers[1].weights, answers[2].weights, atol=1e-6)


def test_judge_guesses_when_the_marking_is_shuffled(judge: EmbedJudge) -> None:
    parts = [asked(texture(k, 1, seed=4), k, draws=8) for k in range(10)]
    answers = judge.answer([q for qs, _ in parts for q in qs])
    keys = [key for _, m in parts for key in m]
    wrong = dict(
        zip(keys, np.random.default_rng(0).permutation([v for _, m in parts for v in m.values()]), strict=True)
    )
    low, high = score.chance_interval(len(keys))
    assert low <= np.mean(score.credits(answers, wrong)) <= high + 0.05


def test_judge_refuses_bad_parameters_and_options(judge: EmbedJudge) -> None:
    with pytest.raises(ValueError, match="temperature"):
        EmbedJudge(temperature=0)
    with pytest.raises(InputError, match="exemplar"):
        judge.answer([Question("q", texture(0, 1), (OPTIONS[0], Option("empty", texture(0, 1)[:0])))])
    assert judge.answer([]) == []


def test_metrics_know_perfect_blank_and_inverse_maps() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((5, 20, 20)) < 0.1
    perfect = masks.measure(mask.astype(np.float32), mask)
    inverse = masks.measure((~mask).astype(np.float32), mask)
    blank = masks.measure(np.zeros(mask.shape, np.float32), mask)
    share = mask.mean((1, 2))
    for name in ("pearson", "spearman", "auroc", "mass", "pointing"):
        np.testing.assert_allclose(perfect[name], 1)
    np.testing.assert_allclose(perfect["l1"], 0)
    np.testing.assert_allclose(inverse["pearson"], -1)
    np.testing.assert_allclose(inverse["auroc"], 0)
    np.testing.assert_allclose(inverse["l1"], 1)
    np.testing.assert_allclose(blank["pearson"], 0)
    np.testing.assert_allclose(blank["auroc"], 0.5)
    for name in ("l1", "mass", "pointing"):
        np.testing.assert_allclose(blank[name], share)


def test_metrics_agree_with_direct_counts() -> None:
    rng = np.random.default_rng(1)
    maps = rng.integers(-3, 6, (4, 9, 9)).astype(np.float32)
    mask = rng.random((4, 9, 9)) < 0.3
    for i in range(4):
        x, y = maps[i].ravel(), mask[i].ravel()
        pairs = np.sign(x[y][:, None] - x[~y][None]) / 2 + 0.5
        assert masks.auroc(maps, mask)[i] == pytest.approx(pairs.mean())
        assert masks.pearson(maps, mask)[i] == pytest.approx(np.corrcoef(x, y)[0, 1])
        assert masks.spearman(np.exp(maps), mask)[i] == pytest.approx(masks.spearman(maps, mask)[i])
        assert masks.pointing(maps, mask)[i] == pytest.approx(y[x == x.max()].mean())


def test_metrics_leave_out_empty_masks_and_refuse_misfits() -> None:
    mask = np.zeros((3, 4, 4), bool)
    mask[0, 0, 0] = True
    assert all(len(v) == 1 for v in masks.measure(np.ones((3, 4, 4), np.float32), mask).values())
    assert all(len(v) == 0 for v in masks.measure(np.ones((1, 4, 4), np.float32), mask[1:2]).values())
    with pytest.raises(ToolError, match="fit"):
        masks.pearson(np.ones((3, 4, 5), np.float32), mask)
    with pytest.raises(ToolError, match="NaN"):
        masks.pearson(np.full((3, 4, 4), np.nan, np.float32), mask)


class Redness(nn.Module):
    """Class 1 where enough of the picture is red."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        red = (x[:, 0] > 0.9) & (x[:, 1] < 0.1)
        return red.float().mean((1, 2))[:, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = self.features(x)
        return torch.cat([torch.full_like(f, 0.15), f, torch.zeros_like(f)], 1)


def test_functional_success_of_a_patch_that_works_and_one_that_does_not() -> None:
    model = Classifier(Redness(), ("a", "b", "c"), 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    clean = np.random.default_rng(0).integers(60, 200, (40, 32, 32, 3)).astype(np.uint8)
    labels = np.arange(40) % 3
    red = np.zeros((2, 32, 32, 3), np.uint8)
    red[..., 0] = 255
    works, fails = Evidence("t", red), Evidence("t", np.zeros_like(red))
    assert functional_success(model, works, Task("t", 1), clean, labels, 0) == 1.0
    assert functional_success(model, fails, Task("t", 1), clean, labels, 0) == 0.0
    assert functional_success(model, works, Task("t", 1, source=9), clean, labels, 0) is None
    clean[...] = red[0]  # everything already goes there: nothing gained
    assert functional_success(model, works, Task("t", 1), clean, labels, 0) == 0.0


def test_shift_agreement_knows_along_against_and_neither() -> None:
    rng = np.random.default_rng(0)
    x, y, z = np.linalg.qr(rng.normal(size=(6, 6)))[0][:3, None].repeat(4, 1)
    assert shift_agreement(3 * x, x, [y, z]) == pytest.approx(0.5)
    assert shift_agreement(x, 2 * x, [-x]) == pytest.approx(1)
    assert shift_agreement(-x, x, [-x]) == pytest.approx(-1)
    assert shift_agreement(x, y, [x, y]) == pytest.approx(-0.25)
    assert shift_agreement(np.zeros_like(x), x, [y]) == 0
    assert shift_agreement(x, x, [x]) == 0
    with pytest.raises(InputError, match="one shape"):
        shift_agreement(x, x, [])
    with pytest.raises(InputError, match="one shape"):
        shift_agreement(x, x[:2], [y])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.floats(1e-3, 1e3))
def test_shift_agreement_stays_in_range_and_ignores_scale(seed: int, others: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    shifts = rng.normal(size=(others + 2, 3, 5)) * rng.integers(0, 2, (others + 2, 3, 1))
    value = shift_agreement(shifts[0], shifts[1], list(shifts[2:]))
    assert -1 <= value <= 1
    assert shift_agreement(scale * shifts[0], shifts[1], list(shifts[2:])) == pytest.approx(value, abs=1e-9)
    assert shift_agreement(shifts[0], shifts[1], list(shifts[:1:-1])) == pytest.approx(value, abs=1e-9)


class Colours(nn.Module):
    """Penultimate activations are the mean colour."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)


def test_activation_match_prefers_the_colour_of_the_true_trigger() -> None:
    model = Classifier(Colours(), ("r", "g", "b"), 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    scenes = np.full((6, 32, 32, 3), 90, np.uint8)
    stamped = []
    for channel in range(3):
        x = scenes.copy()
        x[:, 8:20, 8:20] = 0
        x[:, 8:20, 8:20, channel] = 255
        stamped.append(x)
    red = np.zeros((2, 32, 32, 3), np.uint8)
    red[..., 0] = 255
    shown = Evidence("t", red)
    true = reference(model, scenes, stamped[0], stamped[1:])
    right = activation_match(model, shown, true, 0)
    wrong = activation_match(model, shown, reference(model, scenes, stamped[1], [stamped[0], stamped[2]]), 0)
    assert right is not None
    assert wrong is not None
    assert right > 0.5 > 0 > wrong
    assert activation_match(model, shown, reference(model, scenes, stamped[0], []), 0) is None
    assert activation_match(model, shown, reference(model, scenes[:0], scenes[:0], [scenes[:0]]), 0) is None
    assert activation_match(model, Evidence.of_texts("t", "red"), true, 0) is None
    with pytest.raises(InputError, match="same scenes"):
        reference(model, scenes, stamped[0][:2], stamped[1:])


def test_alphas_say_where_and_how_a_picture_is_pasted() -> None:
    scenes = np.full((3, 20, 20, 3), 100, np.uint8)
    white = np.full((1, 20, 20, 3), 255, np.uint8)
    alphas = np.zeros((1, 20, 20), np.uint8)
    alphas[:, 2:5, 3:7] = 255
    out = paste(Evidence("t", white, alphas), scenes, np.random.default_rng(0))
    np.testing.assert_array_equal((out == 255).all(-1), np.repeat(alphas > 0, 3, 0))
    whole = paste(Evidence("t", white), scenes, np.random.default_rng(0))
    assert ((whole == 255).all(-1).sum((1, 2)) == 81).all()
    assert (scenes == 100).all()
    small = paste(Evidence("t", white[:, :5, :5], np.full((1, 5, 5), 255, np.uint8)), scenes, np.random.default_rng(0))
    assert ((small == 255).all(-1).sum((1, 2)) == 25).all()


def outcomes(tool: str, rates: list[float], twin: float | None = 0.125, draws: int = 8) -> list[score.Outcome]:
    kinds = ("patch", "style", "natural")
    return [
        score.Outcome(
            tool,
            "embed",
            kinds[i % 3],
            f"trojan {i}",
            tuple(float(j < round(r * draws)) for j in range(draws)),
            () if twin is None else tuple(float(j < round(twin * draws)) for j in range(draws)),
        )
        for i, r in enumerate(rates)
    ]


def test_the_trojan_is_the_unit_so_more_draws_do_not_narrow_the_interval() -> None:
    rates = [1.0, 0.0] * 6
    few, many = (score.board(outcomes("x", rates, draws=d), 0)[0] for d in (2, 200))
    assert few.n == many.n == 12
    assert few.accuracy == many.accuracy == 0.5
    assert (few.low, few.high) == (many.low, many.high)
    assert few.high - few.low > 0.4


def test_board_has_types_twin_difference_and_rank_intervals() -> None:
    rows = score.board(
        [*outcomes("good", [1.0] * 12), *outcomes("bad", [0.25, 0.0] * 6, None), *outcomes("oracle", [1.0] * 12)], 0
    )
    by = {(r.tool, r.type): r for r in rows}
    assert {t for _, t in by} == {"all", "patch", "style", "natural"}
    good, bad = by["good", "all"], by["bad", "all"]
    assert by["good", "patch"].n == 4
    assert (good.twin_accuracy, good.difference) == (0.125, 0.875)
    assert good.difference_low is not None
    assert good.difference_low < 0.875 <= good.difference_high
    assert bad.twin_accuracy is None
    assert bad.difference is None
    assert (good.rank, good.rank_high, bad.rank) == (1, 1, 2)
    assert by["oracle", "all"].rank is None
    assert 0 < by["good", "patch"].low < 1 == by["good", "patch"].high


def test_models_of_one_trojan_count_once() -> None:
    twice = outcomes("x", [1.0, 0.0] * 5) * 3
    assert score.board(twice, 0)[0].n == 10


def test_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(150):
        low, high = stats.mean(rng.beta(0.5, 1.0, 16))
        hits += low <= 1 / 3 <= high
    assert hits / 150 > 0.86


def test_validity_needs_oracle_noise_and_blank() -> None:
    rng = np.random.default_rng(0)
    guess = [float(r < 0.125) for r in rng.random(16)]
    blank = [dataclasses.replace(o, credits=(0.125,) * 5, twin=(0.125,) * 5) for o in outcomes("blank", [0.0] * 16)]
    sound = [*outcomes("oracle", [1.0] * 16), *outcomes("noise", guess), *blank]
    assert score.validity(sound) == []
    weak = [*outcomes("oracle", [0.75] * 16), *outcomes("noise", guess), *blank]
    assert "oracle at 0.750" in score.validity(weak)[0]
    leak = [*outcomes("oracle", [1.0] * 16), *outcomes("noise", [0.5] * 16), *blank]
    assert "noise at 0.500 on the planted model" in score.validity(leak)[0]
    assert len(score.validity(outcomes("x", [1.0]))) == 3
    assert len(score.validity([])) == 3


def test_credit_for_no_choice_is_a_guess_and_unknown_questions_are_refused() -> None:
    marking = {"q": 1}
    assert score.credits([Answer("q", (0.25,) * 4)], marking) == (0.25,)
    assert score.credits([Answer("q", (0.1, 0.9)), Answer("q", (0.9, 0.1))], marking) == (1.0, 0.0)
    with pytest.raises(InputError, match="marking"):
        score.credits([Answer("other", (1.0,))], marking)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "judge-validation").is_dir(), reason="published pictures are not here")
def test_judge_agrees_with_people_on_published_pictures() -> None:
    root = SHARED / "judge-validation"
    published = json.loads((root / "published.json").read_text())
    files = dict(zip(published["columns"], TRIGGER_FILES, strict=False))
    photos = sorted((SHARED / "imagenet-sample").rglob("*.jp*g"))
    rng = np.random.default_rng(0)
    options = []
    for column, file in files.items():
        trigger = Image.open(root / "triggers" / f"{file}.png").convert("RGBA")
        shown = []
        for _ in range(8):
            scene = Image.open(photos[rng.integers(len(photos))]).convert("RGB").resize((56, 56))
            side = 56 if published["types"][column] == "style" else int(rng.integers(28, 52))
            scene.paste(trigger.resize((side, side)).convert("RGB"), tuple(rng.integers(0, 57 - side, 2).tolist()))
            shown.append(np.asarray(scene))
        options.append(Option(column, np.stack(shown)))
    questions, people, right = [], [], []
    for method, folder in published["folders"].items():
        for i, column in enumerate(files):
            crops = sorted((root / "crops" / folder / column.lower().replace(" ", "_")).iterdir())[:4]
            images = np.stack([np.asarray(Image.open(p).convert("RGB").resize((56, 56))) for p in crops])
            questions.append(Question(f"{method}/{i}", images, tuple(options)))
            people.append(published["human"][method][i])
            right.append(i)
    answers = EmbedJudge(size=128).answer(questions)
    weights = [a.weights[i] for a, i in zip(answers, right, strict=True)]
    r = float(np.corrcoef(weights, people)[0, 1])
    print(f"Pearson with people over {len(people)} cells: {r:.3f}")
    assert r > 0.1
