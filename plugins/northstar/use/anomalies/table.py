"""`marts.anomalies`: what is unusual about the newest published values, one row for each cause in each application.

It is judged once for each version, when the alerts are evaluated after its publication.
"""

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TypedDict

from northstar.base.config_files import read_own_yaml
from northstar.base.formats import format_value
from northstar.base.settings import Settings
from northstar.build.needs import alert_causes, metric_entities
from northstar.use import pages
from northstar.use.anomalies.find import Anomaly, find_anomalies
from northstar.use.anomalies.interval import YEARS
from northstar.use.anomalies.reasons import DEPLOYMENT, INCIDENT, KINDS, UNKNOWN, Reason, find_reason
from northstar.warehouse import db
from northstar.warehouse.published.described import DescribedTable
from northstar.warehouse.rows import Connection, fetch_all_as, fetch_one

ANOMALIES = DescribedTable(
    "anomalies",
    "What is unusual about the newest complete values of the level 1 and 2 metrics, one row for each cause in each application.",
    {
        "application": ("text not null", "the product; all: several products at once, or the company's own"),
        "cause": ("text not null", "what it is a sign of, as in open_alerts; else the landed entity that its metrics stand on"),
        "metric_id": ("text not null", "the metric whose value is the rarest of them"),
        "grain": ("text not null", "day, week or month: the finest at which the metric's values say something"),
        "period_start": ("timestamptz not null", "the period of the value"),
        "value": ("numeric", "the value; null where there is none and always was one"),
        "expected": ("numeric not null", "what it was expected to be from the values before it"),
        "low": ("numeric not null", f"the lower end of the interval that chance leaves less often than once in {YEARS:.0f} years"),
        "high": ("numeric not null", "the upper end of that interval"),
        "times_a_year": ("numeric not null", "how often in a year chance makes such a value"),
        "segment": ("text not null", "the segment that explains it, '' where none does"),
        "segment_value": ("text not null", "the part of that segment that makes most of it"),
        "contributors": ("text[] not null", "the parts that contribute most, in words, largest first"),
        "metrics": ("text[] not null", "the metrics that show it, the leading one first"),
        "pages": ("text[] not null", "the pages that show those metrics"),
        "reason": ("text not null", f"what it is probably the doing of: {', '.join(KINDS)}"),
        "explained": ("text not null", "that reason in words"),
        "published_version": ("bigint not null", "the version whose values were judged"),
    },
    ("application", "cause"),
)  # fmt: skip

# what happens often may have happened then by chance
BEFORE = {UNKNOWN: "", INCIDENT: "at that time ", DEPLOYMENT: "at that time "}


class AnomalyRow(TypedDict):
    """A row of marts.anomalies."""

    application: str
    cause: str
    metric_id: str
    grain: str
    period_start: datetime
    value: Decimal | None
    expected: Decimal
    low: Decimal
    high: Decimal
    times_a_year: Decimal
    segment: str
    segment_value: str
    contributors: list[str]
    metrics: list[str]
    pages: list[str]
    reason: str
    explained: str


class _Page(TypedDict):
    """What is read of a page of pages.yml."""

    title: str
    panels: list[dict[str, list[str]]]


