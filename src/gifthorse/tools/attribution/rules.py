"""Rules for going backwards through a network: forward as ever, gradients bent where a method bends them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ToolError
from .engine import Op, Program, Rule, leaf, memo, plain

RESCALE_EPS = 1e-10  # below this difference DeepLift falls back to the gradient (Captum)
BENT = ("activation",)
RELUS = (F.relu, torch.relu, F.relu6, Tensor.relu)


Again = Callable[[Tensor], Tensor]
"""An operation with all its arguments but the first."""


class Backward(Protocol):
    """What a bent operation hands back; read when gradients flow, so one forward serves many rules."""

    def __call__(self, op: Op, x: Tensor, y: Tensor, g: Tensor, again: Again) -> Tensor:
        """The gradient of ``x``, given that of ``y = again(x)``."""
        ...


class _Bent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, op: Op, again: Again, switch: Switch) -> Tensor:
        y = again(x)
        ctx.save_for_backward(x, y)
        ctx.op, ctx.again, ctx.switch = op, again, switch
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        x, y = ctx.saved_tensors
        return ctx.switch.now(ctx.op, x, y, grads[0], ctx.again), None, None, None


class Switch:
    """A rule whose activations and max-pools go backwards by ``now``, which may be changed between backwards.

    Args:
        now: the first rule.
        kinds: kinds of operations that are bent.
    """

    def __init__(self, now: Backward, kinds: tuple[str, ...] = BENT) -> None:
        self.now, self.kinds = now, kinds

    def __call__(self, op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The operation, bent or as it is."""
        if op.kind not in self.kinds:
            return op.call(*args, **kwargs)
        x, *rest = args
        return _Bent.apply(x, op, lambda v: op.call(v, *rest, **kwargs), self)


def slope(op: Op, x: Tensor, y: Tensor, g: Tensor, again: Again) -> Tensor:
    """The gradient itself."""
    if is_relu(op):
        return g * _open(op, x)
    with torch.enable_grad():
        held = leaf(x)
        (out,) = torch.autograd.grad(again(held), held, g)
    return out


def guided(op: Op, x: Tensor, y: Tensor, g: Tensor, again: Again) -> Tensor:
    """Guided backpropagation: the positive part of the gradient, where the unit is open."""
    return F.relu(g * _open(op, x)) if is_relu(op) else slope(op, x, y, g, again)


def deconvolved(op: Op, x: Tensor, y: Tensor, g: Tensor, again: Again) -> Tensor:
    """Deconvolution: the positive part of the gradient, whether or not the unit is open."""
    return F.relu(g) if is_relu(op) else slope(op, x, y, g, again)


def straight(op: Op, x: Tensor, y: Tensor, g: Tensor, again: Again) -> Tensor:
    """Relevance passes an activation unchanged."""
    return g


def is_relu(op: Op) -> bool:
    """Whether an operation is a ReLU or a ReLU6, as a module or as a function."""
    return isinstance(op.module, nn.ReLU | nn.ReLU6) if op.module is not None else op.call in RELUS


def need_relus(program: Program) -> None:
    """Refuse networks in which the rules for ReLUs would change nothing.

    Raises:
        ToolError: no operation of the network is a ReLU.
    """
    if not any(is_relu(op) for op in program.ops):
        whose = type(program.net.net).__name__
        raise ToolError(f"{program.who}: {whose} has no ReLU for the method to act on; use saliency instead")


def _open(op: Op, x: Tensor) -> Tensor:
    six = isinstance(op.module, nn.ReLU6) or op.call is F.relu6
    return (x > 0) & (x < 6) if six else x > 0


