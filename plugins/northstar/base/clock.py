"""Read times as people write them, and say which period a time is in."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from northstar.base.errors import NorthstarError

Grain = Literal["hour", "day", "week", "month", "quarter", "year"]
# the lengths of periods, shortest first
GRAINS: tuple[Grain, ...] = get_args(Grain)
# how long they are, as intervals of Postgres
LENGTHS = {
    "hour": "1 hour",
    "day": "1 day",
    "week": "7 days",
    "month": "1 month",
    "quarter": "3 months",
    "year": "1 year",
}

GREENWICH = ZoneInfo("UTC")
# the years whose changes of clocks are looked at
CLOCKS_SINCE, CLOCKS_UNTIL = datetime(2020, 1, 1), datetime(2031, 1, 1)


@dataclass(frozen=True)
class Calendar:
    """How a company divides time; dbt_project/macros/engine/periods.sql does the same in SQL.

    first_weekday: the day that weeks begin on, 0 (Monday) to 6. first_month: the month that the fiscal year begins in, 1 to 12. zone: where
    days begin at midnight.
    """

    first_weekday: int = 0
    first_month: int = 1
    zone: ZoneInfo = GREENWICH

    def fiscal_year(self, moment: date) -> int:
        """The number of the fiscal year that a moment is in: that of the calendar year in which it ends."""
        return moment.year + (self.first_month > 1 and moment.month >= self.first_month)

    def fiscal_quarter(self, moment: date) -> int:
        """1 to 4."""
        return self._months_into_year(moment) // 3 + 1

    def _months_into_year(self, moment: date) -> int:
        return (moment.month - self.first_month) % 12

    def period_start(self, grain: str, moment: datetime) -> datetime:
        """The start of the period (day, week, month, quarter or year) that a moment is in. Raises ValueError for another grain."""
        day = moment.astimezone(self.zone).replace(hour=0, minute=0, second=0, microsecond=0)
        match grain:
            case "day":
                return day
            case "week":
                return day - timedelta(days=(day.weekday() - self.first_weekday) % 7)
            case "month":
                return day.replace(day=1)
            case "quarter":
                return _month_before(day, self._months_into_year(day) % 3)
            case "year":
                return _month_before(day, self._months_into_year(day))
        raise ValueError(f"no grain {grain}")

    def last_period(self, grain: str, moment: datetime) -> tuple[datetime, datetime]:
        """Start and end of the last period that was over at a moment, as `period_start` has them."""
        end = self.period_start(grain, moment)
        return self.period_start(grain, end.astimezone(UTC) - timedelta(microseconds=1)), end


def _month_before(day: datetime, months: int) -> datetime:
    years, month = divmod(day.month - 1 - months, 12)
    return day.replace(year=day.year + years, month=month + 1, day=1)


@cache
def indivisible_days(name: str) -> str | None:
    """Why the days of a time zone cannot be divided here, in words; None where they can.

    A day begins at one midnight and is made of whole hours: so clocks may not change at midnight, nor by a part of an hour.
    """
    zone, previous = ZoneInfo(name), None
    for number in range((CLOCKS_UNTIL - CLOCKS_SINCE).days):
        midnight = (CLOCKS_SINCE + timedelta(days=number)).replace(tzinfo=zone)
        offset = midnight.utcoffset() or timedelta()
        if offset != midnight.replace(fold=1).utcoffset():
            return f"its clocks change at midnight ({midnight:%Y-%m-%d})"
        if previous is not None and (offset - previous) % timedelta(hours=1):
            return f"its clocks change by a part of an hour (before {midnight:%Y-%m-%d})"
        previous = offset
    return None


def show_utc(moment: datetime) -> str:
    """A moment to the minute, whatever its zone: `2025-04-01 06:30 UTC`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def parse_time(text: str | None, zone: ZoneInfo = GREENWICH) -> datetime:
    """A timestamp with a zone (or a date: its midnight in `zone`), in UTC; None is the current hour.

    Raises NorthstarError for anything else.
    """
    if text is None:
        return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise NorthstarError(f"{text!r} is not a time; write it like 2025-04-01T00:00:00Z") from exc
    if moment.tzinfo is None:
        if "T" in text or " " in text:
            raise NorthstarError(f"{text!r} has no time zone; write it like 2025-04-01T00:00:00Z")
        moment = moment.replace(tzinfo=zone)
    return moment.astimezone(UTC)
