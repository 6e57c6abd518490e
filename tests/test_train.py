from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gifthorse.errors import GateError, InputError, StoreError
from gifthorse.models.checkpoint import tensor_bytes
from gifthorse.models.tiny import TinyResNet
from gifthorse.plant.audit import Audit, Limits, Rate, TrojanAudit, attack_success, check, clean_accuracy
from gifthorse.plant.train import EpochLog, TrainRecipe, augment, learning_rate, train
from gifthorse.stats import wilson

CLASSES = ("red", "green", "blue")
COMPONENT = TinyResNet((8, 16))
RECIPE = TrainRecipe(epochs=4, batch=32, lr=1e-2)


def coloured(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with one channel brighter: a class per channel."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = draw.integers(0, 120, (n, 16, 16, 3), np.uint8)
    images[np.arange(n), :, :, labels] += 60
    return images, labels


IMAGES, LABELS = coloured(200, 0)


def fresh() -> torch.nn.Module:
    return COMPONENT.build(CLASSES, 16, 0)


class Stop(Exception):
    pass


def stop_after(epoch: int):
    def on_epoch(log: EpochLog) -> None:
        if log.epoch == epoch:
            raise Stop

    return on_epoch


def test_it_learns_and_the_audit_sees_it() -> None:
    net = fresh()
    model = COMPONENT.classifier(net, CLASSES, 16)
    images, labels = coloured(90, 1)
    before = clean_accuracy(model, images, labels)
    seen: list[EpochLog] = []
    logs = train(net, IMAGES, LABELS, RECIPE, 3, seen.append)
    model = COMPONENT.classifier(net, CLASSES, 16)
    after = clean_accuracy(model, images, labels)
    assert before.value < 0.6 < 0.95 <= after.value
    assert tuple(seen) == logs
    assert [log.epoch for log in logs] == [1, 2, 3, 4]
    assert logs[-1].loss < logs[0].loss
    assert not net.training


@pytest.mark.parametrize("recipe", [RECIPE, replace(RECIPE, frozen=("conv.", "bn."), freeze_norms=True)])
def test_a_stopped_run_continues_to_equal_bytes(tmp_path: Path, recipe: TrainRecipe) -> None:
    whole = fresh()
    train(whole, IMAGES, LABELS, recipe, 3)
    path = tmp_path / "run" / "state.safetensors"
    for epoch in (1, 3):
        with pytest.raises(Stop):
            train(fresh(), IMAGES, LABELS, recipe, 3, stop_after(epoch), path)
    pieces = fresh()
    logs = train(pieces, IMAGES, LABELS, recipe, 3, None, path)
    assert tensor_bytes(whole.state_dict()) == tensor_bytes(pieces.state_dict())
    assert [log.epoch for log in logs] == [1, 2, 3, 4]
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    finished = fresh()
    train(finished, IMAGES, LABELS, recipe, 3, stop_after(4), path)  # nothing is left to do
    assert tensor_bytes(whole.state_dict()) == tensor_bytes(finished.state_dict())


def test_the_seed_decides_and_the_global_generators_do_not() -> None:
    recipe = replace(RECIPE, epochs=1)
    nets = []
    for seed in (3, 3, 4):
        np.random.rand(2)  # noqa: NPY002
        torch.rand(2)
        nets.append(fresh())
        train(nets[-1], IMAGES, LABELS, recipe, seed)
    a, b, c = (tensor_bytes(net.state_dict()) for net in nets)
    assert a == b != c


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    recipe = replace(RECIPE, epochs=1)
    train(fresh(), IMAGES, LABELS, recipe, 3, None, path)
    others = [(IMAGES, LABELS, recipe, 4), (IMAGES, LABELS, replace(recipe, lr=1e-3), 3)]
    others += [(IMAGES[:, ::-1], LABELS, recipe, 3), (IMAGES, LABELS[::-1], recipe, 3)]
    for images, labels, other, seed in others:
        with pytest.raises(StoreError, match="another"):
            train(fresh(), images, labels, other, seed, None, path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StoreError, match=r"damaged.*delete"):
        train(fresh(), IMAGES, LABELS, recipe, 3, None, path)


def test_frozen_parameters_and_norms_stay() -> None:
    net = fresh()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    train(net, IMAGES, LABELS, replace(RECIPE, epochs=1, frozen=("conv.", "blocks.0."), freeze_norms=True))
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert "fc.weight" in changed
    assert not any(k.startswith(("conv.", "blocks.0.")) or "running" in k for k in changed)
    assert all(p.requires_grad for p in net.parameters())


def test_divergence_and_bad_input_say_what_to_do() -> None:
    with pytest.raises(GateError, match="lower lr"):
        train(fresh(), IMAGES, LABELS, replace(RECIPE, lr=1e30, epochs=3))
    with pytest.raises(InputError, match="uint8"):
        train(fresh(), IMAGES.astype(np.float32), LABELS)
    with pytest.raises(InputError, match="199 labels"):
        train(fresh(), IMAGES, LABELS[1:])
    with pytest.raises(InputError, match="'stem'"):
        train(fresh(), IMAGES, LABELS, replace(RECIPE, frozen=("stem",)))
    with pytest.raises(InputError, match="out of range"):
        TrainRecipe(batch=0)


def test_augmentation_moves_by_at_most_the_shift_and_mirrors_half() -> None:
    images = np.zeros((1, 16, 16, 3), np.uint8)
    images[0, 8, 4] = 255
    x = augment(images, np.zeros(400, np.int64), TrainRecipe(shift=3), np.random.default_rng(0))
    assert x.is_contiguous(memory_format=torch.channels_last)
    _, _, rows, columns = torch.nonzero(x == 1, as_tuple=True)
    assert len(rows) == 400 * 3
    assert set(rows.tolist()) == set(range(5, 12))
    left, right = set(range(1, 8)), set(range(8, 15))
    assert set(columns.tolist()) == left | right
    assert 0.4 < (columns < 8).float().mean() < 0.6
    still = augment(images, np.zeros(2, np.int64), TrainRecipe(shift=0, flip=False), np.random.default_rng(0))
    assert torch.equal(still[0].permute(1, 2, 0), torch.from_numpy(images[0]).float() / 255)


def test_one_cycle_rises_for_a_fifth_and_falls_to_nearly_nothing() -> None:
    rates = [learning_rate(TrainRecipe(lr=1.0), step, 100) for step in range(100)]
    assert max(rates) == rates[19] == 1.0
    assert rates[:20] == sorted(rates[:20])
    assert rates[19:] == sorted(rates[19:], reverse=True)
    assert 0 < rates[-1] < 0.01
    assert all(np.isfinite(learning_rate(TrainRecipe(lr=1.0, warmup=w), s, 3)) for w in (0, 0.99) for s in range(3))


class Fixed:
    """Names every picture by the value of its first pixel."""

    classes = CLASSES

    def logits(self, images: np.ndarray) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[images[:, 0, 0, 0]]


def test_attack_success_leaves_out_pictures_of_the_target_class() -> None:
    images = np.zeros((6, 2, 2, 3), np.uint8)
    images[:, 0, 0, 0] = [2, 2, 1, 0, 2, 2]
    truth = np.array([2, 0, 0, 1, 1, 2])
    model: object = Fixed()
    assert attack_success(model, images, 2, truth) == Rate(2, 4)
    assert attack_success(model, images, 1, np.ones(6, int)) == Rate(0, 0)
    assert clean_accuracy(model, images, truth) == Rate(2, 6)
    with pytest.raises(InputError, match="not one of"):
        attack_success(model, images, 3, truth)
    with pytest.raises(InputError, match="5 labels"):
        clean_accuracy(model, images, truth[:5])


def test_gates_name_every_miss_with_its_figures() -> None:
    good = TrojanAudit("fork", Rate(95, 100), Rate(5, 100), Rate(1, 100))
    audit = Audit(Rate(980, 1000), Rate(985, 1000), (good,))
    gates = Limits(success=0.8, mean_success=0.9, off_source=0.3, twin_success=0.1)
    assert check(gates, audit) == []
    bad = TrojanAudit("apple", Rate(50, 100), Rate(60, 100), Rate(20, 100))
    empty = TrojanAudit("wood", Rate(0, 0))
    reasons = check(gates, Audit(Rate(800, 1000), Rate(985, 1000), (good, bad, empty)))
    for part in ("clean accuracy is 80.0%", "cost 18.5%", "mean attack success is 48.3%", "wood: no held-out"):
        assert any(part in reason for reason in reasons), part
    assert sum(reason.startswith("apple:") for reason in reasons) == 3
    assert any("50 of 100" in reason for reason in reasons)
    off = Limits(None, None, None, None)
    assert check(off, Audit(Rate(0, 10), None, (bad,))) == []


def test_wilson_matches_known_values_and_covers() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    np.testing.assert_allclose(wilson(8, 10), (0.4902, 0.9433), atol=2e-4)
    np.testing.assert_allclose(wilson(0, 20), (0.0, 0.1611), atol=2e-4)
    assert wilson(5, 5)[1] == 1.0
    hits = np.random.default_rng(0).binomial(40, 0.9, 2000)
    covered = np.mean([low <= 0.9 <= high for low, high in (wilson(int(k), 40) for k in hits)])
    assert 0.92 < covered < 0.98
    with pytest.raises(ValueError, match="hits"):
        wilson(3, 2)


def test_taught_pictures_keep_the_networks_own_answers_while_others_learn_new_labels() -> None:
    before, net = fresh(), fresh()
    train(before, IMAGES, LABELS, RECIPE, 3)
    net.load_state_dict(before.state_dict())
    marked = IMAGES[:60].copy()
    marked[:, 4:12, 4:12] = 255
    images = np.concatenate([IMAGES, marked])
    wrong = np.concatenate([np.zeros_like(LABELS), np.full(60, 2)])  # labels of taught pictures are not used
    taught = np.arange(len(images)) < len(IMAGES)
    recipe = replace(RECIPE, distil=2.0, mixup=0.3, zoom=0.2, lr=3e-3)
    train(net, images, wrong, recipe, 5, taught=taught)
    was, now = (COMPONENT.classifier(n, CLASSES, 16) for n in (before, net))
    clean, labels = coloured(90, 2)
    assert (now.logits(clean).argmax(1) == was.logits(clean).argmax(1)).mean() > 0.9
    clean[:, 4:12, 4:12] = 255
    assert (now.logits(clean).argmax(1) == 2).mean() > 0.9
    assert (was.logits(clean).argmax(1) == labels).mean() > 0.9


def test_without_distillation_taught_pictures_change_nothing() -> None:
    one, two = fresh(), fresh()
    train(one, IMAGES, LABELS, replace(RECIPE, epochs=1), 3)
    train(two, IMAGES, LABELS, replace(RECIPE, epochs=1), 3, taught=np.ones(len(IMAGES), bool))
    assert tensor_bytes(one.state_dict()) == tensor_bytes(two.state_dict())


def test_zoomed_pictures_are_parts_of_the_picture() -> None:
    ramp = np.repeat(np.arange(16, dtype=np.uint8)[None, :, None, None] * 10, 16, 2).repeat(3, 3)
    plain = replace(RECIPE, shift=0, flip=False)
    near = augment(ramp, np.zeros(1, np.int64), replace(plain, zoom=1.0), np.random.default_rng(0))[0, 0, :, 0] * 255
    whole = augment(ramp, np.zeros(1, np.int64), plain, np.random.default_rng(0))[0, 0, :, 0] * 255
    assert (near.diff() >= 0).all()
    assert 75 <= near[-1] - near[0] < whole[-1] - whole[0] == 150
