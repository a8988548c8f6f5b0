"""Escape texts of sources for programs that would take a part of them as commands: terminals, spreadsheets, Slack, Plotly.

Inside the warehouse a text stays as it came. Templates and React escape for HTML, psycopg for SQL.
"""

import contextlib
import html
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, TypeVar, cast

# characters that a terminal obeys (C0, DEL and C1), that change the direction of writing, so that a text reads as another, or that end a line
_CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# what spreadsheets take for the beginning of a formula, also in full-width form and after blanks
_FORMULA = re.compile(r"\s*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
# a label, or a value of another type among labels
Label = TypeVar("Label")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*([eE][+-]?\d+)?%?")


def make_visible(text: str) -> str:
    """The text with characters that a terminal would obey written out, such as \\x1b; line ends and tabs stay."""
    return _CONTROL_CHARACTERS.sub(lambda found: _escape_code(found[0]), text)


def _escape_code(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


def csv_cell(text: str) -> str:
    """The text for a cell of a CSV file that a spreadsheet may open: an apostrophe is put before what would be a formula; numbers stay.

    A carriage return becomes a line feed: Python's csv does not quote it, so the rest of the text would be a row of its own.
    """
    quoted = f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
    return quoted.replace("\r\n", "\n").replace("\r", "\n")


def slack_text(text: str) -> str:
    """The text for a Slack message, escaped so that it can mention nobody and can hide no link behind other words."""
    return make_visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def plotly_label(text: Label) -> Label | str:
    """A label for Plotly, which interprets some HTML; a value that is no text stays."""
    return html.escape(text, quote=False) if isinstance(text, str) else text


class VisibleStream:
    """A text stream whose output is made visible; everything else is the wrapped stream's own."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the text, made visible; returns its length."""
        self.stream.write(make_visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each text."""
        for line in lines:
            self.write(line)

    # Any: an attribute of the stream, of whatever type
    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def visible_output() -> Iterator[None]:
    """Make everything visible that is printed inside, results and messages alike."""
    # VisibleStream works as a stream for every use, though its class does not say so
    out, err = cast(TextIO, VisibleStream(sys.stdout)), cast(TextIO, VisibleStream(sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


def exact_output() -> TextIO:
    """The stream for a result that another program reads, unchanged; on a terminal it is made visible all the same."""
    out = sys.stdout
    return out.stream if isinstance(out, VisibleStream) and not out.isatty() else out
