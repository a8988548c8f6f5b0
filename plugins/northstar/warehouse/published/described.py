"""Tables of `marts` that no dbt model makes. They are created when missing, with the descriptions that every table there has."""

from dataclasses import dataclass

from psycopg import sql

from northstar.warehouse.rows import Connection, fetch_one


@dataclass(frozen=True)
class DescribedTable:
    """A table of the schema `marts`. columns: {name: (type with constraints, description)}; key: the primary key's columns."""

    name: str
    about: str
    columns: dict[str, tuple[str, str]]
    key: tuple[str, ...] = ()

    def ensure(self, connection: Connection) -> None:
        """Create and describe the table if it is missing; add the columns (nullable, or with a default) and descriptions that a table of an
        older version lacks."""
        table = sql.Identifier("marts", self.name)
        existing_table = fetch_one(connection.execute(
            "select obj_description(to_regclass(%s)) as about, to_regclass(%s) as t", [f"marts.{self.name}"] * 2
        ))  # fmt: skip
        if existing_table["t"] is None:
            kinds = [
                sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, (kind, _) in self.columns.items()
            ]
            if self.key:
                kinds.append(sql.SQL("primary key ({})").format(sql.SQL(", ").join(map(sql.Identifier, self.key))))
            connection.execute(sql.SQL("create table {} ({})").format(table, sql.SQL(", ").join(kinds)))
        else:
            existing_columns = connection.execute(
                "select attname from pg_attribute where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped",
                [f"marts.{self.name}"],
            ).fetchall()
            missing = self.columns.keys() - {r["attname"] for r in existing_columns}
            for name in [name for name in self.columns if name in missing]:
                kind = sql.SQL(self.columns[name][0])
                connection.execute(sql.SQL("alter table {} add column {} {}").format(table, sql.Identifier(name), kind))
                existing_table["about"] = None
        if existing_table["about"] is None:
            connection.execute(sql.SQL("comment on table {} is {}").format(table, sql.Literal(self.about)))
            for name, (_, text) in self.columns.items():
                connection.execute(
                    sql.SQL("comment on column {}.{} is {}").format(table, sql.Identifier(name), sql.Literal(text))
                )
