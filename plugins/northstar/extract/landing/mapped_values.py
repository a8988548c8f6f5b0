"""Make values others in the rows that have landed, as the home's values.yml says. Rows that land later are mapped on their way.

It is a correction like any other: the rows as they were are kept in staging._replaced, so that earlier versions can be made again, and the
values that it changes are restated. Each entry is done once in a warehouse.
"""

from psycopg import sql

from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.extract.landing.batch import LANDING_LOCK
from northstar.extract.landing.learned import close_settled
from northstar.extract.landing.settled import FILE, Settled, read_settled
from northstar.warehouse import db, turn_lock
from northstar.warehouse.rows import Connection, fetch_one

# the source of the batches of these corrections
SOURCE = "values"


def follow_settled(settings: Settings, run_id: int, progress: Progress) -> None:
    """Map what has landed, and close the findings that are settled. Raises NorthstarError for a values.yml that cannot be used."""
    settled = read_settled(settings)
    with db.connect(settings, "loader") as connection:
        turn_lock.keep(connection, run_id, by_hand=True)
        done = {
            (r["entity"], r["column_name"], r["value"]): r["other"]
            for r in connection.execute("select entity, column_name, value, other from audit.mapped_values")
        }
        wanted = _wanted(settled)
        for place in done.keys() - wanted.keys():
            # if somebody maps it again, the rows that landed meanwhile are to follow
            connection.execute(
                "delete from audit.mapped_values where entity = %s and column_name = %s and value = %s", place
            )
        for place, other in wanted.items():
            if done.get(place) != other:
                rows = _map(connection, run_id, *place, other)
                entity, column, value = place
                if rows:
                    progress(
                        f"  {entity}: {rows:,} landed rows have {other!r} for {value!r} in {column} now, as {FILE} says"
                    )
        close_settled(connection, settled)


def _wanted(settled: Settled) -> dict[tuple[str, str, str], str]:
    return {
        (entity, column, value): other
        for (entity, column), rules in settled.rules.items()
        for value, other in rules.map.items()
    }


def _map(connection: Connection, run_id: int, entity: str, column: str, value: str, other: str) -> int:
    """Give the landed rows with a value another one; returns how many. The rows count for the sources that they came from."""
    table, named = sql.Identifier("staging", entity), sql.Identifier(column)
    connection.execute("select pg_advisory_xact_lock(%s, hashtext(%s))", [LANDING_LOCK, entity])
    batches = connection.execute(
        sql.SQL(
            "select coalesce(b.source, {}) as source, array_agg(distinct t._batch_id) as batches from {} as t "
            "left join audit.landing_batches as b on b.batch_id = t._batch_id where t.{} = %s group by 1"
        ).format(sql.Literal(SOURCE), table, named), [value],
    ).fetchall()  # fmt: skip
    total, batch_id = 0, None
    for source in batches:
        batch_id = fetch_one(connection.execute(
            "insert into audit.landing_batches (run_id, source, entity, finished_at) values (%s, %s, %s, clock_timestamp()) returning batch_id",
            [run_id, source["source"], entity],
        ))["batch_id"]  # fmt: skip
        own = sql.SQL("_batch_id = any(%(batches)s) and {} = %(value)s").format(named)
        values = {
            "entity": entity, "batch": batch_id, "batches": source["batches"], "value": value, "other": other,
        }  # fmt: skip
        connection.execute(
            sql.SQL("insert into staging._replaced (entity, batch_id, row) select %(entity)s, %(batch)s, to_jsonb(t.*) from {} as t where ").format(table) + own,
            values,
        )  # fmt: skip
        rows = connection.execute(
            sql.SQL("update {} set {} = %(other)s, _batch_id = %(batch)s, _loaded_at = current_timestamp where ").format(table, named) + own,
            values,
        ).rowcount  # fmt: skip
        connection.execute(
            "update audit.landing_batches set rows_read = %s, rows_updated = %s where batch_id = %s",
            [rows, rows, batch_id],
        )
        total += rows
    connection.execute(
        "insert into audit.mapped_values (entity, column_name, value, other, rows, batch_id) values (%s, %s, %s, %s, %s, %s) "
        "on conflict (entity, column_name, value) do update set other = excluded.other, rows = excluded.rows, batch_id = excluded.batch_id, "
        "mapped_at = clock_timestamp()",
        [entity, column, value, other, total, batch_id],
    )
    connection.execute(
        "insert into audit.known_values (entity, application, column_name, value, rows, deliveries, absences, is_noted) "
        "select entity, application, column_name, %(other)s, rows, deliveries, 0, false from audit.known_values "
        "where entity = %(entity)s and column_name = %(column)s and value = %(value)s "
        "on conflict (entity, application, column_name, value) do update set rows = known_values.rows + excluded.rows",
        {"entity": entity, "column": column, "value": value, "other": other},
    )
    connection.execute(
        "delete from audit.known_values where entity = %s and column_name = %s and value = %s", [entity, column, value]
    )
    return total
