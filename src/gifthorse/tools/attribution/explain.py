"""What every attribution method shares: the working copy, micro-batches, memory, and the maps of all tasks."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ToolError
from ...images import to_tensor
from ...models.classifier import Classifier
from ...rng import generator
from ...types import Evidence, Pictures, Task
from ..maps import heatmaps
from ..protocol import Subject


@dataclass(frozen=True)
class Part:
    """Neighbouring triggered pictures of one task.

    Attributes:
        x: ``(n, 3, h, w)`` pictures in [0, 1].
        target: index of the class to explain.
        task: the task's id.
        first: place of the first picture among those of its task.
    """

    x: Tensor
    target: int
    task: str
    first: int

    def draws(self, seed: int, name: str) -> list[np.random.Generator]:
        """One source of random numbers per picture, the same whatever is explained beside it."""
        return [generator(seed, name, self.task, self.first + i) for i in range(len(self.x))]


T = TypeVar("T")
Attribute = Callable[[Part], Tensor]
_COPIES: WeakKeyDictionary[Classifier, tuple[tuple[Any, ...], Classifier]] = WeakKeyDictionary()
OUT_OF_MEMORY = ("allocate memory", "not enough memory", "out of memory", "bad_alloc", "could not create a primitive")
"""What torch, C++ and oneDNN say when memory runs out, in lower case."""
Method = Callable[[Classifier, dict[str, Any]], Attribute]


def mean_colour(net: Classifier) -> Tensor:
    """``(1, 3, 1, 1)`` the mean colour of the network's training pictures: what hidden means."""
    return net.get_buffer("mean")


def explain(who: str, subject: Subject, batch: int | None, method: Method, *, low: bool = False) -> list[Evidence]:
    """Maps of every triggered picture of every task, for the class that the task targets.

    Where memory runs out, half as many pictures pass at once from then on, and the evidence notes ``max_batch``.

    Args:
        who: the method, named in errors.
        subject: what may be looked at.
        batch: pictures explained at once, at most; None: all of a task, which the method takes apart itself.
        method: takes the working copy of the network and the evidence's notes, to which it may add, and returns
            part -> attributions ``(n, c, h, w)``. Both are asked again where memory runs out.
        low: whether the method may compute in ``subject.model.precision``. Only methods that read nothing but slopes
            do: differences of outputs and their quotients are mostly rounding in bfloat16.

    Raises:
        ToolError: a picture or a target does not fit the network, or memory does not hold a single picture's pass.
    """
    notes: dict[str, Any] = {}
    with kept_copy(subject.model, subject.model.precision if low else torch.float32) as net:
        given = net.max_batch
        attribute = sparing(who, net, lambda: method(net, notes))

        def explained(images: Pictures, task: Task) -> NDArray[np.float32]:
            _check(who, net, images, task)
            x, maps, done = to_tensor(images), list[Tensor](), 0

            def some() -> Tensor:
                rows = len(x) if batch is None else min(batch, net.max_batch)
                return attribute(Part(x[done : done + rows], task.target, task.id, done)).detach()

            while done < len(x):
                maps.append(sparing(who, net, some))
                done += len(maps[-1])
            notes.update({"max_batch": net.max_batch} if net.max_batch < given else {})
            return torch.cat(maps).numpy()

        return heatmaps(subject, explained, notes)


@contextmanager
def kept_copy(model: Classifier, precision: torch.dtype = torch.float32) -> Iterator[Classifier]:
    """The folded copy of a network, kept for the next method; its work is added to the network's counters.

    It is made anew where the network is no longer what it was: its weights, or what its modules say of themselves.
    """
    state = precision, *fingerprint(model)
    known = _COPIES.get(model)
    if known is None or known[0] != state:
        known = _COPIES[model] = state, model.folded(precision)
    net = known[1]
    net.forwards, net.backwards, net.max_batch = 0, 0, model.max_batch
    try:
        yield net
    finally:
        model.forwards += net.forwards
        model.backwards += net.backwards


def fingerprint(model: Classifier) -> tuple[Any, ...]:
    """Checksums of a network's weights and buffers, and its modules in words."""
    sums = checksums([*model.parameters(), *model.buffers()])
    return (model.size, repr(model.net), *map(id, model.modules()), *sums)


@torch.no_grad()
def checksums(tensors: Sequence[Tensor]) -> list[int]:
    """One number for the bytes of each tensor; on a GPU they are summed where they are, each times another number."""
    flat = [t.detach().reshape(-1) for t in tensors]
    if all(t.device.type == "cpu" for t in flat):
        return [zlib.crc32(t.view(torch.uint8).numpy().data) for t in flat]
    counts = [t.view(torch.int32) if t.element_size() == 4 else t.view(torch.uint8) for t in flat]
    odd = 2 * torch.arange(max(map(len, counts)), device=flat[0].device) + 1
    return [int(s) for s in torch.stack([(c * odd[: len(c)]).sum() for c in counts]).tolist()]


def sparing(who: str, net: Classifier, work: Callable[[], T]) -> T:
    """Do some work; where memory runs out, again with half as many pictures at once: ``net.max_batch`` is halved.

    Raises:
        ToolError: it ran out with one picture.
    """
    while True:
        try:
            return work()
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            if net.max_batch == 1:
                raise ToolError(
                    f"{who}: out of memory with one picture of {net.size} pixels at a time "
                    f"({' '.join(str(error).split())[:100] or type(error).__name__}); "
                    "use fewer --workers, smaller pictures (--size) or a smaller network"
                ) from error
        net.max_batch = max(1, net.max_batch // 2)  # here the failed attempt's tensors are gone


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in text for sign in OUT_OF_MEMORY)


def _check(who: str, net: Classifier, images: Pictures, task: Task) -> None:
    """Refuse what the network cannot be asked."""
    if images.ndim != 4 or images.shape[1:] != (net.size, net.size, 3) or not len(images):
        raise ToolError(
            f"{who}, {task.id}: pictures {images.shape} do not fit a network of {net.size}x{net.size}x3; "
            "give one or more colour pictures of that size"
        )
    if not 0 <= task.target < len(net.classes):
        raise ToolError(f"{who}, {task.id}: target {task.target} is none of the network's {len(net.classes)} classes")
