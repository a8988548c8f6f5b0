"""Which period a moment is in."""

import pytest

from northstar.base.clock import last_period, period_start
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
        assert last_period(grain, utc(moment)) == (utc(start), utc(end))


def test_an_unknown_grain_has_no_periods():
    with pytest.raises(ValueError, match="no grain fortnight"):
        period_start("fortnight", utc("2026-03-01"))
