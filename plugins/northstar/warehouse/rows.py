"""The shapes of rows that pass between functions, and of the connections that they come through."""

from datetime import datetime
from typing import Any, TypedDict, TypeVar, cast

import psycopg
from psycopg.rows import DictRow

# a connection as northstar.warehouse.db.connect opens it: its rows are dicts
Connection = psycopg.Connection[DictRow]
# a row whose columns are not known beforehand, such as that of a query which somebody else wrote
Row = dict[str, Any]
# what the places of a query take by name: whatever psycopg can write
Parameters = dict[str, Any]
Shape = TypeVar("Shape")


def one(cursor: psycopg.Cursor[DictRow]) -> DictRow:
    """The row of a query that always gives one. Raises LookupError where it gave none."""
    row = cursor.fetchone()
    if row is None:
        raise LookupError("a query that always gives a row gave none")
    return row


def shaped(shape: type[Shape], row: Row) -> Shape:
    """A row as the TypedDict that its query makes it."""
    # a TypedDict is a dict when the program runs, and what columns a query has is written in its text
    return cast(Shape, row)


def all_shaped(shape: type[Shape], cursor: psycopg.Cursor[DictRow]) -> list[Shape]:
    """The rows of a query as the TypedDict that it makes each."""
    # as above
    return cast(list[Shape], cursor.fetchall())


class Turn(TypedDict):
    """A row of audit.writer_lease. process_id, process_began: of a command's process, or the scheduler's of a DAG run."""

    run_id: int
    holder: str
    host: str
    process_id: int | None
    process_began: str | None
    taken_at: datetime
    is_dag_run: bool


class HeldTurn(Turn):
    """The same, with whether the next who asks may take it."""

    is_over: bool


class Run(TypedDict):
    """A row of audit.runs, in so far as stages read it."""

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


class Publication(TypedDict):
    """A row of marts.publications, in so far as the next version is compared with it."""

    published_version: int
    as_of: datetime
    restores_version: int | None
    code_version: str | None
