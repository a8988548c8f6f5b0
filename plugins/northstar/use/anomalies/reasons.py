"""What an anomaly is the doing of, as far as the warehouse knows: late or missing rows, a changed definition, a backfill, a new price, an incident.

The likeliest comes first: what rows are lacking, what publications did to the numbers, then what happened to the company. Each is a fact with a
time, which the message names; whether it is the cause is for people to say.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString, TypedDict

from psycopg import sql

from northstar.base.clock import show_utc
from northstar.contract import entities
from northstar.use.anomalies.find import Anomaly
from northstar.use.words import describe_marks
from northstar.warehouse.rows import Connection, Row, fetch_all_as, fetch_one

# rows that end earlier than this part of a period before its end came late, or not at all, where the periods before it were fuller
LATE = 0.25
# fewer rows a period say nothing of when they end; the periods before it that are looked at
FEWEST_ROWS, PERIODS_BEFORE = 20, 7
# of longer periods the rows are not counted: they are many, and a day without any is a small part
LONGEST = timedelta(days=8)
PRICED = {"subscriptions", "charges"}
# one change of a price may be a deal, as in source_marks
FEWEST_ITEMS = 3
# what is running: deployments and incidents change how it does, and not what was sold
RUNNING = {
    "api_requests",
    "error_events",
    "uptime_checks",
    "resource_samples",
    "query_stats",
    "web_vitals",
    "integration_calls",
    "events",
}
LATE_DATA, DEFINITION, BACKFILL, RESTATEMENT = "late_data", "definition_change", "backfill", "restatement"
PRICE, INCIDENT, DEPLOYMENT, UNKNOWN = "price_change", "incident", "deployment", "unknown"
KINDS = (LATE_DATA, DEFINITION, BACKFILL, RESTATEMENT, PRICE, INCIDENT, DEPLOYMENT, UNKNOWN)
ROWS: LiteralString = """
    select count(*) filter (where at >= %(begin)s) as rows, max(at) as newest, count(*) filter (where at < %(begin)s) / %(before)s::float8 as rows_before,
        count(*) filter (where at < %(begin)s and extract(epoch from %(begin)s - at)::int %% %(length)s < %(length)s * %(late)s) / %(before)s::float8 as ends_before
    from (select {time}::timestamptz as at from staging.{entity} where {time} >= %(since)s and {time} < %(end)s {own}) as near
"""
# the price of a period beside that of the same item before: of the plans and currencies in which the most changed alike
PRICES: LiteralString = """
    with prices as (
        select application, plan_id, valid_from, list_mrr_in_currency / nullif(quantity, 0) as price,
            lag(list_mrr_in_currency / nullif(quantity, 0)) over item as price_before, lag(plan_id) over item as plan_before, lag(valid_to) over item as valid_before
        from marts.fct_subscription_periods window item as (partition by subscription_item_id order by valid_from)
    )
    select plan_id, round(100 * (price / price_before - 1)) as percent, count(*) as items, min(valid_from) as since
    from prices where valid_from >= %(begin)s and valid_from < %(end)s and (%(application)s = 'all' or application = %(application)s)
    and plan_id = plan_before and valid_before = valid_from and price_before > 0 and abs(price / price_before - 1) > 0.005
    group by 1, 2 having count(*) >= %(fewest)s order by 3 desc, 1, 2 limit 3
"""


@dataclass(frozen=True)
class Reason:
    """What an anomaly is probably the doing of: its kind (one of KINDS), and in words."""

    kind: str
    words: str


class Rows(TypedDict):
    """An entity's rows of a period, and of those before it."""

    rows: int
    newest: datetime | None
    rows_before: float
    ends_before: float


def find_reason(connection: Connection, anomaly: Anomaly, as_of: datetime) -> Reason:
    """What an anomaly is probably the doing of. The connection reads `marts` and `staging`."""
    begin, end = anomaly.leading.series["starts"][-1], anomaly.leading.series["ends_at"]
    late = _lacking_rows(connection, anomaly, begin, end)
    if late:
        return Reason(LATE_DATA, late)
    prices = _new_prices(connection, anomaly, begin, end) if anomaly.entities & PRICED else ""
    marks = _marks(connection, anomaly, begin - (end - begin), max(end, as_of))
    for kind in (DEFINITION, BACKFILL, RESTATEMENT, PRICE, INCIDENT, DEPLOYMENT):
        own = [mark for mark in marks if mark["kind"] == kind and _is_meant(mark, anomaly, begin, end)]
        if kind == PRICE and prices:
            return Reason(PRICE, prices)
        if own:
            return Reason(kind, "; ".join(describe_marks(own)[:2]))
    return Reason(UNKNOWN, "no late data, changed definition, backfill, new price or incident is known of")


