"""Random requests made from the survey's OpenAPI document; a short form of ``benchmarks/survey_fuzz.py``."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra `survey` is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")


def test_random_requests_meet_only_documented_replies(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    from survey_fuzz import Fuzzer

    fuzzer = Fuzzer(tmp_path, seed=0, people=12)
    found = fuzzer.run(960)  # what hypothesis draws depends on the modules it finds loaded: enough for some to fit
    fuzzer.ledger.close()
    del sys.modules["survey_fuzz"]
    assert found["operations"] >= 12
    assert found["cases"] >= 960
    assert found["server errors"] == 0
    assert found["undocumented"] == {}
    assert found["answers stored"] > 0, "random requests reach the database"
    assert {"200", "303", "403", "404"} <= set(found["codes"])
