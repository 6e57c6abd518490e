"""Attribution methods: golden values against Captum, networks whose answer is known, and the engine underneath."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from captum._utils.models import Model
from captum.attr._core.gradient_shap import InputBaselineXGradient
from captum.attr._utils.custom_modules import Addition_Module
from torch import Tensor, nn
from torch.nn import functional as F

from gifthorse import registry
from gifthorse.errors import ToolError
from gifthorse.images import to_tensor
from gifthorse.models.classifier import Classifier
from gifthorse.models.tiny import TinyResNet
from gifthorse.rng import generator
from gifthorse.testing.watch import traces
from gifthorse.tools.attribution.backward import rescaled
from gifthorse.tools.attribution.coalitions import KernelShap, Lime, ShapleySampling, lasso
from gifthorse.tools.attribution.engine import Program
from gifthorse.tools.attribution.explain import Part
from gifthorse.tools.attribution.gradient import GradientShap, draw_clean
from gifthorse.tools.attribution.incremental import Plan
from gifthorse.tools.attribution.perturbation import FeaturePermutation, Patches, feature_mask, grid
from gifthorse.tools.attribution.rollout import AttentionRollout
from gifthorse.tools.attribution.rules import Forward, guided, references, slope
from gifthorse.tools.attribution.xrai import rank, segments
from gifthorse.tools.protocol import Subject
from gifthorse.types import Task

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SIDE, CLASSES, TARGET, PICTURES, SEED = 32, 5, 2, 6, 3
SIXTEEN = (
    "integrated-gradients", "deep-lift", "guided-gradcam", "saliency", "gradient-shap", "deep-lift-shap",
    "guided-backprop", "deconvolution", "lrp", "input-x-gradient", "feature-ablation", "feature-permutation", "lime",
    "occlusion", "kernel-shap", "shapley-sampling",
)  # fmt: skip
BEYOND = ("smooth-grad", "gradcam", "gradcam-pp", "layercam", "scorecam", "rise", "xrai")
FEW = {
    "occlusion": {"window": 16, "stride": 8},
    "feature-ablation": {"cells": 4},
    "feature-permutation": {"cells": 4},
    "shapley-sampling": {"cells": 4, "n_samples": 4},
    "lime": {"cells": 4, "n_samples": 40},
    "kernel-shap": {"cells": 4, "n_samples": 60},
    "integrated-gradients": {"n_steps": 12},
    "xrai": {"n_steps": 8},
    "rise": {"masks": 256, "cells": 4},
    "smooth-grad": {"n_samples": 8},
}  # fmt: skip


class Blocks(nn.Module):
    """Convolutions, batch norm with statistics of its own, a sum of branches: all in modules, as Captum needs it."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv1, self.bn1, self.act1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
            self.conv2, self.bn2, self.act2 = nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
            self.conv3, self.bn3, self.act3 = nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
            self.add, self.pool, self.fc = Addition_Module(), nn.AdaptiveAvgPool2d(1), nn.Linear(8, CLASSES)
            for bn in (self.bn1, self.bn2, self.bn3):
                nn.init.normal_(bn.bias, 0, 0.2)
                nn.init.uniform_(bn.weight, 0.5, 1.5)
                bn.running_mean.normal_(0, 0.2)
                bn.running_var.uniform_(0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.act2(self.bn2(self.conv2(x)))))
        return self.fc(torch.flatten(self.pool(self.act3(self.add(y, x))), 1))


class Careless(Blocks):
    """The same network, written as networks often are: one ReLU for all, in place, and a sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.act1 = self.act2 = self.act3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(x)), inplace=True)))
        y += x
        return self.fc(self.act1(y).mean((2, 3)))


class Reader(nn.Module):
    """Class 2 is what one region holds; the rest of the picture is multiplied by nothing."""

    def __init__(self, size: int = SIDE) -> None:
        super().__init__()
        window = torch.zeros(1, 1, size, size)
        window[..., 8:16, 16:24] = 1
        self.register_buffer("window", window)
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        with torch.no_grad():
            self.conv.weight.fill_(0.02)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.relu(self.conv(x * self.window)).sum((1, 2, 3))
        return F.pad(seen[:, None], (TARGET, CLASSES - TARGET - 1)) / 8


class Linear(nn.Module):
    """A weight for every pixel and channel, and a bias."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.fc = nn.Linear(3 * SIDE * SIDE, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def classifier(net: nn.Module, size: int = SIDE, classes: int = CLASSES) -> Classifier:
    return Classifier(net, tuple(f"c{i}" for i in range(classes)), size, (0.5, 0.45, 0.4), (0.25, 0.2, 0.3))


