"""The worked ledgers of docs/semantics.md, through landing, build, audit and publish, to the cent."""

from collections import defaultdict

import pytest

from northstar.base.errors import NorthstarError
from tests.dbt_project.every_period import differing
from tests.dbt_project.ledgers import CASES, instant, rate_rows, subscription_rows
from tests.support import empty, run, select, write_rows

BY_AS_OF = defaultdict(list)
for _case in CASES:
    if "expect_error" not in _case:
        BY_AS_OF[instant(_case["as_of"])].append(_case)


@pytest.fixture(scope="module", params=sorted(BY_AS_OF), ids=lambda t: f"{t:%Y-%m-%d}")
def ledgers(request, warehouse, tmp_path_factory):
    """The published marts of all cases with one as_of, each an application of its own."""
    empty(warehouse)
    cases = BY_AS_OF[request.param]
    source = tmp_path_factory.mktemp("ledgers")
    write_rows(
        source,
        {
            "subscriptions": [r for c in cases for r in subscription_rows(c)],
            "fx_rates": [r for c in cases for r in rate_rows(c)],
        },
    )
    run(warehouse, source, request.param)
    return cases, warehouse


def test_every_ledger_holds_to_the_cent(ledgers):
    cases, warehouse = ledgers
    assert differing(warehouse, f"ledgers {instant(cases[0]['as_of']):%Y-%m-%d}") == []
    for case in cases:
        movements = select(
            warehouse,
            "select movement_date::text as date, account_id, movement_type as type, amount from mrr_movements "
            "where application = %s order by 1, 2, 3",
            case["id"],
        )
        found = [
            (m["date"], m["account_id"].removeprefix(f"{case['id']}-"), m["type"], float(m["amount"]))
            for m in movements
        ]
        wanted = sorted((str(m["date"]), m["acct"], m["type"], m["amount"]) for m in case["expect_movements"])
        assert found == wanted, case["id"]
        months = select(
            warehouse,
            "select to_char(period_start, 'YYYY-MM') as month, value from metric_values where metric_id = 'mrr' "
            "and grain = 'month' and segment = '' and application = %s",
            case["id"],
        )
        mrr = {m["month"]: float(m["value"]) for m in months}
        assert case["expect_mrr"].items() <= mrr.items(), case["id"]


def test_a_currency_without_a_rate_stops_the_publish_and_is_named(warehouse, tmp_path):
    empty(warehouse)
    case = next(c for c in CASES if "expect_error" in c)
    with pytest.raises(NorthstarError, match=case["expect_error"]):
        run(warehouse, write_rows(tmp_path, {"subscriptions": subscription_rows(case)}), instant(case["as_of"]))
