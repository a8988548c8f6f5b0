"""Rejected rows: what they are, why, and another try after a fix."""

import json

import orjson
import pyarrow as pa

from northstar import db
from northstar.contract import entities
from northstar.errors import NorthstarError
from northstar.landing.merge import land_batch
from northstar.landing.normalise import normalise
from northstar.privacy.guard import landing_guard
from northstar.privacy.keys import SEALED, unsealed
from northstar.privacy.personal import parsed
from northstar.settings import Settings
from northstar.warehouse import bootstrap


def list_rows(settings: Settings, entity: str | None = None, limit: int = 50) -> list[dict]:
    """The newest unresolved rows: number, entity, file, line and reasons."""
    with db.connect(settings, "loader") as connection:
        return connection.execute(
            "select quarantine_id as id, entity, path, line, array_to_string(reasons, '; ') as reasons from quarantine.rows "
            "where resolved_at is null and (%(entity)s::text is null or entity = %(entity)s) order by 1 desc limit %(limit)s",
            {"entity": entity, "limit": limit},
        ).fetchall()


def show(settings: Settings, quarantine_id: int, with_personal: bool = False) -> dict:
    """One row with all that is known of it; with_personal: sealed values as they were delivered, for who has the key.

    Raises NorthstarError for a number that is none.
    """
    with db.connect(settings, "loader") as connection:
        row = connection.execute("select * from quarantine.rows where quarantine_id = %s", [quarantine_id]).fetchone()
    if row is None:
        raise NorthstarError(f"no row {quarantine_id} in quarantine; `northstar quarantine list` shows those there are")
    if with_personal:
        key = settings.secret("pii_key")
        row["row"] = {name: opened(value, key) for name, value in row["row"].items()}
    return row


def replay(settings: Settings, entity: str | None = None) -> str:
    """Try the unresolved rows against the contract as it is now; those that pass land. Returns a line that says how many."""
    if entity and entity not in entities():
        raise NorthstarError(f"no entity {entity!r}; the contract has {', '.join(list(entities())[:6])}, ...")
    landed = tried = 0
    with db.connect(settings, "loader") as connection:
        rows = connection.execute(
            "select quarantine_id, source, entity, row from quarantine.rows where resolved_at is null and path is not null "
            "and (%(entity)s::text is null or entity = %(entity)s) order by 1",
            {"entity": entity},
        ).fetchall()
    # rows may have been left by an older release, whose warehouse knows no keys
    bootstrap(settings)
    guard = landing_guard(settings)
    for name in dict.fromkeys(r["entity"] for r in rows):
        mine = [r for r in rows if r["entity"] == name]
        tried += len(mine)
        columns = list(dict.fromkeys(c for r in mine for c in r["row"]))
        arrays = [pa.array([_text(opened(r["row"].get(c), guard.key)) for r in mine], pa.string()) for c in columns]
        ids = pa.array([r["quarantine_id"] for r in mine], pa.int64())
        batch = pa.RecordBatch.from_arrays([*arrays, ids], names=[*columns, "_line"])
        done = normalise(entities()[name], batch, guard, is_replay=True)
        if not done.rows.num_rows:
            continue

        def produce(delivery, done=done):
            delivery.read = done.rows.num_rows
            yield done.rows

        land_batch(settings, entities()[name], mine[0]["source"], None, produce)
        still_bad = {line for line, _, _ in done.bad}
        passed = [r["quarantine_id"] for r in mine if r["quarantine_id"] not in still_bad]
        with db.connect(settings, "loader") as connection:
            connection.execute(
                "update quarantine.rows set resolved_at = clock_timestamp(), resolution = 'replayed' where quarantine_id = any(%s)",
                [passed],
            )
        landed += len(passed)
    return f"{landed} of {tried} rows landed; the next run publishes them"


def opened(value, key: str):
    """A quarantined value as it was delivered: what this home has sealed is opened, within json too; all else is as it is."""
    if isinstance(value, dict):
        return {name: opened(within, key) for name, within in value.items()}
    if isinstance(value, list):
        return [opened(within, key) for within in value]
    if not isinstance(value, str) or SEALED not in value:
        return value
    said = unsealed(value, key)
    document = parsed(value) if said is None else None
    if document is None:
        return value if said is None else said
    within = opened(document, key)
    return value if within == document else orjson.dumps(within).decode()


def _text(value) -> str | None:
    # whole numbers beyond 64 bits too
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
