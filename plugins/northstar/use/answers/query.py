"""One statement over the published marts."""

from itertools import islice

import psycopg

from northstar.base.errors import NorthstarError
from northstar.use.answers.reading import Reading
from northstar.use.answers.refusals import Reason, Refused
from northstar.use.answers.require import require_limit
from northstar.use.answers.shapes import QueryRows
from northstar.use.query import stream_statement

# the rows of one answer, and the characters of a statement
QUERY_ROWS, MOST_QUERY_ROWS, STATEMENT = 1_000, 50_000, 20_000
# about how much one answer holds
ANSWER_BYTES = 16 * 2**20


def run_query(reading: Reading, sql: str, limit: int = QUERY_ROWS) -> QueryRows:
    """The rows of one statement, run as `bi_reader` with that role's rights and limits. Needs the scope `sql`, and a reading that `is_apart`.

    Raises Refused with Postgres's own message for a statement that fails, and for an answer that is too large.
    """
    reading.require("sql")
    require_limit(limit, MOST_QUERY_ROWS)
    if not sql.strip() or len(sql) > STATEMENT:
        raise Refused("bad_request", f"give one statement of at most {STATEMENT:,} characters")
    if "\0" in sql:
        raise Refused("bad_request", "a statement has no null characters")
    rows: list[list[object]] = []
    size = 0
    try:
        with stream_statement(reading.connection, sql) as (names, stream):
            for row in islice(stream, limit + 1):
                size += sum(len(str(value)) for value in row)
                if size > ANSWER_BYTES:
                    raise Refused("too_much", f"the answer has more than {ANSWER_BYTES >> 20} MB: select less")
                rows.append(list(row))
    except Refused:
        raise
    except NorthstarError as exc:
        raise Refused(_reason(exc.__cause__), str(exc)) from exc
    return QueryRows(reading.provenance, names, len(rows) > limit, rows[:limit])


def _reason(cause: BaseException | None) -> Reason:
    match cause:
        case psycopg.errors.InsufficientPrivilege() | psycopg.errors.ReadOnlySqlTransaction():
            return "not_allowed"
        case psycopg.errors.QueryCanceled():
            return "too_much"
        case _:
            return "bad_request"
