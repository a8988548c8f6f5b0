"""Days, months and spans of time, as the books count them: UTC, exact."""

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

DAY, SEVEN_DAYS, THIRTY_DAYS = timedelta(days=1), timedelta(days=7), timedelta(days=30)


def midnight(day: date) -> datetime:
    """The moment when a day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def month_of(when: datetime) -> datetime:
    """The moment when the month of a moment began."""
    return datetime(when.year, when.month, 1, tzinfo=UTC)


def next_month(month: datetime) -> datetime:
    """The moment when the month after a month begins."""
    return datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC)


def hour_of(when: datetime) -> datetime:
    """The moment when the hour of a moment began."""
    return when.replace(minute=0, second=0, microsecond=0)


def seconds(span: timedelta) -> Fraction:
    """A span of time in seconds, exact to the microsecond."""
    return Fraction(span // timedelta(microseconds=1), 1_000_000)
