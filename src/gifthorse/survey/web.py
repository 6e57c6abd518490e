"""What every request meets before a route: a limit on its body, and what every reply carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

MAX_BODY = 8192
MAX_FIELDS = 12
POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Robots-Tag": "noindex, nofollow",
}


_ALWAYS = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
_NO_STORE = (b"cache-control", b"no-store")


class Refused(Exception):
    """A request that gets an error page: status, title, and what to do."""

    def __init__(self, status: int, title: str, text: str) -> None:
        super().__init__(title)
        self.status, self.title, self.text = status, title, text


TOO_LONG = Refused(413, "That was too much", "The form sent more than it can hold. Go back and send it again.")


class Headers:
    """ASGI middleware: adds `HEADERS`, and no-store where a reply says nothing of caching."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, and complete its reply."""

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                given = message["headers"]
                cached = any(k.lower() == b"cache-control" for k, _ in given)
                message["headers"] = [*given, *_ALWAYS] if cached else [*given, *_ALWAYS, _NO_STORE]
            await send(message)

        await self.app(scope, receive, sending if scope["type"] == "http" else send)


async def form(request: Request) -> dict[str, str]:
    """The fields of a plain form, read by hand so that no parser meets an unlimited body.

    Raises:
        Refused: too long, not a plain form, or too many or repeated fields.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    size = request.headers.get("content-length", "0")
    if size.isdigit() and int(size) > MAX_BODY:
        raise TOO_LONG
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise TOO_LONG
    if kind != "application/x-www-form-urlencoded":
        raise Refused(415, "Not a form", "This page takes its own form only. Go back and send it again.")
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise Refused(400, "Not a form", "The form could not be read. Go back and send it again.") from None
    if len(dict(fields)) < len(fields):
        raise Refused(400, "Not a form", "The form came with a field twice. Go back and send it again.")
    return dict(fields)


def html(text: str, status: int = 200) -> Response:
    """A page."""
    return Response(text, status, media_type="text/html; charset=utf-8")


def add_route(
    app: FastAPI, common: tuple[int, ...], path: str, do: Callable[..., Any], method: str,
    fields: tuple[str, ...] = (), *, also: tuple[int, ...] = (), kind: str = "text/html; charset=utf-8",
    status: int = 200,
) -> None:  # fmt: skip
    """A route with every reply documented: those in ``common`` and ``also`` are error pages."""
    ok: dict[int | str, dict[str, Any]] = {status: {"description": "done", **({"content": {kind: {}}} if kind else {})}}
    if method == "POST":
        ok[303] = {"description": "stored; the next page is elsewhere"}
    app.add_api_route(
        path, do, methods=[method], response_class=Response, status_code=status,
        operation_id=f"{method.lower()} {path}", openapi_extra=_fields(*fields) if fields else None,
        responses={**_pages(*common, *also), **ok},
    )  # fmt: skip


def add_errors(app: FastAPI, page: Callable[[int, str, str], Response]) -> None:
    """Every error is a page that says what to do."""

    @app.exception_handler(Refused)
    def refused(_: Request, error: Refused) -> Response:
        return page(error.status, error.title, error.text)

    @app.exception_handler(HTTPException)
    def plain(_: Request, error: HTTPException) -> Response:
        reply = page(error.status_code, "This page does not exist", "Open your link again.")
        reply.headers.update(error.headers or {})
        return reply

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        return page(422, "The form could not be read", "Go back and send it again.")

    @app.exception_handler(SQLAlchemyError)
    def unstored(_: Request, error: SQLAlchemyError) -> Response:
        text = "Your last answer may not be stored. Wait a moment, then load your link again; nothing stored is lost."
        reply = page(503, "The survey is busy", text)
        reply.headers["Retry-After"] = "5"
        return reply

    @app.exception_handler(Exception)
    def broken(_: Request, error: Exception) -> Response:
        reply = page(500, "Something went wrong here", "Load your link again; what was stored is not lost.")
        reply.headers.update(HEADERS)  # this handler stands outside all middleware
        return reply


def _pages(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Documented replies, all of them pages."""
    return {c: {"description": "a page", "content": {"text/html": {"schema": {"type": "string"}}}} for c in codes}


def _fields(*names: str) -> dict[str, Any]:
    """The OpenAPI entry of a plain form."""
    schema = {"type": "object", "properties": {n: {"type": "string", "maxLength": 200} for n in names}}
    body = {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": schema}}}
    return {"requestBody": body}
