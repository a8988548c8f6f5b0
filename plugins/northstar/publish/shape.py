"""The columns of the published tables, which follow those of the models.

They change in short transactions of their own, so that no reader waits while a version is merged. A new column exists, empty, before the
version that fills it; a removed column stays, empty in new rows, until that version is published. When a column changes its type, Postgres
rewrites the table, and its readers wait that long.
"""

from collections.abc import Iterable
from functools import partial

from psycopg import sql

from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.publish.catalogue import Mart, views
from northstar.warehouse import db
from northstar.warehouse.published.described import DescribedTable
from northstar.warehouse.published.past import drop_past_view, ensure_past_views
from northstar.warehouse.published.values import PARTS, change_without_queueing, drop_view, ensure_view
from northstar.warehouse.rows import Connection

SCHEMAS = ("marts", "marts_history")


def columns(connection: Connection, schema: str, name: str) -> dict[str, str]:
    """{column: type} of a relation, without the publisher's own columns."""
    rows = connection.execute(
        "select attname, format_type(atttypid, atttypmod) as type from pg_attribute "
        "where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped order by attnum",
        [f"{schema}.{name}"],
    ).fetchall()
    return {r["attname"]: r["type"] for r in rows if not r["attname"].startswith("_")}


def model_columns(connection: Connection, mart: Mart) -> dict[str, str]:
    """{column: type} that a mart should have: the columns of its model that are published."""
    candidate_columns = columns(connection, *mart.parts[0])
    return {c: kind for c, kind in candidate_columns.items() if not mart.published or c in mart.published}


def common_columns(connection: Connection, mart: Mart) -> dict[str, str]:
    """{column: type} of the published table, in its order, without columns that are about to be dropped."""
    names = model_columns(connection, mart)
    return {c: kind for c, kind in columns(connection, "marts", mart.name).items() if c in names}


def widen(
    connection: Connection, settings: Settings, published: list[Mart], described: Iterable[DescribedTable]
) -> None:
    """Give the marts the columns and types that the candidate has, and the described tables those of this version; commits.

    Raises NorthstarError when readers leave no pause for it.
    """
    for table in described:
        if columns(connection, "marts", table.name):
            connection.commit()
            change_without_queueing(connection, table.name, partial(table.ensure, connection))
    for mart in published:
        existing_columns, names = columns(connection, "marts", mart.name), model_columns(connection, mart)
        new_columns = {c: kind for c, kind in names.items() if c not in existing_columns}
        retyped_columns = {c: names[c] for c, kind in existing_columns.items() if names.get(c, kind) != kind}
        connection.commit()
        if existing_columns and (new_columns or retyped_columns):
            change_without_queueing(
                connection, mart.name, partial(_widen, connection, settings, mart, new_columns, retyped_columns)
            )


def narrow(settings: Settings, published: list[Mart], progress: Progress) -> None:
    """Drop the columns that models no longer make. If readers leave no pause for it, the next publication does it."""
    with db.connect(settings, "publisher") as connection:
        for mart in published:
            names = model_columns(connection, mart)
            surplus_columns = [c for c in columns(connection, "marts", mart.name) if c not in names]
            connection.commit()
            if surplus_columns:
                try:
                    change_without_queueing(
                        connection, mart.name, partial(_narrow, connection, settings, mart, surplus_columns)
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
        drop_past_view(connection, mart.name)
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
        ensure_past_views(connection, settings)


def _narrow(connection: Connection, settings: Settings, mart: Mart, surplus_columns: list[str]) -> None:
    drop_past_view(connection, mart.name)
    for column in surplus_columns:
        connection.execute(
            sql.SQL("alter table marts.{} drop column {}").format(sql.Identifier(mart.name), sql.Identifier(column))
        )
    ensure_past_views(connection, settings)


def create_tables(connection: Connection, mart: Mart) -> None:
    """Create `marts.<mart>` and `marts_history.<mart>` if they are missing, with the candidate's columns and descriptions."""
    if columns(connection, "marts", mart.name):
        return
    name, names = sql.Identifier(mart.name), model_columns(connection, mart)
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
