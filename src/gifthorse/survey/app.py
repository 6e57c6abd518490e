"""The survey as a web application: plain forms, one page after the other, nothing that needs JavaScript."""

from __future__ import annotations

import csv
import io
import json
import re
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import RedirectResponse, Response

from .db import Ledger, Person
from .flow import PARAMETER
from .raw import COLUMNS, parquet, raw_rows
from .secret import Secret, same
from .study import PICTURES
from .web import Headers, Refused, add_errors, add_route, form, html

HERE = Path(__file__).parent / "templates"
GRACE = timedelta(days=1)  # who has started may finish
Form = Annotated[dict[str, str], Depends(form)]
WRONG_LINK = Refused(
    404, "This link leads nowhere", "Check that you copied all of it, or open the study's first link again."
)
STALE = Refused(403, "This form is out of date", "Open your link again and answer the page that you see then.")


class Survey:
    """Routes of one study.

    Args:
        ledger: the database.
        secret: the study's secret.
        clock: seconds since 1970.
    """

    def __init__(self, ledger: Ledger, secret: Secret, clock: Callable[[], float]) -> None:
        self.ledger, self.secret, self.clock, self.study = ledger, secret, clock, ledger.study
        env = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, auto_reload=False)
        env.globals |= {"settings": self.study.settings}
        self._pages = {p.name.partition(".")[0]: env.get_template(p.name) for p in HERE.glob("*.html.j2")}
        self.css = (HERE / "survey.css").read_bytes()

    def page(self, name: str, status: int = 200, **values: Any) -> Response:
        """A rendered template."""
        return html(self._pages[name].render(values), status)

    def error(self, status: int, title: str, text: str) -> Response:
        """An error page."""
        return self.page("message", status, title=title, text=text)

    def _open(self, grace: timedelta = timedelta()) -> None:
        last = self.study.settings.expires
        now = datetime.fromtimestamp(self.clock(), UTC)
        if last and now >= datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1) + grace:
            raise Refused(
                410, "This study has closed", f"Thank you for your interest. Questions: {self.study.settings.contact}."
            )

    def _find(self, token: str) -> Person:
        person = self.ledger.find(token) if re.fullmatch(r"[A-Za-z0-9_-]{32}", token) else None
        if person is None:
            raise WRONG_LINK
        return person

    async def consent(self, request: Request) -> Response:
        """The first page: what the study is, and whether you agree."""
        self._open()
        provider = self.study.settings.provider
        given = request.query_params.get(PARAMETER[provider], "").strip()
        if len(given) > 200:
            raise Refused(400, "This link is damaged", "Open the study through the link that you were given.")
        if not given and provider != "generic":
            raise Refused(
                400, "This link is incomplete", "Open the study from the panel's own page, so that it can count you."
            )
        person = self.secret.person(provider, given or secrets.token_hex(16))
        return self.page("start", person=person, proof=self.secret.proof("start", person), wrong=False)

    def start(self, fields: Form) -> Response:
        """Agree: the place is stored, then the person's own link opens."""
        person, proof = fields.get("person", ""), fields.get("proof", "")
        if not same(proof, self.secret.proof("start", person)):
            raise STALE
        self._open()
        if fields.get("agree") != self.study.settings.consent.version:
            return self.page("start", 422, person=person, proof=proof, wrong=True)
        token = self.secret.token(person)
        self.ledger.join(person, token, self.study.settings.consent.version, self.clock())
        return RedirectResponse(f"/s/{token}", 303)

    def show(self, token: str, request: Request) -> Response:
        """The first page without an answer, or the end."""
        return self._show(token, self._find(token), "kept" if request.query_params.get("note") == "kept" else "")

    def _show(self, token: str, person: Person, note: str = "", status: int = 200) -> Response:
        if person.finished:
            return self._done(token, person)
        self._open(GRACE)
        place = person.place
        question = self.study.question(person.pages[place].question)
        options = {c.id: c for c in question.options}
        shown = [options[i] for i in person.pages[place].order]
        fixed = "." not in question.id
        return self.page(
            "question", status, token=token, person=person, place=place, last=len(person.pages) - 1, note=note,
            question=question, shown=shown, shows="both" if fixed else self.study.settings.options,
            proof=self.secret.proof(token, str(place)), practised=self._practised(person) if place == 1 else None,
        )  # fmt: skip

    def _practised(self, person: Person) -> tuple[bool, str]:
        practice = self.study.file.practice
        right = next(c.name for c in practice.options if c.id == practice.right)
        return person.answers[0].choice == practice.right, right

    def _done(self, token: str, person: Person) -> Response:
        """The completion code, which nobody gets before every answer is read back from the database."""
        link = self.study.settings.return_url
        code = completion_code(self.secret, self.ledger, person)
        return self.page("done", token=token, person=person, code=code, link=link.replace("{code}", code))

    def answer(self, token: str, fields: Form) -> Response:
        """Store one answer, once, then go on."""
        place = fields.get("place", "")
        if not place.isdecimal() or not same(fields.get("proof", ""), self.secret.proof(token, place)):
            raise STALE
        person = self._find(token)
        index, choice = int(place), fields.get("choice", "")
        if any(a.place == index for a in person.answers):
            same_choice = next(a.choice for a in person.answers if a.place == index) == choice
            return RedirectResponse(f"/s/{token}" + ("" if same_choice else "?note=kept"), 303)
        if index != person.place:
            raise STALE
        if not choice:
            return self._show(token, person, "empty", 422)
        if choice not in person.pages[index].order:
            raise Refused(400, "That was not an option", "Go back and choose one of the options on the page.")
        self._open(GRACE)
        self.ledger.answer(person, index, choice, self.clock())
        return RedirectResponse(f"/s/{token}", 303)

    def mine(self, token: str) -> Response:
        """All that is stored of a person, for that person."""
        person = self._find(token)
        rows = list(raw_rows(self.study, [person]))
        body = {"number": person.number, "consent": person.consent, "began": person.began, "answers": rows}
        return Response(json.dumps(body, indent=1), media_type="application/json")

    def ask_erase(self, token: str) -> Response:
        """Are you sure?"""
        person = self._find(token)
        return self.page("erase", token=token, person=person, proof=self.secret.proof(token, "erase"))

    def erase(self, token: str, fields: Form) -> Response:
        """Delete a person's answers at their own wish."""
        if not same(fields.get("proof", ""), self.secret.proof(token, "erase")):
            raise STALE
        self.ledger.erase(self._find(token).number)
        return self.page(
            "message", title="Your answers are erased", text="Nothing that you told us is kept. Thank you."
        )

    async def picture(self, name: str) -> Response:
        """A picture by its random name, which no other picture will ever have."""
        if name not in self.study.file.pictures:
            raise Refused(404, "No such picture", "Open your link again.")
        data = (self.study.folder / PICTURES / f"{name}.png").read_bytes()
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=31536000, immutable"})

    def _admin(self, key: str) -> list[Person]:
        if not same(key, self.secret.access):
            raise Refused(404, "Nothing here", "The address is not complete; `gifthorse survey serve` prints it.")
        return self.ledger.everyone()

    def progress(self, key: str) -> Response:
        """How far the study is; read only."""
        people, now = self._admin(key), self.clock()
        since = now - 60 * self.study.settings.stale_minutes
        rows = []
        for slot in range(len(self.study.file.arms)):
            mine = [p for p in people if p.slot == slot]
            done = sum(p.finished for p in mine)
            busy = sum(not p.finished and max([p.began, *(a.at for a in p.answers)]) >= since for p in mine)
            rows.append((slot + 1, len(mine), done, busy, len(mine) - done - busy))
        stored = sum(len(p.answers) for p in people)
        return self.page("progress", rows=rows, stored=stored, key=key, people=len(people), study=self.study.file)

    def table(self, key: str) -> Response:
        """All answers as CSV, without the marking, which the server does not have."""
        people, out = self._admin(key), io.StringIO()
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        writer.writerows(raw_rows(self.study, people))
        return _file(out.getvalue().encode(), "text/csv; charset=utf-8", "answers.csv")

    def parquet(self, key: str) -> Response:
        """The same as Parquet."""
        return _file(
            parquet(list(raw_rows(self.study, self._admin(key)))), "application/vnd.apache.parquet", "answers.parquet"
        )


