"""The CLIP judge on small random networks: the whole path from folder to weights, without any real weights."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("open_clip", reason="extra 'clip' is not installed")
import open_clip
from safetensors.torch import save_file

from gifthorse import registry
from gifthorse.errors import InputError, MissingResource
from gifthorse.judges import encoder
from gifthorse.judges.clip import ClipJudge
from gifthorse.types import Option, Question, no_pictures

CONFIG = {
    "model_cfg": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "interpolation": "bilinear"},
}
NAMES = ("apple", "zebra stripes", "violin", "green star", "wood grain")


def make(folder: Path, seed: int) -> Path:
    """A folder as open_clip writes them, with random weights."""
    folder.mkdir(parents=True)
    (folder / encoder.CONFIG).write_text(json.dumps(CONFIG))
    torch.manual_seed(seed)
    net = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim > 1:
                p.mul_(4)  # so that different inputs have clearly different features
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / encoder.WEIGHTS[0])
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("clip")
    return [str(make(home / f"net{i}", i)) for i in range(2)]


def picture(kind: int, n: int = 1) -> np.ndarray:
    rng = np.random.default_rng(kind)
    return rng.integers(0, 256, (n, 6, 6, 3)).repeat(4, 1).repeat(4, 2).astype(np.uint8)


OPTIONS = tuple(Option(name, picture(i, 3)) for i, name in enumerate(NAMES))


def named(options: tuple[Option, ...]) -> tuple[Option, ...]:
    return tuple(Option(o.name) for o in options)


def bare(options: tuple[Option, ...]) -> tuple[Option, ...]:
    return tuple(Option("", o.pictures) for o in options)


def test_pictures_find_their_own_exemplars_and_texts_their_own_names(folders: list[str]) -> None:
    judge = ClipJudge(tuple(folders), templates=("{}",))
    shown = [Question(f"p{i}", picture(i, 3)[:2], bare(OPTIONS)) for i in range(5)]
    said = [Question(f"t{i}", no_pictures(), named(OPTIONS), (name,)) for i, name in enumerate(NAMES)]
    answers = judge.answer([*shown, *said])
    assert [a.choice for a in answers] == [0, 1, 2, 3, 4] * 2
    assert all(sum(a.weights) == pytest.approx(1) and not a.note for a in answers)


def test_weights_are_the_softmax_of_mean_standardised_cosines(folders: list[str]) -> None:
    question = Question("q", picture(9, 2), named(OPTIONS))
    judge = ClipJudge(tuple(folders), templates=("{}", "a photo of a {}"), temperature=0.7)
    expected = np.zeros(5)
    for folder in folders:
        net, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        net.eval()
        tokens = open_clip.get_tokenizer(f"local-dir:{folder}")
        with torch.no_grad():
            seen = net.encode_image(
                torch.stack([transform(encoder.Image.fromarray(p)) for p in question.images]), normalize=True
            ).mean(0)
            spoken = torch.stack(
                [net.encode_text(tokens([n, f"a photo of a {n}"]), normalize=True).mean(0) for n in NAMES]
            )
            cosines = torch.cosine_similarity(seen[None], spoken).double().numpy()
        expected += (cosines - cosines.mean()) / cosines.std() / 2
    weights = np.exp(expected / 0.7)
    np.testing.assert_allclose(judge.answer([question])[0].weights, weights / weights.sum(), atol=1e-4)


def test_one_network_cannot_outvote_the_other_by_scale(folders: list[str]) -> None:
    questions = [Question("q", picture(7), bare(OPTIONS))]
    one, two = (np.log(ClipJudge((f,)).answer(questions)[0].weights) for f in folders)
    both = np.log(ClipJudge(tuple(folders)).answer(questions)[0].weights)
    mean = (one - one.mean() + two - two.mean()) / 2
    np.testing.assert_allclose(both - both.mean(), mean, atol=1e-6)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_order_duplicates_and_ids_change_nothing_else(folders: list[str], data: st.DataObject) -> None:
    judge = ClipJudge((folders[0],))
    options = data.draw(st.sampled_from([OPTIONS, named(OPTIONS), bare(OPTIONS)]))
    images = picture(data.draw(st.integers(20, 25)), 3)
    texts = data.draw(st.sampled_from([(), ("a violin",), ("zebra", "a star")]))
    order = data.draw(st.permutations(range(5)))
    copies = data.draw(st.lists(st.integers(0, 2), min_size=0, max_size=4))
    shown = data.draw(st.permutations([0, 1, 2, *copies]))
    moved = tuple(Option(options[i].name, options[i].pictures[::-1].copy(), "kind") for i in order)
    first = judge.answer([Question("x", images, options, texts)])[0]
    again = judge.answer([Question(data.draw(st.text(max_size=5)), images[shown], moved, texts[::-1] * 2)])[0]
    np.testing.assert_allclose(again.weights, [first.weights[i] for i in order], atol=1e-5)


def test_blank_pictures_are_ignored_and_alone_give_no_choice(folders: list[str]) -> None:
    judge = ClipJudge((folders[0],))
    blank = np.full((2, 24, 24, 3), 127, np.uint8)
    mixed, pure, nothing = judge.answer(
        [Question("q", x, OPTIONS) for x in (np.concatenate([blank, picture(1)]), picture(1), blank)]
    )
    np.testing.assert_allclose(mixed.weights, pure.weights, atol=1e-6)
    assert nothing.choice is None
    assert nothing.note == "blank"


def test_weights_are_known_by_hash_and_prepared_as_their_folder_says(folders: list[str], tmp_path: Path) -> None:
    sha = hashlib.sha256((Path(folders[0]) / encoder.WEIGHTS[0]).read_bytes()).hexdigest()
    judge = ClipJudge((folders[0],), sha256=(sha,))
    assert judge.provenance() == {"weights": {folders[0]: sha}}
    with pytest.raises(InputError, match="not the expected"):
        ClipJudge((folders[0],), sha256=("0" * 64,)).answer([Question("q", picture(1), OPTIONS)])
    state = torch.get_rng_state()
    loaded = encoder.load(str(make(tmp_path / "other", 0)))
    torch.set_rng_state(state)
    grey = np.full((40, 50, 3), 102, np.uint8)
    prepared = loaded._transform(encoder.Image.fromarray(grey))
    np.testing.assert_allclose(prepared[:, 0, 0], (0.4 - np.array([0.4, 0.5, 0.6])) / [0.2, 0.3, 0.25], atol=1e-5)
    assert prepared.shape == (3, 32, 32)


def test_loading_leaves_the_global_generator_alone(folders: list[str]) -> None:
    encoder.load.cache_clear()
    state = torch.get_rng_state()
    encoder.load(folders[0])
    assert torch.equal(state, torch.get_rng_state())


def test_what_is_missing_is_named_with_the_next_step(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(MissingResource, match="run 'hf download nobody/no-such-weights --revision abc'"):
        encoder.load("nobody/no-such-weights@abc")
    with pytest.raises(MissingResource, match="no folder"):
        encoder.load(str(tmp_path / "absent"))
    only = tmp_path / "pickled"
    only.mkdir()
    (only / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(MissingResource, match="pickles are not opened"):
        encoder.load(str(only))
    monkeypatch.setattr(encoder, "find_spec", lambda name: None)
    with pytest.raises(MissingResource, match=r"pip install 'gifthorse\[clip\]'"):
        encoder.load("x/y")


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ("{", "preprocess_cfg"),
        (json.dumps({"model_cfg": CONFIG["model_cfg"]}), "preprocess_cfg"),
        (json.dumps({"preprocess_cfg": CONFIG["preprocess_cfg"]}), "incomplete"),
        (json.dumps({**CONFIG, "model_cfg": {**CONFIG["model_cfg"], "embed_dim": 25}}), "do not load"),
    ],
)
def test_damaged_folders_are_refused(tmp_path: Path, folders: list[str], config: str, match: str) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / encoder.WEIGHTS[0]).write_bytes((Path(folders[0]) / encoder.WEIGHTS[0]).read_bytes())
    (folder / encoder.CONFIG).write_text(config)
    with pytest.raises(InputError, match=match):
        encoder.load(str(folder))


def test_bad_parameters_and_unfair_options_are_refused(folders: list[str]) -> None:
    for params in ({}, {"models": folders, "sha256": ["a"]}, {"models": folders, "templates": ["a photo"]}):
        with pytest.raises(InputError, match="judge 'clip'"):
            registry.build("judge", "clip", **params)
    judge = registry.build("judge", "clip", models=folders)
    assert registry.build("judge", registry.spec_of(judge)) == judge
    assert judge.answer([]) == []
    with pytest.raises(InputError, match="every option"):
        judge.answer([Question("q", picture(1), (Option("", picture(1)), Option("apple")))])
