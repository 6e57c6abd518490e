"""Public names are a promise: this list may grow; a name that leaves it needs a new major version."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import gifthorse

PROMISED = {
    "gifthorse": "Answer Evidence Need Option Question Spec Stamped Store Suite Task Trojan __version__ build "
    "load_suite make_plan run_suite",
    "gifthorse.types": "Answer Cost Emits Evidence Family Kind Masks Need Option Pictures Question Scenes Stamped Task "
    "Trojan",
    "gifthorse.errors": "GateError GifthorseError InputError MissingResource StoreError ToolError UnknownName",
    "gifthorse.spec": "Spec canonical digest",
    "gifthorse.registry": "KINDS build load names spec_of",
    "gifthorse.store": "Entry Store default_home read_json",
    "gifthorse.keys": "Key open_key seal",
    "gifthorse.rng": "child_seed generator",
    "gifthorse.stats": "wilson",
    "gifthorse.images": "from_tensor png read sheet to_tensor",
    "gifthorse.data.protocol": "Dataset",
    "gifthorse.models.classifier": "Classifier",
    "gifthorse.models.checkpoint": "load read_card save",
    "gifthorse.plant.triggers.protocol": "Trigger",
    "gifthorse.plant.poison": "Poisoning plan",
    "gifthorse.plant.train": "TrainRecipe train",
    "gifthorse.plant.audit": "Audit Limits Rate attack_success check clean_accuracy",
    "gifthorse.tools.protocol": "Bank Subject Tool",
    "gifthorse.judges.protocol": "Judge",
    "gifthorse.judges.questions": "OPTIONS ask",
    "gifthorse.judges.score": "CHANCE Outcome Row board chance_interval credits interval validity",
    "gifthorse.judges.functional": "functional_success paste",
    "gifthorse.judges.masks": "METRICS measure",
    "gifthorse.bench.suite": "Suite builtin_suites load_suite parse_suite",
    "gifthorse.bench.plan": "Cell Plan make_plan",
    "gifthorse.bench.run": "Watch counts folder_of run_suite status_of",
    "gifthorse.bench.executors": "Executor Processes Serial",
    "gifthorse.report": "PUBLISHED Report json_schema load write",
    "gifthorse.testing.conformance": "check_tool toy_subject",
}
PARAMETERS = {
    "gifthorse.registry:build": "kind spec",
    "gifthorse.bench.suite:load_suite": "name quick seeds",
    "gifthorse.bench.suite:parse_suite": "data where",
    "gifthorse.bench.run:run_suite": "suite home executor watch force",
    "gifthorse.report:write": "report pictures out",
    "gifthorse.report:load": "path",
    "gifthorse.testing.conformance:check_tool": "tool pictures",
    "gifthorse.stats:wilson": "k n z",
}
FIELDS = {
    "Evidence": "task images alphas heatmaps scores notes",
    "Task": "id target source",
    "Trojan": "name kind trigger target source concept secret",
    "Question": "id images options",
    "Answer": "question weights",
    "Option": "name pictures",
    "Stamped": "images masks",
}


@pytest.mark.parametrize("module", PROMISED)
def test_no_public_name_disappears(module: str) -> None:
    loaded = importlib.import_module(module)
    assert [n for n in PROMISED[module].split() if not hasattr(loaded, n)] == []


def test_all_is_the_promise() -> None:
    assert sorted(gifthorse.__all__) == sorted(PROMISED["gifthorse"].split())
    report = importlib.import_module("gifthorse.report")
    assert sorted(report.__all__) == sorted(PROMISED["gifthorse.report"].split())
    assert set(PROMISED["gifthorse"].split()) <= set(dir(gifthorse))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_keep_their_names_and_order(name: str) -> None:
    module, _, attribute = name.partition(":")
    found = list(inspect.signature(getattr(importlib.import_module(module), attribute)).parameters)
    promised = PARAMETERS[name].split()
    assert [p for p in found if p in promised] == promised


@pytest.mark.parametrize("name", FIELDS)
def test_nouns_keep_their_fields(name: str) -> None:
    found = list(inspect.signature(getattr(gifthorse, name)).parameters)
    assert found[: len(FIELDS[name].split())] == FIELDS[name].split()


@pytest.mark.parametrize("module", ["gifthorse", "gifthorse.report"])
def test_an_unknown_name_is_an_attribute_error(module: str) -> None:
    with pytest.raises(AttributeError, match="frobnicate"):
        _ = importlib.import_module(module).frobnicate


def test_importing_gifthorse_loads_nothing_heavy() -> None:
    code = "import sys, gifthorse, gifthorse.report; print({'torch', 'numpy', 'pydantic'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
