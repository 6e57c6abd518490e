"""Two passes over a bank: all of it on a few clean pictures, the best of it on more; and what is worth showing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...images import to_tensor
from ...types import Evidence, Pictures, Task
from ..optim.loop import best_first, torch_generator
from ..optim.objectives import scene_pools
from ..protocol import Subject

Floats = NDArray[np.float32]
Found = NDArray[np.int64]

Gain = Callable[[Found, Tensor, torch.Generator], Tensor]
"""(entries of the bank ``(k,)``, scenes ``(n, 3, h, w)``, draw) -> ``(ways, k, n, classes)`` rises of confidence."""


def two_passes(
    subject: Subject, entries: int, gain: Gain, passes: tuple[int, int, int], pictures: int, seed: int, name: str
) -> list[tuple[Found, Floats]]:
    """For each task the bank's best entries and how far each raises the target, on fresh pictures.

    Args:
        subject: its tasks and clean pictures; tasks of one source share their passes.
        entries: how many the bank holds.
        gain: what an entry does to clean pictures.
        passes: pictures of the first pass, entries that it leaves at least, and pictures of the second.
        pictures: how many will be shown; as many entries are left at least.
        seed: the run's seed.
        name: the tool's.
    """
    first, shortlist, trials = passes
    everything = [np.arange(entries)] * len(subject.tasks)
    coarse = _rises(subject, everything, gain, first, seed, name)
    left = [np.array(best_first(rise)[: max(shortlist, pictures)]) for rise in coarse]
    return list(zip(left, _rises(subject, left, gain, trials, seed, name), strict=True))


def _rises(
    subject: Subject, candidates: Sequence[Found], gain: Gain, trials: int, seed: int, name: str
) -> list[Floats]:
    """For each task ``(len(candidates),)`` the mean rise of the target's confidence, in the best way of each entry."""
    (clean, labels), tasks = subject.need_clean(), subject.tasks
    pools = scene_pools(tasks, labels)
    out: list[Floats] = [np.zeros(0, np.float32)] * len(tasks)
    for source in dict.fromkeys(t.source for t in tasks):
        mine = [i for i, t in enumerate(tasks) if t.source == source]
        pool = np.unique(torch.cat([pools[i] for i in mine]).numpy())
        draw = torch_generator(seed, name, trials, -1 if source is None else source)
        chosen = pool[torch.randperm(len(pool), generator=draw)[:trials].numpy()]
        scenes, seen = to_tensor(clean[chosen]), torch.as_tensor(labels)[chosen]
        wanted = np.unique(np.concatenate([candidates[i] for i in mine]))
        found = gain(wanted, scenes, draw)
        for i in mine:
            fits = seen != tasks[i].target  # scenes that show the target already tell nothing
            rows = torch.as_tensor(np.searchsorted(wanted, candidates[i]))
            part = found[:, rows][:, :, fits if bool(fits.any()) else slice(None), tasks[i].target]
            out[i] = part.mean(2).amax(0).numpy()
    return out


def worth_showing(rise: Floats, pictures: int, keep: float) -> list[int]:
    """``pictures`` indices by falling rise, with repeats where few come near the best.

    Args:
        rise: ``(n,)``.
        pictures: how many are shown.
        keep: an entry is shown if its rise is at least this share of the best one's.
    """
    order = best_first(rise)[:pictures]
    strong = [i for i in order if rise[order[0]] > 0 and rise[i] >= keep * rise[order[0]]] or order
    return [i for i, part in zip(strong, np.array_split(np.arange(pictures), len(strong)), strict=True) for _ in part]


def answers(
    tasks: Sequence[Task],
    ranked: Sequence[tuple[Found, Floats]],
    names: Sequence[str],
    shown: Pictures,
    pictures: int,
    keep: float,
) -> list[Evidence]:
    """What a ranking shows of each task, largest rise first; ``notes`` name it.

    Args:
        tasks: the tasks.
        ranked: of `two_passes`.
        names: what the bank's entries are called.
        shown: ``(entries, h, w, 3)`` uint8, how they are shown.
        pictures: how many are shown of each task.
        keep: as in `worth_showing`.
    """
    out = []
    for task, (found, rise) in zip(tasks, ranked, strict=True):
        order = worth_showing(rise, pictures, keep)
        chosen = [int(found[i]) for i in order]
        scores = tuple(float(rise[i]) for i in order)
        out.append(Evidence(task.id, shown[chosen], scores=scores, notes={"retrieved": [names[i] for i in chosen]}))
    return out
