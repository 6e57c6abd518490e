"""What the feature visualisations share: rows of pictures under random views, and the choice of what to show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...images import from_tensor, to_tensor
from ...models.classifier import FORWARD_BATCH, Classifier
from ...types import Evidence, Pictures, Task
from ..protocol import Subject
from .layers import activations, head_weights, unit_slopes
from .loop import GRADIENT_BATCH, Plateau, best_first, minimise, stack_rows, target_rows, torch_generator, working_copy
from .objectives import target_logits
from .params import FourierImage
from .transforms import jitter_view
from .twin import check_targets, honest_copy, logit_gap

PROBES = 16
"""Random pictures on which the slopes of a named layer are taken."""

Merit = Callable[[Tensor, Any], Tensor]
"""What is maximised: (views ``(n, 3, s, s)``, their rows) -> ``(n,)``."""


class Parametrisation(Protocol):
    """A map from parameters to pictures ``(n, 3, size, size)`` in (0, 1)."""

    @property
    def size(self) -> int:
        """Side of the picture in pixels."""
        ...

    def start(self, n: int, draw: torch.Generator) -> Tensor:
        """Random parameters of ``n`` pictures."""
        ...

    def __call__(self, params: Tensor, /) -> Tensor:
        """The pictures, as they are optimised."""
        ...

    def finished(self, params: Tensor, /) -> Tensor:
        """The pictures, as they are shown."""
        ...


@dataclass(frozen=True)
class Views:
    """How pictures are looked at while they are optimised, and for how long.

    Attributes:
        name: the tool's, for its random draws.
        steps: Adam steps, at most.
        lr: Adam's learning rate.
        jitter: largest shift, as a share of the side.
        degrees: largest turn.
        scale: largest relative change of size.
        patience: steps without progress after which a picture is finished; 0: never.
        twin: weight of the clean twin.
    """

    name: str
    steps: int
    lr: float
    jitter: float
    degrees: float
    scale: float
    patience: int
    twin: float

    @staticmethod
    def of(tool: Any) -> Views:
        """Those of a tool that has fields of these names.

        Raises:
            ValueError: a number out of range.
        """
        if tool.steps < 1 or tool.patience < 0:
            raise ValueError("steps must be at least 1 and patience at least 0")
        return Views(**{f.name: getattr(tool, f.name) for f in dataclasses.fields(Views)})


def visualise(
    views: Views, image: Parametrisation, start: Tensor, merit: Merit, seed: int, rows: int = GRADIENT_BATCH
) -> tuple[Pictures, list[int]]:
    """Every row's picture after ascent on ``merit``, and how many steps each took.

    Args:
        views: how pictures are looked at and for how long.
        image: the parametrisation.
        start: its parameters, one row per picture.
        merit: what is maximised.
        seed: the run's seed.
        rows: rows per micro-batch.
    """
    plateau = Plateau(len(start), views.patience)

    def loss(leaves: Sequence[Tensor], part: Any, draw: torch.Generator) -> Tensor:
        seen = jitter_view(image(leaves[0]), views.jitter * image.size, views.degrees, views.scale, draw)
        return -merit(seen, part)

    draw = torch_generator(seed, views.name, "views")
    (found,) = minimise([start], [views.lr], loss, views.steps, rows, draw, plateau, still=views.twin > 0)
    with torch.no_grad():
        parts = [from_tensor(image.finished(some)) for some in torch.split(found, GRADIENT_BATCH)]
    return np.concatenate(parts), plateau.steps.tolist()


def show_logit(
    views: Views, image: Parametrisation, subject: Subject, pictures: int, restarts: int, seed: int
) -> list[Evidence]:
    """Pictures of the target logit, less the twin's; the best of ``restarts`` as many are shown."""
    check_targets(subject)
    made = pictures * restarts
    targets = target_rows(subject.tasks, made)
    start = stack_rows(lambda g: image.start(made, g), subject.tasks, seed, views.name)
    with working_copy(subject.model) as net, honest_copy(subject, views.twin) as honest:

        def merit(seen: Tensor, part: Any) -> Tensor:
            return logit_gap(net, honest, views.twin, seen, targets[part])

        shown, steps = visualise(views, image, start, merit, seed)
        values = reached(net, honest, views.twin, shown, targets)
    return evidence(subject.tasks, shown, values, pictures, {"steps": steps}, twin=views.twin)


