"""Attribution on the page: the box plots of every map, the table of all metrics, and the other readings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from .figures import EDGE, LOWER_IS_BETTER, METRICS, SENTINEL_MAPS, is_sentinel
from .schema import AttributionReadingRow, AttributionRow, MapScoresRow, Reading, Report
from .tables import TYPES, unique

TOP, HEIGHT, LEFT, RIGHT = 10, 230, 44, 42
NARROW, SPREAD, BROAD = 19, 440, 110  # between tools: at least, together, at most
WIDE = 16  # tools from which on the figure may fill the page
SLANT = (0.5, 0.87)  # cosine and sine of the names' angle
LETTER = 6.9
APART = 14  # pixels between two names at the right


@dataclass(frozen=True)
class Box:
    """One tool: quartiles, whiskers to the last value within 1.5 interquartile ranges, and what lies outside."""

    tool: str
    x: float
    low: float
    lower: float
    median: float
    upper: float
    high: float
    outside: tuple[float, ...]
    title: str
    sentinel: bool


@dataclass(frozen=True)
class BoxPlot:
    """Tools along x in one network, in pixels; ``lines`` are the guides: class, y, name and y of the name."""

    title: str
    caption: str
    width: float
    height: float
    left: float
    right: float
    floor: float
    ticks: tuple[tuple[float, str], ...]
    boxes: tuple[Box, ...]
    lines: tuple[tuple[str, float, str, float], ...]
    half: float
    wide: bool


@dataclass(frozen=True)
class MetricBoxes:
    """One metric: its box plots, one per network, on one scale and in one order of tools."""

    metric: str
    name: str
    about: str
    plots: tuple[BoxPlot, ...]


@dataclass(frozen=True)
class _Network:
    """A network's values by metric and tool, and what a blank map scores there."""

    title: str
    values: dict[str, dict[str, list[float]]]
    blank: dict[str, float]
    trojans: int


def name_of(metric: str) -> tuple[str, str]:
    """A metric's name and what it measures."""
    return METRICS.get(metric, (metric, "agreement of map and footprint"))


def in_order(metrics: Sequence[str]) -> list[str]:
    """Metrics with the main one first and unknown ones last."""
    known = list(METRICS)
    return sorted(unique(metrics), key=lambda m: (known.index(m) if m in known else len(known), m))


def box_plots(report: Report, beside: Report | None = None) -> list[MetricBoxes]:
    """The paper's figure for each metric: one box per tool over all maps, network beside network.

    Args:
        report: what is shown.
        beside: another report, whose networks are drawn beside its own.
    """
    networks = _networks(report, beside is not None) + (_networks(beside, True) if beside else [])
    rows = [*report.attribution, *(beside.attribution if beside else ())]
    guards = {r.tool for r in rows if is_sentinel(r.tool, r.family)} | SENTINEL_MAPS
    out = []
    for metric in in_order([m for n in networks for m in n.values]):
        tools = _ordered(networks, metric, guards)
        axis = _Axis.around([v for n in networks for values in n.values.get(metric, {}).values() for v in values])
        plots = tuple(_plot(n, metric, tools, axis, guards) for n in networks if metric in n.values)
        out.append(MetricBoxes(metric, *name_of(metric), plots))
    return out


def _networks(report: Report, named: bool) -> list[_Network]:
    chosen = {r.metric: r.reading for r in report.attribution if r.reading}
    out = []
    for model in unique(r.model for r in report.map_scores):
        values: dict[str, dict[str, list[float]]] = {}
        mine = [r for r in report.map_scores if r.model == model]
        for row in _in_reading(mine, chosen):
            metric, scores = row[0], row[1]
            values.setdefault(metric, {}).setdefault(scores.tool, []).extend(
                v for v in scores.values[metric] if v is not None
            )
        blank = {f.metric: f.median for f in report.map_floors if f.model == model}
        card = next((m.card for m in report.models if m.name == model), {})
        words = [report.suite if named else "", str(card.get("network") or ""), model]
        full = {m: {t: v for t, v in tools.items() if v} for m, tools in values.items()}
        trojans = len(unique(r.trojan for r in mine))
        out.append(_Network(" · ".join(w for w in words if w), {m: t for m, t in full.items() if t}, blank, trojans))
    return out


def _in_reading(rows: Sequence[MapScoresRow], chosen: Mapping[str, Reading]) -> list[tuple[str, MapScoresRow]]:
    """Each metric with the row of its chosen reading; ``signed`` stands for all where it is the only one."""
    by_reading = {(r.tool, r.trojan, r.reading): r for r in rows}
    out = []
    for row in (r for r in rows if r.reading == "signed"):
        for metric in row.values:
            wanted: Reading = chosen.get(metric, "signed")
            out.append((metric, by_reading.get((row.tool, row.trojan, wanted), row)))
    return out


def _ordered(networks: Sequence[_Network], metric: str, guards: set[str]) -> list[str]:
    """Methods on trial first, best median in the first network first; then the sentinels, likewise."""
    first: dict[str, float] = {}
    for network in networks:
        for tool, values in network.values.get(metric, {}).items():
            first.setdefault(tool, median(values))
    sign = 1 if metric in LOWER_IS_BETTER else -1
    return sorted(first, key=lambda t: (t in guards, sign * first[t], t))


