"""A row whose amount cannot be converted, set aside by name until there is a rate.

An amount without a rate stops the publication, since it would silently drop out of revenue. Somebody may decide that one row is to wait: it goes to quarantine,
as an accepted row, so that certificates name it with who decided it and why. A run that finds a rate for it lands it again; until then it stays there,
also when its source delivers it again as it was (docs/decisions.md, D279).
"""

from psycopg import sql
from psycopg.types.json import Jsonb

from northstar.base.config_files import suggest_name
from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.contract import Entity, entities
from northstar.extract.landing.batch import LANDING_LOCK
from northstar.warehouse import db, turn_lock
from northstar.warehouse.rows import Connection, Row, fetch_one

# how the reason of a row begins that was set aside
REASON = "set aside until there is a rate"
# the source of a batch of rows that landed before batches had one
SOURCE = "set aside"


def convertible_entities() -> list[str]:
    """The entities whose rows can be set aside: those with an amount in a currency, and one column that names a row."""
    return [e.name for e in entities().values() if "currency" in e.columns and len(e.key) == 1 and e.name != "fx_rates"]


def set_aside(settings: Settings, turn: int, name: str, row_id: str, by: str, because: str) -> str:
    """Move a landed row without a rate to quarantine, in a turn; returns a line that says so.

    Raises NorthstarError for an entity or a row that there is not, and for a row that has a rate.
    """
    if name not in convertible_entities():
        raise NorthstarError(f"rows of {name!r} cannot be set aside; {suggest_name(name, convertible_entities())}")
    entity = entities()[name]
    key = sql.Identifier(entity.key[0])
    with db.connect(settings, "loader") as connection:
        turn_lock.keep(connection, turn)
        connection.execute("select pg_advisory_xact_lock(%s, hashtext(%s))", [LANDING_LOCK, name])
        row = connection.execute(
            sql.SQL("select to_jsonb(t.*) as row, t.currency, t.{}::date as day, b.source from staging.{} as t "
                    "left join audit.landing_batches as b on b.batch_id = t._batch_id where {} = %s")
            .format(sql.Identifier(entity.own_time), sql.Identifier(name), key), [row_id],
        ).fetchone()  # fmt: skip
        if row is None:
            raise NorthstarError(f"no landed row of {name} has the {entity.key[0]} {row_id!r}")
        if _has_rate(settings, connection, row["currency"], row["day"]):
            raise NorthstarError(
                f"{name} {row_id} has a rate ({row['currency']} on {row['day']}): only a row without one is set aside"
            )
        source = row["source"] or SOURCE
        batch_id = _open_batch(connection, None, source, name, rows_quarantined=1)
        connection.execute(
            "insert into staging._replaced (entity, batch_id, row) values (%s, %s, %s)",
            [name, batch_id, Jsonb(row["row"])],
        )
        connection.execute(
            "insert into quarantine.rows (source, entity, reasons, row, batch_id, accepted_at, accepted_by, accepted_because) "
            "values (%s, %s, %s, %s::jsonb - '_batch_id' - '_loaded_at', %s, clock_timestamp(), %s, %s)",
            [source, name, [f"{REASON} for {row['currency']} on or before {row['day']}"], Jsonb(row["row"]), batch_id, by, because],
        )  # fmt: skip
        connection.execute(sql.SQL("delete from staging.{} where {} = %s").format(sql.Identifier(name), key), [row_id])
    return f"{name} {row_id} waits in quarantine for a rate of {row['currency']} on or before {row['day']}, as {by} decided"


