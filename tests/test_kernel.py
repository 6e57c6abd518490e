import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifthorse import images, registry
from gifthorse.errors import InputError, ToolError, UnknownName
from gifthorse.rng import child_seed, generator
from gifthorse.spec import Spec, canonical, digest
from gifthorse.types import Answer, Evidence

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(min_size=1), st.dictionaries(st.text(), json_values, max_size=4), st.integers(1, 9))
def test_a_spec_survives_json_with_one_digest(name, params, version):
    spec = Spec(name, params, version)
    again = Spec.from_json(spec.to_json())
    assert again.digest == spec.digest
    assert again.to_json() == spec.to_json()


def test_the_digest_is_sha256_of_canonical_json():
    assert canonical({"b": 1, "a": [True, None]}) == '{"a":[true,null],"b":1}'
    assert digest({"b": 1}) == hashlib.sha256(b'{"b":1}').hexdigest()


def test_child_seeds_depend_on_the_path_only():
    assert child_seed(0, "a", 1) == child_seed(0, "a", 1)
    assert len({child_seed(s, p) for s in range(20) for p in "abc"}) == 60
    assert generator(3, "x").integers(1 << 30) == generator(3, "x").integers(1 << 30)


def test_wrong_names_get_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'saliency'"):
        registry.load("tool", "salency")
    with pytest.raises(UnknownName, match="kind of component"):
        registry.names("gadget")


def test_outside_components_carry_their_package(monkeypatch):
    class Point:
        name, value = "plain", "acme:Plain"

    monkeypatch.setattr(registry, "entry_points", lambda group: [Point])
    with pytest.raises(InputError, match="carry their package"):
        registry.load("tool", "plain")
    assert "plain" not in registry.names("tool")


def test_evidence_refuses_nan_and_nothing():
    with pytest.raises(ToolError, match="NaN"):
        Evidence.of_heatmaps("t01", np.full((1, 2, 2), np.nan, np.float32))
    with pytest.raises(ToolError, match="neither"):
        Evidence("t01", np.zeros((0, 2, 2, 3), np.uint8))


def test_a_judge_that_cannot_tell_has_no_choice():
    assert Answer("q", (0.5, 0.5)).choice is None
    assert Answer("q", (0.2, 0.8)).choice == 1


def test_a_close_up_fills_the_picture_with_what_is_masked():
    picture = np.zeros((1, 64, 64, 3), np.uint8)
    mask = np.zeros((1, 64, 64), bool)
    mask[0, 40:56, 4:16] = True
    picture[mask] = 255
    shown = images.close_ups(picture, mask, margin=0.0)
    assert (shown > 127).mean() > 0.7
    assert (images.close_ups(picture, np.zeros_like(mask)) == picture).all()
    assert (images.close_ups(picture, np.ones_like(mask)) == picture).all()
