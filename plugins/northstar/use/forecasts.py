"""Forecasts of the level 1 and 2 metrics, with their errors in the past: `marts.metric_forecasts` and `marts.target_forecasts`.

Each series (a metric of an application, by month or else by week) is forecast twice: by damped exponential smoothing (statsmodels) and by the naive
way, the same period of the year before, or the last value where there is no year yet. Both are tried on the past, from up to 12 origins, three periods
ahead; the better one is published, with both mean errors. Intervals come from the errors of those trials, by how far ahead they looked: they
are as wide as the method was wrong, not as the model believes.
"""

import hashlib
import math
import warnings
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from statistics import NormalDist
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd

from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.published.described import DescribedTable
from northstar.warehouse.rows import Connection, Row, fetch_all_as, fetch_one

FEWEST, ORIGINS, AHEAD = 6, 12, 3
HORIZON, FARTHEST = {"month": 6, "week": 12}, {"month": 24, "week": 104}
YEAR = {"month": 12, "week": 52}
STEP = {"month": pd.DateOffset(months=1), "week": pd.DateOffset(weeks=1)}
LIKELY, UNLIKELY = 0.8, 0.2
Z80, Z95 = NormalDist().inv_cdf(0.9), NormalDist().inv_cdf(0.975)
FORECASTS = {
    "metric_id": ("text not null", "the metric"),
    "application": ("text not null", "the application, or all"),
    "grain": ("text not null", "month, or week where the metric has no months"),
    "period_start": ("timestamptz not null", "the period that is forecast"),
    "value": ("numeric not null", "the forecast, in the metric's unit"),
    "low_80": ("numeric not null", "the lower end of the interval that held 80 % of the trials"),
    "high_80": ("numeric not null", "the upper end of that interval"),
    "low_95": ("numeric not null", "the lower end of the 95 % interval"),
    "high_95": ("numeric not null", "the upper end of that interval"),
    "method": ("text not null", "smoothing (damped exponential smoothing) or naive (a year before, else the last value): the one with the smaller error"),
    "periods": ("int not null", "number of complete periods from which it was computed"),
    "smoothing_error": ("numeric", "mean absolute error of smoothing, three periods ahead at most; null where there were too few periods for trials"),
    "naive_error": ("numeric", "mean absolute error of the naive forecast in the same trials"),
    "coverage_80": ("numeric", "percentage of trials that fell into the 80 % interval of the trials before them"),
    "published_version": ("bigint not null", "the version whose values it was made from"),
    "fingerprint": ("text not null", "a digest of those values"),
}  # fmt: skip
TARGETS = {
    "target_id": ("text not null", "the target, as in metric_status"),
    "metric_id": ("text not null", "the metric"),
    "application": ("text not null", "the application"),
    "due_at": ("timestamptz not null", "when it is due"),
    "operator": ("text not null", "how the value is compared with the target"),
    "target": ("numeric not null", "the target"),
    "forecast": ("numeric not null", "the forecast of the period in which it is due"),
    "probability": ("numeric not null", "the probability that the target is met, from the forecast's own errors"),
    "verdict": ("text not null", "likely (80 % and more), unlikely (20 % and less), open"),
    "published_version": ("bigint not null", "the version whose values it was made from"),
}  # fmt: skip
TABLES = (
    DescribedTable(
        "metric_forecasts",
        "Forecasts of the level 1 and 2 metrics, with their errors in trials.",
        FORECASTS,
        ("metric_id", "application", "grain", "period_start"),
    ),
    DescribedTable("target_forecasts", "Whether targets that are due later will be met.", TARGETS, ("target_id",)),
)


Numbers = npt.NDArray[np.float64]
# a row as it is inserted: a value for each column of its table
StoredRow = tuple[object, ...]


class Series(TypedDict):
    """The complete values of a metric, oldest first."""

    metric_id: str
    application: str
    grain: str
    unit: str
    starts: list[datetime]
    values: list[Decimal]


@dataclass
class Forecast:
    """The forecast of a series. values, spreads: by period ahead, 1 first; a spread is a standard deviation."""

    values: Numbers
    spreads: Numbers
    method: str
    smoothing_error: float | None
    naive_error: float | None
    coverage: float | None


