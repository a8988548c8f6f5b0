"""Who reads the rows behind a number: `transformer` by the query itself, or a reader of the pages by functions that the warehouse keeps."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, TypedDict

from northstar.contract import entities
from northstar.use.explain.rows import Term, literal, rows_sql, value_sql
from northstar.warehouse.rows import Connection, Row, fetch_all_as, fetch_one


class Contribution(TypedDict):
    """A row that a measure is made from: what it adds, its own columns, and the landed rows that carry its id."""

    contribution: Decimal
    source: Row
    landed: list[Row]


@dataclass
class Found:
    """The rows that count at a place: how many, what they add in all, and the largest."""

    count: int
    contribution: Decimal
    largest: list[Contribution]


class RowReader(Protocol):
    """Reads what a number is made from. connection: for arithmetic, and for what is published."""

    connection: Connection

    def value(self, term: Term) -> Decimal | None:
        """A measure's value at its place."""

    def rows(self, term: Term, weight: Decimal, is_detailed: bool, most: int) -> Found:
        """The rows that count there, each times `weight`; is_detailed: those that the grouped rows were made of."""

    def parts(self, term: Term, weight: Decimal, id_name: str) -> dict[str, Decimal]:
        """{id: what its rows add}, by the rows' column of that name; '' for a row as a whole."""

    def landed(self, row: Row, sources: list[list[str]]) -> list[Row]:
        """The landed rows that carry the id of `row`: entity, the id's name, how many, and the files that brought them."""


class DirectReader:
    """Reads as `transformer`, who may read every table."""

    def __init__(self, connection: Connection):
        self.connection = connection

    def place(self, text: str) -> str:
        """A query over the relations that this reader reads."""
        return text

    def value(self, term: Term) -> Decimal | None:
        body = term.filled(value_sql(term.measure, term.name))
        value: Decimal | None = fetch_one(self.connection.execute(self.place(f"{term.with_clause}\n{body}")))["value"]
        return value

    def rows(self, term: Term, weight: Decimal, is_detailed: bool, most: int) -> Found:
        query = self.place(rows_text(term, weight, is_detailed))
        total = fetch_one(
            self.connection.execute(
                f"select count(*) as rows, coalesce(sum(contribution), 0) as contribution from (\n{query}\n) as contributions"
            )
        )
        largest = self.connection.execute(
            f"select * from (\n{query}\n) as contributions order by abs(contribution) desc, source::text limit {int(most)}"
        )
        return Found(total["rows"], total["contribution"], fetch_all_as(Contribution, largest))

    def parts(self, term: Term, weight: Decimal, id_name: str) -> dict[str, Decimal]:
        name = literal(id_name)
        value = f"coalesce(source -> '_row' ->> {name}, source ->> {name})" if id_name else "source::text"
        rows = self.connection.execute(
            f"select {value} as id, sum(contribution) as contribution from (\n{rows_text(term, weight, bool(term.details))}\n) as contributions group by 1"
        )
        return {row["id"] or "(none)": row["contribution"] for row in rows}

    def landed(self, row: Row, sources: list[list[str]]) -> list[Row]:
        identity = identity_of(row, sources)
        if identity is None:
            return []
        name, named = identity
        landed_rows = []
        for source in named:
            landed = fetch_one(
                self.connection.execute(
                    f"select count(*) as rows, array_agg(distinct _batch_id) as batches from staging.{source} where {name} = %s",
                    [row[name]],
                )
            )
            if landed["rows"]:
                files = self.connection.execute(
                    "select path from audit.landed_files where entity = %s and batch_id = any(%s) order by path limit 3",
                    [source, landed["batches"]],
                ).fetchall()
                paths = [f["path"] for f in files] or _sources_of(self.connection, landed["batches"])
                landed_rows.append({"entity": source, name: row[name], "rows": landed["rows"], "files": paths})
        return landed_rows


class FactsReader(DirectReader):
    """Reads as `bi_reader` what models are made of where that is published, under the bare names of the marts."""

    def place(self, text: str) -> str:
        return re.sub(r'(?:"[^"]+"\.)?"(?:core|marts_candidate)"\."', '"', text)

    def landed(self, row: Row, sources: list[list[str]]) -> list[Row]:
        return []


def rows_text(term: Term, weight: Decimal, is_detailed: bool) -> str:
    """The query for the rows that count, complete with the values of its place."""
    with_clause = term.detailed_with_clause if is_detailed else term.with_clause
    return f"{with_clause}\n\n{term.filled(rows_sql(term.measure, term.name), weight)}"


def identity_of(row: Row, sources: list[list[str]]) -> tuple[str, list[str]] | None:
    """(the column by which `row` is known where it landed, the entities that have it); None where it has no such column."""
    contract = entities()
    ids = {
        key[0]
        for key in (contract[s].key for level in sources for s in level)
        if len(key) == 1 and row.get(key[0]) is not None
    }
    if not ids:
        return None
    # an id other than the account's is preferred, since many rows share an account
    name = min(ids, key=lambda i: (i == "account_id", i))
    with_id = [[s for s in level if name in contract[s].columns] for level in sources]
    # only the two nearest levels: the farther away, the less the same id has to do with this number
    return name, [s for level in [level for level in with_id if level][:2] for s in level]


def _sources_of(connection: Connection, batches: list[int]) -> list[str]:
    """Where rows came from whose file was delivered again since, or which came from no file: the names of their sources."""
    sources = connection.execute(
        "select distinct source, exists (select 1 from audit.landed_files as f where f.source = b.source and f.entity = b.entity) as has_files "
        "from audit.landing_batches as b where batch_id = any(%s) order by source",
        [batches],
    ).fetchall()
    return [f"{s['source']}, delivered again since" if s["has_files"] else s["source"] for s in sources]
