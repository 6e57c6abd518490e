"""The geometry of the figures, in pixels: interval plots and the heat map of tools and trojans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, quantiles

from .schema import AttributionRow, BoardRow, CellRow, Report
from .tables import SENTINEL, TYPES, boards, difference, percent, unique, unit

EDGE = "edge"
SENTINEL_MAPS = frozenset({"true-mask", EDGE, "random-map"})
METRICS = {
    "pearson": ("Correlation", "Pearson correlation of map and footprint over pixels; higher is better"),
    "spearman": ("Rank correlation", "Spearman correlation of map and footprint over pixels; higher is better"),
    "auroc": ("AUROC", "how often a pixel of the footprint scores above one outside; higher is better"),
    "pointing": ("Pointing game", "how often the map's highest pixel lies in the footprint; higher is better"),
    "mass": ("Mass inside", "share of the map's positive part that lies in the footprint; higher is better"),
    "iou": ("IoU", "overlap of the footprint and as many highest pixels of the map; higher is better"),
    "l1": (
        "L1 distance (legacy)",
        "mean distance of the scaled map from the footprint, the paper's first metric, in which a blank map does "
        "well; lower is better",
    ),
}
LOWER_IS_BETTER = frozenset({"l1"})
WIDTH, PITCH, TOP, MARGIN = 460, 30, 26, 22
CELL_W, CELL_H, GAP = 50, 36, 10
SMALL_W, SMALL_H = 27, 24


@dataclass(frozen=True)
class Bar:
    """A tool's line of an interval plot; all x in pixels.

    ``ghost`` is the clean twin's value, ``box`` the quartiles, ``dots`` the single trojans.
    """

    tool: str
    y: int
    mean: float
    low: float
    high: float
    title: str
    ghost: float | None = None
    box: tuple[float, float, float] | None = None
    dots: tuple[float, ...] = ()
    sentinel: bool = False


@dataclass(frozen=True)
class Panel:
    """One interval plot, with a guide line (and its own interval) that every tool is read against."""

    title: str
    caption: str
    width: int
    height: int
    left: int
    ticks: tuple[tuple[float, str], ...]
    guide: tuple[float, float, float] | None
    guide_name: str
    bars: tuple[Bar, ...] = field(default=())


@dataclass(frozen=True)
class _Axis:
    """Values to pixels, between round ends."""

    start: float
    stop: float
    step: float
    left: int

    @staticmethod
    def around(values: Sequence[float], left: int) -> _Axis:
        start, stop = min(0.0, *values), max(0.0, *values)
        step = _step(stop - start)
        start, stop = math.floor(start / step + 1e-9) * step, math.ceil(stop / step - 1e-9) * step
        return _Axis(start, stop if stop > start else start + step, step, left)

    def x(self, value: float) -> float:
        share = (value - self.start) / (self.stop - self.start)
        return round(self.left + (WIDTH - self.left - MARGIN) * share, 1)

    def ticks(self, points: bool = False) -> tuple[tuple[float, str], ...]:
        count = round((self.stop - self.start) / self.step)
        values = [round(self.start + i * self.step, 12) + 0.0 for i in range(count + 1)]
        texts = [f"{100 * v:+.0f}" if points and v else f"{100 * v:.0f}" if points else f"{v:.3g}" for v in values]
        return tuple((self.x(v), text.replace("-", "−")) for v, text in zip(values, texts, strict=True))


def _step(span: float) -> float:
    """A round distance that divides the span into seven at most."""
    raw = max(span, 1e-6) / 7
    base = float(10 ** math.floor(math.log10(raw)))
    return next(base * m for m in (1, 2, 2.5, 5, 10) if base * m >= raw * (1 - 1e-9))


def _left(tools: Sequence[str]) -> int:
    return 22 + 7 * max(map(len, tools))


def _span(ns: Sequence[int]) -> str:
    """How many trojans, in words."""
    return f"n = {min(ns)}" if min(ns) == max(ns) else f"n = {min(ns)} to {max(ns)}"


def found(report: Report) -> list[tuple[str, list[Panel]]]:
    """For each judge the accuracy of every tool against chance, and what is left of it without the twin's."""
    out = []
    for judge, types, lines in boards(report):
        rows = [(line.rows[0], line.sentinel) for line in lines if line.rows[0] is not None]
        kept = [(row, sentinel) for row, sentinel in rows if row is not None]
        if kept:
            over = f"{types[0]} trojans" if types[0] != "all" else "trojans"
            panels = [_accuracy(kept, report.chance, over), _difference(kept, over)]
            out.append((judge, [p for p in panels if p is not None]))
    return out


