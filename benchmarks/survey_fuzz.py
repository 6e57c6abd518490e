"""What do random requests do to the survey? Made from its OpenAPI document, half of them with a live person's link.

Run: ``PYTHONPATH=src python benchmarks/survey_fuzz.py [--cases 5000] [--seed 0]``.

The server is in this process, on a SQLite file. Forms of live people carry valid proofs half of the time, so that
random answers, repeated answers and erasures reach the database. Counted: replies of 500 and above, replies that the
document does not name, and by status all others. Bar: 0 of the first two.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.python import asgi

from gifthorse.survey import secret, study
from gifthorse.survey.app import create_app
from gifthorse.survey.create import create
from gifthorse.survey.db import Ledger
from gifthorse.survey.source import rehearsal


class Fuzzer:
    """Random requests to one small study with ``people`` live people.

    Args:
        folder: an empty folder.
        seed: seed of all requests.
        people: how many live links there are.
    """

    def __init__(self, folder: Path, seed: int, people: int = 40) -> None:
        made = create(rehearsal(2, 1, 32), study.Settings(pixels=32), folder / "study")
        self.key = secret.load(made.folder)
        self.ledger = Ledger(f"sqlite:///{folder / 'answers.db'}", made)
        self.app = create_app(self.ledger, self.key)
        self.pictures = sorted(made.file.pictures)
        self.seed, self.rng, self.joined = seed, random.Random(seed), 0
        self.live = [self._join() for _ in range(people)]
        self.codes: Counter[str] = Counter()
        self.undocumented: Counter[str] = Counter()
        self.stored = 0

    def _join(self) -> str:
        self.joined += 1
        person = self.key.person("generic", str(self.joined))
        token = self.key.token(person)
        self.ledger.join(person, token, "1", 0.0)
        return token

    def run(self, cases: int) -> dict[str, object]:
        """Meet every operation; about ``cases`` requests in all, and the figures."""
        started = time.perf_counter()
        schema = schemathesis.openapi.from_asgi("/openapi.json", self.app)
        operations = [found.ok() for found in schema.get_all_operations()]
        rich = [o for o in operations if "{" in o.path or o.method == "post"]  # the others run out of cases
        with asgi.get_client(self.app) as client:
            for operation in operations:
                self._meet(operation, -(-cases // len(rich)) if operation in rich else 3, client)
        wrong = sum(n for code, n in self.codes.items() if code >= "500")
        return {
            "cases": self.codes.total(), "seed": self.seed, "operations": len(operations), "server errors": wrong,
            "undocumented": dict(self.undocumented), "answers sent with valid proof": self.stored,
            "answers stored": sum(len(p.answers) for p in self.ledger.everyone()), "codes": dict(self.codes),
            "seconds": round(time.perf_counter() - started, 1),
        }  # fmt: skip

    def _meet(self, operation: Any, examples: int, client: Any) -> None:
        documented = {str(c) for c in operation.definition.raw["responses"]}

        @hypothesis.seed(self.seed)
        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def meets(case: Any) -> None:
            if self.rng.random() < 0.5:
                self._enliven(case)
            code = str(case.call(session=client, allow_redirects=False).status_code)
            self.codes[code] += 1
            if code not in documented:
                self.undocumented[f"{case.method} {case.path} {code}"] += 1

        meets()

    def _enliven(self, case: Any) -> None:
        """Give a random request a live link, the access key or a picture's name, and a form a valid proof."""
        names = case.path_parameters or {}
        if "key" in names:
            names["key"] = self.key.access
        if "name" in names:
            names["name"] = self.rng.choice(self.pictures)
        if "token" not in names:
            return
        token = names["token"] = self.rng.choice(self.live)
        if not isinstance(case.body, dict) or self.rng.random() < 0.25:
            return
        if case.path.endswith("erase"):
            case.body["proof"] = self.key.proof(token, "erase")
            self.live[self.live.index(token)] = self._join()
            return
        person = self.ledger.find(token)
        place = (
            min(person.place, len(person.pages) - 1) if person and self.rng.random() < 0.8 else self.rng.randrange(9)
        )
        case.body |= {"place": str(place), "proof": self.key.proof(token, str(place))}
        if person and self.rng.random() < 0.7:
            case.body["choice"] = self.rng.choice(person.pages[place % len(person.pages)].order)
            self.stored += 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        fuzzer = Fuzzer(Path(place), options.seed)
        print(json.dumps(fuzzer.run(options.cases), indent=1))
        fuzzer.ledger.close()
