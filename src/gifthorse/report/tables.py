"""From a `Report` to what is drawn: rows, lines of CSV, and the geometry of the two figures."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, quantiles

from .schema import AttributionRow, BoardRow, CellRow, PictureRow, Report, TrojanRow

TYPES = ("all", "patch", "style", "natural")
EDGE = "edge"
SENTINEL = "sentinel"
BOARD_COLUMNS = (
    "tool family judge type n accuracy low high twin_accuracy difference functional rank_low rank_high needs"
)


def difference(accuracy: float, twin: float | None) -> float | None:
    """Accuracy on the trojaned model less that on the clean twin, or None without a twin."""
    return None if twin is None else accuracy - twin


def percent(value: float | None, sign: bool = False) -> str:
    """A fraction as whole percent, halves away from zero, with a true minus sign; a dash for None."""
    if value is None:
        return "–"
    whole = math.floor(abs(100 * value) + 0.5) * (-1 if value < 0 else 1)
    return ("−" if whole < 0 else "+" if sign and whole > 0 else "") + f"{abs(whole)} %"


def number(value: float) -> str:
    """A count with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def size(count: int) -> str:
    """Bytes in binary units, or a dash when nothing was measured."""
    if count == 0:
        return "–"
    power = min(int(math.log2(count) // 10), 4)
    return f"{count / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


@dataclass(frozen=True)
class BoardLine:
    """One tool of a board: its row for each type, in the order of the columns (None: not run)."""

    tool: str
    family: str
    needs: str
    rank: str
    rows: tuple[BoardRow | None, ...]

    @property
    def sentinel(self) -> bool:
        """Whether it is a check of the benchmark rather than a tool on trial."""
        return self.family == SENTINEL


def boards(report: Report) -> list[tuple[str, tuple[str, ...], list[BoardLine]]]:
    """For each judge: its name, the types that occur, and one line per tool, sentinels last, best first."""
    out = []
    for judge in _unique(r.judge for r in report.board):
        mine = [r for r in report.board if r.judge == judge]
        types = tuple(t for t in TYPES if any(r.type == t for r in mine))
        lines = []
        for tool in _unique(r.tool for r in mine):
            by_type = {r.type: r for r in mine if r.tool == tool}
            first = by_type.get("all") or next(iter(by_type.values()))
            rank = "" if first.rank_low is None or first.rank_high is None else f"{first.rank_low}–{first.rank_high}"
            rows = tuple(by_type.get(t) for t in types)  # type: ignore[call-overload]
            lines.append(BoardLine(tool, first.family, ", ".join(first.needs) or "nothing", rank, rows))
        lines.sort(key=lambda line: (line.sentinel, -max((r.accuracy for r in line.rows[:1] if r), default=-1.0)))
        out.append((judge, types, lines))
    return out


def board_csv(report: Report) -> str:
    """The board as CSV, one line per row of ``report.board``."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(BOARD_COLUMNS.split())
    for row in report.board:
        values = row.model_dump() | {
            "difference": difference(row.accuracy, row.twin_accuracy),
            "needs": "; ".join(row.needs),
        }
        writer.writerow([_cell(values[c]) for c in BOARD_COLUMNS.split()])
    return out.getvalue()


def _cell(value: object) -> object:
    """A CSV value; text that a spreadsheet would run as a formula is quoted."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


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
    """Geometry of tools x trojans in pixels."""

    width: int
    height: int
    left: int
    top: int
    rows: tuple[tuple[int, str], ...]
    columns: tuple[tuple[int, str], ...]
    groups: tuple[tuple[int, int, str], ...]
    squares: tuple[Square, ...]


CELL_W, CELL_H = 46, 36


def heat_map(report: Report) -> HeatMap | None:
    """The paper's heat map, averaged over models; None when there are no cells."""
    if not report.cells:
        return None
    kinds = {t.name: t.type for m in report.models for t in m.trojans}
    order = [t for _, _, lines in boards(report)[:1] for t in (line.tool for line in lines)]
    tools = _unique([t for t in order if any(c.tool == t for c in report.cells)] + [c.tool for c in report.cells])
    rank = {kind: i for i, kind in enumerate(TYPES)}
    trojans = sorted(_unique(c.trojan for c in report.cells), key=lambda t: rank.get(kinds.get(t, ""), 9))
    left = 20 + 7 * max(map(len, tools))
    top = 44 + 5 * max(map(len, trojans))
    gaps = {t: 10 * _unique(kinds.get(u, "") for u in trojans).index(kinds.get(t, "")) for t in trojans}
    xs = {t: left + CELL_W * i + gaps[t] for i, t in enumerate(trojans)}
    ys = {t: top + CELL_H * i for i, t in enumerate(tools)}
    groups = []
    for kind in _unique(kinds.get(t, "") for t in trojans):
        places = [xs[t] for t in trojans if kinds.get(t, "") == kind]
        groups.append((min(places), max(places) + CELL_W - 2, kind))
    squares = [_square(report.cells, tool, trojan, xs[trojan], ys[tool]) for tool in tools for trojan in trojans]
    width = max(xs.values()) + CELL_W + 6 * max(map(len, trojans))
    return HeatMap(
        width, top + CELL_H * len(tools) + 4, left, top,
        tuple((y, t) for t, y in ys.items()), tuple((x, t) for t, x in xs.items()),
        tuple(groups), tuple(s for s in squares if s is not None),
    )  # fmt: skip


def _square(cells: Sequence[CellRow], tool: str, trojan: str, x: int, y: int) -> Square | None:
    mine = [c for c in cells if c.tool == tool and c.trojan == trojan]
    if not mine:
        return None
    accuracy = fmean(c.accuracy for c in mine)
    twins = [c.twin_accuracy for c in mine if c.twin_accuracy is not None]
    twin = fmean(twins) if twins else None
    title = f"{tool} on {trojan}: {percent(accuracy)}, clean twin {percent(twin)}"
    small = "" if twin is None else percent(twin).removesuffix(" %")
    return Square(x, y, round(10 * accuracy), percent(accuracy).removesuffix(" %"), small, title)


@dataclass(frozen=True)
class Bar:
    """A tool's line in the attribution figure; all x in pixels."""

    tool: str
    y: int
    mean: float
    low: float
    high: float
    box: tuple[float, float, float] | None
    dots: tuple[float, ...]
    title: str


@dataclass(frozen=True)
class Panel:
    """One figure: a metric on one type of trojan, with the edge detector's mean as a line."""

    title: str
    width: int
    height: int
    left: int
    ticks: tuple[tuple[float, str], ...]
    edge: tuple[float, float, float] | None
    bars: tuple[Bar, ...] = field(default=())


def panels(report: Report, width: int = 620) -> list[Panel]:
    """One interval plot for each metric and type, tools best first."""
    keys = dict.fromkeys((r.metric, r.type) for r in report.attribution)
    ordered = sorted(keys, key=lambda k: (k[0], TYPES.index(k[1])))
    return [
        _panel([r for r in report.attribution if (r.metric, r.type) == key], f"{key[0]}, {key[1]} trojans", width)
        for key in ordered
    ]


def _panel(rows: Sequence[AttributionRow], title: str, width: int) -> Panel:
    values = [v for r in rows for v in (r.low, r.high, r.mean, *r.values)]
    start, stop = min(0.0, *values), max(0.0, *values)
    step = _step(stop - start)
    start, stop = math.floor(start / step - 1e-9) * step, math.ceil(stop / step + 1e-9) * step
    left = 24 + 7 * max(len(r.tool) for r in rows)

    def x(value: float) -> float:
        return round(left + (width - left - 24) * (value - start) / (stop - start), 1)

    ticks = tuple((x(v), f"{v:.3g}".replace("-", "−")) for v in _ticks(start, stop, step))
    edge = next(((x(r.mean), x(r.low), x(r.high)) for r in rows if r.tool == EDGE), None)
    bars = []
    for i, r in enumerate(sorted(rows, key=lambda r: -r.mean)):
        box = quantiles(r.values, n=4, method="inclusive") if len(r.values) > 3 else None
        text = f"{r.tool}: {r.mean:.3f} ({r.low:.3f} to {r.high:.3f}), n = {r.n}".replace("-0", "−0")
        place = (x(box[0]), x(box[1]), x(box[2])) if box else None
        dots = tuple(x(v) for v in r.values)
        bars.append(Bar(r.tool, 26 + 30 * i, x(r.mean), x(r.low), x(r.high), place, dots, text))
    return Panel(title, width, 34 + 30 * len(rows), left, ticks, edge, tuple(bars))


def _step(span: float) -> float:
    """A round distance that divides the span into about five."""
    raw = max(span, 1e-6) / 5
    base = float(10 ** math.floor(math.log10(raw)))
    return next(base * m for m in (1, 2, 5, 10) if base * m >= raw * (1 - 1e-9))


def _ticks(start: float, stop: float, step: float) -> list[float]:
    count = round((stop - start) / step)
    return [round(start + i * step, 12) + 0.0 for i in range(count + 1)]


@dataclass(frozen=True)
class Exhibit:
    """One trojan of one model with its answer, its gallery pictures and each tool's evidence."""

    model: str
    trojan: TrojanRow
    answers: tuple[PictureRow, ...]
    gallery: tuple[PictureRow, ...]
    evidence: tuple[tuple[PictureRow, str, str], ...]


def exhibits(report: Report) -> list[Exhibit]:
    """For each trojan the pictures that belong to it; trojans without a picture are left out."""
    order = {line.tool: i for _, _, lines in boards(report)[:1] for i, line in enumerate(lines)}
    out = []
    for model in report.models:
        for trojan in model.trojans:
            mine = [p for p in report.gallery if (p.model, p.trojan) == (model.name, trojan.name)]
            if not mine:
                continue
            shown = sorted((p for p in mine if p.role == "evidence"), key=lambda p: order.get(p.tool, len(order)))
            evidence = tuple((p, *_found(report.cells, p)) for p in shown)
            answers = tuple(p for p in mine if p.role == "answer")
            gallery = tuple(p for p in mine if p.role in ("clean", "triggered"))
            out.append(Exhibit(model.name, trojan, answers, gallery, evidence))
    return out


def _found(cells: Sequence[CellRow], picture: PictureRow) -> tuple[str, str]:
    """The accuracy and twin accuracy in words of the cell a picture belongs to, or empty texts."""
    for c in cells:
        if (c.tool, c.trojan) == (picture.tool, picture.trojan) and c.model in ("", picture.model):
            return percent(c.accuracy), percent(c.twin_accuracy)
    return "", ""
