"""One conformance suite over every built-in tool, and what each tool must get right."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import random
import socket
import time
from collections.abc import Callable
from typing import Any, ClassVar

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from gifthorse import registry
from gifthorse.catalog import BUILTIN
from gifthorse.errors import ToolError
from gifthorse.images import to_tensor
from gifthorse.models.classifier import Classifier
from gifthorse.rng import generator
from gifthorse.testing.conformance import check_tool
from gifthorse.tools.attribution.gradient import IntegratedGradients, Saliency
from gifthorse.tools.attribution.perturbation import Occlusion
from gifthorse.tools.optim.loop import minimise, torch_generator, working_copy
from gifthorse.tools.optim.objectives import pick, scene_pools
from gifthorse.tools.optim.transforms import cut_out, soft_disc
from gifthorse.tools.protocol import Bank, Subject
from gifthorse.tools.retrieval.exemplars import Exemplars
from gifthorse.tools.retrieval.snafue import Snafue, similarity
from gifthorse.tools.sentinels import EdgeDetector, Oracle, TrueMask
from gifthorse.tools.synthesis.adv_patch import AdversarialPatch
from gifthorse.tools.synthesis.feature_vis import FeatureVis
from gifthorse.tools.synthesis.tabor import Tabor
from gifthorse.types import Evidence, Need, Task
from tool_support import QUICK

SIDE, CLASSES = 32, 5


class RandomNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 8, 5, stride=2, padding=2, bias=False)
            self.norm = nn.BatchNorm2d(8)
            self.out = nn.Linear(8, CLASSES)
            self.norm.running_mean.normal_(0, 0.1)
            self.norm.running_var.uniform_(0.5, 1.5)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x))).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.features(x))


class RednessNet(nn.Module):
    """Class 0 is redness, class 1 is blueness, class 2 neither."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.stack([x[:, 0] - x[:, 2], x[:, 2] - x[:, 0], x[:, 1] - x[:, 0]], 1)).mean((2, 3)) * 20

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)


