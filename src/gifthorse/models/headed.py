"""`Headed`: a body of timm with a linear head, in the form that every network here has."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Headed(nn.Module):
    """A body that gives pooled features, and a linear head; no activation works in place."""

    def __init__(self, body: nn.Module, width: int, classes: int, mean: Any, std: Any) -> None:
        super().__init__()
        for module in body.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]
        self.body, self.mean, self.std = body, tuple(mean), tuple(std)
        self.fc = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """Pooled features ``(n, width)`` of normalised pictures ``(n, 3, h, w)``."""
        out: Tensor = self.body(x)
        return out

    def head(self, f: Tensor) -> Tensor:
        """Logits ``(n, classes)`` of features."""
        out: Tensor = self.fc(f)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, classes)`` of normalised pictures."""
        return self.head(self.features(x))
