"""The SQL engine of mappings: a DuckDB that sees the tables it is given and nothing else.

It reads no file, network, extension or environment, and its settings cannot be changed. Memory and time are bounded; what does not fit
into memory is spilled to the home's temp directory. It runs on one thread, so the same rows give the same result in the same order.
"""

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from northstar.base.errors import NorthstarError
from northstar.contract.codes import MINOR_DIGITS

# goes up when a function of mappings makes other values of the same texts, or refuses others; then the files of all mappings are read again
READING = 2
# a text that no cast accepts, so that the cast raises with it: `error()` is volatile, which TRY does not take
REFUSED = "create macro refused(x, why) as chr(1) || chr(39) || left(cast(x as varchar), 40) || chr(39) || chr(32) || why || chr(1)"
# errors of values, which concern single rows; other errors concern the statement
VALUE_ERRORS = (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.InvalidInputException)
Error = duckdb.Error
# functions for what exports write, beside DuckDB's own. A value that they cannot read is an error of its row, never a null.
MACROS = r"""
create macro whole(x) as case
  when x is null then null
  when regexp_full_match(trim(cast(x as varchar)), '[+-]?\d+(\.0*)?')
    then cast(regexp_replace(trim(cast(x as varchar)), '\..*$', '') as bigint)
  else cast(refused(x, 'is not a whole number') as bigint) end;
create macro as_double(x) as case
  when typeof(x) != 'VARCHAR' then cast(x as double)
  else cast(replace(replace(trim(cast(x as varchar)), '{thousands}', ''), '{decimal}', '.') as double) end;
create macro significant_digits(x) as
  length(regexp_replace(regexp_replace(cast(x as varchar), '[eE].*$', ''), '^[^1-9]+|[^0-9]|0+$', '', 'g'));
{number};
{price};
-- a price times a factor, to twelve digits, of which none may be missing; what a float writes beyond its fifteen digits is none of the number
create macro times(x, factor) as case
  when cast(price(x) * factor as decimal(38, 12)) = price(x) * factor and not regexp_matches(cast(x as varchar), '[.,]\d{{16}}\d*[1-9]|[eE]-')
    then cast(price(x) * factor as decimal(38, 12))
  when significant_digits(x) <= 17
    and abs(cast(cast(price(x) * factor as decimal(38, 12)) as double) - as_double(x) * factor) <= 1e-15 * abs(as_double(x) * factor)
    then cast(price(x) * factor as decimal(38, 12))
  else cast(refused(x, 'has more than twelve digits after the point of the minor unit') as decimal(38, 12)) end;
create macro utc(x, zone := null) as case
  when x is null then null
  when regexp_matches(trim(cast(x as varchar)), '^\d{{4}}-\d\d-\d\d[T ]\d\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)$')
    then cast(trim(cast(x as varchar)) as timestamptz)
  when regexp_matches(trim(cast(x as varchar)), '(?i)^\d{{4}}-\d{{1,2}}-\d{{1,2}}[T ]\d{{1,2}}:\d\d(:\d\d(\.\d+)?)? ?(UTC|GMT)$')
    then timezone('UTC', cast(regexp_replace(trim(cast(x as varchar)), ' ?[A-Za-z]{{3}}$', '') as timestamp))
  when zone is null then cast(refused(x, 'has no time zone') as timestamptz)
  -- the cast below passes over a word at the end: PM, or the name of another zone
  when not regexp_matches(trim(cast(x as varchar)), '^\d{{4}}-\d{{1,2}}-\d{{1,2}}([T ]\d{{1,2}}:\d{{1,2}}(:\d{{1,2}}(\.\d*)?)?)?$')
    then cast(refused(x, 'is not a time like 2025-01-31 10:00:00') as timestamptz)
  when timezone(zone, timezone(zone, cast(cast(x as varchar) as timestamp))) != cast(cast(x as varchar) as timestamp)
    then cast(refused(x, 'does not exist in ' || zone) as timestamptz)
  else timezone(zone, cast(cast(x as varchar) as timestamp)) end;
create macro quotient(a, b) as case
  when a is null or b is null then null
  when cast(b as decimal(38, 9)) = 0 then cast(refused(a, 'is divided by zero') as decimal(38, 9))
  else cast(
    cast(round(cast(cast(a as decimal(38, 9)) * 1000000000 as hugeint) * 10000000000
      // cast(cast(b as decimal(38, 9)) * 1000000000 as hugeint), -1) as hugeint) // 10
    as decimal(38, 0)) * 0.000000001 end;
create macro minor_units(x, currency) as case
  when x is null or currency is null then null
  when upper(trim(cast(currency as varchar))) in ({no_digits}) then times(x, 1)
  when upper(trim(cast(currency as varchar))) in ({three_digits}) then times(x, 1000)
  when upper(trim(cast(currency as varchar))) in ({four_digits}) then times(x, 10000)
  else times(x, 100) end;
"""
NUMBER = r"""create macro {name}(x) as case
  when x is null then null
  when typeof(x) = 'VARCHAR' and not regexp_full_match(trim(cast(x as varchar)), '{{plain}}')
    then cast(refused(x, 'is not a number') as decimal(38, {digits}))
  when abs(as_double(x)) < {small} and abs(cast({name}_digits(x) as double) - as_double(x)) > 1e-6 * abs(as_double(x))
    then cast(refused(x, 'has its first digits beyond the {digits} after the point that are kept') as decimal(38, {digits}))
  else {name}_digits(x) end"""