def reached(
    net: Classifier, honest: Classifier | None, weight: float, shown: Pictures, targets: Tensor
) -> NDArray[np.float32]:
    """``(n,)`` target logit of finished pictures, less ``weight`` times the twin's."""
    values = target_logits(torch.as_tensor(net.logits(shown)), targets)
    if honest is not None:
        values = values - weight * target_logits(torch.as_tensor(honest.logits(shown)), targets)
    out: NDArray[np.float32] = values.numpy()
    return out


def show_units(
    views: Views, image: Parametrisation, subject: Subject, pictures: int, layer: str, spare: int, seed: int
) -> list[Evidence]:
    """Pictures of the inner units that speak most for each target, a different unit in each.

    The units are those of the largest weight in the target's logit, less the mean over the classes and less that of
    the same unit of the twin. What is maximised is the unit's share of that logit, less the twin's whole target logit.

    Args:
        views: how pictures are looked at and for how long.
        image: the parametrisation.
        subject: what may be looked at.
        pictures: how many to show per task.
        layer: name of a module; empty for the pooled last block.
        spare: units tried for each one shown.
        seed: the run's seed.
    """
    check_targets(subject)
    tasks, weight, made = subject.tasks, views.twin, pictures * spare
    targets = target_rows(tasks, made)
    classes = torch.tensor([t.target for t in tasks])
    with working_copy(subject.model) as net, honest_copy(subject, weight) as honest, ExitStack() as stack:
        slopes = _slopes(subject.model, net, layer, classes, seed)
        lead = slopes
        if honest is not None:
            lead = slopes - weight * _slopes(subject.need_twin(), honest, layer, classes, seed)
        order = lead.argsort(dim=1, descending=True, stable=True)
        chosen = order.repeat(1, -(-made // order.shape[1]))[:, :made].flatten()
        slope = slopes.repeat_interleave(made, 0).gather(1, chosen[:, None])[:, 0]
        units = stack.enter_context(activations(net, layer))  # from here on the forward stops there

        def merit(seen: Tensor, part: Any) -> Tensor:
            share = slope[part] * units(seen).gather(1, chosen[part][:, None])[:, 0]
            return share if honest is None else share - weight * target_logits(honest(seen), targets[part])

        start = stack_rows(lambda g: image.start(made, g), tasks, seed, views.name)
        shown, steps = visualise(views, image, start, merit, seed)
        with torch.no_grad():
            rows = torch.split(torch.arange(len(shown)), FORWARD_BATCH)
            values = torch.cat([merit(to_tensor(shown[some.numpy()]), some) for some in rows])
    notes = {"steps": steps, "units": chosen.tolist(), "weights": [round(float(w), 4) for w in slope]}
    return evidence(tasks, shown, values.numpy(), pictures, notes, layer=layer or "last block", twin=weight)


def _slopes(whole: Classifier, net: Classifier, layer: str, targets: Tensor, seed: int) -> Tensor:
    """``(targets, units)`` what each unit of a layer of a network, and of its working copy, adds to each logit."""
    if not layer:
        return head_weights(whole)[targets]
    image = FourierImage(net.size)
    with torch.no_grad():
        probes = image(image.start(PROBES, torch_generator(seed, "probes")))
    return unit_slopes(net, layer, probes, targets)


def evidence(
    tasks: Sequence[Task],
    shown: Pictures,
    values: NDArray[np.float32],
    pictures: int,
    notes: Mapping[str, Sequence[Any]],
    **common: Any,
) -> list[Evidence]:
    """The best ``pictures`` of each task's rows by the method's own score, and how they were come by.

    Args:
        tasks: the tasks; each owns the same number of rows, in order.
        shown: ``(rows, h, w, 3)`` pictures.
        values: ``(rows,)`` scores.
        pictures: how many to show per task.
        notes: remarks with one entry per row; those of the pictures shown are kept, in their order.
        common: remarks on the whole run.
    """
    each, out = len(shown) // len(tasks), []
    for k, task in enumerate(tasks):
        order = [k * each + i for i in best_first(values[k * each : (k + 1) * each])[:pictures]]
        mine = {name: [entries[i] for i in order] for name, entries in notes.items()}
        scores = tuple(float(values[i]) for i in order)
        out.append(Evidence(task.id, shown[order], scores=scores, notes={"made": each, **common, **mine}))
    return out
