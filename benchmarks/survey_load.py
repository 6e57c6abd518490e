"""How many people at once? Bots take the whole survey over HTTP.

Run: ``PYTHONPATH=src python benchmarks/survey_load.py [--bots 200] [--think 5] [--db URL] [--pictures]``.

The server is a process of its own; each bot starts at a random moment of the first think time, thinks a
random time of mean ``--think`` seconds before each answer, reads the page, sends its answer and loads the next.
Counted: answers lost or stored twice, replies of 500 and above, and the times from request to reply.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np

from gifthorse.survey import study
from gifthorse.survey.create import create
from gifthorse.survey.db import Ledger
from gifthorse.survey.source import rehearsal

FIELD = re.compile(r'name="(person|proof|place)" value="([^"]+)"')
CHOICE = re.compile(r'name="choice" value="(\w+)"')
PICTURE = re.compile(r'src="(/p/\w+\.png)"')


def serve(folder: Path, db: str) -> tuple[subprocess.Popen[bytes], str]:
    """A server of its own on a free port, once it answers."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    words = [sys.executable, "-m", "gifthorse.cli", "survey", "serve", str(folder), "--port", str(port), "--db", db]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    for _ in range(1200):
        try:
            httpx.get(base, timeout=2)
            return process, base
        except httpx.HTTPError:
            time.sleep(0.05)
    process.kill()
    raise SystemExit("the server did not start")


async def bot(
    i: int, client: httpx.AsyncClient, think: float, pictures: bool, log: dict[str, list[float]], acked: dict[str, str]
) -> None:
    """One person: begin, answer everything, keep what was acknowledged."""
    rng = random.Random(i)

    async def timed(what: str, method: str, path: str, **more: object) -> httpx.Response:
        started = time.perf_counter()
        try:
            reply = await client.request(method, path, **more)  # type: ignore[arg-type]
        except httpx.TransportError:  # the reply is lost: a browser sends the form again
            log["sent again"].append(1.0)
            reply = await client.request(method, path, **more)  # type: ignore[arg-type]
        log[what].append(time.perf_counter() - started)
        log["errors"] += [1.0] if reply.status_code >= 500 else []
        return reply

    await asyncio.sleep(rng.uniform(0, think))
    page = await timed("page", "GET", "/start")
    reply = await timed("answer", "POST", "/start", data={**dict(FIELD.findall(page.text)), "agree": "1"})
    link = reply.headers["location"]
    while True:
        page = await timed("page", "GET", link)
        offered = CHOICE.findall(page.text)
        if not offered:
            return
        if pictures:
            await asyncio.gather(*(timed("picture", "GET", p) for p in PICTURE.findall(page.text)))
        await asyncio.sleep(rng.uniform(0.5, 1.5) * think)
        data = {**dict(FIELD.findall(page.text)), "choice": rng.choice(offered)}
        reply = await timed("answer", "POST", link, data=data)
        if reply.status_code == 303:
            acked[f"{link} {data['place']}"] = data["choice"]


def load(options: argparse.Namespace) -> dict[str, object]:
    """The figures of one run."""
    folder = Path(tempfile.mkdtemp()) / "study"
    made = create(rehearsal(options.trojans, 4), study.Settings(), folder)
    db = options.db or f"sqlite:///{folder / 'answers.db'}"
    process, base = serve(folder, db)
    log: dict[str, list[float]] = {"page": [], "answer": [], "picture": [], "errors": [], "sent again": []}
    acked: dict[str, str] = {}

    async def everybody() -> None:
        many = httpx.Limits(max_connections=None, max_keepalive_connections=None)  # one client: making one is slow
        async with httpx.AsyncClient(base_url=base, timeout=60, limits=many) as client:
            jobs = (bot(i, client, options.think, options.pictures, log, acked) for i in range(options.bots))
            await asyncio.gather(*jobs)

    started = time.perf_counter()
    try:
        asyncio.run(everybody())
    finally:
        process.terminate()
        process.wait()
    seconds = time.perf_counter() - started
    ledger = Ledger(db, made)
    people = ledger.everyone()
    stored = {}
    for link in {k.split()[0] for k in acked}:
        person = ledger.find(link.removeprefix("/s/"))
        stored |= {f"{link} {a.place}": a.choice for a in person.answers} if person else {}
    rows = sum(len(p.answers) for p in people)
    out: dict[str, object] = {
        "load": os.getloadavg(), "bots": options.bots, "finished": sum(p.finished for p in people), "answers": rows,
        "acknowledged": len(acked), "lost or changed": sum(stored.get(k) != v for k, v in acked.items()),
        "duplicated": rows - len(stored), "server errors": len(log["errors"]),
        "sent again": len(log["sent again"]), "seconds": round(seconds, 1),
        "requests per second": round(sum(map(len, log.values())) / seconds, 1),
    }  # fmt: skip
    for what in ("page", "answer", "picture"):
        if log[what]:
            ms = [round(1000 * float(v)) for v in np.percentile(log[what], (50, 95, 99))]
            out[f"{what}, p50 p95 p99 in ms"] = ms
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bots", type=int, default=200)
    parser.add_argument("--think", type=float, default=5.0)
    parser.add_argument("--trojans", type=int, default=12)
    parser.add_argument("--pictures", action="store_true", help="bots load the pictures too")
    parser.add_argument("--db", default="")
    print(json.dumps(load(parser.parse_args()), indent=1))
