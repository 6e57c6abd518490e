"""Statistics against published worked examples and by simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from gifthorse import stats
from gifthorse.judges import score

NAN = np.nan
DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], float)
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_is_newcombes_table_of_1998(k: int, n: int, low: float, high: float) -> None:
    assert stats.wilson(k, n, 1.959964) == pytest.approx((low, high), abs=6e-5)


def test_mean_of_hits_is_wilsons_and_never_leaves_the_unit_interval() -> None:
    assert stats.mean(np.array([1.0, 0, 0, 1, 0])) == stats.wilson(2, 5)
    assert stats.mean(np.ones(4)) == stats.wilson(4, 4)
    assert stats.mean(np.zeros(0)) == (0, 1)
    assert stats.mean(np.full(6, 0.4)) == stats.wilson(2.4, 6)
    low, high = stats.mean(np.array([0.0, 0.01, 0.0, 0.02, 0.4]))
    assert 0 <= low < 0.086 < high <= 1


def test_mean_of_many_values_is_students_interval() -> None:
    values = np.random.default_rng(0).beta(2, 3, 2000)
    half = scipy.stats.t.ppf(0.975, 1999) * values.std(ddof=1) / np.sqrt(2000)
    assert stats.mean(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=2e-4)


def test_permutation_gives_fishers_p_for_darwins_maize() -> None:
    assert stats.permutation(DARWIN, 0) == 1726 / 2**15
    assert stats.permutation(np.r_[DARWIN, 0, 0], 0) == 1726 / 2**15
    assert stats.permutation(np.zeros(5), 0) == 1
    assert stats.permutation(np.full(3, 0.2), 0) == 0.25


def test_drawn_signs_agree_with_all_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gifthorse.stats.paired.EXACT", 0)
    assert stats.permutation(DARWIN, 3) == pytest.approx(1726 / 2**15, abs=0.008)
    assert stats.permutation(DARWIN, 3) == stats.permutation(DARWIN, 3)


def test_holm_worked_example() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.9, 0.8]) == [1, 1]
    assert stats.holm([]) == []


def test_compare_pairs_tools_on_shared_trojans_and_ranks_follow() -> None:
    names = [f"t{i}" for i in range(12)]
    tables = {
        "good": dict.fromkeys(names, 0.9),
        "bad": {n: 0.1 + 0.01 * i for i, n in enumerate(names)},
        "poor": {n: 0.12 - 0.01 * (-1) ** i for i, n in enumerate(names)} | {"extra": 1.0},
    }
    found = {(c.one, c.other): c for c in stats.compare(tables, 0)}
    assert found["good", "bad"].n == found["good", "poor"].n == 12
    assert found["good", "bad"].p == 2 / 2**12
    assert found["good", "bad"].adjusted == 6 / 2**12
    assert found["good", "bad"].difference == pytest.approx(0.745)
    assert stats.ranks(list(found.values()))["good"] == (1, 1)
    assert stats.ranks(list(found.values()), level=0)["bad"] == (1, 3)


def test_krippendorff_published_examples() -> None:
    assert stats.krippendorff(OBSERVERS) == pytest.approx(0.743, abs=5e-4)
    two = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]], float)
    assert stats.krippendorff(two) == pytest.approx(0.095, abs=5e-4)
    assert stats.krippendorff(np.ones((3, 4))) == 1
    for nothing in (np.full((2, 2), NAN), np.array([[1.0, NAN]])):
        with pytest.raises(ValueError, match="two answers"):
            stats.krippendorff(nothing)


def test_correlation_values_and_intervals() -> None:
    x = np.array([10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5], float)  # Anscombe's first set
    y = np.array([8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68])
    found = stats.correlation(x, y, 0)
    assert found.value == pytest.approx(0.81642, abs=1e-5)
    assert -1 < found.low < 0.7 < found.value < found.high < 1
    ties = np.round(y)
    ranks = stats.correlation(x, ties, 0, kind="spearman")
    assert ranks.value == pytest.approx(scipy.stats.spearmanr(x, ties).statistic)
    assert stats.correlation(x, np.ones(11), 0).value == 0
    with pytest.raises(ValueError, match="three"):
        stats.correlation(x, y, 0, groups=np.arange(11) % 2)


def test_pairs_of_one_trojan_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 12))
    once = stats.correlation(x, y, 0)
    copies = stats.correlation(np.tile(x, 9), np.tile(y, 9), 0, groups=np.tile(np.arange(12), 9))
    assert (copies.value, copies.low, copies.high) == pytest.approx((once.value, once.low, once.high))
    apart = stats.correlation(np.tile(x, 9), np.tile(y, 9), 0)
    assert apart.high - apart.low < 0.6 * (once.high - once.low)


def survey(rng: np.random.Generator, people: int, skill: np.ndarray, seen: float = 1.0) -> np.ndarray:
    """Answers ``(people, trojans)`` at each trojan's log-odds, people's spread 0.6, a floor of 1/8, some missing."""
    odds = skill + rng.normal(0, 0.6, (people, 1))
    answers = (rng.random(odds.shape) < 0.125 + 0.875 / (1 + np.exp(-odds))).astype(float)
    answers[rng.random(answers.shape) >= seen] = NAN
    return answers


def test_trojans_in_general_is_the_wider_claim_and_more_people_narrow_only_the_other() -> None:
    rng = np.random.default_rng(0)
    skill = rng.normal(-0.3, 1.3, 12)
    few, many = (stats.claims(survey(rng, n, skill), 0) for n in (25, 400))
    for c in (few, many):
        assert c.general[0] < c.these[0] < c.rate < c.these[1] < c.general[1]
    assert np.ptp(many.these) < 0.5 * np.ptp(few.these)
    assert np.ptp(many.general) > 0.75 * np.ptp(few.general)
    with pytest.raises(ValueError, match="at least two"):
        stats.claims(np.array([[1.0, NAN], [0.0, NAN]]), 0)


def test_exclusions_are_reported_both_ways() -> None:
    answers = np.r_[np.ones((10, 4)), np.zeros((10, 4))]
    found = stats.both_ways(answers, np.arange(20) >= 10, 0)
    assert (found.everybody.rate, found.kept.rate, found.excluded) == (0.5, 1.0, 10)


DRAWN: dict[str, tuple[Callable[[np.random.Generator, int], np.ndarray], float]] = {
    "hits, 1 in 8": (lambda rng, n: (rng.random(n) < 0.125).astype(float), 0.125),
    "hits, half": (lambda rng, n: (rng.random(n) < 0.5).astype(float), 0.5),
    "guesses of 30": (lambda rng, n: rng.binomial(30, rng.beta(0.6, 4.2, n)) / 30, 0.125),
    "all or nothing": (lambda rng, n: rng.beta(0.2, 0.2, n), 0.5),
    "skewed": (lambda rng, n: rng.beta(0.5, 1.0, n), 1 / 3),
    "middling": (lambda rng, n: rng.beta(2, 2, n), 0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 12, 16, 48])
@pytest.mark.parametrize("name", DRAWN)
def test_coverage_of_the_mean(name: str, n: int) -> None:
    draw, truth = DRAWN[name]
    rng = np.random.default_rng(n)
    spans = [stats.mean(draw(rng, n)) for _ in range(2000)]
    share = np.mean([low - 1e-9 <= truth <= high + 1e-9 for low, high in spans])
    print(f"{name}, n = {n}: {share:.3f}, width {np.mean([h - low for low, h in spans]):.2f}")
    assert 0.92 <= share <= (0.99 if "hits" in name else 0.98)


@pytest.mark.slow
@pytest.mark.parametrize(("people", "trojans", "seen"), [(20, 12, 1.0), (100, 12, 1.0), (100, 12, 0.2), (40, 30, 0.4)])
def test_coverage_of_both_claims(people: int, trojans: int, seen: float) -> None:
    rng = np.random.default_rng(0)
    spread = rng.normal(0, 0.6, 2000)

    def chance(odds: np.ndarray) -> np.ndarray:
        return (0.125 + 0.875 / (1 + np.exp(-odds[..., None] - spread))).mean(-1)

    general = float(chance(rng.normal(-0.3, 1.3, 3000)).mean())
    hits = np.zeros(2)
    for trial in range(400):
        skill = rng.normal(-0.3, 1.3, trojans)
        found = stats.claims(survey(rng, people, skill, seen), trial)
        these = float(chance(skill).mean())
        hits += [found.these[0] <= these <= found.these[1], found.general[0] <= general <= found.general[1]]
    print(f"{people} people, {trojans} trojans, {seen:.0%} seen: {hits / 400}")
    assert ((hits / 400 >= 0.915) & (hits / 400 <= 0.985)).all()  # three standard errors around 95 %


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pearson", "spearman"])
@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_coverage_of_correlations_over_trojans(kind: str, shared: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gifthorse.stats.agreement.RESAMPLES", 200)
    rng = np.random.default_rng(0)
    r, methods, trojans, hits = 0.5, 6, 12, 0
    truth = r if kind == "pearson" else 6 / np.pi * np.arcsin(r / 2)
    mix = np.linalg.cholesky([[1, r], [r, 1]])
    for trial in range(400):
        own, common = rng.normal(size=(2, methods, trojans)), rng.normal(size=(2, 1, trojans))
        x, y = np.tensordot(mix, np.sqrt(1 - shared) * own + np.sqrt(shared) * common, 1)
        groups = np.tile(np.arange(trojans), methods)
        found = stats.correlation(x.ravel(), y.ravel(), trial, kind=kind, groups=groups)  # type: ignore[arg-type]
        hits += found.low <= truth <= found.high
    print(f"{kind}, shared {shared}: {hits / 400:.3f}")
    assert 0.92 <= hits / 400 <= 0.98


@pytest.mark.slow
def test_false_alarms_of_the_permutation_test() -> None:
    rng = np.random.default_rng(0)
    alarms = np.mean([stats.permutation(rng.beta(0.5, 1, 12) - rng.beta(0.5, 1, 12), 0) <= 0.05 for _ in range(1000)])
    print(f"false alarms {alarms:.3f}")
    assert 0.03 <= alarms <= 0.07


@pytest.mark.slow
def test_coverage_of_ranks_on_a_board() -> None:
    rng = np.random.default_rng(0)
    hits = []
    for trial in range(200):
        skill = rng.normal(0, 0.7, (6, 1))
        odds = skill + rng.normal(0, 1, 12) + rng.normal(0, 1, (6, 12))
        table = rng.binomial(30, 1 / (1 + np.exp(-odds))) / 30
        found = score._ranks(
            {str(i): {str(j): float(v) for j, v in enumerate(row)} for i, row in enumerate(table)}, trial
        )
        truth = scipy.stats.rankdata(-skill[:, 0])
        hits += [found[str(i)][1] <= truth[i] <= found[str(i)][2] for i in range(6)]
    print(f"ranks: {np.mean(hits):.3f}")
    assert np.mean(hits) >= 0.93
