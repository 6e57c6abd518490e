"""How every benchmark here measures: the sides take turns in one process, one thread, and ratios are per round."""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from gifthorse.bench.executors import prepare_process
from gifthorse.device import has_bf16


@dataclass(frozen=True)
class Times:
    """CPU and wall seconds of each round."""

    cpu: tuple[float, ...]
    wall: tuple[float, ...]


@dataclass(frozen=True)
class Spread:
    """Median of a figure over the rounds, with its lowest and highest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:8.2f} [{self.low:.2f} to {self.high:.2f}]"


def spread(values: list[float]) -> Spread:
    """Median, lowest and highest."""
    return Spread(statistics.median(values), min(values), max(values))


def turns(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Seconds of each side: one warm-up each, then every round runs each once, in alternating order.

    Noise that lasts longer than a round slows all sides alike, so ratios are taken within a round.
    """
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    wall: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side()
    for turn in range(rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            gc.collect()
            start, started = time.process_time(), time.perf_counter()
            sides[name]()
            cpu[name].append(time.process_time() - start)
            wall[name].append(time.perf_counter() - started)
    return {name: Times(tuple(cpu[name]), tuple(wall[name])) for name in sides}


def ratio(above: Times, below: Times) -> Spread:
    """CPU seconds of one side over the other's, round by round."""
    return spread([a / b for a, b in zip(above.cpu, below.cpu, strict=True)])


def verdict(value: float, bar: float, *, least: bool) -> str:
    """``"ok"`` or ``"MISSED"``, with the bar."""
    met = value >= bar if least else value <= bar
    return f"{'ok' if met else 'MISSED'} (bar: {'at least' if least else 'at most'} {bar:g})"


def rounds_from(description: str | None, default: int) -> int:
    """The number of rounds from the command line; says on which machine the figures are taken."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=default, help=f"measured rounds (default {default})")
    rounds: int = parser.parse_args().rounds
    prepare_process()
    print(
        f"torch {torch.__version__}, 1 thread, {torch.backends.cpu.get_cpu_capability()}, "
        f"bf16 {'yes' if has_bf16() else 'no'}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; "
        f"{rounds} rounds, median [lowest to highest], CPU seconds"
    )
    return rounds