def completion_code(secret: Secret, ledger: Ledger, person: Person) -> str:
    """Panels know one code per study; elsewhere each person has their own."""
    own = ledger.study.settings.provider == "generic"
    return secret.code(ledger.study.file.id, person.number if own else "")


def _file(data: bytes, kind: str, name: str) -> Response:
    return Response(data, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def create_app(ledger: Ledger, secret: Secret, clock: Callable[[], float] = time.time) -> FastAPI:
    """The application of one study.

    Args:
        ledger: its database.
        secret: its secret.
        clock: seconds since 1970.
    """
    survey = Survey(ledger, secret, clock)
    app = FastAPI(title="gifthorse survey", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(Headers)
    common = {400: 400, 404: 404, 405: 405, 422: 422, 500: 500, 503: 503}
    route = partial(add_route, app, tuple(common))
    route("/", lambda: survey.error(200, "A survey lives here", "Open it through the link that you were given."), "GET")
    route("/start", survey.consent, "GET", also=(410,))
    route("/start", survey.start, "POST", ("person", "proof", "agree"), also=(403, 410, 413, 415))
    route("/s/{token}", survey.show, "GET", also=(410,))
    route("/s/{token}", survey.answer, "POST", ("place", "proof", "choice"), also=(403, 410, 413, 415))
    route("/s/{token}/mine", survey.mine, "GET", kind="application/json")
    route("/s/{token}/erase", survey.ask_erase, "GET")
    route("/s/{token}/erase", survey.erase, "POST", ("proof",), also=(403, 413, 415))
    route("/p/{name}.png", survey.picture, "GET", kind="image/png")
    route("/progress/{key}", survey.progress, "GET")
    route("/progress/{key}/answers.csv", survey.table, "GET", kind="text/csv; charset=utf-8")
    route("/progress/{key}/answers.parquet", survey.parquet, "GET", kind="application/vnd.apache.parquet")
    route(
        "/survey.css",
        lambda: Response(survey.css, media_type="text/css", headers={"Cache-Control": "max-age=3600"}),
        "GET",
        kind="text/css; charset=utf-8",
    )
    route("/favicon.ico", lambda: Response(status_code=204), "GET", kind="", status=204)
    add_errors(app, survey.error)
    return app
