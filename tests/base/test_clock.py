"""Which period a moment is in."""

from zoneinfo import ZoneInfo

import pytest

from northstar.base.clock import Calendar, indivisible_days, parse_time, show_utc
from northstar.base.errors import NorthstarError
from tests.support import utc


@pytest.mark.parametrize(
    ("grain", "start", "end"),
    [
        ("day", "2026-02-28", "2026-03-01"),
        ("week", "2026-02-16", "2026-02-23"),
        ("month", "2026-02-01", "2026-03-01"),
        ("quarter", "2025-10-01", "2026-01-01"),
        ("year", "2025-01-01", "2026-01-01"),
    ],
)
def test_the_last_period_is_the_one_that_is_over(grain, start, end):
    # a Sunday
    for moment in ("2026-03-01T00:00:00", "2026-03-01T23:59:59"):
        assert Calendar().last_period(grain, utc(moment)) == (utc(start), utc(end))


def test_an_unknown_grain_has_no_periods():
    with pytest.raises(ValueError, match="no grain fortnight"):
        Calendar().period_start("fortnight", utc("2026-03-01"))


@pytest.mark.parametrize(
    ("calendar", "grain", "moment", "start", "end"),
    [
        (Calendar(first_weekday=6), "week", "2026-03-01", "2026-02-22", "2026-03-01"),
        (Calendar(first_weekday=6), "week", "2026-02-28T23:59:59", "2026-02-15", "2026-02-22"),
        (Calendar(first_weekday=5), "week", "2026-03-01", "2026-02-21", "2026-02-28"),
        (Calendar(first_month=2), "quarter", "2026-01-31T12:00:00", "2025-08-01", "2025-11-01"),
        (Calendar(first_month=2), "quarter", "2026-02-01", "2025-11-01", "2026-02-01"),
        (Calendar(first_month=4), "quarter", "2026-03-31", "2025-10-01", "2026-01-01"),
        (Calendar(first_month=4), "year", "2026-03-31", "2024-04-01", "2025-04-01"),
        (Calendar(first_month=4), "year", "2026-04-01", "2025-04-01", "2026-04-01"),
        (Calendar(first_month=10), "year", "2026-01-01", "2024-10-01", "2025-10-01"),
        (Calendar(first_weekday=6, first_month=10), "month", "2026-01-31", "2025-12-01", "2026-01-01"),
    ],
)
def test_weeks_quarters_and_years_begin_as_the_company_says(calendar, grain, moment, start, end):
    assert calendar.last_period(grain, utc(moment)) == (utc(start), utc(end))


NEW_YORK, INDIA = ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")


@pytest.mark.parametrize(
    ("calendar", "grain", "moment", "start", "end"),
    [
        # the day of 23 hours, and the one of 25
        (Calendar(zone=NEW_YORK), "day", "2025-03-10T04:00:00", "2025-03-09T05:00:00", "2025-03-10T04:00:00"),
        (Calendar(zone=NEW_YORK), "day", "2025-03-10T03:59:59", "2025-03-08T05:00:00", "2025-03-09T05:00:00"),
        (Calendar(zone=NEW_YORK), "day", "2025-11-03T05:00:00", "2025-11-02T04:00:00", "2025-11-03T05:00:00"),
        (Calendar(zone=NEW_YORK), "week", "2025-03-10T04:00:00", "2025-03-03T05:00:00", "2025-03-10T04:00:00"),
        (Calendar(first_weekday=6, zone=NEW_YORK), "week", "2025-11-02T04:00:00", "2025-10-26T04:00:00", "2025-11-02T04:00:00"),
        (Calendar(zone=NEW_YORK), "month", "2025-04-01T03:59:59", "2025-02-01T05:00:00", "2025-03-01T05:00:00"),
        (Calendar(first_month=4, zone=NEW_YORK), "year", "2025-04-01T04:00:00", "2024-04-01T04:00:00", "2025-04-01T04:00:00"),
        (Calendar(zone=INDIA), "day", "2025-03-31T18:30:00", "2025-03-30T18:30:00", "2025-03-31T18:30:00"),
    ],
)  # fmt: skip
def test_days_begin_at_the_companys_midnight(calendar, grain, moment, start, end):
    found = calendar.last_period(grain, utc(moment))
    assert found == (utc(start), utc(end))
    assert {at.time().isoformat() for at in found} == {"00:00:00"}


def test_a_date_is_its_midnight_by_the_companys_clock():
    assert parse_time("2025-04-01", NEW_YORK) == utc("2025-04-01T04:00:00")
    assert parse_time("2025-04-01") == parse_time("2025-04-01T00:00:00Z", NEW_YORK) == utc("2025-04-01T00:00:00")
    with pytest.raises(NorthstarError, match="has no time zone"):
        parse_time("2025-04-01T00:00:00", NEW_YORK)


def test_a_moment_is_shown_in_utc_wherever_it_was_read():
    assert show_utc(utc("2025-11-02T05:30:00").astimezone(NEW_YORK)) == "2025-11-02 05:30 UTC"


@pytest.mark.parametrize(
    ("zone", "why"),
    [
        ("America/New_York", None), ("Europe/Berlin", None), ("Asia/Kolkata", None), ("Pacific/Auckland", None), ("Asia/Kathmandu", None),
        ("America/Havana", "its clocks change at midnight (2020-03-08)"), ("Africa/Cairo", "its clocks change at midnight (2023-04-28)"),
        ("Australia/Lord_Howe", "its clocks change by a part of an hour (before 2020-04-06)"),
    ],
)  # fmt: skip
def test_a_day_has_one_midnight_and_whole_hours(zone, why):
    assert indivisible_days(zone) == why
