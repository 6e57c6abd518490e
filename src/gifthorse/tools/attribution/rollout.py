"""Attention rollout, for vision transformers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import ToolError
from ...models.classifier import FORWARD_BATCH, Classifier
from ...types import Emits, Evidence, Family, Need
from ..protocol import Subject
from .cam import enlarge
from .engine import Op, Program, plain
from .explain import Attribute, Part, explain


@dataclass(frozen=True)
class AttentionRollout:
    """How much of each patch reaches the class token, attention after attention (Abnar and Zuidema 2020).

    Each layer's attention, averaged over heads, is mixed half and half with the identity, which stands for the
    residual branch, as in the paper. The map says nothing about the target. Without a class token (one token more
    than a square number) the mean over all tokens is taken (ours). Nothing to choose.
    """

    name: ClassVar[str] = "attention-rollout"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False
    attention: ClassVar[bool] = True

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, FORWARD_BATCH, self._method)

    def _method(self, net: Classifier, notes: dict[str, Any]) -> Attribute:
        program = Program(net, self.name)
        if not any(op.kind == "attention" for op in program.ops):
            raise ToolError(f"{self.name}: {type(net.net).__name__} has no attention; use gradcam for such networks")
        return torch.no_grad()(lambda part: self._attribute(program, part))

    def _attribute(self, program: Program, part: Part) -> Tensor:
        layers: list[Tensor] = []

        def rule(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if op.kind == "attention":
                layers.append(_attention(op, args, kwargs))
            return plain(op, args, kwargs)

        program.run(part.x, rule)
        tokens = layers[0].shape[-1]
        flow = torch.eye(tokens).expand(len(part.x), -1, -1)
        for attention in layers:
            mixed = (attention + torch.eye(tokens)) / 2
            flow = mixed / mixed.sum(-1, keepdim=True) @ flow
        side = math.isqrt(tokens)
        reached = flow.mean(1) if side * side == tokens else flow[:, 0, tokens - side * side :]
        if reached.shape[1] != side * side:
            raise ToolError(f"{program.who}: {tokens} tokens do not form a square of patches")
        return enlarge(torch.unflatten(reached, 1, (1, side, side)), program.net.size)


def _attention(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Attention weights ``(n, tokens, tokens)``, averaged over heads."""
    if isinstance(op.module, nn.MultiheadAttention):
        weights: Tensor = op.module(*args[:3], **{**kwargs, "need_weights": True})[1]
        return weights
    q, k = args[0], args[1]
    scale = kwargs.get("scale") or 1 / math.sqrt(q.shape[-1])
    out: Tensor = (q @ k.transpose(-2, -1) * scale).softmax(-1).mean(1)
    return out
