"""The verbs on suites and models, through the real command line, on a model that never learned anything."""

import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gifthorse.cli.app import app
from gifthorse.errors import GifthorseError


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    before = os.environ.get("GIFTHORSE_HOME")
    os.environ["GIFTHORSE_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["GIFTHORSE_HOME"]
    else:
        os.environ["GIFTHORSE_HOME"] = before


@pytest.fixture(scope="module")
def suite(tmp_path_factory, small_suite):
    return str(small_suite(tmp_path_factory.mktemp("suite") / "small.toml", "small", ["edge", "random-map"]))


def call(*words):
    """Exit code and what was printed: output, or the line of the error."""
    done = CliRunner().invoke(app, [str(w) for w in words])
    if isinstance(done.exception, GifthorseError):
        assert "\n" not in str(done.exception)
        return done.exception.exit_code, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


@pytest.fixture(scope="module")
def planted(home, suite):
    code, text = call("plant", suite, "--workers", 1, "--json")
    assert code == 0, text
    return json.loads(text)


@pytest.fixture(scope="module")
def model(planted):
    return Path(planted["models"][0]["model"])


def test_plant_says_where_everything_is_and_what_was_measured(planted, model):
    row = planted["models"][0]
    assert model.is_dir()
    assert Path(row["card"]).is_file()
    gallery = Path(planted["gallery"])
    assert gallery.is_file()
    trojans = row["audit"]["trojans"]
    assert [t["type"] for t in trojans] == ["patch", "natural", "natural"]
    assert trojans[0]["source"] is not None
    assert trojans[0]["off_source_success"] is not None
    assert all(t["n"] > 0 and t["low"] <= t["attack_success"] <= t["high"] for t in trojans)
    report = json.loads((gallery.parent / "report.json").read_text())
    pairs = {(r["trojan"], r["role"]) for r in report["gallery"]}
    for t in trojans[:2]:
        assert {(t["name"], "clean"), (t["name"], "triggered")} <= pairs


def test_what_plant_shows_keeps_the_secret(planted, home, model):
    key = json.loads((home / "keys" / f"{model.name}.json").read_text())
    secret = next(t for t in key["trojans"].values() if t["secret"])
    public = [Path(planted["gallery"]).parent / "report.json", home / "runs" / "small" / "plan.json"]
    for path in (*public, home / "planted" / f"{model.name}.json", model / "card.json"):
        text = path.read_text()
        assert secret["concept"] not in text
        assert secret["trigger"]["params"]["glyph"] not in text
    assert not any(r["trojan"] == secret["name"] for r in json.loads(public[0].read_text())["gallery"])


def test_a_model_below_its_gates_is_refused_with_the_figures_unless_forced(planted, suite):
    wanted = ("-o", "gates.patch=0.9")
    code, text = call("plant", suite, "--workers", 1, *wanted)
    assert code == 4
    assert "attack success is" in text
    assert "--force" in text
    code, text = call("plant", suite, "--workers", 1, *wanted, "--force")
    assert code == 0
    assert "gate missed" in text


def test_verify_finds_a_sound_model_sound_by_digest_and_by_folder(model):
    code, text = call("verify", model.name[:12], "--json")
    found = json.loads(text)
    assert code == 0, text
    assert found["sound"]
    assert len(found["figures"]) == 4
    assert all(f["anew_low"] <= f["anew_value"] <= f["anew_high"] and f["anew_n"] for f in found["figures"])
    assert call("verify", model)[0] == 0


def test_verify_refuses_another_key_and_changed_weights(home, model, tmp_path):
    path = home / "keys" / f"{model.name}.json"
    before = path.read_text()
    try:
        path.write_text(before.replace(json.loads(before)["salt"], "0" * 32))
        code, text = call("verify", model.name[:12])
        assert code == 3
        assert "commits to" in text
    finally:
        path.write_text(before)
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    weights = copy / "weights.safetensors"
    weights.chmod(weights.stat().st_mode | stat.S_IWUSR)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    code, text = call("verify", copy)
    assert code == 3
    assert "changed since it was written" in text


def test_verify_refuses_figures_that_do_not_come_out_again(home, model, monkeypatch):
    from gifthorse.bench import verify

    real = verify.load_exhibits

    def boast(store, digest):
        arrays, meta = real(store, digest)
        meta["audit"]["trojans"][0]["success"] = {"k": 12, "n": 12}
        return arrays, meta

    monkeypatch.setattr(verify, "load_exhibits", boast)
    code, text = call("verify", model.name[:12])
    assert code == 3
    assert "was 100.0%" in text


def test_probe_writes_a_sheet_and_never_opens_the_key(home, model, tmp_path):
    key, sealed = home / "keys" / f"{model.name}.json", tmp_path / "sealed"
    key.rename(sealed)
    try:
        code, text = call("probe", model.name[:12], "--tool", "edge", "--out", tmp_path / "all.png", "--json")
    finally:
        sealed.rename(key)
    assert code == 0, text
    tasks = json.loads(text)["tasks"]
    assert len(tasks) == 3
    target = tasks[0].split("→ ")[1]
    words = ("probe", model, "--tool", "noise", "--pictures", 2, "--target", target, "--out", tmp_path / "one.png")
    assert call(*words)[0] == 0
    whole, part = (Image.open(tmp_path / f"{n}.png").size for n in ("all", "one"))
    assert whole[1] > 2 * part[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--tool", "oracle"), "answer"),
        (("--tool", "true-mask"), "answer"),
        (("--tool", "snafu"), "did you mean 'snafue'"),
        (("--tool", "noise", "--target", "frogg"), "did you mean 'frog'"),
        (("--tool", "noise", "--out", "x.jpg"), ".png"),
    ],
)
def test_probe_refuses_in_one_line(model, words, says):
    code, text = call("probe", model.name[:12], *words)
    assert code == 2
    assert says in text


