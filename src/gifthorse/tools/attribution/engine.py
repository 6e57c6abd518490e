"""A network as a list of operations, each of which a method may replace: nothing is hooked, so nothing is left behind.

The working copy is traced once with torch.fx. A module that the network calls twice becomes two operations, and
operations in place are rewritten as ordinary ones: the two things that make hook-based libraries silently wrong.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ...errors import ToolError
from ...models.classifier import FORWARD_BATCH, Classifier

Kind = Literal["input", "constant", "move", "linear", "activation", "maxpool", "attention", "other"]
CLOSE = 1e-3
"""Largest difference between traced and plain logits, as a share of the largest logit."""

_MODULES: tuple[tuple[Kind, tuple[type[nn.Module], ...]], ...] = (
    (
        "activation",
        (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.GELU, nn.SiLU, nn.Hardswish,
         nn.Hardsigmoid, nn.Hardtanh),
    ),
    ("maxpool", (nn.MaxPool2d,)),
    ("linear", (nn.Conv2d, nn.Linear, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.BatchNorm2d)),
    ("move", (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.ZeroPad2d)),
    ("attention", (nn.MultiheadAttention,)),
)  # fmt: skip
_KNOWN = tuple(t for _, types in _MODULES for t in types)


def _kinds(kind: Kind, *functions: Any) -> dict[Any, Kind]:
    return dict.fromkeys(functions, kind)


_FUNCTIONS: dict[Any, Kind] = {
    **_kinds(
        "activation", F.relu, torch.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.hardswish, F.hardsigmoid,
        F.softplus, F.sigmoid, F.tanh, torch.sigmoid, torch.tanh, "relu", "sigmoid", "tanh",
    ),
    **_kinds("maxpool", F.max_pool2d, torch.max_pool2d),
    **_kinds(
        "linear", operator.add, torch.add, "add", operator.sub, torch.sub, "sub", operator.neg, torch.mean, "mean",
        torch.sum, "sum", F.avg_pool2d, F.adaptive_avg_pool2d, F.linear, F.conv2d, torch.conv2d,
        F.batch_norm,
    ),
    **_kinds(
        "move", torch.flatten, "flatten", "view", "reshape", torch.reshape, "permute", torch.permute, "transpose",
        torch.transpose, "squeeze", torch.squeeze, "unsqueeze", torch.unsqueeze, operator.getitem, "contiguous",
        torch.cat, torch.stack, "expand", "size", getattr, "clone", F.dropout, F.pad, torch._assert, "chunk",
    ),
    **_kinds("attention", F.scaled_dot_product_attention),
}  # fmt: skip
_SCALES = (operator.mul, torch.mul, "mul", operator.truediv, torch.div, "div")  # linear where one factor is constant
_OUT_OF_PLACE: dict[Any, Any] = {operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul}


@dataclass(frozen=True, eq=False)
class Op:
    """One operation of a network.

    Attributes:
        name: the path of its module, or the name of its function; what errors call it.
        kind: what rules need to know about it.
        call: does it, never in place.
        module: the module, where it is one.
        node: its place in the traced graph.
        inputs: places among its arguments of the tensors that depend on the picture.
        done: nodes that no later operation reads.
    """

    name: str
    kind: Kind
    call: Callable[..., Any]
    module: nn.Module | None
    node: fx.Node
    inputs: tuple[int, ...]
    done: tuple[fx.Node, ...]


Rule = Callable[[Op, tuple[Any, ...], dict[str, Any]], Any]
"""What an operation does with its arguments in place of ``op.call(*args, **kwargs)``."""


def plain(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operation itself."""
    return op.call(*args, **kwargs)


class _Tracer(fx.Tracer):
    """Modules of torch, and modules derived from those that rules know, are operations.

    Norms derived from torch's are taken apart: timm's carry their activation.
    """

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.BatchNorm2d) and type(m) is not nn.BatchNorm2d:
            return False
        return super().is_leaf_module(m, module_qualified_name) or isinstance(m, _KNOWN)


