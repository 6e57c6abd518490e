"""Child seeds by name: every random draw belongs to a path, so adding one never moves another."""

from __future__ import annotations

import hashlib

import numpy as np


def child_seed(seed: int, *path: str | int) -> int:
    """A 63-bit seed that depends on ``seed`` and the names in ``path`` only."""
    text = "/".join([str(seed), *map(str, path)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """A numpy generator for `child_seed(seed, *path)`."""
    return np.random.default_rng(child_seed(seed, *path))
