"""`/why/marks?...`: what happened in a period, as the panel of a chart's mark shows it, and the form with which a reader adds a note."""

from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from flask import Flask, Response, redirect, request
from flask.typing import ResponseReturnValue

from northstar.base.allowance import Allowance
from northstar.base.errors import NorthstarError
from northstar.use.marts import Marts
from northstar.use.notes import CHARACTERS, write_note
from northstar.use.pages.panels.marks import marks_path
from northstar.use.pages.rendering import HTML, TEMPLATES
from northstar.use.why.background import parse_moment
from northstar.use.words import title_of

# notes that the pages take in a minute, from all readers
NOTES_A_MINUTE = 20
# the most marks that are listed
LISTED = 200


def add_marks(server: Flask, marts: Callable[[], Marts]) -> None:
    """Let the server show marks, and take notes. marts: gives what is read."""
    notes = Allowance(NOTES_A_MINUTE)

    def show() -> ResponseReturnValue:
        return _answer(lambda: Response(show_marks(marts(), _asked(marts().calendar.zone)), 200, HTML))

    def write() -> ResponseReturnValue:
        def answer() -> ResponseReturnValue:
            if not _is_own_form():
                raise NorthstarError("a note is written from the pages themselves")
            if not _may_write(marts()):
                raise NorthstarError("these pages may only read; `northstar note` writes a note")
            if not notes.take("all"):
                raise NorthstarError("too many notes at once; wait for a minute")
            zone = marts().calendar.zone
            metrics, application, since, until = _asked(zone)
            form = request.form
            write_note(
                marts().settings, form.get("text", ""), form.get("by", ""), parse_moment(form.get("at", ""), zone), application,
                metrics[0] if form.get("about") == "metric" and metrics else None,
            )  # fmt: skip
            return redirect(marks_path(metrics, application, since, until), 303)

        return _answer(answer)

    server.add_url_rule("/why/marks", "marks", show, methods=["GET"])
    server.add_url_rule("/why/marks", "note", write, methods=["POST"])


def _answer(answer: Callable[[], ResponseReturnValue]) -> ResponseReturnValue:
    try:
        return answer()
    except NorthstarError as exc:
        return Response(TEMPLATES.get_template("marks_nothing.html").render(message=str(exc)), 400, HTML)


def _may_write(marts: Marts) -> bool:
    """Whether this process has the right to write, and for whoever asks: a note may be about what a role does not see. The pages' container of
    docker-compose.yml has the reader's password alone."""
    return marts.role is None and marts.settings.known_secret("publisher_password") is not None


def _is_own_form() -> bool:
    """Whether a page of ours sent the form. A browser sends the password with the form of any other page, too."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site == "same-origin"
    return origin is None or urlsplit(origin).netloc == request.host


def _asked(zone: ZoneInfo) -> tuple[list[str], str, datetime, datetime]:
    """(metrics, application, from, until) of the address."""
    given = request.args
    return (
        given.getlist("metric")[:20],
        given.get("application") or "all",
        parse_moment(given.get("from", ""), zone),
        parse_moment(given.get("until", ""), zone),
    )


def show_marks(marts: Marts, asked: tuple[list[str], str, datetime, datetime]) -> str:
    """What happened in a period, as HTML."""
    metrics, application, since, until = asked
    marks = marts.marks(metrics, application, since, until)
    rows = [
        {**mark, "when": f"{mark['marked_at']:%Y-%m-%d %H:%M}", "kind": mark["kind"].replace("_", " ")}
        for mark in sorted(marks, key=lambda mark: (mark["kind"] != "note", mark["kind"] == "deployment", mark["marked_at"]))[:LISTED]
    ]  # fmt: skip
    return TEMPLATES.get_template("marks.html").render(
        rows=rows, count=len(marks), metrics=[(metric, title_of(metric)) for metric in metrics], application=application, since=since, until=until,
        path=marks_path(metrics, application, since, until), characters=CHARACTERS, may_write=_may_write(marts),
    )  # fmt: skip