INTERVAL = "95 % interval over trojans (Wilson's at the effective sample size)"


def _accuracy(rows: Sequence[tuple[BoardRow, bool]], chance: float, over: str) -> Panel:
    axis = _Axis(0.0, 1.0, 0.25, _left([r.tool for r, _ in rows]))
    bars = []
    for i, (r, sentinel) in enumerate(rows):
        text = f"{r.tool}: {percent(r.accuracy)} ({percent(r.low)} to {percent(r.high)}), n = {r.n}"
        ghost = None if r.twin_accuracy is None else axis.x(r.twin_accuracy)
        text += "" if ghost is None else f"; clean twin {percent(r.twin_accuracy)}"
        place = axis.x(r.accuracy), axis.x(r.low), axis.x(r.high)
        bars.append(Bar(r.tool, TOP + PITCH * i, *place, title=text, ghost=ghost, sentinel=sentinel))
    caption = f"Point: mean over {over}, {_span([r.n for r, _ in rows])}. Bar: {INTERVAL}. Ring: the clean twin."
    ticks = tuple((x, f"{text} %") for x, text in _percents(axis))
    guide = (axis.x(chance),) * 3
    height = TOP + PITCH * len(bars) + 8
    return Panel("Accuracy", caption, WIDTH, height, axis.left, ticks, guide, "chance", tuple(bars))


def _percents(axis: _Axis) -> list[tuple[float, str]]:
    return [(axis.x(v), f"{100 * v:.0f}") for v in (0, 0.25, 0.5, 0.75, 1)]


def _difference(rows: Sequence[tuple[BoardRow, bool]], over: str) -> Panel | None:
    """Accuracy minus twin accuracy of the tools on trial; None where none of them looked at a twin.

    Sentinels do not look at the network: the oracle shows the answer for the twin too.
    """
    trial = [r for r, sentinel in rows if not sentinel]
    paired = [(r, d) for r in trial if (d := difference(r.accuracy, r.twin_accuracy)) is not None]
    if not paired:
        return None
    values = [v for r, d in paired for v in (d, r.difference_low, r.difference_high) if v is not None]
    axis = _Axis.around(values, _left([r.tool for r, _ in paired]))
    bars = []
    for i, (r, d) in enumerate(paired):
        low, high = (d if end is None else end for end in (r.difference_low, r.difference_high))
        text = f"{r.tool}: {percent(d, sign=True)}, {percent(low, sign=True)} to {percent(high, sign=True)}, n = {r.n}"
        bars.append(Bar(r.tool, TOP + PITCH * i, axis.x(d), axis.x(low), axis.x(high), title=text))
    measured = any(r.difference_low is not None for r, _ in paired)
    caption = f"In points; mean of the paired difference over {over}, {_span([r.n for r, _ in paired])}."
    caption += f" Bar: {INTERVAL}." if measured else " No interval was stored."
    zero = (axis.x(0.0),) * 3
    height = TOP + PITCH * len(bars) + 8
    title = "Accuracy minus twin accuracy"
    return Panel(title, caption, WIDTH, height, axis.left, axis.ticks(True), zero, "no better", tuple(bars))


@dataclass(frozen=True)
class MetricPanels:
    """One attribution metric: its name, what it measures, and one plot per type of trojan."""

    metric: str
    name: str
    about: str
    panels: tuple[Panel, ...]


def is_sentinel(tool: str, family: str | None) -> bool:
    """Whether a tool of maps is a check of the benchmark rather than a method on trial."""
    return family == SENTINEL or tool in SENTINEL_MAPS


