"""Attribution by hiding parts of the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import ToolError
from ...models.classifier import FORWARD_BATCH, Classifier
from ...rng import generator
from ...types import Emits, Evidence, Family, Need
from ..protocol import Subject
from .engine import Program, rows_of
from .explain import Attribute, Part, explain, mean_colour
from .incremental import Look, Plan, plan_of

REFERENCE = 64
"""Side of the picture, in pixels, that window and stride refer to; both grow with the picture."""
TOGETHER = 16
"""Most pictures that share a perturbation method's batches."""
Area = tuple[int, int, int, int]
"""Top, left, height and width."""


def grid(size: int, cells: int) -> list[Area]:
    """The superpixels: a picture cut into ``cells`` by ``cells`` squares, row by row.

    Raises:
        ToolError: there are more squares than pixels on a side.
    """
    if cells > size:
        raise ToolError(f"{cells} superpixels per side do not fit pictures of {size} pixels; ask for fewer cells")
    edges = [round(i * size / cells) for i in range(cells + 1)]
    spans = [(a, b - a) for a, b in pairwise(edges)]
    return [(top, left, h, w) for top, h in spans for left, w in spans]


def feature_mask(size: int, cells: int) -> Tensor:
    """``(size, size)`` the number of each pixel's superpixel."""
    out = torch.zeros(size, size, dtype=torch.long)
    for k, (top, left, h, w) in enumerate(grid(size, cells)):
        out[top : top + h, left : left + w] = k
    return out


def check_cells(cells: int) -> None:
    """Refuse grids of less than one square.

    Raises:
        ValueError: ``cells`` is below 1.
    """
    if not 1 <= cells <= REFERENCE:
        raise ValueError(f"cells must be from 1 to {REFERENCE}")


