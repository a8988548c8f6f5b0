"""Mapping: a foreign layout lands without code."""

import hashlib
import itertools

import pyarrow as pa
import pytest

from northstar.base.errors import NorthstarError
from northstar.extract.landing.directory import land_directory
from northstar.extract.landing.engine import Engine
from northstar.extract.landing.mapping import read_mapping
from northstar.extract.landing.short_form import sql_of
from northstar.warehouse import db
from tests.support import empty, silent

TABLE = pa.table({"name": ["C12", "34", None], "price": ["2.50", "x", "1"], "count": ["3", "1", "0"]})

MAPPING = """
application: shop
entities:
  charges:
    files: "*.csv"
    where: not starts_with(Invoice, 'C')
    derive: {line: decimal(Price) * decimal(Count)}
    group_by: [Invoice]
    aggregate: {total: sum line, at: min Date, customer: first Customer}
    having: total > 0
    columns:
      charge_id: Invoice
      account_id: customer
      amount: {expression: "int(round(total * 100, 0))"}
      currency: {constant: GBP}
      status: {constant: succeeded}
      created_at: {column: at, parse: "%d/%m/%Y %H:%M", timezone: Europe/London}
      updated_at: {column: at, parse: "%d/%m/%Y %H:%M"}
"""
LINES = "Invoice,Price,Count,Customer,Date\n1,2.50,2,a,01/07/2025 09:00\n1,0.255,1,a,01/07/2025 09:00\nC2,9,1,a,01/07/2025 09:00\n3,0,1,b,01/07/2025 09:00\n"


def test_invoice_lines_become_charges(tmp_path, warehouse):
    empty(warehouse)
    (tmp_path / "_mapping.yml").write_text(MAPPING)
    (tmp_path / "lines.csv").write_text(LINES)
    land_directory(warehouse, 1, str(tmp_path), tmp_path / "_mapping.yml", progress=silent)
    with db.connect(warehouse, "loader") as connection:
        rows = connection.execute(
            "select charge_id, amount, application, created_at::text as at from staging.charges"
        ).fetchall()
    assert rows == [{"charge_id": "1", "amount": 526, "application": "shop", "at": "2025-07-01 08:00:00+00"}]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with Engine(tmp_path_factory.mktemp("spill")) as made:
        made.show("input", TABLE)
        yield made


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("starts_with(name, 'C') or name is None", [True, False, True]),
        ("name in ['34', '35']", [False, True, None]),
        ("text(decimal(count) + 1)", ["4.000000000", "2.000000000", "1.000000000"]),
        ("'big' if int(count) >= 1 else 'none'", ["big", "big", "none"]),
        ("concat(coalesce(name, '?'), '-', count)", ["C12-3", "34-1", "?-0"]),
        ("substring(name, 1)", ["12", "4", None]),
        ("substring(name, 0, 1)", ["C", "3", None]),
        ("substring(name, -2)", ["12", "34", None]),
        ("text(decimal(count) / 7)", ["0.428571429", "0.142857143", "0.000000000"]),
        ("round(decimal('2.5'), 0)", [3, 3, 3]),
        ("round(decimal('-2.345'), 2) == -2.35", [True, True, True]),
        ("hash(name, count)", ["d0e6c0ab7d4a2cf35e8c4f8bea5fd4a0", "", None]),
        ("add_days(time('2025-01-31T00:00:00Z'), int(count)) == time('2025-02-03T00:00:00Z')", [True, False, False]),
        ("time('31/1/2025', '%d/%m/%Y') == time('2025-01-31T00:00:00Z')", [True, True, True]),
        ("not ends_with(name, '2') and contains(name, '3')", [False, True, None]),
        ("length(trim(upper(lower(replace(name, 'C', ' c')))))", [3, 2, None]),
        ("abs(-int(count)) * 2 - 1", [5, 1, -1]),
    ],
)
def test_an_expression_of_an_older_mapping_is_sql(engine, expression, expected):
    found = [row[0] for row in engine.rows(f"select {sql_of(expression)} from input")]
    if expression.startswith("hash"):
        assert found == [
            hashlib.sha256(b"C12\x1f3").hexdigest()[:32],
            hashlib.sha256(b"34\x1f1").hexdigest()[:32],
            None,
        ]
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "entities: {charges: {files: x, columns: {}, colour: red}}",
            r"line 1, entities\.charges\.colour: unknown key; did you mean 'columns'\? known are aggregate",
        ),
        ("entities:\n charge: {files: x, columns: {}}", r"line 2, entities\.charge: no entity 'charge'"),
        ("entities: {charges: {files: x, columns: {colour: red}}}", "no column 'colour'"),
        ("entities: {charges: {columns: {}}}", "`files` is missing"),
        (
            "entities:\n charges:\n  files: x\n  columns: {amount: {colum: y}}",
            r"line 4, entities\.charges\.columns\.amount\.colum: unknown key; did you mean 'column'",
        ),
        (
            "entities:\n charges:\n - {files: x, columns: {}}\n - files: y\n   columns:\n    amounts: red",
            r"line 6, entities\.charges\.1\.columns\.amounts: charges has no column 'amounts'; did you mean 'amount'",
        ),
        ("entities: {charges: {files: x, columns: {}, csv: {delimiter: ab}}}", r"csv\.delimiter: give one character"),
        ("entities: {charges: [{files: x, columns: {}, keep: last}]}", "`keep` is `oldest by COLUMN`"),
        (
            "entities: {charges: [{files: x, columns: {}, keep: oldest by amounts}]}",
            r"entities\.charges\.0\.keep: charges has no column 'amounts'",
        ),
        (
            "entities: {charges: {files: x, columns: {}, select: select 1}}",
            "say `columns` or `select`, and one of them",
        ),
        ("entities: {charges: {files: x}}", "say `columns` or `select`, and one of them"),
        ("entities: {charges: {inputs: {a: {files: x}}, columns: {}}}", "`inputs` goes with `select`"),
        ("entities: {charges: {files: x, select: select 1, where: a}}", "`where` does not go with `select`"),
        ("entities: {charges: {files: x, columns: {}, aggregate: {a: sum b}}}", "`aggregate` wants `group_by`"),
        (
            "entities: {charges: {files: x, columns: {}, csv: {header: no}}}",
            "without a header, give the columns' `names`",
        ),
        ("entities: {charges: {files: x, columns: {}, lines: {pattern: (}}}", "the pattern is not understood"),
        ("entities: {charges: {files: x, columns: {}, lines: {pattern: a}}}", "the pattern names no column"),
        ("entities: [", "not valid YAML"),
        ("about: x", "`entities` is missing: give an entry"),
    ],
)
def test_a_mapping_that_is_not_understood_is_one_line(tmp_path, text, words):
    (tmp_path / "_mapping.yml").write_text(text)
    with pytest.raises(NorthstarError, match=words) as caught:
        read_mapping(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    ["__import__('os')", "name.upper()", "[x for x in name]", "lambda: 1", "open('x')", "a ** 2", "round()"],
)
def test_an_expression_runs_nothing(expression):
    with pytest.raises(NorthstarError, match="expression"):
        sql_of(expression)


