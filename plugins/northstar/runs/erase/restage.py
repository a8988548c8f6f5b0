"""The state `staged`: landed rows have the replacements, quarantined rows are deleted, tombstones keep the person from landing again."""

from psycopg.types.json import Jsonb

from northstar.base.settings import Settings
from northstar.contract import Entity, entities
from northstar.privacy.keys import subject_hash
from northstar.privacy.subjects import (
    ACCOUNT,
    ANONYMOUS,
    PARENT_COLUMNS,
    PERSON_COLUMNS,
    READ_PROPERTIES,
    SESSION,
    hash_columns,
    person_columns,
)
from northstar.runs.erase.names import EMAIL, TICKET, Names, quote_list
from northstar.warehouse import db, lake, turn_lock
from northstar.warehouse.rows import Connection, fetch_one


def restage(settings: Settings, key: str, erasure_id: int, run_id: int) -> None:
    """Rename the subject's landed rows as new batches, which the build sees as changes; delete quarantined rows; add tombstones. Only once."""
    with db.connect(settings, "loader") as connection:
        turn_lock.keep(connection, run_id)
        state = fetch_one(
            connection.execute("select state from audit.erasures where erasure_id = %s for update", [erasure_id])
        )["state"]
        if state != "requested":
            return
        names = Names(connection, erasure_id)
        counts = {}
        for entity in entities().values():
            rows = _restage_entity(connection, entity, names, run_id)
            if rows:
                counts[f"staging.{entity.name}"] = rows
                lake.withdraw(connection, entity.name)
        rows = delete_quarantined(connection, names)
        if rows:
            counts["quarantine.rows"] = rows
        stones = [
            (kind, subject_hash(kind, value, key), erasure_id)
            for kind in (ACCOUNT, ANONYMOUS, SESSION, TICKET) for value in names.values[kind]
        ]  # fmt: skip
        connection.cursor().executemany(
            "insert into audit.tombstones values (%s, %s, %s) on conflict do nothing", stones
        )
        connection.execute(
            "update audit.erasures set state = 'staged', rows = %s where erasure_id = %s", [Jsonb(counts), erasure_id]
        )


def _restage_entity(connection: Connection, entity: Entity, names: Names, run_id: int) -> int:
    """Rename the entity's rows; returns how many. Each source gets a batch of its own, because totals are counted by source."""
    changes, condition = _changes(entity, names)
    if not condition:
        return 0
    table, values, total = f"staging.{entity.name}", dict(names.values), 0
    sources = connection.execute(
        f"select coalesce(b.source, 'erasure') as source, array_agg(distinct t._batch_id) as batches from {table} as t "
        f"left join audit.landing_batches as b on b.batch_id = t._batch_id where {condition} group by 1", values,
    ).fetchall()  # fmt: skip
    for source in sources:
        batch = fetch_one(
            connection.execute(
                "insert into audit.landing_batches (run_id, source, entity, finished_at) values (%s, %s, %s, clock_timestamp()) returning batch_id",
                [run_id, source["source"], entity.name],
            )
        )["batch_id"]
        values |= {"entity": entity.name, "batch": batch, "batches": source["batches"]}
        connection.execute(
            "insert into staging._replaced (entity, batch_id, row) select %(entity)s, %(batch)s, to_jsonb(t.*) "
            f"from {table} as t where t._batch_id = any(%(batches)s) and ({condition})", values,
        )  # fmt: skip
        sets = ", ".join(f'"{column}" = {expression}' for column, expression in changes.items())
        rows = connection.execute(
            f"update {table} as t set {sets}, _batch_id = %(batch)s, _loaded_at = current_timestamp "
            f"where t._batch_id = any(%(batches)s) and ({condition})", values,
        ).rowcount  # fmt: skip
        connection.execute(
            "update audit.landing_batches set rows_read = %s, rows_updated = %s where batch_id = %s",
            [rows, rows, batch],
        )
        total += rows
    return total


