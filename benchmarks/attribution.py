"""What each attribution method costs: ours, Captum's defaults, and Captum tuned, side by side.

Run: ``python benchmarks/attribution.py [--rounds 3] [--network emoji|tiny|resnet18] [--pictures 8] [--only NAME ...]``

Unit: F, one bare forward pass of one picture, or FB, one bare forward and input gradient; bare is the network as it
was built, fp32, default layout, frozen, in batches of 8. Ours is the whole tool on a network that another tool has met:
folded copy, trace and plans are kept with the network (``first`` is what they cost, once for all methods). Captum's
defaults explain one picture at a time, one perturbation per pass; tuned means all pictures at once and
``perturbations_per_eval=8``. Both get the 8 by 8 superpixels and the same numbers of samples. Captum's Shapley sampling
runs 2 orders and is multiplied up to our 25, which it is proportional to. Methods that may compute in bfloat16 are also
measured so, where the processor has it. Weights are random; the networks at 64 px are the emoji suite's or tiny's
default, at 224 px timm's ResNet-18, which uses no module twice: Captum's DeepLift refuses torchvision's.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import captum.attr
import numpy as np
import torch
from captum._utils.models import Model
from measure import Spread, Times, ratio, spread, turns, verdict
from torch import Tensor

from gifthorse import registry
from gifthorse.bench.executors import prepare_process
from gifthorse.bench.suite import load_suite
from gifthorse.device import has_bf16
from gifthorse.images import to_tensor
from gifthorse.models.classifier import Classifier
from gifthorse.models.tiny import TinyResNet
from gifthorse.rng import generator
from gifthorse.tools.attribution.cam import last_maps
from gifthorse.tools.attribution.coalitions import KernelShap, lasso
from gifthorse.tools.attribution.engine import Program
from gifthorse.tools.attribution.explain import kept_copy
from gifthorse.tools.attribution.incremental import plan_of
from gifthorse.tools.attribution.perturbation import feature_mask, grid
from gifthorse.tools.attribution.rules import Forward, deconvolved, guided
from gifthorse.tools.protocol import Subject
from gifthorse.types import Task

TARGET, ORDERS, SHAPLEY = 2, 2, 25
GRADIENTS = ("saliency", "input-x-gradient", "guided-backprop", "deconvolution", "guided-gradcam")
SIXTEEN = (
    *GRADIENTS, "deep-lift", "lrp", "deep-lift-shap", "gradient-shap", "integrated-gradients", "feature-ablation",
    "feature-permutation", "occlusion", "lime", "kernel-shap", "shapley-sampling",
)  # fmt: skip
LOW = ("saliency", "input-x-gradient", "gradient-shap", "integrated-gradients")  # may compute in bfloat16
BARS = {"deep-lift": ("FB", 1.6), "integrated-gradients": ("FB", 43.0)}
FAST = {"integrated-gradients": 25.0}
Side = Callable[[], object]


class Fit(Model):  # type: ignore[misc]
    """Our own surrogates for Captum, whose default ones ask for scikit-learn."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, train_data: Any, **kwargs: Any) -> None:
        """Keep the samples."""
        (self.rows,) = [tuple(t.double() for t in batch) for batch in train_data]

    def representation(self) -> Tensor:
        """The coefficients."""
        x, y, w = self.rows
        if self.name == "lime":
            return lasso(x, y, w, 0.01).float()
        return (KernelShap._solve(x.numpy() > 0.5) @ y).float()

    def __call__(self, x: Tensor) -> Tensor:
        """Not asked for."""
        raise NotImplementedError


def network(name: str, seed: int = 0) -> tuple[Classifier, torch.nn.Module]:
    """The network with normalisation inside, and its last feature map's module."""
    if not name.startswith("resnet"):
        component = TinyResNet() if name == "tiny" else registry.build("model", load_suite("emoji").model.spec)
        classes = tuple(f"class {i}" for i in range(20))
        model = component.classifier(component.build(classes, 64, seed).eval(), classes, 64)
        return model, model.net.get_submodule("blocks.3.act2")
    component, classes = registry.build("model", "timm", architecture=name), tuple(map(str, range(1000)))
    model = component.classifier(component.build(classes, 224, seed).eval(), classes, 224)
    return model, model.net.get_submodule("body.layer4")


