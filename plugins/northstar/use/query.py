"""`northstar sql`: one statement over the published marts, of the newest version or an earlier one, as the BI role."""

import csv
import json
import math
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from itertools import chain, islice
from typing import Any, TextIO, cast

import psycopg

from northstar.base.errors import NorthstarError
from northstar.base.escaping import csv_cell
from northstar.base.settings import Settings
from northstar.base.tables import printable_value, table
from northstar.base.third_parties import are_several_statements_refused
from northstar.use.words import describe_segments
from northstar.warehouse import db
from northstar.warehouse.published.past import read_version, use_past_path
from northstar.warehouse.rows import Connection

# rows that are fetched at a time
CHUNK = 1_000
# the most rows of a table: its column widths are needed before its first line, and nobody reads more
TABLE_ROWS = 1_000
# Any: a row of a statement that somebody else wrote
Answer = tuple[Any, ...]


@contextmanager
def run_statement(
    settings: Settings, text: str, version: int | None = None
) -> Iterator[tuple[list[str], Iterator[Answer]]]:
    """One statement run as `bi_reader`: (column names, an iterator over its rows), which come as they are read.

    version: read the marts as they were at that published version. Raises NorthstarError with Postgres's own message for a statement
    that fails, and for a version that cannot be read.
    """
    with db.connect(settings, "bi_reader") as connection:
        if version is not None:
            read_version(connection, settings, version)
            use_past_path(connection)
        with stream_statement(connection, text) as answer:
            yield answer


@contextmanager
def stream_statement(connection: Connection, text: str) -> Iterator[tuple[list[str], Iterator[Answer]]]:
    """One statement of somebody else's on a connection; as `run_statement`."""
    cursor = connection.cursor(row_factory=psycopg.rows.tuple_row)
    try:
        # with parameters, even none, the server accepts one statement only; the stream uses the connection until it is closed
        stream = cursor.stream(text.replace("%", "%%"), (), size=CHUNK)
        # a generator, which psycopg's annotation does not say
        with closing(cast(Generator[Answer], stream)) as rows:
            first = next(rows, None)
            if first is None:
                yield _column_names(connection, text), iter(())
            else:
                yield [c.name for c in cursor.description or ()], _convert_errors(chain([first], rows))
    except psycopg.Error as exc:
        raise _query_error(exc) from exc


def query(settings: Settings, text: str, version: int | None = None) -> tuple[list[str], list[Answer]]:
    """Column names and all rows of one statement; see `run_statement`."""
    with run_statement(settings, text, version) as (names, rows):
        return names, list(rows)


def why_no_rows(settings: Settings, text: str) -> str | None:
    """Which metric, grain or segment a statement names that is not published, in words, where it may have found no rows for that; else None."""
    import sqlglot
    from sqlglot import exp

    asked: dict[str, set[str]] = {"metric_id": set(), "grain": set(), "segment": set()}
    for condition in sqlglot.parse_one(text, read="postgres").find_all(exp.EQ, exp.In):
        values = condition.expressions if isinstance(condition, exp.In) else [condition.expression]
        if isinstance(condition.this, exp.Column) and condition.this.name in asked:
            asked[condition.this.name] |= {v.this for v in values if isinstance(v, exp.Literal) and v.is_string}
    if not asked["metric_id"]:
        return None
    answer = query(settings, "select metric_id, coalesce(grains, ''), coalesce(segments, '') from metrics")[1]
    metrics = {row[0]: (row[1].split(","), list(filter(None, row[2].split(";")))) for row in answer}
    for metric in sorted(asked["metric_id"]):
        if metric not in metrics:
            return f"there is no metric {metric!r}; `northstar sql 'select metric_id from metrics'` lists them"
        grains, segments = metrics[metric]
        if unknown := sorted(asked["grain"] - set(grains)):
            return f"{metric} has no {unknown[0]} values; its grains are {', '.join(grains)}"
        if unknown := sorted(asked["segment"] - {"", *segments}):
            return f"{metric} has no segment {unknown[0]!r}; {describe_segments(segments)}"
    return None


def _column_names(connection: Connection, text: str) -> list[str]:
    """The column names of a statement that gave no row; a stream does not give them then."""
    connection.pgconn.prepare(b"", text.encode())
    described = connection.pgconn.describe_prepared(b"")
    return [(described.fname(n) or b"").decode() for n in range(described.nfields)]


def _convert_errors(rows: Iterator[Answer]) -> Iterator[Answer]:
    try:
        yield from rows
    except psycopg.Error as exc:
        raise _query_error(exc) from exc


def _query_error(exc: psycopg.Error) -> NorthstarError:
    message = exc.diag.message_primary or str(exc).splitlines()[0]
    if are_several_statements_refused(exc):
        message = "these are several statements; give one"
    hint = f" ({exc.diag.message_hint})" if exc.diag.message_hint else ""
    return NorthstarError(f"the query failed: {message}{hint}")


def write(names: list[str], rows: Iterator[Answer], form: str, out: TextIO) -> None:
    """Write rows as they come: csv (a header line, nulls empty, no formulas), json (a list of objects) or a table of the first rows."""
    if form == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([csv_cell(name) for name in names])
        writer.writerows([_to_cell(v) for v in row] for row in rows)
    elif form == "json":
        separator = "["
        for row in rows:
            out.write(separator + json.dumps(dict(zip(names, map(_to_json, row), strict=True)), ensure_ascii=False))
            separator = ",\n "
        out.write("[]\n" if separator == "[" else "]\n")
    else:
        table_rows = [dict(zip(names, row, strict=True)) for row in islice(rows, TABLE_ROWS)]
        out.write(table(table_rows, names) + "\n")
        if next(rows, None) is not None:
            out.write(f"(the first {TABLE_ROWS:,} rows; --format csv writes all)\n")


def _to_cell(value: object) -> str:
    return "" if value is None else csv_cell(str(printable_value(value)))


def _to_json(value: object) -> object:
    if isinstance(value, list):
        return [_to_json(v) for v in value]
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            # JSON has no number for NaN and infinity; Postgres's own to_json writes them as text, too
            return str(value)
        return int(value) if value == int(value) and isinstance(value, Decimal) else float(value)
    return value if isinstance(value, bool | int | str | dict | None) else printable_value(value)
