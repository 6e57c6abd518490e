"""The report's page on attribution: box plots, the table of all metrics, and other readings."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import test_report
from gifthorse.judges import masks
from gifthorse.report import maps as figures
from gifthorse.report import schema, site, tables
from test_mask_scores import squares

browser = test_report.browser  # the fixture


def signed_rows() -> dict[str, Any]:
    """The parts of a report on two networks, of which one tool's maps are signed."""
    from gifthorse.bench import attribution as a

    scored, blank = [], []
    names = {"good": 2.0, "poor": 0.1, "edge": 0.6, "random-map": 0.0, "a-very-long-name-of-a-method": 0.3}
    for model, (trojan, kind) in itertools.product(("seed-0", "seed-1"), (("smiley", "patch"), ("fork", "natural"))):
        mask = squares(8, seed=len(trojan))
        for i, (tool, pull) in enumerate(names.items()):
            maps = np.random.default_rng(i).normal(size=mask.shape) + pull * mask
            maps = maps if tool == "good" else np.abs(maps)
            scored.append(a._Scored(tool, model, trojan, kind, masks.readings(maps, mask), masks.usable(mask)))
        nothing = masks.readings(np.zeros(mask.shape), mask)
        blank.append(a._Scored("", model, trojan, kind, nothing, masks.usable(mask)))
    family = {t: "sentinel" if t in ("edge", "random-map") else "attribution" for t in names}
    return {
        "attribution": [{**r, "family": family[t]} for t in names for r in a._rows(t, scored, blank, "edge")],
        "attribution_readings": [r for t in names for r in a._readings(t, scored, "edge")],
        "map_scores": [r for s in scored for r in a._per_map(s)],
        "map_floors": list(a._floors(blank)),
    }


@pytest.fixture(scope="module")
def shown() -> tuple[schema.Report, dict[str, np.ndarray]]:
    return test_report.make(**signed_rows())


def test_readings_are_kept_for_signed_tools_only_and_marked(shown: Any) -> None:
    report, _ = shown
    assert {r.tool for r in report.attribution_readings} == {"good"}
    for r in report.attribution_readings:
        assert r.chosen == (masks.CHOSEN[r.metric] == r.reading)
        if r.chosen:
            (same,) = [a for a in report.attribution if (a.tool, a.type, a.metric) == (r.tool, r.type, r.metric)]
            assert (r.mean, r.margin) == (same.mean, same.margin)
    lines = figures.reading_lines(report)
    assert [len(line.rows) for line in lines] == [3] * 7


def test_box_plots_stand_side_by_side_in_one_order_on_one_scale(shown: Any) -> None:
    report, _ = shown
    plots = {m.metric: m.plots for m in figures.box_plots(report)}
    assert next(iter(plots)) == "pearson"
    assert list(plots)[-1] == "l1"
    left, right = plots["pearson"]
    order = [b.tool for b in left.boxes]
    assert order == ["good", "a-very-long-name-of-a-method", "poor", "edge", "random-map"]
    assert order == [b.tool for b in right.boxes]
    assert left.ticks == right.ticks
    assert [b.sentinel for b in left.boxes] == [False] * 3 + [True] * 2
    values = [v for r in report.map_scores if (r.tool, r.model) == ("edge", "seed-0") for v in r.values["pearson"]]
    (zero,) = [y for y, text in left.ticks if text == "0"]
    (half,) = [y for y, text in left.ticks if text == "0.2"]
    (edge,) = [y for kind, y, *_ in left.lines if kind == "edge"]
    assert edge == pytest.approx(zero + (half - zero) * np.median(values) / 0.2, abs=0.1)
    assert edge == next(b.median for b in left.boxes if b.tool == "edge")
    assert next(y for kind, y, *_ in left.lines if kind == "floor") == zero, "a blank map correlates with nothing"
    for b in left.boxes:
        assert b.low >= b.lower >= b.median >= b.upper >= b.high, "pixels count from the top"
        assert left.left < b.x < left.right
    assert "16 triggered pictures of 2 trojans" in left.caption
    assert abs(left.lines[0][3] - left.lines[1][3]) >= figures.APART - 0.2


def test_another_report_is_drawn_beside(shown: Any, tmp_path: Path) -> None:
    report, pictures = shown
    one = report.model_copy(update={"map_scores": [r for r in report.map_scores if r.model == "seed-0"]})
    other = one.model_copy(update={"suite": "photos"})
    assert [len(m.plots) for m in figures.box_plots(one)] == [1] * 7
    assert [p.title for p in figures.box_plots(one, other)[0].plots] == ["synthetic · seed-0", "photos · seed-0"]
    page = site.write(one, pictures, tmp_path / "out", other).read_text()
    assert "photos · seed-0" in page
    assert schema.load(tmp_path / "out").map_scores == one.map_scores


def test_the_table_names_readings_margins_and_the_legacy(shown: Any, tmp_path: Path) -> None:
    report, pictures = shown
    table = figures.map_tables(report)[0]
    assert table.type == "all"
    assert [h[0] for h in table.heads] == [figures.name_of(m)[0] for m in figures.in_order(list(masks.METRICS))]
    assert [line.tool for line in table.lines][-2:] == ["edge", "random-map"]
    assert table.lines[0].n == "n = 2, 32 pictures"
    page = site.write(report, pictures, tmp_path / "out").read_text().split('class="maps"')[1].split("</table>")[0]
    assert "L1 distance (legacy)" in page
    assert page.count("signed map") == 5
    assert page.count("positive map") == 2
    row = page.split("good<span>")[1].split("</tr>")[0]
    good = next(r for r in report.attribution if (r.tool, r.type, r.metric) == ("good", "all", "pearson"))
    assert f"<b>{tables.fixed(good.mean)}</b>" in row
    assert f"<b>{tables.fixed(good.margin, sign=True)}</b>" in row
    assert tables.fixed(-0.001) == "0.00"
    assert tables.fixed(-0.25, sign=True) == "−0.25"
    assert tables.fixed(None) == "–"


def test_a_report_from_before_renders_without_boxes() -> None:
    page = site.html(test_report.make(gallery=[])[0])
    assert "Every map" not in page
    assert "correlation" in page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_attribution_fits_the_page(browser: Any, shown: Any, tmp_path: Path, width: int, scheme: str) -> None:
    report, pictures = shown
    index = site.write(report, pictures, tmp_path / "out")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    noise, _ = test_report.watch(page)
    page.goto(index.as_uri())
    assert test_report.outside(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert noise == []
    cut = page.evaluate(
        "[...document.querySelectorAll('.boxplot svg text')].filter(t => { const a = t.getBoundingClientRect(), "
        "b = t.ownerSVGElement.getBoundingClientRect(); return a.left < b.left - 1 || a.right > b.right + 1 || "
        "a.bottom > b.bottom + 1 || a.top < b.top - 1 }).map(t => t.textContent)"
    )
    assert cut == [], "names that stick out of their figure"
    if width == 1280:
        assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('.maps').parentElement)")
    page.close()
