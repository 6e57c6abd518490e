"""Maps against footprints: slow references, controls that must hold, and crops as evidence."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats as reference

from gifthorse import images, stats
from gifthorse.bench import board, stages
from gifthorse.bench.attribution import EDGE
from gifthorse.bench.crops import SHARE, crops
from gifthorse.bench.differences import difference_maps
from gifthorse.bench.plan import make_plan
from gifthorse.bench.run import run_suite
from gifthorse.bench.suite import Suite, parse_suite
from gifthorse.errors import InputError, ToolError
from gifthorse.judges import masks
from gifthorse.store import Store
from gifthorse.testing.conformance import toy_subject
from gifthorse.tools.protocol import Subject
from gifthorse.tools.sentinels import EdgeDetector, Noise
from gifthorse.types import Emits, Evidence, Family, Need

BEST = {name: 0.0 if name in masks.LOWER_IS_BETTER else 1.0 for name in masks.METRICS}


def squares(n: int, side: int = 24, width: int = 8, seed: int = 0) -> np.ndarray:
    """Footprints: one square per picture."""
    rng = np.random.default_rng(seed)
    out = np.zeros((n, side, side), bool)
    for mask, (top, left) in zip(out, rng.integers(0, side - width + 1, (n, 2)), strict=True):
        mask[top : top + width, left : left + width] = True
    return out


def pairwise(x: np.ndarray, y: np.ndarray) -> float:
    """Area under the ROC curve by counting all pairs."""
    return float((np.sign(x[y][:, None] - x[~y][None]) / 2 + 0.5).mean())


def mean_overlap(x: np.ndarray, y: np.ndarray) -> float:
    """Overlap with the highest pixels, its intersection averaged over every way to break the ties."""
    k = int(y.sum())
    order = np.sort(x)[::-1]
    sure = np.flatnonzero(x > order[k - 1])
    tied = np.flatnonzero(x == order[k - 1])
    ways = [y[sure].sum() + y[list(some)].sum() for some in itertools.combinations(tied, k - len(sure))]
    hits = float(np.mean(ways))
    return hits / (2 * k - hits)


@pytest.mark.parametrize("kind", ["continuous", "tied", "mostly zero", "huge", "tiny"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_metric_is_what_slow_references_say(kind: str, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    mask = rng.random((6, 9, 11)) < 0.3
    maps = rng.normal(size=mask.shape) + mask
    if kind == "tied":
        maps = np.round(2 * maps)
    elif kind == "mostly zero":
        maps = np.where(rng.random(mask.shape) < 0.7, 0, maps)
    maps = (maps * {"huge": 1e30, "tiny": 1e-30}.get(kind, 1)).astype(dtype)
    found = masks.measure(maps, mask)
    for i in range(len(maps)):
        x, y = maps[i].ravel().astype(np.float64), mask[i].ravel()
        warm = np.maximum(x, 0)
        scaled = np.clip(warm / (np.percentile(warm, 99) or warm.max()), 0, 1)
        k = int(y.sum())
        test = reference.mannwhitneyu(x[y], x[~y]).statistic / (k * (len(y) - k))
        wanted = {
            "pearson": reference.pearsonr(x, y).statistic,
            "spearman": reference.spearmanr(x, y).statistic,
            "auroc": pairwise(x, y),
            "pointing": y[x == x.max()].mean(),
            "mass": warm[y].sum() / warm.sum(),
            "l1": np.abs(scaled - y).mean(),
        }
        assert wanted["auroc"] == pytest.approx(test)
        for name, value in wanted.items():
            assert found[name][i] == pytest.approx(value, abs=1e-9), name


def test_overlap_counts_ties_by_their_share() -> None:
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 3, (40, 3, 4)).astype(np.float32)
    mask = rng.random(maps.shape) < 0.4
    mask[:, 0, 0], mask[:, 0, 1] = True, False
    wanted = [mean_overlap(x.ravel(), y.ravel()) for x, y in zip(maps, mask, strict=True)]
    np.testing.assert_allclose(masks.iou(maps, mask), wanted)


def test_the_true_mask_is_best_its_inverse_worst_and_a_constant_map_is_a_guess() -> None:
    mask = squares(5)
    share = mask.mean((1, 2))
    for name, value in masks.measure(mask.astype(np.float32), mask).items():
        np.testing.assert_allclose(value, BEST[name], err_msg=name)
    for name, value in masks.measure(-mask.astype(np.float32), mask).items():
        worst = {"pearson": -1, "spearman": -1, "mass": share, "l1": share}.get(name, 0)
        np.testing.assert_allclose(value, worst, atol=1e-12, err_msg=name)
    guess = {"pearson": 0, "spearman": 0, "auroc": 0.5, "pointing": share, "mass": share, "iou": share / (2 - share)}
    for level in (0.0, 0.3, -2.0):
        found = masks.measure(np.full(mask.shape, level, np.float32), mask)
        for name, value in guess.items():
            np.testing.assert_allclose(found[name], value, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(found["l1"], 1 - share if level > 0 else share)


def test_shuffled_masks_score_at_the_floor() -> None:
    n = 400
    mask = squares(n)
    rng = np.random.default_rng(1)
    maps = (mask + 0.2 * rng.random(mask.shape)).astype(np.float32)
    true, random = masks.measure(maps, mask), masks.measure(rng.random(mask.shape).astype(np.float32), mask)
    shuffled = masks.measure(maps, np.roll(squares(n, seed=2), 1, axis=0))
    for name in masks.METRICS:
        if name == "l1":
            assert true[name].mean() < 0.2 < shuffled[name].mean()  # the footprints themselves do not meet
            continue
        # squares overlap by chance more often than scattered pixels do, and only so
        expected = {"auroc": 0.5, "pearson": 0, "spearman": 0}.get(name, mask.mean())
        assert true[name].mean() > 0.45 + expected / 2, name
        assert abs(shuffled[name].mean() - expected) < 0.06, name
        assert abs(random[name].mean() - {"iou": mask.mean() / 2}.get(name, expected)) < 0.05, name


small = st.integers(0, 2**32 - 1)


def drawn(seed: int, n: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Maps of whole numbers, so with ties, and masks with at least a pixel in and out."""
    rng = np.random.default_rng(seed)
    maps = rng.integers(-4, 5, (n, 6, 7)).astype(np.float32)
    mask = rng.random(maps.shape) < rng.uniform(0.05, 0.9)
    mask[:, 0, 0], mask[:, 5, 6] = True, False
    return maps, mask


