"""Looking again at a picture of which one patch changed: only what the patch can reach is computed again.

Convolutions, pools, activations and sums of branches pass a box of changed values on, grown by their reach. Where the
box covers the whole map, or an operation is not understood, the rest of the network runs as usual. The result is
that of the whole network up to rounding; `Plan` checks it, and says where it gives up.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ...errors import ToolError
from .engine import Op, Program, memo, plain

Box = tuple[int, int]
"""Top and left of a patch; all patches of a plan have one size."""
AGREE = 1e-3
"""Largest difference between incremental and whole logits, as a share of the spread of the whole ones."""


@dataclass(frozen=True)
class _Window:
    """An operation whose every result reads ``k`` by ``k`` places, ``stride`` apart, past a border of ``pad``."""

    k: Box
    stride: Box
    pad: Box


@dataclass(frozen=True)
class _Region:
    """Where an operation's result may differ: boxes of one size, one for each patch."""

    size: Box
    starts: tuple[Box, ...]


@dataclass
class _Step:
    """How one operation is done again: by boxes where ``region`` is there, else on whole maps.

    ``reads`` is what a window needs of its input to compute the region.
    """

    op: Op
    region: _Region | None
    window: _Window | None = None

    def __post_init__(self) -> None:
        self.reads = _read(self.region, self.window) if self.region and self.window else None


