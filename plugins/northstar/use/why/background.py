"""What stands behind a published number, from the marts alone: what the panel shows that opens beside a page."""

from dataclasses import dataclass, replace
from datetime import datetime, time
from typing import TypedDict
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from northstar.base.errors import NorthstarError
from northstar.use.changes import Point, change_by_segment
from northstar.use.marts import Marts, Metric
from northstar.use.words import describe_segments
from northstar.warehouse.rows import Row, as_shape

# the parts of a change that are shown, and the restatements
PARTS, RESTATEMENTS = 8, 20


@dataclass(frozen=True)
class Place:
    """The place of one number: metric, grain, period, application, segment."""

    metric: str
    grain: str
    period_start: datetime
    application: str = "all"
    segment: str = ""
    segment_value: str = ""

    @property
    def path(self) -> str:
        """The path and query of the panel's own address."""
        return f"{series_path(self.metric, self.grain, self.application, self.segment, self.segment_value)}&{period_query(self.period_start)}"


def series_path(metric: str, grain: str, application: str, segment: str = "", segment_value: str = "") -> str:
    """The beginning that the addresses of a series' numbers share; `period_query` follows it after an &."""
    chosen = {"grain": grain, "application": application}
    if segment:
        chosen |= {"segment": segment, "value": segment_value}
    return f"/why/{metric}?{urlencode(chosen)}"


def period_query(period_start: datetime) -> str:
    """A period as it stands in an address: its start by the company's clock, as rows of the marts have it."""
    text = f"{period_start:%Y-%m-%d}" if period_start.time() == time() else f"{period_start:%Y-%m-%dT%H:%M}"
    # of two hours of one name, the second
    return urlencode({"period": f"{text}{period_start:%z}" if period_start.fold else text})


class Value(Point):
    """A published value: numerator, denominator and value of its period, whether that is complete, why it is null, and where it ends."""

    is_complete: bool
    null_reason: str | None
    period_end: datetime


class Certificate(TypedDict):
    """What a version's certificate says of all its numbers."""

    published_version: int
    as_of: datetime
    code_version: str
    code_commit: str | None
    checks: int
    failed: int


@dataclass(frozen=True)
class Part:
    """A part of a change: how much it is, and the number that it is a part of."""

    place: Place
    amount: float


@dataclass(frozen=True)
class Background:
    """What stands behind a number.

    earlier: the value of the period before, None for none. change: the parts of the change since then by the values of the segment that explains
    it best, or by application; empty where none does. targets: rows of metric_status. restatements: rows of metric_restatements, newest first.
    """

    place: Place
    metric: Metric
    value: Value
    earlier: Value | None
    change: list[Part]
    targets: list[Row]
    restatements: list[Row]
    certificate: Certificate


def find_background(marts: Marts, place: Place) -> Background:
    """What stands behind the number at a place, in the newest version.

    Raises NorthstarError for a place without a published value, with what there is.
    """
    entry = marts.catalogue().get(place.metric)
    if entry is None:
        raise NorthstarError(f"there is no metric {place.metric!r}")
    value, earlier = _values(marts, place, entry)
    return Background(
        place, entry, value, earlier,
        _change(marts, place, entry, value, earlier) if earlier else [],
        _rows(marts, "select * from metric_status where metric_id = %(metric)s and (%(application)s = 'all' or application = %(application)s) "
              "and segment = %(segment)s and segment_value = %(segment_value)s order by application, target_id", place),
        _rows(marts, "select r.*, o.rules ->> 'reporting_currency' as old_currency, n.rules ->> 'reporting_currency' as new_currency from metric_restatements as r "
              "left join certificates as o on r.old_version = o.published_version left join certificates as n on r.new_version = n.published_version where metric_id = %(metric)s and grain = %(grain)s and period_start = %(period_start)s "
              "and application = %(application)s and segment = %(segment)s and segment_value = %(segment_value)s "
              f"order by new_version desc limit {RESTATEMENTS}", place),
        certificate_of(marts),
    )  # fmt: skip


def _values(marts: Marts, place: Place, entry: Metric) -> tuple[Value, Value | None]:
    """The value in question, and the one of the period before."""
    if place.grain not in entry["grains"]:
        raise NorthstarError(f"{place.metric} has no {place.grain} values; its grains are {', '.join(entry['grains'])}")
    if place.segment and place.segment not in entry["segments"]:
        raise NorthstarError(f"{place.metric} has no segment {place.segment!r}; {describe_segments(entry['segments'])}")
    rows = _rows(
        marts, "select v.period_start, p.period_end, v.numerator, v.denominator, v.value, v.is_complete, v.null_reason from metric_values as v "
        "join dim_periods as p using (grain, period_start) where metric_id = %(metric)s and grain = %(grain)s and application = %(application)s "
        "and segment = %(segment)s and segment_value = %(segment_value)s and period_start <= %(period_start)s "
        "and period_start >= %(period_start)s::timestamptz - %(length)s::interval order by period_start desc limit 2",
        place, length="4 months" if place.grain == "quarter" else f"2 {place.grain}",
    )  # fmt: skip
    if not rows or rows[0]["period_start"] != place.period_start:
        raise NorthstarError(
            f"{place.metric} has no value for the {place.grain} that begins at {place.period_start:%Y-%m-%d %H:%M %Z} in {place.application}"
            + (f", {place.segment} {place.segment_value}" if place.segment else "")
        )
    value, *earlier = (as_shape(Value, row) for row in rows)
    return value, next(iter(earlier), None)


def _change(marts: Marts, place: Place, entry: Metric, value: Value, earlier: Value) -> list[Part]:
    # the parts of a segment's value by another segment are not stored
    if place.segment or None in (value["value"], earlier["value"]):
        return []
    split = change_by_segment(marts, entry, place.grain, place.application, value, earlier)
    if split is None:
        return []
    segment, parts = split
    return [
        Part(
            replace(place, application=name) if segment == "application" else replace(place, segment=segment, segment_value=name),
            amount,
        )
        for name, amount in parts[:PARTS]
    ]  # fmt: skip


def certificate_of(marts: Marts) -> Certificate:
    """What the newest version's certificate says of all its numbers."""
    row = _rows(
        marts, "select published_version, as_of, code_version, code_commit, (select count(*) from jsonb_each(checks)) as checks, "
        "(select count(*) from jsonb_each(checks) as c where not (c.value ->> 'success')::boolean) as failed "
        "from certificates order by published_version desc limit 1", None,
    )[0]  # fmt: skip
    return as_shape(Certificate, row)


def _rows(marts: Marts, text: str, place: Place | None, **more: object) -> list[Row]:
    parameters: dict[str, object] = {**(vars(place) if place else {}), **more}
    used = {name: value for name, value in parameters.items() if f"%({name})s" in text}
    return marts.rows(text, **used)


def parse_moment(text: str, zone: ZoneInfo) -> datetime:
    """A period's start as `period_query` writes it, or as a chart names its points, by the clock of a zone. Raises NorthstarError for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise NorthstarError(f"{text[:40]!r} is no period's start, such as 2026-03-01") from exc
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment.astimezone(zone)