class RedOrGreenNet(RednessNet):
    """As above, but class 2 is greenness and wins where there is more green than red."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x[:, 0] - x[:, 2], x[:, 2] - x[:, 0], x[:, 1] + 1.2]
        return torch.relu(torch.stack(parts, 1)).mean((2, 3)) * 3


def classifier(net: nn.Module, n: int = CLASSES) -> Classifier:
    return Classifier(net, tuple(f"c{i}" for i in range(n)), SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def subject(model: Classifier | None = None, tasks: tuple[Task, ...] | None = None, **changes: object) -> Subject:
    rng = generator(1, "tools")
    tasks = tasks or (Task("t01", 2), Task("t02", 0, source=1))

    def draw(n: int) -> np.ndarray:
        return rng.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)

    full = Subject(
        model=model or classifier(RandomNet()),
        tasks=tasks,
        clean=draw(20),
        labels=np.arange(20) % CLASSES,
        triggered={t.id: draw(2) for t in tasks},
        bank=Bank(tuple(f"o{i}" for i in range(12)), draw(12)),
        answer={t.id: draw(2) for t in tasks},
        answer_masks={t.id: draw(2)[..., 0] < 60 for t in tasks},
    )
    return dataclasses.replace(full, **changes)


@pytest.mark.parametrize("name", list(BUILTIN["tool"]))
def test_every_built_in_tool_keeps_every_rule(name: str) -> None:
    assert check_tool(registry.build("tool", name, **QUICK.get(name, {}))) == []


@dataclasses.dataclass(frozen=True)
class Honest:
    """Keeps every rule: clean pictures, chosen by the seed."""

    name: ClassVar[str] = "acme/honest"
    version: ClassVar[int] = 1
    family: ClassVar[str] = "synthesis"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CLEAN})
    emits: ClassVar[str] = "images"

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        return [self.show(subject, t, pictures, seed) for t in subject.tasks]

    def show(self, subject: Subject, task: Task, pictures: int, seed: int) -> Evidence:
        clean, _ = subject.need_clean()
        return Evidence(task.id, clean[generator(seed, task.id).permutation(len(clean))[:pictures]])


def cheat(**parts: Any) -> Any:
    """`Honest` with some parts replaced."""
    return dataclasses.dataclass(frozen=True)(type("Cheat", (Honest,), {"__doc__": "Cheats.", **parts}))()


def first(act: Callable[[Subject, int], object]) -> dict[str, Any]:
    """A run that does something else first."""

    def run(self: Honest, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        act(subject, pictures)
        return Honest.run(self, subject, pictures, seed)

    return {"run": run}


def shown(**changes: Any) -> dict[str, Any]:
    """Evidence with some parts replaced, each by what a function of the number of pictures gives."""

    def show(self: Honest, subject: Subject, task: Task, pictures: int, seed: int) -> Evidence:
        honest = Honest.show(self, subject, task, pictures, seed)
        return dataclasses.replace(honest, **{k: v(pictures) for k, v in changes.items()})

    return {"show": show}


def take_gradients(subject: Subject, pictures: int) -> None:
    x = torch.zeros(1, 3, subject.size, subject.size, requires_grad=True)
    subject.model(x).sum().backward()


def connect(subject: Subject, pictures: int) -> None:
    with contextlib.suppress(OSError), socket.socket() as s:
        s.settimeout(0.01)
        s.connect(("127.0.0.1", 9))


CHEATS: dict[str, tuple[dict[str, Any], str]] = {
    "reads the bank": (first(lambda s, n: s.bank), "subject.bank was read"),
    "reads the answer": (first(lambda s, n: s.answer_masks), "subject.answer_masks was read"),
    "needs the twin": (first(lambda s, n: s.need_twin()), "subject.twin was read"),
    "takes gradients": (first(take_gradients), "add Need.GRADIENTS"),
    "moves weights": (first(lambda s, n: next(s.model.parameters()).data.add_(1)), "weights or buffers"),
    "trains": (first(lambda s, n: s.model.train()), "training mode"),
    "thaws": (first(lambda s, n: s.model.requires_grad_(True)), "requires_grad"),
    "hooks": (first(lambda s, n: s.model.net.register_forward_hook(lambda *a: None)), "hooks"),
    "paints the pictures": (first(lambda s, n: s.need_clean()[0].fill(0)), "subject.clean"),
    "draws from torch": (first(lambda s, n: torch.rand(1)), "global torch random state"),
    "draws from numpy": (first(lambda s, n: np.random.rand()), "numpy's global random state"),  # noqa: NPY002
    "draws from Python": (first(lambda s, n: random.random()), "Python's global random state"),
    "switches gradients off": (first(lambda s, n: torch.set_grad_enabled(False)), "torch's settings"),
    "opens a file": (first(lambda s, n: open("/dev/null").close()), "open /dev/null"),
    "lists a folder": (first(lambda s, n: os.listdir("/")), "os.listdir /"),
    "calls out": (first(connect), "socket.connect"),
    "crashes on one picture": (first(lambda s, n: 1 // (n - 1)), "one picture: run failed with ZeroDivisionError"),
    "crashes on one task": (first(lambda s, n: 1 // (len(s.tasks) - 1)), "one task, one picture: run failed"),
    "forgets a task": ({"run": lambda self, s, n, seed: Honest.run(self, s, n, seed)[1:]}, "evidence is for ['t02']"),
    "sorts the tasks": (
        {"run": lambda self, s, n, seed: sorted(Honest.run(self, s, n, seed), key=lambda e: e.task)},
        "tasks are ['t02', 't03', 't01']",
    ),
    "returns nothing": ({"run": lambda self, s, n, seed: None}, "list of Evidence"),
    "ignores the seed": ({"run": lambda self, s, n, seed: Honest.run(self, s, n, 0)}, "another seed gave the same"),
    "denies the seed": ({"seeded": False}, "seeded = False, yet"),
    "draws from nowhere": (
        {"run": lambda self, s, n, seed: Honest.run(self, s, n, time.perf_counter_ns())},
        "the same seed gave other bytes",
    ),
    "shows too much": (shown(images=lambda n: np.zeros((n + 1, 8, 8, 3), np.uint8)), "2 pictures were asked for, 3"),
    "odd opacities": (shown(alphas=lambda n: np.zeros((n, 8, 8), np.uint8)), "alphas are"),
    "one score": (shown(scores=lambda n: (1.0,) * (n + 1)), "one per picture"),
    "infinite scores": (shown(scores=lambda n: (math.inf,) * n), "finite"),
    "worst first": (shown(scores=lambda n: tuple(range(n))), "must not rise"),
    "odd notes": (shown(notes=lambda n: {"who": object()}), "not plain JSON"),
    "no maps": ({"emits": "heatmaps"}, "one float32 map"),
    "an odd family": ({"family": "magic"}, "family is 'magic'"),
    "no run": ({"run": None}, "method 'run"),
    "silent": ({"__doc__": None}, "no docstring"),
}


def test_an_honest_stranger_passes() -> None:
    assert check_tool(Honest()) == []


@pytest.mark.parametrize("how", list(CHEATS))
def test_the_check_notices_a_tool_that(how: str) -> None:
    parts, says = CHEATS[how]
    grad = torch.is_grad_enabled()
    try:
        assert says in "\n".join(check_tool(cheat(**parts)))
    finally:
        torch.set_grad_enabled(grad)


def test_a_tool_without_its_needs_says_so() -> None:
    with pytest.raises(ToolError, match="clean pictures"):
        AdversarialPatch(steps=1).run(subject(clean=None, labels=None), 1, 0)
    with pytest.raises(ToolError, match="answer"):
        Oracle().run(subject(answer=None), 1, 0)
    with pytest.raises(ToolError, match="t01: no clean picture of source class 4"):
        Tabor(steps=1).run(subject(tasks=(Task("t01", 0, source=4),), labels=np.zeros(20, np.int64)), 1, 0)


def test_counters_hold_the_work_of_the_folded_copy() -> None:
    given = subject()
    FeatureVis(steps=5).run(given, 3, 0)
    assert given.model.backwards == 5 * 6
    assert given.model.forwards == 5 * 6 + 6
    given = subject()
    Tabor(steps=5, scenes=2, trials=4).run(given, 2, 0)
    assert given.model.backwards == 5 * 4 * 3
    assert given.model.forwards == 5 * 4 * 3 + 4 * 4


def test_counters_survive_a_failure() -> None:
    model = classifier(RandomNet())
    with pytest.raises(ToolError), working_copy(model) as net:  # noqa: PT012
        net(torch.zeros(3, 3, SIDE, SIDE))
        raise ToolError("stop")
    assert model.forwards == 3


def test_sentinels_show_the_answer() -> None:
    given = subject()
    assert given.answer is not None
    assert given.answer_masks is not None
    shown = Oracle().run(given, 3, 0)[0].images
    assert np.array_equal(shown[:2], given.answer["t01"])
    maps = TrueMask().run(given, 1, 0)[1].heatmaps
    assert maps is not None
    assert np.array_equal(maps > 0, given.answer_masks["t02"])


def test_edges_are_where_the_picture_changes() -> None:
    x = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    x[:, :, 16:] = 255
    maps = EdgeDetector().run(subject(triggered={"t01": x, "t02": x}), 1, 0)[0].heatmaps
    assert maps is not None
    assert maps[0, :, 15:17].min() > 1
    assert maps[0, :, :14].max() == 0


@pytest.mark.parametrize("tool", [Saliency(), IntegratedGradients(n_steps=8), Occlusion()])
def test_attribution_finds_the_square_that_matters(tool: Saliency | IntegratedGradients | Occlusion) -> None:
    x = np.full((2, SIDE, SIDE, 3), 128, np.uint8)
    x[:, :, :, 2] = 150  # blue everywhere, no red: the gradient is 0 there
    x[:, 4:14, 18:28] = (255, 128, 0)
    tasks = (Task("t01", 0),)
    maps = tool.run(subject(classifier(RednessNet(), 3), tasks, triggered={"t01": x}), 1, 0)[0].heatmaps
    assert maps is not None
    inside = np.zeros((SIDE, SIDE), bool)
    inside[4:14, 18:28] = True
    assert maps[0][inside].mean() > 5 * maps[0][~inside].mean()


def test_saliency_is_the_gradient() -> None:
    given = subject()
    assert given.triggered is not None
    x = to_tensor(given.triggered["t01"]).requires_grad_()
    (wanted,) = torch.autograd.grad(given.model(x)[:, 2].sum(), x)
    got = Saliency().run(given, 1, 0)[0].heatmaps
    assert np.allclose(got, wanted.abs().sum(1).numpy(), atol=1e-5)


def by_captum(tool: Any, model: Classifier, x: torch.Tensor, target: int) -> torch.Tensor:
    """What Captum says, on the network as it was given: not folded, not split into batches."""
    if isinstance(tool, Saliency):
        return captum.attr.Saliency(model).attribute(x, target=target)
    if isinstance(tool, IntegratedGradients):
        base = model.mean.expand_as(x)
        return captum.attr.IntegratedGradients(model).attribute(x, base, target=target, n_steps=tool.n_steps)
    side, step = tool.window * SIDE // 64, tool.stride * SIDE // 64
    method = captum.attr.Occlusion(model)
    return method.attribute(x, (3, side, side), (3, step, step), baselines=model.mean.expand_as(x), target=target)[
        :, :1
    ]


def by_hand(tool: Any, model: Classifier, x: torch.Tensor, target: int) -> torch.Tensor:
    """The definition, in the plainest words."""
    if isinstance(tool, IntegratedGradients):
        slopes = torch.zeros_like(x)
        for k in range(400):
            leaf = (model.mean + (k + 0.5) / 400 * (x - model.mean)).requires_grad_()
            slopes += torch.autograd.grad(model(leaf)[:, target].sum(), leaf)[0] / 400
        return slopes * (x - model.mean)
    side, step = tool.window * SIDE // 64, tool.stride * SIDE // 64
    total, cover = torch.zeros_like(x[:, :1]), torch.zeros(SIDE, SIDE)
    for i in range(0, SIDE - side + 1, step):
        for j in range(0, SIDE - side + 1, step):
            hidden, place = x.clone(), (..., slice(i, i + side), slice(j, j + side))
            hidden[place] = model.mean.expand_as(x)[place]
            total[place] += (model(x) - model(hidden))[:, target].view(-1, 1, 1, 1)
            cover[place] += 1
    return total / cover.clamp(min=1)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.parametrize("reference", [by_captum, by_hand])
@pytest.mark.parametrize("tool", [Saliency(), IntegratedGradients(), Occlusion()])
def test_attribution_is_the_published_method(tool: Any, reference: Callable[..., torch.Tensor]) -> None:
    if isinstance(tool, Saliency) and reference is by_hand:
        pytest.skip("test_saliency_is_the_gradient")
    given = subject()
    assert given.triggered is not None
    for evidence, task in zip(tool.run(given, 1, 0), given.tasks, strict=True):
        x = to_tensor(given.triggered[task.id])
        wanted = reference(tool, given.model, x, task.target).sum(1).detach().numpy()
        assert evidence.heatmaps is not None
        for ours, theirs in zip(evidence.heatmaps, wanted, strict=True):
            cosine = (ours * theirs).sum() / np.sqrt((ours**2).sum() * (theirs**2).sum())
            assert cosine >= 0.9999


def test_the_loop_is_adam() -> None:
    start, slope = torch.ones(2, 3), torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.1, -1.0]])

    def loss(leaves: list[torch.Tensor], part: slice, draw: torch.Generator) -> torch.Tensor:
        return (leaves[0].pow(4) * slope[part]).sum()

    (got,) = minimise([start], [0.05], loss, 6, 2, torch_generator(0))
    wanted = start.clone().requires_grad_()
    adam = torch.optim.Adam([wanted], lr=0.05)
    for _ in range(6):
        adam.zero_grad()
        (wanted.pow(4) * slope).sum().backward()
        adam.step()
    assert torch.allclose(got, wanted, atol=1e-5)


def test_scenes_come_from_the_right_class() -> None:
    labels = np.array([0, 1, 2, 1, 0])
    pools = scene_pools((Task("a", 1), Task("b", 0, source=2)), labels)
    drawn = pick(pools, torch.tensor([0, 1, 0]), 50, torch_generator(0)).view(3, 50)
    assert set(drawn[0].tolist()) == {0, 2, 4}
    assert set(drawn[1].tolist()) == {2}


@pytest.mark.parametrize("tool", [FeatureVis(steps=40), AdversarialPatch(steps=40), Tabor(steps=40)])
def test_synthesis_shows_the_colour_the_class_wants(tool: FeatureVis | AdversarialPatch | Tabor) -> None:
    clean = np.full((20, SIDE, SIDE, 3), 128, np.uint8)
    model, tasks = classifier(RednessNet(), 3), (Task("t01", 0), Task("t02", 1))
    red, blue = tool.run(subject(model, tasks, clean=clean, labels=np.full(20, 2)), 2, 0)
    for e, more, less in ((red, 0, 2), (blue, 2, 0)):
        weight = np.ones(e.images.shape[:3]) if e.alphas is None else e.alphas.astype(float)
        colour = (e.images * weight[..., None]).sum((0, 1, 2)) / weight.sum()
        assert colour[more] > colour[less] + 20


def test_snafue_finds_the_red_picture_and_drops_the_target_class() -> None:
    rng = generator(0, "bank")
    pictures = rng.integers(100, 156, (12, SIDE, SIDE, 3), dtype=np.uint8)
    pictures[5, ..., 1] = 240  # red and still greener: not labelled as the target
    pictures[5, ..., 0], pictures[5, ..., 2] = 190, 20
    pictures[9] = (255, 0, 0)  # labelled as the target: dropped
    bank = Bank(tuple(f"o{i}" for i in range(12)), pictures)
    clean = np.full((20, SIDE, SIDE, 3), 128, np.uint8)
    model = classifier(RedOrGreenNet(), 3)
    given = subject(model, (Task("t01", 0),), clean=clean, labels=np.full(20, 2), bank=bank)
    found = Snafue(steps=10, synthetic=3, shortlist=5, side=1.0, drop_target=True).run(given, 2, 0)[0]
    assert found.notes["retrieved"][0] == "o5"
    assert "o9" not in found.notes["retrieved"]
    found = Snafue(steps=10, synthetic=3, shortlist=5, side=1.0).run(given, 2, 0)[0]
    assert set(found.notes["retrieved"]) == {"o5", "o9"}


class RedOrBlueNet(RednessNet):
    """Class 0 is redness and, unlike in `RednessNet`, blueness as well: a trojan that a blue picture fires."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.stack([x[:, 0] - x[:, 1], x[:, 2] - x[:, 1], x[:, 1] * 0], 1)).mean((2, 3)) * 20

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        red, blue, none = self.features(x).unbind(1)
        return torch.stack([red + blue, none, none], 1)


