"""A year says what its months say: sums of them, the last of them, or from the first one's beginning to the last one's end."""

import pytest

from northstar.use.explain.explanation import explain
from tests.support import select, utc

SUMMED = (
    "new_mrr", "expansion_mrr", "contraction_mrr", "churned_mrr", "reactivation_mrr", "net_new_mrr", "cash_collected", "cac", "new_registrations",
    "new_creators", "signup_to_paid_conversion_rate", "creator_satisfaction", "nps", "nps_mean_score", "gmv", "marketplace_net_revenue",
    "on_time_delivery_rate", "marketing_spend", "quick_ratio", "cash_collected_constant_currency",
)  # fmt: skip
LAST = (
    "mrr", "arr", "paying_accounts", "arpu", "revenue_per_creator", "registered_accounts", "ltv", "international_revenue_share", "active_markets",
)  # fmt: skip
FROM_START = ("mrr_growth_rate", "registration_growth_rate", "mrr_growth_rate_constant_currency")
# what a year began with and what moved in it: the last month began with what rates had done before
OPENED_AND_MOVED = ("mrr_constant_currency", "arr_constant_currency")
# what the year's accounts were at its start and what became of them is no sum of months; targets.csv has no target of a year here
BY_ACCOUNT = {
    "customer_churn_rate": ("count(*) filter (where coalesce(closing.mrr_at_end_exact, 0) = 0)", "count(*)"),
    "net_revenue_retention": ("sum(coalesce(closing.mrr_at_end_exact, 0))", "sum(opening.mrr_at_start_exact)"),
    "gross_revenue_retention": (
        "sum(least(coalesce(closing.mrr_at_end_exact, 0), opening.mrr_at_start_exact))",
        "sum(opening.mrr_at_start_exact)",
    ),
}
OF_OTHERS = (
    "ltv_cac_ratio", "burn_multiple", "market_share", "targets_met_rate", "cash_growth_rate", "cash_growth_rate_constant_currency",
)  # fmt: skip


def test_every_metric_of_years_is_looked_at(built):
    rows = select(built, "select metric_id from metrics where 'year' = any(string_to_array(grains, ','))")
    assert {row["metric_id"] for row in rows} == {
        *SUMMED,
        *LAST,
        *FROM_START,
        *OPENED_AND_MOVED,
        *BY_ACCOUNT,
        *OF_OTHERS,
    }
    quarters = select(built, "select metric_id from metrics where 'quarter' = any(string_to_array(grains, ',')) and not 'year' = any(string_to_array(grains, ','))")  # fmt: skip
    assert [row["metric_id"] for row in quarters] == ["magic_number"], "what has quarters has years"


@pytest.mark.parametrize(
    ("metrics", "numerator", "denominator"),
    [
        (SUMMED, "sum(m.numerator)", "sum(m.denominator)"),
        (LAST, "(array_agg(m.numerator order by m.period_start desc))[1]", "(array_agg(m.denominator order by m.period_start desc))[1]"),
        (FROM_START, "sum(m.numerator)", "(array_agg(m.denominator order by m.period_start))[1]"),
    ],
)  # fmt: skip
def test_a_year_is_made_of_its_months(built, metrics, numerator, denominator):
    rows = select(
        built,
        f"""
        select y.metric_id, y.period_start, y.application, y.segment, y.segment_value, y.numerator, y.denominator, {numerator} as numerator_of_months,
            {denominator} as denominator_of_months
        from metric_values as y
        join metric_values as m on m.metric_id = y.metric_id and m.application = y.application and m.segment = y.segment
            and m.segment_value = y.segment_value and m.grain = 'month' and date_trunc('year', m.period_start) = y.period_start
        where y.grain = 'year' and y.metric_id = any(%s)
        group by 1, 2, 3, 4, 5, 6, 7
        """,
        list(metrics),
    )
    assert {row["metric_id"] for row in rows} == set(metrics) and {row["period_start"].year for row in rows} == {2025, 2026}  # fmt: skip
    differing = [
        row
        for row in rows
        if any(abs((row[side] or 0) - (row[f"{side}_of_months"] or 0)) > 1e-6 for side in ("numerator", "denominator"))
    ]
    assert not differing


