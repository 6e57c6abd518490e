"""What lies under the attribution methods: tracing, rules, patches; refusals; formulas derived anew."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attribution_support import (
    FEW,
    SEED,
    SIDE,
    TARGET,
    Blocks,
    Branching,
    Careless,
    Linear,
    Overwriting,
    Tokens,
    classifier,
    maps_of,
    subject,
)
from gifthorse import registry
from gifthorse.errors import ToolError
from gifthorse.images import to_tensor
from gifthorse.models.classifier import Classifier
from gifthorse.models.tiny import TinyResNet
from gifthorse.testing.watch import traces
from gifthorse.tools.attribution.coalitions import KernelShap, Lime, ShapleySampling, lasso
from gifthorse.tools.attribution.engine import Program
from gifthorse.tools.attribution.incremental import Look, Plan
from gifthorse.tools.attribution.perturbation import FeaturePermutation, Patches, grid
from gifthorse.tools.attribution.rollout import AttentionRollout
from gifthorse.tools.attribution.rules import Forward, guided, slope
from gifthorse.tools.attribution.xrai import rank, segments
from gifthorse.types import Task

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize(
    "name", ["deep-lift", "lrp", "guided-backprop", "guided-gradcam", "gradcam", "shapley-sampling"]
)
def test_modules_used_twice_and_in_place_change_nothing(name: str) -> None:
    tool = registry.build("tool", name, **FEW.get(name, {}))
    plain, careless = subject(Blocks()), subject(Careless())
    before = traces(careless)
    got = maps_of(tool, careless)
    assert np.allclose(got, maps_of(tool, plain), atol=1e-4 * np.abs(got).max())
    assert traces(careless) == before


@pytest.mark.parametrize("name", ["deep-lift", "guided-gradcam", "occlusion"])
def test_an_interrupted_run_leaves_nothing_behind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = subject(Blocks())
    before, normalise = traces(given), Classifier.normalise
    calls = []

    def stop(self: Classifier, x: Tensor) -> Tensor:
        calls.append(x)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return normalise(self, x)

    monkeypatch.setattr(Classifier, "normalise", stop)
    with pytest.raises(KeyboardInterrupt):
        registry.build("tool", name).run(given, 1, 0)
    assert traces(given) == before


@pytest.mark.parametrize(
    ("name", "net", "says"),
    [
        ("guided-backprop", Branching(), "cannot be taken apart"),
        ("deep-lift", Overwriting(), "item assignment"),
        ("guided-backprop", Tokens(), "no ReLU"),
        ("deep-lift", Tokens(), "attend"),
        ("lrp", Tokens(), "attend"),
        ("gradcam", Tokens(), "tokens"),
        ("gradcam", Linear(), "no feature map"),
        ("attention-rollout", Blocks(), "no attention"),
    ],
)
def test_a_network_that_does_not_suit_is_refused_in_one_line(name: str, net: nn.Module, says: str) -> None:
    tool = registry.build("tool", name)
    with pytest.raises(ToolError, match=says) as refused:
        tool.run(subject(net), 1, 0)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(name)


def test_odd_pictures_and_targets_are_refused() -> None:
    tool, given = registry.build("tool", "saliency"), subject(Blocks())
    with pytest.raises(ToolError, match="none of the network's 5 classes"):
        tool.run(dataclasses.replace(given, tasks=(Task("t01", 9),)), 1, 0)
    for odd in (np.zeros((2, SIDE, SIDE, 1), np.uint8), np.zeros((0, SIDE, SIDE, 3), np.uint8)):
        with pytest.raises(ToolError, match="do not fit a network"):
            tool.run(dataclasses.replace(given, triggered={"t01": odd}), 1, 0)
    with pytest.raises(ToolError, match="nothing to swap"):
        registry.build("tool", "feature-permutation").run(subject(Blocks(), 1), 1, 0)


@pytest.mark.parametrize("name", ["occlusion", "feature-ablation", "shapley-sampling"])
def test_without_operations_everything_is_computed_again_and_the_map_is_the_same(name: str) -> None:
    tool = registry.build("tool", name, **FEW[name])
    quick, slow = (tool.run(subject(net), 1, SEED)[0] for net in (Blocks(), Branching()))
    assert quick.heatmaps is not None
    assert slow.heatmaps is not None
    assert quick.notes["recomputed"] < 0.9
    assert slow.notes["recomputed"].startswith("everything: ")
    assert np.allclose(quick.heatmaps, slow.heatmaps, atol=2e-4 * np.abs(slow.heatmaps).max())


@pytest.mark.parametrize("size", [64, 50])
def test_what_a_patch_can_reach_is_all_that_changes(size: int) -> None:
    component = TinyResNet(widths=(8, 12, 16))
    net = component.classifier(component.build(("a", "b", "c"), size, 0).eval(), ("a", "b", "c"), size).folded()
    areas = [(0, 0, 7, 7), (size - 7, 3, 7, 7), (20, size - 7, 7, 7), (21, 33, 7, 7)]
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    notes: dict[str, Any] = {}
    with torch.inference_mode():
        before, got = Patches(net, areas, "test", notes).logits(x, lambda k: torch.full((1, 3, 7, 7), k / 4), 1)
        assert torch.allclose(before, net(x)[:, 1], atol=1e-6)
        for k, (top, left, h, w) in enumerate(areas):
            whole = x.clone()
            whole[:, :, top : top + h, left : left + w] = k / 4
            assert torch.allclose(got[k], net(whole)[:, 1], atol=1e-5)
    assert notes["recomputed"] < 1


def test_a_plan_knows_what_a_patch_costs() -> None:
    component = TinyResNet()
    net = component.classifier(component.build(("a", "b"), 64, 0).eval(), ("a", "b"), 64).folded()
    plan = Plan(Program(net, "test"), (8, 8), [a[:2] for a in grid(64, 8)])
    assert 0.35 < plan.share < 0.5


class Pooled(nn.Module):
    """A convolution, something with or without negative values, a pool that overlaps and has a border."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.first, self.act = nn.Conv2d(3, 6, 3, padding=1), act
        self.pool, self.last = nn.MaxPool2d(3, 2, 1), nn.Conv2d(6, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.pool(self.act(self.first(x)))).mean((2, 3))


