"""The published schema of ``report.json``, version 1. Fractions are in [0, 1]; None means not measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InputError, first_problem
from ..types import Family, Kind

SCHEMA_VERSION: Final = 1
PUBLISHED = Path(__file__).with_name("report.schema.json")

Fraction = Annotated[float, Field(ge=0, le=1)]
Difference = Annotated[float, Field(ge=-1, le=1)]
Count = Annotated[int, Field(ge=0)]
Slice = Literal["all", "patch", "style", "natural"]
Reading = Literal["signed", "positive", "absolute"]
Role = Literal["answer", "evidence", "clean", "triggered"]
Scalar = str | int | float | bool | None


class Row(BaseModel):
    """Base of every part: frozen, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TrojanRow(Row):
    """One planted trojan and how well it works: attack success of ``n`` pictures, with its interval."""

    name: str
    type: Kind
    scope: Literal["universal", "class-universal"]
    source: str | None = None
    target: str
    attack_success: Fraction
    low: Fraction
    high: Fraction
    n: Count
    off_source_success: Fraction | None = Field(None, description="success on other classes; None: universal")
    concept: str = Field("", description="the trigger in words")
    secret: bool = Field(False, description="its answer was in the sealed key only")


class ModelRow(Row):
    """One planted model: accuracy on clean pictures, that of its clean twin, and its trojans."""

    name: str
    seed: int
    clean_accuracy: Fraction
    twin_accuracy: Fraction | None = None
    trojans: list[TrojanRow]
    card: dict[str, Scalar] = Field(default_factory=dict, description="further lines of the model card")


class BoardRow(Row):
    """One tool before one judge on one type of trojan: mean accuracy over ``n`` trojans, with interval."""

    tool: str
    family: Family
    judge: str
    type: Slice
    n: Count
    accuracy: Fraction
    low: Fraction
    high: Fraction
    twin_accuracy: Fraction | None = None
    difference_low: Difference | None = Field(None, description="interval of accuracy minus twin accuracy")
    difference_high: Difference | None = None
    needs: list[str] = Field(default_factory=list)
    rank_low: int | None = None
    rank_high: int | None = None
    functional: Fraction | None = Field(None, description="how often the evidence, applied, fires the trojan")
    activation: Difference | None = Field(
        None, description="whether the evidence, applied, moves activations as the trigger does; 0: no preference"
    )


class RetrievalRow(Row):
    """Where one tool's pictures put the true trigger among ``candidates``, in a judge's eyes; over ``n`` trojans.

    ``mrr`` is the mean reciprocal rank, ``recall_k`` the share of trojans whose trigger is among the first k.
    Trojans whose trigger is no picture of the bank, as styles, are left out.
    """

    tool: str
    judge: str
    type: Slice
    n: Count
    mrr: Fraction
    low: Fraction
    high: Fraction
    recall_1: Fraction
    recall_10: Fraction
    recall_100: Fraction
    twin_mrr: Fraction | None = None
    candidates: Count = 0
    twin_low: Fraction | None = None
    twin_high: Fraction | None = None
    recall_1_low: Fraction | None = None
    recall_1_high: Fraction | None = None
    recall_10_low: Fraction | None = None
    recall_10_high: Fraction | None = None
    recall_100_low: Fraction | None = None
    recall_100_high: Fraction | None = None
    twin_recall_1: Fraction | None = None
    twin_recall_10: Fraction | None = None
    twin_recall_100: Fraction | None = None


class Correlation(Row):
    """A Pearson correlation with its 95 % interval over ``n`` points."""

    value: Difference
    low: Difference
    high: Difference
    n: Count


class AgreementRun(Row):
    """One measurement of a judge's agreement with people on a published study."""

    command: str
    exemplars: str = Field(description="what the judge was shown of each option")
    seed: int
    draws: Count
    cells: Correlation = Field(description="over cells (method by trojan); the interval draws trojans")
    means: Correlation = Field(description="of the methods' means; the interval draws trojans")
    types: dict[str, Correlation] = Field(default_factory=dict, description="over the cells of each kind of trojan")


class AgreementRow(Row):
    """What is known of a judge's agreement with people; ``note`` says where the judge measured was set up otherwise."""

    judge: str
    measured: bool
    study: str = ""
    data: str = ""
    caveat: str = ""
    note: str = ""
    runs: list[AgreementRun] = Field(default_factory=list)


