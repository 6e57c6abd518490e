"""`gifthorse audit` through the real command line, on networks that never learned anything."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gifthorse.audit import examine as auditing
from gifthorse.audit.scan import Effort
from gifthorse.cli.app import app
from gifthorse.data import openmoji
from gifthorse.errors import GifthorseError
from gifthorse.store import Store


def call(*words):
    """Exit code and what was printed: output, or the line of the error."""
    done = CliRunner().invoke(app, [str(w) for w in words])
    if isinstance(done.exception, GifthorseError):
        assert "\n" not in str(done.exception)
        return done.exception.exit_code, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def home(tmp_path_factory, small_suite, patched):
    """A home with two suspects and two twins; the bank has a dozen pictures, so that an audit takes a moment."""
    folder = tmp_path_factory.mktemp("home")
    patched.setenv("GIFTHORSE_HOME", str(folder))
    suite = small_suite(tmp_path_factory.mktemp("suite") / "small.toml", "small", ["edge"])
    code, text = call("plant", suite, "--workers", 1, "--seed", 0, "--seed", 1)
    assert code == 0, text
    codes = list(openmoji.names())[:12]
    pictures = np.stack([openmoji.flatten(openmoji.glyph(c, 32)) for c in codes])
    patched.setattr(openmoji, "bank", lambda size: (tuple(openmoji.names()[c] for c in codes), pictures))
    patched.setattr(auditing, "TEXTURES", 8)
    patched.setattr(auditing, "MOST_SOURCES", 4)
    few = Effort(universal=((2, 1), (1, 1)), single=((1, 1),))
    patched.setattr(auditing, "OBJECTS", few)
    patched.setattr(auditing, "TEXTURED", few)
    return folder


def digests(home, role):
    found = [(json.loads((e.path / "card.json").read_text()), e) for e in Store(home).ls() if e.kind == "model"]
    return [e.digest for card, e in sorted(found, key=lambda f: f[0]["seed"]) if card["role"] == role]


def test_an_audit_writes_a_report_and_speaks_json(home, tmp_path):
    (suspect, _), (twin, other) = digests(home, "suspect"), digests(home, "twin")
    words = ("audit", suspect[:12], "--reference", twin, "--honest", other[:12], "--out", tmp_path / "report")
    code, text = call(*words, "--json")
    data = json.loads(text)
    assert code == (3 if any(row["alarm"] for row in data["classes"]) else 0)
    assert data["model"] == suspect
    assert (data["reference"], data["honest"]) == (twin, [other])
    assert len(data["classes"]) == 20
    assert data["calibration"]["honest"] == 20
    assert "4 of 20 classes were used" in data["warnings"][0]
    assert Path(data["report"]) == tmp_path / "report" / "index.html"
    assert {k: v for k, v in data.items() if k != "report"} == json.loads(
        (tmp_path / "report" / "audit.json").read_text()
    )
    code, text = call(*words)
    assert "classes raise an alarm" in text
    assert f"report: {data['report']}" in text


def test_a_twin_can_be_audited_by_its_folder_without_a_reference(home):
    (twin, _) = digests(home, "twin")
    code, text = call("audit", Store(home).need("model", twin), "--quick", "--seed", 3)
    assert code in (0, 3), text
    assert (home / "runs" / f"audit-{twin[:12]}" / "index.html").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nosuch",), "store ls"),
        (("{suspect}", "--reference", "nosuch"), "store ls"),
        (("{suspect}", "--reference", "{suspect}"), "is named twice"),
        (("{suspect}", "--honest", "{twin}"), "--reference"),
        (("{suspect}", "--images", "{home}"), "reads no folder"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(home, words, says):
    given = {"suspect": digests(home, "suspect")[0], "twin": digests(home, "twin")[0], "home": home}
    code, text = call("audit", *(w.format(**given) for w in words))
    assert code == 2
    assert says in text


def test_a_reference_of_other_classes_and_a_missing_folder_of_pictures_are_refused(home, monkeypatch, tmp_path):
    suspect, twin = digests(home, "suspect")[0], digests(home, "twin")[0]
    real = auditing.open_network

    def other(model, home):
        found = real(model, home)
        if found.digest == twin:
            found.card["classes"] = ["cat", *found.card["classes"][1:]]
        return found

    monkeypatch.setattr(auditing, "open_network", other)
    code, text = call("audit", suspect, "--reference", twin)
    assert code == 2
    assert "other classes" in text
    monkeypatch.setattr(auditing, "open_network", real)
    card = {"data": {"name": "folder", "params": {"root": str(tmp_path / "gone"), "size": 32}}, "classes": ["a", "b"]}
    with pytest.raises(GifthorseError, match="does not exist"):
        auditing.data_of(card)
