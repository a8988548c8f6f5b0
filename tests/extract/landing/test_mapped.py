"""Files become rows under a mapping: what a value that cannot be read takes with it, and where each row comes from."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from northstar.base.errors import FileFailed, NorthstarError
from northstar.extract.landing.directory import listed_files, units
from northstar.extract.landing.mapped import Mapped
from northstar.extract.landing.mapping import read_mapping


def mapped_rows(directory: Path, mapping: str, files: dict[str, str | bytes], entity: str = "charges"):
    """(rows, bad rows) of an entity's inputs; a bad row is (path, line, reason, the source's own row)."""
    (directory / "mapping.yml").write_text(mapping)
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    rows, bad = [], []
    for one in read_mapping(str(directory), directory / "mapping.yml"):
        if one.entity != entity:
            continue
        mapped = Mapped(one, directory / "spill", memory_mb=256, minutes=1)
        try:
            for unit in units(mapped, listed_files(str(directory), one, None)):
                for piece in mapped.pieces(unit):
                    for row in piece.batch.to_pylist():
                        origin = piece.origin(row.pop("_line"))
                        rows.append((origin.path, origin.line, row))
                    bad += [(o.path, o.line, reason, o.row) for o, reason in piece.bad]
                for path, reading in unit.readings.items():
                    bad += [(path, r.line, r.reason, r.row) for r in reading.rejected]
        finally:
            mapped.close()
    return rows, bad


SHORT = """
entities:
  charges:
    files: "*.csv"
    columns: {charge_id: id, amount: {sql: whole(Amount)}, created_at: {sql: "utc(day, 'Europe/London')"}}
"""


def test_a_value_that_cannot_be_read_takes_its_row_with_it_and_no_other(tmp_path):
    rows, bad = mapped_rows(
        tmp_path,
        SHORT,
        {"a.csv": "id,Amount,day\na,1,2025-01-01\nb,-,2025-01-01\nc,3,2025-03-30 01:30:00\nd,x,y\ne,5,2025-01-02\n"},
    )
    assert [row["charge_id"] for _, _, row in rows] == ["a", "e"]
    assert bad[:2] == [
        ("a.csv", 1, "amount: '-' is not a whole number", {"id": "b", "Amount": "-", "day": "2025-01-01"}),
        ("a.csv", 2, "created_at: '2025-03-30 01:30:00' does not exist in Europe/London", {"id": "c", "Amount": "3", "day": "2025-03-30 01:30:00"}),
    ]  # fmt: skip
    assert bad[2][1] == 3 and bad[2][2].startswith("amount: 'x' is not a whole number; created_at: ")


@pytest.mark.parametrize(
    "select",
    [
        "select Inv as charge_id, sum(number(Amount)) as amount from input group by Inv",
        "select Inv as charge_id, sum(number(Amount)) as amount from input group by 1",
        "select Inv as charge_id, sum(number(Amount)) as amount from input group by all",
        "select Inv as charge_id, sum(n) as amount from (select *, number(Amount) as n from input) group by Inv",
        "with l as (select Inv, number(Amount) as n from input) select Inv as charge_id, sum(n) as amount from l where n > 0 group by Inv",
        "select charge_id, amount from (select Inv as charge_id, sum(number(Amount)) as amount from input group by Inv) where amount < 100",
        "with g as (select Inv, sum(number(Amount)) as n from input group by Inv) select Inv as charge_id, n as amount from g",
        "select distinct Inv as charge_id, sum(number(Amount)) over (partition by Inv) as amount from input",
        "select i.Inv as charge_id, sum(number(i.Amount)) as amount from input as i join input as j on i._line = j._line group by i.Inv",
    ],
)
def test_a_group_with_a_value_that_cannot_be_read_is_left_out_as_a_whole(tmp_path, select):
    """A sum without one of its lines would be a wrong number that nobody notices."""
    mapping = f"entities:\n  charges:\n    files: '*.csv'\n    select: {select}\n"
    lines = 'Inv,Amount\nX-1,999.00\nX-1,"1,000.00"\nX-2,5\nX-3,(3)\nX-2,7\n'
    rows, bad = mapped_rows(tmp_path, mapping, {"a.csv": lines})
    assert [(row["charge_id"], row["amount"]) for _, _, row in rows] == [("X-2", 12)]
    assert [(path, line) for path, line, _, _ in bad] == [("a.csv", 1), ("a.csv", 3), ("a.csv", 0)]
    assert all("is not a number" in reason for _, _, reason, _ in bad[:2])
    assert bad[0][3] == {"Inv": "X-1", "Amount": "1,000.00"}
    # its other line is not silently absent
    assert bad[2][2:] == ("belongs to a group with a bad row", {"Inv": "X-1", "Amount": "999.00"})


def test_a_row_whose_own_key_cannot_be_read_takes_no_other_group_with_it(tmp_path):
    mapping = "entities: {charges: {files: a.csv, select: 'select max(id) as charge_id, sum(whole(n)) as amount from input group by whole(inv)'}}"
    rows, bad = mapped_rows(tmp_path, mapping, {"a.csv": "id,inv,n\n1,7,1\n2,x,2\n3,,4\n4,7,8\n"})
    assert sorted((row["charge_id"], row["amount"]) for _, _, row in rows) == [("3", 4), ("4", 9)]
    assert [(line, reason) for _, line, reason, _ in bad] == [(1, "group by: 'x' is not a whole number")]


def test_only_rows_that_the_select_takes_belong_to_a_group(tmp_path):
    """A row that WHERE leaves out never was one of the group, whatever its key."""
    mapping = """
