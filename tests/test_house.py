"""The habits of the house, held by tests: sizes, layers, torch-free reading, catalogue and files in step."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import gifthorse
from gifthorse.catalog import BUILTIN

ROOT = Path(gifthorse.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LAYERS = (
    ("types", "errors", "spec", "registry", "catalog", "store", "keys", "rng", "device", "images", "stats"),
    ("data", "models"),
    ("plant", "tools", "judges"),
    ("bench",),
    ("audit",),
    ("report", "survey", "testing", "cli", "__init__"),
)
RANK = {name: i for i, layer in enumerate(LAYERS) for name in layer}


def imports_of(path: Path) -> set[str]:
    """Sub-packages of gifthorse that a file imports when it is loaded."""
    package = ("gifthorse", *path.relative_to(ROOT).parts[:-1])
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            full = (*base, *((node.module or "").split(".") if node.module else ()))
            if full[:1] == ("gifthorse",):
                found |= {full[1]} if len(full) > 1 else {a.name for a in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small_and_import_downwards(path):
    source = path.read_text()
    assert source.count("\n") <= 500
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 80, f"{node.name} is long"
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for other in imports_of(path) - {own}:
        if other in RANK:
            assert RANK[other] <= RANK[own], f"{own} imports {other}, which is above it"
            if RANK[own] == 2:
                assert RANK[other] < 2, f"plug-in {own} imports plug-in {other}"


@pytest.mark.parametrize("module", ["types", "registry", "store", "report.schema", "report.site"])
def test_reading_needs_no_torch(module):
    code = f"import sys, gifthorse.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, table in BUILTIN.items() for n in table])
def test_every_catalogue_line_names_a_component_that_calls_itself_so(kind, name):
    module, _, attribute = BUILTIN[kind][name].partition(":")
    component = getattr(importlib.import_module(module), attribute)
    assert component.name == name
    assert component.version >= 1
    assert component.__doc__
