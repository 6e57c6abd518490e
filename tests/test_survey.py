"""The study study_folder, the flow and the power simulation."""

import json
import re
import stat
import struct
import subprocess
import sys
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scipy.stats import chisquare

pytest.importorskip("fastapi", reason="the extra `survey` is not installed")

from gifthorse.errors import InputError
from gifthorse.survey import pictures as art
from gifthorse.survey import study as files
from gifthorse.survey.create import Item, StudySource, create
from gifthorse.survey.flow import pages
from gifthorse.survey.power import power
from gifthorse.survey.source import from_folder, rehearsal
from gifthorse.survey.study import Settings
from survey_support import make_study, serve, take


@pytest.mark.parametrize("module", ["study", "create", "source", "db", "app", "export", "power"])
def test_the_survey_needs_no_torch(module):
    code = f"import sys, gifthorse.survey.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- the study folder


def test_pictures_carry_no_hint(study_folder):
    study = files.load(study_folder)
    options = {c.picture for row in study.file.items.values() for c in row}
    shown = [p for row in study.file.shown.values() for p in row]
    assert len(shown) == len(set(shown)), "a picture that is used twice has two names"
    for group in (options, set(shown)):
        assert len({(study_folder / "pictures" / f"{n}.png").stat().st_size for n in group}) == 1
    for path in (study_folder / "pictures").iterdir():
        data = path.read_bytes()
        assert set(re.findall(rb"IHDR|IDAT|IEND|tEXt|iTXt|zTXt|eXIf|tIME|pHYs|gAMA|iCCP", data)) == {
            b"IHDR",
            b"IDAT",
            b"IEND",
        }
        assert struct.unpack(">II", data[16:24]) == (32, 32)
        assert re.fullmatch(r"[0-9a-f]{32}", path.stem)
        assert path.stat().st_mtime == 0


def test_padding_does_not_change_a_picture():
    rng = np.random.default_rng(0)
    given = [np.full((9, 9, 3), 7, np.uint8), rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)]
    packed = art.encode(given)
    assert len({len(p) for p in packed}) == 1
    for data, picture in zip(packed, given, strict=True):
        from io import BytesIO

        assert (np.asarray(Image.open(BytesIO(data))) == picture).all()


def test_the_marking_is_sealed_and_the_study_file_is_silent(study_folder):
    sealed = study_folder / files.SEALED
    assert stat.S_IMODE(sealed.stat().st_mode) == 0o600
    text, study = (study_folder / files.FILE).read_text(), files.load(study_folder)
    marking = files.load_marking(study)
    assert "oracle" not in text
    assert "trojan-1" not in text
    assert {m["trojan"] for m in marking.items.values()} == {f"trojan-{i + 1}" for i in range(4)}
    assert set(marking.arms.values()) == {"oracle", "noise", "tool-1"}
    assert not any(c.right for c in study.file.checks)
    assert [c.id for c in study.file.items["i001"]] == sorted(c.id for c in study.file.items["i001"])


def test_the_server_works_without_the_marking(tmp_path):
    make_study(tmp_path / "study", 2, 0)
    (tmp_path / "study" / files.SEALED).rename(tmp_path / "elsewhere.json")
    client, ledger, _ = serve(tmp_path / "study", tmp_path)
    assert "Thank you" in client.get(take(client)).text
    study = files.load(tmp_path / "study")
    with pytest.raises(InputError, match="--marking"):
        files.load_marking(study)
    assert files.load_marking(study, tmp_path / "elsewhere.json").arms
    ledger.close()


def edited(study_folder, change):
    path = study_folder / files.FILE
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b["settings"].update(title="Other"), "edited after it was made"),
        (lambda b: b["settings"]["rules"].update(failed_checks=1), "edited after it was made"),
        (lambda b: b.update(schema=2), "update gifthorse"),
        (lambda b: b.update(kind="other"), "not a study file"),
    ],
)
def test_a_hand_edited_study_is_refused(tmp_path, change, says):
    make_study(tmp_path / "s", 2, 0)
    edited(tmp_path / "s", change)
    with pytest.raises(InputError, match=says):
        files.load(tmp_path / "s")


def test_a_changed_picture_or_marking_is_refused(tmp_path):
    study = make_study(tmp_path / "s", 2, 0)
    path = tmp_path / "s" / files.SEALED
    body = json.loads(path.read_text())
    body["arms"] = dict(zip(body["arms"], reversed(body["arms"].values()), strict=True))
    path.write_text(json.dumps(body))
    with pytest.raises(InputError, match="do not score"):
        files.load_marking(study)
    picture = next((tmp_path / "s" / "pictures").iterdir())
    picture.write_bytes(picture.read_bytes() + b"x")
    with pytest.raises(InputError, match="was changed"):
        files.load(tmp_path / "s")


