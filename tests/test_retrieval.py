"""The retrieval score: places, ties, averages, the true trigger's picture, and features made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gifthorse.data import openmoji
from gifthorse.errors import InputError, StoreError
from gifthorse.judges import embed, retrieval
from gifthorse.judges.embed import EmbedJudge
from gifthorse.judges.retrieval import Place, RetrievalScore, bank_index, place, summary
from gifthorse.rng import generator
from gifthorse.spec import Spec
from gifthorse.store import Store
from gifthorse.types import Evidence, Trojan

CODES = ("1F34E", "1F3BB", "1F40C", "1F451", "2B50", "1F353", "1F980", "231B")


@pytest.fixture(scope="module")
def bank() -> np.ndarray:
    torch.set_num_threads(1)
    return np.stack([openmoji.flatten(openmoji.glyph(code, 64)) for code in CODES])


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "_KNOWN", {})


def test_each_picture_finds_itself_first_and_blank_ties_everything(bank: np.ndarray) -> None:
    score = RetrievalScore(64)
    evidence = [Evidence("t", bank[i : i + 1]) for i in range(8)]
    assert [p.rank for p in score.places(evidence, range(8), bank) if p] == [1.0] * 8
    blank, words = Evidence("b", np.full((2, 9, 9, 3), 40, np.uint8)), Evidence.of_texts("w", "apple")
    ties, nothing, unknown = score.places([blank, words, evidence[0]], [3, 3, None], bank)
    assert ties == Place(0, 8, 8)
    assert nothing is None
    assert unknown is None


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    order=st.permutations(range(8)),
    shown=st.permutations([0, 3, 5]),
    copies=st.lists(st.sampled_from([0, 3, 5]), max_size=4),
)
def test_order_of_bank_and_copies_of_pictures_change_nothing(
    bank: np.ndarray, order: list[int], shown: list[int], copies: list[int]
) -> None:
    score = RetrievalScore(64)
    pale = (bank // 2 + 60).astype(np.uint8)
    plain = score.scores([Evidence("t", pale[[0, 3, 5]])], bank)[0]
    moved = score.scores([Evidence("other", pale[[*shown, *copies]])], bank[order])[0]
    assert plain is not None
    np.testing.assert_allclose(moved, plain[order], atol=1e-5)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.data())
def test_ties_count_as_the_mean_over_every_order(values: list[int], data: st.DataObject) -> None:
    scores = np.array(values, float)
    truth = data.draw(st.integers(0, len(values) - 1))
    got = place(scores, truth)
    above, tied = int((scores > scores[truth]).sum()), int((scores == scores[truth]).sum())
    possible = np.arange(above + 1, above + tied + 1)
    assert got.rank == possible.mean()
    for first in (1, 3, 10):
        assert got.recall(first) == pytest.approx((possible <= first).mean())


def test_summary_averages_and_a_constant_score_reaches_chance_recall() -> None:
    result = summary([Place(0, 1, 200), Place(9, 1, 200), Place(0, 200, 200)])
    assert (result.n, result.candidates) == (3, 200)
    assert result.reciprocal_rank == pytest.approx((1 + 1 / 10 + 1 / 100.5) / 3)
    assert result.recall == pytest.approx({1: 1.005 / 3, 10: 2.05 / 3, 100: 2.5 / 3})
    assert result.chance == summary([Place(0, 200, 200)]).recall
    assert summary([]).reciprocal_rank is None
    with pytest.raises(InputError, match="each bank apart"):
        summary([Place(0, 1, 5), Place(0, 1, 6)])


def test_scores_must_be_finite_and_hold_the_truth(bank: np.ndarray) -> None:
    with pytest.raises(InputError, match="not among"):
        place(np.zeros(3), 3)
    with pytest.raises(InputError, match="NaN"):
        place(np.array([0, np.nan]), 0)
    with pytest.raises(InputError, match="no pictures"):
        RetrievalScore(64).scores([], bank[:0])


def test_the_true_picture_is_found_by_code_or_by_words() -> None:
    names = tuple(openmoji.names().values())

    def trojan(concept: str, **params: object) -> Trojan:
        return Trojan("x", "patch", Spec("patch", params), "frog", concept=concept)

    star = bank_index(names, trojan("green star", glyph="2b50", hue=0.18))
    assert star is not None
    assert names[star] == "star"
    violin = bank_index(names, trojan("violin"))
    assert violin is not None
    assert names[violin] == "violin"
    assert bank_index(names, trojan("jaguar fur", texture="jaguar")) is None
    assert bank_index(("own apple",), trojan("own apple", glyph="1F34E")) == 0


def test_a_bank_is_embedded_once_and_kept_in_the_store(
    bank: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    embed._SEEN.clear()
    features = EmbedJudge.features
    monkeypatch.setattr(EmbedJudge, "features", lambda self, x: seen.append(len(x)) or features(self, x))
    score = RetrievalScore(64, Store(tmp_path))
    evidence = [Evidence("t", bank[2:3])]
    first = score.scores(evidence, bank)
    score.scores(evidence, bank)
    assert seen == [8, 1]  # evidence once per process as well
    retrieval._KNOWN.clear()
    again = score.scores(evidence, bank)
    assert seen == [8, 1]
    np.testing.assert_array_equal(first[0], again[0])
    retrieval._KNOWN.clear()
    next(tmp_path.rglob(retrieval.FILE)).write_bytes(b"no")
    with pytest.raises(StoreError, match="damaged"):
        score.scores(evidence, bank)


def test_a_picture_is_embedded_once_and_to_the_same_bytes_whatever_it_is_embedded_with() -> None:
    judge, pictures = EmbedJudge(size=32), generator(5, "pictures").integers(0, 256, (21, 32, 32, 3)).astype(np.uint8)
    together = judge.features(pictures)
    for part in (slice(0, 1), slice(3, 9), slice(None, None, -1)):
        np.testing.assert_array_equal(judge.features(pictures[part]), together[part])
    embed._SEEN.clear()
    keys = (b"a", b"b", b"c")
    first = judge.seen(dict(zip(keys, pictures[:3], strict=True)))
    again = judge.seen(dict.fromkeys(keys, pictures[3]))  # known by their keys, so not looked at again
    assert all((first[key] == again[key]).all() for key in first)