def return_rated(settings: Settings, run_id: int, progress: Progress) -> None:
    """Land the rows that were set aside and have a rate now; the others stay aside. A row that its source has delivered with other content stays as that one is."""
    with db.connect(settings, "loader") as connection:
        turn_lock.keep(connection, run_id, by_hand=True)
        waiting = connection.execute(
            "select quarantine_id, source, entity, row from quarantine.rows where resolved_at is null and reasons[1] like %s order by 1",
            [f"{REASON}%"],
        ).fetchall()
        for one in waiting:
            entity = entities()[one["entity"]]
            currency, day = one["row"]["currency"], str(one["row"][entity.own_time])[:10]
            if _has_rate(settings, connection, currency, day):
                _land(connection, run_id, entity, one)
                progress(f"  {entity.name}: {one['row'][entity.key[0]]} has a rate now, and is no longer set aside")
            elif keep_aside(connection, run_id, entity, one):
                progress(f"  {entity.name}: {one['row'][entity.key[0]]} came again as it was, and stays set aside")


def keep_aside(connection: Connection, run_id: int, entity: Entity, waiting: Row) -> bool:
    """Take a row that is set aside out of what has landed, if its source has delivered it again as it was; returns whether that was so."""
    connection.execute("select pg_advisory_xact_lock(%s, hashtext(%s))", [LANDING_LOCK, entity.name])
    row = connection.execute(
        sql.SQL("delete from staging.{} as t where {} = %s and to_jsonb(t.*) - '_batch_id' - '_loaded_at' = %s returning to_jsonb(t.*) as row")
        .format(sql.Identifier(entity.name), sql.Identifier(entity.key[0])), [waiting["row"][entity.key[0]], Jsonb(waiting["row"])],
    ).fetchone()  # fmt: skip
    if row is None:
        return False
    connection.execute(
        "insert into staging._replaced (entity, batch_id, row) values (%s, %s, %s)",
        [entity.name, _open_batch(connection, run_id, waiting["source"], entity.name), Jsonb(row["row"])],
    )
    return True


def _land(connection: Connection, run_id: int, entity: Entity, waiting: Row) -> None:
    connection.execute("select pg_advisory_xact_lock(%s, hashtext(%s))", [LANDING_LOCK, entity.name])
    batch_id = _open_batch(connection, run_id, waiting["source"], entity.name)
    landed = connection.execute(
        sql.SQL(
            "insert into staging.{0} select r.* from jsonb_populate_record(null::staging.{0}, %s::jsonb || jsonb_build_object("
            "'_batch_id', %s::bigint, '_loaded_at', current_timestamp)) as r on conflict do nothing"
        ).format(sql.Identifier(entity.name)), [Jsonb(waiting["row"]), batch_id],
    ).rowcount  # fmt: skip
    connection.execute(
        "update audit.landing_batches set rows_read = 1, rows_inserted = %s, rows_unchanged = %s where batch_id = %s",
        [landed, 1 - landed, batch_id],
    )
    connection.execute(
        "update quarantine.rows set resolved_at = clock_timestamp(), resolution = 'has a rate' where quarantine_id = %s",
        [waiting["quarantine_id"]],
    )


def _has_rate(settings: Settings, connection: Connection, currency: str, day: object) -> bool:
    """Whether an amount of a day can be converted: its currency has a rate, and so has the reporting currency where rates are worth in another."""
    rules = settings.rules
    needed = {currency, rules.reporting_currency} - {rules.rates_currency or rules.reporting_currency}
    if currency == rules.reporting_currency:
        return True
    rated = connection.execute(
        "select count(distinct currency) as n from staging.fx_rates where currency = any(%s) and rate_date <= %s::date",
        [sorted(needed), str(day)],
    ).fetchone()
    return rated is not None and rated["n"] == len(needed)


def _open_batch(connection: Connection, run_id: int | None, source: str, entity: str, rows_quarantined: int = 0) -> int:
    """A batch of its own, for the rows that change: earlier versions are made again from the rows before it."""
    batch_id: int = fetch_one(connection.execute(
        "insert into audit.landing_batches (run_id, source, entity, finished_at, rows_read, rows_quarantined) "
        "values (%s, %s, %s, clock_timestamp(), %s, %s) returning batch_id",
        [run_id, source, entity, rows_quarantined, rows_quarantined],
    ))["batch_id"]  # fmt: skip
    return batch_id