def test_a_study_in_use_is_not_written_over(study_folder):
    with pytest.raises(InputError, match="not empty"):
        create(rehearsal(2, 0, 32), Settings(), study_folder)


def test_wrong_sources_are_named(tmp_path):
    good = rehearsal(2, 0, 32)
    no_oracle = StudySource("x", good.items, {"noise": good.shown["oracle"]})
    item = good.items[0]
    twice = StudySource("x", (Item("t", "patch", (item.options[0],) * 8, item.right),), good.shown)
    floats = StudySource("x", good.items, {"oracle": {k: [np.zeros((4, 4, 3))] for k in good.shown["oracle"]}})
    for source, says in ((no_oracle, "oracle"), (twice, "different options"), (floats, "uint8")):
        with pytest.raises(InputError, match=says):
            create(source, Settings(), tmp_path / "s")
        assert not list(tmp_path.iterdir()), "nothing half made is left"


def bomb(path):
    """A small PNG that claims 60,000 x 60,000 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def bad_picture(kind, path):
    picture = Image.new("RGB", (40, 40), "red")
    if kind == "truncated":
        Image.effect_noise((80, 80), 60).convert("RGB").save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "animated":
        picture.save(path, save_all=True, append_images=[Image.new("RGB", (40, 40), "blue")])
    elif kind == "wrong type":
        picture.save(path, "GIF")
    elif kind == "text":
        path.write_text("<svg/>")
    elif kind == "huge":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(art.MAX_BYTES))
    elif kind == "bomb":
        bomb(path)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("truncated", "truncated"), ("animated", "animated"), ("wrong type", "convert it to PNG"),
        ("text", "convert it to PNG"), ("huge", "too large"), ("bomb", "too large"), ("missing", "missing"),
    ],
)  # fmt: skip
def test_bad_pictures_are_refused_with_their_name(tmp_path, kind, says):
    names = [f"{s}.png" for s in art.SHAPES]
    for name in names:
        Image.new("RGB", (40, 40), "green").save(tmp_path / name)
    bad_picture(kind, tmp_path / "bad.png")
    trojan = {"kind": "patch", "right": "star", "options": {s: [f"{s}.png"] for s in art.SHAPES}}
    body = {"trojans": {"t": trojan}, "tools": {"oracle": {"t": ["star.png", "bad.png"]}}}
    (tmp_path / "source.json").write_text(json.dumps(body))
    with pytest.raises(InputError, match=says) as caught:
        from_folder(tmp_path)
    assert "bad.png" in str(caught.value)


def test_a_folder_of_pictures_makes_a_study_and_reads_nothing_outside(tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    for s in art.SHAPES:
        Image.new("RGBA", (60, 30), (9, 9, 9, 0)).save(place / f"{s}.png")
    trojan = {"kind": "patch", "right": "star", "options": {s: [f"{s}.png"] for s in art.SHAPES}}
    body = {"trojans": {"t": trojan}, "tools": {"oracle": {"t": ["star.png"]}}}
    (place / "source.json").write_text(json.dumps(body))
    assert create(from_folder(place), Settings(), tmp_path / "s").file.items
    body["tools"]["oracle"]["t"] = ["../secret.png"]
    (place / "source.json").write_text(json.dumps(body))
    with pytest.raises(InputError, match="outside"):
        from_folder(place)


# --- the flow


def test_everybody_sees_each_trojan_once_and_arms_rotate(study_folder):
    study = files.load(study_folder)
    seen = Counter()
    for slot in range(3):
        asked = [p.question for p in pages(study, slot, slot)]
        items = [q.split(".")[0] for q in asked if "." in q]
        assert sorted(items) == sorted(study.file.items)
        assert asked[0] == "practice"
        assert [q for q in asked if q.startswith("check")] == ["check1", "check2"]
        seen.update(q for q in asked if "." in q)
    assert set(seen) == set(study.file.shown)
    assert set(seen.values()) == {1}


def test_the_right_option_is_everywhere_equally_often(study_folder):
    study = files.load(study_folder)
    right = {k: m["right"] for k, m in files.load_marking(study).items.items()}
    places = np.zeros(8)
    for seed in range(2500):
        for page in pages(study, seed % 3, seed):
            if "." in page.question:
                places[page.order.index(right[page.question.split(".")[0]])] += 1
    assert places.sum() == 10_000
    assert chisquare(places).pvalue > 0.001


def test_power_people_saturate_and_trojans_do_not():
    few, many, wide = (power(p, t, 1, "between", runs=600) for p, t in ((50, 12), (300, 12), (50, 100)))
    assert many.fixed < few.fixed / 2
    assert many.sampled > 0.85 * few.sampled
    assert wide.sampled < 0.65 * few.sampled
    assert power(80, 16, 8, runs=50).answers == 160
    with pytest.raises(InputError, match="each arm"):
        power(2, 12, 8)
