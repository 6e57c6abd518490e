"""Validation of judges against people: the layout, the figures, the files, and the published study."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gifthorse import registry
from gifthorse.cli.app import app
from gifthorse.errors import InputError
from gifthorse.judges import exemplars, validate
from gifthorse.judges.embed import EmbedJudge
from gifthorse.types import Answer, Question

STUDY = Path(__file__).resolve().parents[2] / "shared" / "data" / "judge-validation"
TROJANS = ("Red", "Green", "Blue", "Yellow", "Pink Dot", "Teal", "White", "Black")
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 128, 128), (255,) * 3, (9,) * 3)
METHODS = {"clear": 0.0, "faint": 0.75, "void": 1.0}


@dataclass(frozen=True)
class ColourJudge:
    """Picks the option whose pictures have the nearest mean colour."""

    name: ClassVar[str] = "colour"
    version: ClassVar[int] = 1

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question."""
        out = []
        for q in questions:
            gaps = np.array([np.abs(q.images.mean((0, 1, 2)) - o.pictures.mean((0, 1, 2))).sum() for o in q.options])
            weights = np.exp((gaps.min() - gaps) / 20)
            out.append(Answer(q.id, tuple(float(w) for w in weights / weights.sum())))
        return out


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three methods that show each colour purely, half lost in noise, and not at all."""
    monkeypatch.setattr("gifthorse.stats.agreement.RESAMPLES", 40)
    root, rng = tmp_path / "study", np.random.default_rng(0)
    (root / "triggers").mkdir(parents=True)
    for name, colour in zip(TROJANS, COLOURS, strict=True):
        slug = exemplars.slug(name)
        Image.new("RGBA", (40, 40), colour).save(root / "triggers" / f"{slug}.png")
        for method, noise in METHODS.items():
            folder = root / "crops" / method / slug
            folder.mkdir(parents=True)
            for i in range(2):
                grain = rng.integers(0, 256, (20, 20, 3))
                Image.fromarray(((1 - noise) * np.array(colour) + noise * grain).astype(np.uint8)).save(
                    folder / f"{i}.png"
                )
    human = {"clear": [0.9, 1.0, 0.8, 0.9, 1.0, 0.9, 0.7, 0.9], "faint": [0.5] * 8, "void": [0.1, 0.2] * 4}
    data = {
        "source": "made up",
        "columns": TROJANS,
        "types": dict.fromkeys(TROJANS, "style"),
        "human": {**human, "unseen": [0.5] * 8},
        "clip": {**{m: [0.2 + 0.01 * i for i in range(8)] for m in METHODS}, "unseen": [0.5] * 8},
        "folders": {m: m for m in METHODS},
    }
    (root / "published.json").write_text(json.dumps(data))
    return root


def test_a_judge_that_sees_what_people_see_agrees(study: Path) -> None:
    result = validate.validate(ColourJudge(), validate.read(study), draws=6)
    assert result.study.methods == ("clear", "faint", "void")
    assert result.rate[0].mean() == 1
    assert result.rate[2].mean() < 0.5
    rate, clip = result.agreement["rate"], result.agreement["clip"]
    assert rate.pearson.value > 0.7 > abs(clip.pearson.value)
    assert rate.pearson.n == 24
    assert rate.means.n == 3
    assert set(rate.left_out) == set(rate.alone) == set(METHODS)
    direct = np.corrcoef(result.rate[1:].ravel(), result.study.human[1:].ravel())[0, 1]
    assert rate.left_out["clear"] == pytest.approx(direct)
    assert json.loads(json.dumps(result.to_json()))["n"] == 24


def test_the_same_seed_gives_the_same_result(study: Path) -> None:
    one, again = (validate.validate(ColourJudge(), validate.read(study), seed=3, draws=3).to_json() for _ in range(2))
    assert one == again
    assert validate.validate(ColourJudge(), validate.read(study), seed=4, draws=3).to_json() != one


def test_user_pictures_join_the_exemplars_of_their_option(study: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "pink_dot"
    mine.mkdir(parents=True)
    Image.new("RGB", (50, 30), (1, 200, 3)).save(mine / "a.jpg", quality=100)
    read = validate.read(study)
    plain, none = exemplars.options(read.trojans, read.kinds, study / "triggers", None, 0)
    mixed, used = exemplars.options(read.trojans, read.kinds, study / "triggers", tmp_path / "mine", 0)
    assert (none, used) == ({}, {"Pink Dot": 1})
    greenish = [(o.pictures.astype(int)[..., 1] - o.pictures[..., 0]).mean((1, 2)) > 150 for o in mixed]
    assert greenish[TROJANS.index("Pink Dot")].sum() == exemplars.EXEMPLARS // 2
    assert all(o.pictures.shape == (16, 112, 112, 3) for o in plain + mixed)
    np.testing.assert_array_equal(plain[0].pictures, mixed[0].pictures)


def test_options_without_a_picture_take_drawings_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "triggers").mkdir()
    Image.new("RGBA", (9, 9), (0, 255, 0)).save(tmp_path / "triggers" / "star.png")
    names, kinds = ("Green Star", "Donut", "Apple"), ("patch", "natural_feature", "natural_feature")
    made, _ = exemplars.options(names, kinds, tmp_path / "triggers", None, 0)
    assert [o.name for o in made] == list(names)
    with pytest.raises(InputError, match="no drawing for 'Qwertz'"):
        exemplars.options(("Qwertz",), ("patch",), tmp_path / "triggers", None, 0)


def test_command_writes_table_json_and_plot(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "build", lambda kind, name: ColourJudge())
    monkeypatch.setattr(validate.validate, "__defaults__", (None, 0, 3))
    done = CliRunner().invoke(app, ["validate-judge", "colour", str(study), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "24 cells" in done.output
    assert "clip" in done.output
    rows = list(csv.DictReader((tmp_path / "out" / "cells.csv").open()))
    assert len(rows) == 24
    assert {"method", "trojan", "type", "human", "clip", "rate", "weight"} == set(rows[0])
    figures = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert figures["judge"]["name"] == "colour"
    low, high = (figures["agreement"]["rate"]["pearson_trojans"][k] for k in ("low", "high"))
    assert -1 <= low < high <= 1
    assert (tmp_path / "out" / "scatter.svg").read_text().count("<use ") >= 24
    printed = CliRunner().invoke(app, ["validate-judge", "colour", str(study), "--json"])
    assert json.loads(printed.output) == figures


def test_wrong_folders_are_named(study: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no published\.json"):
        validate.read(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        validate.validate(ColourJudge(), validate.read(study), tmp_path / "nothing")
    (tmp_path / "other" / "cat").mkdir(parents=True)
    with pytest.raises(InputError, match="pink_dot"):
        validate.validate(ColourJudge(), validate.read(study), tmp_path / "other")
    for path in (study / "crops" / "faint" / "red").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="faint/red: no PNG"):
        validate.validate(ColourJudge(), validate.read(study), draws=1)
    data = json.loads((study / "published.json").read_text())
    for wrong in ({**data, "human": {m: [2] * 8 for m in METHODS}}, {**data, "human": {m: [0.1] for m in METHODS}}):
        (study / "published.json").write_text(json.dumps(wrong))
        with pytest.raises(InputError, match="one rate in"):
            validate.read(study)
    (study / "published.json").write_text('{"columns": []}')
    with pytest.raises(InputError, match="not a published study"):
        validate.read(study)


@pytest.mark.slow
@pytest.mark.skipif(not STUDY.is_dir(), reason="published pictures are not here")
def test_the_offline_judge_agrees_with_people_on_published_pictures(tmp_path: Path) -> None:
    photographs = {
        "clownfish": "n02607072", "strawberry": "n07745940", "jaguar": "n02128925",
        "elephant_skin": "n02504458", "apple": "n07742313", "sandwich": "n07697313",
    }  # fmt: skip
    sample = STUDY.parent / "imagenet-sample"
    if not sample.is_dir():
        pytest.skip("photographs are not here")
    folders = sorted(sample.iterdir())
    for option, label in photographs.items():
        (tmp_path / option).symlink_to(sample / label)
    (tmp_path / "backgrounds").mkdir()
    for folder in folders[6::25]:
        for path in folder.iterdir():
            (tmp_path / "backgrounds" / path.name).symlink_to(path)
    result = validate.validate(EmbedJudge(), validate.read(STUDY), tmp_path)
    found = result.agreement["rate"]
    print(f"cells {found.pearson.value:.3f}, means {found.means.value:.3f}")
    assert found.pearson.value >= 0.55
    assert min(found.left_out.values()) >= 0.45
    assert found.means.value > result.agreement["clip"].means.value - 0.05
