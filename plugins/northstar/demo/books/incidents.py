"""What a company's alerts should be open for: the incidents that were planted, and what happened by chance that may not happen at all."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import pandas as pd

from northstar.demo.incidents import Incident

# what landed longer ago wakes nobody (rules.yml); a week's snapshot is judged when the week is over
LOOKED_BACK = timedelta(days=1)
# what goes on for longer is a line in reports; what was so on most days before is no change
LONGEST_ALERT, DAYS_BEFORE, CLEAN_DAYS = timedelta(days=90), 8, 6


def incidents(tables: Mapping[str, pd.DataFrame], planted: Sequence[Incident], end: datetime) -> list[Incident]:
    """The incidents, by application and cause. tables: entity -> DataFrame in contract shape. end: when the alerts are asked, exclusive, UTC."""
    found = {(i.application, i.cause): i for i in planted}
    by_chance = (
        *_crashes(tables, end),
        *_security(tables, end),
        *_vulnerabilities(tables, end),
        *_open_bugs(tables, end),
    )
    for incident in by_chance:
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


def _open_bugs(tables: Mapping[str, pd.DataFrame], end: datetime) -> list[Incident]:
    """A product that allows no open bug of high priority, kept to it on most of eight days, and has had some at the end of each day since."""
    items = tables["work_items"]
    bugs = items[(items.application == "tutoring") & (items.kind == "bug") & items.priority.isin(["critical", "high"])]
    midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
    # how many stood open at the end of each day, the newest first
    open_at_ends = [
        int(((bugs.created_at < at) & ~(bugs.completed_at < at)).sum())
        for at in (midnight - timedelta(days=n) for n in range(LONGEST_ALERT.days + DAYS_BEFORE))
    ]
    days = next((n for n, count in enumerate(open_at_ends) if not count), len(open_at_ends))
    if not 0 < days <= LONGEST_ALERT.days or open_at_ends[days : days + DAYS_BEFORE].count(0) < CLEAN_DAYS:
        return []
    began_at = midnight - timedelta(days=days - 1)
    return [Incident("tutoring", "open_critical_bugs", "a bug of high priority that stands open", began_at)]
