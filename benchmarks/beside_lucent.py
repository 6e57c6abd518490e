"""Feature visualisation beside torch-lucent, at equal network, input size, batch and steps.

Run: ``python benchmarks/beside_lucent.py [--rounds 5]``; needs ``pip install torch-lucent ipython decorator``.

Both raise one logit of the same random network for 24 steps with sixteen pictures at once, as Fourier spectra under
their own default transforms. Lucent is given the network as it was built, once as a user has it (weights that ask for
gradients) and once frozen, which its documentation does not do. The bar is 1.7 for the first.
"""

from __future__ import annotations

import copy
import warnings

import numpy as np
from attribution import network
from lucent.optvis import objectives, param, render
from measure import ratio, rounds_from, spread, turns, verdict
from torch import Tensor, nn

from gifthorse import registry
from gifthorse.models.classifier import Classifier
from gifthorse.tools.protocol import Subject
from gifthorse.types import Task

BATCH, STEPS, TARGET, BAR = 16, 24, 2, 1.7
LOGITS = "net_fc"  # what lucent calls the layer of logits


class Plain(nn.Module):
    """A network with its normalisation, in torch's default layout."""

    def __init__(self, model: Classifier, trained: bool) -> None:
        super().__init__()
        self.net, self.mean, self.std = copy.deepcopy(model.net).eval(), model.mean, model.std
        self.net.requires_grad_(trained)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.net((x - self.mean) / self.std)


def main() -> None:
    """Measure both networks."""
    rounds = rounds_from(__doc__, 5)
    warnings.filterwarnings("ignore")
    tool = registry.build("tool", "feature-vis", steps=STEPS)
    for name in ("tiny", "resnet18"):
        model = network(name)[0]
        given = Subject(model, (Task("t01", TARGET),), clean=np.zeros((1, model.size, model.size, 3), np.uint8))

        def lucent(net: nn.Module, size: int = model.size) -> None:
            render.render_vis(
                net, objectives.channel(LOGITS, TARGET), lambda: param.image(size, batch=BATCH), thresholds=(STEPS,),
                preprocess=False, progress=False, show_image=False, fixed_image_size=size,
            )  # fmt: skip

        built, frozen = Plain(model, True), Plain(model, False)
        sides = {
            "gifthorse": lambda given=given: tool.run(given, BATCH, 0),
            "lucent": lambda net=built: lucent(net),
            "lucent, frozen": lambda net=frozen: lucent(net),
        }
        times = turns(sides, rounds)
        for side, took in times.items():
            each = spread([1000 * s / BATCH / STEPS for s in took.cpu])
            over = "" if side == "gifthorse" else f"   over ours {ratio(took, times['gifthorse'])}"
            gain = ratio(took, times["gifthorse"]).median
            judged = verdict(gain, BAR, least=True) if side == "lucent" else ""
            print(f"{name:9}{model.size:>4} px  {side:16} ms per picture and step {each}{over}  {judged}", flush=True)


if __name__ == "__main__":
    main()