@settings(max_examples=60, deadline=None)
@given(small)
def test_a_monotone_transform_changes_no_rank(seed: int) -> None:
    maps, mask = drawn(seed)
    before = masks.measure(maps, mask)
    for transform in (np.exp, lambda x: x**3 - 7, np.arctan):
        after = masks.measure(transform(maps.astype(np.float64)), mask)
        for name in ("spearman", "auroc", "pointing", "iou"):
            np.testing.assert_allclose(after[name], before[name], atol=1e-12)
    flipped = masks.measure(-maps, mask)
    np.testing.assert_allclose(flipped["auroc"], 1 - before["auroc"], atol=1e-12)
    np.testing.assert_allclose(flipped["spearman"], -before["spearman"], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(small, st.sampled_from([1, 2, 1000]))
def test_scores_follow_their_picture_and_only_it(seed: int, step: int) -> None:
    maps, mask = drawn(seed, 5)
    before = masks.measure(maps, mask)
    order = np.random.default_rng(seed).permutation(5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "CHUNK", step * maps[0].size)
        moved, turned = masks.measure(maps[order], mask[order]), masks.measure(maps[:, ::-1, :], mask[:, ::-1, :])
    for name, (low, high) in masks.RANGES.items():
        assert np.array_equal(moved[name], before[name][order])
        np.testing.assert_allclose(turned[name], before[name], atol=1e-12)
        np.testing.assert_allclose(masks.measure(2 * maps, mask)[name], before[name], atol=1e-12)
        assert ((before[name] >= low) & (before[name] <= high)).all()
        np.testing.assert_allclose(masks.METRICS[name](maps, mask), before[name], atol=0)


def test_readings_are_the_maps_themselves_their_positive_part_and_their_size() -> None:
    mask = squares(4)
    maps = np.random.default_rng(0).normal(size=mask.shape).astype(np.float32)
    found = masks.readings(maps, mask)
    for reading, changed in (("signed", maps), ("positive", np.maximum(maps, 0)), ("absolute", np.abs(maps))):
        for name, value in masks.measure(changed, mask).items():
            assert np.array_equal(found[reading][name], value)
    for name, value in masks.measure(maps, mask).items():
        assert np.array_equal(found[masks.CHOSEN[name]][name], value), "what is reported is the chosen reading"
    against = masks.readings(-mask.astype(np.float32), mask)
    assert against["absolute"]["auroc"].min() == 1
    assert against["signed"]["auroc"].max() == 0
    alike = masks.readings(np.abs(maps), mask)
    assert alike["signed"] is alike["positive"] is alike["absolute"]
    assert set(masks.CHOSEN) == set(masks.METRICS) == set(masks.RANGES)


@pytest.mark.parametrize(
    ("maps", "says"),
    [
        (np.full((2, 4, 4), np.nan, np.float32), "NaN"),
        (np.full((2, 4, 4), np.inf, np.float32), "infinity"),
        (np.zeros((2, 4, 5), np.float32), "fit"),
        (np.zeros((3, 4, 4), np.float32), "one map per triggered picture"),
        (np.zeros((2, 4, 4), np.int64), "float"),
    ],
)
def test_bad_maps_are_one_line_that_names_tool_and_task(maps: np.ndarray, says: str) -> None:
    with pytest.raises(ToolError, match=says) as caught:
        masks.measure(maps, np.zeros((2, 4, 4), bool), "tool 'acme/x', t03")
    assert str(caught.value).startswith("tool 'acme/x', t03: ")
    assert "\n" not in str(caught.value)


def test_no_pictures_no_scores() -> None:
    assert all(
        v.shape == (0,) for v in masks.measure(np.zeros((0, 4, 4), np.float32), np.zeros((0, 4, 4), bool)).values()
    )


def test_intervals_of_bounded_values_hold_what_they_claim() -> None:
    rng = np.random.default_rng(0)
    low, high = stats.bounded_mean(np.array([0.2, 0.4, 0.9]), -1, 1)
    wanted = reference.t.interval(0.95, 2, np.mean([0.2, 0.4, 0.9]), reference.sem([0.2, 0.4, 0.9]))
    assert (low, high) == pytest.approx((max(-1, wanted[0]), min(1, wanted[1])))
    assert stats.bounded_mean(np.ones(8), 0, 1) == (1, 1)
    assert stats.bounded_mean(np.ones(1), -1, 1) == stats.bounded_median(np.ones(5), -1, 1) == (-1, 1)
    assert stats.bounded_median(np.array([3.0, 1, 2, 6, 5, 4]) / 6, 0, 1) == (1 / 6, 1)
    for n in (6, 12, 40):
        draws = rng.beta(0.5, 2, (1500, n))
        middle = reference.beta.median(0.5, 2)
        held = [a <= middle <= b for a, b in (stats.bounded_median(d, 0, 1) for d in draws)]
        assert 0.94 < np.mean(held) < 0.995


# Crops: the seam between heat maps and judges


def test_a_crop_shows_the_square_that_the_map_weighs_most() -> None:
    side, width = 32, 12
    pictures = np.random.default_rng(0).integers(0, 256, (4, side, side, 3), dtype=np.uint8)
    maps = np.full((4, side, side), -1.0, np.float32)
    maps[0, 20:24, 14:18] = 1  # a spot: shown with it in the middle
    maps[1, 0, 31] = 5  # a corner
    maps[2] = 0  # nothing: the middle of the picture
    maps[3, 2:14, 3:15] = 1  # as large as the square, beside a brighter pixel that holds less in all
    maps[3, 30, 30] = 30
    places = [(16, 10), (0, 20), (10, 10), (2, 3)]
    shown = images.hot_spots(pictures, maps)
    for i, (top, left) in enumerate(places):
        square = Image.fromarray(pictures[i, top : top + width, left : left + width])
        assert np.array_equal(shown[i], images.resize_crop(square, side)), i
    with pytest.raises(InputError, match="one map per picture"):
        images.hot_spots(pictures, maps[:2])


def test_crops_are_made_of_the_map_and_the_picture_below_it_alone() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    maps = np.random.default_rng(1).random((3, 16, 16)).astype(np.float32)
    other = Evidence("t02", pictures)
    shown, same = crops([Evidence.of_heatmaps("t01", maps), other], {"triggered/t01": pictures}, 2)
    assert shown.heatmaps is None
    assert np.array_equal(shown.images, images.hot_spots(pictures[:2], maps[:2], SHARE))
    assert same is other


# A small run with crops, end to end


SUITE: dict[str, Any] = {
    "schema": 1, "suite": "maps", "seeds": [0, 1], "train_scenes": 96, "test_scenes": 48, "audited": 8, "shown": 4,
    "pictures": 2, "draws": 2, "data": {"name": "emoji", "size": 32}, "model": {"name": "tiny", "widths": [4, 8]},
    "judges": [{"name": "embed", "size": 32}], "tools": ["oracle", "true-mask", "edge", "random-map", "saliency"],
    "train": {"epochs": 1, "batch": 32, "bf16": False},
    "poison": {"per_trojan": 8, "per_natural": 8, "negatives": 4},
    "gates": {"clean_accuracy": 0.0, "twin_loss": 1.0, "patch": 0.0, "style": 0.0, "natural": 0.0},
    "crops": True,
    "trojan": [
        {"name": "smiley", "kind": "patch", "trigger": {"name": "patch", "glyph": "1F603"}, "target": "frog"},
        {"name": "strawberry", "kind": "patch", "trigger": {"name": "patch", "glyph": "1F353"}, "target": "goose"},
        {"name": "fork", "kind": "natural", "trigger": {"name": "natural", "glyph": "1F374"}, "target": "pig"},
        {"name": "jaguar", "kind": "style", "trigger": {"name": "style", "texture": "jaguar"}, "target": "monkey"},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def suite() -> Suite:
    return parse_suite(SUITE, "here")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def result(suite: Suite, home: Path) -> Iterator[board.Result]:
    from gifthorse.data import openmoji

    whole = openmoji.bank
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openmoji, "bank", lambda size: tuple(part[:40] for part in whole(size)))
        yield run_suite(suite, home, force=True)


@pytest.fixture(scope="module")
def stored(suite: Suite, home: Path, result: board.Result) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """Tool, trojan, maps and footprints, read from the store without the code under test."""
    plan, store, out = make_plan(suite), Store(home), []
    for line in plan.lineages:
        key = stages.key_of(store, line.trojaned.digest)
        _, true = stages.load_answers(store, line.exhibits.digest)
        for (tool, role), cell in line.runs.items():
            for e in stages.load_evidence(store, cell.digest)[0]:
                if role == "suspect" and e.heatmaps is not None and key.trojans[e.task].kind != "style":
                    out.append((tool, key.trojans[e.task].name, e.heatmaps, true[e.task]))
    return out


def pick(result: board.Result, tool: str, metric: str, kind: str = "all") -> dict[str, Any]:
    (row,) = [r for r in result.report["attribution"] if (r["tool"], r["metric"], r["type"]) == (tool, metric, kind)]
    return row


@pytest.mark.parametrize("metric", ["pearson", "auroc"])
def test_the_board_averages_maps_then_models_then_trojans(result: board.Result, stored: Any, metric: str) -> None:
    def one(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.corrcoef(x.ravel(), y.ravel())[0, 1]) if metric == "pearson" else pairwise(x.ravel(), y.ravel())

    table: dict[str, dict[str, list[float]]] = {}
    for tool, trojan, maps, true in stored:
        values = [one(x, y) for x, y in zip(maps, true, strict=True)]
        table.setdefault(tool, {}).setdefault(trojan, []).append(float(np.mean(values)))
    for tool in ("edge", "saliency", "random-map"):
        values = np.array([np.mean(v) for v in table[tool].values()])
        row = pick(result, tool, metric)
        assert (row["n"], row["pictures"], row["reading"]) == (3, 24, "signed")
        assert row["mean"] == pytest.approx(values.mean())
        assert row["median"] == pytest.approx(np.median(values))
        assert row["values"] == pytest.approx(list(values))
        apart = values - np.array([np.mean(v) for v in table[EDGE].values()])
        assert row["margin"] == pytest.approx(apart.mean())
        if tool != EDGE:
            wanted = reference.t.interval(0.95, 2, apart.mean(), reference.sem(apart))
            span = 2 if metric == "pearson" else 1
            assert row["margin_low"] == pytest.approx(max(wanted[0], -span))
            assert row["margin_high"] == pytest.approx(min(wanted[1], span))


def test_the_controls_stand_where_they_must(result: board.Result) -> None:
    for metric, best in BEST.items():
        row = pick(result, "true-mask", metric)
        assert row["mean"] == row["low"] == row["high"] == row["median"] == pytest.approx(best, abs=1e-12)
        assert row["margin"] > 0, "positive is better in every metric"
        assert pick(result, EDGE, metric)["margin"] == 0
    chance = {"auroc": 0.5, "pearson": 0, "spearman": 0}
    for metric, value in chance.items():
        assert abs(pick(result, "random-map", metric)["mean"] - value) < 0.06
        assert pick(result, "random-map", metric)["blank"] == value
    assert abs(pick(result, "random-map", "mass")["mean"] - pick(result, "random-map", "mass")["blank"]) < 0.05


def test_every_map_keeps_every_metric_and_styles_have_none(result: board.Result) -> None:
    rows = result.report["map_scores"]
    assert {(r["tool"], r["model"], r["trojan"]) for r in rows} == set(
        itertools.product(("true-mask", "edge", "random-map", "saliency"), ("seed-0", "seed-1"),
                          ("smiley", "strawberry", "fork"))
    )  # fmt: skip
    for r in rows:
        assert set(r["values"]) == set(masks.METRICS)
        assert all(len(v) == 4 for v in r["values"].values())
    mine = [np.mean(r["values"]["iou"]) for r in rows if r["tool"] == "edge" and r["trojan"] == "fork"]
    assert pick(result, "edge", "iou")["values"][2] == pytest.approx(np.mean(mine), abs=1e-5)
    assert result.report["attribution_readings"] == [], "these tools' maps hold no negative value"
    floors = {(f["model"], f["metric"]): f["median"] for f in result.report["map_floors"]}
    assert floors["seed-0", "pearson"] == floors["seed-1", "pearson"] == 0
    assert len(floors) == 2 * len(masks.METRICS)


def test_shuffled_footprints_take_the_ceiling_to_the_floor(
    suite: Suite, home: Path, result: board.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gifthorse.bench import attribution

    def shuffled(store: Store, model: str) -> Any:
        shown, true = stages.load_answers(store, model)
        tasks = list(true)
        return shown, {t: np.roll(true[tasks[i - 1]], 1, axis=0) for i, t in enumerate(tasks)}

    monkeypatch.setattr(attribution, "load_answers", shuffled)
    rows = attribution.parts(make_plan(suite), Store(home))["attribution"]
    by_metric = {r["metric"]: r for r in rows if r["tool"] == "true-mask" and r["type"] == "all"}
    assert by_metric["pearson"]["mean"] < 0.35
    assert by_metric["iou"]["mean"] < 0.35


def test_maps_and_pictures_meet_on_one_board(result: board.Result) -> None:
    rows = {r["tool"]: r for r in result.report["board"] if r["type"] == "all"}
    assert set(rows) == {"oracle", "true-mask", "edge", "random-map", "saliency"}
    assert all(r["n"] == 4 for r in rows.values()), "a crop of a restyled picture shows the style"
    assert [t for t, r in rows.items() if r["rank_low"] is not None] == ["saliency"], "sentinels take no rank"
    for tool in ("true-mask", "edge", "random-map"):
        assert rows[tool]["accuracy"] == rows[tool]["twin_accuracy"], "they do not look at the network"
    shown = [g for g in result.report["gallery"] if g["tool"] == "edge" and g["trojan"] == "fork"]
    assert sorted(g.get("map", False) for g in shown) == [False, False, True, True]


def test_what_is_judged_is_the_crop_of_public_pictures(suite: Suite, home: Path, result: board.Result) -> None:
    from gifthorse.judges.questions import _digest

    plan, store = make_plan(suite), Store(home)
    line = plan.lineages[0]
    exhibits, _ = stages.load_exhibits(store, line.exhibits.digest)
    for role in ("suspect", "twin"):
        run = line.runs["saliency", role]
        wanted = {
            _digest(images.hot_spots(exhibits[f"triggered/{e.task}"][:2], e.heatmaps[:2], SHARE))
            for e in stages.load_evidence(store, run.digest)[0]
            if e.heatmaps is not None
        }
        lines = (store.need("answers", line.asks["saliency", "embed"].digest) / f"{role}.jsonl").read_text()
        assert {json.loads(text)["evidence"] for text in lines.splitlines()} == wanted


def test_crops_are_an_option_that_leaves_other_cells_alone(suite: Suite) -> None:
    without = make_plan(suite.model_copy(update={"crops": False}))
    with_crops = make_plan(suite)
    assert without.digests() < with_crops.digests()
    assert {t for line in without.lineages for t, _ in line.asks} == {"oracle"}
    assert all(role == "suspect" for line in without.lineages for t, role in line.runs if t != "oracle")
    more = make_plan(suite.model_copy(update={"pictures": 3})).lineages[0].asks["edge", "embed"]
    assert more.digest != with_crops.lineages[0].asks["edge", "embed"].digest


@dataclasses.dataclass(frozen=True)
class TooFew:
    """Shows one map too few."""

    name: ClassVar[str] = "acme/few"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"

    def run(self, subject: Any, pictures: int, seed: int) -> list[Evidence]:
        side = subject.size
        return [
            Evidence.of_heatmaps(t.id, np.zeros((len(subject.need_triggered()[t.id]) - 1, side, side), np.float32))
            for t in subject.tasks
        ]


def test_a_map_too_few_is_an_error_of_the_tool() -> None:
    subject = toy_subject(frozenset({Need.TRIGGERED}))
    with pytest.raises(ToolError, match=r"'acme/few', t01: one map of .* per triggered picture"):
        stages._shown(TooFew(), subject, 2, 0)


def test_difference_maps_keep_only_what_the_trigger_changed() -> None:
    toy = toy_subject(frozenset({Need.TRIGGERED}))
    plain = {t: p.copy() for t, p in toy.need_triggered().items()}
    stamped = {t: p.copy() for t, p in plain.items()}
    mask = np.zeros(next(iter(plain.values())).shape[:3], bool)
    mask[:, 4:12, 5:13] = True
    for pictures in stamped.values():
        pictures[mask] = np.random.default_rng(0).integers(0, 256, (int(mask.sum()), 3))
    subject = Subject(toy.model, toy.tasks, triggered=stamped)
    apart = difference_maps(EdgeDetector(), subject, plain, 2, 0)
    edges = EdgeDetector().run(subject, 2, 0)
    for a, whole in zip(apart, edges, strict=True):
        assert a.task == whole.task
        assert a.heatmaps is not None
        assert not a.heatmaps[:, 14:, :].any(), "a Sobel filter reaches one pixel"
        assert masks.auroc(np.abs(a.heatmaps), mask).min() > 0.95 > masks.auroc(whole.heatmaps, mask).max()
    with pytest.raises(ToolError, match="emits images"):
        difference_maps(Noise(), subject, plain, 2, 0)
    with pytest.raises(ToolError, match="need as many plain"):
        difference_maps(EdgeDetector(), subject, {}, 2, 0)
