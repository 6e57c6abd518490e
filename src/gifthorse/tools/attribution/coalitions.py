"""Attribution by coalitions of superpixels: what each adds to the logit, whoever else is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ToolError
from ...models.classifier import FORWARD_BATCH, Classifier
from ...rng import generator
from ...types import Emits, Evidence, Family, Need
from ..protocol import Subject
from .engine import Program, rows_of
from .explain import Attribute, Part, explain, mean_colour
from .incremental import Look, Plan, plan_of
from .perturbation import TOGETHER, Area, check_cells, feature_mask, grid, spread

ENDS = 1e6
"""Weight of the empty and the full coalition, in place of infinity (Captum's)."""


@torch.inference_mode()
def coalition_logits(net: Classifier, part: Part, shown: Tensor, cells: int) -> Tensor:
    """The target's logits ``(coalitions, n)`` with only some superpixels shown, the rest in the mean colour.

    Args:
        net: the working copy.
        part: the pictures.
        shown: ``(coalitions, cells * cells)`` bool.
        cells: superpixels per side.
    """
    mask, n = feature_mask(net.size, cells), len(part.x)
    out = []
    for some in torch.split(shown, max(1, rows_of(net, FORWARD_BATCH) // n)):
        seen = torch.where(some[:, mask][:, None, None], part.x, mean_colour(net))
        out.append(net(seen.flatten(0, 1))[:, part.target].unflatten(0, (-1, n)))
    return torch.cat(out)


def areas_mean(net: Classifier, values: Tensor, cells: int) -> Tensor:
    """Maps ``(n, 1, size, size)`` of one value ``(superpixels, n)`` per superpixel."""
    return spread(values.float(), grid(net.size, cells), net.size)


@dataclass(frozen=True)
class Lime:
    """A sparse linear model of the logit over random sets of superpixels (Ribeiro et al. 2016).

    Sets are weighed by how alike picture and partial picture are: ``exp(-d * d / 2)`` of the cosine distance of the
    normalised pictures, and the model is a lasso, both as in Captum. All pictures of a task share the sets.

    Attributes:
        n_samples: sets of superpixels (Captum's 50).
        alpha: strength of the lasso (Captum's 0.01, in units of the logit).
        cells: superpixels per side (ours; the paper segments the picture).
    """

    n_samples: int = 50
    alpha: float = 0.01
    cells: int = 8

    name: ClassVar[str] = "lime"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"

    def __post_init__(self) -> None:
        check_cells(self.cells)
        if self.n_samples < 2 or self.alpha < 0:
            raise ValueError("n_samples must be at least 2, alpha at least 0")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture."""
        return explain(self.name, subject, TOGETHER, lambda net, notes: lambda part: self._attribute(net, part, seed))

    def sets(self, task: str, seed: int) -> Tensor:
        """``(n_samples, superpixels)`` bool, what each set shows: every superpixel by the flip of a coin."""
        return torch.as_tensor(generator(seed, self.name, task).random((self.n_samples, self.cells**2)) < 0.5)

    def _attribute(self, net: Classifier, part: Part, seed: int) -> Tensor:
        shown = self.sets(part.task, seed)
        logits = coalition_logits(net, part, shown, self.cells).double()
        mask = feature_mask(net.size, self.cells).flatten()
        energy = torch.zeros(len(part.x), self.cells**2, dtype=torch.float64)
        energy.index_add_(1, mask, net.normalise(part.x).double().square().sum(1).flatten(1))
        kept = shown.double() @ energy.T
        far = 1 - (kept / energy.sum(1).clamp(min=1e-12)).sqrt()
        found = [
            lasso(shown.double(), y, w, self.alpha)
            for y, w in zip(logits.T, torch.exp(-far.square() / 2).T, strict=True)
        ]
        return areas_mean(net, torch.stack(found, 1), self.cells)


def lasso(x: Tensor, y: Tensor, weights: Tensor, alpha: float, sweeps: int = 2000, close: float = 1e-9) -> Tensor:
    """Coefficients ``(k,)`` that minimise the weighted mean square over two plus ``alpha`` times their absolute sum.

    By coordinate descent on the normal equations; the intercept is free.

    Args:
        x: ``(n, k)`` float64.
        y: ``(n,)`` likewise.
        weights: ``(n,)`` of the samples; only their proportions count.
        alpha: strength of the penalty.
        sweeps: most passes over the coefficients.
        close: stops when no coefficient moves by more, as a share of the largest.
    """
    w = weights / weights.sum()
    x = x - (w[:, None] * x).sum(0)
    gram = ((w[:, None] * x).T @ x).numpy()
    pull = ((w * (y - (w * y).sum())) @ x).numpy()
    out = np.zeros(len(pull))
    left, scale = pull.copy(), np.diagonal(gram).copy()  # what the other coefficients leave to explain
    for sweep in range(sweeps):
        moved = 0.0
        for k in range(len(out)) if sweep % 10 == 0 else np.flatnonzero(out):
            if scale[k] <= 0:
                continue
            before = out[k]
            reach = left[k] + scale[k] * before
            out[k] = max(abs(reach) - alpha, 0) * (1 if reach > 0 else -1) / scale[k]
            if out[k] != before:
                left -= gram[k] * (out[k] - before)
                moved = max(moved, abs(out[k] - before))
        if moved <= close * max(np.abs(out).max(), 1e-300) and sweep % 10 == 0:
            break
    return torch.as_tensor(out)


@dataclass(frozen=True)
class KernelShap:
    """Shapley values by weighted regression over random sets of superpixels (Lundberg and Lee 2017).

    Sizes of sets are drawn in proportion to the Shapley kernel, so samples weigh the same, and the empty and the full
    set as good as infinitely, both as in Captum. Where there are fewer samples than superpixels the smallest
    solution is taken. All pictures of a task share the sets.

    Attributes:
        n_samples: sets of superpixels (Captum's 25; raise it well above the number of superpixels to trust a map).
        cells: superpixels per side (ours).
    """

    n_samples: int = 25
    cells: int = 8

    name: ClassVar[str] = "kernel-shap"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"

    def __post_init__(self) -> None:
        check_cells(self.cells)
        if self.n_samples < 3 or self.cells < 2:
            raise ValueError("n_samples must be at least 3, cells at least 2")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture."""
        return explain(self.name, subject, TOGETHER, lambda net, notes: lambda part: self._attribute(net, part, seed))

    def sets(self, task: str, seed: int) -> Tensor:
        """``(n_samples, superpixels)`` bool, what each set shows; everything first, then nothing."""
        m, draw = self.cells**2, generator(seed, self.name, task)
        sizes = np.arange(1, m)
        chance = 1 / (sizes * (m - sizes))
        out = np.zeros((self.n_samples, m), bool)
        out[0] = True
        for row in out[2:]:
            row[draw.permutation(m)[: draw.choice(sizes, p=chance / chance.sum())]] = True
        return torch.as_tensor(out)

    def _attribute(self, net: Classifier, part: Part, seed: int) -> Tensor:
        shown = self.sets(part.task, seed)
        logits = coalition_logits(net, part, shown, self.cells).double()
        return areas_mean(net, self._solve(shown.numpy()) @ logits, self.cells)

    @staticmethod
    def _solve(shown: NDArray[np.bool_]) -> Tensor:
        """``(superpixels, n_samples)`` what turns logits into coefficients; the intercept is free."""
        sizes = shown.sum(1)
        w = np.where((sizes == 0) | (sizes == shown.shape[1]), ENDS, 1.0)
        centre = np.eye(len(w)) - w / w.sum()
        root = np.sqrt(w)[:, None]
        solved: NDArray[np.float64] = np.linalg.pinv(root * (centre @ shown), rcond=1e-10) @ (root * centre)
        return torch.as_tensor(solved)


@dataclass(frozen=True)
class ShapleySampling:
    """Shapley values of superpixels, estimated from random orders of appearance (Castro et al. 2009).

    Superpixels appear one by one on a picture in the mean colour; each gets what it adds to the logit. Only what it
    can reach is computed again. All pictures of a task share the orders.

    Attributes:
        n_samples: orders (Captum's 25).
        cells: superpixels per side (ours; Captum's default, every number of the input on its own, is not feasible).
    """

    n_samples: int = 25
    cells: int = 8

    name: ClassVar[str] = "shapley-sampling"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"

    def __post_init__(self) -> None:
        check_cells(self.cells)
        if self.n_samples < 1:
            raise ValueError("n_samples must be at least 1")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture."""
        return explain(self.name, subject, TOGETHER, lambda net, notes: self._method(net, notes, seed))

    def orders(self, task: str, seed: int) -> Tensor:
        """``(n_samples, superpixels)`` orders of appearance."""
        draw = generator(seed, self.name, task)
        return torch.as_tensor(np.stack([draw.permutation(self.cells**2) for _ in range(self.n_samples)]))

    def _method(self, net: Classifier, notes: dict[str, Any], seed: int) -> Attribute:
        areas, plan = grid(net.size, self.cells), None
        try:
            sizes = {a[2:] for a in areas}
            if len(sizes) > 1:
                raise ToolError(f"{net.size} pixels do not divide into {self.cells} superpixels")
            plan = plan_of(Program(net, self.name), sizes.pop(), [a[:2] for a in areas])
            notes["recomputed"] = round(plan.share, 3)
        except ToolError as error:
            notes["recomputed"] = f"everything: {error}"

        @torch.inference_mode()
        def attribute(part: Part) -> Tensor:
            orders = self.orders(part.task, seed)
            total = torch.zeros(len(areas), len(part.x))
            most = max(1, rows_of(net, FORWARD_BATCH, parts=plan is not None) // len(part.x))
            for some in orders.tensor_split(-(-len(orders) // most)):  # of much the same size
                gains = self._walk(net, plan, part, some, areas)
                total.index_add_(0, some.T.flatten(), gains.flatten(0, 1))
            return spread(total / self.n_samples, areas, net.size)

        return attribute

    @staticmethod
    def _walk(net: Classifier, plan: Plan | None, part: Part, orders: Tensor, areas: list[Area]) -> Tensor:
        """What each superpixel adds as it appears: ``(superpixels, orders, n)``."""
        canvas = mean_colour(net).expand_as(part.x)
        look = Look(plan, canvas, len(orders)) if plan else None
        state = canvas.repeat(len(orders), 1, 1, 1, 1)
        logits = [(look.logits if look else net(canvas))[:, part.target].expand(len(orders), -1)]
        for which in orders.T.tolist():
            spots = [(slice(top, top + h), slice(left, left + w)) for top, left, h, w in (areas[k] for k in which)]
            if look:
                new = torch.stack([part.x[:, :, rows, columns] for rows, columns in spots])
                logits.append(look.again(which, new)[..., part.target])
                continue
            for i, (rows, columns) in enumerate(spots):
                state[i, :, :, rows, columns] = part.x[:, :, rows, columns]
            logits.append(net(state.flatten(0, 1))[:, part.target].unflatten(0, (len(orders), -1)))
        return torch.stack(logits).diff(dim=0)