def _changes(entity: Entity, names: Names) -> tuple[dict[str, str], str]:
    """({column: its new value as SQL}, a condition for the rows `t` that change) for a landed entity."""
    named, hashes = person_columns(entity), hash_columns(entity)
    is_subject = " or ".join(
        [names.is_subject_sql(c, f"t.{c}") for c in named] + [f"t.{c} = any(%(email)s)" for c in hashes]
        + (["t.ticket_id = any(%(ticket)s)"] if entity.name == "tickets" else [])
    ) or "false"  # fmt: skip
    belongs = " or ".join(
        f"t.{column} in ({parent_keys_sql(parent)})" for column, parent in PARENT_COLUMNS.get(entity.name, ())
    )
    changes = {c: names.replacement_sql(c, f"t.{c}") for c in named}
    changes |= {c: f"case when not ({is_subject}) then t.{c} end" for c in hashes}
    conditions = [is_subject] if is_subject != "false" else []
    if conditions or belongs:
        owned = " or ".join(filter(None, (is_subject, belongs)))
        changes["_extra"] = f"case when not coalesce({owned}, false) then t._extra end"
        if belongs:
            conditions.append(f"t._extra is not null and ({belongs})")
    if "properties" in entity.columns:
        kept_properties = quote_list(READ_PROPERTIES)
        changes["properties"] = (
            f"case when coalesce({is_subject}, false) then case when json_typeof(t.properties) = 'object' then (select json_object_agg(p.key, p.value) "
            f"from json_each(t.properties) as p where p.key in ({kept_properties})) end else t.properties end"
        )
    if names.text_replacements:
        for name, kind in _free_text_columns(entity).items():
            current = changes.get(name, f"t.{name}")
            changes[name] = names.cleaned_text_sql(f"({current})::text") + f"::{kind}"
            conditions.append(f"(t.{name} is not null and {names.is_in_text_sql(f't.{name}::text')})")
    return changes, " or ".join(conditions)


def parent_keys_sql(parent: str) -> str:
    """SQL: the keys of the parent's rows that belong to the subject, whether they are renamed already or not."""
    entity = entities()[parent]
    columns = [c for c in person_columns(entity) if ACCOUNT in PERSON_COLUMNS[c]]
    conditions = [f"p.{c} = any(%(account)s) or p.{c} = any(%(replacements)s)" for c in columns]
    if parent == "tickets":
        conditions.append("p.ticket_id = any(%(ticket)s)")
    return f"select p.{entity.key[0]} from staging.{parent} as p where {' or '.join(conditions)}"


def _free_text_columns(entity: Entity) -> dict[str, str]:
    """{column: type} of the columns that may say something about anybody: free text and JSON that is no key, no name and no hash."""
    columns = {
        c.name: c.postgres_type
        for c in entity.stored_columns.values()
        if c.type in ("text", "json") and not c.values and not c.pii and c.name not in (*entity.key, *PERSON_COLUMNS, "application", "currency")
        and not c.name.endswith("_id")
    }  # fmt: skip
    return columns | {"_extra": "json"}


def delete_quarantined(connection: Connection, names: Names) -> int:
    """Delete quarantined rows that name the subject anywhere; returns how many.

    A row that names the subject only in sealed values stays: nothing shows whose they are.
    """
    exact = [*names.values[ACCOUNT], *names.values[ANONYMOUS], *names.values[SESSION], *names.values[EMAIL]]
    exact += [f"hashed:{v}" for v in names.values[EMAIL]]
    conditions = [
        "exists (select 1 from jsonb_path_query(q.row, '$.**') as v where v in (select to_jsonb(x) from unnest(%(exact)s::text[]) as x))"
    ]
    if names.text_replacements:
        conditions.append(names.is_in_text_sql("q.row::text"))
        conditions.append(names.is_in_text_sql("array_to_string(q.reasons, ' ')"))
    return connection.execute(
        f"delete from quarantine.rows as q where {' or '.join(conditions)}", {**names.values, "exact": exact}
    ).rowcount
