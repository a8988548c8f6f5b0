"""Formats that only a mapping can ask for: what fits becomes rows of texts, what does not is rejected with its line."""

import io
import zipfile

import pytest

from northstar.base.errors import FileFailed
from northstar.extract.sources.files import CsvOptions, SourceFile
from northstar.extract.sources.foreign import Format, check_pattern, reading

PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def read(name: str, content: bytes, form: Format):
    own = reading(SourceFile(name, "memory", len(content), "1", content=content), form)
    rows = [row for batch in own.batches() for row in batch.to_pylist()]
    return rows, [(r.reason, r.line, r.row) for r in own.rejected]


def workbook(**sheets: list[list[str]]) -> bytes:
    """A workbook out of cells as its xml has them, such as <v>3</v>."""
    out = io.BytesIO()
    names = list(sheets)
    with zipfile.ZipFile(out, "w") as book:
        book.writestr("[Content_Types].xml", f"<Types xmlns='{PACKAGE}/content-types'/>")
        book.writestr(
            "_rels/.rels",
            f"<Relationships xmlns='{PACKAGE}/relationships'><Relationship Id='r' Type='{OFFICE}/officeDocument' Target='xl/workbook.xml'/></Relationships>",
        )
        book.writestr(
            "xl/workbook.xml",
            f"<workbook xmlns='{SHEET}' "
            f"xmlns:r='{OFFICE}'><sheets>"
            + "".join(f"<sheet name='{n}' sheetId='{i}' r:id='r{i}'/>" for i, n in enumerate(names, 1))
            + "</sheets></workbook>",
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f"<Relationships xmlns='{PACKAGE}/relationships'>"
            + "".join(
                f"<Relationship Id='r{i}' Type='{OFFICE}/worksheet' Target='worksheets/s{i}.xml'/>"
                for i in range(1, len(names) + 1)
            )
            + "</Relationships>",
        )
        for i, cells in enumerate(sheets.values(), 1):
            rows = "".join(
                f"<row r='{r}'>"
                + "".join(f"<c r='{chr(65 + c)}{r}' {cell}</c>" for c, cell in enumerate(row) if cell)
                + "</row>"
                for r, row in enumerate(cells, 1)
            )
            book.writestr(
                f"xl/worksheets/s{i}.xml",
                f"<worksheet xmlns='{SHEET}'><sheetData>{rows}</sheetData></worksheet>",
            )
    return out.getvalue()


def text(value: str) -> str:
    return f"t='inlineStr'><is><t>{value}</t></is>"


def test_a_sheet_is_read_with_whole_numbers_whole():
    content = workbook(
        Summary=[[text("nothing here")]],
        Sales=[
            [text("a report")],
            [text("id"), text("n"), text("ok")],
            ["><v>17</v>", "><v>2.5</v>", "t='b'><v>1</v>"],
            [],
            [text("x")],
        ],
    )
    rows, rejected = read("a.xlsx", content, Format("xlsx", sheet="Sales", skip_lines=1))
    assert rejected == []
    assert rows == [
        {"id": "17", "n": "2.5", "ok": "true", "_line": 3},
        {"id": "x", "n": None, "ok": None, "_line": 5},
    ]
    assert read("a.xlsx", content, Format())[0] == []
    with pytest.raises(FileFailed, match=r"a\.xlsx: it has no sheet 'Sale'; it has Summary, Sales"):
        read("a.xlsx", content, Format("xlsx", sheet="Sale"))
    with pytest.raises(FileFailed, match="not a workbook"):
        read("a.xlsx", b"id,n\n1,2\n", Format())


def test_an_error_in_a_sheet_is_no_empty_cell():
    content = workbook(
        Other=[[text("id")], ["t='e'><v>#REF!</v>"]],
        Sales=[
            [text("id"), text("n"), text("m")],
            ["><v>1</v>", "t='e'><v>#N/A</v>", "t='e'><f>1/0</f><v>#DIV/0!</v>"],
            ["><v>2</v>", "><v>5</v>"],
        ],
    )
    assert read("a.xlsx", content, Format("xlsx", sheet="Sales"))[0] == [
        {"id": "1", "n": "#N/A", "m": "#DIV/0!", "_line": 2},
        {"id": "2", "n": "5", "m": None, "_line": 3},
    ]
    assert read("a.xlsx", content, Format("xlsx"))[0] == [{"id": "#REF!", "_line": 2}]


def test_lines_that_do_not_fit_a_pattern_are_rejected_with_their_number():
    log = b'1.2.3.4 "GET /a"\nbroken\n\n5.6.7.8 "GET /b"\n'
    rows, rejected = read("access_log", log, Format("lines", pattern=r'(?P<host>\S+) "(?P<request>[^"]*)"$'))
    assert rows == [
        {"host": "1.2.3.4", "request": "GET /a", "_line": 1},
        {"host": "5.6.7.8", "request": "GET /b", "_line": 4},
    ]
    assert rejected == [("the line does not fit the pattern", 2, {"line": "broken"})]


def test_lines_between_blanks_and_of_fixed_width():
    rows, rejected = read("a.txt", b"id  n\n 1   2\n 3\n", Format("blanks"))
    assert rows == [{"id": "1", "n": "2", "_line": 2}]
    assert rejected == [("1 values where there are 2 columns", 3, {"line": " 3"})]
    rows, _ = read(
        "a.txt",
        b"1 .2\n",
        Format("fixed", CsvOptions(null_values=(".",)), widths=(("id", 1, 2), ("none", 3, 3), ("n", 4, 9))),
    )
    assert rows == [{"id": "1", "none": None, "n": "2", "_line": 1}]
    with pytest.raises(FileFailed, match="line 1 is not utf-8"):
        read("a.txt", b"\xff\n", Format("blanks"))


def test_elements_of_xml_have_what_lies_below_them():
    xml = b"<a><t id='1'><name>x</name><tag>u</tag><tag>v</tag><by><who>w</who></by></t><other/><t id='2'/></a>"
    rows, _ = read("a.xml", xml, Format("xml", element="t"))
    assert rows == [
        {"id": "1", "name": "x", "tag": "u; v", "by.who": "w", "_line": 1},
        {"id": "2", "name": None, "tag": None, "by.who": None, "_line": 2},
    ]
    with pytest.raises(FileFailed, match="not valid xml"):
        read("a.xml", b"<a><t>", Format("xml", element="t"))


def test_an_entity_of_xml_reads_no_file():
    xml = b"<!DOCTYPE a [<!ENTITY f SYSTEM 'file:///etc/passwd'>]><a><t><id>&f;</id></t></a>"
    with pytest.raises(FileFailed, match="not valid xml"):
        read("a.xml", xml, Format("xml", element="t"))


@pytest.mark.parametrize("pattern", ["(", "(?P<a>x)(?=y)", "a", "(?P<a>x){1000000}"])
def test_a_pattern_that_cannot_be_used_is_refused(pattern):
    with pytest.raises(ValueError, match="the pattern"):
        check_pattern(pattern)
