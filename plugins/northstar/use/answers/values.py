"""Values of a metric: a list, one, or two compared."""

from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from northstar.base.clock import GRAINS, show_utc
from northstar.base.formats import format_change, format_value
from northstar.use.answers.metrics import coverage_of, define, resolve_metric
from northstar.use.answers.periods import NEWEST, Period, parse_period
from northstar.use.answers.reading import Reading
from northstar.use.answers.refusals import Refused
from northstar.use.answers.require import near_names, require_application, require_limit, require_part
from northstar.use.answers.shapes import ChangePart, Comparison, SingleValue, Value, ValueList
from northstar.use.changes import Point, change_by_segment, describe_amount
from northstar.use.marts import Metric
from northstar.use.words import describe_needs, describe_segments, null_words, period, why_open
from northstar.warehouse.rows import Row

# the values of one answer
VALUES, MOST_VALUES = 1_000, 20_000
# the parts of a change, and the groups that a refusal names
PARTS = GROUPS = 20
COLUMNS = (
    "v.period_start, p.period_end, v.application, v.segment, v.segment_value, v.numerator, v.denominator, v.value, v.is_complete, v.null_reason "
    "from metric_values as v join dim_periods as p using (grain, period_start)"
)
PLACE = (
    "v.metric_id = %(metric)s and v.grain = %(grain)s and v.application = %(application)s and v.segment = %(segment)s"
)
DEFAULT_GRAINS = ("month", "week", "day", "quarter", "year", "hour")


@dataclass(frozen=True)
class Series:
    """A metric at one grain and place. segment_value: None for all values of the segment."""

    entry: Metric
    grain: str
    application: str
    segment: str
    segment_value: str | None

    @property
    def parameters(self) -> dict[str, object]:
        """The values of a query's placeholders."""
        return {
            "metric": self.entry["metric_id"], "grain": self.grain, "application": self.application, "segment": self.segment, "segment_value": self.segment_value
        }  # fmt: skip

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return self.application + (f", {self.segment} {self.segment_value or ''}".rstrip() if self.segment else "")


def list_values(
    reading: Reading,
    metric: str,
    grain: str = "",
    application: str = "all",
    segment: str = "",
    segment_value: str | None = None,
    since: str = "",
    until: str = "",
    with_open: bool = False,
    limit: int = VALUES,
) -> ValueList:
    """The newest values of a metric, oldest first; those of an open period have no value, unless they are asked for.

    grain: by default the month, or else what the metric has. segment without segment_value: the values of all its groups. since, until: the first and
    the last period. Raises Refused.
    """
    reading.require("metrics")
    series = find_series(reading, metric, grain, application, segment, segment_value)
    require_limit(limit, MOST_VALUES)
    first, last = (
        parse_period(text, series.grain, series.entry["grains"], reading.calendar).start if text and text != NEWEST else None
        for text in (since, until)
    )  # fmt: skip
    if first and last and first > last:
        raise Refused("bad_request", "since is later than until")
    conditions = [
        *(["v.segment_value = %(segment_value)s"] if series.segment_value is not None else []),
        *(["v.period_start >= %(first)s"] if first else []),
        *(["v.period_start <= %(last)s"] if last else []),
    ]
    rows = reading.few_rows(
        f"select {COLUMNS} where {' and '.join([PLACE, *conditions])} order by v.period_start desc, v.segment_value desc limit %(most)s",
        **series.parameters, first=first, last=last, most=limit + 1,
    )  # fmt: skip
    if not rows:
        _require_measured(reading, series, None)
        _require_group(reading, series)
    return ValueList(
        reading.provenance, define(reading, series.entry), series.grain, len(rows) > limit,
        [make_value(reading, series, row, with_open) for row in reversed(rows[:limit])],
    )  # fmt: skip


def get_value(
    reading: Reading,
    metric: str,
    period: str = NEWEST,
    grain: str = "",
    application: str = "all",
    segment: str = "",
    segment_value: str | None = None,
    with_open: bool = False,
) -> SingleValue:
    """One value: of the newest complete period, or of the one that is named.

    Raises Refused where it has none because its period is open (unless open values are asked for), it is withheld, or it was not measured. Other nulls
    are answers: value is None, with its reason.
    """
    reading.require("metrics")
    series = find_single(reading, metric, period, grain, application, segment, segment_value)
    value = find_value(reading, *series, with_open=with_open)
    entry = series[0].entry
    formatted = value.state if value.value is None else format_value(value.value, entry["unit"], reading.currency)
    return SingleValue(reading.provenance, define(reading, entry), series[0].grain, formatted, value)


