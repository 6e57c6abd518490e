"""One POST of JSON to a chat endpoint that may misbehave: bounded in time, size and tries; the key stays inside."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ..errors import InputError, MissingResource

MAX_REPLY = 1 << 20  # bytes
FIRST_WAIT = 0.5  # seconds; doubles with each try
HINTS = {
    400: "the model may not read pictures or know JSON mode (json_mode = false)",
    401: "set {key_env} to a valid key",
    403: "set {key_env} to a key that may use this model",
    404: "check base_url and model",
    413: "show fewer exemplars",
    422: "the model may not read pictures or know JSON mode (json_mode = false)",
}
BLOCKED = ("content_filter", "content_policy_violation")


class Blocked(Exception):
    """The service will not look at this material."""


class _Transient(Exception):
    """Worth another try, after ``wait`` seconds if the server said so."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible ``/chat/completions``. Redirects are never followed, proxies never asked.

    Attributes:
        base_url: up to and without ``/chat/completions``.
        key_env: the environment variable that holds the key; no key is sent where it is not set.
        timeout: seconds to connect, and again for the whole exchange.
        tries: how often a timeout, 429, 5xx or damaged reply is asked again, the first time included.
        patience: longest wait between two tries in seconds.
        sleep: waits; an argument for tests.
    """

    base_url: str
    key_env: str
    timeout: float
    tries: int
    patience: float
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def post(self, body: bytes) -> dict[str, Any]:
        """The reply to a JSON body.

        Raises:
            Blocked: the service refuses the material.
            InputError: a wrong address, key or model.
            MissingResource: the endpoint does not answer properly within all tries.
        """
        url, key = self._address(), self._key()
        for attempt in range(self.tries):
            try:
                return self._once(url, key, body)
            except _Transient as error:
                why, wait = str(error), error.wait
            if attempt + 1 < self.tries:
                if wait is not None and wait > self.patience:
                    why += f", asks to wait {wait:.0f} s"
                    break
                self.sleep(min(FIRST_WAIT * 2**attempt, self.patience) if wait is None else wait)
        raise MissingResource(
            f"judge 'vlm': {url.hostname} gave no usable reply in {attempt + 1} tries ({why}); "
            "run again later, answered questions are kept"
        )

    def _address(self) -> SplitResult:
        problem = "give the address up to '/chat/completions', as in 'https://.../v1'"
        try:
            url = urlsplit(self.base_url)
            _ = url.port
        except ValueError:
            raise InputError(f"judge 'vlm': base_url is not an address; {problem}") from None
        plain = self.base_url.isascii() and self.base_url.isprintable() and " " not in self.base_url
        if not plain or url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            raise InputError(f"judge 'vlm': base_url is not an http(s) address; {problem}")
        if url.username or url.password:
            raise InputError(f"judge 'vlm': base_url holds a user or password; put the key in {self.key_env} instead")
        return url

    def _key(self) -> str:
        key = os.environ.get(self.key_env, "").strip() if self.key_env else ""
        if not key.isascii() or not key.isprintable() or " " in key:
            raise InputError(f"the key in {self.key_env} holds a space or a special character; copy it again")
        return key

    def _once(self, url: SplitResult, key: str, body: bytes) -> dict[str, Any]:
        status, kind, wait, data = self._exchange(url, key, body)
        if status == 429 or status >= 500 or status == 408:
            raise _Transient(f"HTTP {status}", wait)
        if 300 <= status < 400:
            raise InputError(
                f"judge 'vlm': {url.hostname} redirects (HTTP {status}), which is not followed; give the final base_url"
            )
        reply = _parsed(data)
        if status != 200:
            error = reply.get("error") if reply else None
            if isinstance(error, dict) and error.get("code") in BLOCKED:
                raise Blocked
            hint = HINTS.get(status, "check base_url, model and key").format(key_env=self.key_env or "key_env")
            raise InputError(f"judge 'vlm': {url.hostname} answers HTTP {status}; {hint}")
        if "json" not in kind.lower():
            raise _Transient("a reply that is not JSON by its content type")
        if reply is None:
            raise _Transient("a reply that is not a JSON object")
        return reply

    def _exchange(self, url: SplitResult, key: str, body: bytes) -> tuple[int, str, float | None, bytes]:
        """Status, content type, asked wait and body; a watchdog cuts the line when the time is up."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
        if key:
            if url.scheme == "http" and not _is_local(url.hostname or ""):
                raise InputError(
                    f"judge 'vlm': {url.hostname} would get the key unencrypted; use https or unset {self.key_env}"
                )
            headers["Authorization"] = f"Bearer {key}"
        line = _connection(url, self.timeout)
        late, held = threading.Event(), list[socket.socket]()
        watchdog = threading.Timer(self.timeout, _cut, (held, late))
        watchdog.daemon = True
        try:
            line.connect()
            held.append(line.sock)  # the connection forgets its socket while a reply is still being read
            watchdog.start()
            line.request("POST", f"{url.path.rstrip('/')}/chat/completions", body, headers)
            reply = line.getresponse()
            data = reply.read(MAX_REPLY + 1)
            if late.is_set():
                raise TimeoutError
            if len(data) > MAX_REPLY or reply.length:
                raise _Transient("a reply that is too long" if len(data) > MAX_REPLY else "a reply that is cut off")
            asked = _seconds(reply.getheader("Retry-After"))
            return reply.status, reply.getheader("Content-Type") or "", asked, data
        except (OSError, http.client.HTTPException) as error:
            slow = late.is_set() or isinstance(error, TimeoutError)
            why = f"nothing within {self.timeout:g} s" if slow else f"connection failed: {type(error).__name__}"
            raise _Transient(why) from None
        finally:
            watchdog.cancel()
            line.close()


def _connection(url: SplitResult, timeout: float) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "http":
        return http.client.HTTPConnection(host, url.port, timeout=timeout)
    return http.client.HTTPSConnection(host, url.port, timeout=timeout, context=ssl.create_default_context())


def _cut(held: list[socket.socket], late: threading.Event) -> None:
    late.set()
    for sock in held:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return reply if isinstance(reply, dict) else None


def _seconds(header: str | None) -> float | None:
    """A Retry-After header, seconds or a date, as seconds from now; None where it says nothing."""
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header.strip())
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, TypeError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
