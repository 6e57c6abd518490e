"""`check_tool`: the invariants every tool keeps, for built-ins and strangers alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..models.classifier import Classifier
from ..rng import generator
from ..tools.protocol import Bank, Subject
from ..types import Evidence, Need, Task

SIDE = 64
CLASSES = ("red", "green", "blue", "grey")


class _ToyNet(nn.Module):
    """A small network with the interface of every built-in architecture."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.random.manual_seed(seed)
            self.conv = nn.Conv2d(3, 8, 5, stride=4, padding=2, bias=False)
            self.norm = nn.BatchNorm2d(8)
            self.act = nn.ReLU()
            self.fc = nn.Linear(8, len(CLASSES))

    def features(self, x: Tensor) -> Tensor:
        """Pooled activations ``(n, 8)``."""
        out: Tensor = self.act(self.norm(self.conv(x))).mean((2, 3))
        return out

    def head(self, f: Tensor) -> Tensor:
        """Logits ``(n, 4)``."""
        out: Tensor = self.fc(f)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Logits of normalised pictures."""
        return self.head(self.features(x))


def toy_subject(needs: frozenset[Need], seed: int = 0) -> Subject:
    """A tiny subject with everything in ``needs`` and nothing else."""
    rng = generator(seed, "toy")

    def pictures(n: int) -> NDArray[np.uint8]:
        return rng.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)

    def model(s: int) -> Classifier:
        return Classifier(_ToyNet(s), CLASSES, SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

    tasks = (Task("t01", 0), Task("t02", 1, source=2))
    clean, labels = pictures(12), np.arange(12, dtype=np.int64) % len(CLASSES)
    triggered = {t.id: pictures(2) for t in tasks}
    masks = {t.id: rng.random((2, SIDE, SIDE)) < 0.2 for t in tasks}
    bank = Bank(tuple(f"object {i}" for i in range(24)), pictures(24))
    answer = {t.id: pictures(4) for t in tasks}
    return Subject(
        model=model(seed),
        tasks=tasks,
        clean=clean if Need.CLEAN in needs else None,
        labels=labels if Need.CLEAN in needs else None,
        twin=model(seed + 1) if Need.TWIN in needs else None,
        triggered=triggered if needs & {Need.TRIGGERED, Need.ANSWER} else None,
        bank=bank if Need.BANK in needs else None,
        answer=answer if Need.ANSWER in needs else None,
        answer_masks=masks if Need.ANSWER in needs else None,
    )


def _state(model: Classifier) -> dict[str, Any]:
    hooks = sum(len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    return {
        "weights": {k: v.clone() for k, v in model.state_dict().items()},
        "hooks": hooks,
        "training": [m.training for m in model.modules()],
        "trainable": [p.requires_grad for p in model.parameters()],
        "gradients": [p.grad is not None for p in model.parameters()],
    }


def _bytes(evidence: list[Evidence]) -> list[bytes]:
    return [e.images.tobytes() + (b"" if e.heatmaps is None else e.heatmaps.tobytes()) for e in evidence]


def check_tool(tool: Any, pictures: int = 2) -> list[str]:
    """What is wrong with a tool, one line per broken rule; an empty list means that it passes.

    Checked: it declares name, version, family, needs and emits; its docstring; evidence for every task in
    order; number and size of pictures or maps; same seed, same bytes; the global random state, the network's
    weights, mode, gradients and hooks are left as they were.

    Args:
        tool: a built tool.
        pictures: how many pictures to ask for.
    """
    wrong = [
        f"class attribute {a!r} is missing"
        for a in ("name", "version", "family", "needs", "emits")
        if not hasattr(tool, a)
    ]
    if wrong:
        return wrong
    if not type(tool).__doc__:
        wrong.append("the class has no docstring: say what it shows and which paper it follows")
    subject = toy_subject(tool.needs)
    before, random_before = _state(subject.model), torch.random.get_rng_state()
    evidence = tool.run(subject, pictures, 0)
    after = _state(subject.model)
    if not torch.equal(random_before, torch.random.get_rng_state()):
        wrong.append("the global torch random state was changed: seed a torch.Generator instead")
    weights = before.pop("weights"), after.pop("weights")
    if any(not torch.equal(weights[0][k], weights[1][k]) for k in weights[0]):
        wrong.append("the network's weights or buffers were changed")
    wrong += [f"the network's {key} were changed and not put back" for key in before if before[key] != after[key]]
    if [e.task for e in evidence] != [t.id for t in subject.tasks]:
        return [*wrong, f"evidence is for {[e.task for e in evidence]}, tasks are {[t.id for t in subject.tasks]}"]
    for e in evidence:
        if tool.emits == "images" and len(e.images) != pictures:
            wrong.append(f"{e.task}: {pictures} pictures were asked for, {len(e.images)} shown")
        if tool.emits == "heatmaps" and (e.heatmaps is None or e.heatmaps.shape != (2, SIDE, SIDE)):
            wrong.append(f"{e.task}: one map of {SIDE}x{SIDE} per triggered picture is expected")
    if _bytes(tool.run(toy_subject(tool.needs), pictures, 0)) != _bytes(evidence):
        wrong.append("the same seed gave other bytes: draw from rng.generator(seed, ...) only")
    return wrong
