"""Is one tool better than another? Paired over trojans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ..rng import generator

Floats = NDArray[np.float64]
EXACT = 15  # up to so many pairs every sign is tried
DRAWS = 9999
CHUNK = 4096


@dataclass(frozen=True)
class Comparison:
    """Two tools on the trojans both answered.

    Attributes:
        one: a tool's name.
        other: another's.
        n: trojans.
        difference: mean of one minus the other.
        p: of the permutation test, two-sided.
        adjusted: the same after Holm's correction for all comparisons made together.
    """

    one: str
    other: str
    n: int
    difference: float
    p: float
    adjusted: float


def permutation(differences: Floats, seed: int) -> float:
    """Two-sided p of paired differences ``(n,)``: how often random signs give a mean as far from 0.

    All signs are tried for up to `EXACT` differences, else `DRAWS` random ones and the one observed.
    """
    d = differences[differences != 0]
    n = len(d)
    if n == 0:
        return 1.0
    seen = abs(float(d.sum())) * (1 - 1e-12) - 1e-12
    if n <= EXACT:
        half = np.arange(2 ** (n - 1))  # the mirrored half is as extreme
        signs = 1 - 2 * (half[:, None] >> np.arange(n) & 1)
        return float((np.abs(signs @ d) >= seen).mean())
    rng = generator(seed, "signs")
    hits = 1
    for start in range(0, DRAWS, CHUNK):
        signs = rng.choice((-1.0, 1.0), (min(CHUNK, DRAWS - start), n))
        hits += int((np.abs(signs @ d) >= seen).sum())
    return hits / (DRAWS + 1)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    out, top = [0.0] * len(p), 0.0
    for place, i in enumerate(order):
        top = max(top, min(1.0, (len(p) - place) * p[i]))
        out[i] = top
    return out


def compare(tables: Mapping[str, Mapping[str, float]], seed: int) -> list[Comparison]:
    """Every pair of tools on the trojans that both answered, corrected together.

    Args:
        tables: score by trojan, by tool.
        seed: seed of the random signs.
    """
    pairs = []
    for one, other in combinations(tables, 2):
        d = np.array([v - tables[other][t] for t, v in tables[one].items() if t in tables[other]])
        pairs.append((one, other, len(d), float(d.mean()) if len(d) else 0.0, permutation(d, seed)))
    adjusted = holm([p for *_, p in pairs])
    return [Comparison(*pair, a) for pair, a in zip(pairs, adjusted, strict=True)]


def ranks(comparisons: Sequence[Comparison], level: float = 0.05) -> dict[str, tuple[int, int]]:
    """Best and worst rank of each tool that the comparisons leave open; all hold together at 1 - level.

    A tool stands behind those that are surely better and before those that are surely worse.
    """
    tools = list(dict.fromkeys(name for c in comparisons for name in (c.one, c.other)))
    better, worse = dict.fromkeys(tools, 0), dict.fromkeys(tools, 0)
    for c in comparisons:
        if c.adjusted <= level and c.difference:
            winner, loser = (c.one, c.other) if c.difference > 0 else (c.other, c.one)
            worse[winner] += 1
            better[loser] += 1
    return {t: (1 + better[t], len(tools) - worse[t]) for t in tools}
