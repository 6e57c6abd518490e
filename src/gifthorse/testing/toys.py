"""A tiny subject to try tools on: random pictures, a random network, and a seal on what was not asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import ToolError
from ..models.classifier import Classifier
from ..models.generator import ConvGenerator, GeneratorRecipe
from ..rng import generator
from ..tools.protocol import Bank, Subject
from ..types import Evidence, Need, Task

SIDE = 64
CLASSES = ("red", "green", "blue", "grey")
TASKS = (Task("t01", 0), Task("t02", 1, source=2))
TRIGGERED = 3  # triggered pictures per task; with two there is one way to swap them
NEED_OF = {
    "clean": Need.CLEAN,
    "labels": Need.CLEAN,
    "twin": Need.TWIN,
    "triggered": Need.TRIGGERED,
    "bank": Need.BANK,
    "textures": Need.TEXTURES,
    "generator": Need.GENERATOR,
    "words": Need.WORDS,
    "evidence": Need.EVIDENCE,
    "answer": Need.ANSWER,
    "answer_masks": Need.ANSWER,
}


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


class _ToyTokens(nn.Module):
    """A small network with one layer of attention over 16 patches, for tools that explain nothing else."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.random.manual_seed(seed)
            self.patch = nn.Conv2d(3, 8, SIDE // 4, SIDE // 4)
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
            self.fc = nn.Linear(8, len(CLASSES))

    def features(self, x: Tensor) -> Tensor:
        """Mean token ``(n, 8)``."""
        t = self.patch(x).flatten(2).transpose(1, 2)
        out: Tensor = (t + self.attend(t, t, t, need_weights=False)[0]).mean(1)
        return out

    def head(self, f: Tensor) -> Tensor:
        """Logits ``(n, 4)``."""
        out: Tensor = self.fc(f)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Logits of normalised pictures."""
        return self.head(self.features(x))


def toy_generator(seed: int = 0) -> ConvGenerator:
    """A generator with random weights and latents, 16 pixels wide."""
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        net = ConvGenerator(GeneratorRecipe(latent=4, widths=(6, 4)), 12)
        net.table.normal_()
    return net.eval().requires_grad_(False)


def toy_words(texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors ``(n, 12)`` that depend on the letters of each text only."""
    vectors = np.stack([generator(0, "toy words", text).standard_normal(12) for text in texts])
    out: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return out


class SealedSubject(Subject):
    """A subject that raises `ToolError` where a tool touches a part that it did not declare."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if value is None and name in NEED_OF:
            raise ToolError(f"subject.{name} was read, but Need.{NEED_OF[name].name} is not among the tool's needs")
        return value


def toy_subject(
    needs: frozenset[Need], seed: int = 0, tasks: Sequence[Task] = TASKS, attention: bool = False
) -> Subject:
    """A tiny subject with everything in ``needs``; touching anything else raises `ToolError`.

    The parts of a task depend on its id and the seed only. With ``attention`` its network has a layer of that.
    """

    def pictures(n: int, *path: str, side: int = SIDE) -> NDArray[np.uint8]:
        return generator(seed, "toy", *path).integers(0, 256, (n, side, side, 3), dtype=np.uint8)

    def model(s: int) -> Classifier:
        return Classifier(
            _ToyTokens(s) if attention else _ToyNet(s), CLASSES, SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
        )

    parts = {
        "clean": pictures(12, "clean"),
        "labels": np.arange(12, dtype=np.int64) % len(CLASSES),
        "twin": model(seed + 1),
        "triggered": {t.id: pictures(TRIGGERED, "triggered", t.id) for t in tasks},
        "bank": Bank(tuple(f"object {i}" for i in range(24)), pictures(24, "bank")),
        "textures": Bank(tuple(f"texture {i}" for i in range(12)), pictures(12, "textures", side=SIDE * 3 // 2)),
        "generator": toy_generator(seed),
        "words": toy_words,
        "evidence": {name: tuple(Evidence(t.id, pictures(4, name, t.id)) for t in tasks) for name in ("one", "two")},
        "answer": {t.id: pictures(4, "answer", t.id) for t in tasks},
        "answer_masks": {t.id: pictures(TRIGGERED, "masks", t.id)[..., 0] < 50 for t in tasks},
    }
    given: dict[str, Any] = {name: part for name, part in parts.items() if NEED_OF[name] in needs}
    return SealedSubject(model(seed), tuple(tasks), **given)


def parts_of(subject: Subject) -> dict[str, Any]:
    """The optional parts that a subject holds, by name."""
    held = {name: object.__getattribute__(subject, name) for name in NEED_OF}
    return {name: part for name, part in held.items() if part is not None}
