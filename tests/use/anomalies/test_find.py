"""Anomalies of one cause are one, and the part of it that explains it is named."""

import pytest

from northstar.use.anomalies.find import Judged, explain_miss, put_together
from tests.support import utc

STANDS_ON = {
    "dau": frozenset({"events"}), "tools": frozenset({"events"}), "rate": frozenset({"events", "accounts"}), "signups": frozenset({"accounts"}),
    "failures": frozenset({"charges"}),
}  # fmt: skip


def judged(
    metric,
    application="web",
    value=10.0,
    expected=50.0,
    times=0.01,
    segment=("", ""),
    base=None,
    numerator=None,
    kind="sum",
    unit="count",
):
    """A newest value and what it was expected to be."""
    series = {
        "metric_id": metric, "kind": kind, "unit": unit, "grain": "day", "application": application, "segment": segment[0], "segment_value": segment[1],
        "starts": [utc("2026-02-28")], "ends_at": utc("2026-03-01"), "values": [value], "numerators": [numerator], "denominators": [base],
    }  # fmt: skip
    return Judged(series, expected, expected - 20, expected + 20, times)


def together(*found):
    """[(application of the first, its metrics, entities)] of what is put together."""
    return sorted(
        (group[0].series["application"], [j.series["metric_id"] for j in group], sorted(entities))
        for group, entities in put_together(list(found), STANDS_ON)
    )


def test_what_stands_on_the_same_rows_is_one_cause_and_the_rarest_speaks():
    found = together(judged("dau", times=0.02), judged("tools", times=0.001), judged("failures"), judged("dau", "shop"))
    assert found == [
        ("shop", ["dau"], ["events"]),
        ("web", ["failures"], ["charges"]),
        ("web", ["tools", "dau"], ["events"]),
    ]
    # one metric on two entities joins those of either
    assert together(judged("dau"), judged("signups", times=0.02), judged("rate", times=0.03)) == [
        ("web", ["dau", "signups", "rate"], ["accounts", "events"])
    ]


def test_the_companys_own_is_its_applications_and_that_of_several_the_companys():
    assert together(judged("dau", "all"), judged("dau", "web")) == [("web", ["dau"], ["events"])]
    assert together(judged("dau", "all"), judged("failures", "web")) == [
        ("all", ["dau"], ["events"]),
        ("web", ["failures"], ["charges"]),
    ]
    several = together(judged("dau", "all"), judged("dau", "web"), judged("tools", "shop"), judged("failures", "shop"))
    assert several == [("all", ["dau", "dau", "tools"], ["events"]), ("shop", ["failures"], ["charges"])]


def test_a_segment_explains_what_one_of_its_values_misses():
    total = judged("dau", value=60, expected=100)
    channels = [
        judged("dau", value=5, expected=40, segment=("channel", "mobile")),
        judged("dau", value=55, expected=60, segment=("channel", "web")),
    ]
    countries = [
        judged("dau", value=33, expected=55, segment=("country", "US")),
        judged("dau", value=27, expected=45, segment=("country", "DE")),
    ]
    # of 40 that are missing 35 are mobile's, which was two of five; the US is missed as much as it is large
    segment, amounts, explains = explain_miss(total, channels + countries, [])
    assert (segment, amounts, explains) == ("channel", [("mobile", -35), ("web", -5)], True)
    assert explain_miss(total, countries, [])[2] is False
    assert explain_miss(total, channels[:1], []) is None


def test_a_rate_is_missed_by_what_a_part_has_beyond_the_expected_rate():
    # 24 of 100 failed where 5 % were expected: 19 points; in one country 21 of 40 did, 19 more than its 2; in the other 3 of 60, as expected
    total = judged("failures", value=24.0, expected=5.0, base=100, numerator=24, kind="ratio", unit="percent")
    parts = [
        judged("failures", value=52.5, expected=5, segment=("country", "US"), base=40, numerator=21, kind="ratio"),
        judged("failures", value=5.0, expected=5, segment=("country", "DE"), base=60, numerator=3, kind="ratio"),
    ]  # fmt: skip
    segment, amounts, explains = explain_miss(total, parts, [])
    assert segment == "country" and explains
    assert amounts == [("US", pytest.approx(19)), ("DE", pytest.approx(0))]


def test_applications_are_the_parts_of_the_company():
    total, totals = (
        judged("dau", "all", value=60, expected=100),
        [judged("dau", "web", value=22, expected=60), judged("dau", "shop", value=38, expected=40)],
    )
    assert explain_miss(total, [], [total, *totals]) == ("application", [("web", -38), ("shop", -2)], True)
