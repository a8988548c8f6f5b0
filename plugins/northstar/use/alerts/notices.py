"""The table `audit.notices`: one row for each alert, open or closed, with what was found and when it was sent."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, TypedDict

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, Row, fetch_all_as
from northstar.warehouse.troubles import newest_warnings, unevaluated_run

# an alert that comes back sooner than this after it closed is continued, and is not sent again
FLAPPING = timedelta(minutes=30)
# over how long it is counted how often an alert fired
COUNTED = timedelta(days=90)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong now.

    key: the same for the same cause. quiet: how long it must be gone before it is over. contributes: what contributes most, in words.
    compared_with: what the threshold is, in words; or, where there is none, what should have been. baseline: what was usual before. also: what
    else was found of the same cause. fired_in_marts: how often the published marts say that it fired in 90 days.
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
    cause: str = ""
    compared_with: str = ""
    baseline: object = None
    also: str = ""
    fired_in_marts: int = 0

    @property
    def rank(self) -> tuple[bool, bool]:
        """Findings of one cause are told by the lowest: what is critical first, then what the documents name an action for."""
        return self.severity != "critical", self.action == "notify owner"


def join_company_wide(anomalies: list[Finding], findings: list[Finding]) -> list[Finding]:
    """The anomalies, of which one of all applications gets the keys of what rules and targets found of its cause in single ones: a cause is told once."""
    joined = []
    for anomaly in anomalies:
        keys = {f.key for f in findings if f.cause == anomaly.cause} if anomaly.application == "all" else set()
        joined += [replace(anomaly, key=key) for key in sorted(keys or {anomaly.key})]
    return joined


def group_by_cause(findings: list[Finding]) -> list[Finding]:
    """One finding for each key: the worst speaks for the others, which it names in `also`."""
    by_key: dict[str, list[Finding]] = {}
    for finding in findings:
        by_key.setdefault(finding.key, []).append(finding)
    return [_merge_findings(group) for group in by_key.values()]


def _merge_findings(findings: list[Finding]) -> Finding:
    worst, *others = sorted(findings, key=lambda f: f.rank)
    also = dict.fromkeys(f"{f.rule.replace('_', ' ')} {f.segment_value or f.metric_id}".strip() for f in others)
    return replace(
        worst,
        since=min(f.since for f in findings),
        also=", ".join(filter(None, (worst.also, *also))),
        quiet=max(f.quiet for f in findings),
        fired_in_marts=max(f.fired_in_marts for f in findings),
    )


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
    cause: str
    compared_with: str
    baseline: Decimal | None
    also: str
    fired_at: list[datetime]
    fired_in_marts: int
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
        values = {**vars(finding), "now": now, "counted": COUNTED}
        if notice is None:
            connection.execute(
                "insert into audit.notices (key, rule, source, metric_id, application, segment, segment_value, severity, action, value, threshold, says, page, "
                "since, opened_at, last_seen_at, quiet, contributes, cause, compared_with, baseline, also, fired_at, fired_in_marts) values (%(key)s, %(rule)s, "
                "%(source)s, %(metric_id)s, %(application)s, %(segment)s, %(segment_value)s, %(severity)s, %(action)s, %(value)s, %(threshold)s, %(says)s, "
                "%(page)s, %(since)s, %(now)s, %(now)s, %(quiet)s, %(contributes)s, %(cause)s, %(compared_with)s, %(baseline)s, %(also)s, array[%(now)s], "
                "%(fired_in_marts)s)", values,
            )  # fmt: skip
            continue
        resets = ""
        if notice["closed_at"] is None or now - notice["closed_at"] < FLAPPING:
            if (notice["severity"], finding.severity) == ("critical", "warning"):
                # an alert that has become critical stays so, and speaks of what made it so, until it is over
                connection.execute(
                    "update audit.notices set last_seen_at = %(now)s, quiet = greatest(quiet, %(quiet)s), closed_at = null where key = %(key)s", values
                )  # fmt: skip
                continue
            if (notice["severity"], finding.severity) == ("warning", "critical"):
                # it is sent again to those who had the warning
                resets = ", told_at = null, reminded_at = null, acknowledged_at = null, acknowledged_by = null"
        else:
            resets = (
                ", since = %(since)s, opened_at = %(now)s, told_at = null, reminded_at = null, told_closed_at = null, "
                "acknowledged_at = null, acknowledged_by = null, "
                "fired_at = array(select f from unnest(fired_at) as f where f > %(now)s - %(counted)s) || array[%(now)s]"
            )
        connection.execute(
            "update audit.notices set rule = %(rule)s, source = %(source)s, metric_id = %(metric_id)s, segment = %(segment)s, segment_value = %(segment_value)s, "
            "severity = %(severity)s, action = %(action)s, value = %(value)s, threshold = %(threshold)s, says = %(says)s, page = %(page)s, last_seen_at = %(now)s, "
            "quiet = %(quiet)s, contributes = %(contributes)s, compared_with = %(compared_with)s, baseline = %(baseline)s, also = %(also)s, "
            f"fired_in_marts = %(fired_in_marts)s, closed_at = null{resets} where key = %(key)s", values,
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
            "application, segment_value as of_which, rule, round(value, 2) as value, concat_ws(': ', compared_with, round(threshold, 2)) as compared_with, "
            "round(baseline, 2) as baseline, greatest(fired_in_marts, (select count(*) from unnest(fired_at) as f where f > last_seen_at - %s)) as fired_90_days, "
            "since, told_at, action, also from audit.notices where %s or closed_at is null order by closed_at desc nulls first, severity, opened_at desc",
            [COUNTED, with_closed],
        ).fetchall()  # fmt: skip


def acknowledge(settings: Settings, number: str, person: str) -> None:
    """Note that somebody works on an alert, which ends its reminders. Raises NorthstarError where there is no such open alert."""
    _change(settings, number, "acknowledged_at = clock_timestamp(), acknowledged_by = %s", person)


def mute(settings: Settings, number: str, hours: float) -> None:
    """Send nothing about an alert for some hours. Raises NorthstarError where there is no such open alert."""
    _change(settings, number, "muted_until = clock_timestamp() + %s", timedelta(hours=hours))


def list_other_troubles(settings: Settings) -> list[str]:
    """What is no alert: that alerts have not been evaluated since a run, and the warnings of the newest audit; as `northstar status` says it."""
    with db.connect(settings, "publisher") as connection:
        unevaluated = unevaluated_run(connection)
        lines = [f"alerts      {unevaluated}"] if unevaluated else []
        return lines + [f"warning     {warning}" for warning in newest_warnings(connection)]


def _change(settings: Settings, number: str, change: str, value: object) -> None:
    with db.connect(settings, "publisher") as connection:
        done = connection.execute(
            f"update audit.notices set {change} where left(md5(key), 8) = %s and closed_at is null", [value, number]
        )
        if not done.rowcount:
            raise NorthstarError(f"no open alert {number}; `northstar alerts list` lists them")
