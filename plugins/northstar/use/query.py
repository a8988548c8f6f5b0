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
from northstar.warehouse import db
from northstar.warehouse.published.kept import not_kept_error
from northstar.warehouse.published.past import SETTING, ensure_past_views
from northstar.warehouse.rows import Connection, fetch_one

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
            _read_version(connection, settings, version)
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


def _read_version(connection: Connection, settings: Settings, version: int) -> None:
    """Have the session read the marts as `version` showed them."""
    relations = fetch_one(
        connection.execute(
            "select to_regclass('marts.publications') as published, to_regclass('marts_at_version.readable_versions') as readable"
        )
    )
    version_row = None
    if relations["published"]:
        if not relations["readable"]:
            # the home was last published by an older release
            with db.connect(settings, "publisher") as publisher:
                ensure_past_views(publisher, settings)
        version_row = connection.execute(
            "select is_kept, is_coarse_enough, (select min(published_version) from marts_at_version.readable_versions where is_kept) as oldest "
            "from marts_at_version.readable_versions where published_version = %s", [version]
        ).fetchone()  # fmt: skip
    if version_row is None:
        raise NorthstarError(f"version {version} was never published; `northstar status` shows the newest")
    if not version_row["is_kept"]:
        raise not_kept_error(version, version_row["oldest"])
    if not version_row["is_coarse_enough"]:
        raise NorthstarError(
            f"version {version} showed groups of people that are smaller than suppress_below allows now: it cannot be read any more"
        )
    connection.execute("select set_config(%s, %s, true)", [SETTING, str(version)])
    connection.execute("set local search_path = marts_at_version, marts")


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
