"""What a judge is: people, CLIP and the offline judge answer the same blind questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from ..types import Answer, Question


class Judge(Protocol):
    """A frozen dataclass whose fields are its parameters."""

    name: ClassVar[str]
    version: ClassVar[int]

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order; it does not depend on the order of options or pictures."""
        ...
