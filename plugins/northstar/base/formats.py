"""Numbers with their units, for people: on the pages, in reports and alerts, and on the command line.

Their separators are those of the locale that is written in (northstar.base.locales). The code of a currency stands behind its amount in each locale,
as units do: signs such as $ are those of several currencies.
"""

from decimal import Decimal
from typing import TypeVar

from northstar.base.locales import write_number
from northstar.contract.codes import minor_digits

# a value and the one before it have the same type
Number = TypeVar("Number", float, Decimal)
SUFFIXES = {
    "percent": " %",
    "ms": " ms",
    "seconds": " s",
    "minutes": " min",
    "hours": " h",
    "months": " months",
    "times": " times",
}
DIGITS = {
    "percent": 1,
    "count": 0,
    "ms": 0,
    "seconds": 0,
    "minutes": 1,
    "hours": 1,
    "months": 1,
    "times": 1,
}


def format_value(value: float | Decimal | None, unit: str, currency: str = "") -> str:
    """A value with its unit; '-' for none. currency: the code of an amount of money, which has the digits of that currency."""
    if value is None or value != value:
        return "-"
    if unit == "money":
        return f"{format_amount(value, currency)} {currency}".rstrip()
    return f"{write_number(f'{value:.{DIGITS.get(unit, 2)}f}')}{SUFFIXES.get(unit, '')}"


def format_amount(value: float | Decimal, currency: str) -> str:
    """An amount of money with the digits of its currency, where that stands beside it already."""
    return write_number(f"{value:.{minor_digits(currency)}f}")


def format_count(count: int) -> str:
    """How many there are of something."""
    return write_number(str(count))


def compute_change(value: Number | None, previous: Number | None, unit: str) -> float | None:
    """The change from `previous`: in percent of it, or in points if the unit is percent; None if it cannot be computed."""
    if value is None or previous is None:
        return None
    if unit == "percent":
        return float(value - previous)
    return float((value - previous) / abs(previous) * 100) if previous else None


def format_change(value: Number | None, previous: Number | None, unit: str) -> str:
    """The change as text: '+4.2 %', '-0.3 points'; '' if it cannot be computed."""
    difference = compute_change(value, previous, unit)
    if difference is None:
        return ""
    return f"{write_number(f'{difference:+.1f}')} {'points' if unit == 'percent' else '%'}"
