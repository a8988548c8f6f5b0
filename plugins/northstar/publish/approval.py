"""The approval of a publication: a full run that would restate more than `approve_above` says publishes only if somebody agrees.

The publication itself finds out, in its transaction, which is then taken back: so what is asked about is exactly what would be published, and a
run that restates little costs nothing more.
"""

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.base.tables import markdown_table
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, fetch_one

SHOWN_METRICS = 20
SHOWN_VALUES = 20
METRICS = """
    select metric_id as metric, sum(periods)::bigint as values, to_char(min(period_start), 'YYYY-MM-DD') as "from",
        to_char(max(period_start), 'YYYY-MM-DD') as "to", string_agg(distinct reason, ', ') as reasons
    from marts.metric_restatements where new_version = %s group by metric_id order by 2 desc, 1
"""
# where small groups are withheld, a segment's values are for those who may read them
VALUES = """
    select metric_id as metric, grain, to_char(period_start, 'YYYY-MM-DD HH24:MI') as period, application, round(old_value, 4) as old,
        round(new_value, 4) as new, reason
    from marts.metric_restatements where new_version = %s and segment = ''
    order by abs(coalesce(new_value, 0) - coalesce(old_value, 0)) / nullif(greatest(abs(old_value), abs(new_value)), 0) desc nulls last,
        abs(coalesce(new_value, 0) - coalesce(old_value, 0)) desc nulls last, metric_id, grain, period_start, application limit %s
"""


class ApprovalNeeded(NorthstarError):
    """A run would restate more than is allowed without an approval. question: what is to be decided, in Markdown."""

    def __init__(self, run_id: int, version: int, restated: int, allowed: int, question: str):
        super().__init__(
            f"version {version} would restate {restated:,} values of complete periods, and more than {allowed:,} need an approval: readers keep "
            "the version before it until somebody approves this one in Airflow, or with `northstar run --approve`"
        )
        self.run_id, self.version, self.question = run_id, version, question
        self.restated, self.allowed = restated, allowed


def require_approval(connection: Connection, run_id: int, version: int, allowed: int) -> None:
    """Raise ApprovalNeeded if a version's recorded restatements are more than `allowed`, unless somebody has approved this run's."""
    found = fetch_one(
        connection.execute(
            "select coalesce(sum(periods), 0)::bigint as n from marts.metric_restatements where new_version = %s",
            [version],
        )
    )
    restated: int = found["n"]
    if restated <= allowed or _is_approved(connection, run_id):
        return
    raise ApprovalNeeded(run_id, version, restated, allowed, _question(connection, version, restated, allowed))


def record_question(settings: Settings, asked: ApprovalNeeded) -> None:
    """Record that a run's publication waits, for `northstar status` and the alerts."""
    with db.connect(settings, "publisher") as connection:
        connection.execute(
            "insert into audit.approvals (run_id, restated, allowed, question) values (%s, %s, %s, %s) on conflict (run_id) do update set "
            "restated = excluded.restated, allowed = excluded.allowed, question = excluded.question",
            [asked.run_id, asked.restated, asked.allowed, asked.question],
        )


def record_decision(settings: Settings, run_id: int, is_approved: bool, by: str, message: str | None = None) -> None:
    """Record what was decided about a run's publication. message: what the run's row says from now on; None leaves it."""
    with db.connect(settings, "publisher") as connection:
        connection.execute(
            "update audit.approvals set is_approved = %s, decided_by = %s, decided_at = clock_timestamp() where run_id = %s",
            [is_approved, by, run_id],
        )
        if message is not None:
            connection.execute("update audit.runs set message = %s where run_id = %s", [message, run_id])


def describe_pending_approval(connection: Connection) -> str | None:
    """A sentence that says which run waits for an approval, and since when; None while none does."""
    # the home of an older release has no such table until its next run
    if fetch_one(connection.execute("select to_regclass('audit.approvals') as t"))["t"] is None:
        return None
    row = connection.execute(
        "select a.* from audit.approvals as a join audit.runs as r on r.run_id = a.run_id where a.decided_at is null and r.state = 'running'"
    ).fetchone()
    if row is None:
        return None
    return (
        f"run {row['run_id']} waits since {row['asked_at']:%Y-%m-%d %H:%M} UTC for an approval in Airflow: it would restate "
        f"{row['restated']:,} values of complete periods (allowed without one: {row['allowed']:,})"
    )


def _is_approved(connection: Connection, run_id: int) -> bool:
    row = connection.execute("select is_approved from audit.approvals where run_id = %s", [run_id]).fetchone()
    return row is not None and row["is_approved"] is True


def _question(connection: Connection, version: int, restated: int, allowed: int) -> str:
    metrics = connection.execute(METRICS, [version]).fetchall()
    values = connection.execute(VALUES, [version, SHOWN_VALUES]).fetchall()
    more = f" (the first {SHOWN_METRICS} of {len(metrics)})" if len(metrics) > SHOWN_METRICS else ""
    lines = [
        f"Version {version} would restate **{restated:,}** values of complete periods in {len(metrics)} metrics; more than {allowed:,} need an "
        f"approval. Readers keep version {version - 1} meanwhile.",
        "",
        f"**By metric**{more}",
        "",
        *markdown_table(metrics[:SHOWN_METRICS]),
    ]
    if values:
        lines += ["", "**The largest changes** in totals", "", *markdown_table(values)]
    return "\n".join(lines)
