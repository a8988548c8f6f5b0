"""Why a value changed: the parts of the change by the values of a segment."""

import re
from datetime import datetime
from decimal import Decimal
from typing import TypedDict

from northstar.base.formats import format_value
from northstar.use.marts import Marts, Metric


class Point(TypedDict):
    """A metric's value in a period."""

    period_start: datetime
    value: Decimal | None
    numerator: Decimal | None
    denominator: Decimal | None


class Part(TypedDict):
    """The part of a metric's value in a period that belongs to one value of a segment."""

    segment: str
    name: str
    period_start: datetime
    numerator: Decimal | None
    denominator: Decimal | None


def explain_change(marts: Marts, metric: str, application: str, currency: str) -> list[str]:
    """The parts that explain the newest change of a metric's value best, in words, largest first; [] where nothing does."""
    entry = marts.catalogue().get(metric)
    if entry is None:
        return []
    for grain in reversed(entry["grains"]):
        rows: list[Point] = marts.frame(
            "select period_start, value, numerator, denominator from metric_values where metric_id = %(metric)s and grain = %(grain)s "
            "and application = %(application)s and segment = '' and is_complete order by period_start desc limit 2",
            metric=metric, grain=grain, application=application,
        ).to_dict("records")  # fmt: skip
        if len(rows) == 2 and None not in (rows[0]["value"], rows[1]["value"]):
            return describe_change(marts, entry, grain, application, rows[0], rows[1], currency)
    return []


def describe_change(
    marts: Marts, entry: Metric, grain: str, application: str, newest: Point, previous: Point, currency: str
) -> list[str]:
    """The change between two periods in words: 'country US: -11.6 points', largest first."""
    split = change_by_segment(marts, entry, grain, application, newest, previous)
    if split is None:
        return []
    segment, parts = split
    lines = []
    for name, amount in parts:
        text = describe_amount(amount, entry["unit"], currency)
        if text:
            lines.append(f"{segment.replace('_', ' ')} {name}: {text}")
    return lines


def describe_amount(amount: float, unit: str, currency: str) -> str:
    """A part of a change with its sign and unit, such as '-11.6 points'; '' for one that rounds to 0, which explains nothing."""
    text = (
        f"{amount:+,.1f} points"
        if unit == "percent"
        else f"{'+' if amount > 0 else ''}{format_value(amount, unit, currency)}"
    )
    return text if re.search("[1-9]", text) else ""


def change_by_segment(
    marts: Marts, entry: Metric, grain: str, application: str, newest: Point, previous: Point
) -> tuple[str, list[tuple[str, float]]] | None:
    """What each value of the segment that explains the change of a total best contributed to it, largest first; None where none explains it."""
    frame = marts.frame(
        "select segment, segment_value as name, period_start, numerator, denominator from metric_values where metric_id = %(metric)s and grain = %(grain)s "
        "and application = %(application)s and segment != '' and period_start in (%(newest)s, %(previous)s) union all "
        "select 'application', application, period_start, numerator, denominator from metric_values where %(application)s = 'all' and metric_id = %(metric)s "
        "and grain = %(grain)s and application != 'all' and segment = '' and period_start in (%(newest)s, %(previous)s)",
        metric=entry["metric_id"], grain=grain, application=application, newest=newest["period_start"], previous=previous["period_start"],
    )  # fmt: skip
    return contributions(frame.to_dict("records"), newest, previous, entry["kind"])


def contributions(
    rows: list[Part], newest: Point, previous: Point, kind: str
) -> tuple[str, list[tuple[str, float]]] | None:
    """How much each value of a segment contributed to a change, for the segment with the largest contribution; None where none explains it.

    rows: segment, name, period_start, numerator, denominator of both periods. For sums the difference; for a ratio N / D that went from v
    to w: (N1 - v D1) / D1 of the segment's own parts, which add up to w - v. Distinct counts overlap, and give None.
    """
    value, earlier = newest["value"], previous["value"]
    if value is None or earlier is None:
        return None
    total = float(value - earlier)
    if not total or kind in ("distinct", "median", "percentile", "max"):
        return None
    is_ratio = newest["denominator"] is not None
    base, rate, scale = 1.0, 0.0, 1.0
    if is_ratio:
        if not newest["denominator"] or not previous["denominator"] or not newest["numerator"]:
            return None
        base, rate = float(newest["denominator"]), float(previous["numerator"] or 0) / float(previous["denominator"])
        # a percentage is a hundred times its numerator over its denominator
        scale = float(value) / (float(newest["numerator"]) / base)
    parts: dict[str, dict[str, dict[str, Part]]] = {}
    for row in rows:
        place = "newest" if row["period_start"] == newest["period_start"] else "previous"
        parts.setdefault(row["segment"], {}).setdefault(row["name"], {})[place] = row
    best: tuple[str, list[tuple[str, float]]] | None = None
    for segment, names in parts.items():
        amounts: list[tuple[str, float]] = []
        for name, both in names.items():
            if is_ratio:
                own = both.get("newest")
                amount = (
                    (float(own["numerator"] or 0) - rate * float(own["denominator"] or 0)) / base * scale
                    if own
                    else 0.0
                )
            else:
                amount = sum(
                    sign * float(both[place]["numerator"] or 0)
                    for place, sign in (("newest", 1), ("previous", -1))
                    if place in both
                )
            amounts.append((name, amount))
        if len(amounts) < 2 or abs(sum(a for _, a in amounts) - total) > 0.01 * abs(total) + 0.01:
            # parts that overlap, or do not cover everything, explain nothing
            continue
        amounts.sort(key=lambda f: -abs(f[1]))
        if best is None or abs(amounts[0][1]) > abs(best[1][0][1]):
            best = segment, amounts
    return best
