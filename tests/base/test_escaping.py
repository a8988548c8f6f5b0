"""Texts of sources at the doors to programs that would obey them."""

import csv
import io
import json
import pickle
import unicodedata
from decimal import Decimal

import pandas as pd
import pytest

from northstar.base import escaping
from northstar.base.errors import NorthstarError
from northstar.cli import main as cli
from northstar.orchestration import tasks
from northstar.use.notify import Address, Message, _slack
from northstar.use.pages.panels.drawing import empty_figure, escape_labels
from northstar.use.query import run_statement, write

# each changes what a terminal shows, does, or answers as if it were typed
OBEYED = [
    "\x1b[2J", "\x1b]0;title\x07", "\x1b]52;c;cm0gLXJm\x07", "\x9b31m", "\x90q\x9c", "\x07", "\x08", "\r", "\x00", "\x7f", "\u202e", "\u2066", "\u200f", "\u2028",
]  # fmt: skip
FORMULAS = ["=1+1", "=cmd|' /C calc'!A0", "+1+1", "-1+cmd", "@SUM(1)", "\t=1", "\r=1", " =1", "\uff1d1", "\uff0b1", "=", "-"]  # fmt: skip
TEXTS = ["1", "-1.50", "+49 30", "plain", "a=b", "R&D", "über", "12:00", "", "'quoted"]


@pytest.mark.parametrize("text", OBEYED, ids=ascii)
def test_a_terminal_is_shown_what_it_would_obey(text):
    told = escaping.make_visible(f"a{text}b\n\tc")
    obeyed = {c for c in told if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")}
    assert obeyed == {"\n", "\t"} and told.startswith("a\\") and told.endswith("b\n\tc")
    assert escaping.make_visible("über 日本 €\n") == "über 日本 €\n"


@pytest.mark.parametrize("text", OBEYED, ids=ascii)
def test_no_command_prints_what_a_terminal_obeys(built, text, capsys, monkeypatch):
    quoted = text.replace("\x00", "")
    for form in ("table", "csv", "json"):
        # on a terminal all forms are for the eye
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        assert (
            cli.main(["sql", "--home", str(built.home), f"select 'a{quoted}b' as \"n{quoted}m\"", "--format", form])
            == 0
        )
        assert not quoted or quoted not in capsys.readouterr().out
    assert cli.main(["sql", "--home", str(built.home), f'select 1 from "x{quoted}y"']) == 1
    assert not quoted or quoted not in capsys.readouterr().err


def test_what_another_program_reads_comes_character_by_character(built, capfd):
    assert cli.main(["sql", "--home", str(built.home), "select e'a\\x1b[2Jb' as t", "--format", "json"]) == 0
    assert json.loads(capfd.readouterr().out) == [{"t": "a\x1b[2Jb"}]


@pytest.mark.parametrize("text", OBEYED, ids=ascii)
def test_messages_and_logs_hold_none_of_it(text, capsys):
    error = NorthstarError(f"a{text}b")
    assert text not in str(error) and str(pickle.loads(pickle.dumps(error))) == str(error)
    tasks._print_visible(f"a{text}b")
    assert text not in capsys.readouterr().out.replace("\n", "")


def table(rows: list[tuple], form: str, names=("n",)) -> str:
    out = io.StringIO()
    write(list(names), iter(rows), form, out)
    return out.getvalue()


@pytest.mark.parametrize("text", FORMULAS, ids=ascii)
def test_a_spreadsheet_finds_no_formula(text):
    rows = list(csv.reader(io.StringIO(table([(text,)], "csv", names=[text]), newline="")))
    assert rows == [["'" + text.replace("\r", "\n")]] * 2


def test_texts_and_numbers_stay_in_a_csv_as_they_are():
    rows = [(text,) for text in TEXTS if text != "+49 30"] + [(-1,), (Decimal("-2.50"),), (-1e-9,), (True,), (None,)]
    found = [row[0] if row else "" for row in csv.reader(io.StringIO(table(rows, "csv")))][1:]
    assert found == [t for t in TEXTS if t != "+49 30"] + ["-1", "-2.50", "-1e-09", "true", ""]


def test_json_has_no_number_that_is_none(built):
    text = "select 'NaN'::numeric as a, 'Infinity'::numeric as b, '-Infinity'::float8 as c, 1e30::numeric as d, array[1.5, 'NaN'] as e, 2.0::numeric as f, array[now()] as g"
    with run_statement(built, text) as (names, rows):
        out = io.StringIO()
        write(names, rows, "json", out)
    (row,) = json.loads(out.getvalue(), parse_constant=lambda name: pytest.fail(name))
    assert (row["a"], row["b"], row["c"], row["d"], row["e"], row["f"]) == (
        "NaN",
        "Infinity",
        "-inf",
        10**30,
        [1.5, "NaN"],
        2,
    )
    assert isinstance(row["g"][0], str) and table([], "json") == "[]\n"


def test_a_table_shows_the_first_rows_and_says_so(built):
    with run_statement(built, "select generate_series(1, 1000)") as (names, rows):
        out = io.StringIO()
        write(names, rows, "table", out)
    assert out.getvalue().count("\n") == 1002
    with run_statement(built, "select generate_series(1, 300000)") as (names, rows):
        out = io.StringIO()
        write(names, rows, "table", out)
    assert out.getvalue().endswith("(the first 1,000 rows; --format csv writes all)\n")


def test_one_statement_at_a_time_and_any_text_in_it(built):
    with run_statement(built, "select '100 %' as a, 'x' like '%x%' as b, 7 % 4 as c") as (names, rows):
        assert (names, list(rows)) == (["a", "b", "c"], [("100 %", True, 3)])
    with run_statement(built, "select 1 as none where false") as (names, rows):
        assert (names, list(rows)) == (["none"], [])
    with (
        pytest.raises(NorthstarError, match="these are several statements; give one"),
        run_statement(built, "select 1; select 2"),
    ):
        pass
    late = "select 1 / (50000 - n) from generate_series(1, 100000) as n"
    with pytest.raises(NorthstarError, match="division by zero"), run_statement(built, late) as (_, rows):
        list(rows)


def test_slack_calls_nobody_and_shows_no_other_address(monkeypatch):
    sent = []
    monkeypatch.setattr("northstar.use.notify._post", lambda address, body: sent.append(body["text"]))
    monkeypatch.setattr(
        "northstar.use.notify.find_connection", lambda *_: type("Found", (), {"secret": lambda _: "x"})()
    )
    _slack(
        None,
        None,
        Address("slack", "team"),
        Message("a <!channel>", "<https://evil.example.org|Northstar pages> & <@U1>\x1b[2J"),
    )
    assert sent == ["*a &lt;!channel&gt;*\n&lt;https://evil.example.org|Northstar pages&gt; &amp; &lt;@U1&gt;\\x1b[2J"]


def test_plotly_shows_markup_as_it_is():
    frame = pd.DataFrame({"segment_value": ["<b>x</b>", "R&D", None], "value": [1, 2, 3]}, dtype=object)
    assert list(escape_labels(frame, "segment_value")["segment_value"]) == ["&lt;b&gt;x&lt;/b&gt;", "R&amp;D", None]
    assert empty_figure("<a href='x'>").layout.annotations[0].text == "&lt;a href='x'&gt;"
