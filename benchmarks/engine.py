"""Is the folded network faster than the bare one? Forward and input gradient at 64 px; the bar is 0.80.

Run: ``python benchmarks/engine.py [--rounds 9]``

Ours is `Classifier.folded`: batch norm folded, frozen, channels_last. Bare is the same fp32 network as it was
built, default layout, frozen as well, behind a hand-written normalisation. Weights are random for tiny and the
installed ones for EfficientNet-Lite0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from measure import ratio, rounds_from, spread, turns, verdict
from torch import Tensor

from gifthorse.models.lite0 import EfficientNetLite0
from gifthorse.models.tiny import TinyResNet

SIZE, BAR = 64, 0.80
CLASSES = tuple(f"class {i}" for i in range(20))
CLOSE = 1e-4


def compare(component: TinyResNet | EfficientNetLite0, batch: int, passes: int, rounds: int) -> None:
    """Time one network on a batch, check that both sides agree, and print."""
    bare = component.build(CLASSES, SIZE, 0).eval().requires_grad_(False)
    folded = component.classifier(component.build(CLASSES, SIZE, 0).eval(), CLASSES, SIZE).folded()
    mean, std = torch.tensor(bare.mean).view(1, 3, 1, 1), torch.tensor(bare.std).view(1, 3, 1, 1)
    x = torch.rand(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))

    def gradient(forward: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(forward(leaf)[:, 0].sum(), leaf)[0]

    sides: dict[str, Callable[[], Tensor]] = {
        "bare": lambda: gradient(lambda leaf: bare((leaf - mean) / std)),
        "folded": lambda: gradient(folded),
    }
    wanted, got = sides["bare"](), sides["folded"]()
    off = (wanted - got).abs().amax((1, 2, 3)) / wanted.abs().amax((1, 2, 3))
    apart = float(off.median())  # not the largest: rounding may tip one unit of one picture over the edge of its ReLU
    if not apart < CLOSE:
        raise SystemExit(
            f"{component.name}: the gradients differ by {apart:.1e} of their largest; timing them says nothing"
        )
    many = {name: lambda side=side: [side() for _ in range(passes)] for name, side in sides.items()}
    times = turns(many, rounds)
    share = ratio(times["folded"], times["bare"])
    print(f"{component.name}, n = {batch * passes} pictures each round in batches of {batch}", end="; ")
    print(f"the gradients agree to {apart:.0e}")
    for name, spent in times.items():
        print(f"  {name:13} ms per picture  {spread([1000 * s / batch / passes for s in spent.cpu])}")
    print(f"  folded / bare               {share}  {verdict(share.median, BAR, least=False)}")


def main() -> None:
    """Measure both networks."""
    rounds = rounds_from(__doc__, 9)
    compare(TinyResNet(), 16, 6, rounds)
    compare(EfficientNetLite0(), 16, 3, rounds)


if __name__ == "__main__":
    main()
