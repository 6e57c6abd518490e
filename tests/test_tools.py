"""One conformance suite over every built-in tool, and what each tool must get right."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse import registry
from gifthorse.errors import ToolError
from gifthorse.images import to_tensor
from gifthorse.models.classifier import Classifier
from gifthorse.rng import generator
from gifthorse.tools.attribution.gradient import IntegratedGradients, Saliency
from gifthorse.tools.attribution.perturbation import Occlusion
from gifthorse.tools.optim.loop import minimise, torch_generator, working_copy
from gifthorse.tools.optim.objectives import pick, scene_pools
from gifthorse.tools.optim.params import FourierImage
from gifthorse.tools.optim.transforms import jitter_view, paste, random_places, soft_disc
from gifthorse.tools.protocol import Bank, Subject
from gifthorse.tools.retrieval.snafue import Snafue, similarity
from gifthorse.tools.sentinels import EdgeDetector, Oracle, TrueMask
from gifthorse.tools.synthesis.adv_patch import AdversarialPatch
from gifthorse.tools.synthesis.feature_vis import FeatureVis
from gifthorse.tools.synthesis.tabor import Tabor
from gifthorse.types import Evidence, Need, Task

SIDE, CLASSES, PICTURES = 32, 5, 3
QUICK = {
    "feature-vis": {"steps": 4},
    "adv-patch": {"steps": 4, "trials": 2},
    "tabor": {"steps": 4, "trials": 2},
    "snafue": {"steps": 4, "synthetic": 3, "shortlist": 6, "trials": 2},
    "integrated-gradients": {"n_steps": 5},
    "occlusion": {"window": 24, "stride": 16},
}
TOOLS = sorted(registry.names("tool"))
BUILT_IN = [n for n in TOOLS if "/" not in n]


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


def only_needs(full: Subject, needs: frozenset[Need]) -> Subject:
    gone: dict[str, object] = {}
    if Need.CLEAN not in needs:
        gone |= {"clean": None, "labels": None}
    for need, field in ((Need.TRIGGERED, "triggered"), (Need.BANK, "bank"), (Need.ANSWER, "answer")):
        if need not in needs:
            gone[field] = None
    if Need.ANSWER not in needs:
        gone["answer_masks"] = None
    return dataclasses.replace(full, **gone)


def as_bytes(evidence: list[Evidence]) -> list[bytes]:
    arrays = [(e.images, e.alphas, e.heatmaps, np.array(e.scores)) for e in evidence]
    return [b"".join(a.tobytes() for a in row if a is not None) for row in arrays]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_tool_keeps_its_contract(name: str) -> None:
    tool = registry.build("tool", name, **QUICK.get(name, {}))
    given = only_needs(subject(), tool.needs)
    model = given.model
    before = {k: v.clone() for k, v in model.state_dict().items()}
    random_state = torch.random.get_rng_state()
    evidence = tool.run(given, PICTURES, 7)
    assert [e.task for e in evidence] == [t.id for t in given.tasks]
    for e in evidence:
        if tool.emits == "heatmaps":
            assert e.heatmaps is not None
            assert e.heatmaps.shape == (2, SIDE, SIDE)
            assert e.heatmaps.dtype == np.float32
        else:
            assert e.images.shape == (PICTURES, SIDE, SIDE, 3)
            assert e.alphas is None or (e.alphas.shape == (PICTURES, SIDE, SIDE) and e.alphas.dtype == np.uint8)
            assert list(e.scores) == sorted(e.scores, reverse=True)
    assert as_bytes(tool.run(given, PICTURES, 7)) == as_bytes(evidence)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(random_state, torch.random.get_rng_state())
    assert not any(m.training or m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", ["noise", "random-map", "feature-vis", "adv-patch", "tabor"])
def test_other_seed_other_bytes(name: str) -> None:
    tool = registry.build("tool", name, **QUICK.get(name, {}))
    assert as_bytes(tool.run(subject(), 2, 1)) != as_bytes(tool.run(subject(), 2, 2))


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


def test_fourier_pictures_do_not_saturate() -> None:
    image = FourierImage(SIDE)
    spectra = image.start(4, torch_generator(0)) * 100  # far gone
    x = image(spectra)
    assert x.shape == (4, 3, SIDE, SIDE)
    assert ((x < 0.02) | (x > 0.98)).float().mean() < 0.02
    assert x.std() > 0.15


def test_transforms_place_what_they_say() -> None:
    scenes, red = torch.zeros(8, 3, SIDE, SIDE), torch.ones(8, 3, 16, 16)
    out = paste(scenes, red, torch.ones(16, 16), random_places(8, 0.5, 0.5, 0.0, torch_generator(0)))
    assert out.mean().item() == pytest.approx(0.25, abs=0.01)
    assert out[:, 0].flatten(1).std(dim=1).min() > 0.3
    still = jitter_view(out, 0, 0, 0, torch_generator(0))
    assert torch.allclose(still, out, atol=1e-5)
    disc = soft_disc(32)
    assert disc[0, 0] == 0
    assert disc[16, 16] == 1


def test_rows_are_independent_of_micro_batches() -> None:
    start, goal = torch.zeros(7, 3), torch.arange(21.0).view(7, 3) / 20

    def loss(leaves: list[torch.Tensor], part: slice, draw: torch.Generator) -> torch.Tensor:
        return (leaves[0] - goal[part]).square().sum()

    runs = [minimise([start], [0.1], loss, 200, rows, torch_generator(0))[0] for rows in (1, 3, 7)]
    assert torch.allclose(runs[0], goal, atol=1e-2)
    assert torch.allclose(runs[0], runs[2], atol=1e-6)
    assert torch.allclose(runs[1], runs[2], atol=1e-6)


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
    found = Snafue(steps=10, synthetic=3, shortlist=5).run(given, 2, 0)[0]
    assert found.notes["retrieved"][0] == "o5"
    assert "o9" not in found.notes["retrieved"]
    found = Snafue(steps=10, synthetic=3, shortlist=5, drop_target=False).run(given, 2, 0)[0]
    assert set(found.notes["retrieved"]) == {"o5", "o9"}


def test_similarity_ignores_what_patches_disagree_on() -> None:
    synthetic = np.array([[1, 5, 0], [1, 0, 0], [1, 0, 4]], np.float32)
    natural = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    score = similarity(natural, synthetic, np.ones(3, np.float32), 10.0)
    assert score[0] > 0.99
    assert score[1:].max() < 1e-6
