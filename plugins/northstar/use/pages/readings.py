"""What tables on the pages read from the marts, for those that show it and for those that hand it out as a file."""

import re

import pandas as pd

from northstar.use.marts import Marts
from northstar.warehouse.rows import Row


def read_restatements(marts: Marts, metric: str, application: str) -> pd.DataFrame:
    """The newest 500 restatements of a metric, with its unit and the currencies of both versions."""
    return marts.frame(
        "select r.*, m.unit, o.rules ->> 'reporting_currency' as old_currency, n.rules ->> 'reporting_currency' as new_currency "
        "from metric_restatements as r join metrics as m using (metric_id) left join certificates as o on r.old_version = o.published_version "
        "left join certificates as n on r.new_version = n.published_version where r.metric_id = %(metric)s "
        "and r.application = %(application)s order by new_version desc, period_start desc, segment, segment_value limit 500",
        metric=metric, application=application,
    )  # fmt: skip


def read_newest_values(marts: Marts, application: str) -> pd.DataFrame:
    """The newest complete value of each metric, in the grain that the list of all metrics shows it by."""
    metrics_by_id = marts.catalogue()
    return marts.frame(
        "select distinct on (metric_id) metric_id, grain, period_start, value, null_reason from metric_values where application = %(application)s "
        "and segment = '' and is_complete and grain != 'hour' "
        "and (metric_id, grain) in (select * from unnest(%(metrics)s::text[], %(grains)s::text[])) order by metric_id, period_start desc",
        application=application, metrics=list(metrics_by_id), grains=[_first_grain(entry["grains"]) for entry in metrics_by_id.values()],
    )  # fmt: skip


def read_targets(marts: Marts, dashboard: str, application: str) -> list[Row]:
    """The judged targets of a dashboard's metrics, as Marts.targets has them."""
    return [
        row
        for row in marts.targets(application).to_dict("records")
        if dashboard in re.split("[,;]", row["dashboards"] or "")
    ]


def _first_grain(grains: list[str]) -> str:
    return next(g for g in ("month", "week", "quarter", "year", "day", "hour") if g in grains)
