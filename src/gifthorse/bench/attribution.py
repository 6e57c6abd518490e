"""Heat maps against footprints: what each tool scores, map by map and over trojans, and beside the edge detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import stats
from ..errors import ToolError
from ..store import Store
from ..types import unit
from .plan import Lineage, Plan
from .stages import key_of, load_answers, load_evidence

if TYPE_CHECKING:
    from ..judges.masks import Reading

EDGE = "edge"  # the line to beat
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Scored:
    """The maps of one tool on one trojan of one model: by reading and metric one value per map with a footprint."""

    tool: str
    model: str
    trojan: str
    kind: str
    readings: dict[Reading, dict[str, Floats]]
    usable: NDArray[np.bool_]

    @property
    def alike(self) -> bool:
        """Whether the maps hold no negative value, so that all readings are one."""
        return self.readings["signed"] is self.readings["absolute"]


def parts(plan: Plan, store: Store) -> dict[str, list[dict[str, Any]]]:
    """The report's parts on attribution; empty lists where no tool emits maps.

    Raises:
        ToolError: maps that do not fit their pictures, or hold NaN.
    """
    mapping = [c for c in plan.columns if c.emits == "heatmaps"]
    titles = [c.title for c in mapping]
    if not titles:
        return {"attribution": [], "attribution_readings": [], "map_scores": [], "map_floors": []}
    scored, blank = [], []
    for line in plan.lineages:
        mine, floor = _scored(titles, line, store)
        scored += mine
        blank += floor
    edge = next((c.title for c in plan.columns if c.spec.name == EDGE), "")
    return {
        "attribution": [{**row, "family": c.family} for c in mapping for row in _rows(c.title, scored, blank, edge)],
        "attribution_readings": [row for title in titles for row in _readings(title, scored, edge)],
        "map_scores": [row for s in scored for row in _per_map(s)],
        "map_floors": list(_floors(blank)),
    }


def _scored(titles: Sequence[str], line: Lineage, store: Store) -> tuple[list[_Scored], list[_Scored]]:
    """Every tool's maps of one model against the footprints, and a blank map's; styles are everywhere: none."""
    from ..judges import masks

    key = key_of(store, line.trojaned.digest)
    _, true = load_answers(store, line.exhibits.digest)

    def one(title: str, task: str, maps: NDArray[Any]) -> _Scored:
        trojan = key.trojans[task]
        found = masks.readings(maps, true[task], f"tool {title!r}, {task} of {line.name}")
        name = unit(trojan.name, trojan.secret, line.seed)
        return _Scored(title, line.name, name, trojan.kind, found, masks.usable(true[task]))

    tasks = [t for t, trojan in key.trojans.items() if trojan.kind != "style"]
    blank = [one("", t, np.zeros(true[t].shape, np.float32)) for t in tasks]
    out = []
    for title in titles:
        shown = {e.task: e.heatmaps for e in load_evidence(store, line.runs[title, "suspect"].digest)[0]}
        for task in tasks:
            maps = shown.get(task)
            if maps is None:
                raise ToolError(
                    f"tool {title!r}, {task} of {line.name}: no map is stored; run `gifthorse store verify`"
                )
            out.append(one(title, task, maps))
    return out, blank


Table = dict[str, float]


def _table(scored: Sequence[_Scored], kind: str, reading: Reading, metric: str) -> tuple[Table, int]:
    """By trojan the mean over its maps, then over the models that carry it; and how many maps there are."""
    found: dict[str, list[float]] = {}
    maps = 0
    for s in scored:
        values = s.readings[reading][metric]
        if kind in ("all", s.kind) and len(values):
            found.setdefault(s.trojan, []).append(float(values.mean()))
            maps += len(values)
    return {trojan: float(np.mean(v)) for trojan, v in found.items()}, maps


def _spread(table: Table, maps: int, metric: str) -> dict[str, Any]:
    """Mean and median over trojans with their 95 % intervals."""
    from ..judges.masks import RANGES

    values = np.array(list(table.values()))
    low, high = stats.bounded_mean(values, *RANGES[metric])
    least, most = stats.bounded_median(values, *RANGES[metric])
    return {
        "n": len(values),
        "pictures": maps,
        "mean": float(values.mean()),
        "low": low,
        "high": high,
        "median": float(np.median(values)),
        "median_low": least,
        "median_high": most,
    }


def _margin(table: Table, edge: Table, metric: str) -> dict[str, float | None]:
    """How much better than the edge detector, paired over trojans; positive is better in every metric."""
    from ..judges.masks import LOWER_IS_BETTER, RANGES

    sign = -1 if metric in LOWER_IS_BETTER else 1
    pairs = np.array([sign * (value - edge[trojan]) for trojan, value in table.items() if trojan in edge])
    if not len(pairs):
        return {"margin": None, "margin_low": None, "margin_high": None}
    widest = RANGES[metric][1] - RANGES[metric][0]
    low, high = stats.bounded_mean(pairs, -widest, widest)
    return {"margin": float(pairs.mean()), "margin_low": low, "margin_high": high}


def _summaries(title: str, scored: Sequence[_Scored], edge: str, reading: Reading | None) -> Iterator[dict[str, Any]]:
    """One row per metric and kind of trojan, in one reading or (None) in each metric's chosen one."""
    from ..judges.masks import CHOSEN

    mine, line = ([s for s in scored if s.tool == t] for t in (title, edge))
    kinds = ["all", *dict.fromkeys(s.kind for s in mine)]
    for metric, kind in sorted((m, k) for m in CHOSEN for k in kinds):
        table, maps = _table(mine, kind, reading or CHOSEN[metric], metric)
        if table:
            beaten, _ = _table(line, kind, CHOSEN[metric], metric)  # the line stays where it is
            row = {"tool": title, "type": kind, "metric": metric, "reading": reading or CHOSEN[metric]}
            yield {**row, **_spread(table, maps, metric), **_margin(table, beaten, metric), "values": [*table.values()]}


