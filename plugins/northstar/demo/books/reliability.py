"""Reliability: uptime, errors, and security incidents."""

from northstar.demo.books.ledger import Ledger

ATTEMPTS = {"setup": "integration_success_rate", "call": "integration_call_success_rate"}


def reckon(ledger: Ledger) -> None:
    """Uptime, application errors, integrations, incidents and breaches of security."""
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
