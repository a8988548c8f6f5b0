"""`metric_values` reads row by row as when a row was stored for every period: zeros, nulls with their reason, completeness."""

from dataclasses import replace

import pytest

from northstar.demo.company import simulate
from northstar.runs import job
from northstar.warehouse import db
from tests.dbt_project.every_period import differing
from tests.support import WORKERS, empty, run, select, silent, utc

END = utc("2026-03-01T00:00:00")
COMPANIES = {
    11: {"months": 2, "accounts": 40, "applications": ("web",), "monitored_days": 5},
    12: {"months": 3, "accounts": 45, "applications": ("coaching", "tutoring"), "monitored_days": 3},
    13: {"months": 1, "accounts": 60, "applications": ("web", "coaching", "tutoring"), "monitored_days": 7},
}


def test_the_small_company_reads_as_it_did(built):
    assert differing(built, "small company") == []


@pytest.mark.parametrize("seed", sorted(COMPANIES))
def test_random_companies_read_as_they_did(warehouse, tmp_path, seed):
    empty(warehouse)
    simulate(tmp_path, seed=seed, end=END, **COMPANIES[seed])
    run(warehouse, tmp_path, END)
    assert differing(warehouse, f"company {seed}") == []
    # and no more is stored than what was measured
    counts = select(warehouse, "select (select count(*) from metric_points) as points, (select count(*) from metric_values where "
                    "coalesce(numerator, 0) != 0 or coalesce(denominator, 0) != 0 or coalesce(value, 0) != 0) as telling")[0]  # fmt: skip
    assert counts["points"] <= 1.05 * counts["telling"]


def test_what_is_withheld_reads_as_it_did(warehouse, company):
    empty(warehouse)
    withholding = replace(warehouse, rules=warehouse.rules.model_copy(update={"suppress_below": 5}))
    job.run(withholding, "nightly", END, str(company), silent, worker=WORKERS.get(warehouse.home))
    assert differing(warehouse, "small company withheld") == []


def test_what_a_reader_asks_for_reaches_the_stored_tables(built):
    text = (
        "explain (format json) select period_start, value from metric_values where metric_id = 'cash_collected' and grain = 'day' "
        "and application = 'web' and segment = 'country' and segment_value = 'US' and period_start >= '2026-02-01' and period_start < '2026-02-15'"
    )
    with db.connect(built, "bi_reader") as connection:
        # the company is so small that reading whole tables is the quickest
        connection.execute("set local enable_seqscan = off")
        plan = connection.execute(text).fetchone()["QUERY PLAN"][0]["Plan"]
    conditions: dict = {}

    def look(node: dict) -> None:
        if "Relation Name" in node:
            conditions[node["Relation Name"]] = node.get("Index Cond", "") + node.get("Recheck Cond", "")
        for child in node.get("Plans", ()):
            look(child)

    look(plan)
    for table, columns in {
        "metric_series": ("metric_id", "grain", "application", "segment", "segment_value"),
        "dim_periods": ("grain", "period_start"),
        "metric_points": ("series_id", "period_start"),
    }.items():
        assert all(f"{column} " in conditions[table] for column in columns), (table, conditions)
