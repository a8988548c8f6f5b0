"""Reading what is published: SQL as the BI role, the status of a home."""

import csv
import json
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from itertools import chain, islice

import psycopg

from northstar.base.errors import NorthstarError
from northstar.base.escaping import cell
from northstar.base.settings import Settings
from northstar.publish import hold
from northstar.warehouse import db, embedded, lease
from northstar.warehouse.published.past import SETTING, ensure_past

# rows that come at once
CHUNK = 1_000
# a table needs its widths before its first line, and nobody reads more
TABLE_ROWS = 1_000


@contextmanager
def asked(settings: Settings, text: str, version: int | None = None):
    """One statement run as `bi_reader`: (column names, an iterator over its rows), which come as they are read.

    version: read the marts as they were at that published version. Raises NorthstarError with Postgres's own message for a statement
    that fails, and for a version that cannot be read.
    """
    with db.connect(settings, "bi_reader") as connection:
        if version is not None:
            _look_back(connection, settings, version)
        cursor = connection.cursor(row_factory=psycopg.rows.tuple_row)
        try:
            # parameters, though there are none, have the server take one statement only; until it is closed the stream has the connection
            with closing(cursor.stream(text.replace("%", "%%"), (), size=CHUNK)) as rows:
                first = next(rows, None)
                if first is None:
                    yield _names(connection, text), iter(())
                else:
                    yield [c.name for c in cursor.description], _told(chain([first], rows))
        except psycopg.Error as exc:
            raise _failed(exc) from exc


def query(settings: Settings, text: str, version: int | None = None) -> tuple[list[str], list[tuple]]:
    """Column names and all rows of one statement; see `asked`."""
    with asked(settings, text, version) as (names, rows):
        return names, list(rows)


def _names(connection, text: str) -> list[str]:
    """The columns of a statement that gave no row, which a stream does not tell."""
    connection.pgconn.prepare(b"", text.encode())
    described = connection.pgconn.describe_prepared(b"")
    return [described.fname(n).decode() for n in range(described.nfields)]


def _told(rows: Iterator[tuple]) -> Iterator[tuple]:
    try:
        yield from rows
    except psycopg.Error as exc:
        raise _failed(exc) from exc


def _failed(exc: psycopg.Error) -> NorthstarError:
    message = exc.diag.message_primary or str(exc).splitlines()[0]
    if message.startswith("cannot insert multiple commands"):
        message = "these are several statements; give one"
    hint = f" ({exc.diag.message_hint})" if exc.diag.message_hint else ""
    return NorthstarError(f"the query failed: {message}{hint}")


def _look_back(connection, settings: Settings, version: int) -> None:
    """Have the session read the marts as `version` showed them."""
    there = connection.execute(
        "select to_regclass('marts.publications') as published, to_regclass('marts_at_version.readable_versions') as readable"
    ).fetchone()
    found = None
    if there["published"]:
        if not there["readable"]:
            # a home that an older release published last
            with db.connect(settings, "publisher") as publisher:
                ensure_past(publisher, settings)
        found = connection.execute(
            "select is_kept, is_coarse_enough, (select min(published_version) from marts_at_version.readable_versions where is_kept) as oldest "
            "from marts_at_version.readable_versions where published_version = %s", [version]
        ).fetchone()  # fmt: skip
    if found is None:
        raise NorthstarError(f"version {version} was never published; `northstar status` names the newest")
    if not found["is_kept"]:
        raise NorthstarError(
            f"version {version} is not kept any more (keep_versions_days in operations.yml); the oldest that is, is {found['oldest']}"
        )
    if not found["is_coarse_enough"]:
        raise NorthstarError(
            f"version {version} showed groups of people that are smaller than suppress_below allows now: it cannot be read any more"
        )
    connection.execute("select set_config(%s, %s, true)", [SETTING, str(version)])
    connection.execute("set local search_path = marts_at_version, marts")


