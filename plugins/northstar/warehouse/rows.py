"""The types of rows that functions pass to each other, and of the connections that rows come from."""

from datetime import datetime
from typing import Any, TypedDict, TypeVar, cast

import psycopg
from psycopg.rows import DictRow

# a connection as northstar.warehouse.db.connect opens it: its rows are dicts
Connection = psycopg.Connection[DictRow]
# a row whose columns are not known beforehand, such as a row of a user's query
Row = dict[str, Any]
# the values of a query's named placeholders: whatever psycopg can write
Parameters = dict[str, Any]
Shape = TypeVar("Shape")


def fetch_one(cursor: psycopg.Cursor[DictRow]) -> DictRow:
    """The row of a query that always gives one. Raises LookupError if it gave none."""
    row = cursor.fetchone()
    if row is None:
        raise LookupError("a query that always gives a row gave none")
    return row


def as_shape(shape: type[Shape], row: Row) -> Shape:
    """A row as the TypedDict that its query makes it."""
    # a TypedDict is a dict at run time, and only the text of a query says which columns it has
    return cast(Shape, row)


def fetch_all_as(shape: type[Shape], cursor: psycopg.Cursor[DictRow]) -> list[Shape]:
    """The rows of a query, each as the TypedDict that the query makes it."""
    # as in `as_shape`
    return cast(list[Shape], cursor.fetchall())


class Turn(TypedDict):
    """A row of audit.writer_lease. process_id, process_began: of a command's own process, or of the scheduler of a DAG run."""

    run_id: int
    holder: str
    host: str
    process_id: int | None
    process_began: str | None
    taken_at: datetime
    is_dag_run: bool


class HeldTurn(Turn):
    """A turn, with whether the next one who asks may take it."""

    is_over: bool


class Run(TypedDict):
    """A row of audit.runs: the columns that stages read."""

    run_id: int
    mode: str
    as_of: datetime
    started_at: datetime
    is_full: bool
    trigger: str
    source_dir: str | None
    mapping: str | None
    code_version: str
    state: str
    built_batch_id: int | None
    published_version: int | None
    rebuilds: list[str] | None


class Publication(TypedDict):
    """A row of marts.publications: the columns that the next version is compared with."""

    published_version: int
    as_of: datetime
    restores_version: int | None
    code_version: str | None
