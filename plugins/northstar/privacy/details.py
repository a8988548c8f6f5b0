"""Retention of landed rows by entity: after `keep_details_days` a row keeps what numbers are made of, and nothing else.

Removed are columns that the contract does not know (`_extra`) and the properties of an event that no model reads, in the row and in its
replaced versions; and the entity's rejected rows. What numbers are made of stays as long as the numbers do; people are removed from it by
`northstar erase`.
"""

from datetime import datetime, timedelta

from psycopg import sql

from northstar.base.settings import Settings
from northstar.contract import Entity, entities
from northstar.privacy.subjects import READ_PROPERTIES
from northstar.warehouse import db, lake, turn_lock
from northstar.warehouse.rows import Connection

KEPT_PROPERTIES = ", ".join(f"'{name}'" for name in READ_PROPERTIES)
# SQL: the members of a JSON value; none if it is no object
MEMBERS = "jsonb_each(case when jsonb_typeof({json}) = 'object' then {json} end) as p"
PRUNED = f"(select jsonb_object_agg(p.key, p.value) from {MEMBERS} where p.key in ({KEPT_PROPERTIES}))"
IS_LONG = f"({{json}} != 'null' and (jsonb_typeof({{json}}) != 'object' or exists (select 1 from {MEMBERS} where p.key not in ({KEPT_PROPERTIES}))))"


def forget_details(settings: Settings, run_id: int, as_of: datetime) -> dict[str, int]:
    """Remove the details of rows that are older than their entity's limit, before a full run; returns {entity: rows}.

    It is recorded in audit.details_forgotten.
    """
    row_counts = {}
    for name, days in settings.operations.keep_details_days.items():
        cutoff = as_of - timedelta(days=days)
        with db.connect(settings, "loader") as connection:
            turn_lock.keep(connection, run_id)
            rows = _forget_entity(connection, entities()[name], cutoff)
            if rows:
                lake.withdraw(connection, name)
                connection.execute(
                    "insert into audit.details_forgotten (run_id, entity, older_than, rows) values (%s, %s, %s, %s)",
                    [run_id, name, cutoff, rows],
                )
                row_counts[name] = rows
    return row_counts


def _forget_entity(connection: Connection, entity: Entity, cutoff: datetime) -> int:
    landed_changes, replaced_changes = "_extra = null", "o.row || jsonb_build_object('_extra', null)"
    is_long, was_long = "_extra is not null", "o.row -> '_extra' != 'null'"
    if "properties" in entity.columns:
        former_properties = "(o.row -> 'properties')"
        landed_changes += f", properties = {PRUNED.format(json='properties::jsonb')}::json"
        replaced_changes += f" || jsonb_build_object('properties', {PRUNED.format(json=former_properties)})"
        is_long += f" or {IS_LONG.format(json='properties::jsonb')}"
        was_long += f" or {IS_LONG.format(json=former_properties)}"
    statements = (
        f"update {{table}} set {landed_changes} where {{time}} < %(before)s and ({is_long})",
        f"update staging._replaced as o set row = {replaced_changes} where o.entity = {{name}} "
        f"and (o.row ->> {{time_name}})::timestamptz < %(before)s and ({was_long})",
        "delete from quarantine.rows where entity = {name} and quarantined_at < %(before)s",
    )
    names = {
        "table": sql.Identifier("staging", entity.name), "name": sql.Literal(entity.name),
        "time": sql.Identifier(entity.own_time), "time_name": sql.Literal(entity.own_time),
    }  # fmt: skip
    return sum(
        connection.execute(sql.SQL(statement).format(**names), {"before": cutoff}).rowcount for statement in statements
    )
