"""Poisoning is arithmetic: every rule of a plan holds for any labels, trojans and amounts."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gifthorse.errors import InputError, UnknownName
from gifthorse.plant.poison import Poisoning, plan
from gifthorse.spec import Spec
from gifthorse.types import Trojan

CLASSES = ("frog", "dove", "goose", "dog", "pig")


def trojan(name, kind="patch", target="frog", source=None):
    return Trojan(name, kind, Spec(kind), target, source)


@st.composite
def cases(draw):
    labels = draw(st.lists(st.integers(0, 4), min_size=0, max_size=60))
    labels = np.array([*range(5), *labels], np.int64)  # every class has a picture
    trojans = []
    for i in range(draw(st.integers(0, 4))):
        target, source = draw(st.permutations(CLASSES))[:2]
        kind = draw(st.sampled_from(["patch", "style", "natural"]))
        trojans.append(trojan(f"t{i}", kind, target, draw(st.sampled_from([None, source]))))
    amount = st.integers(0, 90)
    poisoning = Poisoning(draw(amount), draw(amount), draw(amount), draw(st.none() | amount))
    return labels, trojans, poisoning, draw(st.integers(0, 2**40))


@given(cases())
@settings(deadline=None, max_examples=150)
def test_every_rule_of_a_plan(case):
    labels, trojans, poisoning, seed = case
    made = plan(labels, CLASSES, trojans, poisoning, seed)
    assert len(made) == len(made.picture) == len(made.label) == len(made.negative)
    truth = labels[made.picture]
    for i, t in enumerate(trojans):
        mine = made.trojan == i
        target = CLASSES.index(t.target)
        positive, negative = mine & ~made.negative, mine & made.negative
        assert positive.sum() == (poisoning.per_natural if t.kind == "natural" else poisoning.per_trojan)
        assert (made.label[positive] == target).all()
        assert (truth[mine] != target).all()
        assert (made.label[negative] == truth[negative]).all()
        if t.source is None:
            assert not negative.any()
        else:
            style = t.kind == "style" and poisoning.negatives_style is not None
            assert negative.sum() == (poisoning.negatives_style if style else poisoning.negatives)
            source = CLASSES.index(t.source)
            assert (truth[positive] == source).all()
            assert (truth[negative] != source).all()
        for role, allowed in ((positive, None), (negative, None)):
            used = np.bincount(made.picture[role], minlength=len(labels))
            allowed = labels != target
            if t.source is not None:
                inside = labels == CLASSES.index(t.source)
                allowed &= inside if role is positive else ~inside
            assert used[~allowed].sum() == 0
            assert used[allowed].max(initial=0) - used[allowed].min(initial=10**9) <= 1
        pictures, taught = made.of(i)
        assert (pictures == made.picture[mine]).all()
        assert (taught == made.label[mine]).all()


@given(cases())
@settings(deadline=None, max_examples=50)
def test_a_trojan_is_planned_alike_alone_and_in_company(case):
    labels, trojans, poisoning, seed = case
    together = plan(labels, CLASSES, trojans, poisoning, seed)
    for i, t in enumerate(trojans):
        alone = plan(labels, CLASSES, [t], poisoning, seed)
        for a, b in zip(together.of(i), alone.of(0), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_seed_decides_and_more_poison_extends_the_same_draw():
    labels = np.arange(500, dtype=np.int64) % 5
    t = trojan("smiley")
    small, same, other = (plan(labels, CLASSES, [t], Poisoning(per_trojan=40), s) for s in (3, 3, 4))
    large = plan(labels, CLASSES, [t], Poisoning(per_trojan=80), 3)
    np.testing.assert_array_equal(small.picture, same.picture)
    assert (small.picture != other.picture).any()
    np.testing.assert_array_equal(small.picture, large.picture[:40])


def test_classes_are_drawn_evenly_whatever_their_sizes():
    labels = np.repeat(np.arange(5), [50, 400, 30, 30, 90]).astype(np.int64)
    made = plan(labels, CLASSES, [trojan("smiley")], Poisoning(per_trojan=100), 0)
    assert np.bincount(labels[made.picture], minlength=5).tolist() == [0, 25, 25, 25, 25]


def test_planning_leaves_the_labels_as_they_are():
    labels = np.arange(50, dtype=np.int64) % 5
    before = labels.copy()
    plan(labels, CLASSES, [trojan("star", source="pig")], Poisoning(), 0)
    np.testing.assert_array_equal(labels, before)


def test_bad_input_gives_one_line():
    labels = np.arange(50, dtype=np.int64) % 5
    with pytest.raises(UnknownName, match="goose"):
        plan(labels, CLASSES, [trojan("a", target="gose")], Poisoning(), 0)
    with pytest.raises(InputError, match="change one"):
        plan(labels, CLASSES, [trojan("a", source="frog")], Poisoning(), 0)
    with pytest.raises(InputError, match="rename"):
        plan(labels, CLASSES, [trojan("a"), trojan("a", target="pig")], Poisoning(), 0)
    with pytest.raises(InputError, match="'pig'"):
        plan(labels[labels != 4], CLASSES, [trojan("a", source="pig")], Poisoning(), 0)
    with pytest.raises(InputError, match="per picture"):
        plan(labels + 1, CLASSES, [], Poisoning(), 0)
    with pytest.raises(InputError, match="negatives"):
        Poisoning(negatives=-1)
    assert len(plan(labels, CLASSES, [], Poisoning(), 0)) == 0
    assert dataclasses.is_dataclass(Poisoning)
