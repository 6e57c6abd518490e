"""What a tool spends, measured around it: pictures through any classifier, seconds, memory."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from types import TracebackType
from typing import Self

import psutil
import torch
from torch import Tensor

from ..models.classifier import Classifier
from ..types import Cost

INTERVAL = 0.02  # seconds between looks at the memory


def give_back() -> None:
    """Hand freed memory that this process keeps back to the system, so that growth can be seen; glibc only."""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", lambda kept: 0)(0)


class Meter:
    """Counts every classifier used inside the ``with`` block, copies that the tool makes included.

    Args:
        device: where the networks live; the memory of a CUDA device is counted instead of the process's.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device if device is not None and device.type == "cuda" else None
        self._forwards = self._backwards = 0
        self._seconds = 0.0
        self._process = psutil.Process()
        self._base = self._peak = 0
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        """Start to count."""
        self._original = Classifier._count
        meter = self

        def count(model: Classifier, x: Tensor) -> None:
            before = model.forwards, model.backwards
            meter._original(model, x)
            meter._forwards += model.forwards - before[0]
            meter._backwards += model.backwards - before[1]

        Classifier._count = count  # type: ignore[method-assign, assignment]
        give_back()
        self._base = self._peak = self._held()
        if self._device is not None:
            torch.cuda.reset_peak_memory_stats(self._device)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, also when the tool failed."""
        if self._device is not None:
            torch.cuda.synchronize(self._device)
            self._peak = torch.cuda.max_memory_allocated(self._device)
        self._seconds = time.perf_counter() - self._start
        Classifier._count = self._original  # type: ignore[method-assign]
        self._stop.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._peak = max(self._peak, self._held())
            self._stop.wait(INTERVAL)

    def _held(self) -> int:
        """Bytes that this process, or the device for it, holds now."""
        if self._device is None:
            return int(self._process.memory_info().rss)
        return torch.cuda.memory_allocated(self._device)

    def cost(self) -> Cost:
        """What was spent; the memory is the growth of this process, or on the device, at its peak, in bytes."""
        return Cost(self._forwards, self._backwards, round(self._seconds, 4), max(0, self._peak - self._base))
