"""Arrays at rest: safetensors, never a pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ..errors import StoreError


def write(path: Path, arrays: Mapping[str, NDArray[Any]], *, private: bool = False) -> None:
    """Write arrays by name, whole or not at all.

    Args:
        path: the file.
        arrays: any shapes of numbers.
        private: readable by the owner only.

    Raises:
        StoreError: the folder cannot be written or the disk is full.
    """
    data = save({k: np.ascontiguousarray(v) for k, v in arrays.items()})
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o644), "wb") as file:
            file.write(data)
        temp.replace(path)
    except OSError as error:
        temp.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot be written ({error.strerror}); free space or set GIFTHORSE_HOME") from error


def read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file by name.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        raise StoreError(f"{path}: unreadable ({error}); delete it and run again") from error
