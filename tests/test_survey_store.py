"""Answers on SQLite and on PostgreSQL: stored once, never overwritten, balanced, there after a SIGKILL."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="the extra `survey` is not installed")
from sqlalchemy import event

from gifthorse.errors import GifthorseError, InputError
from gifthorse.survey import study as files
from gifthorse.survey.db import Ledger
from survey_support import CHOICE, fields, free_port, make_study, serve_apart

BIN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture(scope="session")
def cluster():
    """A private PostgreSQL on a socket of its own; the address of a new database per call."""
    if not BIN:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    if os.geteuid() == 0 and not shutil.which("runuser"):
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    place = Path(tempfile.mkdtemp(prefix="gh-pg-"))
    prefix = []
    if os.geteuid() == 0:
        shutil.chown(place, "postgres")
        prefix = ["runuser", "-u", "postgres", "--"]

    def tool(name, *words):
        done = subprocess.run(
            [*prefix, str(BIN[-1] / name), *words], capture_output=True, text=True, cwd="/", check=False
        )
        assert done.returncode == 0, done.stderr

    tool("initdb", "-D", f"{place}/data", "-U", "gifthorse", "-A", "trust", "-N")
    options = f"-c listen_addresses='' -k {place} -c max_connections=120 -c fsync=off"
    tool("pg_ctl", "-D", f"{place}/data", "-o", options, "-l", f"{place}/log", "-w", "start")
    made = iter(range(1000))

    def fresh():
        name = f"t{next(made)}"
        tool("createdb", "-h", str(place), "-U", "gifthorse", name)
        return f"postgresql+pg8000://gifthorse@/{name}?unix_sock={place}/.s.PGSQL.5432"

    yield fresh
    tool("pg_ctl", "-D", f"{place}/data", "-m", "immediate", "stop")
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'answers.db'}"
    return request.getfixturevalue("cluster")()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("store") / "study", 4, 2)


@pytest.fixture
def ledger(url, study):
    made = Ledger(url, study)
    yield made
    made.close()


def join(ledger, name, now=0.0):
    return ledger.number(ledger.join(f"hash of {name}", f"token of {name}", "1", now))


def finish(ledger, person, now):
    for place, page in enumerate(person.pages):
        ledger.answer(person, place, page.order[0], now)


def test_an_answer_is_stored_once_and_stays(ledger):
    person = join(ledger, "a")
    first, second = person.pages[0].order[:2]
    assert ledger.answer(person, 0, first, 1.0)
    assert not ledger.answer(person, 0, second, 2.0)
    (stored,) = ledger.find("token of a").answers
    assert (stored.choice, stored.at, stored.question) == (first, 1.0, "practice")


def test_many_threads_that_send_the_same_form_store_one_answer(ledger):
    person = join(ledger, "a")
    with ThreadPoolExecutor(32) as pool:
        for place, page in enumerate(person.pages):
            sent = pool.map(lambda choice, p=place: (ledger.answer(person, p, choice, 1.0), choice), page.order * 4)
            winners = [choice for new, choice in sent if new]
            assert len(winners) == 1
            assert ledger.find("token of a").answers[place].choice == winners[0]
    assert ledger.find("token of a").finished


def test_many_threads_that_join_are_balanced_and_counted_once(ledger):
    with ThreadPoolExecutor(32) as pool:
        numbers = list(pool.map(lambda i: ledger.join(f"p{i % 40}", f"t{i % 40}", "1", 0.0), range(120)))
    people = ledger.everyone()
    assert len(people) == len(set(numbers)) == 40
    assert set(Counter(p.slot for p in people).values()) == {10}


def test_arms_stay_balanced_when_a_third_drops_out(ledger):
    rng, now = random.Random(0), 0.0
    for i in range(60):
        now += 600
        person = join(ledger, i, now)
        if rng.random() < 0.7:
            finish(ledger, person, now + 300)
    later = now + 3600 * 2  # who dropped out is silent by now, and their places are filled
    for i in range(4):
        finish(ledger, join(ledger, f"late {i}", later), later)
    done = Counter(p.slot for p in ledger.everyone() if p.finished)
    assert len(done) == 4
    assert max(done.values()) - min(done.values()) <= 2


def test_threads_that_wait_share_a_commit_and_none_pays_for_another(ledger):
    people = [join(ledger, i) for i in range(12)]
    gate, begun = threading.Barrier(13), []

    def fail(c):
        begun.append(c)
        raise KeyError("mine alone")

    def send(i):
        gate.wait()
        with pytest.raises(KeyError):
            ledger._write(fail)
        return ledger.answer(people[i], 0, people[i].pages[0].order[0], 1.0)

    with ThreadPoolExecutor(12) as pool:
        sent = [pool.submit(send, i) for i in range(12)]
        with ledger._group.turn:  # whoever comes now has to wait
            gate.wait()
        assert all(s.result() for s in sent)
    assert len(begun) >= 12
    assert all(len(p.answers) == 1 for p in ledger.everyone())


def test_an_answer_is_acknowledged_after_its_commit_only(study, tmp_path):
    made = Ledger(f"sqlite:///{tmp_path / 'a.db'}", study)
    people, commits, seen = [join(made, i) for i in range(8)], [], []
    event.listen(made.engine, "commit", lambda c: commits.append(c))

    def send(person):
        made.answer(person, 0, person.pages[0].order[0], 1.0)
        other = sqlite3.connect(tmp_path / "a.db")
        seen.append(other.execute("SELECT count(*) FROM answers WHERE number = ?", [person.number]).fetchone()[0])
        other.close()

    with ThreadPoolExecutor(8) as pool:
        with made._group.turn:
            sent = [pool.submit(send, person) for person in people]
            while len(made._group._waiting) < 8:
                time.sleep(0.005)
        for one in sent:
            one.result()
    assert seen == [1] * 8
    assert len(commits) == 1, "eight who waited share one commit"
    made.close()


def test_an_answer_of_somebody_just_erased_is_not_stored(ledger):
    person = join(ledger, "a")
    assert ledger.erase(person.number)
    assert not ledger.answer(person, 0, person.pages[0].order[0], 1.0)
    assert ledger.everyone() == []


def test_pages_are_kept_as_shown(ledger, url, study):
    before = join(ledger, "a").pages
    again = Ledger(url, study)
    assert again.find("token of a").pages == before
    again.close()


def test_erasing_one_person_leaves_the_others(ledger):
    people = [join(ledger, n) for n in "abc"]
    for person in people:
        finish(ledger, person, 1.0)
    assert ledger.erase(people[0].number.lower())
    assert ledger.erase("hash of b", hashed=True)
    assert not ledger.erase(people[0].number)
    (left,) = ledger.everyone()
    assert left.number == people[2].number
    assert left.finished


def test_a_database_belongs_to_one_study_and_opens_again(ledger, url, study, tmp_path):
    Ledger(url, study).close()
    other = make_study(tmp_path / "other", 2, 0)
    with pytest.raises(InputError, match="another study"):
        Ledger(url, other)
    with ledger.engine.connect() as c, c.begin():
        c.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(InputError, match="newer"):
        Ledger(url, study)


@pytest.mark.parametrize(
    "wrong",
    [
        "sqlite://",
        "nonsense",
        "sqlite:////nowhere/at/all.db",
        "oracle+what://x",
        "postgresql+pg8000://x@/y?unix_sock=/nowhere",
    ],
)
def test_wrong_addresses_are_one_line(study, wrong):
    with pytest.raises(GifthorseError) as caught:
        Ledger(wrong, study)
    assert "--db" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sqlite_waits_for_the_disk(study, tmp_path):
    made = Ledger(f"sqlite:///{tmp_path / 'a.db'}", study)
    with made.engine.connect() as c:
        assert c.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert c.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    assert (tmp_path / "a.db").stat().st_mode & 0o077 == 0
    made.close()


def test_killing_the_server_loses_no_acknowledged_answer(tmp_path):
    """A short form of benchmarks/survey_kill.py: SIGKILL a real server twice while a person answers."""
    httpx = pytest.importorskip("httpx")
    make_study(tmp_path / "s", 6, 0)
    at, kept, rng = free_port(), {}, random.Random(0)
    process, link, deaths = serve_apart(tmp_path / "s", at), "", 0
    deadline = time.monotonic() + 90
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{at}", timeout=5) as client:
            while time.monotonic() < deadline:
                try:
                    if not link:
                        data = {**fields(client.get("/start").text), "agree": "1"}
                        link = client.post("/start", data=data).headers["location"]
                    page = client.get(link).text
                    offered = CHOICE.findall(page)
                    if not offered:
                        break
                    choice = rng.choice(offered)
                    if deaths < 2 and rng.random() < 0.5:
                        deaths += 1
                        process.send_signal(signal.SIGKILL)
                    place = fields(page)["place"]
                    if client.post(link, data={**fields(page), "choice": choice}).status_code == 303:
                        kept[int(place)] = choice
                except httpx.HTTPError:
                    if process.poll() is not None:
                        process = serve_apart(tmp_path / "s", at)
                    time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    study = files.load(tmp_path / "s")
    ledger = Ledger(f"sqlite:///{tmp_path / 's' / 'answers.db'}", study)
    (person,) = ledger.everyone()
    assert deaths == 2
    assert person.finished
    assert {a.place: a.choice for a in person.answers}.items() >= kept.items()
    ledger.close()
