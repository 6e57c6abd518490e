"""Models at rest: a folder with ``weights.safetensors`` and the public ``card.json``; never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from .. import registry
from ..errors import GifthorseError, InputError, StoreError
from ..spec import Spec
from .classifier import Classifier

WEIGHTS = "weights.safetensors"
CARD = "card.json"


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; a reader never sees half of it.

    Raises:
        StoreError: the folder cannot be written or the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror or error}); free space or choose a folder"
        ) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Tensors as safetensors bytes; equal tensors give equal bytes whatever their memory layout.

    Raises:
        InputError: a tensor holds NaN or infinity.
    """
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise InputError(
                f"tensor {name!r} holds NaN or infinity and is not saved; train with a lower learning rate"
            )
    plain = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    return to_bytes(plain, dict(metadata) if metadata else None)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a safetensors file.

    Raises:
        InputError: missing, a pickle, damaged, or it holds NaN or infinity.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); give a folder that 'plant' wrote"
        ) from error
    if start == b"PK" or start[:1] == b"\x80":
        raise InputError(f"{path}: is a pickle, which can run code when opened, and is refused; convert to safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: damaged, not safetensors ({error}); make or download it again") from error
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path}: tensor {name!r} holds NaN or infinity; the model is refused")
    return tensors, metadata


def save(folder: Path, net: nn.Module, card: Mapping[str, Any]) -> str:
    """Write a network and its public card.

    Args:
        folder: where to; made if need be.
        net: the network inside the classifier (``Classifier.net``).
        card: JSON-able; `load` needs ``model`` (a spec as JSON), ``classes`` and ``size``.

    Returns:
        SHA-256 of the weights file, which the card also gets as ``weights_sha256``.

    Raises:
        InputError: NaN in the weights, or the card lacks a key or is not JSON.
        StoreError: the folder cannot be written.
    """
    for key in ("model", "classes", "size"):
        if key not in card:
            raise InputError(f"the card for {folder} lacks {key!r}; add it before saving")
    data = tensor_bytes(net.state_dict())
    sha = hashlib.sha256(data).hexdigest()
    try:
        text = json.dumps({**card, "weights_sha256": sha}, indent=1, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the card for {folder} is not JSON ({error}); use text, finite numbers and lists") from error
    write_atomic(folder / WEIGHTS, data)
    write_atomic(folder / CARD, (text + "\n").encode())
    return sha


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a saved model.

    Raises:
        InputError: missing, not JSON, or it lacks what `load` needs.
    """
    path = folder / CARD
    try:
        card = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable card ({error}); give a folder that 'plant' wrote") from error
    if not isinstance(card, dict):
        raise InputError(f"{path}: a card is a JSON object; give a folder that 'plant' wrote")
    missing = [key for key in ("model", "classes", "size") if key not in card]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; give a folder that 'plant' wrote")
    return card


def load(folder: Path) -> tuple[Classifier, dict[str, Any]]:
    """A saved model and its card.

    Raises:
        InputError: a file is missing, damaged, a pickle, holds NaN, or does not belong to the card.
        UnknownName: the card names a model that is not installed.
    """
    card = read_card(folder)
    path = folder / WEIGHTS
    tensors, _ = read_tensors(path)
    if "weights_sha256" in card and card["weights_sha256"] != hashlib.sha256(path.read_bytes()).hexdigest():
        raise InputError(f"{path}: not the weights that {CARD} was written for; restore both files together")
    try:
        component = registry.build("model", Spec.from_json(card["model"]))
        classes, size = tuple(map(str, card["classes"])), int(card["size"])
        net = component.build(classes, size, 0)
        net.load_state_dict(tensors, strict=True)
    except GifthorseError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{folder}: weights and card do not fit together ({reason}); restore both files") from error
    return component.classifier(net, classes, size), card
