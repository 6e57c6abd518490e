"""`Classifier`: a network with its normalisation inside, its class names, and counters of its work."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..images import to_tensor
from ..types import Pictures

FORWARD_BATCH = 64
"""Most pictures that pass through the network at once while no gradients are taken."""


class Classifier(nn.Module):
    """A frozen classifier for pictures in [0, 1].

    Args:
        net: the network; maps normalised ``(n, 3, h, w)`` to logits ``(n, classes)``. It offers
            ``features(x)``, the pooled penultimate activations ``(n, d)``, and ``head(f)``.
        classes: class names.
        size: side of the square input in pixels.
        mean: channel means subtracted first.
        std: channel spreads divided by.

    Attributes:
        max_batch: most pictures that pass at once where the caller leaves that to the network (``--max-batch``);
            copies inherit it.
        precision: what working copies compute in, ``torch.float32`` or ``torch.bfloat16``; pictures, logits and
            features are float32 either way.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        classes: tuple[str, ...],
        size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.net = net
        self.classes = classes
        self.size = size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.forwards = 0
        self.backwards = 0
        self.max_batch = FORWARD_BATCH
        self.precision = torch.float32
        self._low: torch.dtype | None = None  # what a copy's network computes in where that is not float32
        self.eval()
        self.requires_grad_(False)

    def normalise(self, x: Tensor) -> Tensor:
        """Normalised pictures in channels_last layout, in the precision of the network."""
        out = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return out if self._low is None else out.to(self._low)

    def _full(self, out: Tensor) -> Tensor:
        return out if self._low is None else out.float()

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, classes)`` of pictures ``(n, 3, h, w)`` in [0, 1]."""
        self._count(x)
        return self._full(self.net(self.normalise(x)))

    def features(self, x: Tensor) -> Tensor:
        """Pooled penultimate activations ``(n, d)``."""
        self._count(x)
        return self._full(self.net.features(self.normalise(x)))  # type: ignore[operator]

    def head(self, f: Tensor) -> Tensor:
        """Logits ``(n, classes)`` of penultimate activations ``(n, d)``."""
        return self._full(self.net.head(f if self._low is None else f.to(self._low)))  # type: ignore[operator]

    def _count(self, x: Tensor) -> None:
        self.forwards += len(x)
        if x.requires_grad and torch.is_grad_enabled():
            self.backwards += len(x)

    def folded(self, precision: torch.dtype | None = None) -> Classifier:
        """A copy with batch norm folded into the convolutions, in channels_last: same logits, faster.

        Args:
            precision: what its network computes in; by default that of `precision`.
        """
        net = copy.deepcopy(self.net).eval()
        fold_norms(net)
        out = Classifier(net, self.classes, self.size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        out.mean, out.std = self.mean.clone(), self.std.clone()
        out.max_batch, out.precision = self.max_batch, precision or self.precision
        if out.precision != torch.float32:
            out._low = out.precision
            net.to(out.precision)
        return out.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def logits(self, images: Pictures, batch: int = FORWARD_BATCH) -> NDArray[np.float32]:
        """Logits ``(n, classes)`` of uint8 pictures ``(n, h, w, 3)``, without gradients."""
        return self._batched(self.forward, images, min(batch, self.max_batch))

    @torch.inference_mode()
    def embed(self, images: Pictures, batch: int = FORWARD_BATCH) -> NDArray[np.float32]:
        """Penultimate activations ``(n, d)`` of uint8 pictures, without gradients."""
        return self._batched(self.features, images, min(batch, self.max_batch))

    def _batched(self, function: Callable[[Tensor], Tensor], images: Pictures, batch: int) -> NDArray[np.float32]:
        rows = (images[i : i + batch] for i in range(0, len(images), batch))
        parts = [function(to_tensor(some).to(self.mean.device)).cpu().numpy() for some in rows]
        return np.concatenate(parts).astype(np.float32)


def fold_norms(module: nn.Module) -> None:
    """Fold every batch norm that directly follows a convolution among a module's children."""
    previous: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and previous is not None:
            setattr(module, previous[0], fuse_conv_bn_eval(previous[1], child))
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, nn.Identity())
            else:  # timm's norm layers carry their activation
                act = getattr(child, "act", nn.Identity())
                setattr(module, name, act)
            previous = None
        elif isinstance(child, nn.Conv2d):
            previous = (name, child)
        else:
            previous = None
            fold_norms(child)
