"""The state `purged`: the old names are removed from replaced rows, marts_history and audit."""

from psycopg.types.json import Jsonb

from northstar.base.settings import Settings
from northstar.contract import Entity, entities
from northstar.privacy.subjects import (
    HASH_COLUMNS,
    PARENT_COLUMNS,
    PERSON_COLUMNS,
    READ_PROPERTIES,
    hash_columns,
    person_columns,
)
from northstar.runs.erase.names import Names, quote_list
from northstar.runs.erase.restage import delete_quarantined, parent_keys_sql
from northstar.runs.preview.scratch import drop_previews
from northstar.warehouse import db, turn_lock
from northstar.warehouse.rights import act_as_owner
from northstar.warehouse.rows import Connection

TEXT_TYPES = ("text", "json", "jsonb", "text[]")
# columns of marts and audit that hold no names; they are long, so they are not searched
UNSEARCHED_COLUMNS = {
    "metric_id",
    "grain",
    "application",
    "segment",
    "null_reason",
    "currency",
    "unique_id",
    "resource_type",
    "sql",
    "code_version",
}
# tables of audit that stay as they are: the sources' state names files and cursors, and has to match the source
KEPT_TABLES = {
    "erasures",
    "erasure_ids",
    "tombstones",
    "landed_files",
    "source_states",
    "bootstrapped",
    "definitions",
    "explained",
    "pii_keys",
}


def purge(settings: Settings, erasure_id: int, version: int | None, turn: int) -> None:
    """Remove the names from everything in the warehouse that keeps old rows, in one transaction over all schemas."""
    with db.connect(settings, "owner", database=None if settings.warehouse_url else db.DATABASE) as connection:
        turn_lock.keep(connection, turn)
        names = Names(connection, erasure_id)
        counts = {}
        drop_previews(connection)
        for schema, tables in _text_columns(connection).items():
            act_as_owner(connection, schema)
            for table, columns in tables.items():
                rows = _rename_in_table(connection, f'{schema}."{table}"', columns, names)
                if rows:
                    counts[f"{schema}.{table}"] = rows
        act_as_owner(connection, "audit")
        counts["audit.known_values"] = forget_values(connection, names)
        act_as_owner(connection, "staging")
        counts["staging._replaced"] = sum(_rename_replaced(connection, e, names) for e in entities().values())
        counts["quarantine.rows"] = delete_quarantined(connection, names)
        connection.execute("reset role")
        connection.execute(
            "update audit.erasures set state = 'purged', published_version = %(version)s, finished_at = clock_timestamp(), "
            "rows = rows || %(rows)s where erasure_id = %(erasure)s",
            {"version": version, "rows": Jsonb({k: v for k, v in counts.items() if v}), "erasure": erasure_id},
        )


def forget_values(connection: Connection, names: Names) -> int:
    """Delete what is known of the names as values of columns: there, short ones are told from others, since their column is known."""
    rows = 0
    for column in PERSON_COLUMNS:
        for table in ("known_values", "unusual_values", "mapped_values"):
            rows += connection.execute(
                f"delete from audit.{table} where column_name = %(column)s and {names.is_subject_sql(column, 'value')}",
                {**names.values, "column": column},
            ).rowcount
    if rows:
        # the examples of earlier audits may show them
        connection.execute("update audit.checks set sample = '[]' where suite = 'unusual_values'")
    return rows


def _text_columns(connection: Connection) -> dict[str, dict[str, dict[str, str]]]:
    """{schema: {table: {column: type}}} of the text-like columns of all tables that are made from landed rows or record them."""
    rows = connection.execute(
        "select n.nspname as schema, c.relname as table, a.attname as column, format_type(a.atttypid, null) as type "
        "from pg_attribute as a join pg_class as c on c.oid = a.attrelid join pg_namespace as n on n.oid = c.relnamespace "
        "where n.nspname in ('core', 'marts_candidate', 'marts', 'marts_history', 'audit') and c.relkind = 'r' and a.attnum > 0 "
        "and not a.attisdropped order by 1, 2, a.attnum"
    ).fetchall()
    text_columns: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        if (
            row["type"] in TEXT_TYPES
            and row["column"] not in UNSEARCHED_COLUMNS
            and not (row["schema"] == "audit" and row["table"] in KEPT_TABLES)
        ):
            text_columns.setdefault(row["schema"], {}).setdefault(row["table"], {})[row["column"]] = row["type"]
    return text_columns


def _rename_in_table(connection: Connection, relation: str, columns: dict[str, str], names: Names) -> int:
    sets, conditions = [], []
    for column, kind in columns.items():
        place = f't."{column}"'
        if column in PERSON_COLUMNS and kind == "text":
            sets.append(f'"{column}" = {names.replacement_sql(column, place)}')
            conditions.append(names.is_subject_sql(column, place))
        elif column in HASH_COLUMNS and kind == "text":
            sets.append(f'"{column}" = case when {place} = any(%(email)s) then null else {place} end')
            conditions.append(f"{place} = any(%(email)s)")
        elif names.text_replacements:
            sets.append(f'"{column}" = ' + names.cleaned_text_sql(f"{place}::text") + f"::{kind}")
            conditions.append(f"({place} is not null and {names.is_in_text_sql(f'{place}::text')})")
    if not sets:
        return 0
    query = f"update {relation} as t set {', '.join(sets)} where {' or '.join(conditions)}"
    return connection.execute(query, names.values).rowcount


def _rename_replaced(connection: Connection, entity: Entity, names: Names) -> int:
    """Put the new names into the entity's replaced rows too; without it, making an old version again would bring the old names back."""
    named, hashes = person_columns(entity), hash_columns(entity)

    def value(column: str) -> str:
        return f"(t.row ->> '{column}')"

    is_subject = " or ".join(
        [names.is_subject_sql(c, value(c)) for c in named] + [f"{value(c)} = any(%(email)s)" for c in hashes]
        + (["(t.row ->> 'ticket_id') = any(%(ticket)s)"] if entity.name == "tickets" else [])
    )  # fmt: skip
    belongs = [
        f"{value(column)} in ({parent_keys_sql(parent)})" for column, parent in PARENT_COLUMNS.get(entity.name, ())
    ]
    owned = " or ".join([*([is_subject] if is_subject else []), *belongs])
    total = 0
    if owned:
        new = "t.row || jsonb_build_object('_extra', null)"
        for column in named:
            new += f" || jsonb_build_object('{column}', {names.replacement_sql(column, value(column))})"
        for column in hashes:
            new += f" || case when {is_subject} then jsonb_build_object('{column}', null) else '{{}}' end"
        if "properties" in entity.columns:
            new += (
                f" || case when jsonb_typeof(t.row -> 'properties') = 'object' then jsonb_build_object('properties', (select "
                f"jsonb_object_agg(p.key, p.value) from jsonb_each(t.row -> 'properties') as p where p.key in ({quote_list(READ_PROPERTIES)}))) "
                "else '{}' end"
            )
        total += connection.execute(
            f"update staging._replaced as t set row = {new} where t.entity = %(entity)s and ({owned})",
            {**names.values, "entity": entity.name},
        ).rowcount
    if names.text_replacements:
        total += connection.execute(
            f"update staging._replaced as t set row = ({names.cleaned_text_sql('t.row::text')})::jsonb "
            f"where t.entity = %(entity)s and {names.is_in_text_sql('t.row::text')}",
            {**names.values, "entity": entity.name},
        ).rowcount
    return total
