"""The shapes of rows that pass between functions, and of the connections that they come through."""

from datetime import datetime
from typing import Any, TypedDict

import psycopg
from psycopg.rows import DictRow

# a connection as northstar.warehouse.db.connect opens it: its rows are dicts
Connection = psycopg.Connection[DictRow]
# a row whose columns are not known beforehand, such as that of a query which somebody else wrote
Row = dict[str, Any]


class Run(TypedDict):
    """A row of audit.runs, in so far as stages read it."""

    run_id: int
    mode: str
    as_of: datetime
    is_full: bool
    trigger: str
    source_dir: str | None
    mapping: str | None
    code_version: str
    state: str
    built_batch_id: int | None
    published_version: int | None
