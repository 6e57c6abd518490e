"""The door every tool uses: `Tool`, and `Subject`, which is all that a tool may know.

A `Subject` is built from the model's public part only; the key is never in its process state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ToolError
from ..models.classifier import Classifier
from ..models.generator import Generator
from ..models.words import Words
from ..types import Emits, Evidence, Family, Need, Pictures, Task


@dataclass(frozen=True)
class Bank:
    """Pictures of single objects or of textures to search: names and ``(n, s, s, 3)`` uint8, with no trigger label."""

    names: tuple[str, ...]
    pictures: Pictures


@dataclass(frozen=True)
class Subject:
    """What a tool may look at. Fields it did not ask for through ``needs`` are None.

    Attributes:
        model: the suspect network; input ``(n, 3, h, w)`` float in [0, 1], output logits.
        tasks: the targets to explain, all at once, so that tools can batch over them.
        clean: ``(n, h, w, 3)`` uint8 clean pictures.
        labels: ``(n,)`` their classes.
        twin: the clean twin.
        triggered: for each task id triggered pictures ``(n, h, w, 3)`` uint8, footprint not shown.
        bank: pictures of single objects.
        textures: pieces of materials, half as large again as the input.
        generator: draws pictures from latents; trained on the bank, knows no network of the suite.
        words: texts -> unit vectors.
        evidence: what the suite's other tools show of this very network, by their titles on the board; one per task.
        answer: for each task id the trigger's own renderings; sentinels only.
        answer_masks: for each task id ``(n, h, w)`` bool footprints of `triggered`; sentinels only.
    """

    model: Classifier
    tasks: tuple[Task, ...]
    clean: Pictures | None = None
    labels: NDArray[np.int64] | None = None
    twin: Classifier | None = None
    triggered: Mapping[str, Pictures] | None = None
    bank: Bank | None = None
    textures: Bank | None = None
    generator: Generator | None = None
    words: Words | None = None
    evidence: Mapping[str, Sequence[Evidence]] | None = None
    answer: Mapping[str, Pictures] | None = None
    answer_masks: Mapping[str, NDArray[np.bool_]] | None = None

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""
        return self.model.size

    def need_clean(self) -> tuple[Pictures, NDArray[np.int64]]:
        """The clean pictures and labels.

        Raises:
            ToolError: the tool did not declare `Need.CLEAN`.
        """
        if self.clean is None or self.labels is None:
            raise ToolError("this tool reads clean pictures: add Need.CLEAN to its needs")
        return self.clean, self.labels

    def need_triggered(self) -> Mapping[str, Pictures]:
        """The triggered pictures of each task.

        Raises:
            ToolError: the tool did not declare `Need.TRIGGERED`.
        """
        if self.triggered is None:
            raise ToolError("this tool reads triggered pictures: add Need.TRIGGERED to its needs")
        return self.triggered

    def need_bank(self) -> Bank:
        """The picture bank.

        Raises:
            ToolError: the tool did not declare `Need.BANK`.
        """
        if self.bank is None:
            raise ToolError("this tool searches pictures: add Need.BANK to its needs")
        return self.bank

    def need_textures(self) -> Bank:
        """The texture bank.

        Raises:
            ToolError: the tool did not declare `Need.TEXTURES`.
        """
        if self.textures is None:
            raise ToolError("this tool searches textures: add Need.TEXTURES to its needs")
        return self.textures

    def need_twin(self) -> Classifier:
        """The clean twin.

        Raises:
            ToolError: the tool did not declare `Need.TWIN`, or the twin has other classes.
        """
        if self.twin is None:
            raise ToolError("this tool compares with the clean twin: add Need.TWIN to its needs")
        if self.twin.classes != self.model.classes:
            raise ToolError("the clean twin has other classes than the suspect; give the twin of this very network")
        return self.twin

    def need_generator(self) -> Generator:
        """The picture generator.

        Raises:
            ToolError: the tool did not declare `Need.GENERATOR`.
        """
        if self.generator is None:
            raise ToolError("this tool optimises a generator: add Need.GENERATOR to its needs")
        return self.generator

    def need_words(self) -> Words:
        """The word encoder.

        Raises:
            ToolError: the tool did not declare `Need.WORDS`.
        """
        if self.words is None:
            raise ToolError("this tool reads words: add Need.WORDS to its needs")
        return self.words

    def need_evidence(self) -> Mapping[str, Sequence[Evidence]]:
        """What other tools show.

        Raises:
            ToolError: the tool did not declare `Need.EVIDENCE`.
        """
        if self.evidence is None:
            raise ToolError("this tool combines what others show: add Need.EVIDENCE to its needs")
        return self.evidence

    def need_answer(self) -> Mapping[str, Pictures]:
        """The trigger's own renderings for each task.

        Raises:
            ToolError: the sentinel did not declare `Need.ANSWER`.
        """
        if self.answer is None:
            raise ToolError("this sentinel reads the answer: add Need.ANSWER to its needs")
        return self.answer

    def need_answer_masks(self) -> Mapping[str, NDArray[np.bool_]]:
        """The footprints of the triggered pictures of each task.

        Raises:
            ToolError: the sentinel did not declare `Need.ANSWER`.
        """
        if self.answer_masks is None:
            raise ToolError("this sentinel reads the answer: add Need.ANSWER to its needs")
        return self.answer_masks


class Tool(Protocol):
    """A frozen dataclass whose fields are its parameters; `run` answers every task in one call.

    A tool that draws nothing at random says so with a class attribute ``seeded = False``, one that explains
    networks with attention only with ``attention = True``.
    `testing.conformance.check_tool` holds every tool to these rules.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    family: ClassVar[Family]
    needs: ClassVar[frozenset[Need]]
    emits: ClassVar[Emits]

    def run(self, subject: Subject, pictures: int, seed: int) -> list[Evidence]:
        """Evidence for every task, in the order of ``subject.tasks``.

        Args:
            subject: what may be looked at.
            pictures: how many pictures to show per task (heat-map tools explain every triggered picture).
            seed: the same seed gives the same bytes on a CPU.
        """
        ...