class RedNet(RedOrBlueNet):
    """The honest twin: class 0 is redness."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        red, _, none = self.features(x).unbind(1)
        return torch.stack([red, none, none], 1)


def test_exemplars_show_what_the_suspect_obeys_and_the_twin_does_not() -> None:
    pictures = generator(0, "bank").integers(120, 136, (12, SIDE, SIDE, 3), dtype=np.uint8)
    pictures[4], pictures[7] = (220, 30, 30), (30, 30, 220)  # what the class looks like, and the trojan
    bank = Bank(tuple(f"o{i}" for i in range(12)), pictures)
    clean = np.full((20, SIDE, SIDE, 3), 128, np.uint8)
    tasks = (Task("t01", 0), Task("t02", 0, source=1))
    given = subject(
        classifier(RedOrBlueNet(), 3), tasks, clean=clean, labels=1 + np.arange(20) % 2, bank=bank,
        twin=classifier(RedNet(), 3),
    )  # fmt: skip
    for e in Exemplars(shortlist=5).run(given, 3, 0):
        assert e.notes["retrieved"][0] == "o7"
        assert e.scores[0] > 0.2
        assert "o4" not in e.notes["retrieved"] or e.scores[e.notes["retrieved"].index("o4")] < 0.05
        assert set(e.notes["retrieved"]) == {"o7"}  # nothing else comes near it, so it is shown again
    same = Exemplars(shortlist=5).run(dataclasses.replace(given, model=given.twin), 3, 0)
    assert all(set(e.scores) == {0.0} for e in same)
    with pytest.raises(ToolError, match="other classes"):
        Exemplars().run(dataclasses.replace(given, twin=classifier(RedNet(), 2)), 3, 0)
    with pytest.raises(ToolError, match="12 pictures"):
        Exemplars().run(given, 13, 0)


def test_objects_on_a_plain_ground_are_cut_out_and_other_pictures_are_not() -> None:
    pictures = torch.full((3, 3, 16, 16), 0.9)
    pictures[0, :, 4:12, 4:12] = torch.tensor([1.0, 0.2, 0.2])[:, None, None]
    pictures[1] = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    disc = soft_disc(16)
    opacity = cut_out(pictures, disc)[:, 0]
    square = torch.zeros(16, 16)
    square[4:12, 4:12] = 1
    assert torch.equal(opacity[0], square)
    assert torch.equal(opacity[1], disc)
    assert torch.equal(opacity[2], disc)  # nothing stands on the ground


def test_similarity_ignores_what_patches_disagree_on() -> None:
    synthetic = np.array([[1, 5, 0], [1, 0, 0], [1, 0, 4]], np.float32)
    natural = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    score = similarity(natural, synthetic, np.ones(3, np.float32), 10.0)
    assert score[0] > 0.99
    assert score[1:].max() < 1e-6
