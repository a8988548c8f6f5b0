"""Every published number can be taken apart: the rows that `northstar explain` shows add up to it."""

import json
from decimal import Decimal

import pytest

from northstar.base.errors import NorthstarError
from northstar.cli import main as cli
from northstar.use.explain.explanation import explain
from northstar.use.explain.rows import row_part
from northstar.use.explain.text import as_json, as_text
from northstar.warehouse import db
from tests.support import empty, run, select, utc, write_rows

AS_OF = utc("2026-03-01T00:00:00")


def account(account_id, created, kind="customer", **more):
    return {"account_id": account_id, "account_type": kind, "application": "web", "country": "US", "created_at": created,
            "updated_at": created, **more}  # fmt: skip


def subscription(number, account_id, amount, start, end=None, **more):
    return {"subscription_item_id": f"s{number}", "subscription_id": f"s{number}", "account_id": account_id, "application": "web",
            "plan_id": "pro", "plan_tier": "pro", "billing_interval": "month", "interval_count": 1, "quantity": 1,
            "unit_amount": amount, "currency": "USD", "status": "active", "valid_from": start, "valid_to": end,
            "updated_at": start, **more}  # fmt: skip


def event(number, at, account_id):
    return {"event_id": f"e{number}", "event_name": "user.login", "occurred_at": at, "received_at": at,
            "account_id": account_id, "application": "web"}  # fmt: skip


