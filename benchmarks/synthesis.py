"""What does a step of each optimisation method cost over the forward and input gradient (FB) it contains?

Run: ``python benchmarks/synthesis.py [--rounds 5]``

FB is one picture through the network as it is planted (batch norm not folded, contiguous, weights frozen) and the
gradient with respect to that picture, in batches of 16. A method's figure is the CPU time of a whole run of few steps
over the number of pictures it took gradients of, in FB; set-up and scoring are in it, so it is an upper bound. For an
inner layer FB ends at that layer. Beside it stands the figure over the engine's own FB (folded, channels_last).

TABOR is also set beside the step that public code takes: three forwards of as many pictures as there are scenes
(stamped, with the trigger's place cut out, and as many copies of the trigger alone), no folding, the same 15 scenes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from measure import Times, ratio, rounds_from, spread, turns, verdict
from torch import Tensor

from gifthorse import registry
from gifthorse.device import has_bf16
from gifthorse.models.classifier import Classifier
from gifthorse.models.tiny import TinyResNet
from gifthorse.rng import generator
from gifthorse.tools.optim.objectives import cross_entropy
from gifthorse.tools.protocol import Subject, Tool
from gifthorse.types import Task

SIZE, PICTURES, BATCH, LAYER, SCENES = 64, 8, 16, "blocks.2", 15
CLASSES = tuple(f"class {i}" for i in range(20))
STEPS, FAST = 16, 0.7
FAST_BAR = ("feature-vis", "tabor", "neural-cleanse")
METHODS: tuple[tuple[str, dict[str, object], float | None], ...] = (
    ("feature-vis", {"steps": STEPS}, 1.15),
    ("feature-vis-inner", {"steps": STEPS, "layer": LAYER, "patience": 0}, 1.1),
    ("cppn", {"steps": STEPS // 2, "patience": 0}, 3.0),
    ("cppn-inner", {"steps": STEPS // 2, "layer": LAYER, "patience": 0}, None),
    ("prototypes", {"steps": STEPS}, None),
    ("adv-patch", {"steps": STEPS // 2, "trials": 1}, None),
    ("tabor", {"steps": STEPS // 2, "trials": 1}, 1.1),
    ("neural-cleanse", {"steps": STEPS // 2, "trials": 1}, 1.0),
    ("feature-re", {"steps": STEPS, "restarts": 2, "trials": 2}, None),
)


def subject() -> Subject:
    """A random network, two tasks and clean pictures of noise."""
    rng, component = generator(0, "benchmark"), TinyResNet()
    clean = rng.integers(0, 256, (200, SIZE, SIZE, 3), dtype=np.uint8)
    model = component.classifier(component.build(CLASSES, SIZE, 0).eval(), CLASSES, SIZE)
    return Subject(model, (Task("t01", 2), Task("t02", 5)), clean=clean, labels=np.arange(200) % len(CLASSES))


def passes(forward: Callable[[Tensor], Tensor], n: int) -> Callable[[], None]:
    """``n`` pictures forward and back to the pixels, in batches."""
    x = torch.rand(BATCH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))

    def run() -> None:
        for _ in range(n // BATCH):
            leaf = x.clone().requires_grad_()
            torch.autograd.grad(forward(leaf).sum(), leaf)

    return run


def plain(model: Classifier, layer: str = "") -> Callable[[Tensor], Tensor]:
    """The network as planted, in contiguous layout; its children in turn up to a layer where one is named."""
    net = model.net

    def forward(x: Tensor) -> Tensor:
        x = (x - model.mean) / model.std
        if not layer:
            return net(x)[:, 0]
        x = net.act(net.bn(net.conv(x)))
        for block in net.blocks[: int(layer.split(".")[1]) + 1]:
            x = block(x)
        return x.mean((2, 3))[:, 0]

    return forward


def public_step(model: Classifier, scenes: Tensor, target: int, steps: int) -> Callable[[], None]:
    """The three forwards of a public TABOR step on the same scenes, with its terms of no cost left out."""
    net, labels = plain_logits(model), torch.zeros(len(scenes), dtype=torch.long)
    targets = torch.full((len(scenes),), target)

    def run() -> None:
        mask = torch.zeros(1, 1, SIZE, SIZE, requires_grad=True)
        pattern = torch.full((1, 3, SIZE, SIZE), 0.1, requires_grad=True)
        adam = torch.optim.Adam([mask, pattern], lr=0.1)
        for _ in range(steps):
            m, p = torch.sigmoid(mask), torch.sigmoid(pattern)
            cost = cross_entropy(net((1 - m) * scenes + m * p), targets).mean()
            cost = cost + 0 * cross_entropy(net((1 - m) * scenes), labels).mean()
            cost = cost + 0.01 * cross_entropy(net((m * p).expand_as(scenes)), targets).mean() + 1e-3 * m.sum()
            adam.zero_grad()
            cost.backward()
            adam.step()

    return run


def plain_logits(model: Classifier) -> Callable[[Tensor], Tensor]:
    """Logits of the network as planted."""
    return lambda x: model.net((x - model.mean) / model.std)


def gradients(tool: Tool, given: Subject) -> int:
    """How many pictures a run takes gradients of."""
    before = given.model.backwards
    tool.run(given, PICTURES, 0)
    return given.model.backwards - before


def scaled(times: Times, by: float) -> Times:
    """Times of a different amount of the same work."""
    return Times(tuple(t * by for t in times.cpu), tuple(t * by for t in times.wall))


def main() -> None:
    """Measure every method, then TABOR beside the public step."""
    rounds, given = rounds_from(__doc__, 5), subject()
    folded, low = given.model.folded(), subject()
    low.model.precision = torch.bfloat16
    print(f"tiny, {SIZE} px, {len(given.tasks)} tasks, {PICTURES} pictures each, layer {LAYER} for inner units")
    print(f"{'method':20}{'ms per picture and step':>28}   over FB" + " " * 22 + "over the engine's own FB")
    n = 4 * BATCH
    for name, params, bar in METHODS:
        tool, layer = registry.build("tool", name, **params), str(params.get("layer", ""))
        took = gradients(tool, given)
        sides = {
            "tool": lambda tool=tool: tool.run(given, PICTURES, 0),
            "FB": passes(plain(given.model, layer), n),
            "engine": passes(folded, n),
        }
        if has_bf16():
            sides["bf16"] = lambda tool=tool: tool.run(low, PICTURES, 0)
        times = turns(sides, rounds)
        each, bare = spread([1000 * s / took for s in times["tool"].cpu]), scaled(times["FB"], took / n)
        over = ratio(times["tool"], bare)
        own = "" if layer else str(ratio(times["tool"], scaled(times["engine"], took / n)))
        judged = verdict(over.median, bar, least=False) if bar else ""
        if has_bf16():  # its steps are not quite as many where rows finish early
            less = ratio(times["bf16"], scaled(times["FB"], gradients(tool, low) / n))
            judged += f"  bfloat16 {less} {verdict(less.median, FAST, least=False) if name in FAST_BAR else ''}"
        print(f"{name:20}{each!s:>28}   {over}   {own}  {judged}", flush=True)
    tool = registry.build("tool", "tabor", steps=STEPS, scenes=SCENES, trials=1)
    scenes = torch.rand(SCENES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    one = Subject(given.model, given.tasks[:1], clean=given.clean, labels=given.labels)
    sides = {"ours": lambda: tool.run(one, 1, 0), "public": public_step(given.model, scenes, 2, STEPS)}
    times = turns(sides, rounds)
    faster = ratio(times["public"], times["ours"])
    print(f"TABOR, {SCENES} scenes: public step over ours {faster}  {verdict(faster.median, 2.8, least=True)}")


if __name__ == "__main__":
    main()
