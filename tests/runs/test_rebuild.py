"""A model is rebuilt from the landed rows with everything made from it, and nothing else is."""

import pytest

from northstar.base.errors import NorthstarError
from northstar.runs.rebuild import rebuild
from northstar.warehouse import db
from tests.support import WORKERS, empty, published, query_as, run, silent, utc, write_rows

CHARGE = {"charge_id": "c1", "account_id": "a", "application": "shop", "amount": 1000, "currency": "USD", "status": "succeeded",
          "created_at": "2025-03-05T00:00:00Z", "updated_at": "2025-03-05T00:00:00Z"}  # fmt: skip


def test_what_somebody_changed_by_hand_is_rebuilt_with_everything_made_from_it(warehouse, tmp_path):
    empty(warehouse)
    run(warehouse, write_rows(tmp_path, {"charges": [CHARGE]}), utc("2025-04-01T00:00:00"))
    before = published(warehouse)
    with db.connect(warehouse, "transformer") as connection:
        connection.execute("update marts_candidate.fct_payments set amount_reporting = 2 * amount_reporting")

    assert rebuild(warehouse, ["fct_payments"], "by hand", "ada", silent, WORKERS[warehouse.home]) == 2
    after = published(warehouse)
    assert {name for name in before if before[name] != after[name]} == set()
    repaired = query_as(warehouse, "transformer", "select amount_reporting from marts_candidate.fct_payments")
    assert [row["amount_reporting"] for row in repaired] == [10]

    [last] = query_as(
        warehouse, "transformer", "select * from audit.runs where run_id = (select max(run_id) from audit.runs)"
    )
    assert (last["trigger"], last["rebuilds"]) == ("rebuild of fct_payments by ada: by hand", ["fct_payments"])
    built = query_as(
        warehouse,
        "transformer",
        "select name, status from audit.model_runs where resource_type = 'model' and run_id = %s",
        last["run_id"],
    )
    status = {row["name"]: row["status"] for row in built}
    assert {status[name] for name in ("fct_payments", "metrics_payments", "metric_values")} == {"success"}
    assert {status[name] for name in ("stg_charges", "account_mrr", "metrics_events")} == {"unchanged"}
    # it audits what every full run does
    checks = query_as(warehouse, "transformer", "select run_id, count(*) as n from audit.checks group by 1 order by 1")
    assert checks[0]["n"] == checks[-1]["n"]

    with pytest.raises(NorthstarError, match="there is no model or metric 'fct_payment'; did you mean 'fct_payments'"):
        rebuild(warehouse, ["fct_payment"], "a slip", "ada", silent)
