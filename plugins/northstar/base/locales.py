"""In which locale numbers, months and days are written: that of the reader whose request is answered.

Where nobody's is known, which is so for files, programs and the command line, they are written in the house's way (1,234.5 and 12 Mar 2026).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING

from northstar.base.errors import NorthstarError

if TYPE_CHECKING:
    from babel import Locale

_LOCALE: ContextVar["Locale | None"] = ContextVar("locale", default=None)
# languages of a browser that are looked at
LANGUAGES = 10
HOUSE = "en"


@lru_cache(maxsize=256)
def parse_locale(name: str) -> "Locale":
    """A locale by its name, such as de or de-AT. Raises NorthstarError for a name that is none."""
    # babel is imported where a locale is used: a run needs none
    from babel import Locale, UnknownLocaleError

    try:
        return Locale.parse(name.replace("-", "_"))
    except (ValueError, TypeError, UnknownLocaleError) as exc:
        raise NorthstarError(
            f"{name[:40]!r} is no locale; give a language, or a language with a country, such as de or en-GB"
        ) from exc


def choose_locale(names: Iterable[str], default: str | None = None) -> "Locale | None":
    """The first of the names that is a locale, else the default; None for English without a country, which is the house's way."""
    for number, name in enumerate(names):
        if number >= LANGUAGES:
            break
        try:
            return None if name.lower() == HOUSE else parse_locale(name)
        except NorthstarError:
            continue
    return parse_locale(default) if default and default.lower() != HOUSE else None


@contextmanager
def written_in(locale: "Locale | None") -> Iterator[None]:
    """Write what is written inside in a locale; None for the house's way."""
    token = _LOCALE.set(locale)
    try:
        yield
    finally:
        _LOCALE.reset(token)


def write_in(locale: "Locale | None") -> None:
    """Write what follows in this thread in a locale; None for the house's way."""
    _LOCALE.set(locale)


def locale_name() -> str:
    """The name of the locale, '' for the house's way. What was written for one reader is kept for others of the same."""
    locale = _LOCALE.get()
    return "" if locale is None else str(locale)


def write_number(text: str) -> str:
    """A number that Python wrote (-1234.50) with the locale's separators and the same digits, of which Babel would keep 28."""
    whole, point, fraction = text.lstrip("+-").partition(".")
    if not whole.isdigit():
        return text
    locale, sign = _LOCALE.get(), text[:1].strip("0123456789")
    if locale is None:
        return f"{sign}{int(whole):,}{point}{fraction}"
    symbols: dict[str, str] = dict(locale.number_symbols["latn"])
    last, others = _grouping(locale)
    groups, rest = [whole[-last:]], whole[:-last]
    while rest:
        groups.insert(0, rest[-others:])
        rest = rest[:-others]
    sign = symbols["minusSign"] if sign == "-" else sign
    return sign + symbols["group"].join(groups) + (symbols["decimal"] + fraction if point else "")


def separators() -> str | None:
    """The decimal point and the mark between thousands; None for the house's way."""
    locale = _LOCALE.get()
    if locale is None:
        return None
    symbols = locale.number_symbols["latn"]
    return f"{symbols['decimal']}{symbols['group']}"


def write_day(day: date) -> str:
    """A day: 12 Mar 2026."""
    return _write(day, "yMMMd", "%-d %b %Y")


def write_month(day: date) -> str:
    """The month of a day: Mar 2026."""
    return _write(day, "yMMM", "%b %Y")


def write_day_of_year(day: date) -> str:
    """A day without its year: 12 Mar."""
    return _write(day, "MMMd", "%-d %b")


def _write(day: date, skeleton: str, house: str) -> str:
    locale = _LOCALE.get()
    if locale is None:
        return f"{day:{house}}"
    from babel.dates import format_skeleton

    # the day that it is in its own time zone: Babel would move a moment to UTC
    text: str = format_skeleton(skeleton, date(day.year, day.month, day.day), locale=locale)
    return text


@lru_cache(maxsize=256)
def _grouping(locale: "Locale") -> tuple[int, int]:
    """How many digits stand in the last group before the point, and in the others."""
    last, others = locale.decimal_formats[None].grouping
    return last, others
