"""Reading what is published: SQL as the BI role, the status of a home."""

import csv
import io
import json
from decimal import Decimal

import psycopg
from psycopg import sql

from northstar import db, embedded
from northstar.errors import NorthstarError
from northstar.maintenance import demand_kept
from northstar.publish.values import NAME, values_query
from northstar.settings import Settings


def query(settings: Settings, text: str, version: int | None = None) -> tuple[list[str], list[tuple]]:
    """Column names and rows of one statement, run as `bi_reader`.

    version: read the marts as they were at that published version; the statement then runs in a read-only transaction of
    `transformer`, who may read the history. Raises NorthstarError with Postgres's own message for a statement that fails,
    and for a version that was never published.
    """
    with db.connect(settings, "bi_reader" if version is None else "transformer") as connection:
        if version is not None:
            _look_back(connection, settings, version)
        try:
            cursor = connection.cursor(row_factory=psycopg.rows.tuple_row)
            cursor.execute(text)
            return [c.name for c in cursor.description or []], cursor.fetchall() if cursor.description else []
        except psycopg.Error as exc:
            message = exc.diag.message_primary or str(exc).splitlines()[0]
            hint = f" ({exc.diag.message_hint})" if exc.diag.message_hint else ""
            raise NorthstarError(f"the query failed: {message}{hint}") from exc


def _look_back(connection, settings: Settings, version: int) -> None:
    """Put temporary views of the marts at `version` before the marts themselves."""
    known = connection.execute("select to_regclass('marts.publications') as t").fetchone()["t"] and connection.execute(
        "select max(published_version) as newest from marts.publications having count(*) filter "
        "(where published_version = %s) > 0", [version],
    ).fetchone()  # fmt: skip
    if not known:
        raise NorthstarError(f"version {version} was never published; `northstar status` names the newest")
    demand_kept(connection, version)
    marts = connection.execute(
        "select h.table_name as name, string_agg(quote_ident(h.column_name), ', ' order by h.ordinal_position) as columns "
        "from information_schema.columns as h join information_schema.columns as m on m.table_schema = 'marts' "
        "and m.table_name = h.table_name and m.column_name = h.column_name "
        "where h.table_schema = 'marts_history' group by h.table_name"
    ).fetchall()
    for mart in marts:
        name = sql.Identifier(mart["name"])
        connection.execute(
            sql.SQL(
                "create temp view {name} as select {columns} from marts.{name} where _version <= {version} "
                "union all select {columns} from marts_history.{name} where _from_version <= {version} and _to_version > {version}"
            ).format(name=name, columns=sql.SQL(mart["columns"]), version=sql.Literal(version))
        )
    for name, column in (("publications", "published_version"), ("metric_restatements", "new_version")):
        connection.execute(
            sql.SQL("create temp view {0} as select * from marts.{0} where {1} <= {2}").format(
                sql.Identifier(name), sql.Identifier(column), sql.Literal(version)
            )
        )
    if NAME not in {mart["name"] for mart in marts}:
        # a view keeps what it was made over: the one of every value is made again, over the tables as they were
        as_of = f"(select as_of from marts.publications where published_version = {int(version)})"
        text = values_query(settings, "pg_temp", as_of)
        connection.execute(sql.SQL("create temp view {} as {}").format(sql.Identifier(NAME), sql.SQL(text)))
    connection.execute("set local search_path = pg_temp, marts")
    connection.execute("set transaction read only")
    # also what a statement begins after a commit of its own
    connection.execute("set default_transaction_read_only = on")


def render(result: tuple[list[str], list[tuple]], form: str) -> str:
    """The result as csv (a header line, nulls empty), json (a list of objects) or a table."""
    names, rows = result
    if form == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([["" if v is None else _plain(v) for v in row] for row in rows])
        return out.getvalue()
    if form == "json":
        return json.dumps([dict(zip(names, map(_json, row), strict=True)) for row in rows], ensure_ascii=False) + "\n"
    return table([dict(zip(names, row, strict=True)) for row in rows], names) + "\n"


def _plain(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value)
    return value


def _short(value) -> str:
    """For the eye: one line, no zeros that say nothing."""
    if isinstance(value, Decimal) and value.is_finite():
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return "" if value is None else str(_plain(value)).replace("\n", " ")[:80]


def _json(value):
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if isinstance(value, bool | int | float | str | dict | list | None) else _plain(value)


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
        lease = connection.execute("select * from audit.writer_lease where lease_until > clock_timestamp()").fetchone()
        lines.append(f"writing     run {lease['run_id']} ({lease['holder']})" if lease else "writing     nobody")
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
