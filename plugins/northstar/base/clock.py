"""Read times as people write them."""

from datetime import UTC, datetime

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