def subject(net: nn.Module, n: int = PICTURES, size: int = SIDE, **changes: Any) -> Subject:
    rng = generator(1, "attribution")
    triggered = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    clean = rng.integers(0, 256, (8, size, size, 3), dtype=np.uint8)
    tasks = (Task("t01", TARGET),)
    full = Subject(classifier(net, size), tasks, clean, np.arange(8) % CLASSES, triggered={"t01": triggered})
    return dataclasses.replace(full, **changes)


def maps_of(tool: Any, given: Subject, seed: int = SEED) -> np.ndarray:
    maps = tool.run(given, 1, seed)[0].heatmaps
    assert maps is not None
    return maps


class Fit(Model):
    """A surrogate for Captum, which would ask for scikit-learn: its data, given to a function."""

    def __init__(self, solve: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        self.solve = solve

    def fit(self, train_data: Any, **kwargs: Any) -> None:
        (self.rows,) = [tuple(t.double() for t in batch) for batch in train_data]

    def representation(self) -> Tensor:
        return self.solve(*self.rows).float()

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError


def slow_lasso(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Proximal gradient steps, many of them, with the intercept as one more coefficient."""
    w = w / w.sum()
    full = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    step = 1 / torch.linalg.matrix_norm((w.sqrt()[:, None] * full), 2) ** 2
    b, ahead, t = torch.zeros(full.shape[1], dtype=x.dtype), torch.zeros(full.shape[1], dtype=x.dtype), 1.0
    for _ in range(20000):
        moved = ahead - step * full.T @ (w * (full @ ahead - y))
        new = torch.cat([F.softshrink(moved[:-1], float(0.01 * step)), moved[-1:]])
        after = (1 + (1 + 4 * t * t) ** 0.5) / 2
        if ((ahead - new) * (new - b)).sum() > 0:
            after = t = 1.0
        b, ahead, t = new, new + (t - 1) / after * (new - b), after
    return b[:-1]


def least_squares(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    x, y = x - (w[:, None] * x).sum(0) / w.sum(), y - (w * y).sum() / w.sum()
    return torch.from_numpy(np.linalg.lstsq((w.sqrt()[:, None] * x).numpy(), (w.sqrt() * y).numpy(), rcond=1e-10)[0])


def by_captum(tool: Any, model: Classifier, x: Tensor, background: Tensor) -> Tensor:
    """What Captum says, given the same samples, on the network as it was built. Attributions ``(n, c, h, w)``."""
    net, h, a = model.net, model.normalise(x).contiguous(), captum.attr
    cells = feature_mask(SIDE, getattr(tool, "cells", 1)).expand(1, 3, -1, -1)
    grey = model.mean.expand_as(x)
    told: dict[str, Any] = {"target": TARGET}
    ways: dict[str, Callable[[], Tensor]] = {
        "saliency": lambda: a.Saliency(model).attribute(x, **told),
        "input-x-gradient": lambda: a.InputXGradient(net).attribute(h, **told),
        "integrated-gradients": lambda: a.IntegratedGradients(model).attribute(x, grey, n_steps=tool.n_steps, **told),
        "deep-lift": lambda: a.DeepLift(net).attribute(h, **told),
        "deep-lift-shap": lambda: a.DeepLiftShap(net).attribute(h, model.normalise(background).contiguous(), **told),
        "guided-backprop": lambda: a.GuidedBackprop(model).attribute(x, **told),
        "deconvolution": lambda: a.Deconvolution(model).attribute(x, **told),
        "guided-gradcam": lambda: a.GuidedGradCam(model, net.act3).attribute(x, **told),
        "lrp": lambda: a.LRP(copy.deepcopy(net)).attribute(h, **told),
        "gradient-shap": lambda: captum_gradient_shap(tool, model, x, background),
        "occlusion": lambda: a.Occlusion(model).attribute(x, (3, 8, 8), (3, 4, 4), grey, **told)[:, :1],
        "feature-ablation": lambda: a.FeatureAblation(model).attribute(x, grey, feature_mask=cells, **told)[:, :1],
        "feature-permutation": lambda: captum_permutation(tool, model, x, cells),
        "shapley-sampling": lambda: captum_shapley(tool, model, x, cells),
    }
    return ways[tool.name]() if tool.name in ways else captum_surrogate(tool, net, h, cells)


def captum_permutation(tool: FeaturePermutation, model: Classifier, x: Tensor, cells: Tensor) -> Tensor:
    orders = tool.orders(len(x), "t01", SEED)

    def swap(values: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask, values[orders[int(cells[mask][0])]], values)

    return captum.attr.FeaturePermutation(model, swap).attribute(x, target=TARGET, feature_mask=cells)[:, :1]


def captum_shapley(tool: ShapleySampling, model: Classifier, x: Tensor, cells: Tensor) -> Tensor:
    method, grey = captum.attr.ShapleyValueSampling(model), model.mean.expand_as(x)
    method.permutation_generator = lambda features, samples: iter(tool.orders("t01", SEED).tolist())
    return method.attribute(x, grey, target=TARGET, feature_mask=cells, n_samples=tool.n_samples)[:, :1]


def captum_gradient_shap(tool: GradientShap, model: Classifier, x: Tensor, background: Tensor) -> Tensor:
    alpha, which, _ = tool._draw(Part(x, TARGET, "t01", 0), len(background), SEED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "uniform", lambda low, high, n: alpha.flatten().numpy())
        many = InputBaselineXGradient(model).attribute(
            x.repeat_interleave(tool.n_samples, 0), background[which], target=TARGET
        )
    return many.unflatten(0, (-1, tool.n_samples)).mean(1)


def captum_surrogate(tool: Any, net: nn.Module, h: Tensor, cells: Tensor) -> Tensor:
    sets = tool.sets("t01", SEED).long()

    def drawn(*args: Any, **kwargs: Any) -> Iterator[Tensor]:
        yield from sets[:, None]

    out = []
    for one in h:
        if tool.name == "lime":
            method = captum.attr.Lime(net, Fit(slow_lasso), perturb_func=drawn)
        else:
            method = captum.attr.KernelShap(net)
            method.perturb_func, method.interpretable_model = drawn, Fit(least_squares)
        out.append(method.attribute(one[None], target=TARGET, feature_mask=cells, n_samples=len(sets))[:, :1])
    return torch.cat(out)


@pytest.mark.parametrize("name", SIXTEEN)
def test_maps_are_captums(name: str) -> None:
    given, tool = subject(Blocks()), registry.build("tool", name, **FEW.get(name, {}))
    got = maps_of(tool, given)
    x = to_tensor(given.triggered["t01"])
    background = draw_clean(given, getattr(tool, "baselines", 1), SEED, name)
    exact = copy.deepcopy(given.model).double()
    truth = by_captum(tool, exact, x.double(), background.double()).sum(1).detach().double().numpy()
    theirs = by_captum(tool, given.model, x, background).sum(1).detach().numpy()
    apart = {"ours": [], "theirs": []}
    for mine, other, wanted in zip(got, theirs, truth, strict=True):
        assert np.abs(wanted).max() > 0
        assert (mine * wanted).sum() / np.sqrt((mine.astype(float) ** 2).sum() * (wanted**2).sum()) >= 0.9999
        for who, values in (("ours", mine), ("theirs", other)):
            apart[who].append(np.abs(values - wanted).max() / np.abs(wanted).max())
    assert np.median(apart["ours"]) <= max(2 * np.median(apart["theirs"]), 1e-6)


def test_deep_lift_adds_up_where_captums_does_not() -> None:
    """Captum's rule for a max-pool is lost where the pool follows a ReLU; overlapping windows lose shares as well."""
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(6, 6, 3), nn.ReLU6(),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES))  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(2)
        for m in net:
            if hasattr(m, "weight"):
                nn.init.normal_(m.weight, 0, 0.3)
    model = classifier(net)
    x, base = to_tensor(subject(net).triggered["t01"]), torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator())
    program = Program(model.folded(), "test")
    (slopes,) = rescaled(program, references(program, base), x, TARGET)
    change = (model(x) - model(base))[:, TARGET]
    assert torch.allclose(((x - base) * slopes).sum((1, 2, 3)), change, atol=1e-4)
    captums = captum.attr.DeepLift(model).attribute(x, base.expand_as(x).contiguous(), target=TARGET)
    assert not torch.allclose(captums.sum((1, 2, 3)), change, atol=1e-2)