def attribution(report: Report) -> list[MetricPanels]:
    """One interval plot for each metric and type, tools best first; the first metric is the main one."""
    metrics = sorted(unique(r.metric for r in report.attribution), key=lambda m: (m not in METRICS, _place(m), m))
    out = []
    for metric in metrics:
        mine = [r for r in report.attribution if r.metric == metric]
        types = sorted(unique(r.type for r in mine), key=TYPES.index)
        panels = tuple(_panel([r for r in mine if r.type == kind], metric, kind) for kind in types)
        name, about = METRICS.get(metric, (metric, "agreement of map and footprint"))
        out.append(MetricPanels(metric, name, about, panels))
    return out


def _place(metric: str) -> int:
    return list(METRICS).index(metric) if metric in METRICS else 0


def _panel(rows: Sequence[AttributionRow], metric: str, kind: str) -> Panel:
    axis = _Axis.around([v for r in rows for v in (r.low, r.high, r.mean, *r.values)], _left([r.tool for r in rows]))
    pitch = PITCH + 8
    guide = next(((axis.x(r.mean), axis.x(r.low), axis.x(r.high)) for r in rows if r.tool == EDGE), None)
    sign = 1 if metric in LOWER_IS_BETTER else -1
    bars = []
    for i, r in enumerate(sorted(rows, key=lambda r: sign * r.mean)):
        cuts = quantiles(r.values, n=4, method="inclusive") if len(r.values) > 3 else None
        box = (axis.x(cuts[0]), axis.x(cuts[1]), axis.x(cuts[2])) if cuts else None
        text = f"{r.tool}: {r.mean:.3f} ({r.low:.3f} to {r.high:.3f}), n = {r.n}".replace("-0", "−0")
        dots = tuple(axis.x(v) for v in r.values)
        place = axis.x(r.mean), axis.x(r.low), axis.x(r.high)
        bars.append(
            Bar(r.tool, TOP + pitch * i, *place, title=text, box=box, dots=dots, sentinel=is_sentinel(r.tool, r.family))
        )
    title = "All trojans with a footprint" if kind == "all" else f"{kind.capitalize()} trojans"
    caption = (
        f"{_span([r.n for r in rows])} trojans. Point and bar: mean and 95 % t-interval. Box: quartiles and median."
    )
    height = TOP + pitch * len(bars) + 4
    return Panel(title, caption, WIDTH, height, axis.left, axis.ticks(), guide, "edge detector", tuple(bars))


@dataclass(frozen=True)
class Square:
    """A square of the heat map: place in pixels, colour step 0 to 10, and its texts."""

    x: int
    y: int
    step: int
    text: str
    twin: str
    title: str


@dataclass(frozen=True)
class HeatMap:
    """Geometry of tools x trojans in pixels; ``cell`` is width and height of a square."""

    width: int
    height: int
    left: int
    top: int
    cell: tuple[int, int]
    rows: tuple[tuple[int, str], ...]
    columns: tuple[tuple[int, str], ...]
    groups: tuple[tuple[int, int, str], ...]
    squares: tuple[Square, ...]


def heat_map(report: Report) -> HeatMap | None:
    """Tools against trojans, averaged over models; None when there are no cells."""
    if not report.cells:
        return None
    tools, trojans, names, kinds = _margins(report, report.cells)
    left, top = 22 + 7 * max(map(len, tools)), 46 + 5 * max(map(len, names.values()))
    types = unique(kinds.get(t, "") for t in trojans)
    xs = {t: left + CELL_W * i + GAP * types.index(kinds.get(t, "")) for i, t in enumerate(trojans)}
    ys = {t: top + CELL_H * i for i, t in enumerate(tools)}
    places = {kind: [xs[t] for t in trojans if kinds.get(t, "") == kind] for kind in types}
    groups = tuple((min(p), max(p) + CELL_W - 2, kind) for kind, p in places.items())
    squares = [_square(report.cells, a, b, names[b], xs[b], ys[a]) for a in tools for b in trojans]
    return HeatMap(
        max(xs.values()) + CELL_W + 5 * max(map(len, names.values())), top + CELL_H * len(tools) + 4, left, top,
        (CELL_W - 2, CELL_H - 2), tuple((y, t) for t, y in ys.items()), tuple((x, names[t]) for t, x in xs.items()),
        groups, tuple(s for s in squares if s is not None),
    )  # fmt: skip


