"""Why rows are in quarantine: the commonest reasons, each with an example, for messages."""

from typing import TypedDict

from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.rows import fetch_all_as

MOST_REASONS = 3


class Reason(TypedDict):
    """A reason without the values that differ from row to row, how many rows have it, and one of them."""

    entity: str
    reason: str
    rows: int
    path: str | None
    line: int | None


def commonest_reasons(
    settings: Settings, entity: str | None = None, batch_after: int = -1, most: int = MOST_REASONS
) -> list[Reason]:
    """The commonest reasons of unresolved rows, of one entity or all of them. batch_after: only of later batches."""
    with db.connect(settings, "loader") as connection:
        return fetch_all_as(Reason, connection.execute(
            # a value in quotes is what differs from row to row
            "select entity, max(reason) as reason, count(*) as rows, min(path) as path, (array_agg(line order by path, line))[1] as line "
            "from (select entity, path, line, unnest(reasons) as reason from quarantine.rows where resolved_at is null "
            "and (%(entity)s::text is null or entity = %(entity)s) and batch_id > %(after)s) as reasons "
            "group by entity, regexp_replace(reason, '''[^'']*''', '...', 'g') order by rows desc, reason limit %(most)s",
            {"entity": entity, "after": batch_after, "most": most},
        ))  # fmt: skip


def describe(reasons: list[Reason]) -> str:
    """The reasons as a part of a sentence."""
    return "; ".join(
        f"{r['reason']} ({r['rows']:,} rows of {r['entity']}"
        + (f", such as {r['path']}" + (f", line {r['line']}" if r["line"] is not None else "") if r["path"] else "")
        + ")"
        for r in reasons
    )