def _new_prices(connection: Connection, anomaly: Anomaly, begin: datetime, end: datetime) -> str:
    """The plans whose price changed for those who have them already, in words; '' where none did. A price of new items is a mark."""
    rows = connection.execute(
        PRICES, {"begin": begin, "end": end, "application": anomaly.application, "fewest": FEWEST_ITEMS}
    ).fetchall()
    return "; ".join(
        f"{row['plan_id']} costs {row['percent']:+} % for {row['items']} subscriptions since {show_utc(row['since'])}"
        for row in rows
    )


def _marks(connection: Connection, anomaly: Anomaly, since: datetime, until: datetime) -> list[Row]:
    """The marks that may have to do with it; is_named: it names one of its metrics."""
    if fetch_one(connection.execute("select to_regclass('marts.marks') as t"))["t"] is None:
        return []
    return connection.execute(
        "select *, coalesce(metrics && %(metrics)s::text[], false) as is_named from marts.marks where marked_at <= %(until)s and (marked_at >= %(since)s "
        "or (kind = 'incident' and coalesce(ended_at, %(until)s) >= %(since)s and marked_at >= %(since)s - interval '7 days')) "
        "and (%(application)s = 'all' or application in (%(application)s, 'all')) and kind = any(%(kinds)s) order by marked_at, mark_id",
        {"metrics": anomaly.metrics, "since": since, "until": until, "application": anomaly.application, "kinds": list(KINDS)},
    ).fetchall()  # fmt: skip


def _is_meant(mark: Row, anomaly: Anomaly, begin: datetime, end: datetime) -> bool:
    """Whether a mark may be why the values of begin to end are what they are: one of what publications did names a metric."""
    is_before = bool(mark["marked_at"] < end)
    if mark["kind"] == PRICE:
        return is_before and bool(anomaly.entities & PRICED)
    if mark["kind"] == INCIDENT:
        return is_before and bool(anomaly.entities & RUNNING) and (mark["ended_at"] is None or mark["ended_at"] > begin)
    if mark["kind"] == DEPLOYMENT:
        return is_before and bool(anomaly.entities & RUNNING) and mark["marked_at"] >= begin - timedelta(days=1)
    return bool(mark["is_named"])


def _lacking_rows(connection: Connection, anomaly: Anomaly, begin: datetime, end: datetime) -> str:
    """That no rows came, or that they end before the period does, in words; '' where they are there."""
    length = end - begin
    if length > LONGEST:
        return ""
    for name in sorted(anomaly.entities & entities().keys()):
        entity = entities()[name]
        has_application = "application" in entity.columns and anomaly.application != "all"
        query = sql.SQL(ROWS).format(
            time=sql.Identifier(entity.own_time), entity=sql.Identifier(name),
            own=sql.SQL("and application = %(application)s" if has_application else ""),
        )  # fmt: skip
        [found] = fetch_all_as(Rows, connection.execute(query, {
            "begin": begin, "end": end, "since": begin - PERIODS_BEFORE * length, "before": PERIODS_BEFORE, "length": int(length.total_seconds()),
            "late": LATE, "application": anomaly.application,
        }))  # fmt: skip
        if found["rows_before"] * 2 < 3:
            continue
        of = f" of {anomaly.application}" if has_application else ""
        newest = f"the newest is of {show_utc(found['newest'])}" if found["newest"] else "the last are older"
        if not found["rows"]:
            return f"no row of {name}{of} has landed for this time, {found['rows_before']:,.0f} a period did before: {newest}"
        newest_at = found["newest"]
        is_known = found["rows_before"] >= FEWEST_ROWS and found["ends_before"] >= 3
        if newest_at is not None and end - newest_at > LATE * length and is_known:
            return (
                f"the rows of {name}{of} end at {show_utc(newest_at)}, before the period does: the rest may come late"
            )
    return ""
