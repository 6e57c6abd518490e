"""What several files of tests start from."""

import os

import pytest

# before torch is there: two workers of one thread beat two of two, most of all on a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory):
    """A small rehearsal of a survey, as `survey new` makes it."""
    from survey_support import make_study

    path = tmp_path_factory.mktemp("survey") / "study"
    make_study(path)
    return path


@pytest.fixture
def served(study_folder, tmp_path):
    """That study behind a test client: the client, its ledger and its key."""
    from survey_support import serve

    client, ledger, key = serve(study_folder, tmp_path)
    yield client, ledger, key
    ledger.close()


@pytest.fixture(scope="session")
def small_suite():
    """A suite that trains nothing, so that every stage takes a moment: ``write(path, name, tools)``."""

    def write(path, name, tools):
        path.write_text(SMALL.format(name=name, tools=", ".join(f'"{t}"' for t in tools)))
        return path

    return write


SMALL = """
schema = 1
suite = "{name}"
train_scenes = 64
test_scenes = 64
audited = 12
shown = 3
pictures = 2
data = {{ name = "emoji", size = 32 }}
model = "tiny"
judges = ["embed"]
tools = [{tools}]
train = {{ epochs = 0 }}
poison = {{ per_trojan = 4, per_natural = 4, negatives = 4 }}
gates = {{ clean_accuracy = 0.0, twin_loss = 1.0, patch = 0.0, style = 0.0, natural = 0.0, off_source_patch = 1.0 }}
random = {{ patch = 1, natural = 1, class_universal = 1.0 }}
secret = {{ count = 1 }}
"""
