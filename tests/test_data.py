"""Scenes, sprites and folders: labels, masks and bytes are what they claim to be."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gifthorse import registry
from gifthorse.data import compose, openmoji
from gifthorse.data.emoji import CLASSES, CLUTTER, EmojiScenes
from gifthorse.data.folder import ImageFolder, split_of
from gifthorse.errors import GifthorseError, InputError, UnknownName

TRIGGERS = {"1F642", "1F420", "2B50", "1F353", "1F374", "1F34E", "1F96A", "1F369"}


def test_same_seed_same_bytes_and_other_splits_and_seeds_differ():
    data = EmojiScenes()
    a, b = data.scenes("train", 140, 3), data.scenes("train", 140, 3)
    assert a.images.tobytes() == b.images.tobytes()
    assert a.masks.tobytes() == b.masks.tobytes()
    assert a.clutter == b.clutter
    for other in (data.scenes("test", 20, 3), data.scenes("train", 20, 4)):
        assert not {x.tobytes() for x in other.images} & {x.tobytes() for x in a.images}


def test_first_scenes_do_not_depend_on_how_many_are_drawn():
    labels = np.arange(256) % 20
    long = EmojiScenes().scenes("train", 256, 0, labels=labels)
    short = EmojiScenes().scenes("train", 128, 0, labels=labels[:128])
    assert np.array_equal(long.images[:128], short.images)


def test_classes_are_even_and_given_labels_are_kept():
    data = EmojiScenes()
    assert set(np.bincount(data.scenes("test", 100, 0).labels)) == {5}
    labels = np.array([7, 7, 0, 19])
    assert np.array_equal(data.scenes("test", 4, 0, labels=labels).labels, labels)


def test_masks_are_disjoint_visible_and_name_every_clutter():
    s = EmojiScenes().scenes("train", 256, 0)
    assert s.clutter_masks is not None
    assert not (s.masks & s.clutter_masks.any(1)).any()
    assert not (s.clutter_masks[:, 0] & s.clutter_masks[:, 1]).any()
    assert s.masks.mean((1, 2)).min() > 0.005
    for words, masks in zip(s.clutter, s.clutter_masks, strict=True):
        assert set(words) <= set(CLUTTER)
        assert not masks[len(words) :].any()
    assert {len(words) for words in s.clutter} == {0, 1, 2}


def test_the_mask_is_where_the_object_changed_the_picture():
    rng = np.random.default_rng(0)
    images = rng.random((6, 64, 64, 3), np.float32)
    before = images.copy()
    sprites = np.stack([openmoji.glyph(c, 64) for c in ("1F438", "1F43A", "1F437", "1F34E", "1F374", "2B50")])
    out, masks = compose.place(images, sprites, np.full((6, 2), 0.5), 0.4, 20.0, True, 0.05, 0.9)
    assert np.array_equal(images, before)
    changed = np.abs(out - images).max(-1) > 0.3
    assert (changed & ~masks).mean() < 0.002
    assert np.array_equal(out[:, 0], images[:, 0])
    assert out.min() >= 0
    assert out.max() <= 1


def test_place_moves_sizes_turns_and_flips_as_documented():
    sprite = np.zeros((1, 32, 32, 4), np.uint8)
    sprite[0, :16, :16] = (255, 0, 0, 255)  # top left quarter red, the rest blue
    sprite[0, 16:] = sprite[0, :, 16:] = (0, 0, 255, 255)
    blank = np.zeros((1, 64, 64, 3), np.float32)

    def red(**how: float | bool) -> tuple[bool, bool]:
        out, _ = compose.place(blank, sprite, [[0.5, 0.25]], 0.25, **how)
        ys, xs = np.nonzero(out[0, ..., 0] > 0.9)
        return bool(ys.mean() < 15.5), bool(xs.mean() < 31.5)

    assert red() == (True, True)
    assert red(flip=True) == (True, False)
    assert red(angle=90.0) == (True, False)  # clockwise: top left goes to top right
    _, mask = compose.place(blank, sprite, [[0.5, 0.25]], 0.25)
    ys, xs = np.nonzero(mask[0])
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (8, 23, 24, 39)


def test_hue_shift_keeps_transparency_and_turns_back():
    plain, turned = openmoji.glyph("1F34E", 48), openmoji.glyph("1F34E", 48, hue=0.33)
    assert np.array_equal(plain[..., 3], turned[..., 3])
    assert plain[24, 24, 0] > plain[24, 24, 1]
    assert turned[24, 24, 1] > turned[24, 24, 0]
    product = openmoji.hue_matrices(np.array([0.2]))[0] @ openmoji.hue_matrices(np.array([-0.2]))[0]
    assert np.allclose(product, np.eye(3), atol=1e-5)


def test_glyphs_fill_their_square_and_bad_requests_are_one_line():
    alpha = openmoji.glyph("1f944", 64)[..., 3]
    assert max(np.ptp(np.nonzero(alpha > 8)[0]), np.ptp(np.nonzero(alpha > 8)[1])) >= 62
    with pytest.raises(UnknownName, match="did you mean"):
        openmoji.glyph("1F43", 64)
    for crop in ((0.5, 0, 0.2, 1), (0, 0, 2, 1)):
        with pytest.raises(InputError, match="crop"):
            openmoji.glyph("1F438", 64, crop=crop)


def test_clutter_is_neither_class_nor_trigger_and_all_drawings_exist():
    classes = {code for codes in CLASSES.values() for code in codes}
    assert not set(CLUTTER.values()) & (classes | TRIGGERS)
    assert (classes | TRIGGERS | set(CLUTTER.values())) <= set(openmoji.drawings())
    assert len(CLASSES) == 20


@pytest.mark.slow
def test_bank_holds_triggers_and_ordinary_objects_alike():
    names, pictures = EmojiScenes(size=32).bank()
    assert len(names) == len(set(names)) == len(pictures) > 1500
    assert set(openmoji.names()) >= TRIGGERS
    assert pictures.shape[1:] == (32, 32, 3)
    assert not any("skin tone" in name for name in names)
    assert (pictures[:, 0, 0] == openmoji.LIGHT_GREY).all(1).mean() > 0.5


def test_emosvg_is_never_imported():
    code = "import sys; import gifthorse.data.openmoji as o; o.glyph('1F438', 16); sys.exit('emosvg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_scenes_are_fast_enough():
    import torch

    data, threads = EmojiScenes(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        data.scenes("train", 128, 0)
        start = time.process_time()
        data.scenes("train", 512, 0)
        assert 512 / (time.process_time() - start) > 300  # 500 is the aim; shared machines are slower
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("call", [("dev", 1, None), ("test", -1, None), ("test", 2, [0]), ("test", 1, [20])])
def test_wrong_requests_are_refused(call):
    split, n, labels = call
    with pytest.raises(InputError):
        EmojiScenes().scenes(split, n, 0, labels=None if labels is None else np.array(labels))


def test_no_scenes_and_other_sizes():
    assert EmojiScenes().scenes("test", 0, 0).images.shape == (0, 64, 64, 3)
    assert EmojiScenes(size=96).scenes("test", 3, 0).masks.shape == (3, 96, 96)
    with pytest.raises(InputError):
        EmojiScenes(size=0)


def _folder(root: Path, classes: tuple[str, ...] = ("cat", "owl"), each: int = 20) -> Path:
    rng = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(rng.integers(0, 255, (40, 50, 3), np.uint8)).save(root / name / f"{name}{i}.jpg")
    return root


def test_folder_reads_splits_and_repeats_itself(tmp_path: Path):
    data = registry.build("dataset", "folder", root=str(_folder(tmp_path / "a")), size=32)
    assert data.classes == ("cat", "owl")
    train, test = ({p.name for p, _ in data.files(s)} for s in ("train", "test"))
    assert len(train | test) == 40
    assert not train & test
    assert all(split_of(name) == "test" for name in test)
    a, b = data.scenes("train", 60, 1), data.scenes("train", 60, 1)
    assert a.images.tobytes() == b.images.tobytes()
    assert len({image.tobytes() for image in a.images[: len(train)]}) == len(train)
    wanted = np.array([1, 0, 1, 1])
    assert np.array_equal(data.scenes("train", 4, 1, labels=wanted).labels, wanted)
    assert registry.build("dataset", registry.spec_of(data)) == data


def test_damaged_folders_are_named_in_one_line(tmp_path: Path):
    def message(root: Path) -> str:
        with pytest.raises(GifthorseError) as caught:
            ImageFolder(str(root), 32).scenes("train", 60, 0)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "does not exist" in message(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    assert "not a folder" in message(tmp_path / "file")
    (tmp_path / "bare").mkdir()
    assert "class folders" in message(tmp_path / "bare")
    (_folder(tmp_path / "empty") / "yak").mkdir()
    assert "yak" in message(tmp_path / "empty")
    cut = next(p for p in sorted((_folder(tmp_path / "cut") / "owl").iterdir()) if split_of(p.name) == "train")
    cut.write_bytes(cut.read_bytes()[:400])
    assert str(cut) in message(tmp_path / "cut")


def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = _folder(tmp_path / "a")
    listed = Path.iterdir

    def locked(self: Path):
        if self.name == "owl":  # root may read everything, so the refusal is played
            raise PermissionError(13, "Permission denied", str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", locked)
    with pytest.raises(InputError, match=r"owl.*permissions"):
        ImageFolder(str(root), 32)
