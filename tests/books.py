"""Whether a published value is what a simulated company's own books say."""

from decimal import Decimal
from fractions import Fraction
from math import floor


def agree(metric: dict, numerator: Fraction, denominator: Fraction | None, row: dict, digits: int) -> bool:
    """Counts are equal, money is equal to the minor unit, which has so many digits, everything else to 1e-9."""
    if row["numerator"] is None or (denominator is not None and not close(denominator, row["denominator"])):
        return False
    if metric["unit"] == "count":
        return numerator == row["numerator"] == row["value"]
    if not close(numerator, row["numerator"]):
        return False
    is_divided = metric["kind"] in ("ratio", "mean")
    if is_divided and denominator == 0:
        return row["value"] is None
    value = numerator / denominator if is_divided else numerator
    if metric["kind"] == "ratio" and metric["unit"] == "percent":
        value *= 100
    if metric["unit"] == "money":
        minor_units = floor(abs(value) * 10**digits + Fraction(1, 2)) * (1 if value >= 0 else -1)
        return minor_units == row["value"] * 10**digits
    return close(value, row["value"])


def close(exact: Fraction, published: Decimal) -> bool:
    return abs(exact - Fraction(published)) <= Fraction(1, 10**9) * max(1, abs(exact))
