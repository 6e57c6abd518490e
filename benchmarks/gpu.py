"""What the tools cost on a GPU: ResNet-50 at 224 px, random weights, seconds by the clock.

Run: ``python benchmarks/gpu.py [--device cuda] [--rounds 3] [--only NAME ...]``

Attribution: milliseconds per picture of each method, ours, Captum's defaults and Captum tuned, as in attribution.py.
Synthesis and retrieval: seconds for ten pictures of one target with the tool's defaults, and what a step costs over
the forward and input gradient (FB) that it contains, in batches of 16 of the network as it was built; once in float32
(convolutions in TF32, torch's default) and once in bfloat16. Generator, words and banks are stand-ins of random weights
and noise: they cost what real ones of their size do.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import captum
import numpy as np
import torch
from attribution import ORDERS, SHAPLEY, SIXTEEN, bare, network, sides_of
from torch import Tensor

from gifthorse import registry
from gifthorse.device import device_of, placed
from gifthorse.errors import GifthorseError
from gifthorse.images import to_tensor
from gifthorse.models.classifier import Classifier
from gifthorse.models.generator import ConvGenerator, GeneratorRecipe
from gifthorse.rng import generator
from gifthorse.testing.toys import toy_words
from gifthorse.tools.protocol import Bank, Subject
from gifthorse.types import Evidence, Task

SIZE, TARGET, PICTURES, BATCH = 224, 2, 10, 16
FAMILIES = ("synthesis", "retrieval", "combination")
METHODS = tuple(n for n in registry.names("tool") if registry.build("tool", n).family in FAMILIES)


def subject(device: torch.device) -> Subject:
    """One task, and every part that a tool may ask for."""
    rng = generator(0, "benchmark")

    def noise(n: int, side: int) -> np.ndarray:
        return rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)

    drawn = ConvGenerator(GeneratorRecipe(), 200).eval().requires_grad_(False).to(device)
    drawn.table.normal_()
    return Subject(
        network("resnet50")[0].to(device),
        (Task("t01", TARGET),),
        clean=noise(256, SIZE),
        labels=np.arange(256) % 20,
        twin=network("resnet50", 1)[0].to(device),
        triggered={"t01": noise(8, SIZE)},
        bank=Bank(tuple(f"thing {i}" for i in range(400)), noise(400, 72)),
        textures=Bank(tuple(f"texture {i}" for i in range(43)), noise(43, round(1.5 * SIZE))),
        generator=drawn,
        words=toy_words,
        evidence={"noise": [Evidence("t01", noise(PICTURES, SIZE))], "other": [Evidence("t01", noise(PICTURES, SIZE))]},
    )


def finish() -> None:
    """Wait until the device has done all it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The quickest of some rounds after a warm-up, device included."""
    took = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        finish()
        took.append(time.perf_counter() - start)
    return min(took[1:])


def attribution(given: Subject, rounds: int, only: list[str]) -> None:
    """Milliseconds per picture."""
    layer = given.model.net.get_submodule("body.layer4")
    x = to_tensor(given.need_triggered()["t01"])
    base = {
        name: seconds(side, rounds) / (4 if name == "F" else 2) / len(x) for name, side in bare(given.model, x).items()
    }
    print(f"F {1000 * base['F']:.3f} ms, FB {1000 * base['FB']:.3f} ms per picture in batches of {len(x)}")
    print(f"{'method':22}{'ours, ms':>10}{'in F':>9}{'captum':>10}{'tuned':>10}   captum / ours, tuned / ours")
    total = {"ours": 0.0, "captum": 0.0, "tuned": 0.0}
    for name in only:
        found = {}
        for who, side in sides_of(name, given, layer, x).items():
            orders = SHAPLEY / ORDERS if name == "shapley-sampling" and who != "ours" else 1
            found[who] = orders * seconds(side, rounds) / (2 if who == "captum" else len(x))
        row = "".join(f"{1000 * found[w]:>10.2f}" if w in found else f"{'-':>10}" for w in ("captum", "tuned"))
        gains = ", ".join(f"{found[w] / found['ours']:.2f}" for w in ("captum", "tuned") if w in found)
        print(f"{name:22}{1000 * found['ours']:>10.2f}{found['ours'] / base['F']:>9.1f}{row}   {gains}", flush=True)
        if "tuned" in found:
            total = {who: total[who] + found[who] for who in total}
    if total["ours"]:
        gains = {who: total[who] / total["ours"] for who in ("captum", "tuned")}
        print(f"all but lrp: captum / ours {gains['captum']:.2f}, tuned {gains['tuned']:.2f}")


def step(model: Classifier) -> Callable[[], object]:
    """Forward and input gradient of one batch, the network as it was built."""
    x = torch.rand(BATCH, 3, SIZE, SIZE)

    def run() -> Tensor:
        held = x.clone().requires_grad_()
        logits = model.net((held - model.mean) / model.std)
        return torch.autograd.grad(logits[:, TARGET].sum(), held)[0]

    return run


def synthesis(given: Subject, only: list[str]) -> None:
    """Seconds for ten pictures, in both precisions."""
    each = seconds(step(given.model), 10) / BATCH
    print(f"FB {1000 * each:.3f} ms per picture in batches of {BATCH}")
    print(f"{'method':20}{'float32, s':>12}{'over FB':>9}{'bfloat16, s':>13}{'over FB':>9}{'pictures':>11}{'MiB':>8}")
    for name in only:
        row = f"{name:20}"
        tool = registry.build("tool", name)
        for precision in (torch.float32, torch.bfloat16):
            for net in (given.model, given.twin):
                if net is not None:
                    net.precision, net.forwards, net.backwards = precision, 0, 0
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            try:
                tool.run(given, PICTURES, 0)
            except GifthorseError as error:
                row += f"   {error}"
                break
            finish()
            took, passes = time.perf_counter() - start, given.model.backwards
            over = f"{took / passes / each:>9.2f}" if passes else f"{'-':>9}"
            row += f"{took:>12.2f}{over}"
        most = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0
        print(f"{row}{given.model.backwards:>11}{most:>8.0f}", flush=True)


def main() -> None:
    """Measure both families."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[*SIXTEEN, *METHODS])
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    device = device_of(asked.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    print(
        f"{name}, torch {torch.__version__}, captum {captum.__version__}; resnet50, "
        f"{SIZE} px; the quickest of {asked.rounds} rounds by the clock"
    )
    given = subject(device)
    with placed(device):
        if maps := [name for name in asked.only if name in SIXTEEN]:
            attribution(given, asked.rounds, maps)
        if tools := [name for name in asked.only if name in METHODS]:
            synthesis(given, tools)


if __name__ == "__main__":
    main()
