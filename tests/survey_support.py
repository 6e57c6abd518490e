"""A tiny study and a bot that takes it, for the survey's tests."""

import re
import socket
import subprocess
import sys

from starlette.testclient import TestClient

from gifthorse.survey import secret as secrets_of
from gifthorse.survey import study as files
from gifthorse.survey.app import create_app
from gifthorse.survey.create import create
from gifthorse.survey.db import Ledger
from gifthorse.survey.source import rehearsal
from gifthorse.survey.study import Settings

FIELD = re.compile(r'name="(person|proof|place)" value="([^"]+)"')
CHOICE = re.compile(r'name="choice" value="(\w+)"')


class Clock:
    now = 1_800_000_000.0

    def __call__(self):
        self.now += 5
        return self.now


def make_study(folder, trojans=4, tools=1, **settings):
    return create(rehearsal(trojans, tools, 32), Settings(**{"pixels": 32, "evidence": 3} | settings), folder)


def fields(page):
    return dict(FIELD.findall(page))


def begin(client, query=""):
    """Agree to take part; the address of the person's own link."""
    page = client.get(f"/start{query}")
    reply = client.post("/start", data={**fields(page.text), "agree": "1"}, follow_redirects=False)
    assert reply.status_code == 303
    return reply.headers["location"]


def step(client, link, pick=0):
    """Answer one page; True while there was one."""
    page = client.get(link).text
    offered = CHOICE.findall(page)
    if not offered:
        return False
    reply = client.post(link, data={**fields(page), "choice": offered[pick]}, follow_redirects=False)
    assert reply.status_code == 303, reply.text
    return True


def take(client, query="", pick=0):
    """The whole survey; the link."""
    link = begin(client, query)
    while step(client, link, pick):
        pass
    return link


def serve(folder, tmp_path, clock=None):
    study, key = files.load(folder), secrets_of.load(folder)
    ledger = Ledger(f"sqlite:///{tmp_path / 'answers.db'}", study)
    return TestClient(create_app(ledger, key, clock or Clock()), follow_redirects=True), ledger, key


def answer_all(ledger, key, study, name, choose, seconds=5.0, start=0.0):
    person = key.person("generic", name)
    number = ledger.join(person, key.token(person), "1", start)
    for place, page in enumerate(ledger.number(number).pages):
        assert ledger.answer(ledger.number(number), place, choose(page), start + seconds * (place + 1))
    return number


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def serve_apart(folder, port):
    """The study's server as a process of its own."""
    command = [sys.executable, "-m", "gifthorse.cli", "survey", "serve", str(folder), "--port", str(port)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)