def compare_periods(
    reading: Reading,
    metric: str,
    newer: str = NEWEST,
    older: str = "",
    grain: str = "",
    application: str = "all",
    segment: str = "",
    segment_value: str | None = None,
) -> Comparison:
    """Two complete periods of a metric, with what contributed to the change. older: by default the period before the newer one.

    Raises Refused as `get_value` does for each of the two.
    """
    reading.require("metrics")
    series, newer_period = find_single(reading, metric, newer, grain, application, segment, segment_value)
    now = find_value(reading, series, newer_period)
    if older:
        before = find_value(
            reading, series, parse_period(older, series.grain, series.entry["grains"], reading.calendar)
        )
        if before.period_start == now.period_start:
            raise Refused("bad_request", "the two periods are the same")
        if before.period_start > now.period_start:
            now, before = before, now
    else:
        before = find_value(reading, series, _period_before(reading, series, now))
    parts_by, parts = explain_change(reading, series, now, before)
    change = None if now.value is None or before.value is None else now.value - before.value
    return Comparison(
        reading.provenance, define(reading, series.entry), series.grain, now, before, change,
        format_change(now.value, before.value, series.entry["unit"]), parts_by, parts,
    )  # fmt: skip


def explain_change(reading: Reading, series: Series, now: Value, before: Value) -> tuple[str | None, list[ChangePart]]:
    """What explains the change between two values of a total best: the segment (or `application`), and what its values contributed, largest first."""
    # the parts of a segment's value by another segment are not stored
    if series.segment or now.value is None or before.value is None:
        return None, []
    newest, previous = (
        Point(period_start=v.period_start, value=v.value, numerator=v.numerator, denominator=v.denominator)
        for v in (now, before)
    )
    split = change_by_segment(reading, series.entry, series.grain, series.application, newest, previous)
    if split is None:
        return None, []
    parts = [
        ChangePart(name, amount, text)
        for name, amount in split[1]
        if (text := describe_amount(amount, series.entry["unit"], reading.currency))
    ]
    return (split[0], parts[:PARTS]) if parts else (None, [])


def find_single(
    reading: Reading, metric: str, period: str, grain: str, application: str, segment: str, segment_value: str | None
) -> tuple[Series, Period | None]:
    """The series and period of a single value; None for the newest complete period. Raises Refused."""
    entry = resolve_metric(reading, metric)
    chosen = None
    if period and period.strip().lower() != NEWEST:
        chosen = parse_period(period, grain, entry["grains"], reading.calendar)
    series = find_series(reading, metric, chosen.grain if chosen else grain, application, segment, segment_value)
    if series.segment and series.segment_value is None:
        groups = _groups(reading, series)[:GROUPS]
        raise Refused("ambiguous", f"{series.segment} has several values: give segment_value, or leave segment out for the total", groups)  # fmt: skip
    return series, chosen


def find_series(
    reading: Reading, metric: str, grain: str, application: str, segment: str, segment_value: str | None
) -> Series:
    """The series that a question names. Raises Refused for what does not exist."""
    entry = resolve_metric(reading, metric)
    grains = entry["grains"]
    grain = grain or next(g for g in DEFAULT_GRAINS if g in grains)
    if grain not in GRAINS or grain not in grains:
        raise Refused("bad_request", f"{entry['metric_id']} has no {grain[:20]} values; its grains are {', '.join(grains)}", grains)  # fmt: skip
    application = require_application(reading, application, is_filter=False)
    if segment and segment not in entry["segments"]:
        raise Refused("bad_request", f"{entry['metric_id']} has no segment {segment[:60]!r}; {describe_segments(entry['segments'])}", entry["segments"])  # fmt: skip
    if segment_value and not segment:
        raise Refused("ambiguous", f"segment_value {segment_value[:60]!r} of which segment? {describe_segments(entry['segments'])}", entry["segments"])  # fmt: skip
    require_part(reading, entry["metric_id"], segment)
    return Series(entry, grain, application, segment, (segment_value or None) if segment else "")


def find_value(reading: Reading, series: Series, chosen: Period | None, with_open: bool = False) -> Value:
    """The value of a period (None: the newest complete one) of a series that has one place. Raises Refused as `get_value` does."""
    rows = reading.few_rows(
        f"select {COLUMNS} where {PLACE} and v.segment_value = %(segment_value)s and {'v.period_start = %(start)s' if chosen else 'v.is_complete'} "
        "order by v.period_start desc limit 1",
        **series.parameters, start=chosen and chosen.start,
    )  # fmt: skip
    row = rows[0] if rows else None
    if row is None or row["null_reason"] == "source_missing":
        _require_measured(reading, series, chosen)
    if row is None:
        _refuse_absent(reading, series, chosen)
    value = make_value(reading, series, row, with_open)
    if value.null_reason == "period_open":
        raise Refused("open", value.state)
    if value.null_reason == "small_group":
        raise Refused("withheld", value.state)
    return value


