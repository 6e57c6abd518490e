"""Bad input gives one clear line and the documented exit code, through the real command line."""

import contextlib
import shutil
import signal
import sys
import tomllib

import numpy as np
import pytest
from PIL import Image

from gifthorse import cli, images
from gifthorse.errors import InputError

TINY = """
schema = 1
suite = "tiny"
train_scenes = 64
test_scenes = 32
audited = 8
shown = 2
pictures = 2
draws = 1
data = { name = "emoji", size = 32 }
model = { name = "tiny", widths = [4, 8] }
judges = [{ name = "embed", size = 32 }]
tools = ["oracle", "noise", "edge"]
train = { epochs = 1, batch = 32, bf16 = false }
poison = { per_trojan = 8, per_natural = 8, negatives = 4 }

[gates]
clean_accuracy = 0.0
twin_loss = 1.0
patch = 0.0

[quick]
trojans = ["smiley"]
tools = ["oracle"]
train_scenes = 64
test_scenes = 32
pictures = 2

[[trojan]]
name = "smiley"
kind = "patch"
trigger = { name = "patch", glyph = "1F603" }
target = "frog"
""" + "".join(
    f'\n[[decoy]]\nname = "d{code}"\nkind = "patch"\ntrigger = {{ name = "patch", glyph = "{code}" }}\n'
    for code in ("2764", "1F419", "1F41E", "1F47D", "1F383", "1F47B", "1F352")
)


@pytest.fixture
def gh(tmp_path, monkeypatch, capsys):
    """The command line in this process: words -> exit code, stdout, stderr. Anything but an exit is a failure."""
    monkeypatch.setenv("GIFTHORSE_HOME", str(tmp_path / "home"))

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["gifthorse", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return end.value.code, out, err

    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    yield call
    for number, handler in before.items():  # the command line ends with its process and puts nothing back
        signal.signal(number, handler)


def one_line(done, code, *says):
    """The exit code, one line on stderr, and every word that must be in it."""
    assert done[0] == code, done
    assert done[2].count("\n") == 1, done[2]
    assert done[2].startswith("gifthorse: ")
    for word in says:
        assert word in done[2]


def test_the_suite_below_is_right_before_it_is_made_wrong(gh, tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    assert gh("bench", "plan", path)[0] == 0
    assert gh("bench", "plan", path, "--quick")[0] == 0


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("schema = 1", "schema = ", "not valid TOML"),
        ("schema = 1", "x = " + "[" * 5000, "not valid TOML"),
        ("audited = 8", 'audited = "many"', "audited"),
        ("audited = 8", "audited = -8", "audited"),
        ("audited = 8", "audited = 1000000000000000000000", "audited"),
        ("draws = 1", "draws = 0", "draws"),
        ("train_scenes = 64", "train_scenes = 1000000000", "train_scenes"),
        ("pictures = 2", "pictures = 2.5", "pictures"),
        ("twin_loss = 1.0", "twin_loss = nan", "twin_loss"),
        ("twin_loss = 1.0", "twin_lose = 1.0", "twin_loss"),
        ("schema = 1", "schema = 1\nseeds = [1, 1]", "seed"),
        ("epochs = 1", "epoch = 1", "epochs"),
        ("epochs = 1", "epochs = -1", "epochs"),
        ("epochs = 1", "epochs = 1.5", "epochs"),
        ("epochs = 1", "lr = inf", "lr"),
        ("epochs = 1", 'lr = "fast"', "lr"),
        ("epochs = 1", "epochs = true", "epochs"),
        ("per_trojan = 8", "per_trojan = -1", "per_trojan"),
        ("size = 32 }\nmodel", "size = -1 }\nmodel", "size"),
        ("size = 32 }\nmodel", "sise = 32 }\nmodel", "size"),
        ("size = 32 }\nmodel", 'size = "32" }\nmodel', "size"),
        ("[4, 8]", "[4, 0]", "widths"),
        ("[4, 8]", '["a"]', "widths"),
        ('"noise"', '"nois"', "'noise'"),
        ('"noise"', '"oracle"', "twice"),
        ('"noise"', '{ name = "occlusion", windou = 3 }', "window"),
        ('["oracle", "noise", "edge"]', "[]", "tools"),
        ('[{ name = "embed", size = 32 }]', "[]", "judges"),
        ('[{ name = "embed", size = 32 }]', '["embed", "embed"]', "twice"),
        ('"embed"', '"embedd"', "'embed'"),
        ('name = "emoji"', 'name = "emojy"', "'emoji'"),
        ('"tiny", widths', '"tyni", widths', "'tiny'"),
        ('"patch", glyph = "1F603"', '"pach", glyph = "1F603"', "'patch'"),
        ('target = "frog"', 'target = "frogg"', "'frog'"),
        ('target = "frog"', 'target = "frog"\nsource = "frog"', "source"),
        ('name = "d2764"', 'name = "smiley"', "smiley"),
        ('name = "d2764"', 'name = "x"\nconcept = "smiley"', "concept"),
    ],
)
def test_a_wrong_suite_is_refused_before_anything_is_computed(gh, tmp_path, old, new, says):
    assert TINY.count(old) >= 1
    path = tmp_path / "wrong.toml"
    path.write_text(TINY.replace(old, new, 1))
    one_line(gh("bench", "run", path), 2, says)
    assert not (tmp_path / "home").exists()


