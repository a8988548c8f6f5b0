"""Reliability: uptime, errors, and security incidents."""

from collections import defaultdict

from northstar.demo.books.ledger import Ledger
from northstar.demo.books.times import seconds

ATTEMPTS = {"setup": "integration_success_rate", "call": "integration_call_success_rate"}


def reckon(ledger: Ledger) -> None:
    """Uptime, application errors, integrations, incidents and breaches of security."""
    _uptime_by_time(ledger)
    for row in ledger.rows["uptime_checks"]:
        metric, service = "third_party_uptime" if row["is_third_party"] else "uptime", {"service": row["service"]}
        ledger.add(metric, row["checked_at"], row["application"], int(row["is_up"]), 1, service)
    for row in ledger.rows["error_events"]:
        if row["level"] in ("error", "fatal"):
            segments = {"level": row["level"], "service": row["service"]}
            ledger.add("application_errors", row["occurred_at"], row["application"], 1, None, segments)
    for row in ledger.rows["integration_calls"]:
        tried, integration = ATTEMPTS.get(row["kind"]), {"integration": row["integration"]}
        if tried:
            ledger.add(tried, row["occurred_at"], row["application"], int(row["succeeded"]), 1, integration)
    for row in ledger.rows["security_events"]:
        when, application, kind, severity = (row[n] for n in ("occurred_at", "application", "kind", "severity"))
        is_grave, segments = int(severity in ("high", "critical")), {"kind": kind, "severity": severity}
        ledger.add("security_incidents", when, application, is_grave, None, segments)
        ledger.add("security_breaches", when, application, int(kind == "breach"))


def _uptime_by_time(ledger: Ledger) -> None:
    """How long services were up of the time for which their state was known: a state holds until the next, the newest until the books close."""
    services = defaultdict(list)
    for row in ledger.rows["service_states"]:
        services[row["application"], row["service"]].append((row["changed_at"], row["is_up"]))
    for (application, service), states in services.items():
        states.sort(key=lambda state: state[0])
        ends = [since for since, _ in states[1:]] + [ledger.as_of]
        for (since, is_up), until in zip(states, ends, strict=True):
            while is_up is not None and since < until:
                end = min(until, ledger.next_month(ledger.month_of(since)))
                span = seconds(end - since)
                ledger.add("uptime_by_time", since, application, span * int(is_up), span, {"service": service})
                since = end
