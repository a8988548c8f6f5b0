"""`marts.metric_values`: the view that gives every metric's value in every period, from the stored points and series.

Its text is dbt_project/macros/metrics/metric_values.sql, the same for the candidate, the published marts and an earlier version.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jinja2
import psycopg
from psycopg import sql

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.warehouse.rows import Connection, fetch_one

NAME = "metric_values"
# the tables that the view reads, by the names that they have in its text
PARTS = {"points": "metric_points", "series": "metric_series", "metrics": "metrics", "periods": "dim_periods"}
NEWEST_AS_OF = "(select as_of from marts.publications order by published_version desc limit 1)"
# a change of the view makes readers wait at most this long, and waits itself at most this long for a pause between readers
LOCK_MILLISECONDS, PATIENCE_SECONDS = 100, 60


@dataclass
class View:
    """A published view: its description and those of its columns."""

    name: str
    description: str
    columns: dict[str, str]


def values_query(settings: Settings, schema: str, as_of: str, has_version: bool = False) -> str:
    """The SQL query for all values, over the relations of a schema. as_of: an SQL expression; has_version: with the column _version."""
    text = (settings.root / "dbt_project" / "macros" / "metrics" / "metric_values.sql").read_text()
    version = "coalesce(v._version, s._version)" if has_version else None
    return render_values(text, {part: f"{schema}.{name}" for part, name in PARTS.items()}, as_of, version)


def render_values(text: str, relations: Mapping[str, str], as_of: str, version: str | None = None) -> str:
    """The SQL query that a text of the view makes over relations, which are named as in PARTS. version: an expression for the column _version."""
    macro: Callable[..., str] = vars(jinja2.Template(text).module)["metric_values_of"]
    return macro(**relations, as_of=as_of, version=version).strip()


def count_values(connection: Connection) -> int:
    """How many rows the published view has; they are counted without being computed."""
    row_count: int = fetch_one(
        connection.execute(
            "with places as (select grain, period_start, row_number() over (partition by grain order by period_start desc) as still_to_come "
            "from marts.dim_periods) select coalesce(sum(first.still_to_come - coalesce(after.still_to_come, 0)), 0)::bigint as n "
            "from marts.metric_series as s join places as first on s.grain = first.grain and s.holds_from = first.period_start "
            "left join places as after on s.grain = after.grain and s.holds_until = after.period_start"
        )
    )["n"]
    return row_count


def ensure_view(connection: Connection, settings: Settings, view: View) -> None:
    """Create the view, or create it anew if its text has changed. It comes last in the transaction, because readers wait until that ends.

    Raises NorthstarError when readers leave no pause for it.
    """
    text = values_query(settings, "marts", NEWEST_AS_OF, has_version=True)
    name = sql.Identifier("marts", view.name)
    kind = connection.execute(
        "select relkind from pg_class where oid = to_regclass(%s)", [f"marts.{view.name}"]
    ).fetchone()
    if kind and kind["relkind"] == "v" and _has_same_definition(connection, view.name, text):
        return
    statements = (
        []
        if kind is None
        else [sql.SQL("drop {} {}").format(sql.SQL("view" if kind["relkind"] == "v" else "table"), name)]
    )
    statements += [
        sql.SQL("create view {} with (security_invoker = true) as {}").format(name, sql.SQL(text)),
        _comment("view", name, view.description),
    ]
    columns = view.columns | {"_version": "the version in which the row was published"}
    statements += [_comment("column", sql.Identifier("marts", view.name, c), text) for c, text in columns.items()]
    change_without_queueing(connection, view.name, lambda: _execute(connection, statements))


def drop_view(connection: Connection) -> None:
    """Drop the view before the columns of a table that it reads change; ensure_view creates it again."""
    if connection.execute("select 1 from pg_views where schemaname = 'marts' and viewname = %s", [NAME]).fetchone():
        dropping = sql.SQL("drop view {}").format(sql.Identifier("marts", NAME))
        change_without_queueing(connection, NAME, lambda: _execute(connection, [dropping]))


def _has_same_definition(connection: Connection, name: str, text: str) -> bool:
    connection.execute(sql.SQL("create or replace temp view as_it_should_be as {}").format(sql.SQL(text)))
    is_same: bool = fetch_one(
        connection.execute(
            "select pg_get_viewdef(to_regclass(%s)) = pg_get_viewdef('pg_temp.as_it_should_be'::regclass) as same",
            [f"marts.{name}"],
        )
    )["same"]
    connection.execute("drop view pg_temp.as_it_should_be")
    return is_same


def _execute(connection: Connection, statements: Sequence[sql.Composed]) -> None:
    for statement in statements:
        connection.execute(statement)


def _comment(kind: str, name: sql.Identifier, text: str) -> sql.Composed:
    return sql.SQL("comment on {} {} is {}").format(sql.SQL(kind), name, sql.Literal(text))


def change_without_queueing(connection: Connection, name: str, change: Callable[[], None]) -> None:
    """Make a change that locks readers of marts.`name` out, completely or not at all. No reader waits behind it and a long query for more than a moment.

    change: the change. It happens in a transaction of its own if none is open, else as a part of the open one. Raises NorthstarError when readers
    leave no pause for it.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with connection.transaction():
                connection.execute(f"set local lock_timeout = '{LOCK_MILLISECONDS}ms'")
                change()
                connection.execute("set local lock_timeout = 0")
            return
        except psycopg.errors.LockNotAvailable as exc:
            if time.monotonic() > deadline:
                raise NorthstarError(
                    f"the definition of marts.{name} changes in this version, but it has been read for {PATIENCE_SECONDS} s without a pause; "
                    "the last version stays published: run again when the query has ended"
                ) from exc
            time.sleep(0.5)
