"""Read times as people write them, and say which period a time is in."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal, get_args

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


@dataclass(frozen=True)
class Calendar:
    """How a company divides time; dbt_project/macros/engine/periods.sql does the same in SQL.

    first_weekday: the day that weeks begin on, 0 (Monday) to 6. first_month: the month that the fiscal year begins in, 1 to 12.
    """

    first_weekday: int = 0
    first_month: int = 1

    def fiscal_year(self, moment: date) -> int:
        """The number of the fiscal year that a moment is in: that of the calendar year in which it ends."""
        return moment.year + (self.first_month > 1 and moment.month >= self.first_month)

    def fiscal_quarter(self, moment: date) -> int:
        """1 to 4."""
        return self._months_into_year(moment) // 3 + 1

    def _months_into_year(self, moment: date) -> int:
        return (moment.month - self.first_month) % 12

    def period_start(self, grain: str, moment: datetime) -> datetime:
        """The start of the period (day, week, month, quarter or year, in UTC) that a moment is in. Raises ValueError for another grain."""
        day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
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
        return self.period_start(grain, end - timedelta(microseconds=1)), end


def _month_before(day: datetime, months: int) -> datetime:
    years, month = divmod(day.month - 1 - months, 12)
    return day.replace(year=day.year + years, month=month + 1, day=1)


def parse_time(text: str | None) -> datetime:
    """A timestamp with a zone (or a date: its UTC midnight); None is the current hour.

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
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)
