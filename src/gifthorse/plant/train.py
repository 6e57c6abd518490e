"""The one training loop: clean models, planted models and twins all come from here.

Everything random in an epoch is drawn from the seed and the epoch's number, so a run that was stopped
continues from its last finished epoch to the very same bytes (same machine, same thread count).
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..device import has_bf16
from ..errors import GateError, InputError, StoreError
from ..models.checkpoint import read_tensors, tensor_bytes, write_atomic
from ..rng import generator
from ..spec import digest
from ..types import Pictures


@dataclass(frozen=True)
class TrainRecipe:
    """How to train.

    Attributes:
        epochs: passes over the pictures.
        lr: highest learning rate of the one-cycle schedule.
        weight_decay: AdamW decay of weights (not of norms and biases).
        batch: pictures per step.
        label_smoothing: probability spread over the other classes.
        warmup: share of all steps in which the learning rate rises.
        shift: pictures are moved by up to this many pixels each way, edges repeated.
        flip: mirror half of the pictures.
        frozen: parameters whose name starts with one of these stay as they are.
        freeze_norms: keep the running statistics of batch norms (for fine-tuning on few pictures).
        distil: where above 0, the network as it came is the teacher: pictures marked ``taught`` are trained
            on its probabilities for the very same pixels, with this weight, instead of on their labels.
        mixup: taught pictures are blended in pairs, the lesser share drawn evenly from [0, mixup].
        zoom: pictures are enlarged by up to this share, so that their borders fall away.
        bf16: compute in bfloat16 where the device has instructions for it.
    """

    epochs: int = 8
    lr: float = 4e-3
    weight_decay: float = 0.02
    batch: int = 128
    label_smoothing: float = 0.05
    warmup: float = 0.2
    shift: int = 4
    flip: bool = True
    frozen: tuple[str, ...] = ()
    freeze_norms: bool = False
    distil: float = 0.0
    mixup: float = 0.0
    zoom: float = 0.0
    bf16: bool = True

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch < 1 or self.shift < 0 or not self.lr > 0 or not 0 <= self.warmup < 1:
            raise InputError(f"training recipe: a value is out of range in {self}; see TrainRecipe for their meaning")


@dataclass(frozen=True)
class EpochLog:
    """One finished epoch: its number from 1, of how many, mean loss, accuracy on what was trained, seconds."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Lesson:
    """What is trained on: pictures ``(n, h, w, 3)``, labels ``(n,)``, which ones a teacher answers, the teacher."""

    images: Pictures
    labels: NDArray[np.int64]
    taught: NDArray[np.bool_]
    teacher: nn.Module | None


def train(
    net: nn.Module,
    images: Pictures,
    labels: NDArray[np.int64],
    recipe: TrainRecipe | None = None,
    seed: int = 0,
    on_epoch: Callable[[EpochLog], None] | None = None,
    resume_from: Path | None = None,
    taught: NDArray[np.bool_] | None = None,
) -> tuple[EpochLog, ...]:
    """Train ``net`` in place and leave it in evaluation mode.

    Args:
        net: maps normalised pictures to logits; its attributes ``mean`` and ``std`` say how to normalise.
        images: ``(n, h, w, 3)`` uint8.
        labels: ``(n,)`` class indices.
        recipe: how to train.
        seed: seed of the order and the augmentation.
        on_epoch: called after each epoch, once the checkpoint is safely written.
        resume_from: checkpoint file, rewritten after each epoch. Where it exists already, training
            continues from it; the result has the same bytes as a run that was never stopped.
        taught: ``(n,)`` pictures trained to keep the network's own answer, see ``distil``; none by default.

    Returns:
        One log per epoch, those before a resumption included.

    Raises:
        InputError: pictures, labels and network do not fit together, or 'frozen' names nothing.
        StoreError: the checkpoint is damaged, belongs to another run or cannot be written.
        GateError: the loss became NaN or infinite.
    """
    recipe = recipe or TrainRecipe()
    labels = np.asarray(labels, np.int64)
    taught = np.zeros(len(images), np.bool_) if taught is None or not recipe.distil else taught
    _check_data(images, labels)
    net.to(memory_format=torch.channels_last)
    teacher = copy.deepcopy(net).eval().requires_grad_(False) if taught.any() else None
    data = Lesson(images, labels, taught, teacher)
    optimiser = _optimiser(net, recipe)
    logs: list[EpochLog] = []
    identity = ""
    if resume_from is not None:
        identity = _identity(net, data, recipe, seed)
        if resume_from.exists():
            logs = _restore(resume_from, identity, net, optimiser)
    for epoch in range(len(logs), recipe.epochs):
        log = _epoch(net, optimiser, data, recipe, seed, epoch)
        logs.append(log)
        if resume_from is not None:
            _store(resume_from, identity, net, optimiser, logs)
        if on_epoch is not None:
            on_epoch(log)
    net.eval()
    net.requires_grad_(True)
    return tuple(logs)


