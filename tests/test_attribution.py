"""Attribution methods: golden values against Captum, and networks whose answer is known in closed form."""

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
from torch import Tensor, nn
from torch.nn import functional as F

from attribution_support import (
    BEYOND,
    CLASSES,
    FEW,
    SEED,
    SIDE,
    SIXTEEN,
    TARGET,
    Blocks,
    Linear,
    Reader,
    classifier,
    maps_of,
    subject,
)
from gifthorse import registry
from gifthorse.images import to_tensor
from gifthorse.models.classifier import Classifier
from gifthorse.tools.attribution.backward import rescaled
from gifthorse.tools.attribution.coalitions import ShapleySampling
from gifthorse.tools.attribution.engine import Program
from gifthorse.tools.attribution.explain import Part
from gifthorse.tools.attribution.gradient import GradientShap, draw_clean
from gifthorse.tools.attribution.perturbation import FeaturePermutation, feature_mask
from gifthorse.tools.attribution.rules import references

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


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


def slow_lasso(x: Tensor, y: Tensor, w: Tensor, alpha: float = 1e-4) -> Tensor:
    """Proximal gradient steps, many of them, with the intercept as one more coefficient."""
    w = w / w.sum()
    full = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    step = 1 / torch.linalg.matrix_norm((w.sqrt()[:, None] * full), 2) ** 2
    b, ahead, t = torch.zeros(full.shape[1], dtype=x.dtype), torch.zeros(full.shape[1], dtype=x.dtype), 1.0
    for _ in range(1500):
        moved = ahead - step * full.T @ (w * (full @ ahead - y))
        new = torch.cat([F.softshrink(moved[:-1], float(alpha * step)), moved[-1:]])
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
    cells = feature_mask(SIDE, getattr(tool, "cells", 1)).repeat(1, 3, 1, 1)
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
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(6, 6, 3), nn.ReLU(),
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
    if name in ("feature-permutation", "xrai"):  # what is swapped in, or white, may be brighter than the picture
        maps = np.abs(maps)
    if name == "feature-permutation":  # and a permutation may leave a picture as it is
        maps = maps.mean(0, keepdims=True)
    assert (maps[:, inside].mean(1) > np.percentile(maps[:, ~inside], 80, axis=1)).all()
    if name not in ("rise", "xrai"):  # whose masks and segments are wider than the region
        assert (maps[:, inside].mean(1) > 3 * np.abs(maps[:, ~inside]).mean(1)).all()


@pytest.mark.parametrize("name", [n for n in (*SIXTEEN, *BEYOND) if n != "feature-permutation"])
def test_a_map_does_not_depend_on_its_neighbours(name: str) -> None:
    tool, given = registry.build("tool", name, **FEW.get(name, {})), subject(Blocks(), 3)
    together = maps_of(tool, given)
    alone = maps_of(tool, dataclasses.replace(given, triggered={"t01": given.triggered["t01"][:1]}))
    assert np.allclose(together[:1], alone, atol=1e-3 * np.abs(alone).max())