def by_captum(name: str, model: Classifier, layer: torch.nn.Module, x: Tensor, ppe: int) -> Tensor:
    """Attributions of pictures explained together, in ``ppe`` perturbations per pass."""
    a, grey, size = captum.attr, model.mean.expand_as(x).contiguous(), model.size
    told: dict[str, Any] = {"target": TARGET}
    parts: dict[str, Any] = {**told, "perturbations_per_eval": ppe}
    cells = feature_mask(size, 8).repeat(1, 3, 1, 1)
    background = torch.rand(5, 3, size, size, generator=torch.Generator().manual_seed(1))
    side, step = 12 * size // 64, 4 * size // 64
    ways: dict[str, Callable[[], Tensor]] = {
        "saliency": lambda: a.Saliency(model).attribute(x, **told),
        "input-x-gradient": lambda: a.InputXGradient(model).attribute(x, **told),
        "guided-backprop": lambda: a.GuidedBackprop(model).attribute(x, **told),
        "deconvolution": lambda: a.Deconvolution(model).attribute(x, **told),
        "guided-gradcam": lambda: a.GuidedGradCam(model, layer).attribute(x, **told),
        "deep-lift": lambda: a.DeepLift(model).attribute(x, grey, **told),
        "deep-lift-shap": lambda: a.DeepLiftShap(model).attribute(x, background, **told),
        "gradient-shap": lambda: a.GradientShap(model).attribute(x, background, n_samples=5, **told),
        "integrated-gradients": lambda: a.IntegratedGradients(model).attribute(
            x, grey, n_steps=50, internal_batch_size=None if ppe == 1 else 16, **told
        ),
        "feature-ablation": lambda: a.FeatureAblation(model).attribute(x, grey, feature_mask=cells, **parts),
        "feature-permutation": lambda: a.FeaturePermutation(model).attribute(x, feature_mask=cells, **parts),
        "occlusion": lambda: a.Occlusion(model).attribute(x, (3, side, side), (3, step, step), grey, **parts),
        "lime": lambda: a.Lime(model, Fit(name)).attribute(x, grey[:1], feature_mask=cells, n_samples=50, **parts),
        "shapley-sampling": lambda: a.ShapleyValueSampling(model).attribute(
            x, grey, feature_mask=cells, n_samples=ORDERS, **parts
        ),
    }
    if name in ways:
        return ways[name]()
    method = a.KernelShap(model)
    method.interpretable_model = Fit(name)
    return method.attribute(x, grey[:1], feature_mask=cells, n_samples=25, **parts)


def sides_of(name: str, given: Subject, layer: torch.nn.Module, x: Tensor) -> dict[str, Side]:
    """The ways to get one method's maps: ours and tuned of all pictures, Captum's default of the first two."""
    tool = registry.build("tool", name)
    out: dict[str, Side] = {"ours": lambda: tool.run(given, 1, 0)}
    if name in LOW and has_bf16(given.model.mean.device):
        low = replace(given, model=copy.deepcopy(given.model))
        low.model.precision = torch.bfloat16
        out["low"] = lambda: tool.run(low, 1, 0)
    if name == "lrp":  # Captum has no rule for sums written with + nor for means written as functions
        return out
    pair = 2 if name == "feature-permutation" else 1  # which has nothing to swap with one picture
    out["captum"] = lambda: [by_captum(name, given.model, layer, part, 1) for part in x[:2].split(pair)]
    out["tuned"] = lambda: by_captum(name, given.model, layer, x, 8)
    return out


def together(given: Subject, x: Tensor) -> None:
    """The five gradient methods from one forward pass."""
    with kept_copy(given.model) as net:
        program = Program(net, "benchmark")
        once = Forward(program, x, TARGET, last_maps(program))
        plain = once.gradient()
        maps, at = once.maps()
        shown = torch.relu((at.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True))
        back = once.gradient(guided)
        big = torch.nn.functional.interpolate(shown, x.shape[2:])
        _ = plain.abs(), (x - net.mean) * plain, back, back * big, once.gradient(deconvolved)


def bare(model: Classifier, x: Tensor) -> dict[str, Side]:
    """F and FB of the network as it was built."""
    mean, std, net = model.mean, model.std, model.net

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(4):
                net((x - mean) / std)

    def gradient() -> None:
        for _ in range(2):
            held = x.clone().requires_grad_()
            torch.autograd.grad(net((held - mean) / std)[:, TARGET].sum(), held)

    return {"F": forward, "FB": gradient}


def per_picture(times: Times, pictures: int) -> Times:
    """Seconds per picture."""
    return Times(tuple(t / pictures for t in times.cpu), times.wall)


