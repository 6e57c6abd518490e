"""Many people at once, over HTTP; a short form of ``benchmarks/survey_load.py``."""

import argparse
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra `survey` is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")


@pytest.mark.slow
def test_many_people_at_once_lose_and_double_nothing(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    from survey_load import load

    found = load(argparse.Namespace(bots=24, think=0.3, trojans=6, pictures=False, db=""))
    del sys.modules["survey_load"]
    asked = 1 + 6 + 2  # practice, trojans, attention checks
    assert found["finished"] == 24
    assert found["answers"] == found["acknowledged"] == 24 * asked
    assert found["lost or changed"] == found["duplicated"] == found["server errors"] == 0
