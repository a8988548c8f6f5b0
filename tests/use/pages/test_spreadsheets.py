"""Files for spreadsheets: exact numbers, moments, and no text that becomes a formula."""

import csv
import io
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal

import python_calamine

from northstar.use.marts import Published
from northstar.use.pages.spreadsheets import write_csv, write_workbook
from northstar.use.pages.tables import Table
from tests.support import utc

HOSTILE = (
    '=HYPERLINK("https://x.example","y")',
    "+1+1",
    "@SUM(1)",
    "-2+3",
    "\t=1",
    "{=1}",
    "a\r=1+1",
    "https://x.example",
    "12",
    "\x01\x1b[31m",
)
COLUMNS = ["name", "value", "period_start", "day", "is_complete", "parts"]


def table(rows) -> Table:
    version = Published(7, utc("2026-03-01"), utc("2026-03-01"), (), None, "EUR")
    about = [("Panel", "=MRR"), ("Version", "7")]
    return Table("MRR: [by] country/'plan' " + "x" * 40, "revenue", COLUMNS, rows, len(rows), about, version)


def row(name, value=Decimal("1234567890.123456789012")) -> dict:
    return {
        "name": name, "value": value, "period_start": datetime(2026, 2, 1, 9, 30, tzinfo=UTC), "day": date(2026, 2, 1), "is_complete": True, "parts": {"a": [1]},
    }  # fmt: skip


def test_csv_has_every_digit_and_no_formula():
    rows = [*map(row, HOSTILE), row("null", None), {"name": "too few"}, row("small", Decimal("-1E-9"))]
    lines = list(csv.reader(io.StringIO("".join(write_csv(table(rows))), newline="")))
    assert lines[0] == COLUMNS
    assert lines[1][1:] == ["1234567890.123456789012", "2026-02-01T09:30:00Z", "2026-02-01", "true", '{"a": [1]}']
    for text, line in zip(HOSTILE, lines[1:], strict=False):
        assert line[0].lstrip("'")[:1] == text.replace("\r", "\n")[:1] and line[0][:1] not in "=+-@\t"
    assert lines[-3][1] == "" and lines[-2] == ["too few", "", "", "", "", ""] and lines[-1][1] == "-0.000000001"


def test_a_workbook_has_numbers_as_numbers_and_texts_as_texts():
    rows = [*map(row, HOSTILE), row("null", None), {"name": "too few"}, row("long" * 10_000), row("old")]
    rows[-1]["period_start"] = datetime(1600, 1, 1, tzinfo=UTC)
    content = write_workbook(table(rows))
    book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content))
    sheet, about = (book.get_sheet_by_index(n).to_python() for n in (0, 1))
    assert sheet[0] == COLUMNS and len(book.sheet_names[0]) <= 31 and book.sheet_names[1] == "About"
    assert sheet[1][1:] == [1234567890.123457, datetime(2026, 2, 1, 9, 30), date(2026, 2, 1), True, '{"a": [1]}']
    assert [cells[0] for cells in sheet[1 : len(HOSTILE)]] == [t.replace("\r", "\\x0d") for t in HOSTILE[:-1]]
    assert sheet[len(HOSTILE)][0] == "\\x01\\x1b[31m" and sheet[len(HOSTILE) + 1][1] == ""
    assert len(sheet[-2][0]) == 32_767 and sheet[-1][2].startswith("1600-01-01")
    assert about == [["Panel", "=MRR"], ["Version", "7"]]
    with zipfile.ZipFile(io.BytesIO(content)) as parts:
        written = "".join(parts.read(n).decode() for n in parts.namelist() if n.startswith("xl/worksheets/"))
    assert "<f>" not in written and "hyperlink" not in written


def test_a_table_without_rows_is_a_file_all_the_same():
    assert "".join(write_csv(table([]))) == ",".join(COLUMNS) + "\n"
    assert (
        python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(write_workbook(table([])))).sheet_names[1] == "About"
    )