def _rows(title: str, scored: Sequence[_Scored], blank: Sequence[_Scored], edge: str) -> Iterator[dict[str, Any]]:
    """The rows of the board of attribution, with what a blank map scores on the same trojans."""
    for row in _summaries(title, scored, edge, None):
        floor, _ = _table(blank, row["type"], "signed", row["metric"])
        yield {**row, "blank": float(np.mean(list(floor.values())))}


def _readings(title: str, scored: Sequence[_Scored], edge: str) -> Iterator[dict[str, Any]]:
    """The same in all three readings, for a tool whose maps hold negative values."""
    from ..judges.masks import CHOSEN, READINGS

    if all(s.alike for s in scored if s.tool == title):
        return
    for reading in READINGS:
        for row in _summaries(title, scored, edge, reading):
            yield {k: v for k, v in row.items() if k != "values"} | {"chosen": CHOSEN[row["metric"]] == reading}


def _per_map(s: _Scored) -> Iterator[dict[str, Any]]:
    """Every metric of every map; None where the picture has no footprint."""
    from ..judges.masks import READINGS

    base = {"tool": s.tool, "model": s.model, "trojan": s.trojan, "type": s.kind}
    for reading in READINGS[: 1 if s.alike else None]:
        values = {}
        for metric, found in s.readings[reading].items():
            spread = np.full(len(s.usable), np.nan)
            spread[s.usable] = found
            values[metric] = [None if np.isnan(v) else round(float(v), 6) for v in spread]
        yield {**base, "reading": reading, "values": values}


def _floors(blank: Sequence[_Scored]) -> Iterator[dict[str, Any]]:
    """What a blank map scores in each model: the median over pictures."""
    from ..judges.masks import CHOSEN

    for model in dict.fromkeys(s.model for s in blank):
        for metric in CHOSEN:
            values = np.concatenate([s.readings["signed"][metric] for s in blank if s.model == model])
            if len(values):
                yield {"model": model, "metric": metric, "n": len(values), "median": round(float(np.median(values)), 6)}