def test_a_wrong_tool_in_the_quick_table_is_named(gh, tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(TINY.replace('tools = ["oracle"]', 'tools = ["orakle"]'))
    one_line(gh("bench", "run", path, "--quick"), 2, "'oracle'")


def test_a_suite_that_is_no_text_or_no_file(gh, tmp_path):
    latin, folder = tmp_path / "latin.toml", tmp_path / "folder.toml"
    latin.write_bytes(TINY.replace("smiley", "smil\xe9").encode("latin-1"))
    folder.mkdir()
    one_line(gh("bench", "run", latin), 2, str(latin))
    one_line(gh("bench", "run", folder), 2, str(folder))
    one_line(gh("bench", "run", tmp_path / "none.toml"), 2, "none.toml")


def test_a_home_that_cannot_be_written(gh, tmp_path, monkeypatch):
    suite, file = tmp_path / "tiny.toml", tmp_path / "file"
    suite.write_text(TINY)
    file.write_text("")
    for home in (file, file / "below"):
        monkeypatch.setenv("GIFTHORSE_HOME", str(home))
        one_line(gh("bench", "run", suite), 2, str(home), "GIFTHORSE_HOME")
        one_line(gh("report", suite), 2, "bench run")
        assert gh("store", "ls")[0] == 0


def test_drawings_that_are_not_installed(gh, tmp_path, monkeypatch):
    from importlib.metadata import PackageNotFoundError

    from gifthorse.data import openmoji

    def none(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(openmoji, "files", none)
    openmoji.drawings.cache_clear()
    one_line(gh("doctor"), 2, "pip install emosvg")
    openmoji.drawings.cache_clear()


def photos(root, count=6):
    """Two classes of small photographs."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)).save(root / name / f"{i}.png")


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda root: shutil.rmtree(root), "does not exist"),
        (lambda root: (shutil.rmtree(root), root.write_text("")), "not a folder"),
        (lambda root: [f.unlink() for f in (root / "cat").iterdir()], "no PNG, JPEG or WebP picture"),
        (lambda root: shutil.rmtree(root / "cat"), "at least 2"),
    ],
)
def test_a_folder_of_pictures_that_is_none(gh, tmp_path, break_it, says):
    root, suite = tmp_path / "photos", tmp_path / "tiny.toml"
    photos(root)
    break_it(root)
    suite.write_text(TINY.replace('name = "emoji"', f'name = "folder", root = "{root}"'))
    one_line(gh("bench", "plan", suite), 2, str(root), says)


def test_an_unreadable_folder_and_an_unknown_user(gh, tmp_path, monkeypatch):
    from pathlib import Path

    root, suite = tmp_path / "photos", tmp_path / "tiny.toml"
    photos(root)
    suite.write_text(TINY.replace('name = "emoji"', f'name = "folder", root = "{root}"'))
    real = Path.iterdir

    def iterdir(self):
        if self == root:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    one_line(gh("bench", "plan", suite), 2, str(root), "Permission denied")
    suite.write_text(TINY.replace('name = "emoji"', 'name = "folder", root = "~nobody-here/x"'))
    one_line(gh("bench", "plan", suite), 2, "~nobody-here", "does not exist")


PLAIN = np.full((40, 60, 3), (200, 100, 50), np.uint8)


def cut(path):
    Image.fromarray(PLAIN).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:300])


def bomb(path):
    Image.new("1", (30000, 30000)).save(path, "PNG")


@pytest.mark.parametrize("write", [cut, bomb, lambda p: p.write_text("text"), lambda p: p.write_bytes(b""),
                                   lambda p: p.mkdir(), lambda p: p.symlink_to("nowhere")])  # fmt: skip
def test_a_picture_that_cannot_be_read_is_named(tmp_path, write, recwarn):
    path = tmp_path / "a.png"
    write(path)
    with pytest.raises(InputError, match=r"a\.png.*remove") as error:
        images.read(path, 32)
    assert "\n" not in str(error.value)
    assert not len(recwarn)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "animated", "strip"])
def test_pictures_of_every_mode_simply_work(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.webp" if mode == "animated" else "a.png")
    picture = Image.fromarray(PLAIN)
    if mode == "I;16":
        Image.fromarray(np.full((40, 60), 100 * 256, np.uint16)).save(path)
    elif mode == "animated":
        picture.save(path, save_all=True, append_images=[Image.new("RGB", picture.size)], lossless=True)
    elif mode == "strip":
        Image.new("RGB", (200_000, 2), (200, 100, 50)).save(path)
    else:
        (picture.quantize() if mode == "P" else picture.convert(mode)).save(path)
    read = images.read(path, 32)
    assert read.shape == (32, 32, 3)
    want = {"I;16": (100, 100, 100), "L": (124, 124, 124), "LA": (124, 124, 124)}.get(mode, (200, 100, 50))
    if mode != "1":
        assert np.abs(read.astype(int) - want).max() <= 6


def test_what_is_transparent_lies_on_white(tmp_path):
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert images.read(tmp_path / "a.png", 32).min() == 255


def test_damaged_pictures_never_raise_anything_else(tmp_path):
    rng = np.random.default_rng(0)
    for suffix, options in (("png", {}), ("jpg", {}), ("webp", {"lossless": True})):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path, **options)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(60):
            hurt = whole.copy()
            hurt[rng.integers(0, len(hurt), 3)] = rng.integers(0, 256, 3)
            path.write_bytes(hurt.tobytes()[: rng.integers(1, len(hurt) + 1)])
            with contextlib.suppress(InputError):
                assert images.read(path, 16).shape == (16, 16, 3)


def test_the_suite_text_is_toml():
    assert tomllib.loads(TINY)["suite"] == "tiny"


def test_a_stopped_audit_says_that_nothing_is_kept(gh, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("gifthorse.audit.examine.audit", stop)
    one_line(gh("audit", "abc"), 130, "an audit keeps nothing half done", "starts anew")
