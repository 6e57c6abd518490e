"""The VLM judge against a local server that misbehaves in every way we could think of."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gifthorse import registry
from gifthorse.errors import InputError, MissingResource
from gifthorse.judges import endpoint
from gifthorse.judges.vlm import LETTERS, VlmJudge, understand
from gifthorse.types import Answer, Option, Question, no_pictures

KEY = "sk-very-secret-0123456789"
Act = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Plays the server's script, one act per request; the last act is repeated."""

    server: Stub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        stub = self.server
        with stub.lock:
            act = stub.script[min(len(stub.asked), len(stub.script) - 1)]
            stub.asked.append({"path": self.path, "key": self.headers.get("Authorization"), **json.loads(body)})
        with contextlib.suppress(OSError):  # the judge may hang up
            act(self)

    do_GET = do_POST

    def send(self, status: int, data: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


class Stub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Act] = []
        self.asked: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


def says(content: Any, finish: str = "stop", **message: Any) -> Act:
    reply = {"choices": [{"message": {"content": content, **message}, "finish_reason": finish}]}
    return lambda h: h.send(200, json.dumps(reply).encode())


def status(code: int, data: bytes = b"{}", **headers: str) -> Act:
    return lambda h: h.send(code, data, **headers)


def drip(h: Handler) -> None:
    h.send_response(200)
    h.send_header("Content-Type", "application/json")
    h.send_header("Content-Length", "1000")
    h.end_headers()
    for _ in range(100):
        h.wfile.write(b" ")
        time.sleep(0.05)


def drip_headers(h: Handler) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 100:
        h.wfile.write(bytes([byte]))
        time.sleep(0.05)


def truncated(h: Handler) -> None:
    h.send(200, b'{"choices": [', Content_Length="5000")
    h.close_connection = True