def test_relevance_adds_up_over_branches() -> None:
    net = Blocks()
    for bn in (net.bn1, net.bn2, net.bn3):
        nn.init.zeros_(bn.bias)
        bn.running_mean.zero_()
    nn.init.zeros_(net.fc.bias)
    given = subject(net)
    logits = given.model(to_tensor(given.triggered["t01"]))[:, TARGET]
    assert np.allclose(maps_of(registry.build("tool", "lrp"), given).sum((1, 2)), logits, atol=1e-3)


def test_shares_of_a_linear_network_are_weight_times_input() -> None:
    given = subject(Linear())
    x, model = to_tensor(given.triggered["t01"]), given.model
    weight = model.net.fc.weight[TARGET].view(1, 3, SIDE, SIDE) / model.std
    exact = (weight * (x - model.mean)).sum(1)
    for name in ("input-x-gradient", "integrated-gradients", "deep-lift"):
        got = maps_of(registry.build("tool", name, **FEW.get(name, {})), given)
        assert np.allclose(got, exact, atol=2e-5), name
    for name in ("gradient-shap", "deep-lift-shap"):
        tool = registry.build("tool", name)
        background = draw_clean(given, tool.baselines, SEED, name)
        base = background.mean(0, keepdim=True)
        if name == "gradient-shap":
            _, which, _ = tool._draw(Part(x, TARGET, "t01", 0), len(background), SEED)
            base = background[which].unflatten(0, (-1, tool.n_samples)).mean(1)
        assert np.allclose(maps_of(tool, given), (weight * (x - base)).sum(1), atol=2e-5), name
    cells = feature_mask(SIDE, 4)
    cell = torch.stack([torch.where(cells == k, exact, 0).sum((1, 2)) for k in range(16)], 1)
    for name in ("feature-ablation", "shapley-sampling", "kernel-shap"):
        assert np.allclose(maps_of(registry.build("tool", name, **FEW[name]), given), cell[:, cells], atol=2e-4), name


