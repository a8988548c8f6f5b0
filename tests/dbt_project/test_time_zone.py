"""Days, weeks, months, quarters and years of a company in New York, over both changes of clocks; worked by hand.

New York is five hours behind UTC, and four from 9 March 2025, 2:00, to 2 November 2025, 2:00.
"""

from dataclasses import replace

import pytest

from northstar.base.settings import Rules
from northstar.runs import job
from northstar.runs.preview.preview import preview
from northstar.runs.preview.text import as_text
from northstar.runs.verify import verify
from northstar.use.explain.explanation import explain
from northstar.use.explain.recorded import record_queries
from northstar.use.marts import Marts
from northstar.use.query import query
from northstar.use.why.background import Place, find_background, parse_moment
from northstar.use.why.rows import find_behind
from northstar.warehouse import db
from tests.support import empty, run, select, silent, utc, write_rows

NEW_YORK = "America/New_York"
# instant of a charge (UTC): (its amount, and its day in UTC and in New York)
CHARGES = {
    # the last second before the short Sunday of 23 hours, its first, its last, and the first after it
    "2025-03-09T04:59:59Z": (1, "03-09", "03-08"),
    "2025-03-09T05:00:00Z": (2, "03-09", "03-09"),
    "2025-03-10T03:59:59Z": (4, "03-10", "03-09"),
    "2025-03-10T04:00:00Z": (8, "03-10", "03-10"),
    # half past eleven in the evening of the last day of March, and the first second of April
    "2025-04-01T03:30:00Z": (16, "04-01", "03-31"),
    "2025-04-01T04:00:00Z": (32, "04-01", "04-01"),
    # the long Sunday of 25 hours: before it, its first second, half past one twice, its last second, after it
    "2025-11-02T03:59:59Z": (64, "11-02", "11-01"),
    "2025-11-02T04:00:00Z": (128, "11-02", "11-02"),
    "2025-11-02T05:30:00Z": (256, "11-02", "11-02"),
    "2025-11-02T06:30:00Z": (512, "11-02", "11-02"),
    "2025-11-03T04:59:59Z": (1024, "11-03", "11-02"),
    "2025-11-03T05:00:00Z": (2048, "11-03", "11-03"),
}
BY_DAY = {
    "UTC": {"2025-03-09": 3, "2025-03-10": 12, "2025-04-01": 48, "2025-11-02": 960, "2025-11-03": 3072},
    NEW_YORK: {"2025-03-08": 1, "2025-03-09": 6, "2025-03-10": 8, "2025-03-31": 16, "2025-04-01": 32, "2025-11-01": 64,
               "2025-11-02": 1920, "2025-11-03": 2048},
}  # fmt: skip
BY_WEEK = {
    "UTC": {"2025-03-03": 3, "2025-03-10": 12, "2025-03-31": 48, "2025-10-27": 960, "2025-11-03": 3072},
    NEW_YORK: {"2025-03-03": 7, "2025-03-10": 8, "2025-03-31": 48, "2025-10-27": 1984, "2025-11-03": 2048},
}
BY_MONTH = {
    "UTC": {"2025-03-01": 15, "2025-04-01": 48, "2025-11-01": 4032},
    NEW_YORK: {"2025-03-01": 31, "2025-04-01": 32, "2025-11-01": 4032},
}


def charge(number, at, amount):
    return {"charge_id": f"c{number}", "account_id": "a", "application": "web", "amount": 100 * amount, "currency": "USD",
            "status": "succeeded", "created_at": at, "updated_at": at}  # fmt: skip


ROWS = {
    "accounts": [{"account_id": "a", "account_type": "customer", "application": "web", "country": "US",
                  "created_at": "2025-03-03T08:00:00Z", "updated_at": "2025-03-03T08:00:00Z"}],
    "charges": [charge(amount, at, amount) for at, (amount, *_) in CHARGES.items()],
    "events": [{"event_id": f"e{amount}", "event_name": "page.viewed", "account_id": "a", "session_id": f"s{amount}", "application": "web",
                "channel": "web", "occurred_at": at, "received_at": at} for at, (amount, *_) in CHARGES.items()],
    # it begins on the evening of the short Sunday in New York, and ends on the evening of the long one
    "subscriptions": [{"subscription_item_id": "si", "subscription_id": "s", "account_id": "a", "application": "web", "plan_id": "p",
                       "billing_interval": "month", "interval_count": 1, "quantity": 1, "unit_amount": 5000, "currency": "USD",
                       "status": "active", "valid_from": "2025-03-10T03:30:00Z", "valid_to": "2025-11-03T04:30:00Z",
                       "updated_at": "2025-11-03T04:30:00Z"}],
    # a date is a day of the company, wherever it is
    "marketing_spend": [{"spend_date": "2025-04-01", "application": "web", "channel": "paid_search", "amount": 900, "currency": "USD"}],
}  # fmt: skip
GRAINS = {"cash_collected": ("day", "week", "month", "year"), "dau": ("day",), "stickiness": ("month",), "mrr": ("day",), "marketing_spend": ("day",)}  # fmt: skip


