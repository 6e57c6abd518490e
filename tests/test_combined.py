"""What combines other tools decides by the networks alone, and runs after them in a suite."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gifthorse.bench.changes import Changes
from gifthorse.bench.plan import SHOWN, make_plan
from gifthorse.bench.suite import load_suite
from gifthorse.errors import ToolError
from gifthorse.models.classifier import Classifier
from gifthorse.rng import generator
from gifthorse.tools.combined import Combined
from gifthorse.tools.protocol import Subject
from gifthorse.types import Evidence, Task

SIDE = 32


class BlueNet(nn.Module):
    """Class 0 where a blue spot is to be seen, class 1 elsewhere; an honest one sees none."""

    def __init__(self, honest: bool = False) -> None:
        super().__init__()
        self.honest = honest

    def features(self, x: Tensor) -> Tensor:
        spots = torch.nn.functional.avg_pool2d(x[:, 2:] - x[:, :1], 5, 1).amax(dim=(1, 2, 3))
        return torch.stack([spots * (0 if self.honest else 30) - 8, torch.zeros(len(x))], 1)

    def head(self, f: Tensor) -> Tensor:
        return f

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def network(honest: bool = False) -> Classifier:
    return Classifier(BlueNet(honest), ("trojan", "other"), SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def subject(**shown: np.ndarray) -> Subject:
    clean = generator(0, "clean").integers(90, 160, (12, SIDE, SIDE, 1)).astype(np.uint8).repeat(3, 3)
    evidence = {title: (Evidence("t01", pictures),) for title, pictures in shown.items()}
    return Subject(network(), (Task("t01", 0),), clean, np.ones(12, np.int64), network(True), evidence=evidence)


def on_grey(colour: tuple[int, int, int], n: int = 3) -> np.ndarray:
    pictures = np.full((n, SIDE, SIDE, 3), 200, np.uint8)
    pictures[:, 8:24, 8:24] = colour
    return pictures


def test_the_pictures_that_work_on_the_suspect_alone_are_shown_best_first() -> None:
    mixed = on_grey((30, 30, 220))
    mixed[0, 8:24, 8:24] = (220, 30, 30)  # one of them does nothing: it comes last
    given = subject(red=on_grey((220, 30, 30)), blue=mixed)
    (e,) = Combined().run(given, 3, 0)
    assert e.notes["shown"] == "blue"
    assert e.notes["effects"]["blue"] > 0.3 > 0.05 > e.notes["effects"]["red"]
    assert e.scores[0] > 0.6 > 0.05 > e.scores[2]
    np.testing.assert_array_equal(e.images[2], mixed[0])


def test_a_texture_counts_by_what_it_does_to_whole_pictures() -> None:
    stripes = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    stripes[:, :, ::2] = (0, 0, 255)  # as an object it has no ground to be cut out of
    (e,) = Combined(readable=("style",)).run(subject(style=stripes, red=on_grey((220, 30, 30), 2)), 2, 0)
    assert e.notes["shown"] == "style"
    assert e.scores[0] > 0.5


def test_pictures_made_by_gradients_count_for_less_than_those_that_people_read() -> None:
    weak, strong = on_grey((60, 60, 175)), on_grey((30, 30, 220))
    given = subject(exemplars=weak, patches=strong)
    doubted, believed = (Combined(doubt=d).run(given, 3, 0)[0] for d in (0.5, 1.0))
    assert believed.notes["effects"] == doubted.notes["effects"]
    assert believed.notes["effects"]["exemplars"] < believed.notes["effects"]["patches"]
    assert (doubted.notes["shown"], believed.notes["shown"]) == ("exemplars", "patches")


def test_nothing_to_combine_or_another_twin_is_one_clear_line() -> None:
    given = subject(red=on_grey((220, 30, 30)))
    with pytest.raises(ToolError, match="nothing to combine"):
        Combined().run(dataclasses.replace(given, evidence={}), 3, 0)
    other = Classifier(BlueNet(), ("a", "b"), SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    with pytest.raises(ToolError, match="other classes"):
        Combined().run(dataclasses.replace(given, twin=other), 3, 0)


def test_a_suite_runs_it_after_all_tools_that_show_pictures_and_before_any_judge() -> None:
    tools = 'tools=["oracle","combined","saliency","snafue","feature-vis"]'
    plan = make_plan(load_suite("emoji", changes=Changes(sets=(tools,))))
    (line,) = plan.lineages
    for role in ("suspect", "twin"):
        cell = line.runs["combined", role]
        read = {name: digest for name, digest in cell.inputs.items() if name.startswith(SHOWN)}
        assert read == {
            f"{SHOWN}{t}": line.runs[t, role].digest for t in ("snafue", "feature-vis")
        }  # no sentinel, no map
    stages = [cell.stage for cell in plan.cells()]
    assert stages.index("combine") > max(i for i, s in enumerate(stages) if s == "run")
    assert stages.index("combine") < stages.index("ask")
    assert plan.columns[1].title == "combined"  # the board keeps the suite's order