def forecast_metrics(settings: Settings, progress: Progress = print) -> int:
    """Forecast the series that have changed since the last forecast; returns their number. Raises NorthstarError before a publication."""
    with db.connect(settings, "publisher") as connection:
        if fetch_one(connection.execute("select to_regclass('marts.publications') as t"))["t"] is None:
            raise NorthstarError("nothing is published yet; `northstar run` publishes the first version")
        for table in TABLES:
            table.ensure(connection)
        version = fetch_one(
            connection.execute("select published_version as v, as_of from marts.publications order by 1 desc limit 1")
        )
        due_targets = connection.execute(
            "select s.*, m.unit from marts.metric_status as s join marts.metrics as m using (metric_id) where s.due_at > %s and s.segment = '' and s.target is not null",
            [version["as_of"]],
        ).fetchall()  # fmt: skip
        fingerprints = {
            (r["metric_id"], r["application"]): r["fingerprint"]
            for r in connection.execute(
                "select distinct metric_id, application, fingerprint from marts.metric_forecasts"
            )
        }
        series_of_all = _series(connection)
    # no transaction stays open while the methods are tried, which takes minutes for years of history: a publication may change the tables meanwhile
    new_rows: dict[tuple[str, str], list[StoredRow]] = {}
    series_keys = []
    for series in series_of_all:
        key = (series["metric_id"], series["application"])
        last_due = max((t["due_at"] for t in due_targets if (t["metric_id"], t["application"]) == key), default=None)
        ahead = _periods_ahead(series["starts"][-1], last_due, series["grain"])
        fingerprint = hashlib.sha256(repr((series["starts"][0], series["values"], ahead)).encode()).hexdigest()[:16]
        series_keys.append("|".join(key))
        if fingerprints.get(key) != fingerprint:
            values = np.array([float(v) for v in series["values"]])
            prediction = forecast(values, ahead, YEAR[series["grain"]])
            new_rows[key] = _rows(series, values, prediction, version["v"], fingerprint)
    with db.connect(settings, "publisher") as connection:
        for key, rows in new_rows.items():
            connection.execute("delete from marts.metric_forecasts where metric_id = %s and application = %s", key)
            _insert(connection, TABLES[0], rows)
        connection.execute(
            "delete from marts.metric_forecasts where not metric_id || '|' || application = any(%s)", [series_keys]
        )
        connection.execute("delete from marts.target_forecasts")
        _insert(connection, TABLES[1], _target_rows(connection, due_targets, version["v"]))
    progress(f"{len(new_rows)} series forecast, {len(series_keys) - len(new_rows)} had not changed")
    return len(new_rows)


def forecast(values: Numbers, ahead: int, year: int) -> Forecast:
    """The better of two forecasts of a series, with intervals from their errors in the past.

    values: the complete periods, oldest first, FEWEST or more. ahead: how many periods. year: how many periods make one.
    """
    methods = {"naive": lambda v, h: _naive(v, h, year), "smoothing": _smooth}
    first = max(FEWEST - 1, len(values) - ORIGINS - 1)
    origins = range(first, len(values))
    errors = {
        name: [method(values[:o], AHEAD)[: len(values) - o] - values[o : o + AHEAD] for o in origins]
        for name, method in methods.items()
    }
    means = {name: float(np.mean(np.abs(np.concatenate(e)))) if e else math.nan for name, e in errors.items()}
    # smoothing has to be clearly better: otherwise the simpler method wins
    best = "smoothing" if means["smoothing"] < 0.98 * means["naive"] else "naive"
    trials = errors[best]
    spreads = _spreads(trials, values, ahead)
    return Forecast(
        methods[best](values, ahead),
        spreads,
        best,
        _number(means["smoothing"]),
        _number(means["naive"]),
        _coverage(trials),
    )


def _smooth(values: Numbers, ahead: int) -> Numbers:
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    if len(values) < FEWEST - 1 or np.ptp(values) == 0:
        return np.repeat(values[-1], ahead)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = ExponentialSmoothing(values, trend="add", damped_trend=True, initialization_method="estimated").fit()
    prediction = np.asarray(fitted.forecast(ahead), dtype=float)
    return prediction if np.isfinite(prediction).all() else np.repeat(values[-1], ahead)


def _naive(values: Numbers, ahead: int, year: int) -> Numbers:
    if len(values) > year:
        return np.array([values[len(values) - year + (h % year)] for h in range(ahead)])
    return np.repeat(values[-1], ahead)


def _spreads(trials: list[Numbers], values: Numbers, ahead: int) -> Numbers:
    """Standard deviations by period ahead: from the trials as far as they went; beyond that they grow with the root of the distance."""
    trial_spreads = []
    for h in range(AHEAD):
        errors = [t[h] for t in trials if len(t) > h]
        trial_spreads.append(float(np.sqrt(np.mean(np.square(errors)))) if len(errors) > 2 else math.nan)
    steps = np.diff(values)
    first = (
        trial_spreads[0]
        if not math.isnan(trial_spreads[0])
        else float(np.sqrt(np.mean(np.square(steps))))
        if len(steps)
        else 0.0
    )
    spreads = [first]
    for h in range(1, ahead):
        spread = (
            trial_spreads[h]
            if h < AHEAD and not math.isnan(trial_spreads[h])
            else spreads[min(h, AHEAD) - 1] * math.sqrt((h + 1) / min(h, AHEAD))
        )
        spreads.append(max(spread, spreads[-1]))
    return np.array(spreads)


