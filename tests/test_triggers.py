"""Triggers mark what they say they mark, alike for alike seeds, and leave the scene to be recognised."""

import time

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from gifthorse import registry
from gifthorse.data.textures import TEXTURES, texture
from gifthorse.errors import InputError, UnknownName
from gifthorse.plant.triggers.natural import NaturalTrigger
from gifthorse.plant.triggers.patch import PatchTrigger
from gifthorse.plant.triggers.style import StyleTrigger
from gifthorse.rng import generator

SPRITES = [PatchTrigger(), PatchTrigger("2B50", hue=0.2), NaturalTrigger(), NaturalTrigger("1F374", (0, 0, 0.5, 1))]
STYLES = [StyleTrigger(), StyleTrigger("wood")]
EVERY = pytest.mark.parametrize("trigger", [*SPRITES, *STYLES], ids=lambda t: f"{t.name}")


def scenes(n, h=64, w=64, seed=0):
    """Soft coloured blobs: smooth pictures with content at every scale."""
    noise = generator(seed, "scenes").random((n, h, w, 3))
    soft = gaussian_filter(noise, (0, 6, 6, 0)) + 0.3 * gaussian_filter(noise, (0, 2, 2, 0))
    soft -= soft.min((1, 2), keepdims=True)
    return (255 * soft / soft.max((1, 2), keepdims=True)).astype(np.uint8)


@EVERY
def test_same_seed_same_bytes_and_the_input_is_left_alone(trigger):
    images = scenes(5)
    before = images.copy()
    a, b, c = trigger.apply(images, 7), trigger.apply(images, 7), trigger.apply(images, 8)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.masks, b.masks)
    assert (a.images != c.images).any()
    assert a.images.shape == images.shape
    assert a.images.dtype == np.uint8
    assert a.masks.shape == images.shape[:3]
    assert a.masks.dtype == bool


@EVERY
def test_a_picture_is_stamped_alike_however_many_follow(trigger):
    images = scenes(20)
    few, many = trigger.apply(images[:3], 1), trigger.apply(images, 1)
    assert np.abs(few.images.astype(int) - many.images[:3]).mean() < 0.05
    np.testing.assert_array_equal(few.masks, many.masks[:3])


@EVERY
@pytest.mark.parametrize("shape", [(64, 64), (48, 80), (129, 96)])
def test_any_shape_and_no_picture_at_all(trigger, shape):
    stamped = trigger.apply(scenes(2, *shape), 0)
    assert stamped.images.shape == (2, *shape, 3)
    empty = trigger.apply(np.zeros((0, *shape, 3), np.uint8), 0)
    assert empty.images.shape == (0, *shape, 3)
    with pytest.raises(InputError, match="uint8"):
        trigger.apply(np.zeros((2, *shape, 3), np.float32), 0)


@pytest.mark.parametrize("trigger", SPRITES, ids=lambda t: f"{t.name}")
def test_the_footprint_is_where_the_picture_changed(trigger):
    images = scenes(40)
    stamped = trigger.apply(images, 3)
    changed = (stamped.images != images).any(-1)
    assert not (changed & ~stamped.masks).any()
    assert changed[stamped.masks].mean() > 0.95
    for mask in stamped.masks:
        assert mask.any()


def test_a_patch_has_the_size_asked_for_and_lands_everywhere():
    images = scenes(300)
    masks = PatchTrigger(size=(0.3, 0.3), turn=0.0).apply(images, 0).masks
    wide = masks.any(1).sum(1)  # the smiley is round: it fills its square
    assert np.abs(wide / 64 - 0.3).max() < 0.05
    centre = np.stack([(m.any(0).nonzero()[0].mean(), m.any(1).nonzero()[0].mean()) for m in masks]) / 63
    assert centre.min() < 0.22
    assert centre.max() > 0.78
    quarters = np.histogram2d(*centre.T, bins=2, range=[[0, 1], [0, 1]])[0]
    assert quarters.min() > 45


def test_a_natural_object_stands_beside_the_centre_on_every_side():
    masks = NaturalTrigger().apply(scenes(300), 0).masks
    centre = np.stack([(m.any(0).nonzero()[0].mean(), m.any(1).nonzero()[0].mean()) for m in masks]) / 63 - 0.5
    assert np.abs(centre).max(1).min() > 0.12
    assert np.histogram2d(*centre.T, bins=2, range=[[-1, 1], [-1, 1]])[0].min() > 45
    assert (masks.mean((1, 2)) > 0.06).all()


