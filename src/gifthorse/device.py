"""Where a block's tensors live: `placed` puts them on a device and draws random numbers on the CPU.

Tools, training and third-party code make tensors as ever and name no device. Draws are the CPU's on every device, so
a run elsewhere starts from the very same noise. Arrays come by `torch.as_tensor` (`torch.from_numpy` stays on the CPU
whatever is asked) and go back by ``.numpy()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .errors import InputError

_TO_NUMPY = (Tensor.numpy, Tensor.__array__)


@dataclass(frozen=True)
class Machine:
    """What cells are computed with. No result depends on it beyond rounding, so it is in no digest.

    Attributes:
        device: where networks are trained and looked at, as in ``cuda`` or ``cuda:1``.
        max_batch: most pictures that a tool's network takes at once, or None for its own bound.
    """

    device: str = "cpu"
    max_batch: int | None = None


CPU = Machine()


def device_of(name: str) -> torch.device:
    """The device of a name such as ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        InputError: there is no such device here.
    """
    try:
        out = torch.device(name)
        torch.zeros(1, device=out)
    except Exception as error:  # each backend has its own
        why = str(error).partition(". ")[0].partition("\n")[0] or type(error).__name__
        raise InputError(f"device {name!r} is not there ({why}); leave --device out to compute on the CPU") from error
    return out


def has_bf16(device: torch.device | None = None) -> bool:
    """Whether a device, by default the CPU, computes in bfloat16 natively; elsewhere it would only be slower."""
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device is not None and device.type != "cpu":
        return False
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


@contextmanager
def placed(device: torch.device) -> Iterator[None]:
    """Inside the block tensors are made on ``device``, unless the code names another.

    On the CPU, outside any other such block, nothing changes and nothing is slower. Tensors that existed before stay
    where they are.
    """
    if device.type == torch.get_default_device().type == "cpu":
        yield
        return
    with device, _Bridge(device):
        yield


class _Bridge(TorchFunctionMode):
    """Random numbers from the CPU's generators, and arrays back to numpy."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        draw = kwargs.get("generator")
        if draw is not None and draw.device != self.device and "device" not in kwargs:
            return func(*args, **kwargs, device=draw.device).to(self.device)
        if func in _TO_NUMPY:
            return func(args[0].cpu(), *args[1:], **kwargs)
        return func(*args, **kwargs)
