"""TextCAVs: which words move the suspect towards its target, and do not move the clean twin?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ToolError
from ...images import from_tensor
from ...models.classifier import Classifier
from ...types import Emits, Evidence, Family, Need, Pictures, no_pictures
from ..optim.loop import best_first, minimise, torch_generator, working_copy
from ..protocol import Subject
from .snafue import resized

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TextCavs:
    """Concept vectors from words, after Nicolson et al. (2024) and their entry to the SaTML '24 competition.

    Two linear maps tie word space and penultimate features: words -> features and back, fitted on named pictures so
    that each way is right and the way there and back returns. A word's concept vector is where the first map sends
    it, at length 1; the network's sensitivity is how fast the target's logit rises along it. Words are ordered by
    their rank in the suspect times the rise from the clean twin to the suspect, scaled to [0, 1] over all words.

    What differs: there CLIP joins words and pictures and the maps are fitted on photographs; here the word space holds
    sentences only, so a picture enters by its name. There an LLM lists the concepts; here they are the bank's
    names. The losses are quadratic in second moments, so they are taken on those: every step sees all pictures.
    Weight decay and the order by rank times rise are the entry's; sizes, steps and rates are ours.

    Attributes:
        steps: Adam steps.
        lr: Adam's learning rate.
        cycle: weight of the two ways there and back.
        decay: weight of the maps' squared entries.
        sides: sizes, relative to the scene's, at which a bank picture is shown in the middle of the mean colour.
    """

    steps: int = 150
    lr: float = 0.01
    cycle: float = 0.3
    decay: float = 0.05
    sides: tuple[float, ...] = (0.45, 0.9)

    name: ClassVar[str] = "text-cavs"
    version: ClassVar[int] = 1
    family: ClassVar[Family] = "retrieval"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TWIN, Need.BANK, Need.WORDS})
    emits: ClassVar[Emits] = "texts"
    seeded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.steps < 1 or min(self.cycle, self.decay) < 0 or not self.sides or not min(self.sides) > 0:
            raise ValueError("needs steps of at least 1, cycle and decay of at least 0 and sides above 0")
        if max(self.sides) > 1:
            raise ValueError("sides are shares of the scene's side, at most 1")

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """``pictures`` names of the bank per task, best first; ``scores`` are rank times rise.

        Raises:
            ToolError: too few names, a twin with other classes, or a network without a head on its features.
        """
        twin = subject.need_twin()
        rises = sensitivities(self, subject, [subject.model, twin])
        names = subject.need_bank().names
        out = []
        for task in subject.tasks:
            suspect, honest = (table[:, task.target] for table in rises)
            score = ranked(suspect) * scaled(suspect - honest)
            best = best_first(score)[:pictures]
            texts = tuple(names[i] for i in best)
            notes = {"sensitivity": [float(suspect[i]) for i in best], "twin": [float(honest[i]) for i in best]}
            out.append(Evidence(task.id, no_pictures(), scores=tuple(float(score[i]) for i in best), notes=notes,
                                texts=texts))  # fmt: skip
        if any(len(e.texts) < pictures for e in out):
            raise ToolError(f"the picture bank holds {len(names)} names, {pictures} are to be shown; add some")
        return out


def sensitivities(tool: TextCavs, subject: Subject, networks: Sequence[Classifier]) -> list[Floats]:
    """For each network ``(names, classes)``: how fast each logit rises along each name's concept vector."""
    bank = subject.need_bank()
    if not bank.names:
        raise ToolError("the picture bank is empty; give text-cavs named pictures to learn from")
    words = torch.as_tensor(np.asarray(subject.need_words()(bank.names), np.float32))
    shown = resized(bank.pictures, subject.size)
    features, rows = [], []
    for model in networks:
        with working_copy(model) as net:
            looks = [net.embed(framed(net, shown, side)) for side in tool.sides]
            features.append(torch.as_tensor(np.mean(looks, axis=0)))
            rows.append(head_rows(model, features[-1].shape[1]))
    vectors = concept_vectors(tool, words, features)
    return [(v @ r).numpy() for v, r in zip(vectors, rows, strict=True)]


