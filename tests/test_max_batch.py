"""One bound on memory: maps do not depend on it, it is halved where memory runs out, and it reaches every tool."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attribution_support import BEYOND, FEW, SEED, SIXTEEN, Blocks, Tokens, maps_of, subject
from gifthorse import registry
from gifthorse.bench.executors import Serial
from gifthorse.bench.meter import Meter
from gifthorse.bench.run import run_suite
from gifthorse.bench.suite import load_suite
from gifthorse.device import Machine
from gifthorse.errors import ToolError
from gifthorse.models.classifier import FORWARD_BATCH, Classifier
from gifthorse.testing.watch import traces
from gifthorse.tools.attribution import explain as shared
from gifthorse.tools.attribution.explain import ran_out

METHODS = (*SIXTEEN, *BEYOND, "attention-rollout")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def given(name: str, n: int = 6) -> Any:
    return subject(Tokens() if name == "attention-rollout" else Blocks(), n)


def tool(name: str) -> Any:
    return registry.build("tool", name, **FEW.get(name, {}))


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return np.allclose(a, b, rtol=1e-3, atol=2e-4 * np.abs(b).max())


def holding(rows: int) -> Callable[..., Tensor]:
    """A convolution for which memory runs out beyond so many pictures."""
    convolve = F.conv2d

    def limited(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if len(x) > rows:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return convolve(x, *args, **kwargs)

    return limited


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("bound", [1, 4])
def test_maps_do_not_depend_on_the_bound(name: str, bound: int) -> None:
    few, many = given(name), given(name)
    few.model.max_batch = bound
    assert close(maps_of(tool(name), few), maps_of(tool(name), many))


@pytest.mark.parametrize("name", METHODS)
def test_no_method_passes_more_pictures_than_the_bound(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = given(name)
    bounded.model.max_batch = 2
    monkeypatch.setattr(F, "conv2d", holding(2))
    (shown,) = tool(name).run(bounded, 1, SEED)
    assert "max_batch" not in shown.notes


@pytest.mark.parametrize("name", METHODS)
def test_where_memory_runs_out_the_bound_is_halved_and_the_map_is_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, short = given(name), given(name)
    before = traces(short)
    wanted = maps_of(tool(name), free)
    monkeypatch.setattr(F, "conv2d", holding(2))
    (shown,) = tool(name).run(short, 1, SEED)
    assert shown.heatmaps is not None
    assert close(shown.heatmaps, wanted)
    assert shown.notes["max_batch"] in (1, 2)
    assert traces(short) == before
    assert short.model.max_batch == FORWARD_BATCH


@pytest.mark.parametrize("name", ["saliency", "occlusion", "deep-lift-shap", "scorecam"])
def test_where_one_picture_is_too_many_the_error_names_method_and_next_step(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = given(name)
    monkeypatch.setattr(F, "conv2d", holding(0))
    with pytest.raises(ToolError, match=f"^{name}: out of memory with one picture.*--workers") as caught:
        tool(name).run(short, 1, SEED)
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_want_of_memory() -> None:
    assert ran_out(MemoryError())
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert ran_out(
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory")
    )
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x8 and 16x2)"))
    assert not ran_out(ValueError("alpha must be positive"))


def test_copies_and_plain_passes_keep_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    model = given("saliency").model
    model.max_batch = 3
    sizes, count = [], Classifier._count

    def noted(self: Classifier, x: Tensor) -> None:
        sizes.append(len(x))
        count(self, x)

    monkeypatch.setattr(Classifier, "_count", noted)
    model.folded().logits(np.zeros((7, 32, 32, 3), np.uint8))
    assert sizes == [3, 3, 1]


def test_a_run_hands_the_bound_to_its_tools_and_no_digest_knows_it(
    small_suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = load_suite(str(small_suite(tmp_path / "s.toml", "bounded", ["saliency", "edge"])))
    seen, copy = [], shared.kept_copy
    monkeypatch.setattr(shared, "kept_copy", lambda model, low: seen.append(model.max_batch) or copy(model, low))
    report = run_suite(suite, tmp_path / "home", Serial(Machine(max_batch=2)), force=True).report
    assert seen == [2]
    again = run_suite(suite, tmp_path / "home", Serial(), force=True).report
    assert seen == [2]
    assert again == report
    assert {row["tool"]: row["max_batch"] for row in report["costs"]} == {"saliency": None, "edge": None}


def test_the_meter_sees_memory_that_was_used_and_freed_before() -> None:
    size = 48 << 20
    used = np.ones(size, np.uint8)
    del used
    with Meter() as meter:
        used = np.ones(size, np.uint8)
        import time

        time.sleep(0.1)
        del used
    assert meter.cost().peak_bytes > 0.9 * size


def test_feature_permutation_still_swaps_among_all_pictures() -> None:
    name = "feature-permutation"
    many = given(name, 9)
    few = dataclasses.replace(many)
    few.model.max_batch = 4
    (bounded,) = tool(name).run(few, 1, SEED)
    few.model.max_batch = FORWARD_BATCH
    assert bounded.heatmaps is not None
    assert close(bounded.heatmaps, maps_of(tool(name), many))
