"""Incidents that the simulator plants in a company's last hours, so that somebody can see whether the alerts find them.

Each kind changes or adds a few source rows, as the trouble would. `books.incidents` lists them, with what happened without being planted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from northstar.demo.operations import TableRow

if TYPE_CHECKING:
    # for the type checker alone: company.py imports this module
    from northstar.demo.company import Company

# fewer page loads a day say nothing of how fast pages are
LOADS_A_DAY = 30


@dataclass(frozen=True)
class Incident:
    """Something that an alert should be open for at the company's end. cause: as the alerts name it. what: in words."""

    application: str
    cause: str
    what: str
    began_at: datetime


@dataclass(frozen=True)
class Kind:
    """A kind of incident. plant: changes the tables and says since when. applications: those whose rules or targets look for it; None: all."""

    cause: str
    what: str
    plant: Callable[["Company", str], pd.Timestamp]
    needs: str
    applications: tuple[str, ...] | None = None


def plant(company: "Company", count: int) -> list[Incident]:
    """Plant up to `count` incidents, each of another cause or in another application, and return them."""
    random = company.random("incidents")
    possible = [
        (kind, application)
        for kind in KINDS
        for application in company.applications
        if kind.needs in company.tables
        and _has_rows(company, kind, application)
        and (kind.applications is None or application in kind.applications)
        and (kind.needs != "web_vitals" or _is_well_measured(company, application))
    ]
    planted: dict[tuple[str, str], Incident] = {}
    for number in random.permutation(len(possible)):
        kind, application = possible[number]
        if len(planted) < count and (application, kind.cause) not in planted:
            began_at = kind.plant(company, application)
            planted[application, kind.cause] = Incident(application, kind.cause, kind.what, began_at.to_pydatetime())
    return sorted(planted.values(), key=lambda i: (i.application, i.cause))


def _has_rows(company: "Company", kind: Kind, application: str) -> bool:
    """Whether an application has rows that the incident changes, or takes as a model: a very small company may have none."""
    rows = company.tables[kind.needs]
    is_own = rows.application == application
    if kind.needs == "events":
        is_own &= rows.event_name == "user.login"
    return bool(is_own.any())


def _outage(company: "Company", application: str) -> pd.Timestamp:
    checks = company.tables["uptime_checks"]
    newest = checks[(checks.service == f"{application}_api") & (checks.checked_at < company.end)].nlargest(
        3, "checked_at"
    )
    checks.loc[newest.index, "is_up"] = False
    return newest.checked_at.min()


def _failing_payments(company: "Company", application: str) -> pd.Timestamp:
    charges = company.tables["charges"]
    model = charges[charges.application == application].iloc[-1].to_dict()
    times = _times(company, timedelta(minutes=4), timedelta(seconds=20), 8)
    # whoever pays meanwhile fails as well
    meanwhile = (charges.application == application) & (charges.created_at >= times[0])
    charges.loc[meanwhile, ["status", "failure_code"]] = ["failed", "processor_down"]
    append_rows(company, "charges", [
        model | {"charge_id": f"ch_in_{application}_{n}", "payment_id": f"pay_in_{application}_{n}", "status": "failed",
                 "failure_code": "processor_down", "created_at": at, "updated_at": at}
        for n, at in enumerate(times)
    ])  # fmt: skip
    return times[0]


def _guessed_passwords(company: "Company", application: str) -> pd.Timestamp:
    events = company.tables["events"]
    model = events[(events.event_name == "user.login") & (events.application == application)].iloc[-1].to_dict()
    times = _times(company, timedelta(minutes=40), timedelta(seconds=12), 14)
    append_rows(company, "events", [
        model | {"event_id": f"ev_in_{application}_{n}", "event_name": "user.login_failed", "occurred_at": at, "received_at": at,
                 "session_id": f"s_in_{application}", "consent": True}
        for n, at in enumerate(times)
    ])  # fmt: skip
    return times[0]


def _breach(company: "Company", application: str) -> pd.Timestamp:
    [at] = _times(company, timedelta(minutes=50), timedelta(0), 1)
    row: TableRow = {"security_event_id": f"se_in_{application}", "application": application, "kind": "breach", "severity": "critical", "occurred_at": at}  # fmt: skip
    append_rows(company, "security_events", [row])
    return at


def _crashes(company: "Company", application: str) -> pd.Timestamp:
    times = _times(company, timedelta(minutes=30), timedelta(minutes=3), 4)
    append_rows(company, "error_events", [
        {"error_id": f"er_in_{application}_{n}", "application": application, "service": "worker", "level": "fatal", "fingerprint": "fp_incident",
         "is_user_facing": True, "occurred_at": at}
        for n, at in enumerate(times)
    ])  # fmt: skip
    return times[0]


def _slow_database(company: "Company", application: str) -> pd.Timestamp:
    statements = company.tables["query_stats"]
    since = pd.Timestamp(company.end) - timedelta(hours=3)
    slow = (
        (statements.application == application)
        & (statements.window_start >= since)
        & (statements.window_start < company.end)
    )
    statements.loc[slow, "total_ms"] = statements.loc[slow, "calls"] * 450.0
    return statements.loc[slow, "window_start"].min()


