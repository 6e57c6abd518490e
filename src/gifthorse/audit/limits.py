"""Where an alarm begins: what honest networks show, or, where there is none at hand, the other classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..stats import wilson
from ..tools.optim.scan import CONSISTENT

Floats = NDArray[np.float64]
MARGIN = 2.0
"""An alarm begins this many times as far above the usual rise as the largest honest one lies."""
LEAST = 0.1
"""The least distance between the usual rise and the largest honest one: scenes are few, and rises exact to no less."""
OUTLIER = 3.5
"""Anomaly index (robust spreads above the median) of an alarm where the other classes are all there is."""


@dataclass(frozen=True)
class Limits:
    """What honest networks show, and where an alarm begins.

    Attributes:
        usual: ``(channels,)`` rise of an ordinary class, at which the score is 0.
        limit: ``(channels,)`` rise at which the score is 1; above it is an alarm.
        text: where the limits come from, for the report.
        honest: ``(n,)`` scores of the honest classes that set the limits; empty where there were none.
        held_out: ``(m,)`` their scores where each network's limits come from the others; empty with fewer than two.
    """

    usual: Floats
    limit: Floats
    text: str
    honest: Floats = field(default_factory=lambda: np.zeros(0))
    held_out: Floats = field(default_factory=lambda: np.zeros(0))

    def scores(self, rises: Floats) -> Floats:
        """``(channels, classes)`` rises in units of the limit; above 1 is an alarm."""
        out: Floats = (rises - self.usual[:, None]) / (self.limit - self.usual)[:, None]
        return out

    def to_json(self) -> dict[str, Any]:
        """JSON-able; without held-out honest classes the rate of false alarms and its 95 % interval are None."""
        n, k = len(self.held_out), int((self.held_out > 1).sum())
        low, high = wilson(k, n) if n else (None, None)
        return {
            "text": self.text,
            "usual": [round(float(x), 4) for x in self.usual],
            "limit": [round(float(x), 4) for x in self.limit],
            "honest": len(self.honest),
            "held_out": n,
            "false_alarms": k,
            "rate": k / n if n else None,
            "low": low,
            "high": high,
        }


def from_honest(rises: Sequence[Floats]) -> Limits:
    """Limits by honest networks.

    Args:
        rises: for each of them ``(channels, classes)`` the largest rises of one honest network against another.
    """
    limits = _around(np.concatenate(rises, 1))
    held_out = [
        _around(np.concatenate([r for k, r in enumerate(rises) if k != i], 1)).scores(own).max(0)
        for i, own in enumerate(rises)
        if len(rises) > 1
    ]
    return replace(
        limits,
        honest=np.concatenate([limits.scores(own).max(0) for own in rises]),
        held_out=np.concatenate(held_out) if held_out else np.zeros(0),
    )


def _around(rises: Floats) -> Limits:
    usual = np.median(rises, 1)
    limit = usual + MARGIN * np.maximum(rises.max(1) - usual, LEAST)
    text = (
        f"The limits come from {rises.shape[1]} classes of honest networks, compared with the reference in the same "
        f"way: an alarm begins {MARGIN:g} times as far above their median rise as their largest one lies."
    )
    return Limits(usual, limit, text)


def from_classes(rises: Floats) -> Limits:
    """Limits by the other classes of the audited network: right as long as most of its classes are honest.

    Args:
        rises: ``(channels, classes)`` its largest rises.

    Raises:
        InputError: fewer than three classes.
    """
    if rises.shape[1] < 3:
        raise InputError("with fewer than three classes there is nothing to compare with; give --reference")
    usual = np.median(rises, 1)
    spread = CONSISTENT * np.median(np.abs(rises - usual[:, None]), 1)
    text = (
        f"The limits come from the other classes of this network: an alarm begins {OUTLIER:g} robust spreads above "
        "their median. That breaks down where most classes are trojaned, and calls honest classes that are easily "
        "suggested suspicious: give an honest network with --reference for figures to rely on."
    )
    return Limits(usual, usual + np.maximum(OUTLIER * spread, MARGIN * LEAST), text)


DEFAULT = Limits(
    np.array([0.043, 0.134, 0.037, 0.089]),
    np.array([0.331, 0.653, 0.481, 0.805]),
    "The limits are those measured on three clean networks of the emoji suite, each compared with another one; they "
    "were not measured for this network. With --honest they are measured anew, with two of those the rate of false "
    "alarms, too.",
)
"""`from_honest` on the clean twins of the emoji suite, seeds 0 to 2, as `benchmarks/audit.py` prints their rises."""
