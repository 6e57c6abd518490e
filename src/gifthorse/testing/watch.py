"""What a tool may leave no trace of: its subject, global random states, torch's settings, files and sockets."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from ..models.classifier import Classifier
from ..tools.protocol import Bank, Subject
from .toys import parts_of

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
DOORS = frozenset(
    {
        "open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.mkdir", "os.system",
        "socket.connect", "socket.getaddrinfo", "subprocess.Popen",
    }
)  # fmt: skip
_seen: dict[int, list[str]] = {}  # what each watched thread opened
_hooked = False


def traces(subject: Subject) -> dict[str, str]:
    """Digests of everything that must be the same after a run, by what it is called in a message."""
    out = {
        "the global torch random state (seed a torch.Generator instead)": _hash(torch.random.get_rng_state()),
        "numpy's global random state (use rng.generator instead)": _hash(np.random.get_state(legacy=True)),  # noqa: NPY002
        "Python's global random state (use rng.generator instead)": _hash(random.getstate()),
        "torch's settings": str((torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads())),
    }
    parts = parts_of(subject)
    out |= _network("the network's", subject.model)
    if "twin" in parts:
        out |= _network("the twin's", parts.pop("twin"))
    return out | {f"subject.{name}": _hash(part) for name, part in parts.items()}


def _network(whose: str, model: Classifier) -> dict[str, str]:
    parameters = list(model.parameters())
    return {
        f"{whose} weights or buffers": _hash(model.state_dict()),
        f"{whose} training mode": str([m.training for m in model.modules()]),
        f"{whose} requires_grad": str([p.requires_grad for p in parameters]),
        f"{whose} gradients": str([p.grad is not None for p in parameters]),
        f"{whose} hooks": str([len(getattr(m, kind)) for m in model.modules() for kind in HOOKS]),
    }


def _hash(value: Any) -> str:
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return sha256(repr((value.shape, value.dtype)).encode() + value.tobytes()).hexdigest()
    if isinstance(value, Bank):
        value = (value.names, value.pictures)
    if isinstance(value, Mapping):
        value = tuple(value.items())
    return str([_hash(v) for v in value]) if isinstance(value, tuple) else repr(value)


@contextmanager
def doors() -> Iterator[list[str]]:
    """Files, folders, sockets and processes that this thread opens in the block; imports do not count."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_look)  # cannot be taken back: it sleeps outside the block
        _hooked = True
    opened: list[str] = []
    _seen[threading.get_ident()] = opened
    try:
        yield opened
    finally:
        del _seen[threading.get_ident()]


def _look(event: str, args: tuple[Any, ...]) -> None:
    opened = _seen.get(threading.get_ident()) if event in DOORS else None
    if opened is None:
        return
    what = str(args[1] if event == "socket.connect" else args[0])
    if not (event == "open" and what.endswith(".py")) and not _importing():  # a warning quotes its source line
        opened.append(f"{event} {what}")


def _importing() -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