entities:
  charges:
    files: "*.csv"
    select: select inv as charge_id, sum(number(n)) as amount from input where kind = 'sale' group by inv
"""
    files = {"a.csv": "inv,n,kind\n1,1,sale\n1,2,tax\n", "b.csv": "inv,n,kind\n1,x,sale\n2,5,sale\n"}
    rows, bad = mapped_rows(tmp_path, mapping, files)
    assert [row["charge_id"] for _, _, row in rows] == ["2"]
    assert [(path, line, reason) for path, line, reason, _ in bad] == [
        ("b.csv", 0, "amount: 'x' is not a number"),
        ("a.csv", 0, "belongs to a group with a bad row"),
    ]


def test_a_group_stays_left_out_when_another_fails_later(tmp_path):
    """The second failure is only met when the first is out of the way; the first group must not come back without its bad line."""
    mapping = """
entities:
  charges:
    files: a.csv
    select: select inv as charge_id, whole(number('1' || max(tail))) as amount from (select *, number(n) as m from input) group by inv having sum(m) > 0
"""
    lines = "inv,n,tail\na,1,0\na,x,0\nb,1,.5\nc,1,0\n"
    rows, bad = mapped_rows(tmp_path, mapping, {"a.csv": lines})
    assert [row["charge_id"] for _, _, row in rows] == ["c"]
    assert [(line, reason) for _, line, reason, _ in bad] == [
        (1, "m: 'x' is not a number"),
        (2, "'1.500000000' is not a whole number"),
        (0, "belongs to a group with a bad row"),
    ]


def test_a_group_whose_own_value_is_none_waits_with_all_its_rows_and_no_other_group(tmp_path):
    mapping = """
entities:
  charges:
    files: "*.csv"
    select: select id as charge_id, whole(sum(number(amount))) as amount from input where kind = 'sale' group by id