@dataclass(frozen=True)
class _Axis:
    """Values to pixels from the top, between round ends."""

    start: float
    stop: float
    step: float

    @staticmethod
    def around(values: Sequence[float]) -> _Axis:
        low, high = min(0.0, *values), max(0.0, *values)
        span = max(high - low, 1e-3)
        step = next(s for s in (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5) if span / s <= 8)
        start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        return _Axis(start * step, max(stop, start + 1) * step, step)

    def y(self, value: float) -> float:
        return round(TOP + HEIGHT * (self.stop - value) / (self.stop - self.start), 1)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        count = round((self.stop - self.start) / self.step)
        values = [round(self.start + i * self.step, 12) + 0.0 for i in range(count + 1)]
        return tuple((self.y(v), f"{v:.4g}".replace("-", "−")) for v in values)


def _plot(network: _Network, metric: str, tools: Sequence[str], axis: _Axis, guards: set[str]) -> BoxPlot:
    pitch = round(max(NARROW, min(BROAD, SPREAD / len(tools))), 1)
    left = max(LEFT, *(8 + SLANT[0] * LETTER * len(t) - pitch * (i + 0.5) for i, t in enumerate(tools)))
    found = network.values[metric]
    xs = {tool: round(left + pitch * (i + 0.5), 1) for i, tool in enumerate(tools)}
    boxes = tuple(_box(tool, found[tool], xs[tool], axis, tool in guards) for tool in tools if tool in found)
    guides = [("edge", axis.y(median(found[EDGE])), "edge")] if EDGE in found else []
    guides += [("floor", axis.y(network.blank[metric]), "blank")] if metric in network.blank else []
    counts = sorted({len(values) for values in found.values()})
    n = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    right = round(left + pitch * len(tools), 1)
    floor = TOP + HEIGHT
    return BoxPlot(
        network.title,
        f"Each box: {n} triggered pictures of {network.trojans} trojans.",
        right + RIGHT,
        round(floor + 24 + SLANT[1] * LETTER * max(map(len, tools))),
        round(left, 1),
        right,
        floor,
        axis.ticks(),
        boxes,
        tuple((*guide, place) for guide, place in zip(guides, _apart([y for _, y, _ in guides]), strict=True)),
        6 if pitch < 24 else 8,
        len(tools) >= WIDE,
    )


def _apart(ys: Sequence[float]) -> list[float]:
    """Places for the names of at most two lines, so that neither covers the other."""
    if len(ys) == 2 and abs(ys[0] - ys[1]) < APART:
        push = (APART - abs(ys[0] - ys[1])) / 2 * (1 if ys[0] >= ys[1] else -1)
        return [round(ys[0] + push + 4, 1), round(ys[1] - push + 4, 1)]
    return [round(y + 4, 1) for y in ys]


def _box(tool: str, values: Sequence[float], x: float, axis: _Axis, sentinel: bool) -> Box:
    lower, middle, upper = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    reach = 1.5 * (upper - lower)
    within = [v for v in values if lower - reach <= v <= upper + reach]
    low, high = min(within), max(within)
    outside = tuple(sorted({round(axis.y(v)) * 1.0 for v in values if not low <= v <= high}))
    text = f"{tool}: median {middle:.3f}, quartiles {lower:.3f} to {upper:.3f}, n = {len(values)}".replace("-0", "−0")
    place = axis.y(low), axis.y(lower), axis.y(middle), axis.y(upper), axis.y(high)
    return Box(tool, x, *place, outside, text, sentinel)


@dataclass(frozen=True)
class MapLine:
    """One tool of the table: a row for each metric, None where it was not scored."""

    tool: str
    sentinel: bool
    n: str
    rows: tuple[AttributionRow | None, ...]


@dataclass(frozen=True)
class MapTable:
    """All metrics on one type of trojan; ``heads`` are each metric's name, reading, and whether lower is better."""

    type: str
    heads: tuple[tuple[str, str, bool], ...]
    blank: tuple[float | None, ...]
    lines: tuple[MapLine, ...]


def map_tables(report: Report) -> list[MapTable]:
    """For each type of trojan the table of all metrics; methods by the main metric, best first, then sentinels."""
    out = []
    metrics = in_order([r.metric for r in report.attribution])
    for kind in sorted(unique(r.type for r in report.attribution), key=TYPES.index):
        mine = {(r.tool, r.metric): r for r in report.attribution if r.type == kind}
        lines = []
        for tool in unique(t for t, _ in mine):
            rows = tuple(mine.get((tool, m)) for m in metrics)
            first = next(r for r in rows if r is not None)
            n = f"n = {first.n}" + (f", {first.pictures} pictures" if first.pictures is not None else "")
            lines.append(MapLine(tool, is_sentinel(tool, first.family), n, rows))
        sign = 1 if metrics[0] in LOWER_IS_BETTER else -1
        worst = float("inf")
        lines.sort(key=lambda line: (line.sentinel, sign * line.rows[0].mean if line.rows[0] else worst, line.tool))
        some = [next((r for (_, m), r in mine.items() if m == metric), None) for metric in metrics]
        heads = tuple((name_of(m)[0], (r.reading if r else None) or "", m in LOWER_IS_BETTER)
                      for m, r in zip(metrics, some, strict=True))  # fmt: skip
        out.append(MapTable(kind, heads, tuple(r.blank if r else None for r in some), tuple(lines)))
    return out


@dataclass(frozen=True)
class ReadingLine:
    """One tool and metric in all three readings."""

    tool: str
    name: str
    rows: tuple[AttributionReadingRow, ...]


def reading_lines(report: Report) -> list[ReadingLine]:
    """Over all trojans the mean in every reading, for tools whose maps hold negative values."""
    out = []
    mine = [r for r in report.attribution_readings if r.type == "all"]
    for tool in unique(r.tool for r in mine):
        for metric in in_order([r.metric for r in mine if r.tool == tool]):
            rows = tuple(r for r in mine if (r.tool, r.metric) == (tool, metric))
            out.append(ReadingLine(tool, name_of(metric)[0], rows))
    return out
