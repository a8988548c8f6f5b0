"""The columns of the published tables, which follow those of the models.

They change in short transactions of their own, so that no reader waits while a version is merged. A new column exists, empty, before the
version that fills it (where that version has to wait for an approval, the column is dropped again meanwhile); a removed column stays, empty in new rows, until that version is published. When a column changes its type, Postgres
rewrites the table, and its readers wait that long.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from psycopg import sql

from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.publish.catalogue import Mart, views
from northstar.warehouse import db
from northstar.warehouse.published.described import DescribedTable
from northstar.warehouse.published.limited import drop_policies, ensure_policies
from northstar.warehouse.published.marks import SOURCE, drop_marks, ensure_marks
from northstar.warehouse.published.past import drop_past_view, ensure_past_views
from northstar.warehouse.published.values import PARTS, change_without_queueing, drop_view, ensure_view
from northstar.warehouse.rows import Connection

SCHEMAS = ("marts", "marts_history")


def columns(connection: Connection, schema: str, name: str) -> dict[str, str]:
    """{column: type} of a relation, without the publisher's own columns; {} if there is none."""
    return _columns_of(connection, [f"{schema}.{name}"])[f"{schema}.{name}"]


def _columns_of(connection: Connection, relations: list[str]) -> dict[str, dict[str, str]]:
    """{relation: {column: type}}: the columns of many relations, by one query."""
    rows = connection.execute(
        "select relation, attname, format_type(atttypid, atttypmod) as type from unnest(%s::text[]) as names (relation) "
        "join pg_attribute on attrelid = to_regclass(relation) where attnum > 0 and not attisdropped order by attnum",
        [relations],
    ).fetchall()
    found: dict[str, dict[str, str]] = {relation: {} for relation in relations}
    for row in rows:
        if not row["attname"].startswith("_"):
            found[row["relation"]][row["attname"]] = row["type"]
    return found


@dataclass(frozen=True)
class Shape:
    """The columns of a mart, each with its type: those that its model makes and publishes, and those of the published table ({} if there is none)."""

    model: dict[str, str]
    table: dict[str, str]

    @property
    def common(self) -> dict[str, str]:
        """The columns of the published table, in its order, without those that are about to be dropped."""
        return {c: kind for c, kind in self.table.items() if c in self.model}


def shapes(connection: Connection, published: list[Mart]) -> dict[str, Shape]:
    """{mart: its shape}."""
    candidates = {mart.name: ".".join(mart.parts[0]) for mart in published}
    found = _columns_of(connection, [*candidates.values(), *(f"marts.{name}" for name in candidates)])
    return {
        mart.name: Shape(
            {c: k for c, k in found[candidates[mart.name]].items() if not mart.published or c in mart.published},
            found[f"marts.{mart.name}"],
        )
        for mart in published
    }


def widen(
    connection: Connection, settings: Settings, published: list[Mart], described: Iterable[DescribedTable]
) -> dict[str, list[str]]:
    """Give the marts the columns and types that the candidate has, and the described tables those of this version; commits.

    Returns the new columns by mart. Raises NorthstarError when readers leave no pause for it.
    """
    described = list(described)
    existing = _columns_of(connection, [f"marts.{table.name}" for table in described])
    connection.commit()
    for table in described:
        if existing[f"marts.{table.name}"]:
            change_without_queueing(connection, table.name, partial(table.ensure, connection))
    shape_by_mart = shapes(connection, published)
    connection.commit()
    added: dict[str, list[str]] = {}
    for mart in published:
        shape = shape_by_mart[mart.name]
        new_columns = {c: kind for c, kind in shape.model.items() if c not in shape.table}
        retyped_columns = {c: shape.model[c] for c, kind in shape.table.items() if shape.model.get(c, kind) != kind}
        if shape.table and (new_columns or retyped_columns):
            change_without_queueing(
                connection, mart.name, partial(_widen, connection, settings, mart, new_columns, retyped_columns)
            )
            added[mart.name] = list(new_columns)
    return added