"""
    rows, bad = mapped_rows(
        tmp_path,
        mapping,
        {
            # the parts of a and c are whole together, those of b are not, and d is more than 64 bits, though each of its rows is not
            "1.csv": "id,kind,amount\na,sale,1.2\nb,sale,1.5\nc,sale,0.5\nd,sale,9223372036854775807\nb,note,7\n",
            "2.csv": "id,kind,amount\nd,sale,1\nc,sale,0.5\na,sale,0.8\nb,sale,2\ne,sale,4\n",
        },
    )
    assert sorted((row["charge_id"], row["amount"]) for _, _, row in rows) == [("a", 2), ("c", 1), ("e", 4)]
    assert sorted(one[:3] for one in bad) == [
        ("1.csv", 1, "'3.500000000' is not a whole number"),
        ("1.csv", 3, "Could not convert string '9223372036854775808' to INT64"),
        ("2.csv", 0, "Could not convert string '9223372036854775808' to INT64"),
        ("2.csv", 3, "'3.500000000' is not a whole number"),
    ]


def test_more_rows_than_are_held_at_a_time_keep_their_origins(tmp_path, monkeypatch):
    monkeypatch.setattr("northstar.extract.landing.mapped.ROWS_AT_A_TIME", 2)
    mapping = "entities:\n  charges:\n    files: '*.csv'\n    select: select id as charge_id, _file, _line from input order by id desc\n"
    rows, _ = mapped_rows(tmp_path, mapping, {"a.csv": "id\n1\n2\n3\n", "b.csv": "id\n4\n5\n"})
    assert [(path, line, row["charge_id"]) for path, line, row in rows] == [
        ("b.csv", 1, "5"), ("b.csv", 0, "4"), ("a.csv", 2, "3"), ("a.csv", 1, "2"), ("a.csv", 0, "1"),
    ]  # fmt: skip


def test_the_mappings_application_is_that_of_every_row_that_does_not_say_it(tmp_path):
    mapping = """
application: shop
entities:
  charges:
    - {files: a.csv, select: "select id as charge_id from input"}
    - {files: a.csv, select: "select id as charge_id, 'other' as application from input"}
    - {files: a.csv, columns: {charge_id: id}}
"""
    rows, _ = mapped_rows(tmp_path, mapping, {"a.csv": "id\n1\n"})
    assert [row["application"] for _, _, row in rows] == ["shop", "other", "shop"]


def test_what_cannot_be_left_out_stops_its_files_and_names_the_row(tmp_path):
    mapping = "entities:\n  charges:\n    files: '*.csv'\n    select: select 'all' as charge_id, sum(number(Amount)) as amount from input\n"
    with pytest.raises(FileFailed, match=r"a\.csv, row 1: amount: 'x' is not a number; .* makes one row of many"):
        mapped_rows(tmp_path, mapping, {"a.csv": "Amount\n1\nx\n"})


def test_groups_are_made_over_all_files_and_say_their_files_where_the_select_does(tmp_path):
    mapping = """
entities:
  charges:
    - {name: together, files: "*.csv", select: "select inv as charge_id, sum(whole(n)) as amount, min(_file) as _file, min(_line) as _line from input group by inv"}
    - {name: apart, each: file, files: "*.csv", select: "select inv as charge_id, sum(whole(n)) as amount from input group by inv"}
"""
    rows, bad = mapped_rows(tmp_path, mapping, {"a.csv": "inv,n\nx,1\ny,2\n", "b.csv": "inv,n\nx,4\n"})
    assert not bad
    assert sorted(
        (path, line, row["charge_id"], row["amount"]) for path, line, row in rows if path.endswith("together")
    ) == [
        ("a.csv#together", 0, "x", 5),
        ("a.csv#together", 1, "y", 2),
    ]
    assert sorted((path, row["charge_id"], row["amount"]) for path, line, row in rows if path.endswith("apart")) == [
        ("a.csv#apart", "x", 1),
        ("a.csv#apart", "y", 2),
        ("b.csv#apart", "x", 4),
    ]


def test_inputs_are_joined_and_windows_see_the_row_before(tmp_path):
    mapping = """
entities:
  charges:
    inputs:
      lines: {files: "lines/*.csv"}
      prices: {files: prices.csv}
    select: >
      select l.id as charge_id, p.price as amount, lag(l.id) over (partition by l.sku order by l._line) as account_id, l._file, l._line
      from lines as l left join prices as p using (sku)