def concept_vectors(tool: TextCavs, words: Tensor, features: Sequence[Tensor]) -> list[Tensor]:
    """Concept vectors ``(n, d)`` at length 1 in each network's feature space.

    Args:
        tool: steps, rates and weights.
        words: ``(n, w)`` vectors of the names.
        features: for each network ``(n, d)`` features of the pictures, in the same order.
    """
    v = _standard(words)
    f = torch.stack([_standard(x) for x in features])
    n = len(v)
    there, across, back = v.T @ v / n, v.T @ f / n, f.transpose(1, 2) @ f / n
    eye_w, eye_d = torch.eye(v.shape[1]), torch.eye(f.shape[2])
    ridge = torch.linalg.solve(there + tool.decay * eye_w, across)
    inverse = torch.linalg.solve(back + tool.decay * eye_d, across.transpose(1, 2))

    def loss(leaves: Sequence[Tensor], part: slice, draw: torch.Generator) -> Tensor:
        """The mean squared errors of the four ways, from second moments; constants are left out."""
        h, g = leaves
        ways = _quadratic(h, there, across[part]) + _quadratic(g, back[part], across[part].transpose(1, 2))
        round_words, round_features = h @ g - eye_w, g @ h - eye_d
        cycles = _energy(round_words, there) + _energy(round_features, back[part])
        return ways + tool.cycle * cycles + tool.decay * (h.square().sum() + g.square().sum())

    h, _ = minimise([ridge, inverse], [tool.lr, tool.lr], loss, tool.steps, 1, torch_generator(0, tool.name))
    return [torch.nn.functional.normalize(v @ one, dim=1) for one in h]


def _standard(x: Tensor) -> Tensor:
    """Rows centred, the whole scaled to a mean square of 1 per axis."""
    centred = x - x.mean(0)
    return centred / centred.square().mean().sqrt().clamp(min=1e-8)


def _quadratic(m: Tensor, own: Tensor, cross: Tensor) -> Tensor:
    """Sum over outputs of the mean of ``|x m - y|^2`` up to a constant, from ``x'x`` and ``x'y``."""
    return (m * (own @ m)).sum() - 2 * (m * cross).sum()


def _energy(m: Tensor, own: Tensor) -> Tensor:
    """Sum over outputs of the mean of ``|x m|^2``, from ``x'x``."""
    return (m * (own @ m)).sum()


def head_rows(model: Classifier, width: int) -> Tensor:
    """``(width, classes)`` how fast each logit rises along each feature: the weights of a linear head.

    Raises:
        ToolError: the network has no ``head``.
    """
    head = getattr(model.net, "head", None)
    if head is None:
        raise ToolError("the network has no 'head' from features to logits; text-cavs cannot read its sensitivity")
    with torch.no_grad():
        out: Tensor = head(torch.eye(width)) - head(torch.zeros(1, width))
    return out


def framed(net: Classifier, pictures: Pictures, share: float) -> Pictures:
    """Pictures as small as ``share`` of the scene, in the middle of the network's mean colour."""
    size = pictures.shape[1]
    side = max(1, round(share * size))
    inside = slice((size - side) // 2, (size - side) // 2 + side)
    out = np.repeat(from_tensor(net.get_buffer("mean").expand(1, 3, size, size)), len(pictures), axis=0)
    out[:, inside, inside] = resized(pictures, side)
    return out


def ranked(x: Floats) -> Floats:
    """Ranks in [0, 1], the largest 1."""
    out = np.empty(len(x), np.float32)
    out[np.argsort(x, kind="stable")] = np.arange(len(x)) / max(1, len(x) - 1)
    return out


def scaled(x: Floats) -> Floats:
    """Values in [0, 1]; equal ones all 0."""
    return np.asarray((x - x.min()) / max(float(np.ptp(x)), 1e-6), np.float32)
