"""The queries by which readers of the pages ask for the rows behind a number: recorded once for a version of the code, and used through functions."""

from decimal import Decimal

from northstar.base.settings import Settings
from northstar.build.results import read_definitions
from northstar.use.explain.explanation import Library
from northstar.use.explain.readers import Contribution, Found, identity_of
from northstar.use.explain.rows import Term, rows_sql, value_sql
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, Row, fetch_one

# (code version, model, place, measure, kind, SQL), as audit.explained has them
Recorded = tuple[str, str, int, str, str, str]


def record_queries(settings: Settings) -> int:
    """Record the queries of the published version's code, if they are not yet; returns how many were.

    It takes some seconds for code that is new, and nothing else. Raises NorthstarError when the warehouse cannot be reached.
    """
    with db.translate_driver_errors(settings), db.connect(settings, "transformer") as connection:
        published = connection.execute(
            "select p.code_version, p.as_of from marts.publications as p where not exists (select 1 from audit.explained as e "
            "where e.code_version = p.code_version) order by p.published_version desc limit 1"
        ).fetchone() if fetch_one(connection.execute("select to_regclass('marts.publications') as t"))["t"] else None  # fmt: skip
        if published is None:
            return 0
        code_version = published["code_version"]
        queries = find_queries(code_version, Library(read_definitions(connection, code_version), published["as_of"]))
        connection.cursor().executemany(
            "insert into audit.explained (code_version, model, place, measure, kind, sql) values (%s, %s, %s, %s, %s, %s) on conflict do nothing",
            queries,
        )
        return len(queries)


def find_queries(code_version: str, library: Library) -> list[Recorded]:
    """The queries for every measure of every model."""
    queries: list[Recorded] = []
    for definition in library.definitions():
        details = library.details(definition)
        for place, measure in enumerate(definition.measures):
            plain = definition.with_clause(measure.relation)
            detailed = definition.with_clause(measure.relation, details) if details else plain
            for name in measure.measures:
                rows = rows_sql(measure, name)
                for kind, query in (
                    ("value", f"{plain}\n{value_sql(measure, name)}"),
                    ("rows", f"{plain}\n{rows}"),
                    ("details", f"{detailed}\n{rows}"),
                ):
                    if kind != "details" or detailed != plain:
                        queries.append((code_version, definition.name, place, name, kind, query))
    return queries


class ReaderByFunctions:
    """Reads as `bi_reader`, who may read no table behind the marts."""

    def __init__(self, connection: Connection):
        self.connection = connection

    def value(self, term: Term) -> Decimal | None:
        value: Decimal | None = fetch_one(
            self.connection.execute(
                "select explain.value_of(%s, %s, %s, %s, %s, %s, %s, %s, %s) as value", [*_name(term), *term.arguments]
            )
        )["value"]
        return value

    def rows(self, term: Term, weight: Decimal, is_detailed: bool, most: int) -> Found:
        rows = self.connection.execute(
            "select * from explain.rows_of(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::numeric, %s, %s)",
            [*_name(term), *term.arguments, weight, is_detailed, most],
        ).fetchall()
        largest: list[Contribution] = [
            {"contribution": row["contribution"], "source": row["source"], "landed": []} for row in rows
        ]
        return Found(rows[0]["counted"], rows[0]["total"], largest) if rows else Found(0, Decimal(0), [])

    def parts(self, term: Term, weight: Decimal, id_name: str) -> dict[str, Decimal]:
        if not id_name:
            # such as a figure that somebody wrote down: nothing that could be named adds anything to it
            return {}
        rows = self.connection.execute(
            "select * from explain.parts_of(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::numeric, %s)",
            [*_name(term), *term.arguments, weight, id_name],
        )
        return {row["id"] or "(none)": row["contribution"] for row in rows}

    def landed(self, row: Row, sources: list[list[str]]) -> list[Row]:
        identity = identity_of(row, sources)
        if identity is None:
            return []
        name, entities = identity
        found = self.connection.execute(
            "select * from explain.landed_of(%s, %s, %s)", [name, str(row[name]), entities]
        ).fetchall()
        return [{"entity": r["entity"], name: row[name], "rows": r["landed"], "files": r["files"]} for r in found]


def _name(term: Term) -> tuple[str, int, str]:
    return term.definition.name, term.definition.measures.index(term.measure), term.name