def refresh_anomalies(settings: Settings) -> tuple[list[AnomalyRow], int | None]:
    """Judge the newest version if that has not been done: (what is unusual, the version). ([], None) before the first publication."""
    with db.connect(settings, "transformer", autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = on")
        connection.execute("set statement_timeout = '120s'")
        if fetch_one(connection.execute("select to_regclass('marts.publications') as t"))["t"] is None:
            return [], None
        version = fetch_one(connection.execute(
            "select published_version as v, as_of, (select max(anomalies_of) from audit.alert_evaluations) as judged, to_regclass('marts.anomalies') as kept, "
            "(select rules ->> 'reporting_currency' from marts.certificates as c where c.published_version = p.published_version) as currency "
            "from marts.publications as p order by 1 desc limit 1"
        ))  # fmt: skip
        if version["judged"] != version["v"] or version["kept"] is None:
            currency = version["currency"] or settings.rules.reporting_currency
            found = find_anomalies(connection, version["as_of"], metric_entities(settings.root), currency)
            reasons = [find_reason(connection, anomaly, version["as_of"]) for anomaly in found]
            rows = [
                _row(settings, anomaly, reason, version["v"]) for anomaly, reason in zip(found, reasons, strict=True)
            ]
            _store(settings, rows)
        columns = ", ".join(AnomalyRow.__annotations__)
        kept = connection.execute(f"select {columns} from marts.anomalies order by times_a_year, application, cause")
        return fetch_all_as(AnomalyRow, kept), version["v"]


def _row(settings: Settings, anomaly: Anomaly, reason: Reason, version: int) -> dict[str, object]:
    leading, series = anomaly.leading, anomaly.leading.series
    return {
        "application": anomaly.application, "cause": cause_of(anomaly, alert_causes(settings.root)), "metric_id": series["metric_id"],
        "grain": series["grain"], "period_start": series["starts"][-1], "value": leading.value, "expected": leading.expected, "low": leading.low,
        "high": leading.high, "times_a_year": leading.times_a_year, "segment": anomaly.segment, "segment_value": anomaly.segment_value,
        "contributors": anomaly.contributors, "metrics": anomaly.metrics, "pages": pages_with(anomaly.metrics), "reason": reason.kind,
        "explained": reason.words, "published_version": version,
    }  # fmt: skip


def cause_of(anomaly: Anomaly, causes: dict[str, str]) -> str:
    """What an anomaly is a sign of: as alerts of its metrics say it, or the entity that they stand on. causes: {metric: cause of its alerts}."""
    known = sorted({causes[metric] for metric in anomaly.metrics if metric in causes})
    # accounts are what everything stands on
    return (known or sorted(anomaly.entities, key=lambda entity: (entity == "accounts", entity)))[0]


def pages_with(metrics: list[str]) -> list[str]:
    """The titles of the pages that show one of these metrics."""
    # as a file: what draws the pages is not needed here
    contents: list[_Page] = read_own_yaml(Path(pages.__path__[0]) / "pages.yml")
    return [
        page["title"]
        for page in contents
        if any(set(panel.get("metrics", [])) & set(metrics) for panel in page["panels"])
    ]


def _store(settings: Settings, rows: list[dict[str, object]]) -> None:
    with db.connect(settings, "publisher") as connection:
        ANOMALIES.ensure(connection)
        connection.execute("delete from marts.anomalies")
        # of one cause in an application the rarest, which comes first
        for row in rows:
            _insert(connection, row)


def _insert(connection: Connection, row: dict[str, object]) -> None:
    places = ", ".join(f"%({name})s" for name in row)
    connection.execute(f"insert into marts.anomalies ({', '.join(row)}) values ({places}) on conflict do nothing", row)


def describe_anomaly(row: AnomalyRow, unit: str, currency: str) -> str:
    """What is unusual, what it is probably the doing of, and where it is seen, in words."""
    expected = format_value(row["expected"], unit, currency)
    found = (
        f"no value, where {expected} was expected"
        if row["value"] is None
        else f"{format_value(row['value'], unit, currency)} where {expected} was expected"
    )
    parts = [
        f"an unusual {row['grain']} of {row['period_start']:%Y-%m-%d}: {found}, as chance makes it less often than once in {YEARS:.0f} years",
        f"explained by {row['segment'].replace('_', ' ')} {row['segment_value']}" if row["segment"] else "",
        BEFORE.get(row["reason"], f"probably {row['reason'].replace('_', ' ')}: ") + row["explained"],
        f"shown on {', '.join(row['pages'])}" if row["pages"] else "",
    ]  # fmt: skip
    return "; ".join(part for part in parts if part)
