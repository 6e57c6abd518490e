"""The twin option of every optimisation method: what the honest twin also draws is taken off the objective.

On the twin itself both networks are one: with weight 1 a difference of logits is zero everywhere, so its pictures
stay the noise they started as; a difference of confidences is zero above chance, so its patches stop there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ...errors import ToolError
from ...models.classifier import Classifier
from ...types import Need
from ..protocol import Subject
from .loop import working_copy
from .objectives import cross_entropy, target_logits


def declare_twin(tool: Any) -> None:
    """Check a tool's ``twin`` weight and, where it is set, add `Need.TWIN` to the needs of this instance.

    Raises:
        ValueError: a weight outside [0, 1].
    """
    if not 0 <= tool.twin <= 1:
        raise ValueError(f"twin is the weight of the clean twin and must lie in [0, 1], got {tool.twin}")
    if tool.twin:
        object.__setattr__(tool, "needs", type(tool).needs | {Need.TWIN})


@contextmanager
def honest_copy(subject: Subject, weight: float) -> Iterator[Classifier | None]:
    """The working copy of the clean twin, or None where its weight is 0.

    Raises:
        ToolError: no twin, or one with other classes.
    """
    if not weight:
        yield None
        return
    with working_copy(subject.need_twin()) as copy:
        yield copy


def logit_gap(net: Classifier, honest: Classifier | None, weight: float, x: Tensor, targets: Tensor) -> Tensor:
    """``(n,)`` target logit of the suspect minus ``weight`` times the twin's."""
    own = target_logits(net(x), targets)
    return own if honest is None else own - weight * target_logits(honest(x), targets)


def above_chance(honest: Classifier, x: Tensor, targets: Tensor) -> Tensor:
    """``(n,)`` how far the twin's log-confidence in the target is above that of guessing; 0 below it.

    It is bounded below, so that no method can do well by confusing the twin alone.
    """
    return above_guessing(honest(x), targets)


def above_guessing(logits: Tensor, targets: Tensor) -> Tensor:
    """`above_chance` of the twin's logits."""
    return (math.log(logits.shape[1]) - cross_entropy(logits, targets)).clamp(min=0)


def check_targets(subject: Subject) -> None:
    """Refuse targets that the network does not have.

    Raises:
        ToolError: a task's target is no class of the network.
    """
    for task in subject.tasks:
        if not 0 <= task.target < len(subject.model.classes):
            raise ToolError(
                f"task {task.id}: target {task.target} cannot be reached, the network has classes 0 to "
                f"{len(subject.model.classes) - 1}; give it one of these"
            )
