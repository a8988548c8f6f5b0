"""The marts as readers knew them: at an earlier version, with what was restated since."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar

import pandas as pd

from northstar.base.clock import Calendar, show_utc
from northstar.base.errors import NorthstarError
from northstar.base.settings import Rules
from northstar.use.marts import KEY, Key, Marts, Published, Restated
from northstar.use.words import Chance, restatement_reasons
from northstar.warehouse import db
from northstar.warehouse.published.past import require_readable, show_version
from northstar.warehouse.rows import Connection, Row

# characters of what a reader asked for that are repeated to him
CHARACTERS = 40
# what names a series of all segment values
SERIES = ["metric_id", "grain", "application", "segment"]
# the series that are asked for, with their first and last periods
ASKED = (
    "unnest(%(metric_id)s::text[], %(grain)s::text[], %(application)s::text[], %(segment)s::text[], %(min)s::timestamptz[], %(max)s::timestamptz[]) "
    "as asked (metric_id, grain, application, segment, first, last)"
)
ROLLBACK = "an earlier version was put back"
Result = TypeVar("Result")


def find_version(marts: Marts, asked: str, now: datetime) -> int:
    """The version that a reader asks for: by its number, or by a time (in UTC where it names no zone), at which it was the newest.

    Raises NorthstarError for a text that is neither, a time before the first version or after `now`, and a version that cannot be read.
    """
    text = asked.strip()
    version = int(text) if text.isdecimal() and len(text) <= 18 else _version_at(marts, text, now)
    marts.with_connection(lambda connection: require_readable(connection, version))
    return version


def _version_at(marts: Marts, text: str, now: datetime) -> int:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise NorthstarError(
            f"{text[:CHARACTERS]!r} is neither a version, such as 12, nor a time, such as 2026-03-01 08:00"
        ) from exc
    if moment > now:
        raise NorthstarError(f"{show_utc(moment)} lies in the future")
    found = marts.rows(
        "select max(published_version) filter (where published_at <= %(moment)s) as version, min(published_at) as first from publications",
        moment=moment,
    )
    version: int | None = found[0]["version"] if found else None
    if version is None:
        first = f"; the first version was published at {show_utc(found[0]['first'])}" if found else ""
        raise NorthstarError(f"nothing was published at {show_utc(moment)}{first}")
    return version


class PastMarts(Marts):
    """A reader of the marts at an earlier version. It has the memory of the reader of the newest one, and in each thread a connection of its own.

    What no version keeps (open alerts, kept promises) is that of now, and left out.
    """

    def __init__(self, newest: Marts, version: int):
        super().__init__(newest.settings, newest.role)
        self.newest_marts, self._version = newest, version
        self._local = newest.past_connections

    @property
    def past_version(self) -> int | None:
        return self._version

    @property
    def calendar(self) -> Calendar:
        """How the company divided time then."""
        # certificates are of no version
        rows = self.newest_marts.frame(
            "select rules from certificates where published_version = %(version)s", version=self._version
        )
        rules = dict(rows["rules"].iloc[0]) if len(rows) else {}
        known = {name: value for name, value in rules.items() if name in Rules.model_fields}
        return Rules.model_validate(known).calendar if known else self.settings.rules.calendar

    def published(self) -> Published | None:
        return self.remember(("published",), self._newest)

    def remember(self, key: tuple[object, ...], make: Callable[[], Result]) -> Result:
        """The result of `make`, made once for this version, and made again after a publication: what was restated since may be more then."""
        return self.newest_marts.remember(("at", self._version, *key), make)

    def steadily(self, make: Callable[[], Result]) -> Result:
        # a version that was published does not change
        return make()

    def broken_promises(self, now: datetime) -> list[str]:
        return []

    def open_alerts(self, application: str) -> list[Row]:
        return []

    def forecasts(self, metric: str, application: str, grain: str) -> pd.DataFrame:
        """The forecast that was shown then; empty where a later one has replaced it."""
        frame = super().forecasts(metric, application, grain)
        return frame[frame["published_version"].astype(int) <= self._version] if len(frame) else frame

    def expectations(self, metric: str) -> dict[str, Chance]:
        """The expectations that were shown then, of the targets for which no later forecast has replaced them."""
        if not self._has_forecasts():
            return {}
        frame = self.frame(
            "select * from target_forecasts where metric_id = %(metric)s and published_version <= %(version)s",
            metric=metric, version=self._version,
        )  # fmt: skip
        return {row["target_id"]: row for row in frame.to_dict("records")}

    def restated(self, values: pd.DataFrame) -> dict[Key, Restated]:
        complete = values[values["is_complete"].astype(bool)] if "is_complete" in values else values
        if not len(complete) or self._is_newest():
            return {}
        ranges = complete.groupby(SERIES, sort=False)["period_start"].agg(["min", "max"]).reset_index()
        arrays = {name: list(ranges[name]) for name in (*SERIES, "min", "max")}
        now = self.newest_marts.frame(
            f"select v.metric_id, v.grain, v.period_start, v.application, v.segment, v.segment_value, v.value from {ASKED} "
            "join metric_values as v using (metric_id, grain, application, segment) where v.period_start between first and last", **arrays,
        )  # fmt: skip
        values_now, shown = _by_key(now), _by_key(complete)
        changed = {key: values_now.get(key) for key, value in shown.items() if values_now.get(key) != value}
        if not changed:
            return {}
        reasons, currency = self._reasons(arrays), self.newest_marts.currency
        return {
            key: Restated(value, currency, _reasons_of(key, reasons) or self._rollback())
            for key, value in changed.items()
        }

    def _is_newest(self) -> bool:
        """Whether nothing was published since, so that nothing can have been restated."""
        newest = self.newest_marts.published()
        return newest is None or newest.version == self._version

    def _reasons(self, arrays: dict[str, list[object]]) -> list[Row]:
        return self.newest_marts.rows(
            "select metric_id, grain, period_start, application, segment, segment_value, periods, reason, reasons "
            f"from {ASKED} join metric_restatements using (metric_id, grain, application, segment) "
            "where new_version > %(version)s and period_start <= last order by new_version", version=self._version, **arrays,
        )  # fmt: skip

    def _rollback(self) -> str:
        """The reason of a change that no restatement explains: a rollback is none."""
        frame = self.newest_marts.frame(
            "select 1 as yes from publications where published_version > %(version)s and restores_version is not null",
            version=self._version,
        )
        return ROLLBACK if len(frame) else ""

    def changed(
        self, rows: pd.DataFrame, keys: list[str], columns: list[str], text: str, **parameters: object
    ) -> dict[tuple[object, ...], Row | None]:
        if not len(rows) or self._is_newest():
            return {}
        now = self.newest_marts.frame(text, **parameters).to_dict("records")
        rows_now = {tuple(row[name] for name in keys): row for row in now}
        changed: dict[tuple[object, ...], Row | None] = {}
        for row in rows.to_dict("records"):
            key = tuple(row[name] for name in keys)
            newest = rows_now.get(key)
            if newest is None or any(_is_other(row[name], newest[name]) for name in columns):
                changed[key] = newest
        return changed

    def reasons_since(self, metric: str, application: str) -> str:
        rows = self.newest_marts.frame(
            "select distinct unnest(coalesce(reasons, array[reason])) as reason from metric_restatements where new_version > %(version)s "
            "and metric_id = %(metric)s and application = %(application)s order by 1",
            version=self._version, metric=metric, application=application,
        )  # fmt: skip
        return ", ".join(reason.replace("_", " ") for reason in rows["reason"]) if len(rows) else self._rollback()

    def _connect(self) -> Connection:
        connection = super()._connect()
        if getattr(self._local, "shows", None) != (connection, self._version):
            show_version(connection, self._version)
            db.count_days_in(connection, self.calendar.zone.key)
            self._local.shows = (connection, self._version)
        return connection


def _by_key(values: pd.DataFrame) -> dict[Key, Decimal | None]:
    return (
        dict(zip(values[list(KEY)].itertuples(index=False, name=None), values["value"], strict=True))
        if len(values)
        else {}
    )


def _is_other(then: object, now: object) -> bool:
    # a null is None or NaN, depending on the column's other values
    return then != now and not (pd.isna(then) and pd.isna(now))


def _reasons_of(key: Key, rows: list[Row]) -> str:
    """Why the value at a place changed, in words; a series that changed as a whole has one row, with its first period."""
    found = [
        restatement_reasons(row)
        for row in rows
        if all(row[name] == part for name, part in zip(KEY, key, strict=True) if name != "period_start")
        and (row["period_start"] == key[2] or (row["periods"] != 1 and row["period_start"] <= key[2]))
    ]
    return ", ".join(dict.fromkeys(reason for reasons in found for reason in reasons.split(", ")))