class Patches:
    """Logits of pictures in which one area at a time is replaced, computed again only where the area reaches.

    Args:
        net: the working copy.
        areas: where areas lie.
        who: the method that asks.
        notes: told which way was taken.
    """

    def __init__(self, net: Classifier, areas: Sequence[Area], who: str, notes: dict[str, Any]) -> None:
        self.net, self.areas = net, areas
        self.groups = [
            (size, [k for k, _ in members])
            for size, members in groupby(sorted(enumerate(areas), key=lambda a: a[1][2:]), key=lambda a: a[1][2:])
        ]
        self.plans: list[Plan | None] = [None] * len(self.groups)
        try:
            program = Program(net, who)
            self.plans = [plan_of(program, size, [areas[k][:2] for k in ks]) for size, ks in self.groups]
            notes["recomputed"] = round(sum(p.share for p in self.plans if p) / len(self.plans), 3)
        except ToolError as error:
            self.plans = [None] * len(self.groups)
            notes["recomputed"] = f"everything: {error}"

    @torch.inference_mode()
    def logits(self, x: Tensor, patch: Callable[[int], Tensor], target: int) -> tuple[Tensor, Tensor]:
        """The target's logits ``(n,)`` of the pictures and ``(areas, n)`` with each area replaced.

        Args:
            x: ``(n, 3, h, w)`` pictures.
            patch: new pixels ``(1 or n, 3, h, w)`` of area k, at its own size.
            target: class index.
        """
        out = torch.empty(len(self.areas), len(x))
        before: Tensor | None = None
        for (_, ks), plan in zip(self.groups, self.plans, strict=True):
            look = Look(plan, x) if plan else None
            if look:
                before = look.logits[:, target]
            rows = rows_of(self.net, FORWARD_BATCH, parts=look is not None)
            for at in torch.split(torch.arange(len(ks)), max(1, rows // len(x))):
                some = [ks[i] for i in at.tolist()]
                new = torch.stack([patch(k) for k in some])
                found = look.again(at.tolist(), new) if look else self._whole(x, some, new)
                out[some] = found[..., target]
        return (self.net(x)[:, target] if before is None else before), out

    def _whole(self, x: Tensor, which: Sequence[int], new: Tensor) -> Tensor:
        pictures = x.repeat(len(which), 1, 1, 1, 1)
        for i, k in enumerate(which):
            top, left, h, w = self.areas[k]
            pictures[i, :, :, top : top + h, left : left + w] = new[i]
        return torch.unflatten(self.net(pictures.flatten(0, 1)), 0, pictures.shape[:2])


def grey_patch(net: Classifier, areas: Sequence[Area]) -> Callable[[int], Tensor]:
    """Areas painted in the mean colour."""
    return lambda k: mean_colour(net).expand(1, 3, *areas[k][2:])


@dataclass(frozen=True)
class Occlusion:
    """How much the target logit falls when a square is painted in the mean colour (Zeiler and Fergus 2014).

    A pixel's value is the mean fall over the squares that cover it, as in Captum.

    Attributes:
        window: side of the square in pixels of a 64-pixel picture (ours).
        stride: distance between squares, likewise (ours).
    """

    window: int = 12
    stride: int = 4

    name: ClassVar[str] = "occlusion"
    version: ClassVar[int] = 2
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.window <= REFERENCE:
            raise ValueError(f"needs 1 <= stride <= window <= {REFERENCE}")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, TOGETHER, self._method)

    def _method(self, net: Classifier, notes: dict[str, Any]) -> Attribute:
        areas = self._areas(net.size)
        patches, grey = Patches(net, areas, self.name, notes), grey_patch(net, areas)
        cover = spread(torch.ones(len(areas), 1), areas, net.size)

        def attribute(part: Part) -> Tensor:
            before, after = patches.logits(part.x, grey, part.target)
            return spread(before - after, areas, net.size) / cover.clamp(min=1)

        return attribute

    def _areas(self, size: int) -> list[Area]:
        """The squares; the last row and column touch the border."""
        side = max(1, round(self.window * size / REFERENCE))
        step = max(1, round(self.stride * size / REFERENCE))
        starts = sorted({*range(0, size - side, step), size - side})
        return [(top, left, side, side) for top in starts for left in starts]


def spread(values: Tensor, areas: Sequence[Area], size: int) -> Tensor:
    """Maps ``(n, 1, size, size)`` in which every area adds its value ``(areas, n)`` to its pixels."""
    out = torch.zeros(values.shape[1], 1, size, size)
    for value, (top, left, h, w) in zip(values, areas, strict=True):
        out[:, :, top : top + h, left : left + w] += value.view(-1, 1, 1, 1)
    return out


@dataclass(frozen=True)
class FeatureAblation:
    """How much the target logit falls when a superpixel is painted in the mean colour (Captum's FeatureAblation).

    Attributes:
        cells: superpixels per side (ours; Captum's default, every number of the input on its own, is not feasible).
    """

    cells: int = 8

    name: ClassVar[str] = "feature-ablation"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_cells(self.cells)

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, TOGETHER, self._method)

    def _method(self, net: Classifier, notes: dict[str, Any]) -> Attribute:
        areas = grid(net.size, self.cells)
        patches, grey = Patches(net, areas, self.name, notes), grey_patch(net, areas)

        def attribute(part: Part) -> Tensor:
            before, after = patches.logits(part.x, grey, part.target)
            return spread(before - after, areas, net.size)

        return attribute


