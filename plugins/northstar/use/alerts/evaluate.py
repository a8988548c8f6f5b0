"""Evaluate the alerts: find what is wrong, and send notices to the people concerned.

Alerts have four sources: `signals` (rules.yml on rows that have landed, not audited yet), `targets` (marts.alerts, after each
publication), anomalies (values that their own past does not explain, judged once for each version), and the job itself (failed runs, broken
freshness promises, quarantine). There is one evaluation at a time. The next
evaluation tries an address again that failed.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from statistics import NormalDist
from typing import NotRequired, TypedDict, cast

from psycopg.types.json import Jsonb

from northstar.base.clock import show_utc
from northstar.base.errors import NorthstarError
from northstar.base.formats import format_value
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.use import outbox
from northstar.use.alerts.notices import (
    COUNTED,
    Finding,
    KnownNotice,
    Notice,
    group_by_cause,
    join_company_wide,
    mark_queued,
    notices_due,
    store_findings,
)
from northstar.use.alerts.rules import Rule, rules
from northstar.use.alerts.table import store_open
from northstar.use.anomalies.table import describe_anomaly, refresh_anomalies
from northstar.use.changes import explain_change
from northstar.use.marts import Marts
from northstar.use.notify import Address, Body, Channels, Message, read_channels, send_message
from northstar.use.pages import serve
from northstar.use.pages.links import ROOT, page_path
from northstar.use.words import title_of
from northstar.warehouse import db
from northstar.warehouse.freshness import judge_freshness
from northstar.warehouse.rows import Connection, fetch_all_as, fetch_one

LOCK = 0x6E735F616C657274  # "ns_alert"
FIRST_LOOK = timedelta(hours=1)
# rows commit a little after the time that they carry, so evaluations overlap
OVERLAP = timedelta(minutes=2)
SEVERITIES = {"critical": "critical", "warning": "warning"}
JOB = {
    "run_failed",
    "approval_waits",
    "source_late",
    "source_overdue",
    "source_differs",
    "quarantine_grows",
    "data_late",
    "maintenance_failed",
}
TRENDS = {"rise", "drop", "spike"}
ANOMALY = "anomaly"
# a query for two failed checks in a row: a single failed check is no downtime where a check is made each minute (docs/semantics.md)
TWO_IN_A_ROW = (
    "select exists (select from (select is_up, lag(is_up) over (partition by service order by checked_at) as was_up from staging.uptime_checks "
    "where application = %s and checked_at >= %s and checked_at < %s and not coalesce(is_third_party, false)) as c where not is_up and not was_up) as has_two_failures"
)


class Hit(TypedDict):
    """A row of a rule's query."""

    application: str
    segment: str
    segment_value: str
    value: Decimal | None
    threshold: Decimal | None
    since: datetime
    severity: NotRequired[str]
    compared_with: NotRequired[str]