def write(names: list[str], rows: Iterator[tuple], form: str, out) -> None:
    """Write rows as they come: csv (a header line, nulls empty, no formulas), json (a list of objects) or a table of the first rows."""
    if form == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([cell(name) for name in names])
        writer.writerows([_cell(v) for v in row] for row in rows)
    elif form == "json":
        before = "["
        for row in rows:
            out.write(before + json.dumps(dict(zip(names, map(_json, row), strict=True)), ensure_ascii=False))
            before = ",\n "
        out.write("[]\n" if before == "[" else "]\n")
    else:
        shown = [dict(zip(names, row, strict=True)) for row in islice(rows, TABLE_ROWS)]
        out.write(table(shown, names) + "\n")
        if next(rows, None) is not None:
            out.write(f"(the first {TABLE_ROWS:,} rows; --format csv writes all)\n")


def _cell(value):
    return "" if value is None else cell(str(_plain(value)))


def _plain(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, default=str)
    return value


def _short(value) -> str:
    """For the eye: one line, no zeros that say nothing."""
    if isinstance(value, Decimal) and value.is_finite():
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return "" if value is None else str(_plain(value)).replace("\n", " ")[:80]


def _json(value):
    if isinstance(value, list):
        return [_json(v) for v in value]
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            # JSON has no number for it; Postgres's own to_json says it so as well
            return str(value)
        return int(value) if value == int(value) and isinstance(value, Decimal) else float(value)
    return value if isinstance(value, bool | int | str | dict | None) else _plain(value)


def table(rows: list[dict], names: list[str] | None = None) -> str:
    """Rows as aligned text; '(no rows)' for none."""
    if not rows:
        return "(no rows)"
    names = names or list(rows[0])
    cells = [[_short(row[n]) for n in names] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(names)]
    lines = ["  ".join(name.ljust(width) for name, width in zip(names, widths, strict=True)).rstrip()]
    lines.append("  ".join("-" * width for width in widths))
    lines += ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)


def status(settings: Settings) -> str:
    """The home's state in a few lines: published version, checks, what runs, quarantine, what is late."""
    if not settings.warehouse_url and not embedded.is_running(settings):
        return f"Postgres of {settings.home} is not running; `make run` or `northstar run` starts it"
    lines = []
    with db.connect(settings, "transformer") as connection:
        published = connection.execute("select to_regclass('marts.publications') as t").fetchone()["t"]
        last = (
            published
            and connection.execute(
                "select * from marts.publications order by published_version desc limit 1"
            ).fetchone()
        )
        if last:
            lines.append(
                f"published   version {last['published_version']} at {last['published_at']:%Y-%m-%d %H:%M:%S} UTC, "
                f"as of {last['as_of']:%Y-%m-%d %H:%M} UTC, {last['checks_passed']} of {last['checks_run']} checks passed"
            )
        else:
            lines.append("published   nothing yet")
        run = connection.execute("select * from audit.runs order by run_id desc limit 1").fetchone()
        if run:
            lines.append(f"last run    {run['run_id']} ({run['mode']}, {run['trigger']}): {run['state']}"
                         + (f", {run['message']}" if run["message"] else f", stage {run['stage']}"))  # fmt: skip
        writer = lease.holding(connection)
        is_writing = writer is not None and not writer["is_over"]
        lines.append(f"writing     run {writer['run_id']} ({writer['holder']})" if is_writing else "writing     nobody")
        if held := hold.describe(connection):
            lines.append(f"held        {held}")
        late = connection.execute(
            "select source, message from (select distinct on (source) * from audit.source_runs order by source, run_id desc) as last "
            "where not succeeded order by 1"
        ).fetchall()
        lines += [f"late        {r['source']}: {r['message']}" for r in late]
        rejected = connection.execute(
            "select entity, count(*) as rows from quarantine.rows where resolved_at is null group by entity order by 2 desc"
        ).fetchall()
        total = sum(r["rows"] for r in rejected)
        detail = ", ".join(f"{r['entity']} {r['rows']}" for r in rejected[:6])
        lines.append(f"quarantine  {total} rows" + (f" ({detail})" if detail else ""))
        late = connection.execute(
            "select check_name, observed from audit.checks where run_id = (select max(run_id) from audit.checks) "
            "and not success and severity = 'warn' order by 1 limit 5"
        ).fetchall()
        lines += [f"warning     {r['check_name']}: {r['observed']}" for r in late]
    return "\n".join(lines)