def published(settings, metric, grain):
    """{the period's first day by the session's clock: value} of what is not 0."""
    return {
        row["day"]: round(float(row["value"]), 4)
        for row in select(
            settings,
            "select period_start::date::text as day, value from metric_values where metric_id = %s and grain = %s and application = 'web' "
            "and segment = '' and value != 0 order by period_start",
            metric, grain,
        )
    }  # fmt: skip


def shown(settings):
    return {(metric, grain): published(settings, metric, grain) for metric, grains in GRAINS.items() for grain in grains}  # fmt: skip


@pytest.fixture(scope="module")
def story(warehouse, tmp_path_factory):
    """A company in UTC, a preview of New York, then in New York: across a midnight of UTC, and across its own. With what each version showed."""
    empty(warehouse)
    source = write_rows(tmp_path_factory.mktemp("zones"), ROWS)
    run(warehouse, source, utc("2025-11-04T23:00:00"))
    versions, settings = [shown(warehouse)], replace(warehouse, rules=Rules(reporting_time_zone=NEW_YORK))
    previewed = preview(settings, progress=silent)
    # what is published still has the days of UTC
    with db.connect(settings, "bi_reader") as connection:
        in_between = (Marts(settings).calendar.zone.key, connection.info.parameter_status("TimeZone"))
    for hour, late in (
        ("2025-11-04T23:00:00", []),
        ("2025-11-05T01:00:00", [("2025-04-01T03:45:00Z", 4096), ("2025-11-05T00:30:00Z", 8192)]),
        ("2025-11-05T06:00:00", [("2025-11-05T05:30:00Z", 16384)]),
    ):
        write_rows(source, {"charges": [charge(amount, at, amount) for at, amount in late]}, f"late{hour[11:13]}")
        job.run(settings, "hourly", utc(hour), str(source), silent)
        versions.append(shown(settings))
    record_queries(settings)
    return settings, versions, previewed, in_between


@pytest.mark.parametrize(("number", "zone"), [(0, "UTC"), (1, NEW_YORK)])
def test_periods_hold_what_happened_in_them_by_the_companys_clock(story, number, zone):
    _, versions, *_ = story
    found = versions[number]
    assert found["cash_collected", "day"] == BY_DAY[zone]
    assert found["cash_collected", "week"] == BY_WEEK[zone]
    assert found["cash_collected", "month"] == BY_MONTH[zone]
    assert found["cash_collected", "year"] == {"2025-01-01": 4095}
    assert found["dau", "day"] == dict.fromkeys(BY_DAY[zone], 1)
    assert found["marketing_spend", "day"] == {"2025-04-01": 9}


def test_what_stands_at_the_end_of_a_day_stands_at_its_midnight(story):
    _, versions, *_ = story
    days = [list(found["mrr", "day"]) for found in versions[:2]]
    assert [(d[0], d[-1], len(d)) for d in days] == [
        ("2025-03-10", "2025-11-02", 238),
        ("2025-03-09", "2025-11-01", 238),
    ]


def test_a_month_has_as_many_days_as_the_calendar_says(story):
    # November began with a day of 25 hours: four days of it have begun, on three of which the account was active
    _, versions, *_ = story
    assert versions[1]["stickiness", "month"] == {
        "2025-03-01": round(100 * 4 / 31, 4), "2025-04-01": round(100 * 1 / 30, 4), "2025-11-01": round(100 * 3 / 4, 4),
    }  # fmt: skip


def test_days_have_23_24_and_25_hours(story):
    settings, *_ = story
    days = select(
        settings,
        "select d.period_start::date::text as day, count(*) as hours, extract(epoch from d.period_end - d.period_start)::int / 3600 as length "
        "from dim_periods as d join dim_periods as h on h.grain = 'hour' and h.period_start >= d.period_start and h.period_end <= d.period_end "
        "where d.grain = 'day' and d.period_start between '2025-03-04' and '2025-11-03' group by d.period_start, d.period_end",
    )
    lengths = {row["day"]: (row["hours"], row["length"]) for row in days}
    assert len(lengths) == 245
    assert lengths.pop("2025-03-09") == (23, 23) and lengths.pop("2025-11-02") == (25, 25)
    assert set(lengths.values()) == {(24, 24)}


def test_an_hour_is_an_hour_and_two_of_one_name_are_two(story):
    settings, *_ = story
    rows = select(settings, "select to_char(period_start at time zone 'UTC', 'HH24:MI') as at, to_char(period_start, 'HH24:MI OF') as own, value from metric_values "
                            "where metric_id = 'tracked_events' and grain = 'hour' and application = 'web' and segment = '' "
                            "and period_start between '2025-11-02 05:00Z' and '2025-11-02 06:00Z' order by period_start")  # fmt: skip
    assert [(r["at"], r["own"], r["value"]) for r in rows] == [("05:00", "01:00 -04", 1), ("06:00", "01:00 -05", 1)]


