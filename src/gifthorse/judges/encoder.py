"""Contrastive picture-text networks (CLIP and its kin), loaded by hash from a local folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError

from ..errors import InputError, MissingResource

Floats = NDArray[np.float64]

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "model.safetensors")
HUB_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?")
BATCH = 32


class Encoder:
    """One network with its own preprocessing and tokeniser; `load` builds it.

    Attributes:
        source: folder or hub name it was asked for by.
        sha256: of the file of weights.
    """

    def __init__(self, source: str, sha256: str, network: Any, transform: Any, tokenise: Any) -> None:
        self.source, self.sha256 = source, sha256
        self._network, self._transform, self._tokenise = network, transform, tokenise

    @torch.inference_mode()
    def pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> Floats:
        """Unit vectors ``(n, d)`` of pictures ``(h, w, 3)`` uint8, which may differ in size."""
        parts = []
        for i in range(0, len(pictures), BATCH):
            x = torch.stack([self._transform(Image.fromarray(p)) for p in pictures[i : i + BATCH]])
            parts.append(self._network.encode_image(x, normalize=True).double().numpy())
        return np.concatenate(parts)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Floats:
        """Unit vectors ``(n, d)`` of texts; what exceeds the network's context is cut off."""
        parts = []
        for i in range(0, len(texts), BATCH):
            tokens = self._tokenise(list(texts[i : i + BATCH]))
            parts.append(self._network.encode_text(tokens, normalize=True).double().numpy())
        return np.concatenate(parts)


@lru_cache(maxsize=8)
def load(source: str, sha256: str = "") -> Encoder:
    """The encoder of a folder, or of a hub repository that has been downloaded before.

    The folder holds ``open_clip_config.json``, whose ``preprocess_cfg`` is used as it stands, and weights
    as safetensors; nothing is downloaded and no pickle is opened.

    Args:
        source: a folder, or ``"owner/name"``, optionally ``"owner/name@revision"``.
        sha256: expected SHA-256 of the weights; empty takes any.

    Raises:
        MissingResource: the extra, the folder or the weights are not installed.
        InputError: other weights than expected, or a folder that does not fit together.
    """
    if find_spec("open_clip") is None:
        raise MissingResource("judge 'clip' needs open_clip_torch; run \"pip install 'gifthorse[clip]'\"")
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    folder = _folder(source)
    path = _weights(folder, source)
    found = _sha256(path)
    if sha256 and found != sha256.lower():
        raise InputError(f"{path}: SHA-256 is {found}, not the expected {sha256}; download it again or correct sha256")
    _check_config(folder / CONFIG)
    name = f"local-dir:{folder}"
    try:
        with torch.random.fork_rng(devices=[]):
            network = open_clip.create_model(name, load_weights=False, pretrained_text=False)
        open_clip.load_checkpoint(network, str(path), strict=True)
        transform = image_transform_v2(PreprocessCfg(**network.visual.preprocess_cfg), is_train=False)
        tokenise = open_clip.get_tokenizer(name)
    except ImportError as error:
        raise MissingResource(f"{folder}: its tokeniser needs {error.name}; run 'pip install {error.name}'") from error
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, AssertionError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{folder}: config and weights do not load ({reason}); download the folder again") from error
    return Encoder(source, found, network.float().eval().requires_grad_(False), transform, tokenise)


def _folder(source: str) -> Path:
    """The local folder of a source, without asking any host."""
    if Path(source).is_dir():
        return Path(source)
    hub = HUB_NAME.fullmatch(source)
    if hub is None:
        raise MissingResource(f"CLIP weights: no folder {source!r}; give one that holds {CONFIG}, or 'owner/name'")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub["repo"], revision=hub["revision"], local_files_only=True))
    except (OSError, ValueError) as error:
        revision = f" --revision {hub['revision']}" if hub["revision"] else ""
        raise MissingResource(
            f"CLIP weights {source!r} are not on this machine; run 'hf download {hub['repo']}{revision}'"
        ) from error


def _weights(folder: Path, source: str) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    hub = HUB_NAME.fullmatch(source) if not Path(source).is_dir() else None
    todo = f"run 'hf download {hub['repo']}'" if hub else "save the weights there as safetensors"
    raise MissingResource(f"{folder}: holds no {WEIGHTS[0]} (pickles are not opened); {todo}")


def _check_config(path: Path) -> None:
    """The folder says itself how pictures are prepared."""
    try:
        config = json.loads(path.read_text("utf-8"))
        prepared = config["preprocess_cfg"]
        missing = [key for key in ("mean", "std") if len(prepared[key]) != 3]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: no readable preprocess_cfg with mean and std ({error!r}); take it from where the weights are from"
        ) from error
    if missing or "model_cfg" not in config:
        raise InputError(f"{path}: model_cfg or preprocess_cfg is incomplete; take it from where the weights are from")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