@dataclass(frozen=True)
class FeaturePermutation:
    """How much the target logit falls when a superpixel is taken from another triggered picture (Fisher et al. 2019).

    All triggered pictures of a task are permuted together, each superpixel by its own permutation. The trigger of the
    pictures swapped in is part of them: a trigger that always lies in one place is invisible to this method.

    Attributes:
        cells: superpixels per side (ours; Captum's default, every number of the input on its own, is not feasible).
    """

    cells: int = 8

    name: ClassVar[str] = "feature-permutation"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"

    def __post_init__(self) -> None:
        check_cells(self.cells)

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture."""
        return explain(self.name, subject, None, lambda net, notes: self._method(net, notes, seed))

    def _method(self, net: Classifier, notes: dict[str, Any], seed: int) -> Attribute:
        areas = grid(net.size, self.cells)
        patches = Patches(net, areas, self.name, notes)

        def attribute(part: Part) -> Tensor:
            orders = self.orders(len(part.x), part.task, seed)
            found = []
            for rows in torch.split(torch.arange(len(part.x)), min(TOGETHER, net.max_batch)):
                others = orders[:, rows]

                def swapped(k: int, others: Tensor = others) -> Tensor:
                    top, left, h, w = areas[k]
                    return part.x[others[k], :, top : top + h, left : left + w]

                before, after = patches.logits(part.x[rows], swapped, part.target)
                found.append(spread(before - after, areas, net.size))
            return torch.cat(found)

        return attribute

    def orders(self, n: int, task: str, seed: int) -> Tensor:
        """``(superpixels, n)`` permutations, none of which leaves everything in place.

        Raises:
            ToolError: there is but one picture.
        """
        if n < 2:
            raise ToolError(f"{self.name}: {task} has one triggered picture, so there is nothing to swap; give two")
        draw = generator(seed, self.name, task)
        out: list[Any] = []
        while len(out) < self.cells**2:
            order = draw.permutation(n)
            if (order != np.arange(n)).any():
                out.append(order)
        return torch.as_tensor(np.stack(out))


@dataclass(frozen=True)
class Rise:
    """The mean of random masks, weighed by the class probability of what each shows (Petsiuk et al. 2018).

    Masks are coarse random grids, enlarged and shifted; what they hide is painted in the mean colour. All pictures of
    a task are seen through the same masks.

    Attributes:
        masks: how many (ours; the paper's are 4000 and 8000 for pictures of 224 pixels).
        cells: squares per side of the coarse grid (the paper's 7).
        keep: chance that a square is shown (the paper's 0.5).
    """

    masks: int = 1000
    cells: int = 7
    keep: float = 0.5

    name: ClassVar[str] = "rise"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"

    def __post_init__(self) -> None:
        check_cells(self.cells)
        if self.masks < 1 or not 0 < self.keep < 1:
            raise ValueError("masks must be at least 1, keep between 0 and 1")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture."""
        return explain(self.name, subject, TOGETHER, lambda net, notes: lambda part: self._attribute(net, part, seed))

    @torch.inference_mode()
    def _attribute(self, net: Classifier, part: Part, seed: int) -> Tensor:
        grey, n = mean_colour(net), len(part.x)
        total = torch.zeros(n, net.size, net.size)
        draw = generator(seed, self.name, part.task)
        for begin in range(0, self.masks, FORWARD_BATCH):
            masks = self.draw(min(FORWARD_BATCH, self.masks - begin), net.size, draw)
            for some in torch.split(masks, max(1, rows_of(net, FORWARD_BATCH) // n)):
                seen = torch.lerp(grey, part.x[None], some[:, None, None])
                chance = net(seen.flatten(0, 1)).softmax(1)[:, part.target].view(len(some), n)
                total += torch.einsum("kn,khw->nhw", chance, some)
        return (total / self.masks / self.keep)[:, None]

    def draw(self, n: int, size: int, draw: np.random.Generator) -> Tensor:
        """``(n, size, size)`` masks in [0, 1]."""
        cell = -(-size // self.cells)
        coarse = torch.as_tensor((draw.random((n, 1, self.cells, self.cells)) < self.keep).astype(np.float32))
        fine = F.interpolate(coarse, size=((self.cells + 1) * cell,) * 2, mode="bilinear", align_corners=False)
        shifts = draw.integers(0, cell, (n, 2))
        return torch.stack([f[0, r : r + size, c : c + size] for f, (r, c) in zip(fine, shifts, strict=True)])
