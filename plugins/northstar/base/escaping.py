"""Texts of sources at the doors to programs that would obey them: terminals, spreadsheets, Slack, Plotly.

Inside the warehouse a text stays as it came. HTML is the templates' and React's door, SQL psycopg's.
"""

import contextlib
import html
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, TypeVar, cast

# terminals obey C0, DEL and C1; the marks for the direction of writing have text read as what it is not; some end a line
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# what spreadsheets take for the beginning of a formula, also in its wide form and after blanks
_FORMULA = re.compile(r"\s*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
# a label, or another value beside the labels
Label = TypeVar("Label")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*([eE][+-]?\d+)?%?")


def visible(text: str) -> str:
    """The text with what a terminal would obey written out, such as \\x1b; lines and tabs stay."""
    return _OBEYED.sub(lambda found: _written(found[0]), text)


def _written(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


def cell(text: str) -> str:
    """The text for a CSV that a spreadsheet may open: with an apostrophe before what would be a formula; numbers stay.

    A carriage return becomes a line's end: Python's csv does not quote it, and what follows would be a row of its own.
    """
    quoted = f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
    return quoted.replace("\r\n", "\n").replace("\r", "\n")


def slack(text: str) -> str:
    """The text for a Slack message: nobody is called by it, and no link has words of its own."""
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def plotly(text: Label) -> Label | str:
    """A label for Plotly, which reads a part of HTML; what is no text stays."""
    return html.escape(text, quote=False) if isinstance(text, str) else text


class Visible:
    """A text stream that writes what a terminal would obey out; everything else is the stream's own."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the text, made visible; returns its length."""
        self.stream.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each text."""
        for line in lines:
            self.write(line)

    # Any: whatever the stream has
    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def visible_output() -> Iterator[None]:
    """What is printed meanwhile is made visible, results and messages alike."""
    # a stream in all that is asked of it, though the class does not say so
    out, err = cast(TextIO, Visible(sys.stdout)), cast(TextIO, Visible(sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


def exact_output() -> TextIO:
    """Where a result goes that another program reads, character by character; on a terminal it is made visible all the same."""
    out = sys.stdout
    return out.stream if isinstance(out, Visible) and not out.isatty() else out