def evaluate(settings: Settings, now: datetime | None = None, progress: Progress = print) -> list[Notice]:
    """Evaluate once: open, continue and close notices, and send them; returns the notices that were sent.

    Raises NorthstarError when an address could not be reached; the next evaluation tries that address again, and no other.
    """
    now, channels = now or datetime.now(UTC), read_channels(settings)
    with db.connect(settings, "publisher") as connection:
        if not fetch_one(connection.execute("select pg_try_advisory_xact_lock(%s) as got", [LOCK]))["got"]:
            progress("another evaluation is running; it sends the notices")
            return []
        last = fetch_one(connection.execute("select max(evaluated_at) as at from audit.alert_evaluations"))["at"]
        findings, broken = _signals(settings, (last or now - FIRST_LOOK) - OVERLAP, now)
        findings += _targets(settings)
        anomalies, judged_version = _anomalies(settings, broken)
        findings += join_company_wide(anomalies, findings)
        sources = {"targets", ANOMALY, *(rule["rule"] for rule in rules())} - broken.keys()
        store_findings(connection, group_by_cause(findings), sources, now)
        store_open(connection)
        if fetch_one(connection.execute("select to_regclass('marts.publications') as t"))["t"] is None:
            # rows that landed until then are looked at afterwards
            progress("nothing has been published yet: alerts begin with the first version")
        else:
            connection.execute(
                "insert into audit.alert_evaluations (evaluated_at, findings, anomalies_of) values (%s, %s, %s)",
                [now, len(findings), judged_version],
            )
    with db.connect(settings, "publisher") as connection:
        # a lock of the session, not of a transaction: what was sent is committed message by message
        connection.execute("select pg_advisory_lock(%s)", [LOCK])
        failures = [f"the rule {rule} failed: {why}" for rule, why in broken.items()]
        due_notices = [
            n
            for n in notices_due(connection, now, channels.remind_hours)
            if not channels.is_quiet(n["application"], now)
        ]
        routed_notices = [n for n in due_notices if channels.addresses(_route(channels, n))]
        outbox.put(connection, "alert", [_due(channels, n) for n in routed_notices], channels, now)
        mark_queued(connection, routed_notices, now)
        connection.commit()
        sent_notices, problems = _send_waiting(settings, connection, channels, now, progress)
    if len(due_notices) > len(routed_notices):
        progress(
            f"{len(due_notices) - len(routed_notices)} alerts, and notify.yml names no route for them: `northstar alerts list`"
        )
    failures += [f"could not send to {problem}" for problem in problems]
    if failures:
        raise NorthstarError("; ".join(failures))
    return sent_notices


def _is_silent(channels: Channels, notice: KnownNotice, now: datetime) -> bool:
    is_muted = notice["muted_until"] is not None and notice["muted_until"] > now
    return is_muted or channels.is_quiet(notice["application"], now)


def _due(channels: Channels, notice: Notice) -> outbox.Due:
    moment = {
        "opened": f"{notice['opened_at']} {notice['severity']}",
        "still open": max(filter(None, (notice["told_at"], notice["reminded_at"])), default=None),
        "closed": notice["closed_at"],
    }[notice["event"]]
    return outbox.Due(notice["key"], notice["event"], str(moment), _route(channels, notice))


def _send_waiting(
    settings: Settings, connection: Connection, channels: Channels, now: datetime, progress: Progress
) -> tuple[list[Notice], list[str]]:
    """Send every address the notices that it has not had: (the notices that somebody got, each once, the problems)."""
    rows = outbox.waiting(connection, "alert", now)
    # a route's addresses may have changed since
    due_rows = dict.fromkeys(outbox.Due(r["about"], r["event"], r["instance"], r["route"]) for r in rows)
    outbox.put(connection, "alert", due_rows, channels, now)
    rows = outbox.waiting(connection, "alert", now)
    result = connection.execute("select * from audit.notices where key = any(%s)", [[r["about"] for r in rows]])
    notices_by_key = {n["key"]: n for n in fetch_all_as(KnownNotice, result)}
    rows = [
        r for r in rows if r["about"] in notices_by_key and not _is_silent(channels, notices_by_key[r["about"]], now)
    ]
    connection.commit()

    def send_to(address: Address, rows_of_address: list[outbox.Waiting]) -> str | None:
        notices = [_with_event(notices_by_key[r["about"]], r) for r in rows_of_address]
        return send_message(settings, channels, address, _message(settings, channels, notices))

    sent, destinations, problems = outbox.send_each(connection, rows, channels, send_to, now)
    sent_notices = {(r["about"], r["event"]): _with_event(notices_by_key[r["about"]], r) for r in sent}
    if sent_notices:
        progress(f"{len(sent_notices)} alerts sent: {', '.join(destinations)}")
    return list(sent_notices.values()), problems


def _with_event(notice: KnownNotice, row: outbox.Waiting) -> Notice:
    # cast: an event is put into the outbox as it is in a notice
    return cast(Notice, notice | {"event": row["event"]})


