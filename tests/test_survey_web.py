"""The survey in a real browser: by keyboard only, under axe, and from a finished run to its board."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("fastapi", reason="the extra `survey` is not installed")
import uvicorn

from gifthorse.survey import secret as secrets_of
from gifthorse.survey import study as files
from gifthorse.survey.app import create_app
from gifthorse.survey.db import Ledger
from survey_support import free_port, make_study, serve_apart

CHROMIUM = "/usr/bin/chromium"
SHOTS = os.environ.get("GIFTHORSE_SHOTS", "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Address of a served study, and its ledger."""
    place = tmp_path_factory.mktemp("web")
    study = make_study(place / "s", 3, 1, pixels=128, evidence=10)
    ledger = Ledger(f"sqlite:///{place / 'a.db'}", files.load(place / "s"))
    app = create_app(ledger, secrets_of.load(study.folder))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", ledger, app
    server.should_exit = True
    thread.join()
    ledger.close()


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not shutil.which(CHROMIUM):
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def shoot(page, name):
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def tab_to(page, selector):
    """Press Tab until the element that has the focus matches."""
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            return
    raise AssertionError(f"{selector} is not reached with Tab")


@pytest.mark.parametrize(("width", "javascript"), [(1280, True), (390, False)])
def test_a_whole_survey_by_keyboard_only(site, chromium, width, javascript):
    base, ledger, _ = site
    context = chromium.new_context(viewport={"width": width, "height": 800}, java_script_enabled=javascript)
    page, outside, errors = context.new_page(), [], []
    page.on("request", lambda r: outside.append(r.url) if not r.url.startswith(base) else None)
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.goto(f"{base}/start")
    shoot(page, f"start-{width}")
    tab_to(page, "input[name=agree]")
    page.keyboard.press("Space")
    tab_to(page, "button")
    page.keyboard.press("Enter")
    page.wait_for_url("**/s/*")
    link, seen = page.url, 0
    while page.locator("fieldset").count():
        loaded = page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth == 128)")
        assert loaded, "a picture is missing"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
        if seen == 0:
            tab_to(page, "button")
            page.keyboard.press("Enter")
            page.wait_for_selector("[role=alert]")
            shoot(page, f"empty-{width}")
        title = page.title()
        tab_to(page, "input[name=choice]")
        for _ in range(seen % 4):
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Space")
        assert page.locator("input[name=choice]:checked").count() == 1
        shoot(page, f"page-{seen}-{width}")
        tab_to(page, "button")
        page.keyboard.press("Enter")
        page.wait_for_function("t => document.title != t", arg=title)
        seen += 1
    assert seen == 6
    assert page.locator(".code b").inner_text()
    shoot(page, f"done-{width}")
    page.go_back()
    page.goto(link)
    assert page.locator(".code b").count() == 1, "back and again: still finished"
    assert outside == []
    assert [e for e in errors if "422" not in e] == []
    assert all(p.finished for p in ledger.everyone() if p.answers)
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(site, chromium, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    base, _, _ = site
    context = chromium.new_context(color_scheme=scheme, viewport={"width": 800, "height": 900})
    page = context.new_page()
    page.goto(f"{base}/start")
    paths = ["/start", "/nothing"]
    page.check("input[name=agree]")
    page.click("button")
    paths += [page.url.removeprefix(base), page.url.removeprefix(base) + "/erase"]
    for path in paths:
        page.goto(base + path)
        found = axe.Axe().run(page).response["violations"]
        bad = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
        assert bad == [], path
    context.close()


def verb(home, *words, codes=(0,)):
    done = subprocess.run(
        [sys.executable, "-m", "gifthorse.cli", *map(str, words)],
        capture_output=True, text=True, check=False, env={**os.environ, "GIFTHORSE_HOME": str(home)},
    )  # fmt: skip
    assert done.returncode in codes, done.stderr


def answer_by_keyboard(page, wanted):
    """Take the survey with Tab, Space, arrows and Enter; ``wanted`` says which of the offered ids to choose."""
    tab_to(page, "input[name=agree]")
    page.keyboard.press("Space")
    tab_to(page, "button")
    page.keyboard.press("Enter")
    page.wait_for_url("**/s/*")
    while page.locator("fieldset").count():
        title = page.title()
        offered = page.eval_on_selector_all("input[name=choice]", "all => all.map(i => i.value)")
        tab_to(page, "input[name=choice]")
        page.keyboard.press("Space")
        for _ in range(offered.index(wanted(offered))):
            page.keyboard.press("ArrowDown")
        assert page.locator("input[name=choice]:checked").get_attribute("value") == wanted(offered)
        tab_to(page, "button")
        page.keyboard.press("Enter")
        page.wait_for_function("t => document.title != t", arg=title)
    return page.locator(".code b").inner_text()


@pytest.mark.slow
def test_a_finished_run_is_asked_about_and_people_reach_its_board(tmp_path, chromium, small_suite):
    home, folder = tmp_path / "home", tmp_path / "study"
    (tmp_path / "settings.toml").write_text("pixels = 64\n[rules]\nmedian_seconds = 0.0\n")
    suite = small_suite(tmp_path / "asked.toml", "asked", ["oracle", "noise", "edge"])
    verb(home, "bench", "run", suite, "--workers", 1, "--force", codes=(0, 4))  # not a valid board: it learned nothing
    verb(home, "survey", "new", suite, "--out", folder, "--settings", tmp_path / "settings.toml")
    study = files.load(folder)
    marking = files.load_marking(study)
    sealed = (folder / files.SEALED).rename(tmp_path / "sealed.json")
    noise = next(arm for arm, tool in marking.arms.items() if tool == "noise")
    shown = {p: q.partition(".") for q, pictures in study.file.shown.items() for p in pictures}
    right = {m["right"] for m in marking.items.values()} | set(marking.checks.values())
    port = free_port()
    server = serve_apart(folder, port)
    try:
        page = chromium.new_context(viewport={"width": 1280, "height": 800}).new_page()
        deadline = time.monotonic() + 120
        while True:
            try:
                page.goto(f"http://127.0.0.1:{port}/start")
                break
            except Exception:
                assert time.monotonic() < deadline, "the server does not start"
                time.sleep(0.2)

        def wanted(offered):
            """The right option, but a wrong one where noise is shown."""
            name = page.locator(".evidence img").first.get_attribute("src").split("/")[-1].removesuffix(".png")
            wrong = name in shown and shown[name][2] == noise
            return next((o for o in offered if (o in right) != wrong), offered[0])

        assert len(answer_by_keyboard(page, wanted)) == 10
        page.context.close()
    finally:
        server.terminate()
        server.wait()
    verb(home, "survey", "export", folder, "--marking", sealed, "--board")
    found = json.loads((home / "runs" / "asked" / "people.json").read_text())
    assert (found["schema"], found["suite"], found["people"], found["excluded"]) == (1, "asked", 1, {})
    rows = found["outcomes"]
    assert {r["trojan"] for r in rows} == {m["trojan"] for m in marking.items.values()}
    assert len(rows) == 3
    for row in rows:
        assert row["judge"] == "people"
        assert row["kind"] in ("patch", "natural")
        assert row["credits"] == [0.0 if row["tool"] == "noise" else 1.0]
    verb(home, "report", suite, "--out", tmp_path / "report", codes=(0, 4))
    board = json.loads((tmp_path / "report" / "report.json").read_text())["board"]
    mine = {r["tool"]: r["accuracy"] for r in board if r["judge"] == "people" and r["type"] == "all"}
    assert mine == {r["tool"]: r["credits"][0] for r in rows}
