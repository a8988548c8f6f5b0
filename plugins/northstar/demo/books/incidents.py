"""What a company's alerts should be open for: the incidents that were planted, and what happened by chance that may not happen at all."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import pandas as pd

from northstar.demo.incidents import Incident

# what landed longer ago wakes nobody (rules.yml); a week's snapshot is judged when the week is over
LOOKED_BACK = timedelta(days=1)


def incidents(tables: Mapping[str, pd.DataFrame], planted: Sequence[Incident], end: datetime) -> list[Incident]:
    """The incidents, by application and cause. tables: entity -> DataFrame in contract shape. end: when the alerts are asked, exclusive, UTC."""
    found = {(i.application, i.cause): i for i in planted}
    for incident in (*_crashes(tables, end), *_security(tables, end), *_vulnerabilities(tables, end)):
        found.setdefault((incident.application, incident.cause), incident)
    return [found[key] for key in sorted(found)]


def _newest_day(table: pd.DataFrame, end: datetime) -> pd.DataFrame:
    return table[(table.occurred_at > end - LOOKED_BACK) & (table.occurred_at < end)]


def _crashes(tables: Mapping[str, pd.DataFrame], end: datetime) -> list[Incident]:
    errors = _newest_day(tables["error_events"], end)
    return [
        Incident(row.application, "errors", "an error of level fatal", row.occurred_at.to_pydatetime())
        for row in errors[errors.level == "fatal"].itertuples()
    ]


def _security(tables: Mapping[str, pd.DataFrame], end: datetime) -> list[Incident]:
    events = _newest_day(tables["security_events"], end)
    is_high = events.severity.isin(["high", "critical"])
    grave = events[
        (events.kind == "breach")
        | (events.severity == "critical")
        | (is_high & (events.kind == "threat_detected"))
        # a product says that none of high severity may happen, by the hour
        | (is_high & (events.application == "web") & (events.occurred_at >= end - timedelta(hours=1)))
    ]
    return [
        Incident(row.application, "security", f"{row.kind}, {row.severity}", row.occurred_at.to_pydatetime())
        for row in grave.itertuples()
    ]


def _vulnerabilities(tables: Mapping[str, pd.DataFrame], end: datetime) -> list[Incident]:
    """Products that allow no critical vulnerability, and had one in the newest complete week's snapshot."""
    monday = end.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=end.weekday())
    quality = tables["code_quality"]
    quality = quality[(quality.component == "all") & (quality.captured_on < monday.date())]
    newest = quality.sort_values("captured_on").drop_duplicates("application", keep="last")
    return [
        Incident(row.application, "vulnerabilities", "a critical vulnerability", monday)
        for row in newest.itertuples()
        if row.critical_vulnerabilities > 0 and row.application in ("coaching", "tutoring")
    ]
