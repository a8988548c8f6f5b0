"""`metric_values` reads row by row as when a row was stored for every period: zeros, nulls with their reason, completeness."""

from dataclasses import replace

import pytest

from northstar import job
from northstar.simulator import simulate
from tests.models.every_period import differing
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
    withholding = replace(warehouse, rules={**warehouse.rules, "suppress_below": 5})
    job.run(withholding, "nightly", END, str(company), silent, worker=WORKERS.get(warehouse.home))
    assert differing(warehouse, "small company withheld") == []
