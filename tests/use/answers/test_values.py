"""Values for programs: what the marts have, a reason in words where there is none, and never a number of an open period that nobody asked for."""

from decimal import Decimal

import pytest

from northstar.use.answers.refusals import Refused
from northstar.use.answers.values import compare_periods, get_value, list_values
from tests.support import select, utc
from tests.withheld import withheld


def test_values_are_those_of_the_marts_and_open_periods_have_none(ask, built):
    # the data ends with February: the quarter is open
    for segment in ("", "country"):
        published = select(
            built, "select * from metric_values where metric_id = 'mrr' and grain = 'quarter' and application = 'all' and segment = %s "
            "order by period_start, segment_value", segment,
        )  # fmt: skip
        with_open, closed = (
            ask(list_values, "MRR", "quarter", segment=segment, with_open=o).values for o in (True, False)
        )
        for value, hidden, row in zip(with_open, closed, published, strict=True):
            assert (value.period_start, value.segment_value, value.value, value.numerator, value.is_complete) == tuple(
                row[n] for n in ("period_start", "segment_value", "value", "numerator", "is_complete")
            )
            assert hidden.value == (row["value"] if row["is_complete"] else None)
            assert (hidden.null_reason == "period_open") is not row["is_complete"]
    assert closed[-1].state == "no value, because the period is open: its period ends on 2026-04-01 00:00 UTC"
    answer = ask(list_values, "mrr", "day", since="2026-02-01", until="2026-02-10", limit=3)
    assert answer.is_cut and [v.period for v in answer.values] == ["8 Feb 2026", "9 Feb 2026", "10 Feb 2026"]
    assert answer.provenance.version == 1 and answer.provenance.as_of == utc("2026-03-01")
    assert answer.definition.currency == "USD" and "Monthly recurring revenue" in answer.definition.definition
    # a ratio without a base is an answer, with its reason
    empty = select(built, "select * from metric_values where null_reason = 'empty_base' and is_complete and grain = 'month' and segment = 'country' order by metric_id limit 1")[0]  # fmt: skip
    found = ask(get_value, empty["metric_id"], f"{empty['period_start']:%Y-%m}", application=empty["application"], segment="country", segment_value=empty["segment_value"])  # fmt: skip
    assert found.value.value is None and found.value.null_reason == "empty_base"
    assert found.formatted.startswith("no value, because there is nothing in this period")


def test_one_value_says_which(ask, built):
    newest = ask(get_value, "mrr")
    assert newest == ask(get_value, "mrr", "2026-02") == ask(get_value, "mrr", "2026-02-01", "month")
    assert newest.value.value == Decimal(newest.formatted.removesuffix(" USD").replace(",", ""))
    assert ask(get_value, "mrr", "2026-Q1", with_open=True).value.is_complete is False


@pytest.mark.parametrize(("question", "reason", "words"), [
    ({"metric": "mrr", "period": "2026-Q1"}, "open", "no value, because the period is open: its period ends on 2026-04-01"),
    ({"metric": "mrr", "period": "2026-05"}, "open", "the period has not begun: the data ends at 2026-03-01 00:00 UTC"),
    ({"metric": "mrr", "period": "2019-05"}, "bad_request", "mrr has no value before"),
    ({"metric": "mrr", "period": "2026-02-01"}, "ambiguous", "2026-02-01 begins a day and a month: name the grain"),
    ({"metric": "mrr", "period": "2026-02", "segment": "country"}, "ambiguous", "country has several values"),
    ({"metric": "mrr", "period": "2026-02", "segment_value": "US"}, "ambiguous", "of which segment?"),
    ({"metric": "mrr", "segment": "country", "segment_value": "' or ''='"}, "bad_request", "mrr has no country \"' or ''='\""),
    ({"metric": "mrr", "segment": "colour"}, "bad_request", "mrr has no segment 'colour'; its segments are"),
    ({"metric": "mrr", "grain": "hour"}, "bad_request", "mrr has no hour values"),
    ({"metric": "mrr", "grain": "month; drop table x"}, "bad_request", "mrr has no"),
    ({"metric": "mrr", "application": "webb"}, "bad_request", "there is no application 'webb'"),
    ({"metric": "mrrr"}, "unknown_metric", "is it mrr?"),
    ({"metric": "churn rate"}, "ambiguous", "can be customer_churn_rate"),
    ({"metric": ""}, "bad_request", "name a metric"),
])  # fmt: skip
def test_a_question_without_an_answer_is_refused_with_its_reason(ask, question, reason, words):
    with pytest.raises(Refused) as refused:
        ask(get_value, **question)
    assert refused.value.reason == reason and words in str(refused.value)


def test_what_was_never_landed_is_not_measured(ask, built):
    coverage = select(built, "select * from metric_coverage where lacking is not null order by metric_id, application limit 1")[0]  # fmt: skip
    metric, application = coverage["metric_id"], coverage["application"]
    for function in (get_value, compare_periods):
        with pytest.raises(
            Refused, match=f"{metric} is not measured in {application}: nothing was landed of"
        ) as refused:
            ask(function, metric, application=application)
        assert refused.value.reason == "not_measured"


def test_a_group_that_is_withheld_has_no_value(ask, built):
    question = {"grain": "month", "segment": "country", "segment_value": "US"}
    with withheld(built, "metric_id = 'mrr' and grain = 'month' and application = 'all' and segment = 'country' and segment_value = 'US'"):  # fmt: skip
        with pytest.raises(Refused, match="so few accounts are behind it that it is withheld") as refused:
            ask(get_value, "mrr", "2026-02", **question)
        assert refused.value.reason == "withheld"
        assert ask(list_values, "mrr", since="2026-02", until="2026-02", **question).values[0].null_reason == "small_group"  # fmt: skip
    assert ask(get_value, "mrr", "2026-02", **question).value.value is not None


def test_a_comparison_says_what_the_change_is_made_of(ask):
    for metric in ("mrr", "customer_churn_rate"):
        found = ask(compare_periods, metric)
        assert (found.newer.period, found.older.period) == ("Feb 2026", "Jan 2026")
        assert found == ask(compare_periods, metric, "2026-01", "2026-02")
        assert found.change == found.newer.value - found.older.value
        assert found.parts_by and sum(p.amount for p in found.parts) == pytest.approx(float(found.change), abs=0.02)
    with pytest.raises(Refused, match="the two periods are the same"):
        ask(compare_periods, "mrr", "2026-02", "2026-02")
    with pytest.raises(Refused) as refused:
        ask(compare_periods, "mrr", "2026-03")
    assert refused.value.reason == "open"