def test_an_hourly_run_goes_on_with_the_companys_day(story):
    _, versions, *_ = story
    # at 20:00 the fourth is still the day, at 1:00 it is over; the late charge is of 31 March
    late = BY_DAY[NEW_YORK] | {"2025-03-31": 4112, "2025-11-04": 8192}
    assert versions[2]["cash_collected", "day"] == late
    assert versions[2]["cash_collected", "month"] == {"2025-03-01": 4127, "2025-04-01": 32, "2025-11-01": 12224}
    assert versions[3]["cash_collected", "day"] == late | {"2025-11-05": 16384}


def test_an_incremental_build_and_a_full_one_make_the_same_days(story):
    settings, *_ = story
    assert all(compared.is_same for compared in verify(settings, None, silent))


def test_a_changed_zone_restates_days_and_longer_periods_with_the_setting_as_the_reason(story):
    settings, *_ = story
    restated = select(settings, "select * from metric_restatements where new_version = 2")
    assert {tuple(row["reasons"]) for row in restated} == {("setting",)}
    assert {row["grain"] for row in restated} == {"day", "week", "month", "quarter"}
    own = {
        row["grain"]: row
        for row in restated
        if (row["metric_id"], row["application"], row["segment"]) == ("cash_collected", "web", "")
    }
    # the days of UTC that were over have no value any more: 9 March to 3 November
    assert (own["day"]["new_value"], own["day"]["periods"]) == (None, 240)
    # the points of hours are those of the first version
    kept = select(settings, "select count(*) filter (where p._version > 1) as new, count(*) as all from metric_points as p join metric_series as s using (series_id) "
                            "where s.grain = 'hour' and p.period_start < '2025-11-04'")  # fmt: skip
    assert kept[0]["new"] == 0 and kept[0]["all"] > 0


def test_a_late_row_restates_the_days_that_it_lies_in(story):
    settings, *_ = story
    rows = select(settings, "select grain, period_start::date::text as day, old_value, new_value, reasons from metric_restatements where new_version = 3 "
                            "and metric_id = 'cash_collected' and application = 'web' and segment = ''")  # fmt: skip
    assert {row["grain"]: (row["day"], row["old_value"], row["new_value"]) for row in rows} == {
        "day": ("2025-03-31", 16, 4112), "week": ("2025-03-31", 48, 4144), "month": ("2025-03-01", 31, 4127), "quarter": ("2025-01-01", 31, 4127),
    }  # fmt: skip
    assert all(row["reasons"] == ["late_rows"] for row in rows)


def test_a_preview_shows_what_the_zone_would_change(story):
    _, _, previewed, _ = story
    assert set(map(tuple, previewed.changed.values())) == {("setting",)} and len(previewed.changed) > 100
    cash = next(m.counts for m in previewed.metrics if m.counts["metric_id"] == "cash_collected")
    # the first day of UTC begins on the evening before in New York
    assert cash["first_period"] == utc("2025-01-01T00:00:00") and cash["last_period"] == utc("2025-11-04T05:00:00")
    assert cash["grains"] == ["day", "month", "quarter", "week", "year"] and cash["appeared"] and cash["vanished"]
    assert {b.note for b in previewed.behind} == {"since only one of the two versions has this period"}
    text = as_text(previewed)
    assert "others (setting)" in text.splitlines()[0] and "2024-12-31 19:00" in text


def test_readers_have_the_clock_of_the_published_version(story):
    settings, _, _, in_between = story
    assert in_between == ("UTC", NEW_YORK)
    with db.connect(settings, "bi_reader") as connection:
        assert connection.info.parameter_status("TimeZone") == NEW_YORK
    assert Marts(settings).calendar.zone.key == NEW_YORK
    _, rows = query(settings, "select period_start::text from dim_periods where grain = 'month' and period_start between '2025-03-01' and '2025-12-01' order by 1")  # fmt: skip
    assert [rows[0][0], rows[-1][0]] == ["2025-03-01 00:00:00-05", "2025-11-01 00:00:00-04"]


@pytest.mark.parametrize(
    ("metric", "grain", "period", "value"),
    [("cash_collected", "day", "2025-03-31", 4112), ("cash_collected", "day", "2025-11-02", 1920), ("mrr", "month", "2025-03-01", 50),
     ("dau", "day", "2025-03-09", 1), ("stickiness", "month", "2025-11-01", None), ("tracked_events", "hour", "2025-11-02T01:00-0500", 1)],
)  # fmt: skip
def test_a_value_is_made_of_the_rows_of_its_day(story, metric, grain, period, value):
    settings, *_ = story
    marts = Marts(settings)
    moment = parse_moment(period, marts.calendar.zone)
    background = find_background(marts, Place(metric, grain, moment, "web"))
    assert value in (None, background.value["value"])
    assert f"period={period.replace(':', '%3A')}" in background.place.path
    behind = find_behind(marts, background)
    assert behind.numerator and behind.numerator.adds_up, behind.note
    assert explain(settings, metric, moment, grain, "web").adds_up
