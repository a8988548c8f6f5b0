"""Find the anomalies of the newest published values: read the series, judge them, put those of one cause together, and explain each.

A metric is judged at the finest of its grains (day, week, month) at which its values say something. What stands on the same landed entities in
the same application is one anomaly, told by its rarest value; of several applications at once it is the company's.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import TypedDict

import numpy as np

from northstar.use.anomalies.interval import REMEMBERED, YEARS, Numbers, SeriesMatrix, basis_of, judge
from northstar.use.changes import describe_amount
from northstar.warehouse.rows import Connection, fetch_all_as

GRAINS = ("day", "week", "month")
LENGTHS = {"day": "1 day", "week": "7 days", "month": "1 month"}
# the part of a miss that one value of a segment makes, at least, so that it explains the miss; and how much more that is than its part of the whole
EXPLAINS, BEYOND_ITS_PART = 0.5, 0.15
# the values of a segment that are named
NAMED = 3
# a little more than twice: a month is no fixed time
TWICE = 2.2
SERIES = """
    with recent as (
        select grain, period_start, period_end from marts.dim_periods
        where period_end <= %(as_of)s and grain = any(%(grains)s)
        and period_start >= %(as_of)s - %(times)s * (case grain {remembered} end)
    )
    select v.metric_id, m.kind, m.unit, v.grain, v.application, v.segment, v.segment_value, array_agg(v.period_start order by v.period_start) as starts,
        max(r.period_end) as ends_at, array_agg(v.value::float8 order by v.period_start) as values,
        array_agg(v.numerator::float8 order by v.period_start) as numerators, array_agg(v.denominator::float8 order by v.period_start) as denominators
    from marts.metric_values as v join marts.metrics as m using (metric_id) join recent as r on v.grain = r.grain and v.period_start = r.period_start
    where m.level in ('1', '2') and v.is_complete and v.null_reason is distinct from 'small_group' and r.period_end + m.window_days * interval '24 hours' <= %(as_of)s and {which}
    group by 1, 2, 3, 4, 5, 6, 7 order by 4, 1, 5, 6, 7
