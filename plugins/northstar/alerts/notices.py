"""What was found and who was told: `audit.notices`, one row for each alert, open or closed."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from northstar import db
from northstar.errors import NorthstarError
from northstar.settings import Settings

# an alert that comes back sooner than this after it closed goes on, and nobody is told again
FLAPPING = timedelta(minutes=30)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong now. key: the same for the same trouble; quiet: how long it must be gone before it is over."""

    key: str
    rule: str
    metric_id: str
    application: str
    segment: str
    segment_value: str
    severity: str
    action: str
    value: object
    threshold: object
    since: datetime
    says: str
    page: str
    source: str
    quiet: timedelta = timedelta(0)


def note(connection, findings: list[Finding], sources: set[str], now: datetime) -> None:
    """Open what is new, go on with what is known, close what is over; only notices of `sources` are looked at."""
    for finding in findings:
        known = connection.execute("select * from audit.notices where key = %s for update", [finding.key]).fetchone()
        values = [finding.severity, finding.value, finding.threshold, now, finding.quiet, finding.key]
        if known is None:
            connection.execute(
                "insert into audit.notices (key, rule, source, metric_id, application, segment, segment_value, severity, action, value, threshold, says, page, "
                "since, opened_at, last_seen_at, quiet) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [finding.key, finding.rule, finding.source, finding.metric_id, finding.application, finding.segment, finding.segment_value,
                 finding.severity, finding.action, finding.value, finding.threshold, finding.says, finding.page, finding.since, now, now, finding.quiet],
            )  # fmt: skip
        elif known["closed_at"] is None or now - known["closed_at"] < FLAPPING:
            connection.execute(
                "update audit.notices set severity = %s, value = %s, threshold = %s, last_seen_at = %s, quiet = %s, closed_at = null where key = %s",
                values,
            )
        else:
            connection.execute(
                "update audit.notices set severity = %s, value = %s, threshold = %s, last_seen_at = %s, quiet = %s, closed_at = null, opened_at = last_seen_at, "
                "told_at = null, reminded_at = null, told_closed_at = null, acknowledged_at = null, acknowledged_by = null where key = %s", values,
            )  # fmt: skip
            connection.execute(
                "update audit.notices set since = %s, opened_at = %s where key = %s", [finding.since, now, finding.key]
            )
    connection.execute(
        "update audit.notices set closed_at = %(now)s where closed_at is null and source = any(%(sources)s) and not key = any(%(keys)s) "
        "and last_seen_at + quiet < %(now)s", {"now": now, "sources": list(sources), "keys": [f.key for f in findings]},
    )  # fmt: skip


def to_tell(connection, now: datetime, remind_hours: float) -> list[dict]:
    """The notices that somebody has to hear of, each with `event`: opened, still open (a reminder), closed."""
    return connection.execute(
        "select *, case when closed_at is null and told_at is null then 'opened' when closed_at is null then 'still open' else 'closed' end as event "
        "from audit.notices where (muted_until is null or muted_until <= %(now)s) and ("
        "(closed_at is null and told_at is null) or (closed_at is null and acknowledged_at is null and greatest(told_at, reminded_at) <= %(now)s - %(remind)s) "
        # one that flaps is not told closed before it has stayed so
        "or (closed_at <= %(now)s - %(flapping)s and told_at is not null and told_closed_at is null)) order by severity, opened_at, key",
        {"now": now, "remind": timedelta(hours=remind_hours), "flapping": FLAPPING},
    ).fetchall()


def note_told(connection, notices: list[dict], now: datetime) -> None:
    """Write down that somebody was told."""
    columns = {"opened": "told_at", "still open": "reminded_at", "closed": "told_closed_at"}
    for event, column in columns.items():
        keys = [n["key"] for n in notices if n["event"] == event]
        connection.execute(f"update audit.notices set {column} = %s where key = any(%s)", [now, keys])


def listed(settings: Settings, with_closed: bool = False) -> list[dict]:
    """The open notices (or all), worst and newest first."""
    with db.connect(settings, "publisher") as connection:
        return connection.execute(
            "select left(md5(key), 8) as id, severity, case when closed_at is not null then 'closed' when muted_until > clock_timestamp() then 'muted' "
            "when acknowledged_at is not null then 'acknowledged by ' || acknowledged_by else 'open' end as state, coalesce(nullif(metric_id, ''), rule) as what, "
            "application, segment_value as of_which, round(value, 2) as value, round(threshold, 2) as threshold, since, told_at, action from audit.notices where %s or closed_at is null "
            "order by closed_at desc nulls first, severity, opened_at desc", [with_closed],
        ).fetchall()  # fmt: skip


def acknowledge(settings: Settings, number: str, who: str) -> None:
    """Say that somebody is at it: no reminders. Raises NorthstarError where there is no such open alert."""
    _change(settings, number, "acknowledged_at = clock_timestamp(), acknowledged_by = %s", who)


def mute(settings: Settings, number: str, hours: float) -> None:
    """Tell nobody of it for some hours. Raises NorthstarError where there is no such open alert."""
    _change(settings, number, "muted_until = clock_timestamp() + %s", timedelta(hours=hours))


def _change(settings: Settings, number: str, change: str, value) -> None:
    with db.connect(settings, "publisher") as connection:
        done = connection.execute(
            f"update audit.notices set {change} where left(md5(key), 8) = %s and closed_at is null", [value, number]
        )
        if not done.rowcount:
            raise NorthstarError(f"no open alert {number}; `northstar alerts list` names them")
