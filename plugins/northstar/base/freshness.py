"""Freshness promises: by when marts are published, and rows of sources landed; and whether the promises are kept.

A home makes them in `freshness:` of its operations.yml:

freshness:
  time_zone: Europe/Berlin                # in which the times are written (default: UTC)
  marts:
    all: {every: hour, by: ":30"}         # a version with everything before the hour is published by half past
    mrr_bridge: {every: weekday, by: "07:00"}     # with everything before that day, Monday to Friday
  sources:
    billing: {every: day, by: "06:00"}    # something new of that day has landed by six
    files.exchange_rates: {every: month, day: 3, by: "12:00"}     # the rows of one entity; a day that a month lacks is its last
    web: {hours: 3}                       # nothing new for more than three hours is late
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from northstar.base.clock import GREENWICH, show_utc
from northstar.base.config_files import Section

ALL = "all"
ADVICE = 'give {every: hour, by: ":30"}, {every: day, by: "06:00"} (or weekday, or month with a day), or {hours: 3}'
# a month's deadline is at most 31 days after the one before it: in so many days on both sides there are some
DAYS_AROUND = 62


class Promise(Section):
    """One promise: either `every` and `by`, or `hours`."""

    every: Literal["hour", "day", "weekday", "month"] | None = Field(
        None, description="give hour, day, weekday (Monday to Friday) or month"
    )
    by: str | None = Field(
        None, description='give a time, such as "06:00", or with `every: hour` a minute, such as ":30"'
    )
    day: int | None = Field(None, strict=True, ge=1, le=31, description="give the day of the month, 1 to 31")
    hours: float | None = Field(None, gt=0, description="give hours, more than 0")

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if (self.hours is None) == (self.every is None) or (self.every is None) != (self.by is None):
            raise ValueError(ADVICE)
        if (self.every == "month") != (self.day is not None):
            raise ValueError("`day` is given with `every: month`, and only there")
        if self.by is not None:
            form = r":[0-5][0-9]" if self.every == "hour" else r"([01][0-9]|2[0-3]):[0-5][0-9]"
            if not re.fullmatch(form, self.by):
                example = "a minute of each hour, such as :30" if self.every == "hour" else "a time, such as 06:00"
                raise ValueError(f"`by` is {example}, in quotes; {self.by[:20]!r} is none")
            if self.by in (":00", "00:00"):
                raise ValueError(f"{self.by!r} is the moment up to which the data has to be there: give a later one")
        return self

    def describe(self) -> str:
        """The promise in words, without the time zone: `by 06:00 each day`."""
        match self.every:
            case None:
                return f"no older than {self.hours:g} hours"
            case "hour":
                return f"by {self.by} of each hour"
            case "day":
                return f"by {self.by} each day"
            case "weekday":
                return f"by {self.by} from Monday to Friday"
            case "month":
                return f"by {self.by} on day {self.day} of each month"

    def deadlines(self, moment: datetime, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime]]:
        """The deadlines around a moment, each as (up to when the data has to be there by then, the deadline), in UTC."""
        hour, _, minute = (self.by or "").partition(":")
        local = moment.astimezone(zone)
        if self.every == "hour":
            # in UTC, so that the hour that a clock repeats has a deadline both times
            this_hour = moment - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
            for hours in (-1, 0, 1):
                start = this_hour + timedelta(hours=hours)
                yield start, start + timedelta(minutes=int(minute))
            return
        for days in range(-DAYS_AROUND, DAYS_AROUND + 1):
            day = local.date() + timedelta(days=days)
            if self._is_due_on(day):
                first = day.replace(day=1) if self.every == "month" else day
                yield _to_utc(first, time(), zone), _to_utc(day, time(int(hour), int(minute)), zone)

    def _is_due_on(self, day: date) -> bool:
        match self.every:
            case "weekday":
                return day.weekday() < 5
            case "month":
                last = (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
                return day.day == min(self.day or 1, last.day)
        return True


def _to_utc(day: date, at: time, zone: ZoneInfo) -> datetime:
    """A local time in UTC: of one that occurs twice the first; one that the clock skips counts on from the time before."""
    return datetime.combine(day, at, zone).astimezone(UTC)


class Freshness(Section):
    """The promises of a home."""

    time_zone: str = Field("UTC", description="give a time zone, such as Europe/Berlin")
    marts: dict[str, Promise] = Field({ALL: Promise(hours=2.5)}, description=f"by mart, or for all: {ADVICE}")
    sources: dict[str, Promise] = Field({}, description=f"by source, or SOURCE.ENTITY: {ADVICE}")

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"give a time zone, such as Europe/Berlin; {name[:40]!r} is none") from None
        return name

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    def of_marts(self) -> "Freshness":
        """The promises about marts alone."""
        return Freshness(time_zone=self.time_zone, marts=self.marts)


# for a home whose own promises are the default ones and that no scheduler serves: a run a day is assumed
BY_HAND = Freshness(marts={ALL: Promise(hours=26)})


@dataclass(frozen=True)
class NewestVersion:
    """The version that readers see: everything before `as_of`, since `published_at`."""

    as_of: datetime
    published_at: datetime


@dataclass(frozen=True)
class Judgement:
    """Whether a promise is kept.

    kind: mart or source. name: of the mart or source; `all`. newest: the moment that counts: the version's as_of (its publication where only its age
    was promised), or the newest landing of new rows; None for none. deadline: since when it is late, or up to when it is not; None for a source that nothing
    landed from and whose age was promised.
    """

    kind: Literal["mart", "source"]
    name: str
    promise: Promise
    time_zone: str
    newest: datetime | None
    deadline: datetime | None
    is_late: bool

    def promised(self) -> str:
        """The promise in words: `by 06:00 each day (Europe/Berlin)`."""
        words = self.promise.describe()
        return words if self.promise.every is None else f"{words} ({self.time_zone})"

    def about(self) -> str:
        """What was promised: `source billing`, `mart mrr_bridge`, `all marts`."""
        return "all marts" if (self.kind, self.name) == ("mart", ALL) else f"{self.kind} {self.name}"

    def describe(self) -> str:
        """The judgement in a line."""
        if self.newest is None:
            seen = "nothing has landed yet" if self.kind == "source" else "nothing is published yet"
        else:
            what = {"source": "new rows landed last", "mart": "the newest version is of"}[self.kind]
            if self.kind == "mart" and self.promise.every is None:
                what = "published last"
            seen = f"{what} {show_utc(self.newest)}"
        if not self.is_late:
            return f"{self.about()} {self.promised()}: {seen}"
        since = f", late since {show_utc(self.deadline)}" if self.deadline else ""
        return f"{self.about()} {self.promised()}: {seen}{since}"


def judge(
    promises: Freshness, version: NewestVersion | None, landings: Mapping[str, datetime], now: datetime
) -> list[Judgement]:
    """Judge each promise at a moment.

    version: the newest published version, None before the first; then the marts' promises do not count yet. landings: when new rows landed last, by source and
    by SOURCE.ENTITY.
    """
    judgements = []
    if version is not None:
        for name, promise in promises.marts.items():
            newest = version.published_at if promise.every is None else version.as_of
            judgements.append(_judge("mart", name, promise, promises, newest, now))
    for name, promise in promises.sources.items():
        judgements.append(_judge("source", name, promise, promises, landings.get(name), now))
    return judgements


def _judge(
    kind: Literal["mart", "source"],
    name: str,
    promise: Promise,
    promises: Freshness,
    newest: datetime | None,
    now: datetime,
) -> Judgement:
    if promise.hours is not None:
        deadline = None if newest is None else newest + timedelta(hours=promise.hours)
        return Judgement(kind, name, promise, promises.time_zone, newest, deadline, deadline is None or now > deadline)
    around_now = list(promise.deadlines(now, promises.zone))
    around_newest = [] if newest is None else list(promise.deadlines(newest, promises.zone))
    missed = [at for up_to, at in around_newest + around_now if at <= now and (newest is None or newest < up_to)]
    coming = min(at for _, at in around_now if at > now)
    # where nothing has ever landed, the last deadline that has passed is the one that was missed
    since = min(missed, default=coming) if newest is not None else max(missed, default=coming)
    return Judgement(kind, name, promise, promises.time_zone, newest, since, bool(missed))


# a day, a week and a month begin on the first of January and of July 2024; each with the days around it, for other zones
STARTING_DAYS = [date(2024, month, 1) + timedelta(days=n) for month in (1, 7) for n in (-1, 0, 1)]


def time_allowed(promises: Freshness, between: timedelta, at: time = time(), zone: ZoneInfo = GREENWICH) -> timedelta:
    """How long a run may take before a promise about marts is broken: the shortest time from its start to the deadline of something that it is the first to publish.

    between: the time between the starts of two runs: an hour or a day. at: when the first of a day starts, by the clock of `zone`. 24 hours where nothing is promised.
    """
    starts = [
        _to_utc(day, at, zone) + n * between for day in STARTING_DAYS for n in range(timedelta(days=1) // between)
    ]
    allowed = [timedelta(hours=promise.hours) for promise in promises.marts.values() if promise.hours]
    for promise in promises.marts.values():
        for start in starts if promise.every else ():
            deadlines = promise.deadlines(start, promises.zone)
            allowed += [end - start for up_to, end in deadlines if start - between < up_to <= start < end]
    return min(allowed, default=timedelta(hours=24))
