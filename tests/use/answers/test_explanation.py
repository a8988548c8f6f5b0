"""What stands behind a value, and the other answers that are read from marts of their own."""

from decimal import Decimal

import pytest

from northstar.base.exact_json import dumps
from northstar.use.answers.changes import list_restatements
from northstar.use.answers.customers import list_customers
from northstar.use.answers.explanation import explain
from northstar.use.answers.metrics import get_metric, list_metrics
from northstar.use.answers.plain import float_number, plain
from northstar.use.answers.refusals import Refused
from northstar.use.answers.status import get_status
from northstar.use.answers.targets import list_targets
from northstar.use.explain.recorded import record_queries
from northstar.warehouse import db
from tests.support import select


def test_the_rows_behind_a_value_add_up_to_it(ask, built):
    record_queries(built)
    found = ask(explain, "mrr", "2026-02", with_rows=True)
    assert found.note == "" and found.sides[0].adds_up and found.sides[0].rows[0].sample and found.accounts
    assert found.sides[0].published == found.value.numerator and "select" in found.sql.lower()
    assert found.link == "/why/mrr?grain=month&application=all&period=2026-02-01"
    assert found.parts_by and found.earlier.period == "Jan 2026" and found.checks > 50
    assert ask(explain, "mrr", "2026-02").sides == []
    # exact in JSON, and as floats where a program knows no others
    assert f'"numerator":{found.value.numerator.normalize():f}' in dumps(plain(found))
    assert plain(found, float_number)["value"]["value"] == float(found.value.value)
    assert (
        plain(Decimal("NaN")) == "NaN"
        and dumps(plain([Decimal("1200.00"), Decimal("1e3"), None])) == "[1200,1000,null]"
    )


def test_the_other_answers_say_what_the_marts_say(ask, built):
    metrics = ask(list_metrics).metrics
    assert len(metrics) == select(built, "select count(*) as n from metrics")[0]["n"] == ask(get_status).metrics
    assert {m.metric for m in ask(list_metrics, "churn accounts", "revenue").metrics} <= {m.metric for m in metrics if m.domain == "revenue"}  # fmt: skip
    detail = ask(get_metric, "mrr")
    assert detail.rules.startswith("## MRR") and {m.application for m in detail.measured} >= {"all", "web"}
    targets = ask(list_targets).targets
    assert len(targets) == select(built, "select count(*) as n from metric_status")[0]["n"]
    red = ask(list_targets, zone="red", application="web").targets
    assert red and {(t.zone, t.application) for t in red} == {("red", "web")} and red[0].definition
    customers = ask(list_customers, limit=5)
    assert customers.is_cut and len(customers.customers) == 5 and customers.currency == "USD"
    best = select(built, "select account_id, sum(mrr_at_end) as mrr from mrr_by_account where month = (select max(month) from mrr_by_account) group by 1 order by 2 desc, 1 limit 1")[0]  # fmt: skip
    assert (customers.customers[0].account_id, customers.customers[0].mrr) == (best["account_id"], best["mrr"])
    assert ask(list_customers, account_id=best["account_id"]).customers[0] == customers.customers[0]
    erased = f"erased-{'0' * 24}"
    with db.connect(built, "owner") as connection:
        connection.execute(
            "create temporary table one as select * from marts.dim_accounts where account_id = %s", [best["account_id"]]
        )
        connection.execute("update one set account_id = %s", [erased])
        connection.execute("insert into marts.dim_accounts select * from one")
        connection.commit()
        try:
            with pytest.raises(Refused, match="there is no account"):
                ask(list_customers, account_id=erased)
        finally:
            connection.execute("delete from marts.dim_accounts where account_id = %s", [erased])
    restated = select(built, "select count(*) as n from metric_restatements")[0]["n"]
    assert len(ask(list_restatements).restatements) == restated
    for answer in (ask(list_metrics), detail, customers, ask(get_status), ask(list_targets)):
        assert '"version":1' in dumps(plain(answer))
