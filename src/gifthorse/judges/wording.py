"""How the offline judge reads evidence in words: by what the options' names mean, in a space of sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..models.words import Words, sentence_encoder
from ..types import Question

FIRST = 5  # texts that count: a tool shows its best first, and the author of TextCAVs advises five
TEMPERATURE = 0.1  # difference in mean cosine that changes the odds by a factor e


def encoder() -> Words:
    """The word encoder of the extra ``words``; `MissingResource` without it."""
    return sentence_encoder()


def by_words(questions: Sequence[Question]) -> list[tuple[float, ...]]:
    """Weights of every option for evidence in words.

    An option's nearness is the mean cosine of the first `FIRST` texts with its name; a softmax turns it into weights.
    Where all names are equally near, the weights are equal, which is no choice.

    Raises:
        InputError: an option without a name.
        MissingResource: the extra is not installed.
    """
    for question in questions:
        if not question.options or not all(option.name.strip() for option in question.options):
            raise InputError(f"question {question.id}: evidence in words needs options with names; show names")
    said = [[text.strip() for text in question.texts[:FIRST]] for question in questions]
    phrases = sorted({*(t for texts in said for t in texts), *(o.name for q in questions for o in q.options)})
    if not phrases:
        return []
    vectors = dict(zip(phrases, np.asarray(encoder()(phrases), np.float64), strict=True))
    out = []
    for question, texts in zip(questions, said, strict=True):
        names = np.stack([vectors[o.name] for o in question.options])
        near = (np.stack([vectors[t] for t in texts]) @ names.T).mean(0).round(9)
        weights = np.exp((near - near.max()) / TEMPERATURE)
        out.append(tuple(float(w) for w in weights / weights.sum()))
    return out
