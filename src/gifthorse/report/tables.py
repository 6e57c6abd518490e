"""From a `Report` to the rows of its tables, the lines of its CSV and the pictures of each trojan."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from .. import types
from .schema import BoardRow, CellRow, ModelRow, PictureRow, Report, RetrievalRow, TrojanRow

TYPES = ("all", "patch", "style", "natural")
SENTINEL = "sentinel"
BOARD_COLUMNS = (
    "tool family judge type n accuracy low high twin_accuracy difference difference_low difference_high "
    "functional rank_low rank_high needs activation"
)


def difference(accuracy: float, twin: float | None) -> float | None:
    """Accuracy on the trojaned model less that on the clean twin, or None without a twin."""
    return None if twin is None else accuracy - twin


def unit(trojan: TrojanRow, model: ModelRow) -> str:
    """The name of a trojan in ``report.cells``."""
    return types.unit(trojan.name, trojan.secret, model.seed)


def percent(value: float | None, sign: bool = False) -> str:
    """A fraction as whole percent, halves away from zero, with a true minus sign; a dash for None."""
    if value is None:
        return "–"
    whole = math.floor(abs(100 * value) + 0.5) * (-1 if value < 0 else 1)
    return ("−" if whole < 0 else "+" if sign and whole > 0 else "") + f"{abs(whole)} %"


def signed(value: float | None) -> str:
    """A figure in [-1, 1] with two places and a true sign; a dash for None."""
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


def fixed(value: float | None, places: int = 2, sign: bool = False) -> str:
    """A figure with a true minus sign and no negative zero; a dash for None."""
    if value is None:
        return "–"
    rounded = round(value, places) + 0.0
    return f"{rounded:{'+' if sign and rounded else ''}.{places}f}".replace("-", "−")


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
    for judge in unique(r.judge for r in report.board):
        mine = [r for r in report.board if r.judge == judge]
        types = tuple(t for t in TYPES if any(r.type == t for r in mine))
        lines = []
        for tool in unique(r.tool for r in mine):
            by_type = {r.type: r for r in mine if r.tool == tool}
            first = by_type.get("all") or next(iter(by_type.values()))
            rank = "" if first.rank_low is None or first.rank_high is None else f"{first.rank_low}–{first.rank_high}"
            rows = tuple(by_type.get(t) for t in types)  # type: ignore[call-overload]
            lines.append(BoardLine(tool, first.family, ", ".join(first.needs) or "nothing", rank, rows))
        lines.sort(key=lambda line: (line.sentinel, -max((r.accuracy for r in line.rows[:1] if r), default=-1.0)))
        out.append((judge, types, lines))
    return out


@dataclass(frozen=True)
class Beside:
    """What was measured of a tool beside a judge's choices, over all trojans."""

    board: BoardRow
    retrieval: RetrievalRow | None

    @property
    def sentinel(self) -> bool:
        """Whether it is a check of the benchmark rather than a tool on trial."""
        return self.board.family == SENTINEL


def beside(report: Report) -> dict[str, list[Beside]]:
    """For each judge one line per tool in the order of its board; none for a judge beside whom nothing was measured."""
    out = {}
    for judge, _, lines in boards(report):
        places = {r.tool: r for r in report.retrieval if (r.judge, r.type) == (judge, "all")}
        rows = [r for line in lines for r in line.rows[:1] if r is not None and r.type == "all"]
        if places or any(r.activation is not None for r in rows):
            out[judge] = [Beside(r, places.get(r.tool)) for r in rows]
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


def unique(values: Iterable[str]) -> list[str]:
    """Each value once, in the order of first sight."""
    return list(dict.fromkeys(values))


@dataclass(frozen=True)
class Shown:
    """A tool's evidence for one trojan; ``accuracy`` and ``twin`` in words, empty for maps."""

    picture: PictureRow
    accuracy: str = ""
    twin: str = ""
    step: int = 0


@dataclass(frozen=True)
class Exhibit:
    """One trojan of one model with its answer, its gallery pictures and each tool's evidence."""

    model: str
    trojan: TrojanRow
    answers: tuple[PictureRow, ...]
    gallery: tuple[PictureRow, ...]
    judged: tuple[Shown, ...]
    maps: tuple[Shown, ...]


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
            names = {trojan.name, unit(trojan, model)}
            judged = tuple(_shown(report.cells, p, names) for p in shown if p.tool in order and not p.map)
            maps = tuple(Shown(p) for p in shown if p.tool not in order or p.map)
            answers = tuple(p for p in mine if p.role == "answer")
            gallery = tuple(p for p in mine if p.role in ("clean", "triggered"))
            out.append(Exhibit(model.name, trojan, answers, gallery, judged, maps))
    return out


def _shown(cells: Sequence[CellRow], picture: PictureRow, names: set[str]) -> Shown:
    """A picture with the figures of the cell that it belongs to."""
    for c in cells:
        if c.tool == picture.tool and c.trojan in names and c.model in ("", picture.model):
            return Shown(picture, percent(c.accuracy), percent(c.twin_accuracy), round(10 * c.accuracy))
    return Shown(picture)


def facts(report: Report) -> list[tuple[str, str]]:
    """The run in a handful of figures, for the head of the page."""
    trojans = [t for m in report.models for t in m.trojans]
    tools = unique([r.tool for r in report.board] + [r.tool for r in report.attribution])
    counts = (("network", len(report.models)), ("trojan", len(trojans)), ("tool", len(tools)))
    out = [(word if count == 1 else f"{word}s", str(count)) for word, count in counts]
    if trojans:
        out.append(("mean attack success", percent(fmean(t.attack_success for t in trojans))))
        out.append(("lowest attack success", percent(min(t.attack_success for t in trojans))))
    if report.models:
        out.append(("clean accuracy", f"{100 * fmean(m.clean_accuracy for m in report.models):.1f} %"))
    return [*out, ("chance", f"{100 * report.chance:.3g} %")]