"""
    rows, bad = mapped_rows(
        tmp_path, mapping, {"lines/a.csv": "id,sku\n1,s\n2,t\n3,s\n", "prices.csv": "sku,price\ns,10\nt,20\n"}
    )
    assert not bad
    assert sorted((line, row["charge_id"], row["amount"], row["account_id"]) for _, line, row in rows) == [
        (0, "1", "10", None),
        (1, "2", "20", None),
        (2, "3", "10", "1"),
    ]
    (tmp_path / "prices.csv").unlink()
    with pytest.raises(NorthstarError, match=r"the input prices has no files: there is no prices\.csv"):
        mapped_rows(tmp_path, mapping, {})


FORMATS = [
    ("csv: {header: false, names: [id, n]}", "a.txt", "1,2\n"),
    ("csv: {skip_lines: 2}", "a.csv", "a report\nof today\nid,n\n1,2\n"),
    ("csv: {names: [id, n]}", "a.csv", "Id,Number\n1,2\n"),
    ('csv: {quote: "\'"}', "a.csv", "id,n\n'1',2\n"),
    ("csv: {encoding: utf-16}", "a.csv", "id,n\n1,2\n".encode("utf-16")),
    ("blanks: {}", "a.txt", "id   n\n  1    2 \n"),
    ("blanks: {names: [id, n]}", "a.log", "  1  2 \n"),
    ("fixed: {columns: {id: [1, 3], n: [4, 6]}}", "a.dat", "  1  2\n"),
    ("lines: {pattern: '(?P<id>[0-9]+)-(?P<n>[0-9]+)'}", "access_log", "1-2\n"),
    ("xml: {element: row}", "a.xml", "<rows xmlns='urn:x'><row id='1'><n>2</n></row></rows>"),
    ("format: jsonl", "a.log", '{"id": "1", "n": 2}\n'),
]


@pytest.mark.parametrize(("form", "name", "content"), FORMATS)
def test_a_file_is_read_as_the_mapping_says(tmp_path, form, name, content):
    mapping = f"entities:\n  charges:\n    files: {name}\n    {form}\n    columns: {{charge_id: id, amount: n}}\n"
    rows, bad = mapped_rows(tmp_path, mapping, {name: content})
    assert ([row for _, _, row in rows], bad) == ([{"charge_id": "1", "amount": "2"}], [])


def test_typed_columns_with_any_name_are_mapped(tmp_path):
    table = pa.table(
        {"Customer ID": [17.0], "time:stamp": pa.array([1735689600000], pa.timestamp("ms")), 'a"b': [2**40]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    mapping = """
entities:
  charges:
    files: a.parquet
    columns: {charge_id: {sql: '"Customer ID"::int::varchar'}, created_at: "time:stamp", amount: 'a"b'}
"""
    rows, bad = mapped_rows(tmp_path, mapping, {})
    assert not bad and rows[0][2]["charge_id"] == "17" and rows[0][2]["amount"] == 2**40


def test_what_yaml_makes_booleans_of_stays_text(tmp_path):
    mapping = """
entities:
  charges:
    files: a.csv
    columns:
      charge_id: no
      country: {column: country, map: {Norway: NO, yes: on, 01: 1.10}, default: off}
      currency: {constant: yes}
"""
    rows, _ = mapped_rows(tmp_path, mapping, {"a.csv": "no,country\n1,Norway\n2,yes\n3,01\n4,x\n"})
    assert [(row["charge_id"], row["country"], row["currency"]) for _, _, row in rows] == [
        ("1", "NO", "yes"),
        ("2", "on", "yes"),
        ("3", "1.10", "yes"),
        ("4", "off", "yes"),
    ]


def test_times_have_one_of_several_patterns(tmp_path):
    mapping = """
entities:
  charges:
    files: a.csv
    columns: {charge_id: id, created_at: {column: at, parse: ["%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M"], timezone: Europe/London}}
"""
    rows, _ = mapped_rows(tmp_path, mapping, {"a.csv": "id,at\n1,1/7/2025 09:05\n2,01/07/2025 9:05:06\n3,soon\n4,\n"})
    assert [row["created_at"] for _, _, row in rows] == [
        "2025-07-01 08:05:00+00",
        "2025-07-01 08:05:06+00",
        "soon",
        None,
    ]


def test_a_value_that_only_the_outer_select_cannot_take_is_left_out(tmp_path):
    mapping = """
entities:
  charges:
    files: "*.csv"
    select: select charge_id, quotient(6, n) as amount, _line from (select id as charge_id, whole(n) as n, _line from input)