def test_a_mapped_column_that_the_file_lacks_is_named(tmp_path, warehouse):
    empty(warehouse)
    (tmp_path / "_mapping.yml").write_text(MAPPING)
    (tmp_path / "lines.csv").write_text(LINES.replace("Price", "Cost"))
    with pytest.raises(NorthstarError, match=r"lines.csv.*'Price' is not in the file"):
        land_directory(warehouse, 1, str(tmp_path), tmp_path / "_mapping.yml", progress=silent)


def test_a_sum_leaves_no_line_out(tmp_path, warehouse):
    """Two lines of one invoice, 999.00 and 1,000.00: the invoice waits in quarantine, and is not one of 999.00."""
    empty(warehouse)
    (tmp_path / "lines.csv").write_text(
        'Inv,Amount,At\nX-1,999.00,2025-03-05\nX-1,"1,000.00",2025-03-05\nX-2,1.00,2025-03-05\n'
    )
    mapping = tmp_path / "m.yml"
    mapping.write_text("""
entities:
  charges:
    files: lines.csv
    derive: {amt: decimal(Amount)}
    group_by: [Inv]
    aggregate: {total: sum amt, at: min At}
    columns:
      charge_id: Inv
      account_id: {constant: a}
      currency: {constant: USD}
      status: {constant: succeeded}
      amount: {expression: "int(round(total * 100, 0))"}
      created_at: {column: at, parse: "%Y-%m-%d"}
      updated_at: {column: at, parse: "%Y-%m-%d"}
""")
    land_directory(warehouse, None, str(tmp_path), mapping, progress=silent)
    rows, rejected = stored(warehouse)
    assert rows == [("X-2", 100)]
    assert rejected == [
        (
            "lines.csv",
            3,
            ["amt: '1,000.00' is not a number"],
            {"source.Inv": "X-1", "source.Amount": "1,000.00", "source.At": "2025-03-05"},
        ),
        (
            "lines.csv",
            2,
            ["belongs to a group with a bad row"],
            {"source.Inv": "X-1", "source.Amount": "999.00", "source.At": "2025-03-05"},
        ),
    ]
    # the mapping is told how numbers are written there: the next reading lands the invoice
    mapping.write_text(mapping.read_text().replace("files: lines.csv", "files: lines.csv\n    csv: {thousands: ','}"))
    land_directory(warehouse, None, str(tmp_path), mapping, progress=silent)
    assert stored(warehouse) == ([("X-1", 199900), ("X-2", 100)], [])