def make_value(reading: Reading, series: Series, row: Row, with_open: bool) -> Value:
    """A row as a value; one of an open period without its numbers, unless open values are asked for."""
    is_hidden = not row["is_complete"] and not with_open and row["null_reason"] in (None, "period_open")
    reason = "period_open" if is_hidden else row["null_reason"]
    state = "complete"
    if not row["is_complete"]:
        state = why_open(row["period_end"], reading.as_of(), series.entry["window_days"])
    if is_hidden:
        state = f"no value, because the period is {state.replace('still ', '', 1)}"
    elif reason is not None:
        state = f"no value, because {null_words(reason)}" + ("" if row["is_complete"] else f" ({state})")
    value, numerator, denominator = (
        (None, None, None) if is_hidden else (row["value"], row["numerator"], row["denominator"])
    )
    return Value(
        period(row["period_start"], series.grain, reading.calendar), row["period_start"], row["period_end"], row["application"], row["segment"],
        row["segment_value"], value, numerator, denominator, row["is_complete"], reason, state,
    )  # fmt: skip


def _period_before(reading: Reading, series: Series, value: Value) -> Period:
    rows = reading.few_rows(
        "select max(period_start) as start from dim_periods where grain = %(grain)s and period_start < %(start)s",
        grain=series.grain, start=value.period_start,
    )  # fmt: skip
    if rows[0]["start"] is None:
        raise Refused("bad_request", f"{value.period} is the first {series.grain} that there is")
    return Period(series.grain, rows[0]["start"])


def _require_measured(reading: Reading, series: Series, chosen: Period | None) -> None:
    """Raise Refused where no source had measured the metric in the application by the end of the period (None: by now)."""
    metric = series.entry["metric_id"]
    for row in coverage_of(reading, metric, series.application):
        what = f"no value, because {metric} is not measured in {series.application}"
        if row["lacking"] is not None:
            raise Refused("not_measured", f"{what}: nothing was landed of {describe_needs(row['lacking'])}")
        measured_from = row["measured_from"]
        if chosen is not None and measured_from is not None and _is_before(reading, chosen, measured_from):
            raise Refused("not_measured", f"{what} before {measured_from:%Y-%m-%d}, when the last of what it stands on was first seen: {describe_needs(row['stands_on'])}")  # fmt: skip


def _is_before(reading: Reading, chosen: Period, moment: datetime) -> bool:
    rows = reading.rows(
        "select 1 as yes from dim_periods where grain = %(grain)s and period_start = %(start)s and period_end <= %(moment)s",
        grain=chosen.grain, start=chosen.start, moment=moment,
    )  # fmt: skip
    return bool(rows)


def _require_group(reading: Reading, series: Series) -> None:
    """Raise Refused for a segment's value that the metric has never had."""
    if not series.segment_value:
        return
    known = _groups(reading, series)
    if series.segment_value not in known:
        near = near_names(series.segment_value, known) or known[:GROUPS]
        raise Refused("bad_request", f"{series.entry['metric_id']} has no {series.segment} {series.segment_value[:60]!r} in {series.application}", near)  # fmt: skip


def _groups(reading: Reading, series: Series) -> list[str]:
    rows = reading.rows(
        "select distinct segment_value from metric_series where metric_id = %(metric)s and application = %(application)s and segment = %(segment)s "
        "and grain = %(grain)s order by 1",
        **{name: value for name, value in series.parameters.items() if name != "segment_value"},
    )  # fmt: skip
    return [row["segment_value"] for row in rows]


def _refuse_absent(reading: Reading, series: Series, chosen: Period | None) -> NoReturn:
    """Say why there is no row at a place."""
    _require_group(reading, series)
    what = f"{series.entry['metric_id']} has no value"
    bounds = reading.rows(
        "select min(v.period_start) as first, max(p.period_end) as last_end from metric_values as v join dim_periods as p using (grain, period_start) "
        "where v.metric_id = %(metric)s and v.grain = %(grain)s and v.application = %(application)s and v.segment = %(segment)s "
        "and v.segment_value = %(segment_value)s", **series.parameters,
    )[0]  # fmt: skip
    if bounds["first"] is None:
        raise Refused("bad_request", f"{what} by {series.grain} in {series.place}")
    if chosen is None:
        raise Refused("open", f"no value, because no {series.grain} of {series.entry['metric_id']} is complete yet in {series.place}")  # fmt: skip
    if chosen.start >= bounds["last_end"]:
        raise Refused("open", f"no value, because the period has not begun: the data ends at {show_utc(reading.as_of())}")  # fmt: skip
    raise Refused("bad_request", f"{what} before {bounds['first']:%Y-%m-%d} in {series.place}")