class Program:
    """A working copy of a network, operation by operation; traced once, see `memo`.

    Args:
        net: a folded copy, which nobody changes any more; its modules stop working in place.
        who: the method that asks, named in errors.

    Raises:
        ToolError: the network cannot be traced, or has several inputs or outputs.
    """

    def __init__(self, net: Classifier, who: str) -> None:
        self.net, self.who = net, who
        self.ops: list[Op] = memo(net).get("operations") or self._trace()
        memo(net)["operations"] = self.ops

    def _trace(self) -> list[Op]:
        """The operations, checked against the network."""
        net, who = self.net, self.who
        for module in net.net.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]
        try:
            asked = list(inspect.signature(net.net.forward).parameters.values())[1:]
            given = {p.name: p.default for p in asked if p.default is not p.empty}
            nodes = list(_Tracer().trace(net.net, given or None).nodes)
        except Exception as error:
            why = " ".join(str(error).split())[:200]
            raise ToolError(
                f"{who}: {type(net.net).__name__} cannot be taken apart into operations ({why}); "
                "use a method that needs no layers, such as saliency, integrated-gradients or occlusion"
            ) from error
        inputs = [n for n in nodes if n.op == "placeholder" and (n is nodes[0] or n.target not in given)]
        nodes = [n for n in nodes if n.op != "placeholder" or n in inputs]
        (result,) = nodes[-1].args
        if len(inputs) != 1 or not isinstance(result, fx.Node):
            raise ToolError(f"{who}: {type(net.net).__name__} must have one input and one output, the logits")
        self.ops = self._operations(nodes[:-1])
        self._check()
        return self.ops

    def run(self, x: Tensor, rule: Rule = plain) -> Tensor:
        """Logits ``(n, classes)`` of pictures ``(n, 3, h, w)`` in [0, 1], with every operation done by a rule."""
        self.net._count(x)
        return self.span(self.net.normalise(x), 1, len(self.ops), rule)

    def span(self, h: Tensor, begin: int, end: int, rule: Rule = plain) -> Tensor:
        """What operations ``begin`` to ``end`` make of ``h``, the result of operation ``begin - 1``."""
        env: dict[fx.Node, Any] = {self.ops[begin - 1].node: h}
        last = self.ops[begin - 1]
        for last in self.ops[begin:end]:
            args = fx.map_arg(last.node.args, env.__getitem__)
            env[last.node] = rule(last, args, fx.map_arg(last.node.kwargs, env.__getitem__))
            for node in last.done:
                env.pop(node, None)
        out: Tensor = env[last.node]
        return out

    def affine(self) -> int:
        """How many operations, the input included, stand before the first that is not affine in the picture."""
        n = 1
        while (
            n < len(self.ops) - 1
            and self.ops[n].kind in ("linear", "move")
            and self.ops[n].node.all_input_nodes == [self.ops[n - 1].node]
            and len(self.ops[n - 1].node.users) == 1
        ):
            n += 1
        return n

    def refuse(self, kinds: Iterable[Kind], why: str) -> None:
        """Raise `ToolError` at the first operation of one of these kinds."""
        for op in self.ops:
            if op.kind in kinds:
                raise ToolError(f"{self.who}: {type(self.net.net).__name__} has {op.name}, {why}")

    def _operations(self, nodes: list[fx.Node]) -> list[Op]:
        live: set[fx.Node] = set()
        last = {node: user for user in nodes for node in user.all_input_nodes}
        ops: list[Op] = []
        for node in nodes:
            if node.op == "placeholder" or any(n in live for n in node.all_input_nodes):
                live.add(node)
            places = tuple(i for i, a in enumerate(node.args) if isinstance(a, fx.Node) and a in live)
            done = tuple(n for n, user in last.items() if user is node)
            ops.append(self._operation(node, node in live, places, done))
        return ops

    def _operation(self, node: fx.Node, live: bool, places: tuple[int, ...], done: tuple[fx.Node, ...]) -> Op:
        if node.op == "placeholder":
            return Op("the input", "input", lambda: None, None, node, (), done)
        if node.op == "get_attr":
            value = operator.attrgetter(str(node.target))(self.net.net)
            return Op(str(node.target), "constant", lambda: value, None, node, (), done)
        if node.op == "call_module":
            module = self.net.net.get_submodule(str(node.target))
            kind: Kind = next((k for k, types in _MODULES if isinstance(module, types)), "other")
            return Op(f"{node.target} ({type(module).__name__})", kind, module, module, node, places, done)
        function: Any = _OUT_OF_PLACE.get(node.target, node.target)
        if node.op == "call_method" and function.endswith("_"):
            function = function.rstrip("_")
        if node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
        if node.op == "call_method" and not hasattr(Tensor, function):
            raise ToolError(
                f"{self.who}: {type(self.net.net).__name__} writes into a tensor in place ({node.name}), which cannot "
                "be rewritten; let it return a new tensor"
            )
        kind = _FUNCTIONS.get(function, "other")
        if function in _SCALES:
            kind = "linear" if len(places) == 1 and (places == (0,) or function not in _SCALES[3:]) else "other"
        if not live:
            kind = "constant"
        call = getattr(Tensor, function) if node.op == "call_method" else function
        return Op(node.name, kind, call, None, node, places, done)

    @torch.no_grad()
    def _check(self) -> None:
        """Trace and network agree on a picture of ramps."""
        ramp = torch.linspace(0, 1, self.net.size).expand(1, 3, self.net.size, self.net.size)
        ramp = (ramp + ramp.transpose(2, 3) ** 2 * torch.tensor([0.2, 0.6, 1.0]).view(1, 3, 1, 1)) / 2
        h = self.net.normalise(ramp)
        wanted, got = self.net.net(h), self.span(h, 1, len(self.ops))
        if got.ndim != 2 or len(got) != 1:
            raise ToolError(f"{self.who}: {type(self.net.net).__name__} must return logits (n, classes)")
        if not (got - wanted).abs().max() <= CLOSE * wanted.abs().max().clamp(min=1e-6):
            raise ToolError(
                f"{self.who}: {type(self.net.net).__name__} gives other logits when its operations in place are "
                "rewritten: let no operation overwrite what another one reads"
            )


def memo(net: Classifier) -> dict[Any, Any]:
    """What has been found out about a working copy; it lives as long as that very copy, and no copy of it has any."""
    out: dict[Any, Any] = net.__dict__.setdefault("_memo", {})
    return out


def leaf(x: Tensor) -> Tensor:
    """A copy of pictures that collects gradients."""
    return x.detach().clone().requires_grad_()


def rows_of(net: Classifier, most: int, *, parts: bool = False) -> int:
    """How many pictures pass at once: ``most`` at 64 pixels, fewer where they are larger, 8 at least.

    Larger tensors than these leave the processor's cache; a GPU has other worries and takes as many as it may. Never
    more than ``net.max_batch``, but for ``parts``.

    Args:
        net: the working copy.
        most: how many at 64 pixels.
        parts: only parts of the pictures are computed again. Then four times as many pass, unless ``net.max_batch``
            was set below its own bound because memory is short.
    """
    if net.mean.device.type != "cpu":
        return net.max_batch
    whole = min(net.max_batch, max(min(8, most), min(most, round(most * (64 / net.size) ** 2))))
    return 4 * whole if parts and net.max_batch >= FORWARD_BATCH else whole
