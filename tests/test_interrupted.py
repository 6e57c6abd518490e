"""Damage, a full disk, Ctrl-C and a bad tool: one line, the right exit code, and nothing finished is lost."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from gifthorse.data import emoji
from gifthorse.errors import StoreError
from gifthorse.keys import open_key, seal
from gifthorse.models import lite0
from gifthorse.spec import Spec
from gifthorse.store import Store
from gifthorse.tools.sentinels import Noise
from gifthorse.types import Evidence, Trojan
from test_bad_input import TINY, gh, one_line  # noqa: F401

LATER = {  # what a stage and those after it have written
    "plant": ("store", "keys", "runs"),
    "exhibits": ("store/v1/exhibits", "store/v1/evidence", "store/v1/answers", "keys/*.safetensors", "runs"),
    "run": ("store/v1/evidence", "store/v1/answers", "runs"),
    "ask": ("store/v1/answers", "runs"),
    "report": ("runs",),
}
KIND = {"plant": "model", "exhibits": "exhibits", "run": "evidence", "ask": "answers"}
STAGES = list(KIND)


def results(home):
    """Everything that must come out the same, by path; salts, times and costs are left out."""
    kept = ("weights.safetensors", "arrays.safetensors", "marks.json", "suspect.jsonl", "twin.jsonl")
    files = [p for p in home.rglob("*") if p.name in kept or (p.parent.name == "keys" and p.suffix == ".safetensors")]
    return {str(p.relative_to(home)): p.read_bytes() for p in files}


def litter(home):
    return [
        str(p) for pattern in ("store/v1/tmp/*", "partial/*", "partial/.*", "keys/*.tmp") for p in home.glob(pattern)
    ]


@pytest.fixture(autouse=True)
def interruptible():
    """A background shell starts its jobs with Ctrl-C ignored; here it must arrive."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def done(suite, tmp_path_factory):
    """A home in which the suite is finished, by one thread."""
    home = tmp_path_factory.mktemp("done")
    torch.set_num_threads(1)
    env = {**os.environ, "GIFTHORSE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "gifthorse.cli", "bench", "run", str(suite), "--workers", "1", "--force"]
    ran = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 4), ran.stderr
    return home


@pytest.fixture
def home(done, tmp_path):
    """A copy of the finished home, for the command line of `gh`."""
    return shutil.copytree(done, tmp_path / "home")


def forget(home, stage):
    """Bring a home back to where ``stage`` begins."""
    for pattern in LATER[stage]:
        for path in home.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def run(gh, suite):  # noqa: F811
    """Run the suite in this process."""
    return lambda: gh("bench", "run", suite, "--workers", "1", "--force", "--json")


def finished(answer, home, done):
    """The same command went on to the very same results."""
    assert answer[0] in (0, 4), answer[2]
    assert results(home) == results(done)
    assert not litter(home)


def only(home, pattern):
    (found,) = home.glob(pattern)
    return found


# Damage


