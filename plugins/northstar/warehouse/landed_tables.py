"""The landed tables: their definition by the source contract, and how an existing table follows a contract that changed."""

from typing import TypedDict

from psycopg import sql

from northstar.base.errors import NorthstarError
from northstar.contract import Column, Entity, entities
from northstar.warehouse.rows import Connection, fetch_all_as

# Postgres' full names of the contract's types that have a short name
FULL_NAMES = {"timestamptz": "timestamp with time zone"}
# {entity: columns by which a model finds its rows from another entity's key}
LOOKUP_COLUMNS = {
    "charges": ("payment_id",),
    "creator_earnings": ("creator_id",),
    "messages": ("booking_id",),
    "reviews": ("booking_id",),
    "refunds": ("charge_id",),
    "ticket_events": ("ticket_id",),
}


class ExistingColumn(TypedDict):
    """A column of a landed table as it exists in the warehouse."""

    relname: str
    attname: str
    type: str
    not_null: bool


def landed_columns(connection: Connection) -> dict[str, dict[str, ExistingColumn]]:
    """{landed table: {column: its row}} as they exist in the warehouse."""
    query = (
        "select c.relname, a.attname, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as not_null from pg_attribute as a "
        "join pg_class as c on c.oid = a.attrelid where c.relnamespace = 'staging'::regnamespace and c.relkind = 'r' "
        "and c.relname = any(%s) and a.attnum > 0 and not a.attisdropped"
    )
    tables: dict[str, dict[str, ExistingColumn]] = {}
    for row in fetch_all_as(ExistingColumn, connection.execute(query, [list(entities())])):
        tables.setdefault(row["relname"], {})[row["attname"]] = row
    return tables


def follow_contract(connection: Connection, entity: Entity, existing_columns: dict[str, ExistingColumn]) -> None:
    """Add the contract's new columns to a landed table, and drop `not null` where the contract requires a column no longer. Its rows stay.

    Raises NorthstarError for a column whose type differs: only a migration knows how to convert the values.
    """
    table = sql.Identifier("staging", entity.name)
    for column in entity.stored_columns.values():
        name, standing_column = sql.Identifier(column.name), existing_columns.get(column.name)
        if standing_column is None:
            # nullable even if the contract requires it: existing rows have no value
            connection.execute(
                sql.SQL("alter table {} add column {} {}").format(table, name, sql.SQL(_column_type(column)))
            )
        elif standing_column["type"] != FULL_NAMES.get(column.postgres_type, column.postgres_type):
            raise NorthstarError(
                f"staging.{entity.name}.{column.name} is {standing_column['type']} and the contract says {column.postgres_type}: "
                "change a column's type with a migration (plugins/northstar/warehouse/migrations)"
            )
        elif standing_column["not_null"] and not column.required and column.name != "application":
            connection.execute(sql.SQL("alter table {} alter column {} drop not null").format(table, name))
    for extra_name in existing_columns.keys() - set(entity.stored_columns):
        if not extra_name.startswith("_") and existing_columns[extra_name]["not_null"]:
            # the contract has dropped the column: new rows have no value, existing rows keep theirs
            connection.execute(
                sql.SQL("alter table {} alter column {} drop not null").format(table, sql.Identifier(extra_name))
            )


def landed_table_ddl(entity: Entity) -> str:
    """The DDL of `staging.<entity>`: the contract's typed columns and the landing's own."""
    columns = []
    for column in entity.stored_columns.values():
        columns.append(f'"{column.name}" {_column_type(column)}{" not null" if column.required else ""}')
    columns += ["_extra json", "_batch_id bigint not null", "_loaded_at timestamptz not null"]
    if entity.name == "subscriptions":
        columns.append("_is_overlapping boolean not null default false")
    # b-trees. A block range index would do for rows that come in order; but a history may come in any order, so that one hour is spread over
    # the table, and later batches fill the gaps that a first load left in the pages
    indexes = [
        f"create index if not exists {name} on staging.{entity.name} ({column});"
        for name, column in secondary_indexes(entity).items()
    ]
    return "\n".join(
        [
            f"create table if not exists staging.{entity.name} ({', '.join(columns)});",
            f"create unique index if not exists {key_index_name(entity)} on staging.{entity.name}"
            f" ({', '.join(entity.key)}) nulls not distinct;",
            *indexes,
        ]
    )


def _column_type(column: Column) -> str:
    return "text not null default 'default'" if column.name == "application" else column.postgres_type


def secondary_indexes(entity: Entity) -> dict[str, str]:
    """{index name: column} of the indexes besides the key's.

    They find the rows of a batch, the rows of an hour, rows that come into existence as as_of moves on, and rows that belong to a changed
    row of another entity.
    """
    columns = ("_batch_id", entity.own_time, *entity.later_times, *LOOKUP_COLUMNS.get(entity.name, ()))
    return {f"{entity.name}_{column}": column for column in columns}


def key_index_name(entity: Entity) -> str:
    """The name of the unique index on a landed table's key."""
    return f"{entity.name}_key"
