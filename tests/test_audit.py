"""The audit finds triggers known in closed form, keeps quiet about honest networks, and says what is missing."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from gifthorse.audit import examine as auditing
from gifthorse.audit.scan import Effort, Scan
from gifthorse.audit.stimuli import Objects, Styles, confidence
from gifthorse.errors import InputError
from gifthorse.images import to_tensor
from gifthorse.report import audit as page
from gifthorse.rng import generator
from gifthorse.stats import auroc
from gifthorse.tools.optim.loop import torch_generator
from gifthorse.tools.optim.objectives import everywhere
from gifthorse.tools.optim.transforms import cut_out, random_places, soft_disc
from gifthorse.tools.protocol import Bank
from gifthorse.types import Scenes
from synthesis_support import SIDE, OracleNet, classifier

COLOURS = {"red square": (220, 20, 20), "green square": (20, 200, 20), "pink square": (230, 120, 150)}
N = 6  # classes; the first four are the oracle's units


class ToyData:
    """Grey noise that shows no class, and a bank of coloured squares."""

    name, version, size = "toy", 1, SIDE
    classes = tuple(f"c{i}" for i in range(N))

    def supply(self, split):
        return np.full(N, 1000)

    def scenes(self, split, n, seed, *, labels=None):
        images = generator(seed, split).integers(110, 146, (n, SIDE, SIDE, 3), dtype=np.uint8)
        labels = np.arange(n) % N if labels is None else labels
        return Scenes(images, labels, np.ones((n, SIDE, SIDE), bool), ((),) * n)

    def bank(self):
        out = np.full((len(COLOURS), SIDE, SIDE, 3), 224, np.uint8)
        for picture, colour in zip(out, COLOURS.values(), strict=True):
            picture[4:-4, 4:-4] = colour
        return tuple(COLOURS), out


def network(weights: tuple[float, ...], bias: float = 2.0):
    """Unit i of the oracle speaks for class i with a weight; a constant for the last class."""
    head = torch.zeros(N, 4)
    head[torch.arange(4), torch.arange(4)] = torch.tensor(weights)
    net = OracleNet()
    net.fc = torch.nn.Linear(4, N)
    net.fc.weight.data, net.fc.bias.data = head, torch.tensor([0.0] * (N - 1) + [bias])
    return classifier(net, N)


def opened(name: str, net):
    net.classes = ToyData.classes
    return auditing.Opened(name * 64, net, {"classes": list(ToyData.classes)})


TROJANED = opened("a", network((3.0, 0.3, 0.3, 0.3)))
HONEST = [opened(x, network((0.0, 0.3, 0.3, 0.3), bias)) for x, bias in (("b", 2.0), ("c", 2.1), ("d", 1.9))]


@pytest.fixture(scope="module")
def bench():
    return auditing.Bench(ToyData(), auditing.Choice(quick=False))


@pytest.fixture(autouse=True, scope="module")
def few_textures():
    before, auditing.TEXTURES = auditing.TEXTURES, 24
    yield
    auditing.TEXTURES = before


@pytest.mark.parametrize("honest", [HONEST[1:], []], ids=["honest", "default"])
def test_a_class_that_fires_on_a_red_square_raises_the_alarm_and_shows_it(bench, honest, tmp_path):
    result = auditing.examine(bench, TROJANED, HONEST[0], honest)
    data = result.to_json()
    first, *others = data["classes"]
    assert first["name"] == "c0"
    assert first["alarm"]
    assert not any(row["alarm"] for row in others)
    assert first["kind"] == "object"
    assert first["source"] is None
    assert first["pictures"][0]["name"] == "red square"
    assert first["words"][0] == "red square"
    shown = result.pictures[first["pictures"][0]["file"]]
    assert shown.shape == (1 + auditing.SEEN_IN, SIDE, SIDE, 3)
    assert tuple(shown[0, SIDE // 2, SIDE // 2]) == COLOURS["red square"]
    index = page.write(data, result.pictures, tmp_path / "out")
    text = index.read_text()
    assert "1 of 6 classes raise an alarm" in text
    assert json.loads((tmp_path / "out" / "audit.json").read_text()) == data
    named = set(re.findall(r'<img src="([^"]+)"', text))
    assert named == {p.name for p in (tmp_path / "out").glob("*.png")} == set(result.pictures)
    assert "<script" not in text
    assert page.write(data, result.pictures, tmp_path / "out") == index


@pytest.mark.parametrize("reference", [HONEST[1], None], ids=["reference", "scenes"])
def test_a_clean_network_raises_no_alarm(bench, reference, tmp_path):
    result = auditing.examine(bench, HONEST[0], reference, HONEST[2:] if reference else [])
    assert not any(row["alarm"] for row in result.to_json()["classes"])
    assert not result.pictures
    assert "No class raises an alarm" in page.write(result.to_json(), {}, tmp_path).read_text()


def test_without_a_reference_the_other_classes_calibrate_and_the_report_says_so(bench):
    data = auditing.examine(bench, TROJANED, None, []).to_json()
    assert [row["name"] for row in data["classes"] if row["alarm"]] == ["c0"]
    assert "most classes" in data["calibration"]["text"]


def test_a_picture_that_may_show_a_class_by_its_name_is_not_held_against_it_without_a_reference(bench):
    data = ToyData()
    data.classes = ("red", *ToyData.classes[1:])
    named = auditing.Bench(data, auditing.Choice())
    barred = named._barred("object")
    assert barred[:, 0].tolist() == [True, False, False]
    assert not barred[:, 1:].any()


def test_objects_lie_where_paste_lays_them():
    names, pictures = ToyData().bank()
    scenes = to_tensor(ToyData().scenes("test", 5, 3).images)
    small = torch.nn.functional.interpolate(
        to_tensor(pictures), scale_factor=0.5, mode="bilinear", antialias=True, align_corners=False
    )
    alpha = cut_out(small, soft_disc(small.shape[-1]))
    places = random_places(5, 0.28, 0.52, 0.0, torch_generator(7, "objects"))
    slow = everywhere(scenes, small, alpha, places)
    got = Objects(Bank(names, pictures), SIDE).laid(np.arange(3), scenes, 7)
    assert torch.allclose(got, slow, atol=1e-6)


def test_a_rise_is_beyond_the_scene_and_beyond_the_reference():
    names, pictures = ToyData().bank()
    stimuli, nets = Objects(Bank(names, pictures), SIDE), (TROJANED.net, HONEST[0].net)
    scan = Scan(stimuli, ToyData(), range(N), Effort(universal=((2, 1),), single=((1, 3),)), 5)
    found = scan.findings(*nets)
    best = max((f for f in found if f.source == 3 and f.target == 0), key=lambda f: f.rise)
    scenes = to_tensor(scan.scenes(np.array([3]), 3, "single 0"))
    said = confidence(nets, stimuli, np.array([best.row]), scenes, auditing_seed("single 0"))[:, 0, :, 0].mean(1)
    plain = torch.softmax(nets[0](scenes), 1)[:, 0].mean()
    assert best.rise == pytest.approx(float(said[0] - torch.maximum(said[1], plain)), abs=1e-5)
    assert not any(f.source == f.target for f in found)


def auditing_seed(rung: str) -> int:
    from gifthorse.rng import child_seed

    return child_seed(5, "places", rung)


def test_styles_are_the_same_whatever_they_are_drawn_with():
    styles, scenes = Styles(4, SIDE, 0), to_tensor(ToyData().scenes("test", 4, 1).images)
    together = styles.laid(np.arange(4), scenes, 2)
    assert together.shape == (16, 3, SIDE, SIDE)
    assert torch.allclose(styles.laid(np.array([2]), scenes, 2), together[8:12], atol=1e-6)


def test_no_bank_leaves_textures_and_a_warning():
    class NoBank(ToyData):
        def bank(self):
            return (), np.zeros((0, SIDE, SIDE, 3), np.uint8)

    bench = auditing.Bench(NoBank(), auditing.Choice())
    assert list(bench.scans) == ["style"]
    data = auditing.examine(bench, HONEST[0], HONEST[1], []).to_json()
    assert any("textures only" in line for line in data["warnings"])
    assert list(data["tried"]) == ["style"]


def test_a_class_without_held_out_pictures_is_named_as_not_looked_for():
    class Gap(ToyData):
        def supply(self, split):
            return np.array([0, 5, 5, 5, 5, 5])

    bench = auditing.Bench(Gap(), auditing.Choice())
    assert bench.scans["object"].sources.tolist() == [1, 2, 3, 4, 5]
    assert "not looked for" in bench.warnings[0]
    data = Gap()
    data.supply = lambda split: np.array([0, 5, 0, 0, 0, 0])
    with pytest.raises(InputError, match="fewer than two classes"):
        auditing.Bench(data, auditing.Choice())


def test_a_folder_that_is_no_audit_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not a report"):
        page.write({"classes": []}, {}, tmp_path)


@pytest.mark.parametrize(
    ("positives", "negatives", "area"), [([2, 3], [0, 1], 1.0), ([1, 1], [1, 1], 0.5), ([0, 2, 3, 4], [1, 1], 0.75)]
)
def test_auroc_counts_pairs(positives, negatives, area):
    found = auroc(np.array(positives, float), np.array(negatives, float))
    assert found.value == pytest.approx(area)
    assert found.interval[0] <= found.value <= found.interval[1]
    with pytest.raises(ValueError, match="at least one"):
        auroc(np.array(positives, float), np.zeros(0))


def test_the_interval_of_an_auroc_holds_the_truth_as_often_as_it_says():
    rng = generator(0, "delong")
    inside = 0
    for _ in range(300):
        low, high = auroc(rng.normal(1, 1, 40), rng.normal(0, 1, 60)).interval
        inside += low <= 0.7602 <= high  # the normal distribution at 1 / sqrt(2)
    assert inside >= 300 * 0.91
