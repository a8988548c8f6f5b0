"""Read times as people write them, and say which period a time is in."""

from datetime import UTC, datetime, timedelta

from northstar.base.errors import NorthstarError


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


def period_start(grain: str, moment: datetime) -> datetime:
    """The start of the period (day, week, month, quarter or year, in UTC) that a moment is in. Raises ValueError for another grain."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match grain:
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "quarter":
            return day.replace(day=1, month=day.month - (day.month - 1) % 3)
        case "year":
            return day.replace(day=1, month=1)
    raise ValueError(f"no grain {grain}")


def last_period(grain: str, moment: datetime) -> tuple[datetime, datetime]:
    """Start and end of the last period that was over at a moment, as `period_start` has them."""
    end = period_start(grain, moment)
    return period_start(grain, end - timedelta(microseconds=1)), end
