"""The survey's web forms: wrong, repeated and hostile ones too."""

import json
import re
from datetime import date

import pytest

pytest.importorskip("fastapi", reason="the extra `survey` is not installed")
from starlette.testclient import TestClient

from gifthorse.survey import pictures as art
from gifthorse.survey import study as files
from gifthorse.survey.app import create_app
from survey_support import CHOICE, Clock, begin, fields, make_study, serve, step, take


def test_a_whole_survey_ends_with_a_code_and_not_before(served):
    client, ledger, _ = served
    link, n = begin(client), 0
    while step(client, link):
        n += 1
        stored = sum(len(p.answers) for p in ledger.everyone())
        assert stored == n
        assert ("completion code" in client.get(link).text) == (n == 7)
    page = client.get(link)
    code = re.search(r"<b>([A-Z2-9]{10})</b>", page.text)[1]
    assert code in client.get(link).text, "the code stays the same"


def test_double_click_back_and_lost_reply_keep_the_first_answer(served):
    client, ledger, _ = served
    link = begin(client)
    page = client.get(link).text
    first, second = CHOICE.findall(page)[:2]
    for choice in (first, first, second):
        reply = client.post(link, data={**fields(page), "choice": choice}, follow_redirects=False)
        assert reply.status_code == 303
    assert "first answer was kept" in client.get(reply.headers["location"]).text
    (person,) = ledger.everyone()
    assert [a.choice for a in person.answers] == [first]


def test_starting_twice_is_one_person_and_the_same_link(served):
    client, ledger, _ = served
    page = client.get("/start").text
    links = {
        client.post("/start", data={**fields(page), "agree": "1"}, follow_redirects=False).headers["location"]
        for _ in "ab"
    }
    assert len(links) == 1
    assert len(ledger.everyone()) == 1


def test_the_link_goes_on_elsewhere_with_the_same_page(study_folder, served):
    client, ledger, key = served
    link = begin(client)
    step(client, link)
    before = client.get(link).text
    other = TestClient(create_app(ledger, key, Clock()))
    assert other.get(link).text == before


@pytest.mark.parametrize(
    ("send", "status", "says"),
    [
        ({"choice": "ffffffff"}, 400, "not an option"),
        ({"choice": ""}, 422, "Please choose"),
        ({"proof": "0" * 32}, 403, "out of date"),
        ({"place": "3"}, 403, "out of date"),
        ({"place": "x"}, 403, "out of date"),
    ],
)
def test_wrong_forms_get_clear_pages(served, send, status, says):
    client, ledger, _ = served
    link = begin(client)
    page = client.get(link).text
    reply = client.post(link, data={**fields(page), "choice": CHOICE.findall(page)[0], **send})
    assert reply.status_code == status
    assert says in reply.text
    assert not ledger.everyone()[0].answers


def test_an_erase_form_is_no_answer_form(served):
    client, _, _ = served
    link = begin(client)
    proof = fields(client.get(f"{link}/erase").text)["proof"]
    assert client.post(link, data={"place": "erase", "proof": proof, "choice": "x"}).status_code == 403


def test_bodies_are_limited_before_they_are_read(served):
    client, _, _ = served
    link = begin(client)
    assert client.post(link, data={"choice": "x" * 9000}).status_code == 413

    def stream():
        yield from (b"a" * 1000 for _ in range(1000))

    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post(link, content=stream(), headers=kind).status_code == 413
    assert client.post(link, json={"choice": "x"}).status_code == 415
    assert client.post(link, content=b"choice=1&choice=2", headers=kind).status_code == 400
    assert client.post(link, content=b"choice=%ff", headers=kind).status_code == 400


def test_wrong_addresses_get_a_page(served):
    client, _, key = served
    for path in (
        "/s/" + "x" * 32,
        "/s/short",
        "/nothing",
        "/p/" + "0" * 32 + ".png",
        "/progress/x",
        "/progress/" + "ü",
    ):
        reply = client.get(path)
        assert reply.status_code == 404, path
        assert "<h1>" in reply.text
    assert client.post("/progress/" + key.access).status_code == 405


def test_consent_is_needed(served):
    client, ledger, _ = served
    page = client.get("/start").text
    reply = client.post("/start", data=fields(page))
    assert reply.status_code == 422
    assert 'role="alert"' in reply.text
    assert client.post("/start", data={**fields(page), "proof": "0" * 32, "agree": "1"}).status_code == 403
    assert not ledger.everyone()


