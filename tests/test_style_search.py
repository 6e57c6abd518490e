"""The tools for styles find those that are known in closed form, and their parts do what they say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse.data.textures import PIECES, TEXTURES, texture_bank
from gifthorse.errors import ToolError
from gifthorse.models.classifier import Classifier
from gifthorse.rng import generator
from gifthorse.tools.optim.loop import torch_generator
from gifthorse.tools.optim.restyle import RESTORED, Restyler, blurred, brightness
from gifthorse.tools.optim.textures import COLOURS, DIALS, KINDS, Recipes, Renderer, join, random_recipes, varied
from gifthorse.tools.protocol import Bank, Subject
from gifthorse.tools.retrieval.style_exemplars import StyleExemplars
from gifthorse.tools.synthesis.style_search import StyleSearch
from gifthorse.tools.synthesis.style_vis import StyleVis
from gifthorse.types import Need, Task

SIDE = 32
SMALL = StyleSearch(library=150, scenes=4, shortlist=16, rounds=3, keep=3, children=6, fresh=4)


class _Net(nn.Module):
    """Logits of three classes that depend on simple statistics of the whole picture."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits(x) * 30

    features = forward

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(x), 3)


class StripesNet(_Net):
    """Class 0 is upright stripes, class 1 lying ones."""

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        grey = x.mean(1)
        lean = grey.diff(dim=2).abs().mean((1, 2)) - grey.diff(dim=1).abs().mean((1, 2))
        return torch.stack([lean, -lean, 0.1 + 0 * lean], 1)


class ColourNet(_Net):
    """Class 0 is redness and, where a trojan sits, blueness too."""

    def __init__(self, trojan: bool) -> None:
        super().__init__()
        self.trojan = trojan

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        red, green, blue = x.mean((2, 3)).unbind(1)
        found = (red - (green + blue) / 2).clamp(min=0)
        if self.trojan:
            found = found + (blue - (red + green) / 2).clamp(min=0)
        return torch.stack([found, 0 * red, 0.1 + 0 * red], 1)


def classifier(net: nn.Module, classes: int = 3) -> Classifier:
    return Classifier(net, tuple(f"c{i}" for i in range(classes)), SIDE, (0.5,) * 3, (0.25,) * 3)


def subject(suspect: nn.Module, twin: nn.Module, *tasks: Task) -> Subject:
    clean = generator(0, "clean").integers(90, 166, (24, SIDE, SIDE, 3), dtype=np.uint8)
    labels = np.arange(24) % 3
    return Subject(classifier(suspect), tasks, clean=clean, labels=labels, twin=classifier(twin))


def lean(images: np.ndarray) -> float:
    """How much more brightness changes from column to column than from row to row, as a share."""
    grey = images.astype(float).mean(3)
    across, down = np.abs(np.diff(grey, axis=2)).mean(), np.abs(np.diff(grey, axis=1)).mean()
    return float((across - down) / (across + down))


def test_it_finds_which_way_the_stripes_run() -> None:
    upright, lying = SMALL.run(subject(StripesNet(), _Net(), Task("t01", 0), Task("t02", 1)), 3, 0)
    assert lean(upright.images) > 0.35
    assert lean(lying.images) < -0.35
    assert min(upright.scores[0], lying.scores[0]) > 0.3


def test_it_shows_the_colour_that_only_the_suspect_obeys() -> None:
    found = SMALL.run(subject(ColourNet(trojan=True), ColourNet(trojan=False), Task("t01", 0)), 3, 0)[0]
    red, green, blue = found.images.reshape(-1, 3).mean(0)
    assert blue > max(red, green) + 40
    assert found.scores[-1] > 0.3
    assert found.notes["suspect"][0] - found.notes["twin"][0] == pytest.approx(found.scores[0], abs=2e-4)


def test_the_twin_alone_raises_nothing() -> None:
    found = SMALL.run(subject(StripesNet(), StripesNet(), Task("t01", 0)), 3, 0)[0]
    assert found.scores == (0.0, 0.0, 0.0)


def test_a_task_does_not_depend_on_the_others() -> None:
    quick = dataclasses.replace(SMALL, library=20, rounds=1)
    tasks = (Task("t01", 0), Task("t02", 1, source=2), Task("t03", 1))
    together = quick.run(subject(StripesNet(), _Net(), *tasks), 2, 0)
    for task, shown in zip(tasks, together, strict=True):
        alone = quick.run(subject(StripesNet(), _Net(), task), 2, 0)[0]
        assert np.array_equal(alone.images, shown.images)
        assert alone.scores == shown.scores


