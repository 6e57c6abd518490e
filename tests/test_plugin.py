"""A package outside the repository, really installed, adds a tool that passes the same checks."""

import subprocess
import sys
from pathlib import Path

import pytest

from gifthorse.testing.conformance import check_tool
from gifthorse.types import Need

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the plug-in installed in it by pip."""
    where = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(where), str(PLUGIN)], check=True
    )
    return where


def test_an_installed_tool_is_listed_built_and_passes(site):
    code = (
        "from gifthorse import registry; from gifthorse.testing.conformance import check_tool;"
        "assert 'acme/mean-gradient' in registry.names('tool');"
        "print(check_tool(registry.build('tool', 'acme/mean-gradient', batch=2)))"
    )
    environment = {"PYTHONPATH": f"{site}:{Path(sys.modules['gifthorse'].__file__).parents[1]}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_check_notices_a_tool_that_cheats(site):
    sys.path.insert(0, str(site))
    from acme_gifthorse import MeanGradient

    class Vandal(MeanGradient):
        """Leaves its mark on the network and draws from nowhere."""

        def run(self, subject, pictures, seed):
            subject.model.net.fc.bias.data.add_(1)
            subject.model.train()
            return super().run(subject, pictures - 1, id(subject))

    wrong = " ".join(check_tool(Vandal()))
    assert "weights or buffers" in wrong
    assert "training" in wrong
    assert "2 pictures were asked for, 1 shown" in wrong
    assert check_tool(MeanGradient()) == []
    assert Need.ANSWER not in MeanGradient.needs