def test_an_expired_study_takes_nobody_new_but_lets_people_finish(tmp_path):
    make_study(tmp_path / "s", 2, 0, expires=date(2027, 1, 15))
    clock = Clock()
    clock.now = 1_800_057_500.0  # some seconds before the end of that day
    client, ledger, _ = serve(tmp_path / "s", tmp_path, clock)
    link = begin(client)
    clock.now += 600
    reply = client.get("/start")
    assert (reply.status_code, "has closed" in reply.text) == (410, True)
    assert step(client, link)
    clock.now += 2 * 86400
    assert client.get(link).status_code == 410
    ledger.close()


@pytest.mark.parametrize(("provider", "parameter"), [("prolific", "PROLIFIC_PID"), ("connect", "participantId")])
def test_panels_name_people_who_are_stored_as_keyed_hashes_only(tmp_path, provider, parameter):
    make_study(tmp_path / "s", 2, 0, provider=provider, return_url="https://panel.invalid/done?cc={code}")
    client, ledger, _ = serve(tmp_path / "s", tmp_path)
    name = "5f3c2b1a9d8e7f6a5b4c3d2e"
    assert client.get("/start").status_code == 400
    assert client.get(f"/start?{parameter}={'x' * 300}").status_code == 400
    first, again, other = (take(client, f"?{parameter}={n}") for n in (name, name, "other"))
    assert first == again != other
    codes = {re.search(r"cc=([A-Z2-9]{10})", client.get(link).text)[1] for link in (first, other)}
    assert len(codes) == 1, "a panel knows one code per study"
    ledger.close()
    for path in tmp_path.glob("answers.db*"):
        assert name.encode() not in path.read_bytes()
        assert first.split("/")[-1].encode() not in path.read_bytes()


def test_every_reply_is_strict_and_loads_nothing_from_elsewhere(served):
    client, _, key = served
    link = take(client)
    for path in (
        "/",
        "/start",
        link,
        f"{link}/erase",
        f"{link}/mine",
        "/nothing",
        f"/progress/{key.access}",
        "/survey.css",
    ):
        reply = client.get(path)
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in reply.headers
        assert not re.search(r"(src|href|action)=\"(https?:)?//|<script| style=| on\w+=", reply.text), path


def test_alternative_texts_do_not_name_an_option(tmp_path):
    make_study(tmp_path / "s", 2, 0, options="pictures", checks=0)
    client, ledger, _ = serve(tmp_path / "s", tmp_path)
    link = begin(client)
    step(client, link)
    page = client.get(link).text.split("From here on")[1]
    assert "Picture of option 1" in page
    assert not any(re.search(rf"\b{s}\b", page) for s in art.SHAPES)
    ledger.close()


def test_no_secret_reaches_a_person(study_folder, served):
    client, _, key = served
    marking = json.loads((study_folder / files.SEALED).read_text())
    link, seen = begin(client), ""
    while True:
        seen += client.get(link).text
        if not step(client, link):
            break
    for canary in (marking["salt"], key.key.hex(), key.access, "oracle", "tool-1", "trojan-1"):
        assert canary not in seen
    words = set(re.findall(r"\w+", seen))  # whole words: the random names of pictures may hold any three digits
    assert not words & {"a01", "i001"}


def test_a_database_that_fails_says_so_and_counts_nothing(served):
    client, ledger, _ = served
    link = begin(client)
    page = client.get(link).text
    with ledger.engine.connect() as c:
        c.exec_driver_sql("CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    reply = client.post(link, data={**fields(page), "choice": CHOICE.findall(page)[0]})
    assert reply.status_code == 503
    assert "nothing stored is lost" in reply.text
    with ledger.engine.connect() as c:
        c.exec_driver_sql("DROP TRIGGER full")
    assert step(client, link)
    assert len(ledger.everyone()[0].answers) == 1


def test_progress_and_tables_open_with_the_key_only(served):
    import io

    from pyarrow import parquet

    client, _, key = served
    take(client)
    begin(client)
    page = client.get(f"/progress/{key.access}").text
    assert "2 people, 7 stored answers" in page
    text = client.get(f"/progress/{key.access}/answers.csv").text
    assert text.count("\n") == 8
    table = parquet.read_table(io.BytesIO(client.get(f"/progress/{key.access}/answers.parquet").content))
    assert table.num_rows == 7
    assert client.get("/progress/x/answers.csv").status_code == 404


def test_people_see_and_erase_what_is_stored(served, tmp_path):
    client, ledger, _ = served
    link, stays = take(client), take(client)
    mine = client.get(f"{link}/mine").json()
    assert len(mine["answers"]) == 7
    reply = client.post(f"{link}/erase", data=fields(client.get(f"{link}/erase").text))
    assert "erased" in reply.text
    assert client.get(link).status_code == 404
    assert [p.number for p in ledger.everyone()] == [client.get(f"{stays}/mine").json()["number"]]
    ledger.close()
    for path in tmp_path.glob("answers.db*"):
        assert mine["number"].encode() not in path.read_bytes(), path