@pytest.mark.parametrize("how", ["flipped", "truncated", "missing"])
@pytest.mark.parametrize("kind", ["model", "exhibits", "evidence", "answers"])
def test_a_damaged_folder_is_named_and_made_again_once_deleted(run, home, done, kind, how):
    name = {"model": "weights.safetensors", "answers": "marks.json"}.get(kind, "arrays.safetensors")
    path = next(iter(sorted(home.glob(f"store/v1/{kind}/*/*/{name}"))))
    if kind == "model":
        suspect = next(k.stem for k in home.glob("keys/*.json"))
        path = only(home, f"store/v1/model/*/{suspect}/{name}")
        forget(home, "exhibits")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(data if how == "flipped" else data[: len(data) // 2])
    answer = run()
    one_line((answer[0], "", answer[2]), 3 if kind == "model" else 2, str(path), "delete the folder")
    shutil.rmtree(path.parent)
    finished(run(), home, done)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"salt": "x"}', "\xff"])
def test_a_damaged_key_is_named_and_the_model_planted_again_once_it_is_deleted(run, home, done, text):
    key = only(home, "keys/*.json")
    key.write_bytes(text.encode("latin-1"))
    one_line(run(), 2, str(key), "delete")
    key.unlink()
    finished(run(), home, done)


def test_a_key_of_which_half_is_missing_is_made_again(run, home, done):
    only(home, "keys/*.safetensors").unlink()
    finished(run(), home, done)


def test_no_judge_is_asked_with_a_key_that_the_card_does_not_commit_to(run, home):
    forget(home, "ask")
    key = only(home, "keys/*.json")
    key.write_text(key.read_text().replace("frog", "dove"))
    one_line(run(), 2, str(key), "commits")
    assert not list(home.glob("store/v1/answers/*/*"))


def test_a_wrong_manifest_is_damage_too(done, tmp_path):
    store = Store(shutil.copytree(done, tmp_path / "home"))
    entry = next(store.ls())
    for text in ("", "[]", '{"files": 3}'):
        (entry.path / "manifest.json").write_text(text)
        with pytest.raises(StoreError, match=r"manifest\.json.*delete the folder"):
            store.need(entry.kind, entry.digest)


def test_a_model_with_nan_or_of_another_shape_is_refused(gh, home):  # noqa: F811
    from safetensors.torch import load_file, save_file

    from gifthorse.errors import InputError
    from gifthorse.models import checkpoint

    folder = next(home.glob("store/v1/model/*/*"))
    card, weights = folder / "card.json", folder / "weights.safetensors"
    data = json.loads(card.read_text())
    del data["weights_sha256"]
    card.write_text(json.dumps(data))
    whole = load_file(weights)
    save_file({**whole, "fc.bias": whole["fc.bias"] * float("nan")}, weights)
    with pytest.raises(InputError, match=r"fc\.bias.*NaN"):
        checkpoint.load(folder)
    save_file({**whole, "fc.bias": torch.zeros(3)}, weights)
    with pytest.raises(InputError, match="do not fit") as error:
        checkpoint.load(folder)
    assert "\n" not in str(error.value)
    card.write_text("{}")
    one_line(gh("card", folder), 2, str(card), "lacks")


# The disk


@contextlib.contextmanager
def small_files(most):
    """No file may grow beyond ``most`` bytes: as on a full disk, a write fails half way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("stage", [*STAGES, "report"])
def test_a_disk_that_is_full_in_any_stage(run, home, done, stage):
    forget(home, stage)
    before = results(home)
    run_plan = home / "runs" / "tiny" / "plan.json"
    run_plan.parent.mkdir(parents=True, exist_ok=True)
    with small_files({"plant": 6000, "exhibits": 6000, "run": 6000, "ask": 60, "report": 6000}[stage]):
        code, _, err = run()
    assert code == (2 if stage == "report" or "plan.json" in err else 3)
    assert err.count("\n") == 1
    assert "free" in err
    assert results(home) == before or stage in ("plant", "run")
    assert set(before.items()) <= set(results(home).items())
    finished(run(), home, done)


# Ctrl-C


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_in_any_stage_of_one_process(run, home, done, monkeypatch, stage):
    forget(home, stage)
    real = Store.put

    def put(self, kind, digest, write):
        def cut(folder):
            write(folder)
            if kind == KIND[stage]:
                os.kill(os.getpid(), signal.SIGINT)

        return real(self, kind, digest, cut)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", put)
        answer = run()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    one_line(answer, 130, "stopped", "goes on")
    assert not list(home.glob("store/v1/tmp/*"))
    finished(run(), home, done)


def start(home, suite):
    env = {**os.environ, "GIFTHORSE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "gifthorse.cli", "bench", "run", str(suite), "--workers", "2", "--force", "--json"]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, env=env, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def wait_for(home, kind, process):
    while process.poll() is None:
        if list(home.glob(f"store/v1/tmp/{kind}-*")):
            return
        time.sleep(0.001)


def group(process):
    """The living processes of a command's session."""
    import psutil

    out = []
    for p in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(p.pid) == process.pid and p.status() != psutil.STATUS_ZOMBIE:
                out.append(p.pid)
    return out


def all_gone(process):
    """Whether every process of the session ends by itself; Python's resource tracker outlives its parent a moment."""
    end = time.monotonic() + 60
    while group(process) and time.monotonic() < end:
        time.sleep(0.05)
    return not group(process)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_in_any_stage_of_two_workers(run, suite, home, done, stage):
    forget(home, stage)
    process = start(home, suite)
    wait_for(home, KIND[stage], process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    one_line((process.returncode, "", err), 130, "stopped")
    assert all_gone(process)
    assert not list(home.glob("store/v1/tmp/*"))
    finished(run(), home, done)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_one_line(run, suite, home, done):
    forget(home, "ask")
    process = start(home, suite)
    wait_for(home, "answers", process)
    worker = int(next(home.glob("store/v1/tmp/answers-*")).name.split("-")[2])
    os.kill(worker, signal.SIGKILL)
    _, err = process.communicate()
    one_line((process.returncode, "", err), 3, "--workers", "goes on")
    assert all_gone(process)
    assert run()[0] in (0, 4)
    assert results(home) == results(done)


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(suite, home):
    forget(home, "ask")
    process = start(home, suite)
    wait_for(home, "answers", process)
    process.kill()
    process.communicate()
    assert all_gone(process)


# Tools and judges


noise = Noise.run


def spoils(self, subject, pictures, seed):
    subject.model.net.fc.bias.data.add_(1)
    return noise(self, subject, pictures, seed)


def fails(self, subject, pictures, seed):
    raise OSError(28, "a tool's own trouble")


def quits(self, subject, pictures, seed):
    sys.exit(0)


def shows(value):
    return lambda self, subject, pictures, seed: [Evidence(t.id, **value) for t in subject.tasks]


ONE = np.zeros((1, 8, 8, 3), np.uint8)
TWO = np.zeros((2, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (fails, "trouble"),
        (quits, "SystemExit"),
        (lambda *_: [], "one Evidence per task"),
        (lambda *_: None, "TypeError"),
        (lambda *_: ["t01"], "one Evidence per task"),
        (shows({"images": ONE}), "2 pictures were asked for"),
        (shows({"images": TWO.astype(float)}), "uint8"),
        (shows({"images": TWO, "alphas": np.zeros((2, 3, 3), np.uint8)}), "alphas"),
        (shows({"images": TWO, "scores": (float("nan"), 0.0)}), "JSON"),
        (shows({"images": TWO, "heatmaps": np.full((2, 8, 8), np.nan, np.float32)}), "NaN"),
        (spoils, "weights"),
    ],
)
def test_a_bad_tool_fails_alone_and_the_board_of_the_others_is_shown(run, home, done, monkeypatch, behaviour, says):
    forget(home, "report")
    plan = json.loads((done / "runs/tiny/plan.json").read_text())
    for cell in plan["cells"]:
        if "noise" in cell["label"]:
            for folder in home.glob(f"store/v1/*/*/{cell['digest']}"):
                shutil.rmtree(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Noise, "run", behaviour)
        code, out, err = run()
    one_line((code, out, err), 3, "noise", says, "goes on")
    report = json.loads(out)
    assert not report["valid"]
    assert "noise failed" in report["reasons"][0]
    assert {r["tool"] for r in report["board"]} == {"oracle"}
    assert (home / "runs/tiny/report/index.html").is_file()
    assert json.loads(next(home.glob("failed/*.json")).read_text())["traceback"]
    finished(run(), home, done)


def test_what_a_tool_prints_does_not_spoil_the_json(run, home, monkeypatch):
    forget(home, "run")
    real = Noise.run

    def chatty(self, subject, pictures, seed):
        print("\x00 garbage \ud800".encode("utf-8", "replace"))
        return real(self, subject, pictures, seed)

    monkeypatch.setattr(Noise, "run", chatty)
    code, out, err = run()
    assert code in (0, 4)
    assert json.loads(out)["suite"] == "tiny"
    assert "garbage" in err


def test_a_judge_without_weights_says_what_to_install(run, home, done, monkeypatch):
    from gifthorse.judges import embed

    forget(home, "ask")
    embed._network.cache_clear()
    embed._SEEN.clear()  # what is known needs no network
    with monkeypatch.context() as patch:
        patch.setattr(lite0, "find_spec", lambda name: None)
        code, _, err = run()
    one_line((code, "", err), 3, "pip install")
    finished(run(), home, done)


# Others at the same time, and readers that leave


def test_two_that_seal_a_key_at_once_agree(tmp_path):
    trojan = Trojan("x", "patch", Spec("patch", {}), "frog")
    for i in range(20):
        found, model = [], f"{i:02d}" * 32

        def one(model=model, found=found):
            found.append(seal(tmp_path, model, [trojan]))

        threads = [threading.Thread(target=one) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert {k.hash for k in found} == {open_key(tmp_path, model).hash}
    assert not litter(tmp_path)


@pytest.mark.slow
def test_two_commands_on_one_store_do_not_disturb_each_other(suite, done, tmp_path):
    both = [start(tmp_path / "home", suite) for _ in range(2)]
    for process in both:
        _, err = process.communicate()
        assert process.returncode in (0, 4), err
    assert results(tmp_path / "home") == results(done)
    store = Store(tmp_path / "home")
    assert not [p for e in store.ls() for p in store.verify(e)]


@pytest.mark.parametrize("words", [("list", "tool"), ("bench", "plan", "--json")])
def test_a_reader_that_leaves_early_is_no_error(suite, tmp_path, words):
    words = (*words[:2], str(suite), *words[2:]) if words[0] == "bench" else words
    env = {**os.environ, "GIFTHORSE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "gifthorse.cli", *words]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


def test_an_output_that_is_full_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "gifthorse.cli", "list", "tool"]
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    one_line((ran.returncode, "", ran.stderr), 2, "No space left")


def test_the_tiny_suite_names_real_classes():
    assert "frog" in emoji.CLASSES
