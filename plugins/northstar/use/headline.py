"""The few numbers that `make run` and `northstar run` end with."""

from northstar.base.formats import format_value
from northstar.base.settings import Settings
from northstar.base.tables import table
from northstar.warehouse import db
from northstar.warehouse.rows import Row, fetch_one

HEADLINES = (
    ("MRR", "mrr", "month"),
    ("ARR", "arr", "month"),
    ("Customer churn", "customer_churn_rate", "month"),
    ("LTV", "ltv", "month"),
    ("Day-30 retention", "retention_d30", "month"),
    ("Open tickets", "open_tickets", "day"),
)


def headline_rows(settings: Settings) -> list[Row]:
    """The company's headline metrics: the newest complete value of each and the one before, from the published marts."""
    rows: list[Row] = []
    with db.connect(settings, "bi_reader") as connection:
        for title, metric_id, grain in HEADLINES:
            newest = connection.execute(
                "select v.period_start::date as period, v.value, m.unit, m.currency from metric_values as v "
                "join metrics as m using (metric_id) where v.metric_id = %s and v.grain = %s and v.application = 'all' "
                "and v.segment = '' and v.is_complete order by v.period_start desc limit 2",
                [metric_id, grain],
            ).fetchall()
            value = newest[0] if newest else {"value": None, "unit": "", "currency": None, "period": None}
            previous = newest[1]["value"] if len(newest) > 1 else None
            rows.append(
                {"metric": title, "period": str(value["period"] or "-"), "value": format_value(value["value"], value["unit"], value["currency"] or ""),
                 "before": format_value(previous, value["unit"], value["currency"] or "")}
            )  # fmt: skip
        last = fetch_one(connection.execute("select * from publications order by published_version desc limit 1"))
    rows.append(
        {"metric": "Checks passed", "period": f"version {last['published_version']}",
         "value": f"{last['checks_passed']} of {last['checks_run']}", "before": ""}
    )  # fmt: skip
    return rows


def print_headline(settings: Settings) -> None:
    """Print the headline table on standard output."""
    print(table(headline_rows(settings)))