def _busy_machine(company: "Company", application: str) -> pd.Timestamp:
    samples = company.tables["resource_samples"]
    newest = samples[(samples.resource == f"{application}_app_server") & (samples.sampled_at < company.end)].nlargest(
        4, "sampled_at"
    )
    samples.loc[newest.index, "cpu_percent"] = 97.0
    return newest.sampled_at.min()


def _failing_requests(company: "Company", application: str) -> pd.Timestamp:
    times = _times(company, timedelta(minutes=50), timedelta(seconds=7), 420)
    append_rows(
        company,
        "api_requests",
        [_request(application, n, at, 503 if n % 2 else 200, 140.0) for n, at in enumerate(times)],
    )
    return times[0]


def _slow_requests(company: "Company", application: str) -> pd.Timestamp:
    # within five minutes of the clock
    begin = (pd.Timestamp(company.end) - timedelta(minutes=20)).floor("5min")
    times = [begin + timedelta(seconds=4 * n) for n in range(60)]
    append_rows(
        company, "api_requests", [_request(application, 1000 + n, at, 200, 9000.0) for n, at in enumerate(times)]
    )
    return begin


def _request(application: str, number: int, at: pd.Timestamp, status: int, duration: float) -> TableRow:
    return {"request_id": f"rq_in_{application}_{number}", "application": application, "service": "api", "route": "/search", "status_code": status,
            "duration_ms": duration, "is_critical": False, "occurred_at": at}  # fmt: skip


def _many_tickets(company: "Company", application: str) -> pd.Timestamp:
    tickets = company.tables["tickets"]
    model = tickets[tickets.application == application].iloc[-1].to_dict()
    # within half an hour of the clock
    begin = (pd.Timestamp(company.end) - timedelta(minutes=40)).floor("30min")
    begin = max(begin, pd.Timestamp(company.people.created_at.min()))
    times = [begin + timedelta(seconds=60 + 40 * n) for n in range(14)]
    append_rows(company, "tickets", [
        model | {"ticket_id": f"ti_in_{application}_{n}", "category": "bug", "status": "open", "merged_into_ticket_id": None, "created_at": at, "updated_at": at}
        for n, at in enumerate(times)
    ])  # fmt: skip
    append_rows(company, "ticket_events", [
        {"ticket_event_id": f"te_in_{application}_{n}", "ticket_id": f"ti_in_{application}_{n}", "event_type": "created", "actor_type": "customer", "occurred_at": at}
        for n, at in enumerate(times)
    ])  # fmt: skip
    return begin


def _slow_pages(company: "Company", application: str) -> pd.Timestamp:
    loads = company.tables["web_vitals"]
    midnight = pd.Timestamp(company.end).floor("D")
    slow = (
        (loads.application == application)
        & (loads.occurred_at >= midnight - timedelta(days=1))
        & (loads.occurred_at < midnight)
    )
    loads.loc[slow, ["lcp_ms", "tti_ms", "page_load_ms"]] *= 4
    return midnight - timedelta(days=1)


def _is_well_measured(company: "Company", application: str) -> bool:
    loads = company.tables["web_vitals"]
    midnight = pd.Timestamp(company.end).floor("D")
    own = loads[
        (loads.application == application)
        & (loads.occurred_at < midnight)
        & (loads.occurred_at >= midnight - timedelta(days=9))
    ]
    days = own.groupby(own.occurred_at.dt.floor("D")).size()
    return len(days) == 9 and bool(days.min() >= LOADS_A_DAY)


def _times(company: "Company", before_end: timedelta, apart: timedelta, count: int) -> list[pd.Timestamp]:
    begin = pd.Timestamp(company.end) - before_end
    return [begin + number * apart for number in range(count)]


def append_rows(company: "Company", entity: str, rows: list[TableRow]) -> None:
    """Add rows to a company's table, with its columns and their types; what a row does not name is empty."""
    table = company.tables[entity]
    more = pd.DataFrame(rows).reindex(columns=table.columns)
    for column in table.columns:
        if isinstance(table[column].dtype, pd.DatetimeTZDtype):
            more[column] = pd.to_datetime(more[column], utc=True).astype(table[column].dtype)
        elif table[column].dtype != np.object_:
            more[column] = more[column].astype(table[column].dtype)
        else:
            more[column] = more[column].astype(object).where(more[column].notna(), None)
    company.tables[entity] = pd.concat([table, more], ignore_index=True)


KINDS = (
    Kind("availability", "a service is down", _outage, "uptime_checks"),
    Kind("availability", "half of the requests fail", _failing_requests, "api_requests", ("suite", "web", "tutoring")),
    Kind("payments", "no payment goes through", _failing_payments, "charges"),
    Kind("logins", "somebody guesses an account's password", _guessed_passwords, "events"),
    Kind("security", "a breach", _breach, "security_events"),
    Kind("errors", "a service crashes", _crashes, "error_events"),
    Kind("speed", "the database is slow", _slow_database, "query_stats"),
    Kind("speed", "a machine is overloaded", _busy_machine, "resource_samples"),
    Kind("speed", "requests are slow", _slow_requests, "api_requests", ("coaching", "tutoring")),
    Kind("speed", "pages were slow for a day", _slow_pages, "web_vitals", ("tutoring",)),
    Kind("support", "many ask for help at once", _many_tickets, "tickets"),
)
