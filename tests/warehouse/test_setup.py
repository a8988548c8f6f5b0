"""The functions that the warehouse has of its own."""

import pytest
from statsmodels.stats.proportion import proportion_confint

from northstar.warehouse import db

SAMPLES = [(0, 30), (1, 1), (1, 30), (8, 100), (20, 100), (30, 30), (15, 1000), (999_000, 1_000_000)]


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99, 0.999])
def test_the_bounds_of_a_share_are_wilsons(warehouse, confidence):
    with db.connect(warehouse, "transformer") as connection:
        for hits, trials in SAMPLES:
            found = connection.execute(
                "select core.wilson_low(%(hits)s, %(trials)s, %(confidence)s) as low, core.wilson_high(%(hits)s, %(trials)s, %(confidence)s) as high",
                {"hits": hits, "trials": trials, "confidence": confidence},
            ).fetchone()  # fmt: skip
            expected = proportion_confint(hits, trials, alpha=1 - confidence, method="wilson")
            assert (float(found["low"]), float(found["high"])) == pytest.approx(expected, abs=1e-6), (hits, trials)


def test_a_share_of_nothing_and_an_unknown_confidence_have_no_bounds(warehouse):
    with db.connect(warehouse, "transformer") as connection:
        for hits, trials, confidence in ((0, 0, 0.99), (1, 2, 0.98), (None, 2, 0.99)):
            row = connection.execute("select core.wilson_low(%s::numeric, %s, %s) as low", [hits, trials, confidence])
            assert row.fetchone()["low"] is None