def side_by_side(report: Report) -> HeatMap | None:
    """Tools against trojans for every judge, one beside the other; None where there is one judge only."""
    if not report.cells or not report.further_cells:
        return None
    first = report.board[0].judge if report.board else "first judge"
    tables = {first: list(report.cells)}
    for c in report.further_cells:
        cell = CellRow(tool=c.tool, trojan=c.trojan, accuracy=c.accuracy, twin_accuracy=c.twin_accuracy)
        tables.setdefault(c.judge, []).append(cell)
    tools, trojans, names, kinds = _margins(report, [c for cells in tables.values() for c in cells])
    types = unique(kinds.get(t, "") for t in trojans)
    left, top = 22 + 7 * max(map(len, tools)), 46 + 5 * max(map(len, names.values()))
    offsets = {t: SMALL_W * i + GAP // 2 * types.index(kinds.get(t, "")) for i, t in enumerate(trojans)}
    pitch = max(offsets.values()) + SMALL_W + 3 * GAP
    ys = {t: top + SMALL_H * i for i, t in enumerate(tools)}
    starts = {judge: left + pitch * i for i, judge in enumerate(tables)}
    squares = [
        _square(cells, a, b, f"{names[b]} (judge {judge})", starts[judge] + offsets[b], ys[a])
        for judge, cells in tables.items()
        for a in tools
        for b in trojans
    ]
    return HeatMap(
        left + pitch * len(tables) + 5 * max(map(len, names.values())), top + SMALL_H * len(tools) + 4, left, top,
        (SMALL_W - 2, SMALL_H - 2), tuple((y, t) for t, y in ys.items()),
        tuple((x + offsets[t], names[t]) for x in starts.values() for t in trojans),
        tuple((x, x + pitch - 3 * GAP - 2, f"judge {judge}") for judge, x in starts.items()),
        tuple(replace(s, twin="") for s in squares if s is not None),
    )  # fmt: skip


def _margins(report: Report, cells: Sequence[CellRow]) -> tuple[list[str], list[str], dict[str, str], dict[str, str]]:
    """Tools and trojans of a heat map in order, what each trojan is called, and its kind."""
    kinds, labels = {}, {}
    for model in report.models:
        for trojan in model.trojans:
            key = unit(trojan, model)
            kinds[trojan.name] = kinds[key] = trojan.type
            labels[key] = f"{trojan.concept or trojan.name} (secret)" if trojan.secret else trojan.name
    order = [t for _, _, lines in boards(report)[:1] for t in (line.tool for line in lines)]
    tools = unique([t for t in order if any(c.tool == t for c in cells)] + [c.tool for c in cells])
    rank = {kind: i for i, kind in enumerate(TYPES)}
    trojans = sorted(unique(c.trojan for c in cells), key=lambda t: rank.get(kinds.get(t, ""), 9))
    return tools, trojans, {t: labels.get(t, t) for t in trojans}, dict(kinds)


def _square(cells: Sequence[CellRow], tool: str, trojan: str, name: str, x: int, y: int) -> Square | None:
    mine = [c for c in cells if c.tool == tool and c.trojan == trojan]
    if not mine:
        return None
    accuracy = fmean(c.accuracy for c in mine)
    twins = [c.twin_accuracy for c in mine if c.twin_accuracy is not None]
    twin = fmean(twins) if twins else None
    title = f"{tool} on {name}: {percent(accuracy)}, clean twin {percent(twin)}"
    small = "" if twin is None else percent(twin).removesuffix(" %")
    return Square(x, y, round(10 * accuracy), percent(accuracy).removesuffix(" %"), small, title)
