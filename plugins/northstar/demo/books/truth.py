"""The truth about a company: the values of every metric that its books reckon, by month.

Each domain's module enters its figures, after those that it needs (accounts that use the product are counted before shares of them).
Then the ledger is closed, metrics of metrics are reckoned from its values, what was not measured yet is left out, and targets are judged.
"""

from collections.abc import Mapping
from datetime import datetime

import pandas as pd

from northstar.base.settings import Rules
from northstar.demo.books import (
    activity,
    conversations,
    creators,
    engineering,
    growth,
    marketplace,
    payments,
    performance,
    registrations,
    reliability,
    revenue,
    sessions,
    snapshots,
    support,
    surveys,
    targets,
    unit_economics,
)
from northstar.demo.books.ledger import BookGrain, Ledger
from northstar.demo.books.measured import leave_out_unmeasured
from northstar.demo.books.seeds import read_seed

DOMAINS = (
    revenue, payments, registrations, activity, sessions, conversations, support, surveys, marketplace, creators, performance,
    reliability, engineering, snapshots,
)  # fmt: skip
METRICS_OF_METRICS = (growth, unit_economics)


# a year's ltv is made of its last month (docs/semantics.md), and the books' targets are those of months
LEFT_OUT: dict[BookGrain, tuple[str, ...]] = {
    "week": ("targets_met_rate",),
    "month": (),
    "year": ("ltv", "ltv_cac_ratio", "targets_met_rate"),
}


def truth(
    tables: Mapping[str, pd.DataFrame],
    as_of: datetime,
    rules: Rules | None = None,
    grain: BookGrain = "month",
) -> pd.DataFrame:
    """A frame: metric_id, period_start, application, segment, segment_value, numerator, denominator; of the catalogue's metrics only.

    tables: entity -> DataFrame in contract shape, without flawed rows. as_of: the books' closing time, exclusive, UTC. rules: the
    company's business rules, None for the defaults. grain: by month, or by week or fiscal year, without LEFT_OUT. The numbers are exact and written as text (fractions as n/d); the denominator is None where a metric has none.
    """
    ledger = Ledger(tables, as_of, rules or Rules(), grain)
    for domain in DOMAINS:
        domain.reckon(ledger)
    ledger.close()
    for domain in METRICS_OF_METRICS:
        domain.reckon(ledger)
    leave_out_unmeasured(ledger)
    targets.reckon(ledger)
    lines = ledger.lines()
    is_in_catalogue = lines.metric_id.isin(
        {m["metric_id"] for m in read_seed("metric_catalogue") if grain in m["grains"].split(",")} - {*LEFT_OUT[grain]}
    )
    lines = lines[is_in_catalogue].reset_index(drop=True)
    for column in ("numerator", "denominator"):
        exact = [None if v is None or v != v else str(v) for v in lines[column]]
        lines[column] = pd.Series(exact, dtype=object)
    return lines