@pytest.mark.parametrize(("act", "passes"), [(nn.ReLU(), True), (nn.GELU(), False)])
def test_a_max_pool_passes_boxes_on_where_its_border_is_as_good_as_none(act: nn.Module, passes: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Classifier(Pooled(act).eval(), ("a", "b"), 64, (0.5,) * 3, (0.25,) * 3).folded()
    plan = Plan(Program(net, "test"), (8, 8), [a[:2] for a in grid(64, 8)])
    pool = next(s for s in plan.steps if isinstance(s.op.module, nn.MaxPool2d))
    assert (pool.region is not None) is passes
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    new = torch.rand(64, 1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    whole = x.repeat(64, 1, 1, 1)
    for i, (top, left) in enumerate(plan.boxes):  # the corners' windows reach past the border
        whole[i, :, top : top + 8, left : left + 8] = new[i, 0]
    with torch.inference_mode():
        again = Look(plan, x).again(range(64), new)[:, 0]
        assert torch.allclose(again, net(whole), atol=1e-5)


def test_methods_share_one_copy_and_one_trace_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    folded, trace = Classifier.folded, Program._trace
    monkeypatch.setattr(Classifier, "folded", lambda self, low=None: made.append("copy") or folded(self, low))
    monkeypatch.setattr(Program, "_trace", lambda self: made.append("trace") or trace(self))
    given = subject(Blocks())
    first = maps_of(registry.build("tool", "guided-backprop"), given)
    for name in ("gradcam", "occlusion", "shapley-sampling"):
        maps_of(registry.build("tool", name, **FEW.get(name, {})), given)
    assert made == ["copy", "trace"]
    assert np.array_equal(maps_of(registry.build("tool", "guided-backprop"), given), first)
    assert made == ["copy", "trace"]


@pytest.mark.parametrize("change", ["weights", "buffers", "module", "stride"])
def test_a_network_that_changed_is_not_taken_for_the_old_one(change: str) -> None:
    tool, given = registry.build("tool", "guided-backprop"), subject(Blocks())
    old = maps_of(tool, given)

    def changed(net: Any) -> None:
        if change == "weights":
            net.conv2.weight.data.mul_(-1)
        elif change == "buffers":
            net.bn1.running_mean.data.add_(1)
        elif change == "module":
            net.act2 = nn.LeakyReLU(0.9)
        else:
            net.conv1.stride = (1, 1)

    changed(given.model.net)
    fresh = subject(Blocks())
    changed(fresh.model.net)
    new = maps_of(tool, given)
    assert not np.array_equal(new, old)
    assert np.array_equal(new, maps_of(tool, fresh))


def test_one_forward_serves_many_rules() -> None:
    model = classifier(Blocks())
    net, x = model.folded(), to_tensor(subject(Blocks()).triggered["t01"])
    program = Program(net, "test")
    net.forwards = net.backwards = 0
    once = Forward(program, x, TARGET)
    both = [once.gradient(rule) for rule in (slope, guided)]
    assert (net.forwards, net.backwards) == (len(x), 2 * len(x))
    for rule, got in zip((slope, guided), both, strict=True):
        assert torch.equal(got, Forward(program, x, TARGET).gradient(rule))
    leafed = x.clone().requires_grad_()
    assert torch.allclose(both[0], torch.autograd.grad(model(leafed)[:, TARGET].sum(), leafed)[0], atol=1e-6)


def test_the_lasso_is_at_its_minimum() -> None:
    draw = torch.Generator().manual_seed(0)
    x = (torch.rand(40, 64, generator=draw) < 0.5).double()
    y, w = torch.randn(40, generator=draw).double(), torch.rand(40, generator=draw).double()
    b = lasso(x, y, w, 0.05)
    share = w / w.sum()
    centred = x - (share[:, None] * x).sum(0)
    pull = centred.T @ (share * (y - (share * y).sum() - centred @ b))
    assert (b != 0).sum() > 3
    assert torch.allclose(pull[b != 0], 0.05 * b[b != 0].sign(), atol=1e-7)
    assert pull.abs().max() <= 0.05 + 1e-7


def test_class_activation_maps_follow_their_formulas() -> None:
    given = subject(Blocks())
    net, h = given.model.net, given.model.normalise(to_tensor(given.triggered["t01"]))
    seen: list[Tensor] = []
    hook = net.act3.register_forward_hook(lambda m, i, o: seen.append(o.detach().requires_grad_()) or seen[-1])
    logit = net(h)[:, TARGET].sum()
    hook.remove()
    (g,), (a,) = torch.autograd.grad(logit, seen), seen
    second, third = g**2, g**3
    alpha = second / (2 * second + (a * third).sum((2, 3), keepdim=True) + 1e-30)
    wanted = {
        "gradcam": (g.mean((2, 3), keepdim=True) * a).sum(1),
        "gradcam-pp": ((alpha * g.relu()).sum((2, 3), keepdim=True) * a).sum(1),
        "layercam": (g.relu() * a).sum(1),
    }
    for name, small in wanted.items():
        large = F.interpolate(small.relu()[:, None], (SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0].detach()
        assert np.allclose(maps_of(registry.build("tool", name), given), large, rtol=1e-3, atol=1e-5), name
    assert registry.build("tool", "gradcam").run(given, 1, 0)[0].notes == {"layer": "act3 (ReLU)"}


def test_scorecam_weighs_what_each_map_shows() -> None:
    given = subject(Blocks(), 1)
    model, x, seen = given.model, to_tensor(given.triggered["t01"]), []
    hook = model.net.act3.register_forward_hook(lambda m, i, o: seen.append(o))
    model(x)
    hook.remove()
    large = F.interpolate(seen[0], (SIDE, SIDE), mode="bilinear", align_corners=False)[0]
    scores = []
    for one in large:
        veil = (one - one.min()) / (one.max() - one.min()) if one.max() > one.min() else torch.zeros_like(one)
        scores.append(model(model.mean + veil * (x - model.mean))[0, TARGET])
    wanted = (torch.stack(scores).softmax(0).view(-1, 1, 1) * large).sum(0).relu()
    assert np.allclose(maps_of(registry.build("tool", "scorecam"), given)[0], wanted, rtol=1e-3, atol=1e-5)


def test_xrai_ranks_segments_by_their_mean() -> None:
    attribution = np.zeros((8, 8))
    attribution[:2, :2], attribution[4:, 4:] = 5.0, 3.0
    masks = np.zeros((4, 8, 8), bool)
    masks[0, :2, :2] = masks[1, 4:, 4:] = masks[2, :, 4:] = masks[3] = True
    out = rank(attribution, masks)
    assert (out[:2, :2] == 5).all()
    assert (out[4:, 4:] == 3).all()
    assert (out[:4, 4:] == 0).all()
    picture = np.zeros((32, 32, 3))
    picture[8:20, 10:24] = 1.0
    found = segments(picture)
    assert found.any(0).all()
    inside = np.zeros((32, 32), bool)
    inside[8:20, 10:24] = True
    assert max((m & inside).sum() / (m | inside).sum() for m in found) > 0.6


def test_rollout_is_the_product_of_attentions() -> None:
    given = subject(Tokens())
    net, h = given.model.net, given.model.normalise(to_tensor(given.triggered["t01"]))
    t = net.patch(h).flatten(2).transpose(1, 2)
    weights = net.attend(t, t, t)[1]
    flow = (weights + torch.eye(16)) / 2
    small = (flow / flow.sum(-1, keepdim=True)).mean(1).unflatten(1, (1, 4, 4))
    large = F.interpolate(small, (SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0].detach()
    assert np.allclose(maps_of(AttentionRollout(), given), large, atol=1e-6)


def test_the_centre_is_in_the_middle() -> None:
    maps = maps_of(registry.build("tool", "centre"), subject(Blocks()))
    assert maps[0].argmax() in {SIDE * r + c for r in (15, 16) for c in (15, 16)}
    assert np.allclose(maps, maps[:, ::-1, ::-1])
    assert np.allclose(maps[0, 15, 23], np.exp(-((7.5 / 32) ** 2 + (0.5 / 32) ** 2) / 2 / 0.25**2))


@pytest.mark.parametrize("tool", [Lime, KernelShap, ShapleySampling, FeaturePermutation])
def test_draws_belong_to_the_task(tool: Any) -> None:
    draw = tool().orders if hasattr(tool, "orders") else tool().sets
    if tool is FeaturePermutation:
        assert not torch.equal(draw(5, "t01", 0), draw(5, "t02", 0))
        assert all((row.sort().values == torch.arange(5)).all() for row in draw(5, "t01", 0))
        return
    assert torch.equal(draw("t01", 0), draw("t01", 0))
    assert not torch.equal(draw("t01", 0), draw("t02", 0))