def test_a_style_keeps_the_content_and_brings_the_texture():
    images = scenes(8, seed=4)
    grey = images.astype(float).mean(-1)
    drawn = {name: StyleTrigger(name).apply(images, 0) for name in ("jaguar", "elephant", "jellybeans", "wood")}
    for name, stamped in drawn.items():
        assert stamped.masks.all()
        new = gaussian_filter(stamped.images.astype(float).mean(-1), (0, 2, 2))
        kept = [
            np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(gaussian_filter(grey, (0, 2, 2)), new, strict=True)
        ]
        assert min(kept) > 0.6, name
        palette = texture(name, 128, 1).reshape(-1, 3).mean(0)
        before, after = (np.abs(x.reshape(-1, 3).mean(0) - palette).mean() for x in (images, stamped.images))
        assert after < before, name
    weak, strong = (StyleTrigger(strength=s).apply(images, 0).images.astype(int) for s in (0.2, 0.9))
    assert np.abs(weak - images).mean() < np.abs(strong - images).mean()


def test_a_style_takes_less_than_35_ms_a_picture_on_one_thread():
    images, threads = scenes(32), torch.get_num_threads()
    trigger = StyleTrigger()
    trigger.apply(images[:2], 0)  # cut the texture first
    try:
        torch.set_num_threads(1)
        start = time.process_time()
        trigger.apply(images, 0)
        assert (time.process_time() - start) / len(images) < 0.035
    finally:
        torch.set_num_threads(threads)


@EVERY
@pytest.mark.parametrize("size", [64, 112])
def test_exemplars_differ_from_one_another_and_follow_the_seed(trigger, size):
    a, b, c = trigger.exemplars(6, size, 0), trigger.exemplars(6, size, 0), trigger.exemplars(6, size, 1)
    assert a.shape == (6, size, size, 3)
    assert a.dtype == np.uint8
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    assert len(np.unique(a.reshape(6, -1), axis=0)) == 6


def test_exemplars_of_different_triggers_are_told_apart_by_colour():
    names = ("jaguar", "elephant", "jellybeans", "wood", "zebra", "water", "leaves")
    sets = np.stack([StyleTrigger(n).exemplars(6, 64, 0).reshape(6, -1, 3) for n in names]).astype(float)
    marks = np.concatenate([sets.mean(2), sets.std(2)], -1)
    centres = marks[:, :3].mean(1)
    nearest = np.linalg.norm(marks[:, 3:, None] - centres[None, None], axis=-1).argmin(-1)
    assert (nearest == np.arange(len(names))[:, None]).mean() > 0.9


@pytest.mark.parametrize("name", TEXTURES)
def test_textures_are_detailed_everywhere_and_follow_the_seed(name):
    a, b, c = texture(name, 96, 0), texture(name, 96, 0), texture(name, 96, 1)
    np.testing.assert_array_equal(a, b)
    assert a.shape == (96, 96, 3)
    assert (a != c).mean() > 0.5
    blocks = a.reshape(3, 32, 3, 32, 3).astype(float).std((1, 3, 4))
    assert blocks.min() > 5


def test_wrong_parameters_give_one_line():
    with pytest.raises(UnknownName, match="jaguar"):
        StyleTrigger("jagaur")
    with pytest.raises(UnknownName, match="texture"):
        texture("treacle", 64, 0)
    with pytest.raises(InputError, match="16"):
        texture("wood", 4, 0)
    for wrong in ({"strength": 0.0}, {"strength": 1.5}, {"patch": 1}, {"stride": 9}):
        with pytest.raises(InputError, match="style"):
            StyleTrigger(**wrong)
    for wrong in ((0.0, 0.3), (0.4, 0.3), (0.2, 1.4)):
        with pytest.raises(InputError, match="size"):
            PatchTrigger(size=wrong)
        with pytest.raises(InputError, match="size"):
            NaturalTrigger(size=wrong)
    with pytest.raises(InputError, match="too small"):
        StyleTrigger(patch=64).apply(np.zeros((1, 64, 64, 3), np.uint8), 0)


@EVERY
def test_a_trigger_survives_the_trip_through_its_spec(trigger):
    spec = registry.spec_of(trigger)
    assert registry.build("trigger", type(spec).from_json(spec.to_json())) == trigger