class Reference:
    """DeepLift's rescale rule against one baseline.

    Args:
        values: input and result of every activation and max-pool for the baseline.
    """

    def __init__(self, values: dict[Op, tuple[Tensor, Tensor]]) -> None:
        self.values = values

    def __call__(self, op: Op, x: Tensor, y: Tensor, g: Tensor, again: Again) -> Tensor:
        """How much of the operation's change against the baseline each input's change brought about."""
        before, after = self.values[op]
        moved = x - before
        if op.kind == "maxpool":
            both = torch.maximum(y, after)
            from_x = slope(op, x, y, g * (both - after), again)
            share = from_x + slope(op, before.expand_as(x), after, g * (y - both), again)
        else:
            share = g * (y - after)
        still = moved.abs() < RESCALE_EPS
        if still.any():
            return torch.where(still, slope(op, x, y, g, again), share / torch.where(still, 1, moved))
        return share / moved


def references(program: Program, baselines: Tensor) -> list[Reference]:
    """The rule against each of some baselines ``(k, 3, h, w)``, whose activations are computed here, once.

    They are computed in float64: a plain baseline gives plain feature maps, whose ties in max-pools rounding would
    break at random.
    """
    known = memo(program.net)
    if "double" not in known:
        known["double"] = program.net.folded().double()
    double = Program(known["double"], program.who)
    twin = dict(zip(double.ops, program.ops, strict=True))
    values: dict[Op, tuple[Tensor, Tensor]] = {}

    def record(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = plain(op, args, kwargs)
        if op.kind in ("activation", "maxpool"):
            values[twin[op]] = args[0].float(), out.float()
        return out

    out: list[Reference] = []
    for some in torch.split(baselines.double(), program.net.max_batch):
        with torch.no_grad():
            double.run(some, record)
        out += [Reference({op: (a[k, None], b[k, None]) for op, (a, b) in values.items()}) for k in range(len(some))]
    program.net.forwards += len(baselines)
    return out


class _Times(torch.autograd.Function):
    """Gradients become relevance: they are multiplied by the value they belong to."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        out: Tensor = grads[0] * ctx.saved_tensors[0]
        return out


class _Over(torch.autograd.Function):
    """Relevance becomes gradients: it is divided by the value it belongs to, kept away from zero by epsilon."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, epsilon: float) -> Tensor:
        ctx.save_for_backward(z)
        ctx.epsilon = epsilon
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        return grads[0] / (z + torch.where(z < 0, -ctx.epsilon, ctx.epsilon)), None


def relevance(epsilon: float) -> Rule:
    """The epsilon rule of layer-wise relevance propagation, for sums of branches as for layers."""
    activations = Switch(straight)

    def rule(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if op.kind not in ("linear", "maxpool"):
            return activations(op, args, kwargs)
        held = [_Times.apply(a) if i in op.inputs else a for i, a in enumerate(args)]
        return _Over.apply(op.call(*held, **kwargs), epsilon)

    return rule


class Forward:
    """One forward pass, gone back through under as many rules as wanted.

    Args:
        program: the network.
        x: pictures ``(n, 3, h, w)``.
        target: class index.
        layer: an operation whose result and gradient are wanted too.
        kinds: kinds of operations that rules bend.
    """

    def __init__(
        self,
        program: Program,
        x: Tensor,
        target: int,
        layer: Op | None = None,
        kinds: tuple[str, ...] = ("activation",),
    ) -> None:
        self._program, self._switch, self._layer = program, Switch(slope, kinds), layer
        self._passes = 0
        with torch.enable_grad():
            self._x = leaf(x)
            self._logit = program.run(self._x, self._rule)[:, target].sum()

    def _rule(self, op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = self._switch(op, args, kwargs)
        if op is self._layer:
            self._held = out
        return out

    def gradient(self, rule: Backward = slope) -> Tensor:
        """The target logit's gradient ``(n, 3, h, w)`` under a rule."""
        return self._back(rule, self._x)

    def maps(self) -> tuple[Tensor, Tensor]:
        """The layer's result and the target logit's gradient there."""
        return self._held.detach(), self._back(slope, self._held)

    def _back(self, rule: Backward, end: Tensor) -> Tensor:
        self._switch.now = rule
        self._program.net.backwards += len(self._x) if self._passes else 0  # the forward pass counted the first
        self._passes += 1
        return torch.autograd.grad(self._logit, end, retain_graph=True)[0]
