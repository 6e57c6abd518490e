"""A tool from outside the repository: one class in one file, found through its entry point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from gifthorse.images import from_tensor, to_tensor
from gifthorse.tools.protocol import Subject
from gifthorse.types import Emits, Evidence, Family, Need


@dataclass(frozen=True)
class MeanGradient:
    """Input gradients of the target logit averaged over clean pictures, shown as pictures."""

    name: ClassVar[str] = "acme/mean-gradient"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.CLEAN})
    emits: ClassVar[Emits] = "images"
    batch: int = 4

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One gradient picture per batch of clean pictures."""
        clean, _ = subject.need_clean()
        found = []
        for task in subject.tasks:
            shown = []
            for i in range(pictures):
                rows = [(seed + i * self.batch + j) % len(clean) for j in range(self.batch)]
                x = to_tensor(clean[rows]).requires_grad_()
                (grad,) = torch.autograd.grad(subject.model(x)[:, task.target].sum(), x)
                mean = grad.mean(0, keepdim=True)
                shown.append(mean / (mean.abs().amax() + 1e-12) / 2 + 0.5)
            found.append(Evidence(task.id, from_tensor(torch.cat(shown))))
        return found
