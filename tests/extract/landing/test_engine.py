"""The SQL engine of mappings reads what it is given, and nothing else, within bounds."""

import csv

import duckdb
import pyarrow as pa
import pytest

from northstar.base.errors import NorthstarError
from northstar.base.settings import ROOT
from northstar.contract.codes import MINOR_DIGITS
from northstar.extract.landing.engine import VALUE_ERRORS, Engine, message


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with Engine(tmp_path_factory.mktemp("spill")) as made:
        yield made


@pytest.mark.parametrize(
    "statement",
    [
        "select * from read_csv('/etc/passwd')",
        "select * from '/etc/passwd'",
        "select * from read_text('/etc/passwd')",
        "select * from glob('/etc/*')",
        "select * from read_parquet('https://example.org/x.parquet')",
        "copy (select 1) to '/tmp/northstar-out.csv'",
        "export database '/tmp/northstar-out'",
        "attach '/tmp/northstar-out.db'",
        "install httpfs",
        "load httpfs",
        "set memory_limit = '100GB'",
        "set enable_external_access = true",
        "reset lock_configuration",
        "select getenv('HOME')",
        "select * from secret_of_the_caller",
    ],
)
def test_it_reads_writes_and_changes_nothing_outside(engine, statement):
    secret_of_the_caller = pa.table({"a": [1]})
    with pytest.raises(duckdb.Error):
        engine.rows(statement)
    assert secret_of_the_caller.num_rows


def test_a_statement_that_takes_too_long_is_stopped(tmp_path):
    with Engine(tmp_path, minutes=0.002) as engine, pytest.raises(NorthstarError, match=r"longer than 0\.002 minutes"):
        engine.rows("select count(*) from range(10000000000) as a(x) where hash(x) = 1")


