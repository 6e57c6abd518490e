"""The offline judge: which option's exemplars do the pictures resemble, in an ImageNet network's eyes?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..errors import InputError
from ..images import to_tensor
from ..models.classifier import fold_norms
from ..models.lite0 import pretrained_body
from ..types import Answer, Pictures, Question
from .wording import by_words

Floats = NDArray[np.float64]
Vectors = Mapping[bytes, Floats]

BATCH = 16
WIDTH = 1280
NEAREST = 3  # exemplars that speak for an option
FLAT = 2  # a picture whose channels span no more levels than this is blank
EPSILON = 1e-6
KEPT = 8192  # pictures whose features a process keeps, 10 kB each


@dataclass(frozen=True)
class EmbedJudge:
    """Compares pictures with exemplars by what EfficientNet-Lite0's classifier reads.

    A picture's features are the 1280 pooled channels before the classifier, standardised over all
    exemplars of a call, centred on the exemplars of its question, so that only what tells the options
    apart counts, and brought to length 1. Its similarity to an option is the mean cosine with the option's
    three nearest exemplars. Pictures of one question are averaged, and a softmax turns similarities into
    weights. Blank pictures are ignored; evidence with nothing else gets equal weights, which is no choice.
    Evidence in words without pictures is compared with the options' names by `judges.wording`.

    Attributes:
        size: side in pixels that pictures are resized to.
        temperature: difference in similarity that changes the odds by a factor e; the default gives exemplars
            held out the confidence that their accuracy deserves.
        centred: whether features are centred on the question's own options.
    """

    name: ClassVar[str] = "embed"
    version: ClassVar[int] = 2

    size: int = 128
    temperature: float = 0.02
    centred: bool = True

    def __post_init__(self) -> None:
        if self.size < 32:
            raise ValueError(f"size is {self.size}, but the network needs at least 32 pixels")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}, but must be above 0")

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order.

        Raises:
            InputError: a question without options, an option without exemplars, or words and an option without name.
            MissingResource: the weights, or for evidence in words the extra ``words``, are not installed.
        """
        seen = self._by_pictures([q for q in questions if len(q.images)])
        told = iter(by_words([q for q in questions if not len(q.images)]))
        return [Answer(q.id, next(seen if len(q.images) else told)) for q in questions]

    def _by_pictures(self, questions: Sequence[Question]) -> Iterator[tuple[float, ...]]:
        """Weights for evidence in pictures, in order."""
        if not questions:
            return iter(())
        for question in questions:
            if not question.options or any(len(option.pictures) == 0 for option in question.options):
                raise InputError(f"question {question.id}: every option needs at least one exemplar picture")
        keys = [(content_keys(q.images), [content_keys(o.pictures) for o in q.options]) for q in questions]
        pictures: dict[bytes, NDArray[np.uint8]] = {}
        for question, (shown, offered) in zip(questions, keys, strict=True):
            pictures.update((k, p) for k, p in zip(shown, question.images, strict=True) if k)
            for option, names in zip(question.options, offered, strict=True):
                pictures.update((k, p) for k, p in zip(names, option.pictures, strict=True) if k)
        exemplars = {key for _, offered in keys for names in offered for key in names if key}
        vectors = _standardised(self.seen(pictures), sorted(exemplars)) if exemplars else {}
        return (self._weights(shown, offered, vectors) for shown, offered in keys)

    def _weights(
        self, shown: Sequence[bytes], offered: Sequence[Sequence[bytes]], vectors: Vectors
    ) -> tuple[float, ...]:
        pictures, count = sorted(filter(None, shown)), len(offered)
        if not pictures or not all(any(names) for names in offered):
            return (1 / count,) * count
        options = [np.stack([vectors[k] for k in sorted(filter(None, names))]) for names in offered]
        centre = np.concatenate(options).mean(0) if self.centred and count > 1 else 0.0
        near = _nearness(
            unit_rows(np.stack([vectors[k] for k in pictures]) - centre),
            [unit_rows(option - centre) for option in options],
        ).mean(0)
        weights = np.exp((near - near.max()) / self.temperature)
        return tuple(float(w) for w in weights / weights.sum())

    def features(self, pictures: Pictures) -> Floats:
        """Features ``(n, 1280)`` of pictures ``(n, h, w, 3)``, neither standardised nor centred.

        Batches are filled up to one size, so that a picture's bytes do not depend on what it is embedded with.
        """
        parts = [self._embed(pictures[i : i + BATCH]) for i in range(0, len(pictures), BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, WIDTH))

    def seen(self, pictures: Mapping[bytes, NDArray[np.uint8]]) -> dict[bytes, Floats]:
        """Features ``(1280,)`` of each picture; those that a process has embedded before are not embedded again."""
        missing: dict[tuple[int, ...], list[bytes]] = {}
        for key in sorted(pictures):
            if (self.size, key) not in _SEEN:
                missing.setdefault(pictures[key].shape, []).append(key)
        for keys in missing.values():
            found = self.features(np.stack([pictures[k] for k in keys]))
            _SEEN.update(((self.size, key), row) for key, row in zip(keys, found, strict=True))
        out = {key: _SEEN[self.size, key] for key in pictures}
        while len(_SEEN) > KEPT:
            del _SEEN[next(iter(_SEEN))]
        return out

    @torch.inference_mode()
    def _embed(self, images: Pictures) -> Floats:
        x = to_tensor(images)
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True).clamp_(0, 1)
        x = torch.cat([x, x[:1].expand(BATCH - len(x), -1, -1, -1)])
        x = ((x * 255 - 127) / 128).contiguous(memory_format=torch.channels_last)
        pooled: torch.Tensor = _network()(x)
        return pooled[: len(images)].double().numpy()


