"""What each tool adds to a set, against figures worked out by hand and a slow count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifthorse.report import site
from gifthorse.report.schema import BoardRow, CellRow, Report
from gifthorse.report.synergy import synergy


def report(table: dict[str, list[float]], twins: dict[str, list[float]] | None = None, **family: str) -> Report:
    """A board of these accuracies, one per trojan."""
    board: list[Any] = [
        BoardRow(
            tool=t, family=family.get(t, "synthesis"), judge="embed", type="all", n=len(v), accuracy=0.5, low=0, high=1
        )
        for t, v in table.items()
    ]
    cells = [
        CellRow(tool=t, trojan=f"t{i}", accuracy=a, twin_accuracy=None if twins is None else twins[t][i])
        for t, v in table.items()
        for i, a in enumerate(v)
    ]
    return Report(valid=True, models=[], board=board, cells=cells)


def test_the_figures_are_those_worked_out_by_hand() -> None:
    found = synergy(
        report(
            {"a": [1, 0, 0, 0.4], "b": [1, 1, 0, 0], "oracle": [1] * 4, "both": [1, 1, 0, 0.4]},
            {"a": [0.2, 0, 0, 0], "b": [0, 0, 0.6, 0], "oracle": [1] * 4, "both": [0] * 4},
            oracle="sentinel",
            both="combination",
        )
    )
    assert found is not None
    b, a = found.members
    assert (b.tool, b.alone, b.adds, b.only) == ("b", 0.5, 0.25, 1)
    assert (a.tool, a.alone, a.only) == ("a", 0.35, 0)
    assert a.adds == pytest.approx(0.1)
    assert (found.n, found.best) == (4, pytest.approx(0.6))
    assert found.twin == pytest.approx(0.2)
    assert found.low < found.best < found.high


@given(st.integers(0, 2**16), st.integers(2, 4), st.integers(2, 6))
def test_a_set_is_never_worse_than_its_members(seed: int, tools: int, trojans: int) -> None:
    scores = np.random.default_rng(seed).random((tools, trojans))
    found = synergy(report({f"tool {i}": row.tolist() for i, row in enumerate(scores)}))
    assert found is not None
    assert found.twin is None
    assert found.best == pytest.approx(sum(max(scores[:, j]) for j in range(trojans)) / trojans)
    for m in found.members:
        i = int(m.tool.removeprefix("tool "))
        rest = [max(scores[k, j] for k in range(tools) if k != i) for j in range(trojans)]
        assert m.adds == pytest.approx(found.best - sum(rest) / trojans)
        assert m.low - 1e-9 <= m.adds <= m.high + 1e-9


def test_one_tool_or_one_trojan_make_no_set() -> None:
    assert synergy(report({"a": [1, 0]})) is None
    assert synergy(report({"a": [1], "b": [0]})) is None


def test_the_page_shows_it_once() -> None:
    page = site.html(report({"a": [1, 0, 0], "b": [0, 1, 0]}))
    assert page.count("What each tool adds to the others</h4>") == 1
    assert "would read 67 % right" in page
    assert "What each tool adds" not in site.html(report({"a": [1, 0]}))
