"""Every attribution method on networks of timm: a ResNet-18 and a small vision transformer, from random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from attribution_support import BEYOND, SIXTEEN
from gifthorse import registry
from gifthorse.bench.executors import Serial
from gifthorse.bench.run import run_suite
from gifthorse.bench.suite import load_suite
from gifthorse.errors import InputError, ToolError
from gifthorse.models import zoo
from gifthorse.rng import generator
from gifthorse.testing.watch import traces
from gifthorse.tools.protocol import Subject
from gifthorse.types import Task
from tool_support import QUICK

SIDE, CLASSES = 64, ("a", "b", "c", "d", "e")
PARAMS = {**QUICK, "scorecam": {"channels": 16}}
FLOORS = ("edge", "centre", "random-map")
METHODS = (*SIXTEEN, *BEYOND, "attention-rollout")
ON_BOARD = ("saliency", "feature-ablation", "gradcam", "lrp", "attention-rollout")  # the others run above, one by one
NO_RULE = {  # what a transformer's layers leave without a rule, and why
    "guided-backprop": "no ReLU", "deconvolution": "no ReLU", "guided-gradcam": "tokens", "gradcam": "tokens",
    "gradcam-pp": "tokens", "layercam": "tokens", "scorecam": "tokens", "deep-lift": "attn|multiplies",
    "deep-lift-shap": "attn|multiplies", "lrp": "attn|multiplies",
}  # fmt: skip
MAY_BE_EMPTY = ("gradcam", "gradcam-pp", "layercam", "guided-gradcam", "lime")  # the positive part of nothing positive
REFUSED = {"resnet18": {"attention-rollout": "no attention"}, "vit_tiny_patch16_224": NO_RULE}


def network(architecture: str) -> Any:
    """A network whose norms have statistics, as a trained one's have."""
    component = registry.build("model", "timm", architecture=architecture)
    net = component.build(CLASSES, SIDE, 0).eval()
    draw = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=draw)
            module.running_var.uniform_(0.5, 2, generator=draw)
            nn.init.uniform_(module.bias, -0.5, 0.5, generator=draw)
    return component.classifier(net, CLASSES, SIDE)


@pytest.fixture(scope="module", params=list(REFUSED))
def given(request: pytest.FixtureRequest) -> tuple[str, Subject]:
    rng, model = generator(1, "architectures"), network(request.param)
    shown = rng.integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    clean = rng.integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
    return request.param, Subject(model, (Task("t01", 2),), clean, np.arange(6) % 5, triggered={"t01": shown})


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_maps_or_refuses_in_one_line(given: tuple[str, Subject], name: str) -> None:
    architecture, subject = given
    tool, before = registry.build("tool", name, **PARAMS.get(name, {})), traces(subject)
    refusal = REFUSED[architecture].get(name)
    if refusal:
        with pytest.raises(ToolError, match=refusal) as caught:
            tool.run(subject, 1, 0)
        assert str(caught.value).startswith(f"{name}: ")
        assert "\n" not in str(caught.value)
    else:
        (shown,) = tool.run(subject, 1, 0)
        assert shown.heatmaps is not None
        assert shown.heatmaps.shape == (3, SIDE, SIDE)
        assert np.isfinite(shown.heatmaps).all()
        assert name in MAY_BE_EMPTY or all(np.ptp(m) > 0 for m in shown.heatmaps)
    assert traces(subject) == before
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in subject.model.modules())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", list(REFUSED))
def test_a_board_goes_on_where_methods_refuse(architecture: str, small_suite: Any, tmp_path: Path) -> None:
    names, refused = [*FLOORS, *ON_BOARD], REFUSED[architecture].keys() & set(ON_BOARD)
    path = small_suite(tmp_path / "s.toml", "all", names)
    text = (
        path.read_text()
        .replace("size = 32", "size = 64")
        .replace("random = { patch = 1, natural = 1,", "random = { patch = 1,")
    )
    text = text.replace('model = "tiny"', f'model = {{ name = "timm", architecture = "{architecture}" }}')
    for name in set(names) & PARAMS.keys():
        params = PARAMS[name]
        table = ", ".join([f'name = "{name}"', *(f"{k} = {v}" for k, v in params.items())])
        text = text.replace(f'"{name}"', f"{{ {table} }}", 1)
    path.write_text(text)
    result = run_suite(load_suite(str(path)), tmp_path / "home", Serial(), force=True)
    scored = {row["tool"] for row in result.report["attribution"]}
    assert refused
    assert scored == set(names) - refused
    assert all(f"{name} failed: {name}: " in " ".join(result.report["reasons"]) for name in refused)


@pytest.mark.parametrize("architecture", ["resnet18", "vit_tiny_patch16_224"])
def test_weights_depend_on_the_seed_only(architecture: str) -> None:
    before = torch.random.get_rng_state()
    component = registry.build("model", "timm", architecture=architecture)
    a, b, c = (component.build(CLASSES, SIDE, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["fc.weight"], c["fc.weight"])


def test_folding_is_exact_and_the_head_reads_the_features() -> None:
    model, x = network("resnet18"), torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.folded().modules())
    assert torch.allclose(model(x), model.folded()(x), rtol=1e-3, atol=1e-4)
    assert torch.equal(model.net.head(model.features(x)), model(x))


def test_what_cannot_be_built_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="did you mean 'resnet18'"):
        registry.build("model", "timm", architecture="resnet_18")
    with pytest.raises(InputError, match="does not take pictures of 8 pixels"):
        registry.build("model", "timm", architecture="vit_tiny_patch16_224").build(CLASSES, 8, 0)
    component = registry.build("model", "timm")
    net = component.build(CLASSES, SIDE, 0).eval()
    monkeypatch.setattr(zoo, "CLOSE", -1.0)
    with pytest.raises(InputError, match="cannot be folded"):
        component.classifier(net, CLASSES, SIDE)