def _signals(settings: Settings, since: datetime, now: datetime) -> tuple[list[Finding], dict[str, str]]:
    """What the rules find, and {rule: why it failed}. A rule that fails does not affect the others."""
    findings: list[Finding] = []
    broken: dict[str, str] = {}
    with db.connect(settings, "transformer", autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = on")
        connection.execute("set statement_timeout = '60s'")
        if not fetch_one(connection.execute("select to_regclass('marts.publications') as t"))["t"]:
            return [], {}
        broken_promises = Jsonb(_broken_promises(settings, connection, now))
        for rule in rules():
            try:
                parameters = {
                    "broken_promises": broken_promises,
                    "since": since, "now": now, "metric": rule["metric"], "confidence": settings.rules.alert_confidence,
                    "deviations": NormalDist().inv_cdf((1 + settings.rules.alert_confidence) / 2),
                    "smallest_base": settings.rules.alert_smallest_base, "smallest_change": settings.rules.alert_smallest_change,
                }  # fmt: skip
                rows = fetch_all_as(Hit, connection.execute(rule["sql"], parameters))
                parts = [_largest_part(connection, rule, row) for row in rows]
            except Exception as exc:
                broken[rule["rule"]] = str(exc).splitlines()[0]
                continue
            for row, part in zip(rows, parts, strict=True):
                action = rule.get("actions", {}).get(row["application"], rule["action"])
                findings.append(Finding(
                    _key(rule, row), rule["rule"], rule["metric"], row["application"], row["segment"], row["segment_value"], row.get("severity", rule["severity"]),
                    action, row["value"], row["threshold"], row["since"], rule["says"], rule["page"], rule["rule"], timedelta(minutes=rule["quiet"]), part,
                    rule["cause"], row.get("compared_with", rule["compared_with"]),
                ))  # fmt: skip
    return findings, broken


def _key(rule: Rule, row: Hit) -> str:
    """Alerts of one cause in an application are one; of the job itself each source, and each check, is a cause."""
    if rule["rule"] not in JOB:
        return f"{rule['cause']}|{row['application']}"
    match rule["rule"]:
        case "run_failed":
            part = row["segment"]
        case "data_late":
            # all marts are published together
            part = ""
        case "source_overdue":
            # of a source that cannot be read nothing lands, whichever of its entities was promised
            part = row["segment_value"].partition(".")[0]
        case _:
            part = row["segment_value"]
    return f"{rule['cause']}|{row['application']}|{part}"


def _broken_promises(settings: Settings, connection: Connection, now: datetime) -> list[dict[str, str | float | None]]:
    """The freshness promises that are broken, as rows for the rules."""
    return [
        {
            "rule": "data_late" if promise.kind == "mart" else "source_overdue",
            "kind": promise.kind,
            "name": promise.name,
            "hours": round((now - promise.newest).total_seconds() / 3600, 1) if promise.newest else None,
            "allowed": promise.promise.hours,
            "since": promise.deadline.isoformat() if promise.deadline else None,
            "promised": promise.promised(),
        }
        for promise in judge_freshness(connection, settings.operations.freshness, now)
        if promise.is_late
    ]


def _largest_part(connection: Connection, rule: Rule, row: Hit) -> str:
    """What contributes most to a finding, in words: 'route /search: 31 of 40'; '' for a rule without parts."""
    if "parts" not in rule:
        return ""
    parameters = {"application": row["application"], "segment_value": row["segment_value"], "begin": row["since"], "threshold": row["threshold"]}  # fmt: skip
    largest = connection.execute(
        f"select part, amount, sum(amount) over () as total from ({rule['parts']}) as p order by amount desc, part limit 1",
        parameters,
    ).fetchone()
    if largest is None:
        return ""
    return f"{largest['part']}: {largest['amount']:,.0f} of {largest['total']:,.0f}"


def _targets(settings: Settings) -> list[Finding]:
    """The alerts that are open in the published marts."""
    marts = Marts(settings)
    frame = marts.frame("select * from alerts where closed_at is null and opened_at <= %(as_of)s", as_of=marts.as_of())
    rows = frame.to_dict("records")
    with db.connect(settings, "transformer", autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = on")
        hourly = [r for r in rows if r["metric_id"] == "uptime" and r["grain"] == "hour"]
        lone = {
            r["alert_id"]
            for r in hourly
            if not fetch_one(
                connection.execute(TWO_IN_A_ROW, [r["application"], r["opened_at"] - timedelta(hours=1), marts.as_of()])
            )["has_two_failures"]
        }
    return [
        Finding(f"{r['cause']}|{r['application']}", "target", r["metric_id"], r["application"], r["segment"], r["segment_value"], r["severity"], r["action"],
                r["value"], r["threshold"], r["opened_at"], _missed(r["rule"], r["grain"]), "metrics", "targets", cause=r["cause"],
                compared_with="the usual range's end" if r["rule"] in TRENDS else f"the {r['rule']}", baseline=r["baseline"], fired_in_marts=r["fired_90_days"])
        for r in rows if r["alert_id"] not in lone
    ]  # fmt: skip


def _anomalies(settings: Settings, broken: dict[str, str]) -> tuple[list[Finding], int | None]:
    """What is unusual about the newest values, and the version that was judged. What fails is noted in `broken`, and does not affect the rules."""
    try:
        rows, version = refresh_anomalies(settings)
    except Exception as exc:
        broken[ANOMALY] = str(exc).splitlines()[0]
        return [], None
    marts = Marts(settings)
    catalogue = marts.catalogue()
    found = []
    for row in rows:
        unit = catalogue[row["metric_id"]]["unit"]
        is_above = row["value"] is not None and row["value"] > row["expected"]
        found.append(Finding(
            f"{row['cause']}|{row['application']}", ANOMALY, row["metric_id"], row["application"], row["segment"], row["segment_value"], "warning", "notify owner",
            row["value"], row["high"] if is_above else row["low"], row["period_start"], describe_anomaly(row, unit, marts.currency), "metrics", ANOMALY,
            contributes=", ".join(row["contributors"]), cause=row["cause"], compared_with="the end of what was expected", baseline=row["expected"],
            also=", ".join(row["metrics"][1:]),
        ))  # fmt: skip
    return found, version


def _missed(rule: str, grain: str) -> str:
    """What a target's alert says of it."""
    if rule in TRENDS:
        return f"a {rule} beyond what the eight {grain}s before varied by"
    return f"beyond its {rule}, which most of the eight {grain}s before met"


def _route(channels: Channels, notice: Notice) -> str:
    return notice["action"] if notice["action"] in channels.routes else "default"


def _message(settings: Settings, channels: Channels, notices: list[Notice]) -> Message:
    marts, address = Marts(settings), channels.pages or serve.url(settings)
    counts = [
        f"{sum(n['event'] == event for n in notices)} {event}"
        for event in ("opened", "still open", "closed")
        if any(n["event"] == event for n in notices)
    ]
    names = list(dict.fromkeys(_title(n) for n in notices))
    subject = f"[Northstar] {', '.join(counts)}: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
    texts = [_describe_alert(settings, channels, marts, address, n) for n in notices]
    return Message(
        subject,
        "\n\n".join(texts),
        events=[_event(n, text, _link(address, marts, n), address) for n, text in zip(notices, texts, strict=True)],
    )


def _title(notice: Notice) -> str:
    what = title_of(notice["metric_id"]) if notice["metric_id"] else notice["rule"].replace("_", " ").capitalize()
    return f"{what} ({notice['application']}{', ' + notice['segment_value'] if notice['segment_value'] else ''})"


def runbook(settings: Settings, channels: Channels, rule: str) -> str:
    """The address of the instructions for an alert of the job itself."""
    return f"{channels.runbooks or settings.root / 'docs' / 'runbooks.md'}#{rule}"


def _describe_alert(settings: Settings, channels: Channels, marts: Marts, address: str, notice: Notice) -> str:
    """An alert in words: what, how much, since when, what contributes most, where to look."""
    entry, rule = marts.catalogue().get(notice["metric_id"]), _rule(notice)
    unit = (rule and rule.get("unit")) or (entry["unit"] if entry else "count")
    currency = marts.currency
    lines = [
        f"{notice['event'].upper()}, {notice['severity']}: {_title(notice)}",
        f"  rule {notice['rule']}: {notice['says']}",
    ]
    if notice["value"] is not None and notice["threshold"] is not None:
        usual = "" if notice["baseline"] is None else f", usual {format_value(notice['baseline'], unit, currency)}"
        lines.append(
            f"  value {format_value(notice['value'], unit, currency)}, threshold {format_value(notice['threshold'], unit, currency)} "
            f"({notice['compared_with']}){usual}"
        )
    else:
        lines.append(f"  compared with: {notice['compared_with']}")
    lines.append(f"  fired {_times_fired(notice)} in the last {COUNTED.days} days")
    if notice["also"]:
        lines.append(f"  of the same cause: {notice['also']}")
    lines.append(
        f"  since {show_utc(notice['since'])}"
        + (f", closed {show_utc(notice['closed_at'])}" if notice["closed_at"] else "")
    )
    part = notice["contributes"]
    if notice["rule"] in ("target", "satisfaction_falls") and not notice["segment"] and notice["event"] != "closed":
        part = next(iter(explain_change(marts, notice["metric_id"], notice["application"], currency)), part)
    if part:
        lines.append(f"  contributes most: {part}")
    if notice["rule"] not in ("target", ANOMALY) and notice["rule"] not in JOB and not (rule and "reads" in rule):
        lines.append("  from rows as they landed, before they were audited")
    if notice["rule"] in JOB:
        lines.append(f"  runbook: {runbook(settings, channels, notice['rule'])}")
    lines.append(f"  action: {notice['action']} · {_link(address, marts, notice)}")
    return "\n".join(lines)


def _times_fired(notice: Notice) -> str:
    newest = max(notice["fired_at"], default=notice["since"])
    times = max(notice["fired_in_marts"], sum(at > newest - COUNTED for at in notice["fired_at"]), 1)
    return "once" if times == 1 else f"{times} times"


def _rule(notice: Notice) -> Rule | None:
    """The rule that a notice came from; None for a target."""
    return next((rule for rule in rules() if rule["rule"] == notice["rule"]), None)


def _link(address: str, marts: Marts, notice: Notice) -> str:
    """The address of the page that shows an alert's metric, with the application (and on the page of all metrics the metric) chosen."""
    chosen: dict[str, object] = {}
    if notice["page"] == "metrics":
        chosen["metric"] = notice["metric_id"]
    if notice["application"] in marts.applications():
        chosen["application"] = notice["application"]
    return address + page_path(notice["page"] or ROOT, **(chosen if notice["metric_id"] else {})).removesuffix("/")


def _event(notice: Notice, text: str, link: str, address: str) -> Body:
    """The alert in PagerDuty's format (Events API, version 2), without the key."""
    if notice["event"] == "closed":
        return {"event_action": "resolve", "dedup_key": notice["key"]}
    return {
        "event_action": "trigger", "dedup_key": notice["key"], "client": "Northstar", "client_url": address,
        "links": [{"href": link, "text": "the page"}],
        "payload": {
            "summary": text.splitlines()[0][:1000], "source": f"northstar/{notice['application']}", "severity": SEVERITIES[notice["severity"]],
            "timestamp": notice["since"].isoformat(), "component": notice["metric_id"] or notice["rule"], "group": notice["application"],
            "custom_details": {"text": text, "value": str(notice["value"]), "threshold": str(notice["threshold"])},
        },
    }  # fmt: skip