def _epoch(
    net: nn.Module, optimiser: torch.optim.Optimizer, data: Lesson, recipe: TrainRecipe, seed: int, epoch: int
) -> EpochLog:
    """One pass over the pictures in a fresh order; an incomplete last batch is left out."""
    start, draw = time.perf_counter(), generator(seed, "train", "epoch", epoch)
    order = draw.permutation(len(data.images))
    size = min(recipe.batch, len(order))
    steps = len(order) // size
    device = next(net.parameters()).device
    bf16 = recipe.bf16 and has_bf16(device)
    mean, std = _normalisation(net)
    _train_mode(net, recipe)
    loss_sum, hits = 0.0, 0
    for step in range(steps):
        chosen = order[step * size : (step + 1) * size]
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, epoch * steps + step, recipe.epochs * steps)
        x = augment(data.images, chosen, recipe, draw)
        keep = torch.as_tensor(np.flatnonzero(data.taught[chosen]))
        if recipe.mixup and len(keep):
            x[keep] = _blended(x[keep], recipe.mixup, draw)
        x = (x - mean) / std
        y = torch.as_tensor(data.labels[chosen])
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits: Tensor = net(x)
        loss = _loss(logits.float(), y, x, keep, data.teacher, recipe)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        loss_sum += loss.item()
        hits += int((logits.detach().argmax(1) == y).sum())
        if not math.isfinite(loss_sum):
            raise GateError(f"training diverged in epoch {epoch + 1} (loss is not finite); lower lr from {recipe.lr:g}")
    seconds = time.perf_counter() - start
    return EpochLog(epoch + 1, recipe.epochs, loss_sum / steps, hits / (steps * size), seconds)


def _loss(logits: Tensor, y: Tensor, x: Tensor, keep: Tensor, teacher: nn.Module | None, recipe: TrainRecipe) -> Tensor:
    """Cross entropy with the labels; with the teacher's probabilities for the pictures ``keep``."""
    if teacher is None or not len(keep):
        return F.cross_entropy(logits, y, label_smoothing=recipe.label_smoothing)
    with torch.no_grad():
        wanted = teacher(x[keep]).softmax(1)
    told = torch.ones(len(y), dtype=torch.bool)
    told[keep] = False
    own = F.cross_entropy(logits[told], y[told], label_smoothing=recipe.label_smoothing, reduction="sum")
    agreement = F.kl_div(logits[keep].log_softmax(1), wanted, reduction="sum")
    return (own + recipe.distil * agreement) / len(y)


def _blended(x: Tensor, most: float, draw: np.random.Generator) -> Tensor:
    """Each picture mixed with another of the batch, whose share is drawn from [0, most]."""
    share = torch.as_tensor(draw.random((len(x), 1, 1, 1), np.float32) * np.float32(most))
    partner = torch.as_tensor(draw.permutation(len(x)))
    return x * (1 - share) + x[partner] * share


