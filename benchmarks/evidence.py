"""What does a tool cost beyond the passes it needs? Seconds per evidence over bare passes; the bar is 1.3.

Run: ``python benchmarks/evidence.py [--rounds 5]``

Every tool of the emoji suite runs on a network with random weights. Its calls of the network are noted, batch by
batch, and replayed bare: the same folded network, the same batch shapes in the same order, forward alone or forward
and input gradient as the tool did. The bar holds for the synthesis tools. Steps are cut, which leaves the cost of a
step as it is; set-up weighs more here than in a full run, so the factor is an upper bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from measure import ratio, rounds_from, spread, turns, verdict
from torch import Tensor

from gifthorse import registry
from gifthorse.bench.suite import load_suite
from gifthorse.models.classifier import Classifier
from gifthorse.models.tiny import TinyResNet
from gifthorse.rng import generator
from gifthorse.tools.protocol import Bank, Subject
from gifthorse.types import Task

SIZE, PICTURES, BAR = 64, 8, 1.3
CLASSES = tuple(f"class {i}" for i in range(20))
CUT = {
    "feature-vis": {"steps": 24},
    "adv-patch": {"steps": 12},
    "tabor": {"steps": 12},
    "snafue": {"steps": 8},
    "integrated-gradients": {"n_steps": 20},
}
Call = tuple[tuple[int, ...], bool]


@contextmanager
def noted() -> Iterator[list[Call]]:
    """The network calls inside the block: shape of the batch, and whether its gradient was wanted."""
    calls: list[Call] = []
    original = Classifier._count

    def count(model: Classifier, x: Tensor) -> None:
        calls.append((tuple(x.shape), x.requires_grad and torch.is_grad_enabled()))
        original(model, x)

    Classifier._count = count  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        Classifier._count = original  # type: ignore[method-assign]


def replay(net: Classifier, calls: list[Call]) -> Callable[[], None]:
    """The bare passes of these calls."""
    draw = torch.Generator().manual_seed(0)
    batches = {shape: torch.rand(shape, generator=draw) for shape, _ in calls}

    def passes() -> None:
        for shape, gradient in calls:
            x = batches[shape].detach().requires_grad_(gradient)
            with torch.set_grad_enabled(gradient):
                logit = net(x)[:, 0].sum()
            if gradient:
                torch.autograd.grad(logit, x)

    return passes


def subject() -> Subject:
    """A random network, two tasks, and pictures of noise of every kind a tool may ask for."""
    rng = generator(0, "benchmark")
    tasks = (Task("t01", 2), Task("t02", 0, source=1))
    component = TinyResNet()

    def draw(n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return rng.integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)

    return Subject(
        model=component.classifier(component.build(CLASSES, SIZE, 0).eval(), CLASSES, SIZE),
        tasks=tasks,
        clean=draw(200),
        labels=np.arange(200) % len(CLASSES),
        triggered={t.id: draw(4) for t in tasks},
        bank=Bank(tuple(f"picture {i}" for i in range(300)), draw(300)),
        answer={t.id: draw(4) for t in tasks},
        answer_masks={t.id: draw(4)[..., 0] < 60 for t in tasks},
    )


def main() -> None:
    """Measure every tool of the suite that calls the network."""
    rounds, given = rounds_from(__doc__, 5), subject()
    net = given.model.folded()
    print(f"tiny, {len(given.tasks)} tasks, {PICTURES} pictures each")
    print(f"{'tool':22}{'ms per evidence':>26}   over bare passes")
    for spec in load_suite("emoji").tools:
        tool = registry.build("tool", spec.name, **CUT.get(spec.name, {}))
        with noted() as calls:
            tool.run(given, PICTURES, 0)
        if not calls:
            continue
        sides = {"tool": lambda tool=tool: tool.run(given, PICTURES, 0), "bare": replay(net, calls)}
        times = turns(sides, rounds)
        each = spread([1000 * s / len(given.tasks) for s in times["tool"].cpu])
        over = ratio(times["tool"], times["bare"])
        judged = verdict(over.median, BAR, least=False) if tool.family == "synthesis" else ""
        print(f"{spec.name:22}{each!s:>26}   {over}  {judged}", flush=True)


if __name__ == "__main__":
    main()
