"""The table `audit.notices`: one row for each alert, open or closed, with what was found and when it was sent."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, TypedDict

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, Row, fetch_all_as

# an alert that comes back sooner than this after it closed is continued, and is not sent again
FLAPPING = timedelta(minutes=30)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong now.

    key: the same for the same trouble. quiet: how long it must be gone before it is over. contributes: what contributes most, in words.
    """

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
    contributes: str = ""


class KnownNotice(TypedDict):
    """The columns of a row of audit.notices that are read."""

    key: str
    rule: str
    metric_id: str
    application: str
    segment: str
    segment_value: str
    severity: str
    action: str
    value: Decimal | None
    threshold: Decimal | None
    says: str
    page: str
    contributes: str
    since: datetime
    opened_at: datetime
    closed_at: datetime | None
    told_at: datetime | None
    reminded_at: datetime | None
    muted_until: datetime | None


class Notice(KnownNotice):
    """A notice to send, and which event of it: opened, still open, closed."""

    event: Literal["opened", "still open", "closed"]


def store_findings(connection: Connection, findings: list[Finding], sources: set[str], now: datetime) -> None:
    """Open notices for new findings, continue those that are known, and close those that are over; only notices of `sources` are closed."""
    for finding in findings:
        notice = connection.execute("select * from audit.notices where key = %s for update", [finding.key]).fetchone()
        values = {**vars(finding), "now": now}
        if notice is None:
            connection.execute(
                "insert into audit.notices (key, rule, source, metric_id, application, segment, segment_value, severity, action, value, threshold, says, page, "
                "since, opened_at, last_seen_at, quiet, contributes) values (%(key)s, %(rule)s, %(source)s, %(metric_id)s, %(application)s, %(segment)s, "
                "%(segment_value)s, %(severity)s, %(action)s, %(value)s, %(threshold)s, %(says)s, %(page)s, %(since)s, %(now)s, %(now)s, %(quiet)s, %(contributes)s)",
                values,
            )  # fmt: skip
            continue
        if notice["closed_at"] is None or now - notice["closed_at"] < FLAPPING:
            # an alert that has become critical stays so until it is over, and is sent again to those who had the warning
            is_worse = (notice["severity"], finding.severity) == ("warning", "critical")
            values["severity"] = "critical" if notice["severity"] == "critical" else finding.severity
            resets = (
                ", told_at = null, reminded_at = null, acknowledged_at = null, acknowledged_by = null"
                if is_worse
                else ""
            )
        else:
            resets = (
                ", since = %(since)s, opened_at = %(now)s, told_at = null, reminded_at = null, told_closed_at = null, "
                "acknowledged_at = null, acknowledged_by = null"
            )
        connection.execute(
            "update audit.notices set severity = %(severity)s, value = %(value)s, threshold = %(threshold)s, last_seen_at = %(now)s, quiet = %(quiet)s, "
            f"contributes = %(contributes)s, closed_at = null{resets} where key = %(key)s", values,
        )  # fmt: skip
    connection.execute(
        "update audit.notices set closed_at = %(now)s where closed_at is null and source = any(%(sources)s) and not key = any(%(keys)s) "
        "and last_seen_at + quiet < %(now)s", {"now": now, "sources": list(sources), "keys": [f.key for f in findings]},
    )  # fmt: skip


def notices_due(connection: Connection, now: datetime, remind_hours: float) -> list[Notice]:
    """The notices to send, each with `event`: opened, still open (a reminder), closed."""
    rows = connection.execute(
        "select *, case when closed_at is null and told_at is null then 'opened' when closed_at is null then 'still open' else 'closed' end as event "
        "from audit.notices where (muted_until is null or muted_until <= %(now)s) and ("
        "(closed_at is null and told_at is null) or (closed_at is null and acknowledged_at is null and greatest(told_at, reminded_at) <= %(now)s - %(remind)s) "
        # a notice that it closed is sent only once it has stayed closed for FLAPPING
        "or (closed_at <= %(now)s - %(flapping)s and told_at is not null and told_closed_at is null)) order by severity, opened_at, key",
        {"now": now, "remind": timedelta(hours=remind_hours), "flapping": FLAPPING},
    )
    return fetch_all_as(Notice, rows)


def mark_queued(connection: Connection, notices: list[Notice], now: datetime) -> None:
    """Record that these notices are in the outbox, from which they are sent."""
    columns = {"opened": "told_at", "still open": "reminded_at", "closed": "told_closed_at"}
    for event, column in columns.items():
        keys = [n["key"] for n in notices if n["event"] == event]
        connection.execute(f"update audit.notices set {column} = %s where key = any(%s)", [now, keys])


def list_notices(settings: Settings, with_closed: bool = False) -> list[Row]:
    """The open notices (or all), worst and newest first."""
    with db.connect(settings, "publisher") as connection:
        return connection.execute(
            "select left(md5(key), 8) as id, severity, case when closed_at is not null then 'closed' when muted_until > clock_timestamp() then 'muted' "
            "when acknowledged_at is not null then 'acknowledged by ' || acknowledged_by else 'open' end as state, coalesce(nullif(metric_id, ''), rule) as what, "
            "application, segment_value as of_which, round(value, 2) as value, round(threshold, 2) as threshold, since, told_at, action from audit.notices where %s or closed_at is null "
            "order by closed_at desc nulls first, severity, opened_at desc", [with_closed],
        ).fetchall()  # fmt: skip


def acknowledge(settings: Settings, number: str, person: str) -> None:
    """Note that somebody works on an alert, which ends its reminders. Raises NorthstarError where there is no such open alert."""
    _change(settings, number, "acknowledged_at = clock_timestamp(), acknowledged_by = %s", person)


def mute(settings: Settings, number: str, hours: float) -> None:
    """Send nothing about an alert for some hours. Raises NorthstarError where there is no such open alert."""
    _change(settings, number, "muted_until = clock_timestamp() + %s", timedelta(hours=hours))


def _change(settings: Settings, number: str, change: str, value: object) -> None:
    with db.connect(settings, "publisher") as connection:
        done = connection.execute(
            f"update audit.notices set {change} where left(md5(key), 8) = %s and closed_at is null", [value, number]
        )
        if not done.rowcount:
            raise NorthstarError(f"no open alert {number}; `northstar alerts list` lists them")