NUMBER = (
    r"""create macro {name}_digits(x) as case
  when typeof(x) != 'VARCHAR' then cast(x as decimal(38, {digits}))
  else cast(replace(replace(trim(cast(x as varchar)), '{{thousands}}', ''), '{{decimal}}', '.') as decimal(38, {digits})) end;
"""
    + NUMBER
)
# an amount may be a small part of a cent, of which the contract keeps twelve digits (D268): price() has as many in a major unit. A number of
# which less than six digits would be left is an error, since 1e-10 would be 0
MACROS = MACROS.replace("{number}", NUMBER.format(name="number", digits=9, small=5e-4)).replace(
    "{price}", NUMBER.format(name="price", digits=16, small=5e-11)
)


class Engine:
    """A locked-down DuckDB. Use it as a context manager, or close it.

    temp: the directory that it may spill to. decimal, thousands: the marks that `number()` accepts.
    """

    def __init__(self, temp: Path, memory_mb: int = 1024, minutes: float = 60, decimal: str = ".", thousands: str = ""):
        temp.mkdir(parents=True, exist_ok=True)
        self.minutes = minutes
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "enable_external_access": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "allow_community_extensions": "false",
                "python_enable_replacements": "false",
                "memory_limit": f"{memory_mb}MB",
                "threads": "1",
                "temp_directory": str(temp),
            },
        )
        self._connection.execute("set timezone = 'UTC'")
        for statement in _macros(decimal, thousands):
            self._connection.execute(statement)
        self._connection.execute("set lock_configuration = true")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    @cached_property
    def aggregates(self) -> frozenset[str]:
        """The names of the aggregate functions."""
        return frozenset(
            row[0]
            for row in self.rows(
                "select distinct function_name from duckdb_functions() where function_type = 'aggregate'"
            )
        )

    def store(self, name: str, batches: Iterable[pa.RecordBatch]) -> None:
        """Make a table of batches, whose schemas may differ: a column that a batch lacks is null in it."""
        self.drop(name)
        columns: dict[str, str] = {}
        for batch in batches:
            self.show("_batch", batch)
            described = self.rows("describe select * from _batch")
            if not columns:
                self.execute(f"create table {quoted(name)} as select * from _batch")
                columns = {row[0]: row[1] for row in described}
                continue
            for column, kind, *_ in described:
                if column not in columns:
                    self.execute(f"alter table {quoted(name)} add column {quoted(column)} {kind}")
                    columns[column] = kind
                elif columns[column] != kind and columns[column] != "VARCHAR":
                    # two files may have one column in two types: their texts are what they have in common
                    self.execute(f"alter table {quoted(name)} alter {quoted(column)} type varchar")
                    columns[column] = "VARCHAR"
            self.execute(f"insert into {quoted(name)} by name select * from _batch")
        if not columns:
            self.execute(f"create table {quoted(name)} (_line bigint, _file varchar)")
        self._connection.unregister("_batch")

    def show(self, name: str, table: pa.Table | pa.RecordBatch) -> None:
        """Let statements read an Arrow table by a name, without a copy of it."""
        self._connection.register(name, pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table)

    def drop(self, name: str) -> None:
        self.execute(f"drop table if exists {quoted(name)}")

    def drop_view(self, name: str) -> None:
        self.execute(f"drop view if exists {quoted(name)}")

    def columns(self, name: str) -> list[str]:
        """The column names of a table."""
        return [row[0] for row in self.rows(f"describe {quoted(name)}")]

    # Any: values of whatever types the statement gives
    def rows(self, statement: str, parameters: list[object] | None = None) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        return self.execute(statement, parameters).fetchall()

    def table(self, statement: str) -> pa.Table:
        """The result of a statement as an Arrow table. Raises as `execute`."""
        with self._bounded():
            return self._connection.sql(statement).to_arrow_table()

    def execute(self, statement: str, parameters: list[object] | None = None) -> duckdb.DuckDBPyConnection:
        """Run a statement.

        Raises NorthstarError when it takes longer than the minutes allowed or more memory and disk than there is; duckdb.Error for what is
        wrong with the statement, and VALUE_ERRORS for a value that it cannot process.
        """
        with self._bounded():
            return self._connection.execute(statement, parameters)

    @contextlib.contextmanager
    def _bounded(self) -> Iterator[None]:
        timer = threading.Timer(self.minutes * 60, self._connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        except duckdb.InterruptException as exc:
            raise NorthstarError(
                f"the mapping's SQL took longer than {self.minutes:g} minutes (mapping_minutes in operations.yml); simplify it"
            ) from exc
        except duckdb.OutOfMemoryException as exc:
            raise NorthstarError(
                "the mapping's SQL needs more memory than mapping_memory_mb in operations.yml allows, or its temp directory is full"
            ) from exc
        finally:
            timer.cancel()


def quoted(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: object) -> str:
    """A text as a constant of SQL; null for None."""
    return "null" if text is None else "'" + str(text).replace("'", "''") + "'"


def message(exc: Exception) -> str:
    """DuckDB's message in one line, without its kind and the statement that it repeats."""
    text = str(exc)
    if text.count("\x01") >= 2:
        return text.split("\x01")[1]
    text = text.split("\n\nLINE ")[0]
    for kind in (
        "Conversion Error: ",
        "Invalid Input Error: ",
        "Out of Range Error: ",
        "Binder Error: ",
        "Parser Error: ",
    ):
        text = text.removeprefix(kind)
    return " ".join(text.split())[:200]


def _macros(decimal: str, thousands: str) -> list[str]:
    mark, group = re.escape(decimal), re.escape(thousands)
    whole = rf"(\d+|\d{{1,3}}({group}\d{{3}})+)" if thousands else r"\d+"
    plain = rf"[+-]?({whole}({mark}\d*)?|{mark}\d+)([eE][+-]?\d{{1,3}})?"
    parts = {"plain": plain, "thousands": thousands, "decimal": decimal}
    escaped = {name: part.replace("'", "''") for name, part in parts.items()}
    names = dict(zip(("no_digits", "three_digits", "four_digits"), (MINOR_DIGITS[n] for n in (0, 3, 4)), strict=True))
    text = MACROS.format(**escaped, **{name: ", ".join(map(literal, currencies)) for name, currencies in names.items()})
    return [REFUSED, *text.strip().rstrip(";").split(";\n")]