@pytest.mark.parametrize("name", [*SIXTEEN, *BEYOND])
def test_a_network_that_reads_one_region_is_explained_by_it(name: str) -> None:
    given = subject(Reader())
    given.triggered["t01"][:, 8:16, 16:24] |= 128  # bright, so that the class is there
    maps = maps_of(registry.build("tool", name, **FEW.get(name, {})), given)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[8:16, 16:24] = True
    assert (maps[:, inside].mean(1) > 3 * np.abs(maps[:, ~inside]).mean(1)).all() or name == "rise"
    assert (maps[:, inside].mean(1) > np.percentile(maps[:, ~inside], 80, axis=1)).all()


@pytest.mark.parametrize("name", [n for n in (*SIXTEEN, *BEYOND) if n != "feature-permutation"])
def test_a_map_does_not_depend_on_its_neighbours(name: str) -> None:
    tool, given = registry.build("tool", name, **FEW.get(name, {})), subject(Blocks(), 3)
    together = maps_of(tool, given)
    alone = maps_of(tool, dataclasses.replace(given, triggered={"t01": given.triggered["t01"][:1]}))
    assert np.allclose(together[:1], alone, atol=1e-4 * np.abs(alone).max())


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
        if len(calls) == 3:
            raise KeyboardInterrupt
        return normalise(self, x)

    monkeypatch.setattr(Classifier, "normalise", stop)
    with pytest.raises(KeyboardInterrupt):
        registry.build("tool", name).run(given, 1, 0)
    assert traces(given) == before


class Branching(Blocks):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.mean() < 9 else x


class Overwriting(Blocks):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x[:, 0] = 0
        return self.fc(self.act1(x).mean((2, 3)))


class Tokens(nn.Module):
    """One layer of attention over 16 patches; every token attends to the one whose key is largest."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.patch, self.attend = nn.Conv2d(3, 8, 8, 8), nn.MultiheadAttention(8, 2, batch_first=True)
            self.act, self.fc = nn.GELU(), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        t = self.patch(x).flatten(2).transpose(1, 2)
        t = t + self.attend(t, t, t, need_weights=False)[0]
        return self.fc(self.act(t).mean(1))


@pytest.mark.parametrize(
    ("name", "net", "says"),
    [
        ("guided-backprop", Branching(), "cannot be taken apart"),
        ("deep-lift", Overwriting(), "in place"),
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
    assert max((m & inside).sum() / (m | inside).sum() for m in found) > 0.75


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
