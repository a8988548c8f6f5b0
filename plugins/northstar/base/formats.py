"""Numbers as their unit says, for people: on the pages, in reports, alerts and on the command line."""

from decimal import Decimal
from typing import TypeVar

# a value and the one before are of one kind
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
    "money": 2,
    "percent": 1,
    "count": 0,
    "ms": 0,
    "seconds": 0,
    "minutes": 1,
    "hours": 1,
    "months": 1,
    "times": 1,
}


def shown(value: float | Decimal | None, unit: str, currency: str = "") -> str:
    """A value with its unit; '-' for none. currency: the code that money is followed by."""
    if value is None or value != value:
        return "-"
    suffix = f" {currency}" if unit == "money" and currency else SUFFIXES.get(unit, "")
    return f"{value:,.{DIGITS.get(unit, 2)}f}{suffix}"


def change(value: Number | None, before: Number | None, unit: str) -> float | None:
    """The change from `before`: in percent of it, or in points where the unit is percent; None where there is none."""
    if value is None or before is None:
        return None
    if unit == "percent":
        return float(value - before)
    return float((value - before) / abs(before) * 100) if before else None


def shown_change(value: Number | None, before: Number | None, unit: str) -> str:
    """The change as words: '+4.2 %', '-0.3 points'; '' where there is none."""
    difference = change(value, before, unit)
    if difference is None:
        return ""
    return f"{difference:+,.1f} {'points' if unit == 'percent' else '%'}"
