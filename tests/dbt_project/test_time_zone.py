"""Days, weeks, months, quarters and years of a company in a time zone of its own, over both changes of clocks; worked by hand.

New York is five hours behind UTC, and four from 9 March 2025, 2:00, to 2 November 2025, 2:00. India is five and a half hours ahead, always.
"""

from dataclasses import replace

import pytest

from northstar.base.settings import Rules
from northstar.runs import job
from northstar.runs.verify import verify
from northstar.use.explain.explanation import explain
from tests.support import empty, run, select, silent, utc, write_rows

NEW_YORK, INDIA = "America/New_York", "Asia/Kolkata"
AS_OF = utc("2025-11-05T00:00:00")
# instant of a charge (UTC): (its amount, and its day in UTC, New York and India)
CHARGES = {
    # the last second before the short Sunday of 23 hours, its first, its last, and the first after it
    "2025-03-09T04:59:59Z": (1, "03-09", "03-08", "03-09"),
    "2025-03-09T05:00:00Z": (2, "03-09", "03-09", "03-09"),
    "2025-03-10T03:59:59Z": (4, "03-10", "03-09", "03-10"),
    "2025-03-10T04:00:00Z": (8, "03-10", "03-10", "03-10"),
    # India's midnight, at half past an hour
    "2025-03-31T18:29:59Z": (16, "03-31", "03-31", "03-31"),
    "2025-03-31T18:30:00Z": (32, "03-31", "03-31", "04-01"),
    # March in New York, April elsewhere
    "2025-04-01T03:59:59Z": (64, "04-01", "03-31", "04-01"),
    # the long Sunday of 25 hours: before it, its first second, half past one twice, its last second, after it
    "2025-11-02T03:59:59Z": (128, "11-02", "11-01", "11-02"),
    "2025-11-02T04:00:00Z": (256, "11-02", "11-02", "11-02"),
    "2025-11-02T05:30:00Z": (512, "11-02", "11-02", "11-02"),
    "2025-11-02T06:30:00Z": (1024, "11-02", "11-02", "11-02"),
    "2025-11-03T04:59:59Z": (2048, "11-03", "11-02", "11-03"),
    "2025-11-03T05:00:00Z": (4096, "11-03", "11-03", "11-03"),
}
BY_DAY = {zone: {} for zone in ("UTC", NEW_YORK, INDIA)}
for _amount, *_days in CHARGES.values():
    for _zone, _day in zip(BY_DAY, _days, strict=True):
        BY_DAY[_zone][f"2025-{_day}"] = BY_DAY[_zone].get(f"2025-{_day}", 0) + _amount
BY_MONTH = {
    "UTC": {"2025-03-01": 63, "2025-04-01": 64, "2025-11-01": 8064},
    NEW_YORK: {"2025-03-01": 127, "2025-11-01": 8064},
    INDIA: {"2025-03-01": 31, "2025-04-01": 96, "2025-11-01": 8064},
}
ROWS = {
    "accounts": [{"account_id": "a", "account_type": "customer", "application": "web", "country": "US",
                  "created_at": "2025-03-03T08:00:00Z", "updated_at": "2025-03-03T08:00:00Z"}],
    "charges": [{"charge_id": f"c{amount}", "account_id": "a", "application": "web", "amount": 100 * amount, "currency": "USD",
                 "status": "succeeded", "created_at": at, "updated_at": at} for at, (amount, *_) in CHARGES.items()],
    "events": [{"event_id": f"e{amount}", "event_name": "page.viewed", "account_id": "a", "session_id": f"s{amount}", "application": "web",
                "channel": "web", "occurred_at": at} for at, (amount, *_) in CHARGES.items()],
    # it begins on the evening of the short Sunday in New York, and ends on the evening of the long one
    "subscriptions": [{"subscription_item_id": "si", "subscription_id": "s", "account_id": "a", "application": "web", "plan_id": "p",
                       "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": 5000, "currency": "USD",
                       "status": "active", "valid_from": "2025-03-10T03:30:00Z", "valid_to": "2025-11-03T04:30:00Z",
                       "updated_at": "2025-11-03T04:30:00Z"}],
    # a date is a day of the company, wherever it is
    "marketing_spend": [{"spend_date": "2025-04-01", "application": "web", "channel": "paid_search", "amount": 900, "currency": "USD"}],
}  # fmt: skip