def drop_added(settings: Settings, added: dict[str, list[str]], progress: Progress) -> None:
    """Drop the columns that `widen` has added for a version that is not published. If readers leave no pause for it, they stay, empty, until it is."""
    for name, new_columns in added.items():
        if not new_columns:
            continue
        with db.connect(settings, "publisher") as connection:
            try:
                change_without_queueing(
                    connection, name, partial(_drop_columns, connection, settings, name, new_columns, SCHEMAS)
                )
            except NorthstarError as exc:
                progress(f"    {exc}")


def narrow(settings: Settings, published: list[Mart], progress: Progress) -> None:
    """Drop the columns that models no longer make. If readers leave no pause for it, the next publication does it."""
    with db.connect(settings, "publisher") as connection:
        shape_by_mart = shapes(connection, published)
        connection.commit()
        for mart in published:
            shape = shape_by_mart[mart.name]
            if surplus_columns := [c for c in shape.table if c not in shape.model]:
                try:
                    change_without_queueing(
                        connection, mart.name, partial(_drop_columns, connection, settings, mart.name, surplus_columns)
                    )
                except NorthstarError as exc:
                    progress(f"    {exc}")
                    continue
                progress(f"    {mart.name} has no {', '.join(surplus_columns)} any more: the models make none")


def _widen(
    connection: Connection, settings: Settings, mart: Mart, new_columns: dict[str, str], retyped_columns: dict[str, str]
) -> None:
    is_part = mart.name in PARTS.values()
    if retyped_columns:
        drop_policies(connection, settings, mart.name)
        drop_past_view(connection, mart.name)
        drop_marks(connection, mart.name)
        if is_part:
            drop_view(connection)
    for schema in SCHEMAS:
        table = sql.Identifier(schema, mart.name)
        for column, kind in new_columns.items():
            connection.execute(
                sql.SQL("alter table {} add column if not exists {} {}").format(
                    table, sql.Identifier(column), sql.SQL(kind)
                )
            )
        for column, kind in retyped_columns.items():
            connection.execute(
                sql.SQL("alter table {} alter column {c} type {k} using {c}::{k}").format(
                    table, c=sql.Identifier(column), k=sql.SQL(kind)
                )
            )
    describe_columns(connection, mart, list(new_columns))
    if retyped_columns:
        if is_part:
            for view in views(settings):
                ensure_view(connection, settings, view)
        if mart.name == SOURCE:
            ensure_marks(connection)
        ensure_past_views(connection, settings)
    ensure_policies(connection, settings)


def _drop_columns(
    connection: Connection, settings: Settings, mart: str, names: list[str], schemas: Iterable[str] = ("marts",)
) -> None:
    drop_policies(connection, settings, mart)
    drop_past_view(connection, mart)
    drop_marks(connection, mart)
    for schema in schemas:
        for column in names:
            connection.execute(
                sql.SQL("alter table {} drop column if exists {}").format(
                    sql.Identifier(schema, mart), sql.Identifier(column)
                )
            )
    if mart == SOURCE:
        ensure_marks(connection)
    ensure_past_views(connection, settings)
    ensure_policies(connection, settings)


def create_tables(connection: Connection, mart: Mart, names: dict[str, str]) -> None:
    """Create `marts.<mart>` and `marts_history.<mart>` with the columns `names` and their descriptions."""
    name = sql.Identifier(mart.name)
    kinds = sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(c), sql.SQL(t)) for c, t in names.items())
    connection.execute(sql.SQL("create table marts.{} ({}, _version bigint not null)").format(name, kinds))
    connection.execute(
        sql.SQL(
            "create table if not exists marts_history.{} ({}, _from_version bigint not null, _to_version bigint not null)"
        ).format(name, kinds)
    )
    connection.execute(sql.SQL("comment on table marts.{} is {}").format(name, sql.Literal(mart.description)))
    describe_columns(connection, mart, list(names))


def describe_columns(connection: Connection, mart: Mart, names: list[str]) -> None:
    """Give columns of a mart the descriptions of its model."""
    for column in names:
        connection.execute(
            sql.SQL("comment on column {} is {}").format(
                sql.Identifier("marts", mart.name, column), sql.Literal(mart.columns.get(column, ""))
            )
        )
