"""Does a killed server lose answers? SIGKILL at random moments while people answer over HTTP.

Run: ``PYTHONPATH=src python benchmarks/survey_kill.py [--kills 50] [--people 4]``.

The parent keeps every answer that was acknowledged (a 303 reply) and compares it with the database at the end.
Threads answer all the time, sending some forms twice; the server is started again after each kill.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from pathlib import Path

import httpx
from survey_load import CHOICE, FIELD, serve

from gifthorse.survey import study
from gifthorse.survey.create import create
from gifthorse.survey.db import Ledger
from gifthorse.survey.source import rehearsal


class State:
    """What the threads share."""

    base = ""
    stop = False
    acked: dict[tuple[str, int], str]
    ended: set[str]  # links that showed a completion code

    def __init__(self) -> None:
        self.acked, self.ended = {}, set()


def answer_on(state: State, seed: int) -> None:
    """Take one survey after the other until told to stop."""
    rng, link = random.Random(seed), ""
    while not state.stop:
        try:
            with httpx.Client(base_url=state.base, timeout=5) as client:
                if not link:
                    data = {**dict(FIELD.findall(client.get("/start").text)), "agree": "1"}
                    link = client.post("/start", data=data).headers["location"]
                page = client.get(link).text
                offered, form = CHOICE.findall(page), dict(FIELD.findall(page))
                if not offered:
                    state.ended |= {link} if "completion code" in page else set()
                    link = ""
                    continue
                choice = rng.choice(offered)
                for _ in range(1 + (rng.random() < 0.3)):
                    if client.post(link, data={**form, "choice": choice}).status_code == 303:
                        state.acked.setdefault((link, int(form["place"])), choice)
        except (httpx.HTTPError, KeyError):
            time.sleep(0.05)


def main() -> None:
    """Kill, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--people", type=int, default=4)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp()) / "study"
    made = create(rehearsal(12, 2, 32), study.Settings(pixels=32), folder)
    db, rng, state = f"sqlite:///{folder / 'answers.db'}", random.Random(0), State()
    process, state.base = serve(folder, db)
    threads = [threading.Thread(target=answer_on, args=(state, i)) for i in range(options.people)]
    for thread in threads:
        thread.start()
    for _ in range(options.kills):
        time.sleep(rng.uniform(0.2, 1.5))
        process.kill()
        process.wait()
        process, state.base = serve(folder, db)
    time.sleep(0.5)
    state.stop = True
    for thread in threads:
        thread.join()
    process.kill()
    process.wait()
    ledger = Ledger(db, made)
    stored = {}
    for link in {link for link, _ in state.acked}:
        person = ledger.find(link.removeprefix("/s/"))
        stored |= {(link, a.place): a.choice for a in person.answers} if person else {}
    people = ledger.everyone()
    ended = [ledger.find(link.removeprefix("/s/")) for link in state.ended]
    with ledger.engine.connect() as c:
        sound = c.exec_driver_sql("PRAGMA integrity_check").scalar()
    keys = [(p.number, a.question) for p in people for a in p.answers]
    out = {
        "kills": options.kills, "acknowledged": len(state.acked), "stored": len(keys),
        "lost": sum(k not in stored for k in state.acked),
        "changed": sum(stored.get(k, v) != v for k, v in state.acked.items()),
        "duplicated": len(keys) - len(set(keys)), "finished": sum(p.finished for p in people), "integrity": sound,
        "codes shown": len(ended), "codes before the end": sum(p is None or not p.finished for p in ended),
    }  # fmt: skip
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
