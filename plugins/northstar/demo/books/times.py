"""Spans of time and hours, as the books count them: exact. Days and months are the company's (northstar.demo.books.ledger)."""

from datetime import datetime, timedelta
from fractions import Fraction

DAY, SEVEN_DAYS, THIRTY_DAYS = timedelta(days=1), timedelta(days=7), timedelta(days=30)


def hour_of(when: datetime) -> datetime:
    """The moment when the hour of a moment began."""
    return when.replace(minute=0, second=0, microsecond=0)


def seconds(span: timedelta) -> Fraction:
    """A span of time in seconds, exact to the microsecond."""
    return Fraction(span // timedelta(microseconds=1), 1_000_000)