def test_a_statement_that_takes_too_much_memory_spills_or_is_refused(tmp_path):
    with Engine(tmp_path, memory_mb=64) as engine:
        # 2 million groups with their texts do not fit into 64 MB, and a disk holds them
        query = "select count(*) from (select x, max(repeat('x', 50) || x) from range(2000000) as a(x) group by x)"
        assert engine.rows(query) == [(2_000_000,)]
        with pytest.raises(NorthstarError, match="mapping_memory_mb"):
            engine.rows("select length(string_agg(repeat('x', 1000), '')) from range(500000)")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("whole('1.0')", "1"),
        ("whole(' 12 ')", "12"),
        ("whole(null)", None),
        ("whole('1.5')", "'1.5' is not a whole number"),
        ("whole('1_000')", "'1_000' is not a whole number"),
        ("whole('0x1F')", "'0x1F' is not a whole number"),
        ("number('1,000.00')", "'1,000.00' is not a number"),
        ("number('1e-5')", "0.000010000"),
        ("number('(5.00)')", "'(5.00)' is not a number"),
        ("utc('2025-01-01T00:00:00+02:00')", "2024-12-31 22:00:00+00"),
        ("utc('2025-01-01')", "'2025-01-01' has no time zone"),
        ("utc('2025-07-01 09:00', 'Europe/London')", "2025-07-01 08:00:00+00"),
        ("utc('2025-03-30 01:30:00', 'Europe/London')", "'2025-03-30 01:30:00' does not exist in Europe/London"),
        # a word after the time is no decoration
        (
            "utc('2025-07-01 09:00:00 PM', 'Europe/London')",
            "'2025-07-01 09:00:00 PM' is not a time like 2025-01-31 10:00:00",
        ),
        ("utc('2025-07-01 09:00 am', 'Europe/London')", "'2025-07-01 09:00 am' is not a time like 2025-01-31 10:00:00"),
        (
            "utc('2025-07-01 09:00:00 EST', 'Europe/London')",
            "'2025-07-01 09:00:00 EST' is not a time like 2025-01-31 10:00:00",
        ),
        (
            "utc('2025-07-01 09:00:00 Europe/Berlin', 'Europe/London')",
            "'2025-07-01 09:00:00 Europe/Berlin' is not a time like 2025-01-31 10:00:00",
        ),
        ("utc('2025-07-01 09:00:00 UTC', 'Europe/London')", "2025-07-01 09:00:00+00"),
        ("utc('2025-07-01 09:00 gmt')", "2025-07-01 09:00:00+00"),
        ("utc('2025-7-1 9:05', 'Europe/London')", "2025-07-01 08:05:00+00"),
        ("utc('2025-07-01T09:00:00.25', 'Europe/London')", "2025-07-01 08:00:00.25+00"),
        ("utc('2025-07-01', 'Europe/London')", "2025-06-30 23:00:00+00"),
        ("utc(date '2025-07-01', 'Europe/London')", "2025-06-30 23:00:00+00"),
        ("utc(strptime('1.7.2025 9 PM', '%d.%m.%Y %-I %p'), 'Europe/London')", "2025-07-01 20:00:00+00"),
        ("quotient(1, 3)", "0.333333333"),
        ("quotient(-2, 3)", "-0.666666667"),
        ("quotient('10.5', 4)", "2.625000000"),
        ("quotient(1, 0)", "'1' is divided by zero"),
        ("minor_units('12.34', 'usd')", "1234.000000000000"),
        ("minor_units('1234', 'JPY')", "1234.000000000000"),
        ("minor_units('-1.234', 'KWD')", "-1234.000000000000"),
        ("minor_units('0.0005', 'eur')", "0.050000000000"),
        # the price of a token: rounded to nine digits it would be a seventieth more
        ("minor_units('0.0000000375', 'usd')", "0.000003750000"),
        ("minor_units('0.00000000000001', 'usd')", "0.000000000001"),
        ("minor_units(0.0000000375, 'CLF')", "0.000375000000"),
        ("minor_units('12345678901234567890.23', 'usd')", "1234567890123456789023.000000000000"),
        # no digit is dropped: what a float writes beyond its fifteen is none
        ("minor_units('0.001', 'GBP')", "0.100000000000"),
        ("minor_units('0.30000000000000004', 'usd')", "30.000000000000"),
        ("minor_units(0.30000000000000004::double, 'usd')", "30.000000000000"),
        ("minor_units('1.10000000000000000000000', 'usd')", "110.000000000000"),
        (
            "minor_units('0.000000000000001', 'usd')",
            "'0.000000000000001' has more than twelve digits after the point of the minor unit",
        ),
        (
            "minor_units('8.333333333333333333333', 'usd')",
            "'8.333333333333333333333' has more than twelve digits after the point of the minor unit",
        ),
        ("minor_units('1e-18', 'usd')", "'1e-18' has its first digits beyond the 16 after the point that are kept"),
        ("number('1e-10')", "'1e-10' has its first digits beyond the 9 after the point that are kept"),
        ("number('33.333333333333336')", "33.333333333"),
        ("minor_units('12', null)", None),
        ("minor_units('12,50', 'EUR')", "'12,50' is not a number"),
    ],
)
def test_what_a_function_cannot_read_is_an_error_of_its_row(engine, expression, expected):
    try:
        assert engine.rows(f"select cast({expression} as varchar)") == [(expected,)]
    except VALUE_ERRORS as exc:
        assert message(exc) == expected


@pytest.mark.parametrize(
    ("decimal", "thousands", "text", "expected"),
    [
        (",", ".", "1.234,50", "1234.500000000"),
        (",", ".", "12,5", "12.500000000"),
        (",", ".", "1.23", None),
        (",", "", "1234,5", "1234.500000000"),
        (".", ",", "1,000.00", "1000.000000000"),
        (".", ",", "1,00", None),
        (".", "'", "1'000", "1000.000000000"),
    ],
)
def test_numbers_have_the_marks_that_the_mapping_names(tmp_path, decimal, thousands, text, expected):
    with Engine(tmp_path, decimal=decimal, thousands=thousands) as engine:
        if expected is None:
            with pytest.raises(VALUE_ERRORS):
                engine.rows("select number($1)", [text])
        else:
            assert engine.rows("select cast(number($1) as varchar)", [text]) == [(expected,)]


def test_batches_of_different_columns_and_types_are_one_table(engine):
    engine.store(
        "mixed", [pa.record_batch({"a": ["1"]}), pa.record_batch({"b": [2]}), pa.record_batch({"a": [3], "b": ["x"]})]
    )
    assert engine.rows("select a, b from mixed order by a nulls last") == [("1", None), ("3", "x"), (None, "2")]


def test_minor_units_are_those_of_the_warehouse():
    with (ROOT / "dbt_project" / "seeds" / "currencies.csv").open() as handle:
        seed = {row["currency"]: int(row["exponent"]) for row in csv.DictReader(handle)}
    assert {code: digits for digits, codes in MINOR_DIGITS.items() for code in codes} == seed
