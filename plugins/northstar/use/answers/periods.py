"""Periods as people and programs write them: 2026-03, 2026-Q1, 2026-W09, 2026, 2026-03-01, 2026-03-01T14:00Z, newest."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from northstar.base.clock import GRAINS, Calendar
from northstar.use.answers.refusals import Refused

NEWEST = "newest"
EXAMPLES = "2026-03-01, 2026-03, 2026-Q1, 2026, 2026-03-01T14:00Z or newest"
YEAR = re.compile(r"(FY)?(\d{4})")
QUARTER = re.compile(r"(FY)?(\d{4})-?Q([1-4])|Q([1-4])[ -](FY)?(\d{4})")
MONTH = re.compile(r"(\d{4})-(\d{2})")
WEEK = re.compile(r"(\d{4})-?W(\d{2})")
# 03/04/2026 is in March or in April
SLASHES = re.compile(r"\d{1,2}[/.]\d{1,2}[/.]\d{2,4}")


@dataclass(frozen=True)
class Period:
    """A period by its first moment."""

    grain: str
    start: datetime


def parse_period(text: str, grain: str, grains: Sequence[str], calendar: Calendar) -> Period:
    """The period that a text names. grain: '' where the text alone says how long it is; grains: those that there are.

    Raises Refused for a text that names no period, or several, and for a moment at which no such period begins.
    """
    text = text.strip()
    period = _by_form(text.upper(), calendar) or _by_moment(text, grain, grains, calendar)
    if grain and period.grain != grain:
        raise Refused("bad_request", f"{text!r} is a {period.grain}, and the grain is {grain}")
    if period.grain not in grains:
        raise Refused("bad_request", f"there are no {period.grain} values; the grains are {', '.join(grains)}", grains)
    return period


def _by_form(text: str, calendar: Calendar) -> Period | None:
    """The period of a text whose form says how long it is; None for another text."""
    try:
        if found := YEAR.fullmatch(text):
            return Period("year", _fiscal(int(found[2]), 1, bool(found[1]), text, calendar))
        if found := QUARTER.fullmatch(text):
            year, quarter = found[2] or found[6], found[3] or found[4]
            return Period("quarter", _fiscal(int(year), int(quarter), bool(found[1] or found[5]), text, calendar))
        if found := MONTH.fullmatch(text):
            return Period(
                "month", calendar.period_start("month", _noon(date(int(found[1]), int(found[2]), 15), calendar))
            )
        if found := WEEK.fullmatch(text):
            if calendar.first_weekday:
                raise Refused(
                    "ambiguous",
                    f"{text} is a week from Monday, and this company's begin on another day: name the week's first day",
                )
            return Period("week", calendar.period_start("week", _noon(date.fromisocalendar(int(found[1]), int(found[2]), 4), calendar)))  # fmt: skip
    except ValueError as exc:
        raise Refused("bad_request", f"there is no period {text[:40]!r}") from exc
    if SLASHES.fullmatch(text):
        raise Refused("ambiguous", f"{text!r} can have its day or its month first: write it as 2026-03-01")
    return None


def _fiscal(year: int, quarter: int, is_fiscal: bool, text: str, calendar: Calendar) -> datetime:
    """The start of a quarter of a company's year."""
    if calendar.first_month > 1 and not is_fiscal:
        raise Refused(
            "ambiguous", f"{text} can be of the calendar or of the fiscal year, which begins in month {calendar.first_month} here: write FY{text}, or the first day"
        )  # fmt: skip
    years, month = divmod(calendar.first_month - 1 + 3 * (quarter - 1), 12)
    first = date(year - (calendar.first_month > 1) + years, month + 1, 15)
    return calendar.period_start("month", _noon(first, calendar))


def _by_moment(text: str, grain: str, grains: Sequence[str], calendar: Calendar) -> Period:
    """The period that begins at a date or time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise Refused("bad_request", f"{text[:40]!r} names no period; write {EXAMPLES}") from exc
    is_day = re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", text) is not None
    try:
        # the start of the day itself: a day begins where the calendar says, and its noon is in it everywhere
        start = calendar.period_start("day", _noon(moment.date(), calendar)) if is_day else _in_zone(moment, calendar)
        starting = [g for g in GRAINS if _starts(g, start, calendar) and not (is_day and g == "hour")]
    except OverflowError as exc:
        raise Refused("bad_request", f"there is no period {text[:40]!r}") from exc
    if grain:
        if grain in starting or (grain == "hour" and _starts("hour", start, calendar)):
            return Period(grain, start)
        within = (
            ""
            if grain == "hour"
            else f"; it is in the {grain} that begins at {_written(calendar.period_start(grain, start))}"
        )
        raise Refused("bad_request", f"no {grain} begins at {text}{within}")
    fitting = [g for g in starting if g in grains]
    if len(fitting) > 1:
        raise Refused(
            "ambiguous", f"{text} begins a {', a '.join(fitting[:-1])} and a {fitting[-1]}: name the grain", fitting
        )
    if not fitting:
        raise Refused("bad_request", f"no period begins at {text}; the grains are {', '.join(grains)}", grains)
    return Period(fitting[0], start)


def _starts(grain: str, moment: datetime, calendar: Calendar) -> bool:
    if grain == "hour":
        return moment == moment.replace(minute=0, second=0, microsecond=0)
    return calendar.period_start(grain, moment) == moment


def _in_zone(moment: datetime, calendar: Calendar) -> datetime:
    return moment.replace(tzinfo=calendar.zone) if moment.tzinfo is None else moment.astimezone(calendar.zone)


def _noon(day: date, calendar: Calendar) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=calendar.zone)


def _written(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}" if moment.hour == 0 else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