# what three months of a small company do not show: churn and its rates a year apart, who comes back, escalations
LEDGER = {
    "accounts": [
        *(account(a, "2025-01-01T00:00:00Z") for a in ("stays", "left_2025", "left_2026", "back")),
        account("new_2025", "2025-02-10T00:00:00Z"),
        account("new_2026", "2026-02-10T00:00:00Z"),
        account("tutor", "2026-01-05T00:00:00Z", "tutor"),
        account("early", "2025-11-01T00:00:00Z"),
    ],
    "subscriptions": [
        subscription(1, "stays", 10000, "2025-01-01T00:00:00Z"),
        subscription(2, "left_2025", 5000, "2025-01-01T00:00:00Z", "2025-02-15T00:00:00Z"),
        subscription(3, "left_2026", 3000, "2025-01-01T00:00:00Z", "2026-02-20T00:00:00Z"),
        subscription(4, "back", 2000, "2025-01-01T00:00:00Z", "2025-06-01T00:00:00Z"),
        subscription(5, "back", 2500, "2026-02-05T00:00:00Z"),
        subscription(6, "new_2025", 4000, "2025-02-10T00:00:00Z"),
        subscription(7, "new_2026", 6000, "2026-02-10T00:00:00Z"),
    ],
    "marketing_spend": [
        {"spend_date": "2025-02-03", "application": "web", "channel": "ads", "amount": 30000, "currency": "USD"},
        {"spend_date": "2025-11-05", "application": "web", "channel": "ads", "amount": 88000, "currency": "USD"},
        {"spend_date": "2026-02-03", "application": "web", "channel": "ads", "amount": 25000, "currency": "USD"},
        {"spend_date": "2026-02-04", "application": "web", "channel": "ads", "amount": 5000, "currency": "USD"},
    ],
    "charges": [
        {"charge_id": f"c{number}", "account_id": "stays", "application": "web", "amount": amount, "currency": "USD", "status": "succeeded",
         "created_at": at, "updated_at": at}
        for number, (amount, at) in enumerate([(10000, "2025-01-03T00:00:00Z"), (4000, "2026-02-05T00:00:00Z")])
    ],
    "events": [event(1, "2026-01-30T10:00:00Z", "early"), event(2, "2026-02-06T10:00:00Z", "tutor")],
    "tickets": [
        {"ticket_id": "t1", "account_id": "stays", "application": "web", "status": "open", "priority": "urgent",
         "created_at": "2026-02-02T10:00:00Z", "updated_at": "2026-02-02T10:00:00Z"},
    ],
    "ticket_events": [
        {"ticket_event_id": "te1", "ticket_id": "t1", "event_type": "escalated", "actor_type": "agent",
         "occurred_at": "2026-02-02T10:45:00Z"},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def ledger(warehouse, tmp_path_factory):
    empty(warehouse)
    source = write_rows(tmp_path_factory.mktemp("explained"), LEDGER)
    run(warehouse, source, AS_OF)
    return warehouse


@pytest.mark.timeout(1800)
def test_the_rows_behind_every_metric_add_up_to_it(built):
    cells = select(
        built,
        "select * from (select *, row_number() over (partition by metric_id, segment != '' order by coalesce(numerator, 0) = 0, "
        "denominator = 0, application = 'all', segment, segment_value = '(unknown)', md5(grain || period_start::text)) as number "
        "from metric_values where numerator is not null or null_reason is distinct from 'source_missing') as v where number = 1",
    )
    metrics = {r["metric_id"] for r in select(built, "select metric_id from metrics")}
    assert len(metrics) == 186
    wrong, moved = [], set()
    for row in cells:
        try:
            found = explain(built, row["metric_id"], row["period_start"], row["grain"], row["application"], row["segment"],
                            row["segment_value"], sample=1)  # fmt: skip
        except NorthstarError as exc:
            wrong.append(f"{row['metric_id']}: {exc}")
            continue
        metrics.discard(row["metric_id"])
        if found.numerator.contributions:
            moved.add(row["metric_id"])
        if not found.adds_up:
            wrong.append(f"{row['metric_id']} {row['grain']} {row['period_start']} {row['application']}: {found.numerator.contributions} "
                         f"and {found.numerator.recomputed} for {row['numerator']}")  # fmt: skip
    assert not wrong, "\n".join(wrong)
    # metric_values has no number of these for lack of anything to count
    unmeasured = select(
        built, "select metric_id from metric_coverage where application = 'all' and lacking is not null"
    )
    assert metrics == {row["metric_id"] for row in unmeasured}
    assert len(moved) >= 150


@pytest.mark.parametrize(
    ("metric", "contributions"),
    [
        ("customer_churn_rate", {"left_2026": 1}),
        ("reactivation_mrr", {"back": 25}),
        # margin of the month's end by 4 payers: 80 % of 100, 40, 25 and 60
        ("ltv", {"stays": 20, "new_2025": 8, "back": 5, "new_2026": 12}),
        ("cac_change_rate", {"2026-02-03": 250, "2026-02-04": 50, "2025-02-03": -300}),
        ("escalation_time", {"t1": 45}),
        ("tutor_retention_30d", {"tutor": 1}),
        ("net_revenue_retention", {"stays": 100, "new_2025": 40}),
        ("mrr_growth_rate", {"back": 25, "new_2026": 60, "left_2026": -30}),
        # of other metrics: what came, and what was spent less what was collected
        ("quick_ratio", {"back": 25, "new_2026": 60}),
        ("burn_multiple", {"2026-02-03": 250, "2026-02-04": 50, "2026-02-05": -40}),
    ],
)
def test_contributions_are_those_of_the_ledger(ledger, metric, contributions):
    settings = ledger
    grain = "month" if metric != "tutor_retention_30d" else None
    period = {"tutor_retention_30d": "2026-01-01T00:00:00"}.get(metric, "2026-02-01T00:00:00")
    found = explain(settings, metric, utc(period), grain, sample=50)
    assert found.adds_up
    told = {}
    for rows in found.numerator.rows:
        for row in rows.sample:
            source = row["source"]
            name = source.get("ticket_id") or source.get("account_id") or source.get("happened_at", "")[:10]
            told[name] = told.get(name, Decimal(0)) + row["contribution"]
    assert {name: round(value, 9) for name, value in told.items() if round(value, 9)} == contributions


@pytest.mark.parametrize(
    ("metric", "grain", "numerator", "denominator", "value"),
    [
        # 60 new and 25 back for 30 lost
        ("quick_ratio", "month", "85", "30", "2.8333333333333333"),
        # 300 spent on one new account, and a margin of 80 % of 225 from 4 payers
        ("cac_payback_months", "month", "300", "45", "6.6666666666666667"),
        # 35 more MRR than the 190 of February 2025, and a margin of 180 less 300 of 225
        ("rule_of_40", "month", "-34.912280701754", None, "-34.912280701754"),
        # 12 x (60 + 25 - 30) for the 880 of the quarter before
        ("magic_number", "quarter", "660", "880", "0.75"),
        # 300 spent less 40 collected, for the same 660
        ("burn_multiple", "month", "260", "660", "0.3939393939393939"),
        ("marketing_spend", "month", "300", None, "300"),
    ],
)
def test_metrics_of_metrics_are_those_of_the_ledger(ledger, metric, grain, numerator, denominator, value):
    found = explain(ledger, metric, utc("2026-02-01T00:00:00" if grain == "month" else "2026-01-01T00:00:00"), grain)
    assert found.adds_up
    told = [found.published[column] for column in ("numerator", "denominator", "value")]
    wanted = [None if number is None else Decimal(number) for number in (numerator, denominator, value)]
    assert [None if n is None else round(n, 12) for n in told] == [None if n is None else round(n, 12) for n in wanted]


def test_an_explanation_has_the_values_of_the_metrics_that_it_is_made_of(ledger):
    found = explain(ledger, "rule_of_40", utc("2026-02-01T00:00:00"), "month")
    assert found.numerator.parts == {
        "mrr": 225, "mrr_year_before": 190, "paying_accounts": 4, "ltv_numerator": 45, "marketing_spend": 300,
    }  # fmt: skip
    assert "mrr 225, mrr_year_before 190, paying_accounts 4" in as_text(found)


def test_a_metric_that_looks_back_says_that_there_is_no_earlier_value(ledger):
    (row,) = select(
        ledger,
        "select value, null_reason from metric_values where metric_id = 'rule_of_40' and grain = 'month' "
        "and period_start = '2025-12-01' and application = 'all'",
    )
    assert row == {"value": None, "null_reason": "no_earlier_value"}


def test_a_rate_of_two_rounded_values_is_explained_to_the_cent(ledger):
    # 45 a payer at 1 lost of 3, after 38 a payer at 1 lost of 4
    found = explain(ledger, "ltv_growth_rate", utc("2026-02-01T00:00:00"), "month")
    assert found.adds_up
    assert found.numerator.recomputed == found.published["numerator"] == 135 - 152
    assert found.denominator.recomputed == 152


def test_the_explanation_says_which_file_brought_a_row(ledger, capsys):
    settings = ledger
    assert (
        cli.main(
            ["explain", "escalation_time", "--home", str(settings.home), "--grain", "week", "--period", "2026-02-02"]
        )
        == 0
    )
    text = capsys.readouterr().out
    assert "1 row adds up to 45, as published" in text
    assert "tickets 1 (rows.jsonl), ticket_events 1 (rows.jsonl)" in text
    assert "SQL of core.metrics_support, as it was compiled" in text
    assert "percentile_cont(0.5) within group" in text


def test_rows_of_a_file_that_was_delivered_again_name_its_source(ledger):
    with db.connect(ledger, "owner") as connection:
        connection.execute("update audit.landed_files set batch_id = batch_id + 1000000 where entity = 'tickets'")
    try:
        found = explain(ledger, "escalation_time", utc("2026-02-02T00:00:00"), "week")
    finally:
        with db.connect(ledger, "owner") as connection:
            connection.execute("update audit.landed_files set batch_id = batch_id - 1000000 where entity = 'tickets'")
    landed = found.numerator.rows[0].sample[0]["landed"]
    assert {part["entity"]: [name.rpartition("/")[2] for name in part["files"]] for part in landed} == {
        "tickets": ["files, delivered again since"], "ticket_events": ["rows.jsonl"],
    }  # fmt: skip


def test_the_explanation_as_json_has_the_same(ledger):
    found = explain(ledger, "mrr", utc("2026-02-01T00:00:00"))
    content = json.loads(as_json(found))
    assert content["adds_up"] is True
    assert content["numerator"]["published"] == content["numerator"]["contributions"] == 225
    assert "rows.jsonl" in as_text(found)


def test_rows_that_are_not_those_of_the_number_are_told(ledger, capsys):
    settings = ledger
    with db.connect(settings, "owner") as connection:
        connection.execute("create table core.kept as select * from core.account_mrr where account_id = 'stays'")
        connection.execute("delete from core.account_mrr where account_id = 'stays'")
    try:
        assert cli.main(["explain", "mrr", "--home", str(settings.home), "--period", "2026-02-01"]) == 1
        assert "add up to 125, NOT the published 225" in capsys.readouterr().out
    finally:
        with db.connect(settings, "owner") as connection:
            connection.execute("insert into core.account_mrr select * from core.kept")
            connection.execute("drop table core.kept")


def test_a_metric_that_another_is_made_of_is_missing_where_it_has_no_value(ledger):
    explanation = explain(ledger, "rule_of_40", utc("2025-12-01T00:00:00"))
    assert explanation.published["null_reason"] == "no_earlier_value"
    assert explanation.numerator.parts["mrr_year_before"] is None and explanation.numerator.parts["mrr"] > 0
    assert "mrr_year_before missing" in as_text(explanation)
    # a year later there is one
    assert explain(ledger, "rule_of_40", utc("2026-02-01T00:00:00")).numerator.parts["mrr_year_before"] > 0


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("metric_id = 'mrr' and segment = 'shoe_size'", "mrr has no segment 'shoe_size'; its segments are plan_tier"),
        (
            "metric_id in ('mrr') and grain = 'hour'",
            "mrr has no hour values; its grains are day, week, month, quarter, year",
        ),
        ("metric_id = 'mrrr'", "there is no metric 'mrrr'"),
        ("metric_id = 'mrr' and period_start < '1999-01-01'", None),
    ],
)
def test_a_query_without_rows_says_which_name_is_not_published(ledger, capsys, condition, reason):
    assert cli.main(["sql", f"select * from metric_values where {condition}", "--home", str(ledger.home)]) == 0
    error = capsys.readouterr().err
    assert f"no rows: {reason}" in error if reason else error == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mrr_"], "is it one of mrr, mrr_constant_currency, mrr_growth_rate, mrr_growth_rate_constant_currency?"),
        (["nonsense"], "there is no metric 'nonsense'"),
        (["mrr", "--grain", "hour"], "its grains are day, week, month, quarter, year"),
        (["mrr", "--period", "2026-02-02"], "it has from 2025-01-01 to 2026-02-01, and a period is named by its start"),
        (["mrr", "--application", "nowhere"], "mrr has no month values for nowhere"),
        (["mrr", "--segment", "shoe_size=42"], "mrr has no segment 'shoe_size'; its segments are plan_tier"),
        (["mrr", "--segment", "pro"], "write it like plan_tier=premium"),
        (["mrr", "--period", "soon"], "'soon' is not a time"),
        (["mrr", "--rows", "0"], "--rows: give a number of 1 or more"),
    ],
)
def test_what_cannot_be_explained_is_one_line(ledger, capsys, arguments, message):
    assert cli.main(["explain", *arguments, "--home", str(ledger.home)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("aggregate", "total"),
    [
        ("sum(r.x) filter (where r.y = 'a')", 3),
        ("count(*) filter (where r.y = 'a') - count(*) filter (where r.y = 'b')", 2),
        ("count(r.x)", 4),
        ("count(distinct r.y)", 2),
        ("count(distinct r.y) filter (where r.x > 1)", 2),
        ("count(distinct (r.y, r.x))", 5),
        ("max(r.x)", 10),
        ("avg(r.x)", 4.25),
        ("percentile_cont(0.5) within group (order by r.x)", 3),
        ("percentile_cont(0.95) within group (order by r.x)", 9.1),
        ("100 * sum(r.x) / 4", 425),
    ],
)
def test_a_rows_part_of_every_kind_of_aggregate(warehouse, aggregate, total):
    rows = "(values (1, 'a', 1), (2, 'a', 2), (4, 'b', 3), (10, null, 4), (null, 'a', 5)) as r (x, y, at)"
    with db.connect(warehouse, "transformer") as connection:
        answer = connection.execute(
            f"select sum(part)::float as parts, (select ({aggregate})::float from {rows}) as whole "
            f"from (select ({row_part(aggregate, 'at')})::numeric as part from {rows}) as p"
        ).fetchone()
    assert answer["parts"] == pytest.approx(total)
    assert answer["whole"] == pytest.approx(total)
