"""The functions that the warehouse has of its own."""

import pytest
from statsmodels.stats.proportion import proportion_confint

from northstar.warehouse import db
from northstar.warehouse.migrations import load_migrations

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


def test_amounts_of_an_older_home_become_exact_and_views_over_them_stay(warehouse):
    text = next(m.text for m in load_migrations() if m.name == "amounts_below_the_minor_unit")
    with db.connect(warehouse, "owner") as connection:
        # other tests on this warehouse may have built models; all of this is rolled back
        connection.execute("drop view if exists staging.stg_refunds cascade")
        connection.execute("alter table staging.refunds alter column amount type bigint")
        for name, source in (("of_old", "staging.refunds"), ("over_it", "core.of_old")):
            connection.execute(f"create view core.{name} as select refund_id, amount from {source}")
            connection.execute(f"alter view core.{name} owner to transformer")
        connection.execute("grant select on core.of_old to bi_reader")
        connection.execute(
            "insert into staging.refunds (refund_id, charge_id, amount, currency, status, created_at, updated_at, _batch_id, _loaded_at) "
            "values ('r', 'c', 900719925474099301, 'GBP', 'succeeded', now(), now(), 1, now())"
        )
        connection.execute(text)
        connection.execute("update staging.refunds set amount = amount + 0.1")
        assert connection.execute("select amount::text as amount from core.over_it").fetchone() == {
            "amount": "900719925474099301.1"
        }
        rights = connection.execute("select has_table_privilege('bi_reader', 'core.of_old', 'select') as reads, viewowner as owner "
                                    "from pg_views where viewname = 'of_old'").fetchone()  # fmt: skip
        assert rights == {"reads": True, "owner": "transformer"}
        connection.rollback()