def times(value: Spread, factor: float) -> Spread:
    """A figure multiplied up."""
    return Spread(value.median * factor, value.low * factor, value.high * factor)


def main() -> None:
    """Measure every method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--network", choices=("emoji", "tiny", "resnet18"), default="emoji")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=SIXTEEN)
    asked = parser.parse_args()
    prepare_process()
    warnings.filterwarnings("ignore")
    model, layer = network(asked.network)
    size, n = model.size, asked.pictures
    rng = generator(0, "benchmark")
    images = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    clean = rng.integers(0, 256, (16, size, size, 3), dtype=np.uint8)
    given = Subject(model, (Task("t01", TARGET),), clean, np.zeros(16, np.int64), triggered={"t01": images})
    x = to_tensor(images)
    print(
        f"{asked.network}, {size} px, {n} pictures, torch {torch.__version__}, captum {captum.__version__}, 1 thread, "
        f"load {os.getloadavg()[0]:.1f}; {asked.rounds} rounds, median [lowest to highest] of CPU seconds per picture"
    )
    print(f"{'method':22}unit{'ours':>26}{'captum':>26}{'tuned':>26}   captum / ours, tuned / ours")
    total: dict[str, float] = {"ours": 0.0, "captum": 0.0, "tuned": 0.0}
    start = time.process_time()
    with kept_copy(model) as net:
        plan_of(Program(net, "benchmark"), (size // 8, size // 8), [a[:2] for a in grid(size, 8)])
    first = time.process_time() - start
    print(f"first: {first:.3f} CPU seconds for the folded copy, its trace and the plan of 64 superpixels")
    for name in asked.only:
        found = turns(bare(model, x) | sides_of(name, given, layer, x), asked.rounds)
        total_of(name, found, n, total, 0.25 if size == 64 else 0.5)
    if set(GRADIENTS) <= set(asked.only):
        found = turns(bare(model, x) | {"ours": lambda: together(given, x)}, asked.rounds)
        five = ratio(per_picture(found["ours"], n), per_picture(found["FB"], 2 * n))
        print(f"{'the five in one go':22} FB {five!s:>25}   {verdict(five.median, 2.5, least=False)}")
    print(f"all but lrp, F: ours {total['ours']:.0f}, captum {total['captum']:.0f}, tuned {total['tuned']:.0f}")
    for who, bar in (("captum", 5.5), ("tuned", 4.0)):
        gain = total[who] / total["ours"]
        print(f"{who} / ours: {gain:.2f}  {verdict(gain, bar, least=True)}")


def total_of(name: str, found: dict[str, Times], n: int, total: dict[str, float], most: float) -> None:
    """Print a method's row and add it to the sums, which are in F."""
    pictures = {"F": 4 * n, "FB": 2 * n, "ours": n, "low": n, "captum": 2, "tuned": n}
    each = {who: per_picture(t, pictures[who]) for who, t in found.items()}
    factor = {w: SHAPLEY / ORDERS if name == "shapley-sampling" and w != "ours" else 1.0 for w in total}
    unit = BARS.get(name, ("FB" if name in SIXTEEN[:10] else "F", 0.0))[0]
    cells = {
        who: times(ratio(each[who], each[unit]), factor[who]) for who in ("ours", "captum", "tuned") if who in each
    }
    gains = [factor[who] * ratio(each[who], each["ours"]).median for who in ("captum", "tuned") if who in each]
    row = "".join(f"{cells.get(who, '-')!s:>26}" for who in total)
    bar = f"  {verdict(cells['ours'].median, BARS[name][1], least=False)}" if name in BARS else ""
    evaluations = {"feature-ablation": 65, "feature-permutation": 65, "occlusion": 197, "shapley-sampling": 25 * 64 + 1}
    if name in evaluations:
        per = cells["ours"].median / evaluations[name]
        bar = f"  {per:.3f} F per evaluation, {verdict(per, most, least=False)}"
    if "low" in each:
        low = ratio(each["low"], each[unit]).median
        bar += f"  bfloat16: {low:.2f}" + (f" {verdict(low, FAST[name], least=False)}" if name in FAST else "")
    print(f"{name:22}{unit:>3} {row}   {', '.join(f'{g:.2f}' for g in gains)}{bar}", flush=True)
    if len(gains) == 2:
        for who in total:
            total[who] += (
                factor[who] * spread([a / b for a, b in zip(each[who].cpu, each["F"].cpu, strict=True)]).median
            )


if __name__ == "__main__":
    main()
