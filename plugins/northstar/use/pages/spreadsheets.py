"""Tables as files for spreadsheets and programs: CSV and XLSX.

No text of either becomes a formula. CSV has every digit; the numbers of a workbook are those that spreadsheets can hold, of 15 digits.
"""

import csv
import io
import itertools
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import xlsxwriter

from northstar.base.escaping import csv_cell, make_visible
from northstar.use.pages.tables import Table, plain

CSV = "text/csv; charset=utf-8"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
# what a cell can hold, and the first year that a spreadsheet knows
CELL_CHARACTERS, FIRST_YEAR = 32_767, 1900
MOMENT, DAY = "yyyy-mm-dd hh:mm", "yyyy-mm-dd"
# {characters that a sheet's name must not have: nothing}
NO_NAME = str.maketrans("", "", "[]:*?/\\'")
SHEET_NAME = 31
WIDEST = 60


def write_csv(table: Table) -> Iterator[str]:
    """The lines of a CSV file: names first; moments in ISO format in UTC, numbers with a point and all their digits, nothing for null."""
    yield _csv_line(table.columns)
    for row in table.rows:
        yield _csv_line([_text(plain(row.get(name))) for name in table.columns])


def _csv_line(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, int | float):
        return repr(value)
    return csv_cell(_words(value))


def _words(value: object) -> str:
    """A value that is no number, as text."""
    if isinstance(value, datetime):
        # strftime does not fill up years of fewer than four digits
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def write_workbook(*tables: Table) -> bytes:
    """A workbook: a sheet for the rows of each table, with numbers as numbers and moments as moments in UTC, and one that says what they are."""
    content = io.BytesIO()
    # rows go to a file as they are written; a text stays a text, whatever it begins with
    options = {
        "constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False, "nan_inf_to_errors": True,
    }  # fmt: skip
    with xlsxwriter.Workbook(content, options) as book:
        book.set_properties({"title": tables[0].title, "created": tables[0].version.published_at.replace(tzinfo=None)})
        bold, wrapped = book.add_format({"bold": True}), book.add_format({"text_wrap": True, "valign": "top"})
        formats = {"moment": book.add_format({"num_format": MOMENT}), "day": book.add_format({"num_format": DAY})}
        for table in tables:
            _write_sheet(book.add_worksheet(_free_name(book, table.title)), table, bold, formats)
        about, place = book.add_worksheet(_free_name(book, "About")), 0
        about.set_column(0, 0, 26)
        about.set_column(1, 1, 110)
        for table in tables:
            for name, text in table.about:
                about.write_string(place, 0, _cell_text(name), bold)
                about.write_string(place, 1, _cell_text(text), wrapped)
                place += 1
            place += 1
    return content.getvalue()


def _free_name(book: xlsxwriter.Workbook, title: str) -> str:
    """A name for a sheet that no sheet of the workbook has; spreadsheets do not tell large letters from small ones."""
    taken = {sheet.get_name().lower() for sheet in book.worksheets()}
    name = title.translate(NO_NAME)[:SHEET_NAME].strip() or "Rows"
    numbered = (f"{name[: SHEET_NAME - len(end)]}{end}" for end in (f" {number}" for number in itertools.count(2)))
    return next(free for free in (name, *itertools.islice(numbered, len(taken) + 1)) if free.lower() not in taken)


def _write_sheet(
    sheet: xlsxwriter.worksheet.Worksheet,
    table: Table,
    bold: xlsxwriter.format.Format,
    formats: dict[str, xlsxwriter.format.Format],
) -> None:
    for number, name in enumerate(table.columns):
        sheet.set_column(
            number, number, min(max(len(name) + 2, 16 if name.endswith(("_start", "_at")) else 12), WIDEST)
        )
    sheet.write_row(0, 0, table.columns, bold)
    for place, row in enumerate(table.rows, start=1):
        for number, name in enumerate(table.columns):
            _write_cell(sheet, place, number, plain(row.get(name)), formats)
    sheet.freeze_panes(1, 0)
    if table.columns:
        sheet.autofilter(0, 0, len(table.rows), len(table.columns) - 1)


def _write_cell(
    sheet: xlsxwriter.worksheet.Worksheet,
    row: int,
    column: int,
    value: object,
    formats: dict[str, xlsxwriter.format.Format],
) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif isinstance(value, int | float | Decimal):
        sheet.write_number(row, column, value)
    elif isinstance(value, datetime) and value.year >= FIRST_YEAR:
        sheet.write_datetime(row, column, value.astimezone(UTC).replace(tzinfo=None), formats["moment"])
    elif isinstance(value, date) and not isinstance(value, datetime) and value.year >= FIRST_YEAR:
        sheet.write_datetime(row, column, value, formats["day"])
    else:
        sheet.write_string(row, column, _cell_text(_words(value)))


def _cell_text(text: str) -> str:
    return make_visible(text)[:CELL_CHARACTERS]
