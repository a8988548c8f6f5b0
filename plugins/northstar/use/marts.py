"""What the pages read: the published marts as `bi_reader`, kept in memory until the next version is published."""

import pickle
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, TypedDict, TypeVar, cast
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg

from northstar.base.clock import GRAINS, Calendar, show_utc
from northstar.base.errors import NorthstarError, PassingError
from northstar.base.freshness import NewestVersion, judge
from northstar.base.settings import Settings
from northstar.use.words import Chance
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, Row
from northstar.warehouse.troubles import worded

# how often the newest version is looked up
VERSION_SECONDS = 2.0
# how often an answer is made again because another version was published while it was made
TRIES = 5
# the most memory for results that were read or drawn, in each process
MEMORY_BYTES = 128 * 2**20
# the most rows of one query: no page can show more, and for more there is SQL
ROWS = 200_000
CHUNK_ROWS = 5_000
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
# a run publishes what was known at most so long before, unless it was asked for an earlier time
EARLIER = timedelta(hours=2, minutes=30)
Result = TypeVar("Result")
# the series that are asked for, and which of their segments' values are the largest in the newest complete period
ASKED = "unnest(%(metrics)s::text[], %(grains)s::text[], %(segments)s::text[]) with ordinality as a (metric_id, grain, segment, place)"
LARGEST = (
    f"with asked as (select * from {ASKED}), newest as (select a.place, max(v.period_start) as period_start from asked as a join metric_values as v "
    "on v.metric_id = a.metric_id and v.grain = a.grain and v.segment = '' and v.application = %(application)s and v.is_complete group by a.place), "
    "series as (select distinct a.place, a.metric_id, a.grain, a.segment, s.segment_value from asked as a "
    "join metric_series as s on s.metric_id = a.metric_id and s.grain = a.grain and s.segment = a.segment and s.application = %(application)s), "
    "ranked as (select s.place, s.segment_value, row_number() over (partition by s.place order by v.value desc nulls last, s.segment_value) as rank, "
    "count(*) over (partition by s.place) as among from series as s left join newest as n using (place) "
    "left join metric_values as v on v.metric_id = s.metric_id and v.grain = s.grain and v.application = %(application)s and v.segment = s.segment "
    "and v.segment_value = s.segment_value and v.period_start = n.period_start) "
    "select * from ranked where rank <= %(largest)s order by place, rank"
)


@dataclass(frozen=True)
class Published:
    """The version that is shown, and what a reader should know of it."""

    version: int
    as_of: datetime
    published_at: datetime
    warnings: tuple[str, ...]
    # the version whose values were forecast last; None for none
    forecast_from: int | None
    # the currency of its amounts; None where its certificate is gone
    currency: str | None
    # by whose clock its days begin; None where its certificate is gone
    time_zone: str | None = None
    # a fingerprint of the recorded marks, to which people add notes at any time
    marks: str = ""

    @property
    def is_of_earlier_time(self) -> bool:
        """Whether the run that published it was asked for an earlier time than its own."""
        return self.published_at - self.as_of > EARLIER


class Metric(TypedDict):
    """The columns of a row of `metrics` that are used, with grains and segments as lists."""

    metric_id: str
    definition: str
    domain: str
    level: str
    kind: str
    unit: str
    direction: str
    owner: str | None
    requirement_refs: str | None
    window_days: int | None
    grains: list[str]
    segments: list[str]


@dataclass(frozen=True)
class Restated:
    """What became of a value since an earlier version: the newest value and its currency, and why it changed, in words."""

    value: Decimal | None
    currency: str
    reasons: str


KEY = ("metric_id", "grain", "period_start", "application", "segment", "segment_value")
Key = tuple[str, str, datetime, str, str, str]


class Coverage(TypedDict):
    """How fresh a metric is, from a version's certificate."""

    grain: str
    first: str
    last_complete: str | None
    nulls: dict[str, int]