class AttributionRow(Row):
    """One attribution tool on one type of trojan: a score against the true footprint over ``n`` trojans.

    ``margin`` is how much better than the edge detector it is, paired over trojans; positive is better.
    """

    tool: str
    type: Slice
    metric: str
    n: Count
    mean: float
    low: float
    high: float
    values: list[float] = Field(default_factory=list, description="one value per trojan, for the box")
    family: Family | None = None
    reading: Reading | None = Field(None, description="how the maps were read, fixed beforehand for the metric")
    pictures: Count | None = Field(None, description="maps that were scored")
    median: float | None = None
    median_low: float | None = None
    median_high: float | None = None
    margin: float | None = None
    margin_low: float | None = None
    margin_high: float | None = None
    blank: float | None = Field(None, description="what a blank map scores on the same trojans")


class AttributionReadingRow(Row):
    """The same in another reading, of tools whose maps hold negative values; ``chosen`` marks those of the board.

    The margin is over the edge detector in the metric's chosen reading.
    """

    tool: str
    type: Slice
    metric: str
    reading: Reading
    chosen: bool
    n: Count
    pictures: Count
    mean: float
    low: float
    high: float
    median: float
    median_low: float
    median_high: float
    margin: float | None = None
    margin_low: float | None = None
    margin_high: float | None = None


class MapScoresRow(Row):
    """One attribution tool on one trojan of one model: for each metric one value per triggered picture.

    None where the picture has no footprint. Where the maps hold no negative value all readings are alike, and
    ``signed`` stands for them.
    """

    tool: str
    model: str
    trojan: str
    type: Kind
    reading: Reading
    values: dict[str, list[float | None]]


class MapFloorRow(Row):
    """What a blank map scores in one model: the median over ``n`` triggered pictures."""

    model: str
    metric: str
    n: Count
    median: float


class CostRow(Row):
    """What a tool spent: seconds, pictures forward and backward, bytes at the peak."""

    tool: str
    seconds: float = Field(ge=0)
    forwards: Count
    backwards: Count
    peak_bytes: Count
    max_batch: Count | None = Field(None, description="where memory ran out: most pictures at once from then on")


class CellRow(Row):
    """One tool on one trojan: a square of the heat map."""

    tool: str
    trojan: str
    accuracy: Fraction
    twin_accuracy: Fraction | None = None
    model: str = ""


class JudgedCellRow(Row):
    """The same for a judge that is not the board's first, people for example."""

    judge: str
    tool: str
    trojan: str
    accuracy: Fraction
    twin_accuracy: Fraction | None = None


class PictureRow(Row):
    """One picture of the report, or evidence in words, whose ``picture`` is empty.

    ``picture`` is a key in the mapping given to `site.write`.
    ``answer`` is the trigger itself, ``evidence`` what ``tool`` showed, ``clean`` and ``triggered``
    the two sides of the gallery. ``file`` is filled in when the folder is written.
    """

    model: str
    trojan: str
    role: Role
    picture: str
    tool: str = ""
    caption: str = ""
    file: str = ""
    map: bool = Field(False, description="a heat map; no judge saw it as it is")
    texts: list[str] = Field(default_factory=list, description="the evidence in words, best first")


class Report(Row):
    """All that the report shows, and all that another program needs to read a board."""

    schema_version: Literal[1] = SCHEMA_VERSION
    suite: str = ""
    valid: bool
    reasons: list[str] = Field(default_factory=list, description="why the board is not valid")
    chance: Fraction = Field(0.125, description="accuracy of blind guessing: one of eight options")
    models: list[ModelRow]
    board: list[BoardRow]
    retrieval: list[RetrievalRow] = Field(default_factory=list)
    agreement: list[AgreementRow] = Field(default_factory=list)
    attribution: list[AttributionRow] = Field(default_factory=list)
    attribution_readings: list[AttributionReadingRow] = Field(default_factory=list)
    map_scores: list[MapScoresRow] = Field(default_factory=list)
    map_floors: list[MapFloorRow] = Field(default_factory=list)
    costs: list[CostRow] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    seeds: list[int] = Field(default_factory=list)
    cells: list[CellRow] = Field(default_factory=list, description="of the first judge")
    further_cells: list[JudgedCellRow] = Field(default_factory=list, description="of all other judges")
    gallery: list[PictureRow] = Field(default_factory=list)


def json_schema() -> dict[str, Any]:
    """The JSON schema of ``report.json``, as these classes state it."""
    return Report.model_json_schema() | {"title": f"gifthorse report, version {SCHEMA_VERSION}"}


def publish(file: Path = PUBLISHED) -> Path:
    """Write the JSON schema to the file that the package carries, and return its path."""
    file.write_text(json.dumps(json_schema(), indent=1) + "\n")
    return file


def load(path: Path) -> Report:
    """A report from ``report.json`` or from the folder that holds it.

    Raises:
        InputError: not there, not JSON, or not of this schema.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        return Report.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); name a report folder or report.json") from error
    except ValidationError as error:
        raise InputError(f"{file}: {first_problem(error)}; write it again with `gifthorse report`") from error