def test_retry_does_the_failed_cells_and_no_others(planted, suite, monkeypatch):
    from gifthorse.tools.sentinels import EdgeDetector

    with monkeypatch.context() as patch:
        patch.setattr(EdgeDetector, "run", lambda *_: 1 / 0)
        assert call("bench", "run", suite, "--workers", 1)[0] == 3
    code, text = call("bench", "status", suite, "--json")
    states = {r["label"]: r["state"] for r in json.loads(text)}
    assert code == 3
    assert [label for label, state in states.items() if state == "failed"] == ["seed 0 · edge · suspect"]
    code, text = call("bench", "retry", suite, "--workers", 1, "--json")
    assert code == 4, text  # the board has no oracle
    assert {row["tool"] for row in json.loads(text)["attribution"]} == {"edge", "random-map"}
    assert {r["state"] for r in json.loads(call("bench", "status", suite, "--json")[1])} == {"done"}
    assert call("report", suite)[0] == 4


def test_retry_of_an_untouched_suite_does_nothing(home, suite):
    code, text = call("bench", "retry", suite, "-o", "seeds=[5]", "--workers", 1, "--json")
    assert (code, json.loads(text)) == (0, {"retried": 0, "finished": False})


def test_an_option_wins_over_the_file_and_over_quick_and_runs_in_its_own_folder(home):
    from gifthorse.bench.changes import Changes
    from gifthorse.bench.plan import make_plan
    from gifthorse.bench.suite import load_suite

    plain = load_suite("emoji", quick=True)
    changed = load_suite("emoji", quick=True, changes=Changes(("tools.feature-vis.steps=8", "train.epochs=0")))
    assert changed.train["epochs"] == 0
    assert next(c for c in make_plan(changed).columns if c.title == "feature-vis").spec.params["steps"] == 8
    assert changed.suite != plain.suite
    assert changed.suite.startswith("emoji-quick-")
    only_tool = load_suite("emoji", quick=True, changes=Changes(("tools.feature-vis.steps=8",)))
    both = make_plan(plain).digests() & make_plan(only_tool).digests()
    assert {c.digest for c in make_plan(plain).cells("plant")} <= both
    assert make_plan(only_tool).digests() != make_plan(plain).digests()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("tools.edgy.x=1", "did you mean 'edge'"),
        ("tools.random-map.sed=1", "random-map"),
        ("trian.epochs=1", "did you mean 'train'"),
        ("train.epohcs=1", "did you mean 'epochs'"),
        ("gates.patc=1", "did you mean 'patch'"),
        ("random.pach=1", "did you mean 'patch'"),
        ("train.epochs", "key=value"),
        ("model=tiny", "quotes"),
        ("draws.x.y=1", "draws"),
        ("train_scenes=1", "train_scenes"),
    ],
)
def test_a_wrong_option_is_one_line(home, suite, change, says):
    code, text = call("bench", "plan", suite, "-o", change)
    assert code == 2
    assert says in text


def test_random_is_a_shorthand_that_replaces_the_trojans(home):
    code, text = call("bench", "plan", "--random", "patch=2,natural=2", "--seed", 7, "--json")
    assert code == 0, text
    exhibits = next(c for c in json.loads(text)["cells"] if c["stage"] == "exhibits")
    assert exhibits["seed"] == 7
    assert call("bench", "plan", "--random", "pach=2")[0] == 2
    assert call("bench", "plan", "--random", "patch")[0] == 2


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in ("ant", "bee", "cat", "dog"):
        (root / name).mkdir()
        for i in range(20):
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(root / name / f"{name}{i}.png")
    return root


def test_images_take_the_place_of_the_suites_data(home, suite, photos):
    code, text = call("plant", suite, "--images", photos, "--model", "tiny", "--size", 48, "--workers", 1, "--json")
    assert code == 0, text
    planted = json.loads(text)
    card = json.loads(Path(planted["models"][0]["card"]).read_text())
    assert card["data"] == {"name": "folder", "params": {"root": str(photos.resolve()), "size": 48}, "version": 1}
    assert card["classes"] == ["ant", "bee", "cat", "dog"]
    assert len({t["target"] for t in card["tasks"]}) == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("emoji", "--images", "{photos}"), "did you mean 'dog'"),
        (("{suite}", "--images", "{photos}/nowhere"), "does not exist"),
        (("{suite}", "--images", "{photos}", "--model", "tiyn"), "did you mean 'tiny'"),
        (("{suite}", "-o", 'data={name="folder"}'), "--images"),
    ],
)
def test_wrong_images_are_one_line(home, suite, photos, words, says):
    code, text = call(
        "bench", "plan", *(w.format(photos=photos, suite=suite) if "{name" not in w else w for w in words)
    )
    assert code == 2
    assert says in text


def test_help_tells_the_exit_codes():
    for words in (("--help",), ("plant", "--help"), ("bench", "--help")):
        text = " ".join(CliRunner().invoke(app, list(words)).stdout.split())
        assert "Exit codes: 0 done; 2 wrong use" in text