"""
    rows, bad = mapped_rows(tmp_path, mapping, {"a.csv": "id,n\n1,2\n2,0\n3,3\n"})
    assert [(row["charge_id"], row["amount"]) for _, _, row in rows] == [("1", 3), ("3", 2)]
    assert [(path, line) for path, line, _, _ in bad] == [("a.csv", 1)]


def test_an_optional_column_is_null_in_a_file_that_lacks_it(tmp_path):
    mapping = """
entities:
  charges:
    - {name: one, files: "*.csv", optional: [Country, Land], columns: {charge_id: id, country: {sql: 'coalesce("Country", "Land")'}}}
    - {name: all, files: "*.csv", optional: [Country, Land], select: 'select max(id) as charge_id, max("Country") as country from input'}
"""
    files = {"a.csv": "id,Country\n1,DE\n", "b.csv": "Land,id\nFR,2\n", "c.csv": "id\n3\n"}
    rows, bad = mapped_rows(tmp_path, mapping, files)
    assert not bad
    assert [(row["charge_id"], row["country"]) for path, _, row in rows if "#one" in path] == [
        ("1", "DE"),
        ("2", "FR"),
        ("3", None),
    ]
    assert [(row["charge_id"], row["country"]) for path, _, row in rows if "#all" in path] == [("3", "DE")]
    with pytest.raises(FileFailed, match='"Country"'):
        mapped_rows(tmp_path, mapping.replace("Country, Land", "Land"), {})


def test_a_column_that_the_contract_does_not_have_is_named(tmp_path):
    mapping = "entities: {charges: {files: a.csv, select: 'select id as charge_id, id as colour from input'}}"
    with pytest.raises(FileFailed, match=r"a\.csv: the mapping of charges: .*'colour', which charges does not have"):
        mapped_rows(tmp_path, mapping, {"a.csv": "id\n1\n"})


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("whole(n", "column amount: .*syntax error"),
        ("n n", "column amount: .*syntax error"),
        ("'a", "column amount: .*unterminated"),
        ("n), (n", "column amount: more than one expression"),
        ("hole(n)", "does not fit: column amount: .*hole"),
    ],
)
def test_a_columns_sql_that_is_not_understood_names_the_column(tmp_path, sql, words):
    columns = f'{{charge_id: id, currency: {{sql: upper(id)}}, amount: {{sql: "{sql}"}}}}'
    mapping = f"entities:\n  charges:\n    files: a.csv\n    columns: {columns}\n"
    with pytest.raises(NorthstarError, match=f"the mapping of charges: {words}"):
        mapped_rows(tmp_path, mapping, {"a.csv": "id,n\n1,2\n"})


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("id;n", """; the file looks delimited by ';': write `csv: {delimiter: ";"}` in its mapping"""),
        ("id\tn;m\tk", r"""; the file looks delimited by '\t': write `csv: {delimiter: "\t"}` in its mapping"""),
        ("id,m", ""),
        ("id", ""),
    ],
)
def test_a_delimiter_that_does_not_fit_is_told(tmp_path, header, hint):
    mapping = "entities: {charges: {files: a.csv, columns: {charge_id: id, amount: n}}}"
    with pytest.raises(FileFailed, match=r"the mapped column '(id|n)' is not in the file; it has id") as caught:
        mapped_rows(tmp_path, mapping, {"a.csv": f"{header}\n{header}\n"})
    assert str(caught.value).endswith(f"it has {', '.join(header.split(','))}{hint}")


def test_an_xml_file_that_expands_without_end_is_refused(tmp_path):
    bomb = '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {chr(98 + n)} "{"&" + chr(97 + n) + ";"}{("&" + chr(97 + n) + ";") * 9}">' for n in range(9)
    ) + "]><r><row><id>&j;</id></row></r>"  # fmt: skip
    mapping = "entities: {charges: {files: a.xml, xml: {element: row}, columns: {charge_id: id}}}"
    with pytest.raises(FileFailed, match="not valid xml"):
        mapped_rows(tmp_path, mapping, {"a.xml": bomb})