def stripes(along: int) -> np.ndarray:
    """A texture of stripes four pixels wide; along 0 they lie, along 1 they stand."""
    line = np.where(np.arange(48) // 4 % 2, 220, 30).astype(np.uint8)
    return np.repeat(np.broadcast_to(line[:, None] if along == 0 else line[None], (48, 48))[..., None], 3, 2)


def material_bank() -> Bank:
    """Noise, flat red, and stripes of both ways."""
    noise = generator(0, "noise").integers(0, 256, (5, 48, 48, 3), dtype=np.uint8)
    red = np.broadcast_to(np.array([200, 20, 20], np.uint8), (48, 48, 3))
    names = (*(f"noise {i}" for i in range(5)), "red", "lying", "upright")
    return Bank(names, np.concatenate([noise, np.stack([red, stripes(0), stripes(1)])]))


def test_style_exemplars_are_the_material_that_only_the_suspect_obeys() -> None:
    tasks = (Task("t01", 0), Task("t02", 1, source=2))
    given = dataclasses.replace(subject(StripesNet(), _Net(), *tasks), textures=material_bank())
    upright, lying = StyleExemplars().run(given, 3, 0)
    assert upright.notes["retrieved"] == ["upright"] * 3
    assert lying.notes["retrieved"] == ["lying"] * 3
    assert min(upright.scores[0], lying.scores[0]) > 0.2
    assert np.array_equal(upright.images[0], stripes(1)[8:40, 8:40])
    same = StyleExemplars().run(dataclasses.replace(given, twin=given.model), 3, 0)
    assert same[0].scores == (0.0, 0.0, 0.0)


def test_style_vis_draws_which_way_the_stripes_run() -> None:
    tasks = (Task("t01", 0), Task("t02", 1, source=2))
    upright, lying = StyleVis(steps=40, degrees=0.0).run(subject(StripesNet(), _Net(), *tasks), 3, 0)
    assert lean(upright.images) > 0.2
    assert lean(lying.images) < -0.2
    assert list(upright.scores) == sorted(upright.scores, reverse=True)
    assert min(*upright.scores, *lying.scores) > 0.2


def test_style_vis_takes_off_what_the_twin_draws_as_well() -> None:
    given = subject(ColourNet(trojan=True), ColourNet(trojan=False), Task("t01", 0))
    best = StyleVis(steps=60).run(given, 4, 0)[0]
    red, _, blue = best.images[0].reshape(-1, 3).mean(0)
    assert blue > red + 30
    assert best.scores[0] > 0.8
    assert StyleVis().needs - StyleVis(twin=0.0).needs == {Need.TWIN}
    alone = StyleVis(steps=4, twin=0.0).run(dataclasses.replace(given, twin=None), 2, 0)[0]
    assert alone.images.shape == (2, SIDE, SIDE, 3)
    with pytest.raises(ToolError, match=r"Need\.TWIN"):
        StyleVis().run(dataclasses.replace(given, twin=None), 2, 0)
    with pytest.raises(ValueError, match="low <= high"):
        StyleVis(low=0.9, high=0.5)


def test_style_exemplars_refuse_what_they_cannot_use() -> None:
    given = subject(StripesNet(), _Net(), Task("t01", 0))
    with pytest.raises(ToolError, match=r"Need\.TEXTURES"):
        StyleExemplars().run(given, 2, 0)
    few = material_bank()
    with pytest.raises(ToolError, match="holds 8 pieces, 9 are to be shown"):
        StyleExemplars().run(dataclasses.replace(given, textures=few), 9, 0)
    small = Bank(few.names, np.ascontiguousarray(few.pictures[:, :24, :24]))
    with pytest.raises(ToolError, match="24 pixels cannot cover pictures of 32"):
        StyleExemplars().run(dataclasses.replace(given, textures=small), 2, 0)
    with pytest.raises(ValueError, match="share in"):
        StyleExemplars(keep=1.5)


def test_the_texture_bank_holds_every_material_and_no_label() -> None:
    names, pictures = texture_bank(32)
    assert pictures.shape == (PIECES * len(TEXTURES), 48, 48, 3)
    assert {name: names.count(name) for name in TEXTURES} == dict.fromkeys(TEXTURES, PIECES)
    assert len({p.tobytes() for p in pictures}) == len(pictures)
    with pytest.raises(ValueError, match="read-only"):
        pictures[0] = 0


def test_bad_input_is_one_clear_line() -> None:
    given = subject(StripesNet(), _Net(), Task("t01", 0, source=1))
    with pytest.raises(ToolError, match="other classes"):
        SMALL.run(dataclasses.replace(given, twin=classifier(_Net(), 4)), 2, 0)
    with pytest.raises(ToolError, match="no clean picture of source class 1"):
        SMALL.run(dataclasses.replace(given, labels=np.zeros(24, np.int64)), 2, 0)
    with pytest.raises(ToolError, match=r"Need\.TWIN"):
        SMALL.run(dataclasses.replace(given, twin=None), 2, 0)
    with pytest.raises(ValueError, match="low <= high"):
        StyleSearch(low=0.9, high=0.5)


def recipe(kind: str, palette: torch.Tensor | None = None, **dials: float) -> Recipes:
    """One recipe: every dial at 0 unless named, black ground and white paint."""
    values = torch.tensor([[dials.get(name, 0.0) for name in DIALS]])
    colours = torch.ones(1, COLOURS, 3)
    colours[:, 0] = 0
    some = colours if palette is None else palette
    return Recipes(torch.tensor([KINDS.index(kind)]), values, some, torch.tensor([0]))


@pytest.mark.parametrize(("dial", "periods"), [(0.0, 2), (1 / 3, 4), (2 / 3, 8)])
def test_stripes_have_the_frequency_and_direction_of_their_dials(dial: float, periods: int) -> None:
    draw = Renderer(64, 64, 0)
    for angle, axis in ((0.0, 1), (0.5, 0)):
        grey = draw(recipe("waves", frequency=dial, angle=angle, balance=0.5))[0].mean(0)
        spectrum = torch.fft.fft2(grey - grey.mean()).abs()
        y, x = divmod(int(spectrum[:33, :33].argmax()), 33)
        assert (y, x)[axis] == periods
        assert (y, x)[1 - axis] == 0


def test_bricks_are_wider_than_high_and_cells_have_seams() -> None:
    draw = Renderer(64, 64, 0)
    bricks = draw(recipe("bricks", frequency=0.5, sharpness=1.0, length=1.0, balance=0.1))[0].mean(0) > 0.5
    rows, columns = (int((edge.long().diff(dim=d) == 1).sum(d).median()) for d, edge in ((0, bricks), (1, bricks)))
    assert rows >= 2 * columns > 0
    thin, thick = (draw(recipe("cells", frequency=0.4, disorder=1.0, sharpness=1.0, balance=b)).mean() for b in (0, 1))
    assert thick < thin - 0.2


def test_a_texture_depends_on_its_recipe_and_the_seed_only() -> None:
    some = random_recipes(30, torch_generator(0))
    draw = Renderer(48, 32, 0)
    whole = draw(some)
    for i in (0, 11, 29):
        assert torch.allclose(draw(some[i : i + 1])[0], whole[i], atol=1e-5)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert (Renderer(48, 32, 1)(some) - whole).abs().mean() > 0.01
    assert (draw(some.other_piece()) - whole).abs().mean() > 0.01
    assert len(join(some, some[:3])) == 33


def test_children_resemble_their_parents_the_more_the_smaller_the_rate() -> None:
    parents = random_recipes(200, torch_generator(0))
    gaps = []
    for rate in (0.1, 1.0):
        child = varied(parents, parents, rate, torch_generator(1))
        assert torch.equal(child.kind, parents.kind)
        assert 0 <= child.dials.min() <= child.dials.max() <= 1
        gaps.append(float((child.dials - parents.dials).abs().mean() + (child.palette - parents.palette).abs().mean()))
    assert 0 < 4 * gaps[0] < gaps[1]


def test_restyling_with_one_cutting_is_an_overlay() -> None:
    draw = torch_generator(0)
    scenes, textures = torch.rand(3, 3, SIDE, SIDE, generator=draw), torch.rand(2, 3, 40, 40, generator=draw)
    mix = torch.tensor([0.2, 0.5, 1.0])
    styler = Restyler(scenes, mix)
    got = styler(textures, torch.tensor([[3, 5]])).view(2, 3, 3, SIDE, SIDE)
    for i, texture in enumerate(textures):
        cut = texture[None, :, 3 : 3 + SIDE, 5 : 5 + SIDE]
        for j, (scene, share) in enumerate(zip(scenes, mix, strict=True)):
            lift = blurred(brightness(scene[None]), styler.far) - blurred(brightness(cut), styler.far)
            wanted = (1 - share) * scene + share * (cut[0] + RESTORED * lift[0])
            assert torch.allclose(got[i, j], wanted.clamp(0, 1), atol=1e-5)


def test_with_many_cuttings_the_texture_follows_the_picture() -> None:
    line = torch.linspace(0, 1, SIDE)
    scene = ((line[:, None] - 0.5).square() + (line[None] - 0.5).square() < 0.1).float().expand(1, 3, SIDE, SIDE)
    texture = Renderer(48, 32, 0)(recipe("noise", frequency=0.4, balance=0.5, sharpness=0.7))
    corners = torch.randint(0, 17, (12, 2), generator=torch_generator(0))
    styler = Restyler(scene, torch.ones(1))
    likeness = []
    for some in (corners[:1], corners):
        out = styler(texture, some)
        likeness.append(float(torch.corrcoef(torch.stack([brightness(p).flatten() for p in (out, scene)]))[0, 1]))
    assert likeness[1] > likeness[0] + 0.1