def _nearness(pictures: Floats, options: Sequence[Floats]) -> Floats:
    """Mean cosine of pictures ``(n, d)`` with their `NEAREST` exemplars of each option: ``(n, options)``."""
    columns = []
    for exemplars in options:
        cosines = np.sort(pictures @ exemplars.T, axis=1)[:, -NEAREST:]
        columns.append(cosines.mean(1))
    return np.stack(columns, 1)


def unit_rows(x: Floats) -> Floats:
    """Rows of ``(n, d)`` at length 1."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), EPSILON))


def _standardised(raw: Vectors, exemplars: Sequence[bytes]) -> dict[bytes, Floats]:
    """Z-scores by the exemplars' mean and spread."""
    table = np.stack([raw[k] for k in exemplars])
    mean, spread = table.mean(0), table.std(0)
    spread = np.where(spread > EPSILON, spread, 1)
    return {key: (value - mean) / spread for key, value in raw.items()}


def content_keys(pictures: Pictures) -> list[bytes]:
    """A name by content for each picture ``(h, w, 3)``; a blank one's is empty."""
    return [_content_key(pictures.shape[1:], p.tobytes()) for p in pictures]


@lru_cache(maxsize=2048)
def _content_key(shape: tuple[int, ...], pixels: bytes) -> bytes:
    if _blank(np.frombuffer(pixels, np.uint8).reshape(shape)):
        return b""
    return hashlib.blake2b(str(shape).encode() + pixels, digest_size=16).digest()


def _blank(picture: NDArray[np.uint8]) -> bool:
    first = picture[:1, :1].astype(np.int16)
    near = np.abs(picture[::7, ::7] - first) <= FLAT  # a few pixels settle nearly every case
    return bool(near.all()) and int(np.ptp(picture, axis=(0, 1)).max()) <= FLAT


@lru_cache(maxsize=1)
def _network() -> Any:
    """EfficientNet-Lite0 with its ImageNet weights, up to the pooled channels; frozen, norms folded."""
    net: Any = pretrained_body()
    net.reset_classifier(0)
    fold_norms(net)
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)


_SEEN: dict[tuple[int, bytes], Floats] = {}