GOOD = says('{"answer": "B"}')


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setenv("GIFTHORSE_VLM_KEY", KEY)
    server = Stub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits between tries, noted instead of slept."""
    out: list[float] = []
    monkeypatch.setattr(endpoint.Endpoint, "__init__", _with_sleep(endpoint.Endpoint.__init__, out.append))
    return out


def _with_sleep(init: Callable[..., None], sleep: Callable[[float], None]) -> Callable[..., None]:
    return lambda self, *args: init(self, *args, sleep)


def question(i: int = 0, **more: Any) -> Question:
    shown = np.full((3, 8, 8, 3), 10 + i, np.uint8)
    options = tuple(Option(name, np.full((6, 8, 8, 3), 90 + k, np.uint8)) for k, name in enumerate("wxyz"))
    return Question(**{"id": "sealed-id", "images": shown, "options": options, **more})


def judge(stub: Stub, tmp_path: Path, **params: Any) -> VlmJudge:
    fast = {"timeout": 0.4, "tries": 3, "patience": 8.0, "cache": str(tmp_path / "cache")}
    return VlmJudge("some-model", stub.url, **{**fast, **params})


def test_asks_at_temperature_zero_with_inline_pictures_and_nothing_secret(stub: Stub, tmp_path: Path) -> None:
    stub.script = [GOOD]
    answer = judge(stub, tmp_path, exemplars=2).answer([question(texts=("round and yellow",))])[0]
    assert answer == Answer("sealed-id", (0.0, 1.0, 0.0, 0.0))
    asked = stub.asked[0]
    assert (asked["path"], asked["temperature"], asked["model"]) == ("/v1/chat/completions", 0, "some-model")
    assert asked["key"] == f"Bearer {KEY}"
    parts = asked["messages"][1]["content"]
    said = [p["text"] for p in parts if p["type"] == "text"]
    assert said == ["Evidence:", "- round and yellow", "Option A: w", "Option B: x", "Option C: y", "Option D: z"]
    urls = [p["image_url"]["url"] for p in parts if p["type"] == "image_url"]
    assert len(urls) == 5
    sheet = Image.open(io.BytesIO(base64.b64decode(urls[0].removeprefix("data:image/png;base64,"))))
    assert sheet.size == (28 * 14, 8 * 14)  # three tiles of 8 pixels, two gaps, enlarged to 112
    assert "sealed-id" not in json.dumps(asked)


@pytest.mark.parametrize(
    ("act", "note"),
    [
        (says("I am sorry, I cannot help with that."), "not a JSON object"),
        (says('Sure! {"answer": "B"}'), "not a JSON object"),
        (says('```json\n{"answer": "B"}\n```'), "not a JSON object"),
        (says('{"answer": "B"} because'), "not a JSON object"),
        (says('{"answer": "B'), "not a JSON object"),
        (says('{"answer": "B', finish="length"), "cut off"),
        (says('{"answer": "AB"}'), "not an option on offer"),
        (says('{"answer": ["A", "B"]}'), "not an option on offer"),
        (says('{"answer": "E"}'), "not an option on offer"),
        (says('{"answer": "b"}'), "not an option on offer"),
        (says('{"answer": ""}'), "not an option on offer"),
        (says('{"answer": 1}'), "not an option on offer"),
        (says('{"answer": "A", "answer": "B"}'), "not one answer"),
        (says('{"answer": "A", "second": "B"}'), "not one answer"),
        (says('[["answer", "B"]]'), "not one answer"),
        (says('"B"'), "not one answer"),
        (says("[" * 100_000), "not a JSON object"),
        (says(""), "empty answer"),
        (says(None), "empty answer"),
        (says(None, refusal="no"), "refused"),
        (says('{"answer": "B"}', finish="content_filter"), "refused"),
        (status(400, b'{"error": {"code": "content_filter"}}'), "refused"),
        (status(200, b"{}"), "no message in the reply"),
        (status(200, b'{"choices": []}'), "no message in the reply"),
        (status(200, b'{"choices": [{"message": "B"}]}'), "no message in the reply"),
    ],
)
def test_unusable_answers_count_as_guesses_and_are_not_asked_again(
    stub: Stub, tmp_path: Path, act: Act, note: str
) -> None:
    stub.script = [act, GOOD]
    answers = [judge(stub, tmp_path).answer([question()])[0] for _ in range(2)]
    assert answers == [Answer("sealed-id", (0.25,) * 4, note)] * 2
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    "act",
    [
        status(429),
        status(500),
        status(503),
        truncated,
        drip,
        drip_headers,
        lambda h: time.sleep(0.6),
        lambda h: h.connection.close(),
        lambda h: h.wfile.write(b"nonsense\r\n\r\n"),
        lambda h: h.send(200, b'{"choices": '),
        lambda h: h.send(200, b"[]"),
        lambda h: h.send(200, b"<html>", "text/html"),
        lambda h: h.send(200, b" " * (2 << 20)),
    ],
)
def test_passing_trouble_is_asked_again_and_lasting_trouble_stops_the_run(
    stub: Stub, tmp_path: Path, naps: list[float], act: Act
) -> None:
    stub.script = [act, GOOD]
    assert judge(stub, tmp_path).answer([question()])[0].choice == 1
    assert naps == [0.5]
    stub.script, stub.asked[:] = [act], []
    with pytest.raises(MissingResource, match=r"no usable reply in 3 tries .*run again later"):
        judge(stub, tmp_path).answer([question(1)])
    assert len(stub.asked) == 3


@pytest.mark.parametrize(
    ("code", "match"), [(401, "GIFTHORSE_VLM_KEY"), (404, "base_url"), (400, "json_mode"), (418, "418")]
)
def test_wrong_requests_are_not_asked_again(stub: Stub, tmp_path: Path, code: int, match: str) -> None:
    stub.script = [status(code)]
    with pytest.raises(InputError, match=match):
        judge(stub, tmp_path).answer([question()])
    assert len(stub.asked) == 1


def test_retry_after_is_honoured_within_patience(stub: Stub, tmp_path: Path, naps: list[float]) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=6), usegmt=True)
    stub.script = [status(429, Retry_After="3"), status(503, Retry_After=date), GOOD]
    assert judge(stub, tmp_path).answer([question()])[0].choice == 1
    assert naps[0] == 3
    assert 3 < naps[1] <= 6
    stub.script, stub.asked[:] = [status(429, Retry_After="3600")], []
    with pytest.raises(MissingResource, match="asks to wait 3600 s"):
        judge(stub, tmp_path).answer([question(1)])
    assert len(stub.asked) == 1


def test_waits_double_up_to_patience(stub: Stub, tmp_path: Path, naps: list[float]) -> None:
    stub.script = [status(500, Retry_After="soon")]
    with pytest.raises(MissingResource):
        judge(stub, tmp_path, tries=7).answer([question()])
    assert naps == [0.5, 1, 2, 4, 8, 8]


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_redirects_are_not_followed_and_the_key_stays_here(stub: Stub, tmp_path: Path, code: int) -> None:
    elsewhere = Stub()
    thread = threading.Thread(target=elsewhere.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    elsewhere.script = [GOOD]
    stub.script = [status(code, Location=f"{elsewhere.url}/chat/completions")]
    with pytest.raises(InputError, match="redirects"):
        judge(stub, tmp_path).answer([question()])
    elsewhere.shutdown()
    elsewhere.server_close()
    assert not elsewhere.asked


def test_the_key_is_in_no_error_log_record_or_parameter(
    stub: Stub, tmp_path: Path, naps: list[float], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = json.dumps({"error": {"message": f"bad key {KEY}"}}).encode()
    seen = []
    for act in (
        status(401, echo),
        status(500, echo),
        status(302, echo, Location=f"/{KEY}"),
        says(KEY),
        says(None, refusal=KEY),
    ):
        stub.script = [act]
        one = judge(stub, tmp_path)
        seen.append(repr(one) + json.dumps(registry.spec_of(one).to_json()))
        try:
            seen += [repr(a) for a in one.answer([question(len(seen))])]
        except (InputError, MissingResource) as error:
            seen.append(repr(error) + repr(error.__cause__) + repr(error.__context__))
    seen += [p.read_text() for p in tmp_path.rglob("*.json")]
    assert len(list(tmp_path.rglob("*.json"))) == 2
    captured = capfd.readouterr()
    assert KEY not in "".join([*seen, caplog.text, captured.out, captured.err])


def test_a_stopped_run_goes_on_where_it_was(stub: Stub, tmp_path: Path, naps: list[float]) -> None:
    questions = [question(i) for i in range(6)]
    stub.script = [GOOD, GOOD, GOOD, status(500)]
    with pytest.raises(MissingResource):
        judge(stub, tmp_path, concurrency=1).answer(questions)
    stub.script, stub.asked[:] = [GOOD], []
    assert [a.choice for a in judge(stub, tmp_path).answer(questions)] == [1] * 6
    assert len(stub.asked) == 3
    damaged = next((tmp_path / "cache").rglob("*.json"))
    damaged.write_text("{")
    assert [a.choice for a in judge(stub, tmp_path).answer(questions)] == [1] * 6
    assert len(stub.asked) == 4


def test_the_cache_knows_content_and_order_but_not_the_id(stub: Stub, tmp_path: Path) -> None:
    stub.script = [GOOD]
    one = judge(stub, tmp_path)
    first = question()
    one.answer([first, question(id="another"), first])
    assert len(stub.asked) == 1
    one.answer([question(options=first.options[::-1])])
    judge(stub, tmp_path, exemplars=1).answer([first])
    assert len(stub.asked) == 3


def test_questions_under_way_are_bounded(stub: Stub, tmp_path: Path) -> None:
    busy, peaks = [0], []

    def slow(h: Handler) -> None:
        with stub.lock:
            busy[0] += 1
            peaks.append(busy[0])
        time.sleep(0.05)
        with stub.lock:
            busy[0] -= 1
        GOOD(h)

    stub.script = [slow]
    judge(stub, tmp_path, timeout=5, concurrency=2).answer([question(i) for i in range(8)])
    assert len(stub.asked) == 8
    assert max(peaks) <= 2


def test_addresses_keys_and_parameters_are_checked(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.script = [GOOD]
    monkeypatch.setenv("GIFTHORSE_VLM_URL", stub.url)
    cases = {
        "ftp://x/v1": "http",
        "http://[::1/v1": "not an address",
        "http://user:pw@127.0.0.1/v1": "user or password",
        "http://service.invalid/v1": "unencrypted",
        "http://127.0.0.1/v1?x=1": "http",
    }
    for url, match in cases.items():
        with pytest.raises(InputError, match=match):
            VlmJudge("m", url, cache=str(tmp_path / "other")).answer([question()])
    assert VlmJudge("m", "", cache=str(tmp_path / "env")).answer([question()])[0].choice == 1
    monkeypatch.setenv("GIFTHORSE_VLM_KEY", "two\nlines")
    with pytest.raises(InputError, match="copy it again") as caught:
        VlmJudge("m", stub.url, cache=str(tmp_path / "key")).answer([question()])
    assert "lines" not in str(caught.value)
    monkeypatch.delenv("GIFTHORSE_VLM_KEY")
    VlmJudge("m", stub.url, cache=str(tmp_path / "nokey")).answer([question()])
    assert stub.asked[-1]["key"] is None
    monkeypatch.delenv("GIFTHORSE_VLM_URL")
    with pytest.raises(InputError, match="GIFTHORSE_VLM_URL"):
        VlmJudge("m", cache=str(tmp_path)).answer([question()])
    with pytest.raises(InputError, match="model is empty"):
        registry.build("judge", "vlm")
    with pytest.raises(InputError, match="neither name nor pictures"):
        judge(stub, tmp_path).answer([question(options=(Option("a"), Option("")))])


def test_names_alone_and_texts_alone_can_be_asked(stub: Stub, tmp_path: Path) -> None:
    stub.script = [GOOD]
    options = (Option("apple"), Option("fork"))
    asked = Question("q", no_pictures(), options, ("something with tines",))
    assert judge(stub, tmp_path).answer([asked])[0].weights == (0.0, 1.0)
    assert all(p["type"] == "text" for p in stub.asked[0]["messages"][1]["content"])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    reply=st.recursive(
        st.none() | st.booleans() | st.text(max_size=4) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "message", "content", "refusal", "answer"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    )
)
def test_no_reply_breaks_the_reader(reply: Any) -> None:
    assert understand(reply if isinstance(reply, dict) else {"choices": reply}, 4)[0] is None


@settings(deadline=None, derandomize=True)
@given(index=st.integers(0, 25), options=st.integers(2, 26), space=st.sampled_from(["", " ", "\n"]))
def test_a_letter_is_its_place(index: int, options: int, space: str) -> None:
    content = space + json.dumps({"answer": LETTERS[index]}) + space
    read = understand({"choices": [{"message": {"content": content}}]}, options)
    assert read == ((index, "") if index < options else (None, "not an option on offer"))
