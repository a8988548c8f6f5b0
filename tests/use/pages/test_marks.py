"""Marks on charts and beside numbers, and the notes that people write: with the command, and with the form of the pages."""

from html import unescape

import pytest
from flask import Flask

from northstar.base.errors import NorthstarError
from northstar.cli.main import main
from northstar.use.marts import Marts
from northstar.use.notes import delete_note, list_notes, write_note
from northstar.use.pages import marks as pages_of_marks
from northstar.use.pages.painter import Painter
from northstar.use.pages.why import add_why
from northstar.use.reports.make import make_report
from tests.support import empty, utc

FEBRUARY = "from=2026-02-01&until=2026-03-01&metric=mrr"
PANEL = {"kind": "line", "metrics": ["mrr"], "title": "MRR"}


@pytest.fixture
def noted(built):
    """The built warehouse; the notes of a test go with it."""
    yield built
    for note in list_notes(built):
        delete_note(built, note["mark_id"])


@pytest.fixture
def browser(noted):
    server = Flask("marks")
    marts = Marts(noted)
    add_why(server, lambda: marts)
    return server.test_client()


def drawn(settings, application: str = "all"):
    """The marks of the chart of MRR by month."""
    figure = Painter(Marts(settings)).draw(PANEL, application, "month", 12, "")
    return figure, next((trace for trace in figure.data if trace.name == "marks"), None)


def test_a_chart_marks_what_happened_in_each_period_and_a_note_at_once(noted, browser):
    figure, marks = drawn(noted)
    assert "deployments" in marks.text[-1] and "marks: " in figure.layout.meta
    assert browser.get(marks.customdata[-1]).status_code == 200
    name = write_note(noted, "Prices of <b>web</b> raised, ask bob@example.com", "Ana", utc("2026-02-10"), "web", "mrr")
    figure, marks = drawn(noted)
    place = [f"{moment:%Y-%m}" for moment in marks.x].index("2026-02")
    assert marks.text[place].startswith("2026-02-10: Prices of &lt;b&gt;web&lt;/b&gt; raised, ask [e-mail] (Ana)")
    assert "note: Prices of <b>web</b> raised" in figure.layout.meta
    # another application's chart has not got it, nor has another metric's
    _, other = drawn(noted, "coaching")
    assert other is None or "Prices" not in "".join(other.text)
    panel = {"kind": "line", "metrics": ["open_tickets"], "title": "Open tickets"}
    tickets = Painter(Marts(noted)).draw(panel, "all", "month", 12, "")
    assert "Prices" not in str(tickets.layout.meta)
    # the panel of the number, and the report
    assert "Prices of <b>web</b> raised" in unescape(browser.get("/why/mrr?grain=month&period=2026-02-01").text)
    assert "Prices of <b>web</b> raised" in make_report(noted, "monthly", utc("2026-03-01")).text
    delete_note(noted, name)
    assert "Prices" not in "".join(drawn(noted)[1].text)


def test_a_reader_writes_a_note_in_the_form(noted, browser):
    form = {"text": "A campaign began", "by": "Ana", "at": "2026-02-03", "about": "metric"}
    answer = browser.post(f"/why/marks?{FEBRUARY}", data=form, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 303
    text = browser.get(answer.headers["Location"]).text
    assert "A campaign began (Ana)" in text and "2026-02-03 00:00" in text
    assert [note["metrics"] for note in list_notes(noted)] == [["mrr"]]
    # the form of another page, to which a browser adds the password too
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://elsewhere.example"}):
        answer = browser.post(f"/why/marks?{FEBRUARY}", data=form, headers=headers)
        assert answer.status_code == 400 and "from the pages themselves" in answer.text
    for missing in ("text", "by", "at"):
        assert browser.post(f"/why/marks?{FEBRUARY}", data={**form, missing: " "}).status_code == 400
    assert browser.post("/why/marks?from=soon&until=2026-03-01", data=form).status_code == 400
    assert browser.post(f"/why/marks?application=nope&{FEBRUARY}", data=form).status_code == 400
    assert len(list_notes(noted)) == 1
    assert "<script>" not in browser.get("/why/marks?from=<script>&until=2026-03-01").text


def test_the_pages_take_no_flood_of_notes(noted, monkeypatch):
    monkeypatch.setattr(pages_of_marks, "NOTES_A_MINUTE", 2)
    server = Flask("flood")
    marts = Marts(noted)
    add_why(server, lambda: marts)
    form = {"text": "again", "by": "Ana", "at": "2026-02-03"}
    answers = [server.test_client().post(f"/why/marks?{FEBRUARY}", data=form).status_code for _ in range(3)]
    assert answers == [303, 303, 400] and len(list_notes(noted)) == 2


def test_pages_without_the_right_to_write_have_no_form(noted, browser, monkeypatch):
    monkeypatch.setattr(pages_of_marks, "_may_write", lambda marts: False)
    assert "northstar note" in browser.get(f"/why/marks?{FEBRUARY}").text
    assert "<form" not in browser.get(f"/why/marks?{FEBRUARY}").text
    answer = browser.post(f"/why/marks?{FEBRUARY}", data={"text": "x", "by": "Ana", "at": "2026-02-03"})
    assert answer.status_code == 400 and "may only read" in answer.text


def test_the_command_writes_lists_and_deletes_notes(noted, capsys):
    home = ["--home", str(noted.home)]
    assert main(["note", "An invoice came late", "--at", "2026-02-04", "--metric", "mrr", "--by", "ana", *home]) == 0
    name = capsys.readouterr().out.strip()
    assert main(["note", "--list", *home]) == 0
    assert capsys.readouterr().out == f"{name}  2026-02-04 00:00  all, mrr: An invoice came late (ana)\n"
    assert main(["note", "--delete", name, *home]) == 0 and list_notes(noted) == []
    for wrong, words in ((["--delete", "note:0"], "there is no note 'note:0'"), (["x", "--metric", "nope"], "there is no metric 'nope'"),
                         ([], "a note needs a text"), (["x" * 501], "at most 500 characters")):  # fmt: skip
        assert main(["note", *wrong, *home]) == 1
        assert words in capsys.readouterr().err


def test_there_is_no_note_before_the_first_publication(warehouse):
    empty(warehouse)
    with pytest.raises(NorthstarError, match="nothing is published yet"):
        write_note(warehouse, "early", "ana")