"""


class Series(TypedDict):
    """The complete values of a series, oldest first."""

    metric_id: str
    kind: str
    unit: str
    grain: str
    application: str
    segment: str
    segment_value: str
    starts: list[datetime]
    ends_at: datetime
    values: list[float | None]
    numerators: list[float | None]
    denominators: list[float | None]


@dataclass(frozen=True)
class Judged:
    """The newest value of a series, and what it was expected to be. times_a_year: how often chance makes such a value; nan: not known."""

    series: Series
    expected: float
    low: float
    high: float
    times_a_year: float

    @property
    def value(self) -> float | None:
        """The newest value."""
        return self.series["values"][-1]

    @property
    def is_anomaly(self) -> bool:
        """Whether chance makes such a value less often than once in YEARS."""
        return self.times_a_year < 1 / YEARS


@dataclass(frozen=True)
class Anomaly:
    """What is unusual of one cause. leading: its rarest value; others: what else is unusual of it. contributors: in words, largest first.

    segment, segment_value: the part that explains it; '' where none does.
    """

    application: str
    leading: Judged
    others: list[Judged]
    entities: frozenset[str]
    segment: str = ""
    segment_value: str = ""
    contributors: list[str] = field(default_factory=list)

    @property
    def metrics(self) -> list[str]:
        """The metrics that show it, the leading one first."""
        return list(dict.fromkeys(judged.series["metric_id"] for judged in (self.leading, *self.others)))


def find_anomalies(
    connection: Connection, as_of: datetime, stands_on: dict[str, frozenset[str]], currency: str
) -> list[Anomaly]:
    """The anomalies among the newest complete values at a moment, rarest first. The connection reads `marts`. stands_on: {metric: its landed entities}."""
    totals = _finest(judge_newest(read_series(connection, as_of, "v.segment = ''")))
    found = [j for j in totals if j.is_anomaly]
    metrics = sorted({j.series["metric_id"] for j in found})
    parts = (
        judge_newest(read_series(connection, as_of, "v.segment != '' and v.metric_id = any(%(metrics)s)", metrics))
        if found
        else []
    )
    anomalies = [
        _explain(group, entities, totals, parts, currency) for group, entities in put_together(found, stands_on)
    ]
    return sorted(anomalies, key=lambda a: (a.leading.times_a_year, a.application, a.leading.series["metric_id"]))


def read_series(
    connection: Connection, as_of: datetime, which: str, metrics: Collection[str] = (), times: float = TWICE
) -> list[Series]:
    """The series of the level 1 and 2 metrics that were complete at a moment. which: a condition, of `metrics` where it names them.

    times: how often what is remembered they go back; twice, since the anomalies of the past are looked for as well.
    """
    remembered = " ".join(
        f"when '{grain}' then {REMEMBERED[grain]} * interval '{length}'" for grain, length in LENGTHS.items()
    )
    text = SERIES.format(remembered=remembered, which=which)
    return fetch_all_as(
        Series,
        connection.execute(text, {"as_of": as_of, "grains": list(GRAINS), "metrics": list(metrics), "times": times}),
    )


def judge_newest(series: list[Series]) -> list[Judged]:
    """The newest value of each series, judged."""
    found = []
    for grain, of_grain in groupby(sorted(series, key=lambda s: s["grain"]), key=lambda s: s["grain"]):
        rows = list(of_grain)
        matrix = as_matrix(grain, rows)
        result = judge(matrix, matrix.values.shape[1] - 1)
        ends = (result.expected, result.low, result.high, result.times_a_year)
        found += [Judged(row, *(float(end[n, -1]) for end in ends)) for n, row in enumerate(rows)]
    return found


def as_matrix(grain: str, rows: list[Series]) -> SeriesMatrix:
    """Series of a grain as the rows of a matrix: each ends in the last column."""
    length = max(len(row["starts"]) for row in rows)
    values, bases = np.full((len(rows), length), np.nan), np.full((len(rows), length), np.nan)
    for n, row in enumerate(rows):
        values[n, length - len(row["values"]) :] = _numbers(row["values"])
        bases[n, length - len(row["values"]) :] = _numbers(row["denominators"])
    begins = np.array([length - len(row["values"]) for row in rows])
    is_nonnegative = [not (values[n] < 0).any() for n in range(len(rows))]
    basis = [basis_of(row["kind"], row["unit"], n) for row, n in zip(rows, is_nonnegative, strict=True)]
    return SeriesMatrix(grain, values, bases, begins, basis)


def _numbers(values: list[float | None]) -> Numbers:
    return np.array([math.nan if value is None else value for value in values])


def _is_of(other: Series, row: Series) -> bool:
    return (other["metric_id"], other["application"]) == (row["metric_id"], row["application"])


def _finest(judged: list[Judged]) -> list[Judged]:
    """Of each metric and application the finest grain at which its newest value could be judged."""
    finest: dict[tuple[str, str], Judged] = {}
    for one in sorted(judged, key=lambda j: GRAINS.index(j.series["grain"])):
        if not math.isnan(one.times_a_year):
            finest.setdefault((one.series["metric_id"], one.series["application"]), one)
    return list(finest.values())


def put_together(
    found: list[Judged], stands_on: dict[str, frozenset[str]]
) -> Iterator[tuple[list[Judged], frozenset[str]]]:
    """(the values that are unusual of one cause, rarest first; the landed entities that they stand on).

    Of one cause are values of an application that stand on an entity together. The company's own are those of its applications; where it is
    unusual, and more than half of those that are its parts are, it speaks for them.
    """
    by_application: dict[str, list[tuple[list[Judged], frozenset[str]]]] = defaultdict(list)
    for application, own in groupby(
        sorted(found, key=lambda j: j.series["application"]), lambda j: j.series["application"]
    ):
        by_application[application] = _connected(list(own), stands_on)
    company = by_application.pop("all", [])
    for group, entities in company:
        parts = [(name, g) for name, groups in by_application.items() for g in groups if g[1] & entities]
        if not parts:
            yield _rarest_first(group), entities
        elif len({name for name, _ in parts}) > 1:
            # several applications at once: one cause, and the company's to tell
            for name, part in parts:
                by_application[name].remove(part)
            yield _rarest_first(group) + _rarest_first(j for _, part in parts for j in part[0]), entities
    for groups in by_application.values():
        for group, entities in groups:
            yield _rarest_first(group), entities


def _connected(found: list[Judged], stands_on: dict[str, frozenset[str]]) -> list[tuple[list[Judged], frozenset[str]]]:
    groups: list[tuple[list[Judged], frozenset[str]]] = []
    for one in found:
        metric = one.series["metric_id"]
        # a metric that stands on nothing that lands is a cause of its own
        own, entities = [one], stands_on.get(metric) or frozenset({metric})
        for group in [g for g in groups if g[1] & entities]:
            groups.remove(group)
            own, entities = group[0] + own, group[1] | entities
        groups.append((own, entities))
    return groups


def _rarest_first(group: Iterable[Judged]) -> list[Judged]:
    return sorted(group, key=lambda j: (j.times_a_year, j.series["metric_id"]))


def _explain(
    group: list[Judged], entities: frozenset[str], totals: list[Judged], parts: list[Judged], currency: str
) -> Anomaly:
    """An anomaly with the part that explains it: that of its values, from the rarest on, of which a segment explains the miss."""
    leading, *others = group
    anomaly = Anomaly(leading.series["application"], leading, others, entities)
    for one in group:
        if one.series["application"] != anomaly.application:
            continue
        split = explain_miss(one, parts, totals)
        if split is not None:
            segment, amounts, is_explained = split
            words = [
                f"{segment.replace('_', ' ')} {name}: {text}"
                for name, amount in amounts[:NAMED]
                if (text := describe_amount(amount, one.series["unit"], currency))
            ]
            named = replace(anomaly, contributors=words) if not anomaly.contributors else anomaly
            if is_explained:
                return replace(anomaly, segment=segment, segment_value=amounts[0][0], contributors=words)
            anomaly = named
    return anomaly


def explain_miss(
    one: Judged, parts: list[Judged], totals: list[Judged]
) -> tuple[str, list[tuple[str, float]], bool] | None:
    """(segment, by how much each of its values missed what it was expected to be, whether the first explains the miss); None where no segment is known.

    one: the total. Of a company's total its applications are a segment as well.
    """
    series = one.series
    if one.value is None or math.isnan(one.expected):
        return None
    miss = one.value - one.expected
    by_segment: dict[str, list[Judged]] = defaultdict(list)
    for part in parts:
        if _is_of(part.series, series) and part.series["ends_at"] == series["ends_at"]:
            by_segment[part.series["segment"]].append(part)
    if series["application"] == "all":
        by_segment["application"] = [
            t for t in totals
            if t.series["metric_id"] == series["metric_id"] and t.series["application"] != "all" and t.series["grain"] == series["grain"]
            and t.series["ends_at"] == series["ends_at"]
        ]  # fmt: skip
    best: tuple[float, str, list[tuple[str, float]]] | None = None
    for segment, own in by_segment.items():
        if len(own) < 2:
            continue
        misses = [(_name(part, segment), _miss_of_part(part, one), _part_of_whole(part, one)) for part in own]
        known = [m for m in misses if not math.isnan(m[1])]
        if not known or not miss:
            continue
        name, largest, whole = max(known, key=lambda m: m[1] / miss)
        # what falls as all the others do explains nothing
        gain = largest / miss - whole if largest / miss >= EXPLAINS else -1.0
        amounts = sorted(((n, amount) for n, amount, _ in known), key=lambda a: (a[0] != name, -abs(a[1])))
        if best is None or gain > best[0]:
            best = gain, segment, amounts
    if best is None:
        return None
    return best[1], best[2], best[0] >= BEYOND_ITS_PART


def _name(part: Judged, segment: str) -> str:
    return part.series["application"] if segment == "application" else part.series["segment_value"]


def _miss_of_part(part: Judged, total: Judged) -> float:
    """How much of the total's miss belongs to a part. Of a ratio, by what the part's numerator is beyond the total's expected rate."""
    base = total.series["denominators"][-1]
    if base:
        own, own_base = part.series["numerators"][-1], part.series["denominators"][-1]
        value, numerator = total.value, total.series["numerators"][-1]
        if own is None or own_base is None or not numerator or value is None:
            return math.nan
        # a percentage is a hundred times its numerator over its denominator
        scale = value / (numerator / base)
        return (own * scale - total.expected * own_base) / base
    # what no longer comes is missed whole
    value = 0.0 if part.value is None else part.value
    return value - (0.0 if math.isnan(part.expected) else part.expected)


def _part_of_whole(part: Judged, total: Judged) -> float:
    base = total.series["denominators"][-1]
    if base:
        return (part.series["denominators"][-1] or 0.0) / base
    return 0.0 if math.isnan(part.expected) or not total.expected else min(1.0, abs(part.expected / total.expected))
