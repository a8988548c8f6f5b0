"""The approval of a publication: a full run that would restate more than `approve_above` says publishes only if somebody agrees.

The publication itself finds out, in its transaction, which is then taken back: so what is asked about is exactly what would be published, and a
run that restates little costs nothing more.
"""

from northstar.base.clock import show_utc
from northstar.base.errors import NorthstarError
from northstar.base.formats import format_change, format_value
from northstar.base.settings import Settings
from northstar.base.tables import markdown_table
from northstar.build.differences import DEFINITION, SETTING, Differences, certificate_rules, rule_values
from northstar.publish.restatements import code_differences
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, Publication, Row, Run, fetch_one

SHOWN_METRICS = 20
SHOWN_VALUES = 20
SHOWN_MODELS = 12
METRICS = """
    select metric_id as metric, sum(periods)::bigint as values, to_char(min(period_start), 'YYYY-MM-DD') as "from",
        to_char(max(period_start), 'YYYY-MM-DD') as "to", replace(string_agg(distinct reason, ', '), '_', ' ') as reasons
    from marts.metric_restatements where new_version = %s group by metric_id order by 2 desc, 1
"""
# where small groups are withheld, a segment's values are for those who may read them
VALUES = """
    select r.metric_id, r.grain, r.period_start, r.application, r.old_value, r.new_value, replace(r.reason, '_', ' ') as reason, m.unit
    from marts.metric_restatements as r left join marts_candidate.metrics as m using (metric_id)
    where r.new_version = %s and r.segment = ''
    order by abs(coalesce(new_value, 0) - coalesce(old_value, 0)) / nullif(greatest(abs(old_value), abs(new_value)), 0) desc nulls last,
        abs(coalesce(new_value, 0) - coalesce(old_value, 0)) desc nulls last, metric_id, grain, period_start, application limit %s
"""
REASONS = "select reason, sum(periods)::bigint as values from marts.metric_restatements where new_version = %s group by 1 order by 2 desc, 1"
CHANGED_ROWS = (
    "select kind, string_agg(distinct entity, ', ' order by entity) as entities from core.changed_hours group by 1"
)


class ApprovalNeeded(NorthstarError):
    """A run would restate more than is allowed without an approval. question: what is to be decided, in Markdown."""

    def __init__(self, run_id: int, version: int, restated: int, allowed: int, question: str):
        super().__init__(
            f"version {version} would restate {restated:,} values of complete periods, and more than {allowed:,} need an approval: readers keep "
            "the version before it until somebody approves this one in Airflow, or with `northstar run --approve`"
        )
        self.run_id, self.version, self.question = run_id, version, question
        self.restated, self.allowed = restated, allowed


def require_approval(
    connection: Connection, settings: Settings, run: Run, version: int, previous: Publication, allowed: int
) -> None:
    """Raise ApprovalNeeded if a version's recorded restatements are more than `allowed`, unless somebody has approved this run's. previous: the version that readers see."""
    found = fetch_one(
        connection.execute(
            "select coalesce(sum(periods), 0)::bigint as n from marts.metric_restatements where new_version = %s",
            [version],
        )
    )
    restated: int = found["n"]
    if restated <= allowed or _is_approved(connection, run["run_id"]):
        return
    differences = code_differences(connection, settings, previous, run["code_version"])
    question = _question(connection, settings, version, previous, differences, restated, allowed)
    raise ApprovalNeeded(run["run_id"], version, restated, allowed, question)


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
        f"run {row['run_id']} waits since {show_utc(row['asked_at'])} for an approval in Airflow: it would restate "
        f"{row['restated']:,} values of complete periods (allowed without one: {row['allowed']:,})"
    )


def _is_approved(connection: Connection, run_id: int) -> bool:
    row = connection.execute("select is_approved from audit.approvals where run_id = %s", [run_id]).fetchone()
    return row is not None and row["is_approved"] is True


def _question(
    connection: Connection,
    settings: Settings,
    version: int,
    previous: Publication,
    differences: Differences | None,
    restated: int,
    allowed: int,
) -> str:
    metrics = connection.execute(METRICS, [version]).fetchall()
    values = connection.execute(VALUES, [version, SHOWN_VALUES]).fetchall()
    more = f" (the first {SHOWN_METRICS} of {len(metrics)})" if len(metrics) > SHOWN_METRICS else ""
    lines = [
        f"Version {version} would restate **{restated:,}** values of complete periods in {len(metrics)} metrics; more than {allowed:,} need an "
        f"approval. Readers keep version {previous['published_version']} meanwhile.",
        "",
        "**Why**",
        "",
        *_why(connection, settings, version, previous, differences),
    ]
    if values:
        currency = settings.rules.reporting_currency
        lines += [
            "",
            "**The largest changes** in totals",
            "",
            *markdown_table([_in_words(row, currency) for row in values]),
        ]
    lines += ["", f"**By metric**{more}", "", *markdown_table(metrics[:SHOWN_METRICS])]
    return "\n".join(lines)


def _why(
    connection: Connection, settings: Settings, version: int, previous: Publication, differences: Differences | None
) -> list[str]:
    """A line for each reason: how many values have it, and what changed: rows, models, settings."""
    counts = {r["reason"]: r["values"] for r in connection.execute(REASONS, [version]).fetchall()}
    changed = {r["kind"]: f"rows of {r['entities']}" for r in connection.execute(CHANGED_ROWS).fetchall()}
    if differences is not None:
        models = sorted(node.rsplit(".", 1)[-1] for node, causes in differences.nodes.items() if DEFINITION in causes)
        named = ", ".join(models[:SHOWN_MODELS]) + (
            f" and {len(models) - SHOWN_MODELS} more" if len(models) > SHOWN_MODELS else ""
        )
        changed[DEFINITION] = f"changed in {named}" if models else ""
        old_rules, _ = certificate_rules(connection, previous["published_version"])
        new_rules = rule_values(settings)
        changed[SETTING] = ", ".join(
            f"{name} is {new_rules[name]} (was {old_rules.get(name, 'not set')})" for name in sorted(differences.rules)
        )
    return [
        f"- {reason.replace('_', ' ')}: {count:,} values" + (f"; {changed[reason]}" if changed.get(reason) else "")
        for reason, count in counts.items()
    ]


def _in_words(row: Row, currency: str) -> dict[str, str]:
    unit = row["unit"] or "count"
    form = "%Y-%m-%d %H:%M" if row["grain"] == "hour" else "%Y-%m-%d"
    return {
        "metric": row["metric_id"], "grain": row["grain"], "period": f"{row['period_start']:{form}}", "application": row["application"],
        "readers see": format_value(row["old_value"], unit, currency), "would become": format_value(row["new_value"], unit, currency),
        "change": format_change(row["new_value"], row["old_value"], unit), "reason": row["reason"],
    }  # fmt: skip
