"""Denoising priors, and the tools that came with them: DISTIL and the competition's tuned generator."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse import registry
from gifthorse.errors import InputError, MissingResource, ToolError
from gifthorse.models import diffusion
from gifthorse.models.diffusion import DiffusersPrior, from_folder, levels, sampled
from gifthorse.models.generator import ConvGenerator, GeneratorRecipe
from gifthorse.tools.synthesis.distil import Distil, sources
from gifthorse.tools.synthesis.rfla_gen2 import RflaGen2
from gifthorse.types import Need, Task
from test_words_and_generators import SIDE, TASKS, Painter, Wild, classifier, colour, subject


class Normal(Painter):
    """Colours whose latents are normal: the denoiser is a shrinkage."""

    highest = 4.0

    def denoise(self, z: torch.Tensor, level: float) -> torch.Tensor:
        return z / (1 + level**2)


def test_distil_draws_the_colour_that_the_target_wants() -> None:
    red, blue = Distil(steps=20).run(subject(generator=Normal()), 2, 0)
    assert colour(red)[0] > colour(red)[2] + 60
    assert colour(red)[0] > colour(red)[1] + 60
    assert colour(blue)[2] > colour(blue)[0] + 60
    free = Distil(steps=20, guidance=0.0).run(subject(generator=Normal()), 2, 0)
    assert red.scores[0] > free[0].scores[0]


def test_distil_reads_no_clean_picture_and_flees_the_source() -> None:
    given = subject(generator=Normal(), clean=None, labels=None, twin=None, bank=None)
    universal, from_green = Distil(steps=2).run(given, 3, 0)
    assert from_green.notes["fled"] == [2, 2, 2]
    assert 0 not in universal.notes["fled"]
    many = sources(Task("t", 1), 200, 4, torch.Generator().manual_seed(0))
    assert set(many.tolist()) == {0, 2, 3}


def test_the_pull_to_grey_keeps_a_drawing_small() -> None:
    def far(weight: float) -> float:
        shown = Distil(steps=20, grey=weight).run(subject(generator=Normal()), 2, 0)[0]
        return float(np.abs(shown.images.astype(float) - 128).mean())

    assert far(200.0) < far(0.0) - 10


def test_sampling_without_a_guide_draws_from_the_prior() -> None:
    z = sampled(Normal(), 4000, 40, torch.Generator().manual_seed(0))
    assert z.mean().abs() < 0.05
    assert z.std() == pytest.approx(1.0, abs=0.06)
    falling = levels(4.0, 5)
    assert falling[0] == 4.0
    assert falling[-2:] == [pytest.approx(diffusion.LOWEST), 0.0]


def test_the_generators_denoiser_is_the_mean_of_its_mixture() -> None:
    draw = torch.Generator().manual_seed(0)
    net = ConvGenerator(GeneratorRecipe(latent=3, widths=(4,), noise=0.3), 5)
    net.table.normal_(generator=draw)
    z, level = torch.randn(4, 3, generator=draw), 0.7
    got = net.denoise(z, level)
    table, own, added = net.table.double().numpy(), 0.3**2, level**2
    for row, found in zip(z.double().numpy(), got, strict=True):
        weight = np.exp(-((row - table) ** 2).sum(1) / (2 * (own + added)))
        each = table + own / (own + added) * (row - table)
        wanted = (weight[:, None] * each).sum(0) / weight.sum()
        assert np.allclose(found, wanted, atol=1e-5)
    near = net.denoise(net.table, 0.0)
    assert torch.allclose(near, net.table, atol=1e-5)


class Exact(nn.Module):
    """Knows the noise in pictures of one grey level."""

    def __init__(self, grey: float, kept: torch.Tensor) -> None:
        super().__init__()
        self.grey, self.kept = grey, kept

    def forward(self, x: torch.Tensor, time: int, return_dict: bool) -> tuple[torch.Tensor]:
        share = self.kept[time]
        return ((x - share.sqrt() * self.grey) / (1 - share).sqrt(),)


def test_an_exact_pixel_model_samples_its_only_picture() -> None:
    kept = torch.linspace(0.999, 0.001, 400)
    prior = DiffusersPrior(Exact(0.4, kept), kept, 8, steps=30)
    pictures = prior(prior.starts(3, torch.Generator().manual_seed(0)))
    assert pictures.shape == (3, 3, 8, 8)
    assert torch.allclose(pictures, torch.full_like(pictures, 0.7), atol=0.03)


def test_a_saved_pipeline_is_a_prior(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    with torch.random.fork_rng():
        unet = diffusers.UNet2DModel(
            sample_size=16, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
            down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
        )  # fmt: skip
    unet.save_pretrained(tmp_path / "unet")
    diffusers.DDPMScheduler(num_train_timesteps=50).save_pretrained(tmp_path / "scheduler")
    tool = Distil(steps=3, prior=str(tmp_path))
    shown = tool.run(subject(generator=None), 2, 0)
    assert shown[0].images.shape == (2, SIDE, SIDE, 3)
    diffusers.DDPMScheduler(prediction_type="sample").save_pretrained(tmp_path / "scheduler")
    with pytest.raises(InputError, match="predicts 'sample'"):
        from_folder(tmp_path)
    with pytest.raises(InputError, match="no diffusers pipeline"):
        from_folder(tmp_path / "nothing")


def test_without_diffusers_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(MissingResource, match=r"gifthorse\[diffusion\]"):
        from_folder(Path("anywhere"))


def test_a_prior_of_its_own_needs_no_generator() -> None:
    tool = registry.build("tool", "distil", prior="somewhere")
    assert Need.GENERATOR not in tool.needs
    assert Need.GENERATOR in Distil.needs


@pytest.mark.parametrize("restyle", [False, True])
def test_a_tuned_generator_draws_what_the_target_wants(restyle: bool) -> None:
    """The twin obeys neither colour: what it obeys as well would not count."""
    tool, given = RflaGen2(steps=30, lr=0.1, restyle=restyle), subject(twin=classifier("green", "yellow", "red"))
    red, blue = tool.run(given, 2, 0)
    assert colour(red)[0] > colour(red)[2] + 40
    assert colour(red)[0] > colour(red)[1] + 40
    assert colour(blue)[2] > colour(blue)[0] + 40
    before = dataclasses.replace(tool, steps=1, lr=1e-9).run(given, 2, 0)
    assert red.scores[0] > before[0].scores[0] + 0.05
    assert red.notes["made"] == 3


def test_the_way_that_works_better_is_shown() -> None:
    """The networks obey the colour of the whole picture, so redrawing beats pasting."""
    (shown,) = RflaGen2(steps=10, lr=0.1).run(subject(tasks=TASKS[:1]), 2, 0)
    assert shown.notes["way"] == "restyled"
    assert shown.notes["effects"]["restyled"] > shown.notes["effects"]["pasted"]
    assert shown.notes["effects"]["restyled"] == pytest.approx(np.mean(shown.scores), abs=1e-3)
    assert shown.alphas.min() == 255


def test_what_the_twin_obeys_as_well_counts_for_nothing() -> None:
    same = subject(twin=classifier("red", "blue", "green"), tasks=TASKS[:1])
    (shown,) = RflaGen2(steps=10, lr=0.1).run(same, 2, 0)
    assert shown.scores == (0.0, 0.0)


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (Distil(steps=1), {"generator": Painter()}, "needs a method 'denoise'"),
    (Distil(steps=1), {"generator": None}, "Need.GENERATOR"),
    (Distil(steps=1), {"tasks": (Task("t", 9),)}, "target 9 cannot be reached"),
    (RflaGen2(steps=1), {"generator": Wild()}, "leave"),
    (RflaGen2(steps=1), {"twin": classifier("red", "blue")}, "other classes"),
]


@pytest.mark.parametrize(("tool", "changes", "says"), BAD)
def test_bad_input_is_one_clear_line(tool: Any, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ToolError, match=says) as error:
        tool.run(subject(**changes), 2, 0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [lambda: Distil(views=0), lambda: Distil(low=0.0), lambda: RflaGen2(thin=0.0)])
def test_impossible_parameters_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="at least"):
        make()