def test_a_bad_value_quarantines_the_sources_own_row(tmp_path, warehouse):
    empty(warehouse)
    (tmp_path / "q.csv").write_text("Ref,Qty,Hotel\nC-0,1,Resort\nC-1,-,Resort\nC-2,2,Reosrt\n")
    mapping = tmp_path / "m.yml"
    mapping.write_text("""
entities:
  charges:
    files: q.csv
    columns:
      charge_id: Ref
      account_id: {column: Hotel, map: {Resort: r}, default: null}
      amount: {expression: int(Qty)}
      currency: {constant: USD}
      status: {constant: succeeded}
      created_at: {constant: "2025-03-05T00:00:00Z"}
      updated_at: {constant: "2025-03-05T00:00:00Z"}
""")
    land_directory(warehouse, None, str(tmp_path), mapping, progress=silent)
    rows, rejected = stored(warehouse)
    assert rows == [("C-0", 1)]
    assert [(path, line, reasons) for path, line, reasons, _ in rejected] == [
        ("q.csv", 3, ["amount: '-' is not a whole number"]),
        ("q.csv", 4, ["account_id: required"]),
    ]
    assert rejected[0][3] == {"source.Ref": "C-1", "source.Qty": "-", "source.Hotel": "Resort"}
    # what the mapping made of the row, and what it was in the source
    assert rejected[1][3]["charge_id"] == "C-2" and rejected[1][3]["source.Hotel"] == "Reosrt"


def stored(warehouse):
    with db.connect(warehouse, "loader") as connection:
        rows = connection.execute("select charge_id, amount from staging.charges order by 1").fetchall()
        rejected = connection.execute(
            "select path, line, reasons, row from quarantine.rows where resolved_at is null order by quarantine_id"
        ).fetchall()
    return [tuple(r.values()) for r in rows], [tuple(r.values()) for r in rejected]


@pytest.mark.parametrize("keep", ["oldest by created_at", "newest by created_at", "first"])
def test_the_row_that_stays_does_not_depend_on_the_order_of_delivery(tmp_path, warehouse, keep):
    """All orders of six files, some of them with the same time, give the same rows; the input without `keep` has its own rule."""
    contents = {
        "1": "a,2025-01-05,SE", "2": "a,2025-01-01,DE", "3": "a,2025-01-01,AT", "4": "b,2025-02-01,FR", "5": "a,2025-03-01,IT", "6": "b,2025-02-01,GB"
    }  # fmt: skip
    mapping = tmp_path / "m.yml"
    mapping.write_text(f"""
entities:
  accounts:
    - name: people
      files: "people/*.csv"
      keep: {keep}
      columns: &columns
        account_id: id
        account_type: {{constant: customer}}
        country: country
        created_at: {{column: at, parse: "%Y-%m-%d"}}
        updated_at: {{column: at, parse: "%Y-%m-%d"}}
    - name: others
      files: "others/*.csv"
      columns: *columns
""")
    expected = [("a", "AT"), ("b", "FR")] if keep != "newest by created_at" else [("a", "IT"), ("b", "FR")]
    orders = list(itertools.permutations(contents))
    # all 720 orders would take minutes: some of them, which begin with different files
    for order in orders[::250]:
        empty(warehouse)
        source = tmp_path / "".join(order)
        for number, name in enumerate(order):
            (source / "people").mkdir(parents=True, exist_ok=True)
            (source / "people" / f"{number}.csv").write_text(f"id,at,country\n{contents[name]}\n")
            if number == 2:
                land_directory(warehouse, None, str(source), mapping, progress=silent)
        land_directory(warehouse, None, str(source), mapping, progress=silent)
        with db.connect(warehouse, "loader") as connection:
            rows = connection.execute("select account_id, country from staging.accounts order by 1").fetchall()
        assert [tuple(r.values()) for r in rows] == expected, order
    # an input without `keep` in the same delivery is not ruled by the other's
    (source / "others").mkdir()
    (source / "others" / "a.csv").write_text("id,at,country\nc,2025-01-01,DE\nc,2025-01-05,SE\n")
    land_directory(warehouse, None, str(source), mapping, progress=silent)
    with db.connect(warehouse, "loader") as connection:
        row = connection.execute("select country from staging.accounts where account_id = 'c'").fetchone()
    assert row["country"] == "SE"
