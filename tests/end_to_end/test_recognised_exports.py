"""Exports of three billing systems, each by its mapping in `mappings/`, through one warehouse: MRR and cash against figures worked by hand.

The files are the examples of tests/extract/landing/exports. A euro is one unit of the reporting currency, a yen a hundredth.

Chargebee   s1: 2 x 24.50 a month since 15 January. s2: 240.00 a year, paid from 15 January to 1 March. s3: 60.00 a quarter since 1 January.
            t1 brought 49.00 in January, of which 9.00 were given back on 20 February; t2 failed.
Stripe      sub_1: 2 x 24.50 a month since 15 January. sub_2: 240.00 a year, paid from 15 January to 1 March. sub_3 is on trial.
            ch_1 brought 49.00 and ch_2 5,000 yen in January, of which 1,500 yen were given back in the same month; ch_3 failed.
Paddle      no subscriptions. txn_1 brought 49.00 in January, of which 9.00 and 10.00 were given back in the same month; txn_2 failed.
"""

import pytest

from northstar.base.settings import ROOT
from northstar.extract.landing.directory import land_directory
from tests.support import empty, run, select, silent, utc, write_rows

EXAMPLES = ROOT / "tests" / "extract" / "landing" / "exports"
RATES = [{"rate_date": "2024-12-01", "currency": currency, "rate_to_reporting": rate} for currency, rate in (("EUR", 1), ("JPY", "0.01"))]  # fmt: skip
EXPECTED = {
    ("mrr", "chargebee"): {"2025-01": 89, "2025-02": 89, "2025-03": 69},
    ("mrr", "stripe"): {"2025-01": 69, "2025-02": 69, "2025-03": 49},
    ("mrr", "all"): {"2025-01": 158, "2025-02": 158, "2025-03": 118},
    ("churned_mrr", "all"): {"2025-01": 0, "2025-02": 0, "2025-03": -40},
    ("cash_collected", "chargebee"): {"2025-01": 49, "2025-02": -9, "2025-03": 0},
    ("cash_collected", "stripe"): {"2025-01": 84, "2025-02": 0, "2025-03": 0},
    ("cash_collected", "paddle"): {"2025-01": 30, "2025-02": 0, "2025-03": 0},
    ("cash_collected", "all"): {"2025-01": 163, "2025-02": -9, "2025-03": 0},
}


@pytest.fixture(scope="module")
def billing(warehouse, tmp_path_factory):
    """The warehouse with the three exports, published."""
    empty(warehouse)
    place = tmp_path_factory.mktemp("billing")
    for vendor in ("chargebee", "stripe", "paddle"):
        mapping = place / f"{vendor}.yml"
        mapping.write_text(f"application: {vendor}\n{(ROOT / 'mappings' / f'{vendor}.yml').read_text()}")
        land_directory(warehouse, None, str(EXAMPLES / vendor), mapping, source=vendor, progress=silent)
    run(warehouse, write_rows(place / "rates", {"fx_rates": RATES}), utc("2025-04-01T00:00:00"))
    return warehouse


def test_three_exports_in_one_warehouse_have_the_figures_worked_by_hand(billing):
    for (metric, application), expected in EXPECTED.items():
        rows = select(
            billing,
            "select to_char(period_start, 'YYYY-MM') as month, value from metric_values where metric_id = %s and application = %s "
            "and grain = 'month' and segment = '' and period_start between '2025-01-01' and '2025-03-01' order by 1",
            metric, application,
        )  # fmt: skip
        assert {row["month"]: float(row["value"]) for row in rows} == expected, (metric, application)


def test_each_row_of_an_export_that_does_not_fit_is_named_in_the_certificate(billing):
    [certificate] = select(billing, "select left_out from certificates order by published_version desc limit 1")
    assert certificate["left_out"]["quarantined"] == {"charges": 2, "subscriptions": 1}
