"""What a judge is: people, CLIP, a vision-language model and the offline judge answer the same blind questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from ..types import Answer, Question


class Judge(Protocol):
    """A frozen dataclass whose fields are its parameters.

    It sees a `Question` and nothing else: neither the marking nor the tool nor the network. It does not
    read the question's id or an option's category. A judge that computes (embed, clip) follows a new order
    of options with its weights and ignores the order of pictures; one that reads a page (people, vlm) may
    favour a place, which is why the order is random. Where it cannot read the evidence it gives
    `Answer.undecided`, with a note, which scores as a guess.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order.

        Raises:
            InputError: a question that this kind of judge cannot take.
            MissingResource: weights, a package or an endpoint are not there.
        """
        ...


@runtime_checkable
class Traceable(Protocol):
    """A judge that can say which weights or service stood behind its answers."""

    def provenance(self) -> Mapping[str, Any]:
        """JSON-able facts for the record, such as the SHA-256 of each file of weights; no secrets."""
        ...
