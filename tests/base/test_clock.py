"""Which period a moment is in."""

import pytest

from northstar.base.clock import Calendar
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