def _coverage(trials: list[Numbers]) -> float | None:
    """Percent of one-period trials that fell into the 80 % interval of the trials before them."""
    errors, inside = [t[0] for t in trials if len(t)], []
    for n in range(3, len(errors)):
        inside.append(abs(errors[n]) <= Z80 * math.sqrt(np.mean(np.square(errors[:n]))))
    return 100 * float(np.mean(inside)) if inside else None


def _series(connection: Connection) -> list[Series]:
    """The series of the level 1 and 2 metrics, complete values by month or else by week. Those with fewer than FEWEST periods are left out."""
    rows = connection.execute(
        "select v.metric_id, v.application, v.grain, m.unit, array_agg(v.period_start order by v.period_start) as starts, "
        "array_agg(v.value order by v.period_start) as values from marts.metric_values as v join marts.metrics as m using (metric_id) "
        "where m.level in ('1', '2') and v.segment = '' and v.is_complete and v.value is not null "
        "and v.grain = case when 'month' = any(regexp_split_to_array(m.grains, '[,;]')) then 'month' else 'week' end "
        "group by 1, 2, 3, 4 having count(*) >= %s order by 1, 2", [FEWEST],
    )  # fmt: skip
    return fetch_all_as(Series, rows)


def _periods_ahead(newest: datetime, due: datetime | None, grain: str) -> int:
    periods = HORIZON[grain]
    if due is not None:
        days = (due - newest).days
        periods = max(periods, math.ceil(days / (30 if grain == "month" else 7)))
    return min(periods, FARTHEST[grain])


def _rows(series: Series, values: Numbers, prediction: Forecast, version: int, fingerprint: str) -> list[StoredRow]:
    low, high = _bounds(series, values)
    rows: list[StoredRow] = []
    start = pd.Timestamp(series["starts"][-1])
    for n, (value, spread) in enumerate(zip(prediction.values, prediction.spreads, strict=True), 1):
        ends = [min(high, max(low, value + z * spread)) for z in (0, -Z80, Z80, -Z95, Z95)]
        rows.append((series["metric_id"], series["application"], series["grain"], (start + n * STEP[series["grain"]]).to_pydatetime(), *map(_number, ends),
                     prediction.method, len(values), prediction.smoothing_error, prediction.naive_error, prediction.coverage, version, fingerprint))  # fmt: skip
    return rows


def _bounds(series: Series, values: Numbers) -> tuple[float, float]:
    """The lowest and highest value that a metric can have, by its unit and its history."""
    if (
        series["unit"] == "percent"
        and values.min() >= 0
        and values.max() <= 100
        and not series["metric_id"].endswith(("growth_rate", "change_rate"))
    ):
        return 0.0, 100.0
    return (
        (0.0, math.inf)
        if values.min() >= 0 and not series["metric_id"].endswith(("growth_rate", "change_rate"))
        else (-math.inf, math.inf)
    )


def _target_rows(connection: Connection, due: list[Row], version: int) -> list[StoredRow]:
    rows: list[StoredRow] = []
    for target in due:
        prediction = connection.execute(
            "select value, low_80, high_80 from marts.metric_forecasts where metric_id = %s and application = %s and period_start < %s "
            "order by period_start desc limit 1", [target["metric_id"], target["application"], target["due_at"]],
        ).fetchone()  # fmt: skip
        if prediction is None or target["operator"] not in (">", ">=", "<", "<="):
            continue
        spread = float(prediction["high_80"] - prediction["low_80"]) / 2 / Z80
        distance = float(prediction["value"] - target["target"]) * (1 if target["operator"].startswith(">") else -1)
        chance = (
            NormalDist().cdf(distance / spread)
            if spread
            else float(distance > 0 or (distance == 0 and "=" in target["operator"]))
        )
        verdict = "likely" if chance >= LIKELY else "unlikely" if chance <= UNLIKELY else "open"
        rows.append((target["target_id"], target["metric_id"], target["application"], target["due_at"], target["operator"], target["target"],
                     prediction["value"], _number(chance), verdict, version))  # fmt: skip
    return rows


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)


def _insert(connection: Connection, table: DescribedTable, rows: list[StoredRow]) -> None:
    places = ", ".join(["%s"] * len(table.columns))
    with connection.cursor() as cursor:
        cursor.executemany(f"insert into marts.{table.name} values ({places})", rows)