class Plan:
    """How far each of some patches reaches in a network.

    Args:
        program: the network.
        size: height and width of every patch.
        boxes: where patches may lie.

    Raises:
        ToolError: the incremental logits are not those of the network.
    """

    def __init__(self, program: Program, size: Box, boxes: Sequence[Box]) -> None:
        self.program, self.size, self.boxes = program, size, tuple(boxes)
        side = program.net.size
        self.shapes: dict[fx.Node, torch.Size] = {}
        self.made_by = {op.node: op for op in program.ops}
        with torch.no_grad():
            program.span(torch.zeros(1, 3, side, side), 1, len(program.ops), self._note)
        start = program.ops[0].node
        self.shapes[start] = torch.Size((1, 3, side, side))
        self.regions: dict[fx.Node, _Region] = {start: _Region(size, self.boxes)}
        self.pads: dict[fx.Node, Box] = {}
        self.steps = [self._step(op) for op in program.ops[1:]]
        self._settle()
        self.whole = {
            n: _Region((self.shapes[n][2], self.shapes[n][3]), ((0, 0),) * len(self.boxes)) for n in self.regions
        }
        self._check()

    @property
    def share(self) -> float:
        """The share of the network's multiplications in convolutions that a patch costs."""
        again = whole = 0.0
        for step in self.steps:
            if isinstance(step.op.module, nn.Conv2d):
                places = self.shapes[step.op.node][2:].numel()
                each = step.op.module.weight.numel()
                whole += each * places
                again += each * (step.region.size[0] * step.region.size[1] if step.region else places)
        return again / whole if whole else 1.0

    def _note(self, op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = plain(op, args, kwargs)
        if isinstance(out, Tensor):
            self.shapes[op.node] = out.shape
        return out

    def _step(self, op: Op) -> _Step:
        changed = [n for n in op.node.all_input_nodes if n in self.regions]
        shape = self.shapes.get(op.node)
        if not changed or shape is None or len(shape) != 4:
            return _Step(op, None)
        window = _window_of(op, self.shapes[changed[0]], shape, self.made_by[changed[0]])
        if window:
            region = _grown(self.regions[changed[0]], window, shape)
        elif op.kind == "activation" or isinstance(op.module, nn.Identity | nn.Dropout):
            region = self.regions[changed[0]]
        elif _is_sum(op) and len(changed) == 2 and all(self.shapes[n] == shape for n in changed):
            region = _union([self.regions[n] for n in changed], shape)
        else:
            return _Step(op, None)
        if region.size == tuple(shape[2:]):
            return _Step(op, region if window else None, window)
        self.regions[op.node] = region
        return _Step(op, region, window)

    def _settle(self) -> None:
        """Border that each map is stored with, for the operations that read parts of it."""
        for step in self.steps:
            if step.region and not step.window and not _is_sum(step.op):
                continue
            for n in step.op.node.all_input_nodes:
                if n in self.regions:
                    high, low = self.pads.get(n, (0, 0)), step.window.pad if step.window else (0, 0)
                    self.pads[n] = max(high[0], low[0]), max(high[1], low[1])

    def _check(self) -> None:
        """One patch, looked at both ways."""
        net = self.program.net
        ramp = torch.linspace(0, 1, net.size)
        before = (ramp.view(-1, 1) * ramp).expand(1, 3, -1, -1) * torch.tensor([1.0, 0.6, 0.3]).view(1, 3, 1, 1)
        which = [0, len(self.boxes) // 2, len(self.boxes) - 1]
        patch = torch.stack([torch.full((1, 3, *self.size), level) for level in (0.9, 0.1, 0.5)])
        whole = before.repeat(3, 1, 1, 1)
        for i, k in enumerate(which):
            (top, left), (h, w) = self.boxes[k], self.size
            whole[i, :, top : top + h, left : left + w] = patch[i, 0]
        with torch.inference_mode():
            look, rows = Look(self, before), torch.split(torch.arange(3), net.max_batch)
            got = torch.cat([look.again([which[i] for i in some], patch[some]) for some in rows])[:, 0]
            wanted = torch.cat([net.net(net.normalise(whole[some])) for some in rows])
        spread = (wanted - wanted.mean(1, keepdim=True)).abs().max().clamp(min=1e-6)
        if not (got - wanted).abs().max() <= AGREE * spread:
            raise ToolError("the incremental logits differ from those of the whole network")


def plan_of(program: Program, size: Box, boxes: Sequence[Box]) -> Plan:
    """The plan of these patches, made once for a working copy.

    Raises:
        ToolError: as in `Plan`, or the network is on a GPU: there many small operations cost more than few large ones.
    """
    where = program.net.mean.device.type
    if where != "cpu":
        raise ToolError(f"on {where} whole pictures are quicker than parts")
    known, key = memo(program.net), ("plan", size, tuple(boxes))
    if key not in known:
        known[key] = Plan(program, size, boxes)
    plan: Plan = known[key]
    return plan


class Look:
    """Pictures whose maps are kept, so that looking again at them is cheap.

    Args:
        plan: the plan of the patches.
        x: ``(n, 3, h, w)`` pictures in [0, 1].
        copies: 1 where every patch is put on the picture itself; else patch ``i`` changes copy ``i`` for good.
    """

    def __init__(self, plan: Plan, x: Tensor, copies: int = 0) -> None:
        self.plan, self.n, self.keep = plan, len(x), copies > 0
        self.maps: dict[fx.Node, Tensor] = {}
        self.copies = max(copies, 1)
        net = plan.program.net

        def store(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            out = plain(op, args, kwargs)
            self._store(op.node, out)
            return out

        net.forwards += len(x)
        h = net.normalise(x)
        self._store(plan.program.ops[0].node, h)
        self.logits = plan.program.span(h, 1, len(plan.program.ops), store)

    def _store(self, node: fx.Node, value: Any) -> None:
        if node in self.plan.pads:
            down, right = self.plan.pads[node]
            held = F.pad(value, (right, right, down, down)).repeat(self.copies, 1, 1, 1)
            self.maps[node] = held.contiguous(memory_format=torch.channels_last)

    def again(self, which: Sequence[int], patches: Tensor) -> Tensor:
        """Logits ``(k, n, classes)`` with patch ``i`` at box ``which[i]`` of every picture.

        Args:
            which: indices into the plan's boxes; as many as there are copies, where there are.
            patches: ``(k, 1 or n, 3, h, w)`` the new pixels in [0, 1].
        """
        plan, net = self.plan, self.plan.program.net
        net.forwards += len(which) * self.n
        new = (patches - net.mean) / net.std
        new = new.expand(-1, self.n, -1, -1, -1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        start = plan.program.ops[0].node
        values: dict[fx.Node, Any] = {start: new}
        self._write(start, which, new)
        for step in plan.steps:
            node = step.op.node
            if step.region:
                values[node] = self._boxed(step, which, values)
                self._write(node, which, values[node])
            else:
                read = {n: self._value(n, which, values[n]) for n in node.all_input_nodes}
                values[node] = plain(step.op, fx.map_arg(node.args, read.get), fx.map_arg(node.kwargs, read.get))
            for n in step.op.done:
                values.pop(n, None)
        logits: Tensor = values[plan.steps[-1].op.node]
        return torch.unflatten(logits, 0, (len(which), self.n))

    def _boxed(self, step: _Step, which: Sequence[int], values: dict[fx.Node, Any]) -> Tensor:
        """An operation's new values inside its boxes."""
        region, window, sources = step.region, step.window, step.op.node.all_input_nodes
        assert region is not None
        if window and step.reads:
            return _windowed(step.op, self._crop(sources[0], which, values[sources[0]], step.reads), window)
        if _is_sum(step.op):
            a, b = (self._crop(n, which, values[n], region) for n in sources)
            return a + b
        out: Tensor = step.op.call(values[sources[0]], *step.op.node.args[1:], **step.op.node.kwargs)
        return out

    def _crop(self, node: fx.Node, which: Sequence[int], new: Tensor, region: _Region) -> Tensor:
        """A map's values ``(k * n, c, h, w)`` in a region that may reach into its border, patches included."""
        own, n = self.plan.regions[node], self.n
        if region == own:
            return new
        out = torch.cat(self._parts(node, which, region))
        if self.keep:
            return out
        at = [(own.starts[k][0] - region.starts[k][0], own.starts[k][1] - region.starts[k][1]) for k in which]
        begin = 0
        for where, some in groupby(at):  # neighbours mostly lie alike in their crops
            end = begin + n * len(list(some))
            self._paste(out[begin:end], new[begin:end], where)
            begin = end
        return out

    def _parts(self, node: fx.Node, which: Sequence[int], region: _Region) -> list[Tensor]:
        """Views of a kept map ``(n, c, h, w)``, one for each patch, where the region lies."""
        held, (down, right), (h, w) = self.maps[node], self.plan.pads[node], region.size
        each, across, below, beside = held.stride()
        size, own = (self.n, held.shape[1], h, w), self.n * each if self.keep else 0
        return [
            held.as_strided(
                size,
                (each, across, below, beside),
                held.storage_offset()
                + i * own
                + (region.starts[k][0] + down) * below
                + (region.starts[k][1] + right) * beside,
            )
            for i, k in enumerate(which)
        ]

    @staticmethod
    def _paste(onto: Tensor, new: Tensor, at: Box) -> None:
        """New values put onto crops that start ``at`` before them, where the two meet."""
        top, left = at
        a, b = max(top, 0), min(top + new.shape[2], onto.shape[2])
        c, d = max(left, 0), min(left + new.shape[3], onto.shape[3])
        if a < b and c < d:
            onto[:, :, a:b, c:d] = new[:, :, a - top : b - top, c - left : d - left]

    def _write(self, node: fx.Node, which: Sequence[int], new: Tensor) -> None:
        """Copies keep what changed."""
        if self.keep and node in self.maps:
            for part, value in zip(
                self._parts(node, which, self.plan.regions[node]), torch.split(new, self.n), strict=True
            ):
                part.copy_(value)

    def _value(self, node: fx.Node, which: Sequence[int], new: Any) -> Any:
        """A value as the operations after the boxes read it: a whole map, patches included."""
        if node not in self.plan.regions:
            return new
        return self._crop(node, which, new, self.plan.whole[node])


def _is_sum(op: Op) -> bool:
    return op.call in (operator.add, torch.add, Tensor.add) and op.inputs == (0, 1) and not op.node.kwargs


def _pair(value: Any) -> Box:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _is_relu(op: Op) -> bool:
    return isinstance(op.module, nn.ReLU | nn.ReLU6) or op.call in (F.relu, torch.relu, Tensor.relu)


def _window_of(op: Op, before: torch.Size, after: torch.Size, source: Op) -> _Window | None:
    """What a convolution or pool reads; None for anything else, or where its border is not a plain one.

    Args:
        op: the operation.
        before: shape of its input.
        after: shape of its result.
        source: the operation whose result it reads.
    """
    m = op.module
    if type(m) is nn.Conv2d and m.padding_mode == "zeros" and not isinstance(m.padding, str):
        reach = tuple((k - 1) * d + 1 for k, d in zip(m.kernel_size, m.dilation, strict=True))
        return _Window((reach[0], reach[1]), _pair(m.stride), _pair(m.padding))
    if type(m) is nn.AvgPool2d and _pair(m.padding) == (0, 0) and m.divisor_override is None:
        window = _Window(_pair(m.kernel_size), _pair(m.stride), (0, 0))
        needs = [(after[2 + i] - 1) * window.stride[i] + window.k[i] for i in (0, 1)]
        return window if needs[0] <= before[2] and needs[1] <= before[3] else None
    if type(m) is nn.MaxPool2d and not (m.ceil_mode or m.return_indices) and _pair(m.dilation) == (1, 1):
        # the border that maps are stored with is 0, which is as good as none where nothing is negative
        plain_border = _pair(m.padding) == (0, 0) or _is_relu(source)
        return _Window(_pair(m.kernel_size), _pair(m.stride), _pair(m.padding)) if plain_border else None
    return None


def _windowed(op: Op, crop: Tensor, window: _Window) -> Tensor:
    if isinstance(op.module, nn.Conv2d):
        m = op.module
        return F.conv2d(crop, m.weight, m.bias, m.stride, 0, m.dilation, m.groups)
    pool = F.max_pool2d if isinstance(op.module, nn.MaxPool2d) else F.avg_pool2d
    return pool(crop, window.k, window.stride)


def _read(region: _Region, window: _Window) -> _Region:
    """The values that boxes of results read; they may reach into the border."""
    (down, right), (over, aside) = window.stride, window.pad
    size = ((region.size[0] - 1) * down + window.k[0], (region.size[1] - 1) * right + window.k[1])
    return _Region(size, tuple((r * down - over, c * right - aside) for r, c in region.starts))


def _grown(region: _Region, window: _Window, after: torch.Size) -> _Region:
    """The results that boxes can reach."""
    sizes, firsts = [], []
    for axis in (0, 1):
        k, stride, pad, limit = window.k[axis], window.stride[axis], window.pad[axis], after[2 + axis]
        first = [max(0, -((k - 1 - pad - s[axis]) // stride)) for s in region.starts]
        last = [min(limit - 1, (s[axis] + region.size[axis] - 1 + pad) // stride) for s in region.starts]
        size = max(1, max(b - a + 1 for a, b in zip(first, last, strict=True)))
        sizes.append(size)
        firsts.append([min(a, limit - size) for a in first])
    return _Region((sizes[0], sizes[1]), tuple(zip(*firsts, strict=True)))


def _union(regions: Sequence[_Region], after: torch.Size) -> _Region:
    """Boxes around several boxes each."""
    sizes, firsts = [], []
    for axis in (0, 1):
        ends = [max(a[axis] + r.size[axis] for r, a in zip(regions, s, strict=True)) for s in _each(regions)]
        first = [min(a[axis] for a in s) for s in _each(regions)]
        size = max(b - a for a, b in zip(first, ends, strict=True))
        sizes.append(size)
        firsts.append([min(a, after[2 + axis] - size) for a in first])
    return _Region((sizes[0], sizes[1]), tuple(zip(*firsts, strict=True)))


def _each(regions: Sequence[_Region]) -> list[tuple[Box, ...]]:
    return list(zip(*(r.starts for r in regions), strict=True))