def published(settings, metric, grain):
    """{the period's first day by the company's clock: value} of what is not 0."""
    return {
        row["day"]: float(row["value"])
        for row in select(
            settings,
            "select period_start::date::text as day, value from metric_values where metric_id = %s and grain = %s and application = 'web' "
            "and segment = '' and value != 0 order by period_start",
            metric, grain,
        )
    }  # fmt: skip


def shown(settings):
    kept = {
        (metric, grain): published(settings, metric, grain)
        for metric, grain in (
            ("cash_collected", "day"), ("cash_collected", "week"), ("cash_collected", "month"), ("cash_collected", "year"), ("dau", "day"),
            ("mrr", "day"), ("marketing_spend", "day"),
        )
    }  # fmt: skip
    hours = select(
        settings,
        "select d.period_start::date::text as day, count(h) as hours, extract(epoch from d.period_end - d.period_start) / 3600 as length "
        "from dim_periods as d join dim_periods as h on h.grain = 'hour' and h.period_start >= d.period_start and h.period_end <= d.period_end "
        "where d.grain = 'day' group by d.period_start, d.period_end",
    )
    return kept | {
        "hours": {row["day"]: (row["hours"], int(row["length"])) for row in hours},
        "events by hour": {
            row["hour"]: int(row["value"])
            for row in select(settings, "select to_char(period_start at time zone 'UTC', 'MM-DD HH24:MI') as hour, value from metric_values where metric_id = 'tracked_events' "
                                        "and grain = 'hour' and application = 'web' and segment = '' and value != 0")
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def story(warehouse, tmp_path_factory):
    """A company in UTC, then in New York, then in India, then a late charge there; with what each version showed."""
    empty(warehouse)
    source = write_rows(tmp_path_factory.mktemp("zones"), ROWS)
    run(warehouse, source, AS_OF)
    versions, rules_file = [(warehouse, shown(warehouse))], warehouse.config / "northstar.yml"
    assert not rules_file.exists()
    for zone in (NEW_YORK, INDIA):
        # the auditor reads the file
        rules_file.write_text(f"reporting_time_zone: {zone}\n")
        settings = replace(warehouse, rules=Rules(reporting_time_zone=zone))
        job.run(settings, "hourly", AS_OF, str(source), silent)
        versions.append((settings, shown(settings)))
    write_rows(source, {"charges": [{**ROWS["charges"][0], "charge_id": "late", "created_at": "2025-03-31T18:45:00Z", "updated_at": "2025-03-31T18:45:00Z"}]}, "late")  # fmt: skip
    job.run(settings, "hourly", utc("2025-11-05T01:00:00"), str(source), silent)
    versions.append((settings, shown(settings)))
    yield versions
    rules_file.unlink()


@pytest.mark.parametrize(("number", "zone"), [(0, "UTC"), (1, NEW_YORK), (2, INDIA)])
def test_a_day_is_the_companys_day(story, number, zone):
    _, found = story[number]
    assert found["cash_collected", "day"] == BY_DAY[zone]
    assert found["dau", "day"] == dict.fromkeys(BY_DAY[zone], 1)
    assert found["cash_collected", "month"] == BY_MONTH[zone]
    assert found["cash_collected", "year"] == {"2025-01-01": 8191}
    assert found["marketing_spend", "day"] == {"2025-04-01": 9}


def test_what_stands_at_the_end_of_a_day_stands_at_its_midnight(story):
    utc_days, new_york, india = (list(found["mrr", "day"]) for _, found in story[:3])
    assert (utc_days[0], utc_days[-1]) == (india[0], india[-1]) == ("2025-03-10", "2025-11-02")
    assert (new_york[0], new_york[-1]) == ("2025-03-09", "2025-11-01")


def test_a_week_is_made_of_seven_days_however_long_they_are(story):
    _, found = story[1]
    assert found["cash_collected", "week"] == {
        "2025-03-03": 7, "2025-03-10": 8, "2025-03-31": 112, "2025-10-27": 3968, "2025-11-03": 4096,
    }  # fmt: skip


def test_days_have_23_24_and_25_hours(story):
    for number, lengths in ((0, {24}), (1, {23, 24, 25}), (2, {24})):
        days = story[number][1]["hours"]
        assert {hours for hours, _ in days.values()} >= lengths and all(
            hours == length for hours, length in list(days.values())[1:-1]
        )
    days = story[1][1]["hours"]
    assert (days["2025-03-09"], days["2025-11-02"], days["2025-11-01"]) == ((23, 23), (25, 25), (24, 24))


def test_hours_are_those_of_the_zone_and_two_of_one_name_are_two(story):
    in_utc, in_new_york, in_india = (found["events by hour"] for _, found in story[:3])
    assert in_utc == in_new_york and {"11-02 05:00", "11-02 06:00"} < in_utc.keys()
    assert {"03-31 17:30", "03-31 18:30", "11-02 05:30", "11-02 06:30"} < in_india.keys()


def test_an_incremental_build_and_a_full_one_make_the_same_days(story):
    settings, _ = story[-1]
    assert all(compared.is_same for compared in verify(settings, None, silent))


def test_a_changed_zone_restates_days_and_longer_periods_with_the_setting_as_the_reason(story):
    settings, _ = story[-1]
    restated = select(settings, "select * from metric_restatements where new_version = 2")
    assert {tuple(row["reasons"]) for row in restated} == {("setting",)}
    assert {row["grain"] for row in restated} == {"day", "week", "month", "quarter"}
    own = {
        row["grain"]: row
        for row in restated
        if (row["metric_id"], row["application"], row["segment"]) == ("cash_collected", "web", "")
    }
    # the days of UTC that were over have no value any more: 3 March to 4 November
    assert (own["day"]["new_value"], own["day"]["periods"]) == (None, 247)
    assert {row["grain"] for row in select(settings, "select distinct grain from metric_restatements where new_version = 3")} == {
        "hour", "day", "week", "month", "quarter",
    }  # fmt: skip


def test_a_late_row_restates_the_days_that_it_lies_in(story):
    settings, found = story[-1]
    assert found["cash_collected", "day"] == BY_DAY[INDIA] | {"2025-04-01": 97}
    rows = select(settings, "select grain, period_start::date::text as day, old_value, new_value, reasons from metric_restatements where new_version = 4 "
                            "and metric_id = 'cash_collected' and application = 'web' and segment = ''")  # fmt: skip
    assert {row["grain"]: (row["day"], row["old_value"], row["new_value"]) for row in rows} == {
        "day": ("2025-04-01", 96, 97), "week": ("2025-03-31", 112, 113), "month": ("2025-04-01", 96, 97), "quarter": ("2025-04-01", 96, 97),
    }  # fmt: skip
    assert all(row["reasons"] == ["late_rows"] for row in rows)


@pytest.mark.parametrize(
    ("metric", "grain", "value"), [("cash_collected", "day", 97), ("mrr", "month", 50), ("dau", "day", 1)]
)
def test_a_value_is_made_of_the_rows_of_its_day(story, metric, grain, value):
    settings, _ = story[-1]
    explanation = explain(settings, metric, utc("2025-03-31T18:30:00"), grain, "web")
    assert explanation.adds_up and explanation.published["value"] == value
