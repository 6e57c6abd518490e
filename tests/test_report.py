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

from gifthorse.errors import InputError
from gifthorse.report import schema, site, tables

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
                          "needs": needs, "rank_low": 1, "rank_high": 3})  # fmt: skip
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
    data = {
        "suite": "synthetic", "valid": True, "reasons": [], "board": board, "cells": cells, "gallery": gallery,
        "models": [{"name": "m0", "seed": 0, "clean_accuracy": 0.981, "twin_accuracy": 0.985, "trojans": trojans,
                    "card": {"weights digest": "ab" * 32, "parameters": 312_020}}],
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
    heat = tables.heat_map(make(cells=cells)[0])
    assert heat is not None
    assert [s.text for s in heat.squares] == ["50"]
    full = tables.heat_map(report)
    assert full is not None
    assert len({(s.x, s.y) for s in full.squares}) == len(full.squares) == len(TOOLS) * len(TROJANS)
    assert all(s.x + 44 <= full.width and s.y + 34 <= full.height for s in full.squares)


def test_attribution_panel_keeps_order_and_edge_line() -> None:
    panel = next(p for p in tables.panels(make()[0]) if "patch" in p.title)
    assert [b.tool for b in panel.bars] == ["integrated-gradients", "edge", "saliency", "random-map"]
    assert panel.edge is not None
    assert panel.bars[0].mean > panel.edge[0] > panel.bars[2].mean
    assert all(panel.left <= v <= panel.width for b in panel.bars for v in (b.low, b.high, *b.dots))
    same = [{"tool": "edge", "type": "patch", "metric": "m", "n": 1, "mean": 0, "low": 0, "high": 0}]
    assert tables.panels(make(attribution=same)[0])[0].edge is not None


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


def test_report_json_follows_its_published_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(make()[0].model_dump(mode="json"), schema.json_schema())


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
