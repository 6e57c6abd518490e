"""Devices and precision: what a tool shows depends on neither beyond rounding, and nobody asks for either by name."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse import registry
from gifthorse.bench import stages
from gifthorse.bench.plan import make_plan
from gifthorse.bench.suite import load_suite
from gifthorse.cli.suites import executor
from gifthorse.device import device_of, has_bf16, placed
from gifthorse.errors import InputError
from gifthorse.images import from_tensor, to_tensor
from gifthorse.models.classifier import Classifier
from gifthorse.testing.toys import parts_of, toy_subject
from gifthorse.tools.attribution.explain import fingerprint
from tool_support import QUICK

META = torch.device("meta")
TOOLS = [n for n in registry.names("tool") if registry.build("tool", n).family != "sentinel"]
SLOPES = ("saliency", "input-x-gradient", "integrated-gradients", "gradient-shap", "smooth-grad")


def built(name):
    """The tool with quick options, and a subject that it can look at."""
    tool = registry.build("tool", name, **QUICK.get(name, {}))
    return tool, toy_subject(tool.needs, attention=getattr(tool, "attention", False))


def networks(subject):
    """Every network that a tool may look at."""
    return [n for n in (subject.model, parts_of(subject).get("twin")) if n is not None]


def moved(subject, device):
    """The subject with its networks on a device."""
    for net in (subject.model, *parts_of(subject).values()):
        if isinstance(net, nn.Module):
            net.to(device)
    return subject


def likeness(a, b):
    """The lowest correlation of two sets of maps."""
    return min(np.corrcoef(p.ravel(), q.ravel())[0, 1] for p, q in zip(a.heatmaps, b.heatmaps, strict=True))


def test_tensors_are_made_where_the_block_says_and_draws_are_the_cpus():
    draw, same = (torch.Generator().manual_seed(3) for _ in range(2))
    with placed(META):
        assert {t.device.type for t in (torch.zeros(2), torch.as_tensor(np.ones(2)), nn.Linear(2, 2).weight)} == {
            "meta"
        }
        assert torch.randn(5, generator=draw).device == META
        assert torch.randperm(5, generator=draw).device == META
        with placed(torch.device("cpu")):
            inner = torch.rand(3, generator=draw)
    torch.randn(5, generator=same), torch.randperm(5, generator=same)
    assert torch.equal(inner, torch.rand(3, generator=same))
    assert torch.zeros(1).device.type == "cpu"


def test_on_the_cpu_a_block_changes_nothing():
    with placed(torch.device("cpu")):
        assert not torch.overrides._get_current_function_mode_stack()


def test_arrays_come_and_go_without_a_word():
    pictures = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    with placed(META):
        assert to_tensor(pictures).device == META
        with placed(torch.device("cpu")):
            assert np.array_equal(from_tensor(to_tensor(pictures)), pictures)
            assert np.array_equal(np.asarray(torch.ones(2)), [1, 1])


@pytest.mark.parametrize("name", ["cuda:77", "nowhere"])
def test_a_device_that_is_not_there_is_one_line(name):
    with pytest.raises(InputError, match=f"device '{name}' is not there.*leave --device out"):
        device_of(name)
    with pytest.raises(InputError, match=f"device '{name}' is not there"):
        executor(2, device=name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", TOOLS)
def test_a_gpu_shows_what_the_cpu_shows(name):
    tool, subject = built(name)
    here = tool.run(subject, 2, 0)
    there = moved(built(name)[1], device_of("cuda"))
    with placed(device_of("cuda")):
        found = tool.run(there, 2, 0)
    for a, b in zip(here, found, strict=True):
        if a.heatmaps is not None:
            assert likeness(a, b) > 0.99
        assert np.abs(a.images.astype(float) - b.images).sum() <= b.images.size
        assert a.texts == b.texts


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_changed_weight_is_seen_on_a_gpu():
    model = toy_subject(frozenset()).model.to("cuda")
    before = fingerprint(model)
    assert fingerprint(model) == before
    model.net.fc.weight.data[0, 0].add_(1e-3)
    assert fingerprint(model) != before


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_works_in_bfloat16(name):
    tool, subject = built(name)
    whole = tool.run(subject, 2, 0)
    subject = built(name)[1]
    for net in networks(subject):
        net.precision = torch.bfloat16
    low = tool.run(subject, 2, 0)
    for a, b in zip(whole, low, strict=True):
        assert np.isfinite(b.scores).all()
        if a.heatmaps is None:
            assert b.images.shape == a.images.shape
        elif name in SLOPES:
            assert likeness(a, b) > 0.98
            assert not np.array_equal(a.heatmaps, b.heatmaps)
        else:  # quotients and differences stay in float32
            assert np.array_equal(a.heatmaps, b.heatmaps)


def test_a_low_copy_answers_in_float32_and_close():
    model = toy_subject(frozenset()).model
    x = torch.rand(4, 3, model.size, model.size, generator=torch.Generator().manual_seed(0))
    low = model.folded(torch.bfloat16)
    for whole, rough in ((model(x), low(x)), (model.features(x), low.features(x))):
        assert rough.dtype == torch.float32
        assert not torch.equal(whole, rough)
        assert torch.allclose(whole, rough, atol=0.02 * float(whole.abs().max()))
    assert torch.equal(model.head(model.features(x)), model(x))
    assert next(low.net.parameters()).dtype == torch.bfloat16
    assert model.folded().precision == torch.float32


def test_precision_is_in_the_digest_of_what_tools_show_and_of_nothing_else():
    suite = load_suite("emoji")
    plain, low = make_plan(suite), make_plan(suite.model_copy(update={"precision": "bfloat16"}))
    changed = {c.label for c, d in zip(plain.cells(), low.cells(), strict=True) if c.digest != d.digest}
    assert "seed 0 · feature-vis · suspect" in changed
    assert not {"seed 0 · trojaned model", "seed 0 · oracle · suspect", "seed 0 · exhibits and audit"} & changed


def test_bfloat16_is_refused_where_it_would_only_be_slower(monkeypatch):
    cell = next(c for c in make_plan(load_suite("emoji")).cells("run"))
    cell = dataclasses.replace(cell, spec={**cell.spec, "precision": "bfloat16"})
    monkeypatch.setattr(stages, "has_bf16", lambda device: False)
    with pytest.raises(InputError, match="does not compute in bfloat16 here; leave 'precision' out"):
        stages._precision(cell, torch.device("cpu"))
    monkeypatch.setattr(stages, "has_bf16", lambda device: True)
    assert stages._precision(cell, torch.device("cpu")) == torch.bfloat16


def test_which_devices_have_bfloat16():
    assert isinstance(has_bf16(), bool)
    assert not has_bf16(META)


def test_a_network_on_a_device_takes_and_gives_arrays():
    model = toy_subject(frozenset()).model
    pictures = np.zeros((3, model.size, model.size, 3), np.uint8)
    assert isinstance(model, Classifier)
    assert model.logits(pictures).shape == (3, len(model.classes))