class Marts:
    """A reader of the marts, as a role of readers.yml or (None) as who sees everything. It is thread-safe: each thread has a connection, and all share one
    memory, which is no other role's."""

    def __init__(self, settings: Settings, role: str | None = None):
        self.settings, self.role = settings, role
        self._local, self._lock = threading.local(), threading.Lock()
        # Any: the functions that `remember` gets return values of every type
        self._memory: OrderedDict[tuple[object, ...], tuple[Any, int]] = OrderedDict()
        self._memory_bytes = 0
        self._published: Published | None = None
        self._looked_at = 0.0
        # the connections of those who read an earlier version through this reader (northstar.use.past)
        self.past_connections = threading.local()

    @property
    def reader(self) -> str:
        """The role of the warehouse that this reader logs in as."""
        return db.reader_role(self.role)

    @property
    def currency(self) -> str:
        """The currency of the published amounts, which is not yet the setting's where no run has followed since that was changed."""
        published = self.published()
        return (published and published.currency) or self.settings.rules.reporting_currency

    @property
    def calendar(self) -> Calendar:
        """How the company divides time; its days are those of the published version, as its currency is."""
        published, calendar = self.published(), self.settings.rules.calendar
        return replace(calendar, zone=ZoneInfo(published.time_zone)) if published and published.time_zone else calendar

    def published(self) -> Published | None:
        """The newest published version, or None before the first."""
        if time.monotonic() - self._looked_at > VERSION_SECONDS:
            newest = self._newest()
            with self._lock:
                if newest != self._published:
                    self._memory.clear()
                    self._memory_bytes = 0
                self._published, self._looked_at = newest, time.monotonic()
        return self._published

    def _newest(self) -> Published | None:
        relations = self._rows(
            "select to_regclass('marts.publications') is not null as published, to_regclass('marts.target_forecasts') is not null as forecast, to_regclass('marts.marks') is not null as marks", {}
        )[0]  # fmt: skip
        if not relations["published"]:
            return None
        rows = self._rows(
            "select p.published_version, p.as_of, p.published_at, coalesce((select jsonb_agg(jsonb_build_array(split_part(c.key, '.', 2), c.value ->> 'observed') order by c.key) "
            "from jsonb_each(t.checks) as c where not (c.value ->> 'success')::boolean), '[]') as failed, t.rules ->> 'reporting_currency' as currency, "
            "case when t.rules is not null then coalesce(t.rules ->> 'reporting_time_zone', 'UTC') end as time_zone "
            "from publications as p left join certificates as t using (published_version) "
            "order by p.published_version desc limit 1", {},
        )  # fmt: skip
        # forecasts are made after a publication, and make no new version
        forecast_from = self._rows(
            "select greatest((select max(published_version) from metric_forecasts), (select max(published_version) from target_forecasts)) as version", {}
        )[0]["version"] or 0 if relations["forecast"] else None  # fmt: skip
        marks = self._rows(
            "select concat_ws(' ', count(*), max(recorded_at)) as marks from recorded_marks", {}
        )[0]["marks"] if relations["marks"] else ""  # fmt: skip
        return next(
            (
                Published(
                    r["published_version"], r["as_of"], r["published_at"], tuple(worded(*check) for check in r["failed"]), forecast_from, r["currency"],
                    r["time_zone"], marks,
                )
                for r in rows
            ), None,
        )  # fmt: skip

    def remember(self, key: tuple[object, ...], make: Callable[[], Result]) -> Result:
        """The result of `make`, made once for a version. Everybody gets the same object, so a change to it is a change for all (Vizro removes buttons)."""
        version = self.published()
        asked = (version and version.version, *key)
        with self._lock:
            if asked in self._memory:
                self._memory.move_to_end(asked)
                value: Result = self._memory[asked][0]
                return value
        result, version = self._of_one_version(make)
        asked, size = (version and version.version, *key), _size_of(result)
        with self._lock:
            if version == self._published and asked not in self._memory:
                self._memory[asked] = (result, size)
                self._memory_bytes += size
            while self._memory_bytes > MEMORY_BYTES / (
                1 if self.role is None else max(1, len(self.settings.readers.roles))
            ):
                _, (_, removed_size) = self._memory.popitem(last=False)
                self._memory_bytes -= removed_size
        return result

    def steadily(self, make: Callable[[], Result]) -> Result:
        """The result of `make`, in which all is of one version: it is made again where another one was published meanwhile."""
        return self._of_one_version(make)[0]

    def _of_one_version(self, make: Callable[[], Result]) -> tuple[Result, Published | None]:
        """The result of `make`, and the version that all of it was read from. What `published` says may be two seconds old."""
        for _ in range(TRIES):
            version = self.published()
            try:
                result = make()
            except NorthstarError:
                # what was not found may be there in the version that came meanwhile
                if version is None or self._is_newest_still(version):
                    raise
            else:
                if version is None or self._is_newest_still(version):
                    return result, version
            self._looked_at = 0.0
        raise PassingError("versions are published more quickly than this can be read; try again in a moment")

    def _is_newest_still(self, version: Published) -> bool:
        row = self._rows("select max(published_version) as version from publications", {})[0]
        return bool(row["version"] == version.version)

    def frame(self, text: str, **parameters: object) -> pd.DataFrame:
        """The rows of one statement on the newest version, as a frame."""
        # dtype object: numbers stay exact, and a null is None
        return self.remember(
            (text, repr(sorted(parameters.items()))),
            lambda: pd.DataFrame(self._rows(text, parameters) if self.published() else [], dtype=object),
        )

    def broken_promises(self, now: datetime) -> list[str]:
        """The freshness promises that are broken, in words: those about marts by the newest version, those about sources as the alerts know them."""
        published, promises = self.published(), self.settings.operations.freshness
        if published is None:
            return []
        judgements = judge(promises.of_marts(), NewestVersion(published.as_of, published.published_at), {}, now)
        sources = (
            [a for a in self.open_alerts("northstar") if a["rule"] == "source_overdue"] if promises.sources else []
        )
        return [j.describe() for j in judgements if j.is_late] + [
            f"source {a['segment_value']} {a['compared_with']}: late since {show_utc(a['since'])}" for a in sources
        ]

    def rows(self, text: str, **parameters: object) -> list[Row]:
        """The rows of one statement on the newest version, which are not kept: one number's background is asked for once."""
        return self._rows(text, parameters) if self.published() else []

    def open_alerts(self, application: str) -> list[Row]:
        """The open alerts of the application, or of all and of the job, worst and newest first. They change between versions, so none is kept."""
        if not self._rows("select 1 as yes where to_regclass('marts.open_alerts') is not null", {}):
            return []
        return self._rows(
            "select a.*, coalesce(m.unit, 'count') as unit from open_alerts as a left join metrics as m using (metric_id) "
            "where %(application)s in ('all', application) order by severity, since desc", {"application": application},
        )  # fmt: skip

    def marks(self, metrics: list[str], application: str, since: datetime, until: datetime) -> list[Row]:
        """The marks of these metrics and the application (or of all applications) from `since` until before `until`, in their order; [] of metrics: any."""
        published = self.published()
        # a version of an earlier release has none
        if published is None or not published.marks:
            return []
        # not kept: who has just written a note looks for it
        return self.rows(
            "select * from marks where marked_at >= %(since)s and marked_at < %(until)s and (%(application)s = 'all' or application in (%(application)s, 'all')) "
            "and (metrics is null or metrics && %(metrics)s::text[] or %(metrics)s::text[] = '{}') order by marked_at, mark_id",
            since=since, until=until, application=application, metrics=metrics,
        )  # fmt: skip

    def catalogue(self) -> dict[str, Metric]:
        """The metrics by id: the rows of `metrics`, grains and segments as lists."""
        return self.remember(("catalogue",), self._catalogue)

    def _catalogue(self) -> dict[str, Metric]:
        return {
            # a row of `metrics` has what a Metric has: cast, since pandas says nothing of a row
            row["metric_id"]: cast(
                Metric,
                {
                    **row,
                    "grains": [g for g in GRAINS if g in re.split("[,;]", row["grains"])],
                    "segments": re.split("[,;]", row["segments"]) if isinstance(row["segments"], str) else [],
                },
            )
            for row in self.frame("select * from metrics order by level, metric_id").to_dict("records")
        }

    def applications(self) -> list[str]:
        """The applications that have values, 'all' first; for a role that sees some of them, these."""
        frame = self.frame(
            "select distinct application from metric_status union select distinct application from dim_accounts"
        )
        names = sorted(set(frame["application"]) - {"all"}) if len(frame) else []
        return names if self._sees_some() else ["all", *names]

    def _sees_some(self) -> bool:
        """Whether this reader sees nothing that is of all applications."""
        role = self.settings.readers.roles.get(self.role or "")
        return role is not None and role.applications != "all"

    @property
    def only_segment(self) -> str | None:
        """The segment by whose values this reader sees numbers, and no totals; None for who sees totals."""
        role = self.settings.readers.roles.get(self.role or "")
        return role.segment if role is not None else None

    def as_of(self) -> datetime:
        """The as_of of the version that is shown; the earliest time before the first version."""
        published = self.published()
        return published.as_of if published else BEGINNING

    def since(self, months: int) -> datetime:
        """The moment that many months before the version's as_of; the earliest time for 0."""
        if not months or self.as_of() == BEGINNING:
            return BEGINNING
        moment: datetime = (pd.Timestamp(self.as_of()) - pd.DateOffset(months=months)).to_pydatetime()
        return moment

    def series(
        self,
        metrics: list[str],
        application: str,
        grain: str,
        months: int,
        segment: str = "",
        largest: int | None = None,
    ) -> pd.DataFrame:
        """Values over time: metric_id, grain, period_start, segment_value, numerator, denominator, value, is_complete, null_reason, among.

        Each metric in `grain`, or in the next one that it has; by the values of `segment` where it has that, else in total.
        largest: so many values of the segment only, those that are the largest in the newest complete period; among: of how many.
        """
        catalogue, requested_series = self.catalogue(), []
        for metric in metrics:
            if metric in catalogue:
                requested_series.append(
                    (
                        metric,
                        nearest(grain, catalogue[metric]["grains"]),
                        segment if segment in catalogue[metric]["segments"] else "",
                    )
                )
        asked = {
            "metrics": [a[0] for a in requested_series], "grains": [a[1] for a in requested_series], "segments": [a[2] for a in requested_series],
            "application": application,
        }  # fmt: skip
        # which values are drawn is decided first: of all of them there may be more than a page can hold
        values = self.frame(LARGEST, **asked, largest=largest) if largest else None
        columns = "v.metric_id, v.grain, v.period_start, v.segment_value, v.numerator, v.denominator, v.value, v.is_complete, v.null_reason"
        if values is None:
            return self.frame(
                f"select {columns} from {ASKED} join metric_values as v on v.metric_id = a.metric_id and v.grain = a.grain and v.segment = a.segment "
                "where v.application = %(application)s and v.period_start >= %(since)s order by a.place, v.segment_value, v.period_start",
                **asked, since=self.since(months),
            )  # fmt: skip
        return self.frame(
            f"select {columns}, c.among from unnest(%(places)s::bigint[], %(values)s::text[], %(among)s::bigint[]) as c (place, segment_value, among) "
            f"join {ASKED} using (place) "
            "join metric_values as v on v.metric_id = a.metric_id and v.grain = a.grain and v.segment = a.segment and v.segment_value = c.segment_value "
            "where v.application = %(application)s and v.period_start >= %(since)s order by a.place, v.segment_value, v.period_start",
            **asked, since=self.since(months),
            # a frame without rows has no columns
            places=list(values.get("place", [])), values=list(values.get("segment_value", [])), among=list(values.get("among", [])),
        )  # fmt: skip

    def newest(self, metrics: list[str], application: str, grain: str) -> pd.DataFrame:
        """The two newest complete values of each metric: metric_id, grain, place (1 newest), period_start, value, null_reason."""
        catalogue = self.catalogue()
        requested_series = [
            (metric, nearest(grain, catalogue[metric]["grains"])) for metric in metrics if metric in catalogue
        ]
        return self.frame(
            "select a.metric_id, a.grain, row_number() over (partition by a.metric_id order by v.period_start desc) as place, "
            "v.period_start, v.value, v.null_reason "
            "from unnest(%(metrics)s::text[], %(grains)s::text[]) as a (metric_id, grain) cross join lateral ("
            "select period_start, value, null_reason from metric_values where metric_id = a.metric_id and grain = a.grain "
            "and application = %(application)s and segment = '' and is_complete order by period_start desc limit 2) as v",
            metrics=[a[0] for a in requested_series], grains=[a[1] for a in requested_series], application=application,
        )  # fmt: skip

    def by_segment(self, metric: str, application: str, grain: str, segment: str) -> pd.DataFrame:
        """The values of the newest complete period by the values of a segment, largest first."""
        catalogue = self.catalogue()
        if metric not in catalogue or segment not in catalogue[metric]["segments"]:
            return pd.DataFrame()
        return self.frame(
            "select segment_value, period_start, value from metric_values where metric_id = %(metric)s and grain = %(grain)s "
            "and application = %(application)s and segment = %(segment)s and value is not null and period_start = ("
            "select max(period_start) from metric_values where metric_id = %(metric)s and grain = %(grain)s "
            "and application = %(application)s and segment = '' and is_complete) order by value desc, segment_value",
            metric=metric, grain=nearest(grain, catalogue[metric]["grains"]), application=application, segment=segment,
        )  # fmt: skip

    def targets(self, application: str) -> pd.DataFrame:
        """The judged targets of an application, or of all."""
        return self.frame(
            "select s.*, m.unit, m.direction, m.definition, m.dashboards from metric_status as s join metrics as m using (metric_id) "
            "where %(application)s = 'all' or s.application = %(application)s order by s.metric_id, s.application, s.target_id",
            application=application,
        )

    def coverage(self, metric: str) -> Coverage | None:
        """How fresh a metric is, from the version's certificate: first and last_complete period, grain, nulls by reason; None for none."""
        frame = self.frame(
            "select coverage -> %(metric)s::text as coverage from certificates order by published_version desc limit 1",
            metric=metric,
        )
        return frame["coverage"].iloc[0] if len(frame) else None

    def lacking(self, application: str) -> dict[str, str]:
        """{metric: what has to be landed} of the metrics that are not measured in the application (metric_coverage)."""
        # a version of an earlier release has no such table
        if not len(self.frame("select 1 as yes where to_regclass('marts.metric_coverage') is not null")):
            return {}
        frame = self.frame(
            "select metric_id, lacking from metric_coverage where application = %(application)s and lacking is not null order by metric_id",
            application=application,
        )
        return {row["metric_id"]: row["lacking"] for row in frame.to_dict("records")}

    def forecasts(self, metric: str, application: str, grain: str) -> pd.DataFrame:
        """The forecast of a metric by that grain: period_start, value, low_80, high_80, method and its errors; empty where there is none."""
        if not self._has_forecasts():
            return pd.DataFrame()
        return self.frame(
            "select * from metric_forecasts where metric_id = %(metric)s and application = %(application)s and grain = %(grain)s order by period_start",
            metric=metric, application=application, grain=grain,
        )  # fmt: skip

    def expectations(self, metric: str) -> dict[str, Chance]:
        """{target_id: its row of target_forecasts} of a metric's targets that are due later."""
        if not self._has_forecasts():
            return {}
        frame = self.frame("select * from target_forecasts where metric_id = %(metric)s", metric=metric)
        return {row["target_id"]: row for row in frame.to_dict("records")}

    def _has_forecasts(self) -> bool:
        published = self.published()
        return published is not None and published.forecast_from is not None

    @property
    def past_version(self) -> int | None:
        """The earlier version that a reader asked for; None where the newest is shown."""
        return None

    def restated(self, values: pd.DataFrame) -> dict[Key, Restated]:
        """Which complete values were restated since the version that is shown; none where that is the newest.

        values: the columns of Key and value; is_complete where not all of them are complete.
        """
        return {}

    def changed(
        self, rows: pd.DataFrame, keys: list[str], columns: list[str], text: str, **parameters: object
    ) -> dict[tuple[object, ...], Row | None]:
        """{key: the row that the statement `text` finds in the newest version} of the rows that it found in the version that is shown, where one of `columns` is another now."""
        return {}

    def reasons_since(self, metric: str, application: str) -> str:
        """Why values of a metric were restated since the version that is shown, in words; '' where none was."""
        return ""

    def with_connection(self, use: Callable[[Connection], Result]) -> Result:
        """The result of `use` with this thread's connection; tried once more where that was lost."""
        connection = None
        try:
            connection = self._connect()
            return use(connection)
        except psycopg.OperationalError:
            # a statement that was cancelled, such as at its time limit, is not tried again
            if connection is not None and not connection.closed:
                raise
        return use(self._connect())

    def _connect(self) -> Connection:
        """This thread's connection."""
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None or connection.closed:
            connection = self._local.connection = db.connect(self.settings, self.reader, autocommit=True)
        return connection

    def _rows(self, text: str, parameters: dict[str, object]) -> list[Row]:
        def ask(connection: Connection) -> list[Row]:
            if self._published and self._published.time_zone:
                db.count_days_in(connection, self._published.time_zone)
            return first_rows(connection, text, parameters, ROWS + 1)

        rows = self.with_connection(ask)
        if len(rows) > ROWS:
            raise NorthstarError(f"more than {ROWS:,} rows for one panel; choose a coarser grain or a shorter period")
        return rows


def first_rows(connection: Connection, text: str, parameters: dict[str, object], count: int) -> list[Row]:
    """The first rows of a query; what follows them never comes into memory."""
    stream = connection.cursor().stream(text, parameters or None, size=CHUNK_ROWS)
    # a generator, which psycopg's annotation does not say
    with closing(cast(Generator[Row], stream)) as rows:
        return list(islice(rows, count))


def _size_of(result: object) -> int:
    """About how many bytes something that was read or drawn takes."""
    return int(result.memory_usage(deep=True).sum()) if isinstance(result, pd.DataFrame) else len(pickle.dumps(result))


def nearest(grain: str, grains: list[str]) -> str:
    """The grain itself, the next coarser one there is, else the coarsest there is."""
    place = GRAINS.index(grain)
    return next((g for g in GRAINS[place:] if g in grains), grains[-1])