def augment(images: Pictures, chosen: NDArray[np.int64], recipe: TrainRecipe, draw: np.random.Generator) -> Tensor:
    """The chosen pictures moved, mirrored, enlarged: ``(b, 3, h, w)`` float32 in [0, 1], in channels_last layout."""
    b, (h, w) = len(chosen), images.shape[1:3]
    moves = draw.integers(-recipe.shift, recipe.shift + 1, (2, b, 1))
    mirrored = draw.random((b, 1)) < 0.5
    rows, columns = np.arange(h)[None], np.arange(w)[None]
    if recipe.zoom:
        part = 1 / (1 + recipe.zoom * draw.random((b, 1)))
        rows = ((1 - part) * h * draw.random((b, 1)) + part * rows).astype(np.int64)
        columns = ((1 - part) * w * draw.random((b, 1)) + part * columns).astype(np.int64)
    rows = np.clip(rows + moves[0], 0, h - 1)
    columns = np.clip(columns + moves[1], 0, w - 1)
    if recipe.flip:
        columns = np.where(mirrored, columns[:, ::-1], columns)
    pixels = images[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
    return torch.as_tensor(pixels).permute(0, 3, 1, 2).float().div_(255)


def learning_rate(recipe: TrainRecipe, step: int, steps: int) -> float:
    """One cycle: a straight rise for the warm-up's share of the steps, then a half cosine down to near 0."""
    rise = recipe.warmup * steps
    if step + 1 <= rise:
        return recipe.lr * (step + 1) / rise
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step + 1 - rise) / (steps + 1 - rise)))


def _check_data(images: Pictures, labels: NDArray[np.int64]) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise InputError(f"training pictures must be uint8 (n, h, w, 3), got {images.dtype} {images.shape}")
    if len(images) != len(labels) or len(images) < 2:
        raise InputError(f"{len(images)} training pictures and {len(labels)} labels; give two or more, one label each")


def _normalisation(net: nn.Module) -> tuple[Tensor, Tensor]:
    mean, std = getattr(net, "mean", None), getattr(net, "std", None)
    if mean is None or std is None:
        raise InputError(
            f"{type(net).__name__} has no 'mean' and 'std'; set both to three numbers for pictures in [0, 1]"
        )
    return torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)


def _train_mode(net: nn.Module, recipe: TrainRecipe) -> None:
    net.train()
    if recipe.freeze_norms:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def _optimiser(net: nn.Module, recipe: TrainRecipe) -> torch.optim.AdamW:
    named = dict(net.named_parameters())
    for prefix in recipe.frozen:
        if not any(name.startswith(prefix) for name in named):
            raise InputError(
                f"training recipe: no parameter starts with {prefix!r}, as 'frozen' says; see named_parameters"
            )
    for name, parameter in named.items():
        parameter.requires_grad_(not name.startswith(tuple(recipe.frozen)))
    trained = [p for p in named.values() if p.requires_grad]
    if not trained:
        raise InputError("training recipe: 'frozen' leaves nothing to train; name fewer parameters")
    return torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=recipe.lr,
    )


def _identity(net: nn.Module, data: Lesson, recipe: TrainRecipe, seed: int) -> str:
    """Digest of all that decides the outcome: first weights, pictures, labels, recipe and seed."""
    sha = hashlib.sha256(tensor_bytes(net.state_dict()))
    for part in (data.images, data.labels, data.taught):
        sha.update(np.ascontiguousarray(part).data)
    return digest([sha.hexdigest(), list(data.images.shape), asdict(recipe), seed])


def _store(path: Path, identity: str, net: nn.Module, optimiser: torch.optim.Optimizer, logs: list[EpochLog]) -> None:
    tensors = {f"net/{name}": tensor for name, tensor in net.state_dict().items()}
    for name, parameter in net.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"adam/{key}/{name}"] = value
    metadata = {"identity": identity, "logs": json.dumps([asdict(log) for log in logs])}
    write_atomic(path, tensor_bytes(tensors, metadata))


def _restore(path: Path, identity: str, net: nn.Module, optimiser: torch.optim.Optimizer) -> list[EpochLog]:
    try:
        tensors, metadata = read_tensors(path)
    except InputError as error:
        raise StoreError(f"{path}: damaged checkpoint; delete it to train from the start") from error
    if metadata.get("identity") != identity:
        raise StoreError(f"{path}: checkpoint of another network, data, recipe or seed; delete it or name another file")
    net.load_state_dict({k.removeprefix("net/"): v for k, v in tensors.items() if k.startswith("net/")})
    for name, parameter in net.named_parameters():
        state: dict[str, Any] = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = tensors.get(f"adam/{key}/{name}")
            if value is not None:  # same memory layout as the weights, so that the same kernels run
                state[key] = value.cpu() if value.ndim == 0 else torch.empty_like(parameter).copy_(value).detach()
        if state:
            optimiser.state[parameter] = state
    return [EpochLog(**log) for log in json.loads(metadata["logs"])]
