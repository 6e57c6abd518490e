"""People as a judge: their marked answers, put beside the automatic judges of a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InputError, first_problem
from ..types import Kind

if TYPE_CHECKING:
    from ..judges.score import Outcome

FILE = "people.json"
Credit = Annotated[float, Field(ge=0, le=1)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    tool: str
    judge: str = "people"
    kind: Kind
    trojan: str
    credits: tuple[Credit, ...] = Field(min_length=1)
    twin: tuple[Credit, ...] = ()


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    version: Literal[1] = Field(alias="schema")
    suite: str
    outcomes: tuple[_Row, ...]


def read(path: Path, suite: str, units: Mapping[str, str], taken: Sequence[str]) -> list[Outcome]:
    """The outcomes of ``people.json``, none where there is no such file.

    The file holds ``schema`` (1), ``suite`` and ``outcomes``: rows with ``tool``, ``kind``, ``trojan``, ``credits``
    (one per answer, 1 right, 0 wrong) and, where people also saw the clean twin's pictures, ``twin``.

    Args:
        path: the file.
        suite: the run's suite.
        units: for each trojan's name what the board counts it as.
        taken: names of the run's own judges.

    Raises:
        InputError: not such a file, or of another suite, trojan or judge.
    """
    from ..judges.score import Outcome

    if not path.is_file():
        return []
    again = "write it again with `gifthorse survey export STUDY --board`, or move it away"
    try:
        file = _File.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error)}; {again}") from error
    if file.suite != suite:
        raise InputError(f"{path}: people answered about suite {file.suite!r}, not {suite!r}; {again}")
    for row in file.outcomes:
        if row.trojan not in units:
            raise InputError(f"{path}: the run has no trojan {row.trojan!r}; {again}")
        if row.judge in taken:
            raise InputError(f"{path}: judge {row.judge!r} is one of the run's own; {again}")
    return [Outcome(r.tool, r.judge, r.kind, units[r.trojan], r.credits, r.twin) for r in file.outcomes]
