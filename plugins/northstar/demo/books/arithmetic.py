"""Exact arithmetic on fractions."""

import math
from fractions import Fraction


def rounded(value: Fraction, units: int) -> Fraction:
    """An amount, rounded half away from zero to the minor unit, of which there are so many in a major one."""
    return Fraction(math.floor(abs(value) * units + Fraction(1, 2)), units) * (1 if value >= 0 else -1)


def percentile(values: list[Fraction], share: Fraction) -> Fraction:
    """The value that a share (0 to 1) of the values lies below, interpolated between its two neighbours."""
    ranked = sorted(values, key=float)
    place = share * (len(ranked) - 1)
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)
