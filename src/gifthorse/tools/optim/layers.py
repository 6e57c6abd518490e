"""Inner units: the forward stopped at the layer that is asked about, and which units speak for a class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ToolError
from ...models.classifier import Classifier


class _Reached(Exception):
    """No error: the layer has spoken, and what lies behind it is not computed."""


@contextmanager
def activations(net: Classifier, layer: str) -> Iterator[Callable[[Tensor], Tensor]]:
    """Inside the block a function from pictures to the mean activations ``(n, units)`` of a layer.

    Args:
        net: a working copy; it carries a hook inside the block and none afterwards.
        layer: name of a module, as in ``net.named_modules()``; empty for the pooled last block.

    Raises:
        ToolError: no such layer, or no pooled last block.
    """
    if not layer:
        _features_and_head(net)
        yield net.features
        return
    held: list[Tensor] = []

    def stop(module: nn.Module, args: Any, output: Any) -> None:
        held.append(output)
        raise _Reached

    def reach(x: Tensor) -> Tensor:
        try:
            net(x)
        except _Reached:
            out = held.pop().float()
            return out.flatten(2).mean(2) if out.ndim > 2 else out
        raise ToolError(f"the forward does not pass through layer {layer!r}; name another")

    handle = _module(net, layer).register_forward_hook(stop)
    try:
        yield reach
    finally:
        handle.remove()


@torch.no_grad()
def head_weights(net: Classifier) -> Tensor:
    """``(classes, units)`` what each unit of the pooled last block adds to each logit, less its mean over the classes.

    Adding the same to every logit changes no prediction, hence the centring.

    Args:
        net: the network itself or a working copy in float32.

    Raises:
        ToolError: the network has no pooled last block with a linear head.
    """
    head = _features_and_head(net)[1]
    width = net.features(torch.zeros(1, 3, net.size, net.size)).shape[1]
    base = head(torch.zeros(1, width))
    one, two = head(torch.eye(width)) - base, head(2 * torch.eye(width)) - base
    if not torch.allclose(2 * one, two, rtol=1e-3, atol=1e-4):
        raise ToolError("the network's head is not linear, so its units have no weights; name a layer instead")
    weights: Tensor = one.T
    return weights - weights.mean(dim=0, keepdim=True)


def unit_slopes(net: Classifier, layer: str, probes: Tensor, targets: Tensor) -> Tensor:
    """``(targets, units)`` how much each logit rises with the mean of each channel of a named layer.

    The slopes are taken on some pictures, averaged, less their mean over the classes; for the last block they are
    `head_weights`.

    Args:
        net: a working copy.
        layer: name of a module whose output is ``(n, units, ...)``.
        probes: ``(n, 3, h, w)`` pictures.
        targets: ``(targets,)`` classes.

    Raises:
        ToolError: no such layer, or the forward does not pass through it just once.
    """
    held: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        held.append(output.detach().requires_grad_())
        return held[0]

    handle = _module(net, layer).register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = net(probes)
            if len(held) != 1:
                raise ToolError(f"the forward passes {len(held)} times through layer {layer!r}; name another")
            lead = logits - logits.mean(dim=1, keepdim=True)
            rows = [torch.autograd.grad(lead[:, int(t)].sum(), held, retain_graph=True)[0] for t in targets]
    finally:
        handle.remove()
    return torch.stack([(r.flatten(2).sum(2) if r.ndim > 2 else r).float().mean(0) for r in rows])


def _module(net: Classifier, layer: str) -> nn.Module:
    """The module of a name."""
    modules = dict(net.net.named_modules())
    if layer not in modules:
        known = [n for n, m in modules.items() if n and not isinstance(m, nn.Identity)]
        raise ToolError(f"the network has no layer {layer!r}; it has {', '.join(known[:12])}")
    found: nn.Module = modules[layer]
    return found


def _features_and_head(net: Classifier) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The two halves of a network that offers both."""
    features, head = (getattr(net.net, part, None) for part in ("features", "head"))
    if not callable(features) or not callable(head):
        raise ToolError("the network offers no 'features' and 'head', which inner units need; name a layer instead")
    return features, head
