"""Mapping: a foreign layout lands without code."""

import pyarrow as pa
import pytest

from northstar.base.errors import NorthstarError
from northstar.extract.landing.directory import land_directory
from northstar.extract.landing.mapping import evaluate, read_mapping
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


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("starts_with(name, 'C') or name is None", [True, False, True]),
        ("name in ['34', '35']", [False, True, False]),
        ("text(decimal(price) + 1)", ["3.500000000", None, "2.000000000"]),
        ("'big' if int(count) >= 1 else 'none'", ["big", "big", "none"]),
        ("concat(coalesce(name, '?'), '-', count)", ["C12-3", "34-1", "?-0"]),
        ("substring(name, 1)", ["12", "4", None]),
    ],
)
def test_expressions_are_arrow_compute(expression, expected):
    assert evaluate(expression, TABLE).to_pylist() == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "entities: {charges: {files: x, columns: {}, colour: red}}",
            r"line 1, entities\.charges\.colour: unknown key; did you mean 'columns'\? known are aggregate",
        ),
        ("entities: {charge: {files: x, columns: {}}}", "no entity 'charge'"),
        ("entities: {charges: {files: x, columns: {colour: red}}}", "no column 'colour'"),
        ("entities: {charges: {columns: {}}}", "`files` is missing"),
        (
            "entities:\n charges:\n  files: x\n  columns: {amount: {colum: y}}",
            r"line 4, entities\.charges\.columns\.amount\.colum: unknown key; did you mean 'column'",
        ),
        ("entities:\n charges: {files: x, columns: {amounts: red}}", "no column 'amounts'; did you mean 'amount'"),
        ("entities: {charges: {files: x, columns: {}, csv: {delimiter: ab}}}", r"csv\.delimiter: give one character"),
        ("entities: {charges: [{files: x, columns: {}, keep: last}]}", "`keep` can only be first"),
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
    "expression", ["__import__('os')", "name.upper()", "[x for x in name]", "lambda: 1", "open('x')"]
)
def test_an_expression_runs_nothing(expression):
    with pytest.raises(NorthstarError):
        evaluate(expression, TABLE)


def test_a_mapped_column_that_the_file_lacks_is_named(tmp_path, warehouse):
    empty(warehouse)
    (tmp_path / "_mapping.yml").write_text(MAPPING)
    (tmp_path / "lines.csv").write_text(LINES.replace("Price", "Cost"))
    with pytest.raises(NorthstarError, match=r"lines.csv.*'Price' is not in the file"):
        land_directory(warehouse, 1, str(tmp_path), tmp_path / "_mapping.yml", progress=silent)
