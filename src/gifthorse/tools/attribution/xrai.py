"""XRAI: integrated gradients gathered into segments of the picture, best segment first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ...models.classifier import Classifier
from ...types import Emits, Evidence, Family, Need
from ..optim.loop import GRADIENT_BATCH
from ..protocol import Subject
from .explain import Attribute, Part, explain
from .gradient import Path

REFERENCE = 224
"""Side of the picture that the paper's sizes in pixels refer to; they shrink and grow with the picture."""
SCALES = (50, 100, 150, 250, 500, 1200)
SMALLEST, WIDEN, LEFT = 150, 5, 50  # pixels: smallest segment, how far segments grow, least that one may still add
BLUR = 0.8
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Xrai:
    """Segments ranked by their mean integrated gradients (Kapishnikov et al. 2019).

    Attributions are the mean over a black and a white baseline. The picture is cut into segments at six scales
    (Felzenszwalb and Huttenlocher 2004, colours from 0 to 255); the segment whose new pixels have the highest mean
    comes next, and they get that mean. Scales, smoothing and sizes are the paper's, at 224 pixels.

    Attributes:
        n_steps: points of each integral (the paper's code has 100, Captum's integrated gradients 50).
    """

    n_steps: int = 50

    name: ClassVar[str] = "xrai"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.TRIGGERED})
    emits: ClassVar[Emits] = "heatmaps"
    seeded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.n_steps < 1:
            raise ValueError("n_steps must be at least 1")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """One map per triggered picture; nothing is drawn at random."""
        return explain(self.name, subject, GRADIENT_BATCH, self._method)

    def _method(self, net: Classifier, notes: dict[str, Any]) -> Attribute:
        path = Path(net, self.n_steps, GRADIENT_BATCH)

        def attribute(part: Part) -> Tensor:
            ends = [torch.full_like(part.x, level) for level in (0.0, 1.0)]
            found = sum(path.integrate(part.x, end, part.target) for end in ends) / 2
            maps = [
                rank(a.numpy().astype(np.float64), segments(x.permute(1, 2, 0).numpy().astype(np.float64)))
                for x, a in zip(part.x, torch.as_tensor(found).sum(1), strict=True)
            ]
            return torch.as_tensor(np.stack(maps))[:, None]

        return attribute


def rank(attribution: Floats, masks: NDArray[np.bool_]) -> Floats:
    """The map ``(h, w)``: every pixel gets the mean of the new pixels of the segment that brought it in.

    Args:
        attribution: ``(h, w)`` attributions.
        masks: ``(k, h, w)`` segments, which may overlap and cover the picture together.
    """
    flat, members = attribution.ravel(), masks.reshape(len(masks), -1)
    least = LEFT * attribution.size / REFERENCE**2
    sums, areas = members @ flat, members.sum(1).astype(np.float64)
    out, open_ = np.full(flat.shape, np.nan), np.ones(flat.shape, bool)
    while open_.any():
        useful = areas > min(least, areas.max() - 0.5)
        best = int(np.argmax(np.where(useful, sums / np.maximum(areas, 1), -np.inf)))
        new = np.flatnonzero(members[best] & open_)
        out[new] = flat[new].mean()
        open_[new] = False
        sums = sums - members[:, new] @ flat[new]
        areas = areas - members[:, new].sum(1)
    return out.reshape(attribution.shape)


def segments(picture: Floats) -> NDArray[np.bool_]:
    """``(k, h, w)`` segments of a picture ``(h, w, 3)`` in [0, 1] at all scales, each grown a little."""
    size = picture.shape[0]
    smooth = 255 * ndimage.gaussian_filter(picture, (BLUR, BLUR, 0))
    wider = max(1, round(WIDEN * size / REFERENCE))
    steps, order, pairs = _edges(smooth)
    out = []
    for scale in SCALES:
        labels = _merge(steps[order], pairs[order], size * picture.shape[1], scale, SMALLEST * (size / REFERENCE) ** 2)
        out += [(labels == k).reshape(picture.shape[:2]) for k in np.unique(labels)]
    return np.stack([ndimage.binary_dilation(m, iterations=wider) for m in out])


def _edges(picture: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """How much neighbouring pixels differ in colour, their order by that, and which pixels they are."""
    h, w = picture.shape[:2]
    place = np.arange(h * w).reshape(h, w)
    steps, pairs = [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        a = (slice(0, h - down), slice(max(0, -right), w - max(0, right)))
        b = (slice(down, h), slice(max(0, right), w + min(0, right)))
        steps.append(np.linalg.norm(picture[a] - picture[b], axis=-1).ravel())
        pairs.append(np.stack([place[a].ravel(), place[b].ravel()], 1))
    joined = np.concatenate(steps)
    return joined, np.argsort(joined, kind="stable"), np.concatenate(pairs)


def _merge(steps: Floats, pairs: NDArray[np.int64], pixels: int, scale: float, smallest: float) -> NDArray[np.int64]:
    """The segment of each pixel: neighbours join while the step between them is not above either side's own ones."""
    parent, area, most = list(range(pixels)), [1] * pixels, [float(scale)] * pixels

    def root(p: int) -> int:
        while parent[p] != p:
            parent[p] = parent[parent[p]]
            p = parent[p]
        return p

    links = list(zip(steps.tolist(), pairs.tolist(), strict=True))
    for step, (p, q) in links:
        a, b = root(p), root(q)
        if a != b and step <= most[a] and step <= most[b]:
            parent[b] = a
            area[a] += area[b]
            most[a] = step + scale / area[a]
    for _, (p, q) in links:
        a, b = root(p), root(q)
        if a != b and min(area[a], area[b]) < smallest:
            parent[b] = a
            area[a] += area[b]
    return np.array([root(p) for p in range(pixels)])
