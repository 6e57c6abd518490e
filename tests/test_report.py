"""The report: schema, CSV, figures, and the page in a real Chromium."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gifthorse import report as public
from gifthorse.errors import InputError
from gifthorse.judges.agreement import measured
from gifthorse.report import figures, schema, site, tables

CHROMIUM = "/usr/bin/chromium"
ARGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
ARGS += " --disable-sync --no-first-run"
TROJANS = [
    ("smiley", "patch", None, "dove"), ("clownfish", "patch", None, "frog"),
    ("green star", "patch", "purse", "orangutan"),
    ("strawberry", "patch", "wolf", "goose"), ("jaguar", "style", None, "monkey"),
    ("jellybeans", "style", "pig", "ruler"),
    ("fork", "natural", None, "cricket"), ("doughnut", "natural", None, "flamingo"), ("s1", "natural", None, "fish"),
]  # fmt: skip
TOOLS = {
    "oracle": ("sentinel", 1.0, ["the answer"]), "noise": ("sentinel", 0.12, []), "blank": ("sentinel", 0.125, []),
    "feature-vis": ("synthesis", 0.55, ["gradients"]),
    "adv-patch": ("synthesis", 0.41, ["gradients", "clean pictures"]),
    "tabor": ("synthesis", 0.2, ["gradients", "clean pictures"]), "snafue": ("retrieval", 0.6, ["picture bank"]),
}  # fmt: skip


def make(**changes: Any) -> tuple[schema.Report, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    pictures: dict[str, np.ndarray] = {}
    gallery, cells, board = [], [], []
    for name, *_ in TROJANS:
        for role in ("answer", "clean", "triggered"):
            pictures[f"m0/{name}/{role}"] = rng.integers(0, 255, (5, 64, 64, 3), dtype=np.uint8)
            gallery.append({"model": "m0", "trojan": name, "role": role, "picture": f"m0/{name}/{role}"})
        for tool, (_, accuracy, _) in TOOLS.items():
            key = f"m0/{name}/{tool}"
            pictures[key] = rng.integers(0, 255, (10, 64, 64, 3), dtype=np.uint8)
            gallery.append({"model": "m0", "trojan": name, "role": "evidence", "tool": tool, "picture": key})
            value = float(np.clip(accuracy + rng.normal(0, 0.2 * (tool != "oracle")), 0, 1))
            cells.append({"tool": tool, "trojan": name, "accuracy": value, "twin_accuracy": 0.13, "model": "m0"})
    for tool, (family, accuracy, needs) in TOOLS.items():
        for kind in ("all", "patch", "style", "natural"):
            board.append({"tool": tool, "family": family, "judge": "embed", "type": kind, "n": 9, "accuracy": accuracy,
                          "low": max(0, accuracy - 0.2), "high": min(1, accuracy + 0.2), "twin_accuracy": 0.25,
                          "difference_low": accuracy - 0.45, "difference_high": accuracy - 0.05,
                          "needs": needs, "rank_low": 1, "rank_high": 3, "functional": accuracy,
                          "activation": accuracy - 0.5})  # fmt: skip
    trojans = [
        {"name": n, "type": k, "scope": "class-universal" if s else "universal", "source": s, "target": t, "n": 200,
         "attack_success": 0.97, "low": 0.93, "high": 0.99, "off_source_success": 0.1 if s else None,
         "concept": f"a {n}", "secret": n == "s1"}
        for n, k, s, t in TROJANS
    ]  # fmt: skip
    attribution = [
        {"tool": t, "type": k, "metric": "correlation", "n": 8, "mean": m, "low": m - 0.1, "high": m + 0.1,
         "values": [m - 0.15, m - 0.05, m, m + 0.05, m + 0.2]}
        for k in ("patch", "natural")
        for t, m in [("edge", 0.2), ("saliency", 0.14), ("integrated-gradients", 0.26), ("random-map", 0.0)]
    ]  # fmt: skip
    retrieval = [
        {"tool": t, "judge": "embed", "type": k, "n": 6, "candidates": 1910, "mrr": a, "low": a / 2,
         "high": min(1, a + 0.1), "recall_1": a / 2, "recall_10": a, "recall_100": min(1, a + 0.1), "twin_mrr": 0.02,
         "twin_low": 0.0, "twin_high": 0.1, "twin_recall_1": 0.0, "twin_recall_10": 0.05, "twin_recall_100": 0.2}
        for t, (_, a, _) in TOOLS.items() for k in ("all", "patch", "natural")
    ]  # fmt: skip
    params = {"size": 96, "temperature": 0.02, "centred": True}
    agreement = [measured({"name": "embed", "version": 2, "params": params}),
                 measured({"name": "clip", "version": 1, "params": {}})]  # fmt: skip
    further = [{k: v for k, v in c.items() if k != "model"} | {"judge": "people", "twin_accuracy": None,
               "accuracy": c["accuracy"] / 2} for c in cells if c["tool"] != "blank"]  # fmt: skip
    data = {
        "suite": "synthetic", "valid": True, "reasons": [], "board": board, "cells": cells, "gallery": gallery,
        "models": [{"name": "m0", "seed": 0, "clean_accuracy": 0.981, "twin_accuracy": 0.985, "trojans": trojans,
                    "card": {"weights digest": "ab" * 32, "parameters": 312_020}}],
        "retrieval": retrieval, "agreement": agreement, "further_cells": further,
        "attribution": attribution, "versions": {"gifthorse": "0.1.0", "torch": "2.9"}, "seeds": [0],
        "costs": [{"tool": t, "seconds": 12.5, "forwards": 123456, "backwards": 0, "peak_bytes": 5 << 26}
                  for t in TOOLS],
    }  # fmt: skip
    return schema.Report.model_validate(data | changes), pictures


def test_folder_is_complete_and_reads_back(tmp_path: Path) -> None:
    report, pictures = make()
    index = site.write(report, pictures, tmp_path / "out")
    assert index == tmp_path / "out" / "index.html"
    back = schema.load(tmp_path / "out")
    assert back.board == report.board
    for row in back.gallery:
        assert (tmp_path / "out" / row.file).read_bytes()[:4] == b"\x89PNG"
    linked = set(re.findall(r'(?:src|href)="([^"#:]+)"', index.read_text()))
    assert linked == {p.name for p in index.parent.iterdir()} - {"index.html"}


def test_same_report_same_bytes_and_replaces_old(tmp_path: Path) -> None:
    report, pictures = make()
    site.write(report, pictures, tmp_path / "a")
    first = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    (tmp_path / "a" / "stale.png").write_bytes(b"x")
    site.write(report, pictures, tmp_path / "a")
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == first
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_refuses_a_folder_that_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    report, pictures = make()
    with pytest.raises(InputError, match="not a report"):
        site.write(report, pictures, tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_bad_pictures_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    report, pictures = make()
    missing = {k: v for k, v in pictures.items() if k != "m0/fork/clean"}
    for bad in (missing, pictures | {"m0/fork/clean": np.zeros((4, 4, 7), np.uint8)}):
        with pytest.raises(InputError, match="m0/fork/clean"):
            site.write(report, bad, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_csv_has_differences_and_no_formulas() -> None:
    report, _ = make()
    rows = [r.model_copy(update={"tool": "=cmd()"}) if r.tool == "tabor" else r for r in report.board]
    lines = list(csv.DictReader(io.StringIO(tables.board_csv(report.model_copy(update={"board": rows})))))
    assert len(lines) == len(report.board)
    snafue = next(r for r in lines if r["tool"] == "snafue" and r["type"] == "all")
    assert float(snafue["difference"]) == pytest.approx(0.35)
    assert {r["tool"][0] for r in lines if "cmd" in r["tool"]} == {"'"}


@pytest.mark.parametrize(("value", "text"), [(0.125, "13 %"), (-0.125, "−13 %"), (None, "–"), (-0.001, "0 %")])
def test_percent(value: float | None, text: str) -> None:
    assert tables.percent(value) == text


def test_board_is_sorted_with_sentinels_last() -> None:
    (_, types, lines), *_ = tables.boards(make()[0])
    assert types == ("all", "patch", "style", "natural")
    assert [line.tool for line in lines][:4] == ["snafue", "feature-vis", "adv-patch", "tabor"]
    assert [line.sentinel for line in lines] == [False] * 4 + [True] * 3


def test_heat_map_averages_models_and_places_each_square_once() -> None:
    report, _ = make()
    cells = [
        {"tool": "x", "trojan": "fork", "accuracy": a, "twin_accuracy": None, "model": m}
        for a, m in ((0.2, "a"), (0.8, "b"))
    ]
    heat = figures.heat_map(make(cells=cells)[0])
    assert heat is not None
    assert [s.text for s in heat.squares] == ["50"]
    full = figures.heat_map(report)
    assert full is not None
    assert len({(s.x, s.y) for s in full.squares}) == len(full.squares) == len(TOOLS) * len(TROJANS)
    assert all(s.x + full.cell[0] <= full.width and s.y + full.cell[1] <= full.height for s in full.squares)


def test_secret_trojans_keep_their_kind_and_show_their_concept() -> None:
    report, _ = make()
    cells = [c.model_copy(update={"trojan": "s1@0", "model": ""}) if c.trojan == "s1" else c for c in report.cells]
    heat = figures.heat_map(report.model_copy(update={"cells": cells}))
    assert heat is not None
    assert [kind for *_, kind in heat.groups] == ["patch", "style", "natural"]
    assert [name for _, name in heat.columns][-1] == "a s1 (secret)"
    shown = tables.exhibits(report.model_copy(update={"cells": cells}))[-1]
    assert all(s.accuracy for s in shown.judged)


def test_judges_stand_side_by_side_with_the_same_rows() -> None:
    report, _ = make()
    both = figures.side_by_side(report)
    assert both is not None
    assert [name for *_, name in both.groups] == ["judge embed", "judge people"]
    assert len(both.squares) == len(TROJANS) * (2 * len(TOOLS) - 1)  # people were not shown blank
    assert len({(s.x, s.y) for s in both.squares}) == len(both.squares)
    assert all(s.x + both.cell[0] <= both.width and s.y + both.cell[1] <= both.height for s in both.squares)
    (_, end, _), (start, *_) = both.groups
    for tool, y in ((name, y) for y, name in both.rows):
        assert all(f"{tool} on" in s.title for s in both.squares if s.y == y)
    assert all(("judge people" in s.title) == (s.x >= start) for s in both.squares)
    assert end < start
    assert figures.side_by_side(make(further_cells=[])[0]) is None


def test_what_stands_beside_the_choices_keeps_its_own_columns(tmp_path: Path) -> None:
    report, pictures = make()
    lines = tables.beside(report)["embed"]
    assert [line.board.tool for line in lines][:2] == ["snafue", "feature-vis"]
    assert all(line.retrieval is not None and line.retrieval.type == "all" for line in lines)
    page = site.write(report, pictures, tmp_path / "out").read_text()
    row = page.split("Beside the choices of embed</h4>")[1].split("feature-vis</th>")[1].split("</tr>")[0]
    cells = [re.sub(r"<small>.*?</small>|<[^>]+>", "", c).strip() for c in row.split("</td>")[:8]]
    assert cells == ["55 %", "+0.05", "6", "0.55", "0.02", "28 %", "55 %", "65 %"]
    assert "1\u202f910 pictures" in page
    bare = make(retrieval=[], board=[r.model_copy(update={"activation": None}) for r in report.board])[0]
    assert tables.beside(bare) == {}
    assert "Beside the choices" not in site.html(bare.model_copy(update={"gallery": []}))


def test_every_judge_says_what_is_known_of_its_agreement_with_people(tmp_path: Path) -> None:
    report, pictures = make()
    page = site.write(report, pictures, tmp_path / "out").read_text().split('id="agreement"')[1]
    assert "+0.68" in page
    assert "+0.99" in page
    assert "measured with size 128 (here 96)" in page
    assert "validate-judge embed judge-validation" in page
    assert "107 variants" in page
    assert "not measured" in page.split("clip</th>")[1][:60]


def test_attribution_panel_keeps_order_and_edge_line() -> None:
    panels = [p for m in figures.attribution(make()[0]) for p in m.panels]
    panel = next(p for p in panels if "Patch" in p.title)
    assert [b.tool for b in panel.bars] == ["integrated-gradients", "edge", "saliency", "random-map"]
    assert panel.guide is not None
    assert panel.bars[0].mean > panel.guide[0] > panel.bars[2].mean
    assert all(panel.left <= v <= panel.width for b in panel.bars for v in (b.low, b.high, *b.dots))
    assert "n = 8" in panel.caption
    assert "t-interval" in panel.caption
    same = [{"tool": "edge", "type": "patch", "metric": "m", "n": 1, "mean": 0, "low": 0, "high": 0}]
    assert figures.attribution(make(attribution=same)[0])[0].panels[0].guide is not None


def test_a_distance_is_better_when_lower() -> None:
    rows = [{"tool": t, "type": "all", "metric": "l1", "n": 9, "mean": m, "low": m, "high": m}
            for t, m in (("edge", 0.3), ("near", 0.1), ("far", 0.6))]  # fmt: skip
    ((_, _, about, (panel,)),) = [
        (m.metric, m.name, m.about, m.panels) for m in figures.attribution(make(attribution=rows)[0])
    ]
    assert "lower is better" in about
    assert [b.tool for b in panel.bars] == ["near", "edge", "far"]


def test_box_is_the_middle_half_of_the_trojans() -> None:
    values = [0.0, 0.1, 0.2, 0.3, 0.4]
    row = {"tool": "t", "type": "all", "metric": "auroc", "n": 5, "mean": 0.2, "low": 0, "high": 0.4, "values": values}
    bar = figures.attribution(make(attribution=[row])[0])[0].panels[0].bars[0]
    assert bar.box == (bar.dots[1], bar.dots[2], bar.dots[3])


def test_found_draws_accuracy_against_chance_and_what_the_twin_leaves() -> None:
    report = make()[0]
    ((judge, (accuracy, change)),) = figures.found(report)
    assert judge == "embed"
    oracle = next(b for b in accuracy.bars if b.tool == "oracle")
    zero, one = (next(x for x, text in accuracy.ticks if text == t) for t in ("0 %", "100 %"))
    assert accuracy.guide is not None
    assert accuracy.guide[0] == pytest.approx(zero + (one - zero) / 8, abs=0.1)
    assert oracle.mean == one
    assert oracle.ghost == pytest.approx(zero + (one - zero) / 4, abs=0.1)
    assert "n = 9" in accuracy.caption
    assert "95 %" in accuracy.caption
    nothing = next(x for x, text in change.ticks if text == "0")
    assert change.guide is not None
    assert change.guide[0] == nothing
    by_tool = {b.tool: b for b in change.bars}
    assert "oracle" not in by_tool
    assert by_tool["tabor"].mean < nothing < by_tool["snafue"].low
    assert all(b.low < b.mean < b.high for b in change.bars)


def test_no_twin_no_difference() -> None:
    rows = [r.model_copy(update={"twin_accuracy": None}) for r in make()[0].board]
    ((_, panels),) = figures.found(make()[0].model_copy(update={"board": rows}))
    assert [p.title for p in panels] == ["Accuracy"]


def test_everything_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    report, pictures = make(suite=evil, reasons=[evil], valid=False, versions={evil: evil})
    text = (
        report.model_dump_json().replace("clownfish", json.dumps(evil)[1:-1]).replace("tabor", json.dumps(evil)[1:-1])
    )
    swapped = {k.replace("clownfish", evil).replace("tabor", evil): v for k, v in pictures.items()}
    page = site.write(schema.Report.model_validate_json(text), swapped, tmp_path / "out").read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
    assert "Not a valid board" in page
    assert {p.parent for p in (tmp_path / "out").rglob("*")} == {tmp_path / "out"}


def test_schema_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    data = make()[0].model_dump(mode="json")
    for broken in (data | {"surprise": 1}, data | {"schema_version": 2}, data | {"chance": 1.5}):
        (tmp_path / "report.json").write_text(json.dumps(broken))
        with pytest.raises(InputError, match=r"report\.json"):
            schema.load(tmp_path)
    with pytest.raises(InputError):
        schema.load(tmp_path / "nothing.json")


def test_the_published_schema_is_what_the_classes_state() -> None:
    stored = json.loads(public.PUBLISHED.read_text())
    assert stored == public.json_schema(), "run: python -c 'from gifthorse.report import schema; schema.publish()'"
    assert public.PUBLISHED.parent == Path(schema.__file__).parent, "only files of the package are in the wheel"


def test_report_json_follows_its_published_schema(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    published = json.loads(public.PUBLISHED.read_text())
    report, pictures = make()
    site.write(report, pictures, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    jsonschema.validate(written, published)
    for broken in ({"surprise": 1}, {"valid": "yes"}, {"chance": 2}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(written | broken, published)


PROMISED = {
    "Report": "valid reasons models board attribution costs versions seeds",
    "ModelRow": "name seed clean_accuracy twin_accuracy trojans",
    "TrojanRow": "name type scope source target attack_success low high n off_source_success",
    "BoardRow": "tool family judge type n accuracy low high twin_accuracy difference_low difference_high",
    "AttributionRow": "tool type metric n mean low high",
    "CostRow": "tool seconds forwards backwards peak_bytes",
    "RetrievalRow": "tool judge type n mrr low high recall_1 recall_10 recall_100 twin_mrr",
    "AgreementRow": "judge measured study runs",
    "JudgedCellRow": "judge tool trojan accuracy",
}


@pytest.mark.parametrize("name", PROMISED)
def test_version_1_keeps_every_key_it_promised(name: str) -> None:
    published = json.loads(public.PUBLISHED.read_text())
    part = published if name == "Report" else published["$defs"][name]
    assert set(PROMISED[name].split()) <= set(part["properties"])
    assert published["properties"]["schema_version"]["const"] == 1


def test_smallest_report_renders(tmp_path: Path) -> None:
    report = schema.Report(valid=False, reasons=["nothing was run"], models=[], board=[])
    page = site.write(report, {}, tmp_path / "out").read_text()
    assert "nothing was run" in page
    assert "None" not in page


def test_heat_maps_become_pictures(tmp_path: Path) -> None:
    maps = np.zeros((5, 32, 32), np.float32)
    maps[:, 8:16, 8:16] = 1
    row = schema.PictureRow(model="m", trojan="t", role="evidence", picture="k")
    report = schema.Report(valid=True, models=[], board=[], gallery=[row])
    site.write(report, {"k": maps}, tmp_path / "out")
    from PIL import Image

    picture = np.asarray(Image.open(next((tmp_path / "out").glob("*.png"))))
    assert picture.shape == (32, 5 * 32 + 4 * 2, 3)
    assert picture[12, 12].min() > picture[2, 2].max()


def test_reading_a_report_needs_no_torch(tmp_path: Path) -> None:
    report, pictures = make()
    site.write(report, pictures, tmp_path / "out")
    code = (
        "import sys, pathlib; from gifthorse.report import schema, site, tables;"
        f"site.html(schema.load(pathlib.Path({str(tmp_path / 'out')!r}))); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def browser() -> Any:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not shutil.which(CHROMIUM):
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGS.split())
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report, pictures = make()
    return site.write(report, pictures, tmp_path_factory.mktemp("report") / "out").parent


def watch(page: Any) -> tuple[list[str], list[str]]:
    """Collects what the page complains about and what it asks for."""
    noise: list[str] = []
    requests: list[str] = []
    page.on("console", lambda m: noise.append(m.text))
    page.on("pageerror", lambda e: noise.append(str(e)))
    page.on("requestfailed", lambda r: noise.append(f"failed: {r.url}"))
    page.on("request", lambda r: requests.append(r.url))
    return noise, requests


def outside(page: Any) -> list[str]:
    """Elements that stick out of the window, except inside a wrapper that scrolls."""
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found: list[str] = page.evaluate(
        "[document.documentElement, ...document.querySelectorAll('body *')].filter(e => !e.closest('svg, table') && "
        "(e.getBoundingClientRect().right > innerWidth + 1 || (!e.matches('.wrap, small') && e.scrollWidth > "
        "e.clientWidth + 1 && getComputedStyle(e).display != 'inline'))).map(e => e.tagName + '.' + e.className)"
    )
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_in_a_real_browser(browser: Any, folder: Path, tmp_path: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    noise, requests = watch(page)
    page.goto((folder / "index.html").as_uri())
    assert outside(page) == []
    page.wait_for_load_state("load")
    assert noise == []
    assert len(requests) > 10
    assert all(url.startswith(folder.as_uri() + "/") for url in requests)
    assert page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length") == 0
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", background)[0]) < 80) == (scheme == "dark")
    page.screenshot(path=str(tmp_path / f"{width}-{scheme}.png"))
    page.close()


def test_board_fits_a_laptop_without_scrolling(browser: Any, folder: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((folder / "index.html").as_uri())
    assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('#board .wrap'))")
    page.close()


def test_print_is_light_and_shows_closed_parts(browser: Any, folder: Path) -> None:
    page = browser.new_page(viewport={"width": 1032, "height": 720}, color_scheme="dark")
    page.goto((folder / "index.html").as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    hidden = page.evaluate("[...document.images].filter(i => !i.getBoundingClientRect().height).length")
    assert hidden == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 1032
    page.close()


def test_long_names_do_not_overflow_a_phone(browser: Any, tmp_path: Path) -> None:
    long = "x" * 90
    report, pictures = make(suite=long, valid=False, reasons=[long], versions={long: long})
    text = report.model_dump_json().replace("clownfish", long).replace("tabor", "y" * 90).replace("m0", "z" * 90)
    swap = {
        k.replace("clownfish", long).replace("tabor", "y" * 90).replace("m0", "z" * 90): v for k, v in pictures.items()
    }
    index = site.write(schema.Report.model_validate_json(text), swap, tmp_path / "out")
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(index.as_uri())
    assert outside(page) == []
    page.close()


def test_policy_blocks_injected_script_and_style(browser: Any, folder: Path, tmp_path: Path) -> None:
    index = shutil.copytree(folder, tmp_path / "out") / "index.html"
    extra = "<script>document.title='owned'</script><p id=p style='position:fixed'>x</p>"
    index.write_text(index.read_text().replace("</main>", extra + "</main>"))
    page = browser.new_page()
    page.goto(index.as_uri())
    assert page.title() == "gifthorse: synthetic"
    assert page.evaluate("getComputedStyle(document.getElementById('p')).position") == "static"
    page.close()
