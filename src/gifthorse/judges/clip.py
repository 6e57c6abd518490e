"""The CLIP judge: pictures, names and texts compared by an ensemble of contrastive networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..types import Answer, Question
from .embed import content_keys
from .encoder import Encoder, load

Floats = NDArray[np.float64]
Table = Mapping[bytes | str, Floats]

TEMPLATES = ("{}", "a picture of {}", "a photo of a {}", "a drawing of a {}", "the texture of {}")
EPSILON = 1e-6


@dataclass(frozen=True)
class ClipJudge:
    """Chooses the option that an ensemble of contrastive networks finds most like the evidence.

    In each network the different pictures of the evidence are averaged, its texts too; an option is the
    average of its exemplars, and of its name in every template. Each pair of what is shown (pictures, texts)
    and what is offered (pictures, names) gives one cosine per option. Cosines of different pairs and
    networks have different scales, so each set is standardised over the question's options before all are
    averaged; a softmax turns them into weights. Blank pictures are ignored; evidence with nothing else gets
    equal weights. How the original benchmark prompted, pooled and ensembled is not published: all choices
    here are ours.

    Attributes:
        models: folders or hub names (``"owner/name@revision"``), see `encoder.load`.
        sha256: expected SHA-256 of each model's weights, in the same order; empty takes any.
        templates: sentences with one ``{}`` for the name of an option.
        temperature: difference, in standard deviations over the options, that changes the odds by a factor e.
    """

    name: ClassVar[str] = "clip"
    version: ClassVar[int] = 1

    models: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    templates: tuple[str, ...] = TEMPLATES
    temperature: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.models, str) or not self.models:
            raise ValueError("models is empty: list at least one folder or hub name of open_clip weights")
        if self.sha256 and len(self.sha256) != len(self.models):
            raise ValueError(f"{len(self.sha256)} values of sha256 for {len(self.models)} models: give one for each")
        if not self.templates or any(t.count("{}") != 1 for t in self.templates):
            raise ValueError("each template needs exactly one {} for the option's name")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}, but must be above 0")

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order.

        Raises:
            InputError: options that are neither all named nor all pictured.
            MissingResource: the extra ``clip`` or the weights are not installed.
        """
        if not questions:
            return []
        sheets = [_Sheet.of(question) for question in questions]
        pictures = {k: p for sheet in sheets for k, p in sheet.material.items()}
        texts = {t for sheet in sheets for t in sheet.texts}
        names = {n for sheet in sheets for n in sheet.names}
        totals = [np.zeros(len(question.options)) for question in questions]
        for encoder in self._encoders():
            table = self._table(encoder, pictures, texts, names)
            for total, sheet in zip(totals, sheets, strict=True):
                total += sheet.scores(table)
        return [self._answer(q, total, s) for q, total, s in zip(questions, totals, sheets, strict=True)]

    def provenance(self) -> dict[str, Any]:
        """SHA-256 of each model's weights as found, by source."""
        return {"weights": {encoder.source: encoder.sha256 for encoder in self._encoders()}}

    def _encoders(self) -> list[Encoder]:
        expected = self.sha256 or ("",) * len(self.models)
        return [load(source, sha) for source, sha in zip(self.models, expected, strict=True)]

    def _answer(self, question: Question, total: Floats, sheet: _Sheet) -> Answer:
        if not sheet.readable:
            return Answer.undecided(question, "blank")
        logits = total / len(self.models) / self.temperature
        weights = np.exp(logits - logits.max())
        return Answer(question.id, tuple(float(w) for w in weights / weights.sum()))

    def _table(
        self, encoder: Encoder, pictures: Mapping[bytes, NDArray[np.uint8]], texts: set[str], names: set[str]
    ) -> dict[bytes | str, Floats]:
        """Vectors of every picture by content, of texts as they stand and of names under ``"name: ..."``."""
        table: dict[bytes | str, Floats] = {}
        if pictures:
            keys = sorted(pictures)
            table.update(zip(keys, encoder.pictures([pictures[k] for k in keys]), strict=True))
        sentences = sorted({*texts, *(t.replace("{}", n) for t in self.templates for n in names)})
        spoken = dict(zip(sentences, encoder.texts(sentences), strict=True)) if sentences else {}
        table.update({f"text: {t}": spoken[t] for t in texts})
        table.update({f"name: {n}": _mean([spoken[t.replace("{}", n)] for t in self.templates]) for n in names})
        return table


@dataclass(frozen=True)
class _Sheet:
    """A question as keys: what is shown, what each option offers, and the pictures behind the keys."""

    shown: tuple[bytes, ...]
    texts: tuple[str, ...]
    exemplars: tuple[tuple[bytes, ...], ...]  # by option; empty where options are not all pictured
    names: tuple[str, ...]  # by option; empty where options are not all named
    material: Mapping[bytes, NDArray[np.uint8]]

    @staticmethod
    def of(question: Question) -> _Sheet:
        options = question.options
        named = all(o.name.strip() for o in options)
        pictured = all(len(o.pictures) for o in options)
        if not options or not (named or pictured):
            raise InputError(f"question {question.id}: give every option a name, or every option a picture")
        stacks = [question.images, *(o.pictures for o in options if pictured)]
        keys = [content_keys(stack) if len(stack) else [] for stack in stacks]
        material = {k: p for ks, stack in zip(keys, stacks, strict=True) for k, p in zip(ks, stack, strict=True) if k}
        distinct = [tuple(sorted({k for k in ks if k})) for ks in keys]
        exemplars = tuple(distinct[1:])
        return _Sheet(
            distinct[0],
            tuple(sorted(set(question.texts))),
            exemplars if all(exemplars) else (),
            tuple(o.name for o in options) if named else (),
            material,
        )

    @property
    def readable(self) -> bool:
        return bool(self.shown or self.texts) and bool(self.exemplars or self.names)

    def scores(self, table: Table) -> Floats:
        """Mean of the standardised cosines of every pair of shown and offered; zeros where there is none."""
        shown = [[table[k] for k in self.shown], [table[f"text: {t}"] for t in self.texts]]
        offered = [
            [_mean([table[k] for k in exemplars]) for exemplars in self.exemplars],
            [table[f"name: {n}"] for n in self.names],
        ]
        pairs = [_standardised(np.stack(o) @ _mean(s)) for s in shown if s for o in offered if o]
        return np.asarray(np.mean(pairs, axis=0)) if pairs else np.zeros(1)


def _mean(vectors: Sequence[Floats]) -> Floats:
    """Mean direction ``(d,)`` of unit vectors."""
    total = np.sum(vectors, axis=0)
    return np.asarray(total / max(float(np.linalg.norm(total)), EPSILON))


def _standardised(x: Floats) -> Floats:
    """Z-scores over options; zeros where the options are alike."""
    spread = float(x.std())
    return np.asarray((x - x.mean()) / spread) if spread > EPSILON else np.zeros_like(x)