def test_constant_currency_is_what_a_period_began_with_and_what_moved_in_it(built):
    rows = select(
        built,
        """
        select growth.grain, growth.numerator + growth.denominator as mrr, constant.numerator as constant_mrr, arr.numerator as constant_arr
        from metric_values as growth
        join metric_values as constant using (grain, period_start, application, segment, segment_value)
        join metric_values as arr using (grain, period_start, application, segment, segment_value)
        where growth.metric_id = 'mrr_growth_rate_constant_currency' and constant.metric_id = 'mrr_constant_currency'
            and arr.metric_id = 'arr_constant_currency'
        """,
    )
    assert {row["grain"] for row in rows} == {"month", "quarter", "year"}
    assert all(row["mrr"] == row["constant_mrr"] == row["constant_arr"] / 12 for row in rows)


@pytest.mark.parametrize("metric", sorted(BY_ACCOUNT))
def test_retention_of_a_year_compares_its_start_with_its_end(built, metric):
    numerator, denominator = BY_ACCOUNT[metric]
    expected = select(
        built,
        f"""
        select opening.application, {numerator} as numerator, {denominator} as denominator
        from mrr_by_account as opening
        left join mrr_by_account as closing on closing.account_id = opening.account_id and closing.application = opening.application
            and closing.month = '2026-02-01'
        where opening.month = '2026-01-01' and opening.mrr_at_start_exact > 0
        group by 1
        """,
    )
    values = {
        row["application"]: row
        for row in select(built, "select * from metric_values where metric_id = %s and grain = 'year' and period_start = '2026-01-01' and segment = ''", metric)
    }  # fmt: skip
    assert len(expected) == 2
    for row in expected:
        found = values[row["application"]]
        assert found["denominator"] == row["denominator"] > 0
        assert abs(found["numerator"] - row["numerator"]) < 1e-6 and not found["is_complete"]


def test_what_is_made_of_other_metrics_is_made_of_their_years(built):
    rows = select(
        built,
        "select period_start, application, jsonb_object_agg(metric_id, to_jsonb(value)) as value from metric_values "
        "where grain = 'year' and segment = '' group by 1, 2",
    )
    compared, cash_of = (
        0,
        {(row["application"], row["period_start"].year): row["value"].get("cash_collected") for row in rows},
    )
    for row in rows:
        value, before = row["value"], cash_of.get((row["application"], row["period_start"].year - 1))
        for growth, cash in (
            ("cash_growth_rate", "cash_collected"),
            ("cash_growth_rate_constant_currency", "cash_collected_constant_currency"),
        ):
            if value.get(growth) is not None:
                # cash is published in cents
                assert value[growth] == pytest.approx(100 * (value[cash] - before) / before, rel=1e-3)
                compared += 1
        if value.get("ltv_cac_ratio") is not None:
            assert value["ltv_cac_ratio"] == pytest.approx(value["ltv"] / value["cac"])
            compared += 1
        if value.get("burn_multiple") is not None:
            assert value["burn_multiple"] == pytest.approx((value["marketing_spend"] - value["cash_collected"]) / (12 * value["net_new_mrr"]), abs=0.01)  # fmt: skip
            compared += 1
    assert compared > 7


def test_years_are_few(built):
    stored = select(built, "select count(*) filter (where grain = 'year') as years, count(*) as all_points from metric_points join metric_series using (series_id)")[0]  # fmt: skip
    assert 0 < stored["years"] < 0.02 * stored["all_points"]


@pytest.mark.parametrize("metric", ["mrr", "customer_churn_rate", "ltv", "cac", "burn_multiple", "market_share"])
def test_a_year_is_explained_by_its_rows(built, metric):
    explanation = explain(built, metric, utc("2026-01-01T00:00:00"), "year")
    assert explanation.adds_up and explanation.published["period_start"].year == 2026
