"""`marts.marks`: what happened that a reader of a chart should know, as one view.

It is made of the mart source_marks (deployments, incidents, prices, from landed rows) and of the table recorded_marks, to which a publication
adds what happened to the numbers themselves (northstar.publish.marks), and people their notes (northstar.use.notes).
"""

from psycopg import sql

from northstar.warehouse.published.described import DescribedTable
from northstar.warehouse.rows import Connection

NAME, SOURCE = "marks", "source_marks"
KINDS = ("deployment", "incident", "price_change", "definition_change", "restatement", "backfill", "rollback", "failed_publication", "hold", "note")  # fmt: skip
COLUMNS = {
    "mark_id": ("text not null", "the mark: its kind, and what it is made of"),
    "kind": ("text not null", f"what it is: {', '.join(KINDS)}"),
    "marked_at": ("timestamptz not null", "when it happened, or began; of a publication, the as_of of its numbers"),
    "ended_at": ("timestamptz", "when it ended; null where it has no end, or none yet"),
    "application": ("text not null", "the product that it is about; 'all' is the company"),
    "metrics": ("text[]", "the metrics that it is about; null: any"),
    "title": ("text not null", "what happened, in words"),
    "details": ("text", "more of it; null where there is no more"),
    "by_whom": ("text", "who wrote a note, held publishing or asked for a backfill; null otherwise"),
}
RECORDED = DescribedTable(
    "recorded_marks",
    "Marks that no landed row says: what publications did to the numbers, runs that failed, and people's notes. The view marks has these and all others.",
    COLUMNS
    | {
        "recorded_at": ("timestamptz not null default clock_timestamp()", "when it was recorded"),
        "recorded_version": ("bigint not null", "the newest version then"),
    },
    ("mark_id",),
)
ABOUT = (
    "Grain: mark_id. What happened that a reader of a chart should know: deployments, incidents, new prices, changed definitions, restatements, backfills, "
    "publications that were held or failed, and people's notes. A view over source_marks and recorded_marks."
)


def marks_query(schema: str) -> str:
    """The SQL query for all marks, over the relations of a schema."""
    return (
        "select mark_id, kind, marked_at, ended_at, application, null::text[] as metrics, title, null::text as details, null::text as by_whom "
        f"from {schema}.{SOURCE} union all select {', '.join(COLUMNS)} from {schema}.recorded_marks"
    )


def ensure_marks(connection: Connection) -> None:
    """Create the table of recorded marks and the view of all, where they are missing and the mart has been published. Called as the publisher."""
    RECORDED.ensure(connection)
    if connection.execute(
        "select 1 where to_regclass('marts.marks') is null and to_regclass('marts.source_marks') is not null"
    ).fetchone():
        view = sql.Identifier("marts", NAME)
        query = sql.SQL(marks_query("marts"))
        connection.execute(sql.SQL("create view {} with (security_invoker = true) as {}").format(view, query))
        connection.execute(sql.SQL("comment on view {} is {}").format(view, sql.Literal(ABOUT)))
        for name, (_, text) in COLUMNS.items():
            connection.execute(
                sql.SQL("comment on column {} is {}").format(sql.Identifier("marts", NAME, name), sql.Literal(text))
            )


def drop_marks(connection: Connection, mart: str) -> None:
    """Drop the view before the columns of a mart change that it reads; ensure_marks creates it again."""
    if mart == SOURCE:
        connection.execute("drop view if exists marts.marks")
