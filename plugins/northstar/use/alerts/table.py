"""`marts.open_alerts`: the open alerts as readers see them, those of landed rows and of the job among them. It follows each evaluation."""

from northstar.use.alerts.notices import COUNTED
from northstar.warehouse.published.described import DescribedTable
from northstar.warehouse.rows import Connection

OPEN_ALERTS = DescribedTable(
    "open_alerts",
    "The alerts that were open when they were last evaluated, one for each cause in each application.",
    {
        "alert": ("text", "the alert, as northstar alerts list names it"),
        "severity": ("text not null", "critical or warning"),
        "state": ("text not null", "open, muted, or who is at it"),
        "cause": ("text not null", "what it is a sign of; alerts of one cause are one"),
        "metric_id": ("text not null", "the metric; '' where it is about the job"),
        "application": ("text not null", "the product; northstar: the job itself"),
        "segment_value": ("text not null", "the part of it; '' is the whole"),
        "rule": ("text not null", "the rule of rules.yml that found it, or target"),
        "says": ("text not null", "the rule in words"),
        "value": ("numeric", "the value that was found"),
        "threshold": ("numeric", "what it was compared with; null where that is no number"),
        "compared_with": ("text not null", "what the threshold is, in words"),
        "baseline": ("numeric", "what was usual before; null where the rule asks nothing of it"),
        "fired_90_days": ("bigint not null", "how often it fired in the last 90 days"),
        "since": ("timestamptz not null", "since when"),
        "action": ("text not null", "what to do"),
        "contributes": ("text not null", "what contributes most"),
        "also": ("text not null", "what else was found of the same cause"),
    },
    ("alert",),
)


def store_open(connection: Connection) -> None:
    """Make marts.open_alerts what audit.notices says now; in the transaction of the evaluation. Nothing before the first publication."""
    published = connection.execute("select 1 where to_regclass('marts.publications') is not null").fetchone()
    if published is None:
        return
    OPEN_ALERTS.ensure(connection)
    connection.execute("delete from marts.open_alerts")
    connection.execute(
        "insert into marts.open_alerts select left(md5(key), 8), severity, case when muted_until > clock_timestamp() then 'muted' "
        "when acknowledged_at is not null then 'acknowledged by ' || acknowledged_by else 'open' end, cause, metric_id, application, segment_value, rule, says, "
        "value, threshold, compared_with, baseline, "
        "greatest(fired_in_marts, (select count(*) from unnest(fired_at) as f where f > last_seen_at - %s)), since, action, contributes, also "
        "from audit.notices where closed_at is null", [COUNTED],
    )  # fmt: skip
