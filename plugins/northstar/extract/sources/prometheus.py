"""Prometheus: uptime, resource usage and request figures, from its HTTP API (also Thanos, Mimir, VictoriaMetrics).

    system: prometheus
    connection: prometheus_main # host: its address; login and password, or a bearer token as the password, if it needs them
    options:
      uptime: {metric: probe_success, service: instance}     # a metric that is 1 while up, and its label (default: `up` by `job`)
      third_party: [status.stripe.com]                       # services that other companies run
      resources: {cpu_percent: "100 * cpu_busy", resource: instance, step: 60}
                                # PromQL for cpu_percent, memory_percent, concurrent_users, network_latency_ms, the label that names
                                # the resource, and the seconds between samples; default: node_exporter's CPU and memory
      requests: {metric: http_request_duration_seconds, service: job, route: handler, status: code}
                                # a histogram in seconds and its labels; without it no api_requests are read
      applications: {web: [shop-web, shop-db]}               # the services or resources of each application (default: the source's)
      history_days: 15          # how far back the first reading goes
      lag: 60                   # the most seconds that samples take to arrive

An uptime check is a sample as it was scraped. Where a service has several targets at one instant, it was up if all of them were.
Histograms hold no single requests: each increment of a bucket becomes one request at the sample's time. Number, status and mean
duration are exact; a single duration is right to its bucket's width. A counter that jumps by more than a million between two samples
is one row in quarantine. Increments are counted from one reading to the next (counters that restart included); what a target had
counted before its first sample is not read.
"""

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from northstar.base.errors import NorthstarError, SourceDown
from northstar.connections.find import Connection
from northstar.extract.sources.declared import ContractRow, Options, Page, Source, State, Totals, check_options
from northstar.extract.sources.http import HttpClient, Json, JsonObject, Parameters

ENTITIES = ("uptime_checks", "resource_samples", "api_requests")
OPTIONS = {"uptime", "third_party", "resources", "requests", "applications", "history_days", "lag"}
HOUR, DAY = 3600, 86_400
HISTORY_DAYS, LAG, STEP = 15, 60, 60
PAGE_ROWS = 500_000
# the most requests of one series between two samples; a counter that grew by more was reset, or counts something else
MOST_REQUESTS = 1_000_000
RESOURCES = {
    "cpu_percent": '100 * (1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m])))',
    "memory_percent": "100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)",
}
# the labels of a series, without its name and its bucket
Labels = dict[str, str]
# the last value of each counter, by series
Counters = dict[str, float]
# increments of a histogram: {(time, series): (labels, {bound: increment})}
Increments = dict[tuple[float, str], tuple[Labels, dict[str, float]]]
MEASURES = ("cpu_percent", "memory_percent", "concurrent_users", "network_latency_ms")


def connect(source: Source, connection: Connection) -> "Prometheus":
    """A Prometheus server. Raises NorthstarError for options that are wrong."""
    check_options(source, OPTIONS)
    unknown = set(source.options.get("resources") or {}) - {*MEASURES, "resource", "step"}
    if unknown:
        raise NorthstarError(
            f"source {source.name}: resources has no {sorted(unknown)[0]!r}; it has {', '.join(MEASURES)}"
        )
    requests = source.options.get("requests")
    if requests is not None and not {"metric", "service", "status"} <= set(requests):
        raise NorthstarError(f"source {source.name}: requests needs metric, and the labels service and status")
    headers: dict[str, str] = {}
    if connection.password:
        pair = base64.b64encode(f"{connection.login}:{connection.password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}" if connection.login else f"Bearer {connection.password}"
    return Prometheus(source, HttpClient(connection.url() + "/api/v1", headers, source.per_second))


class Prometheus:
    """A connector of northstar.extract.sources.declared.Connector's shape."""

    def __init__(self, source: Source, http: HttpClient):
        self.source, self.http, self.options = source, http, source.options

    def check(self) -> str:
        """Count the targets that are up."""
        samples = self._query("count(up)", self._now())
        return f"Prometheus: may read {', '.join(self.source.entities)}; it watches {samples[0]['value'][1] if samples else 0} targets"

    def read(self, entity: str, state: State | None) -> Iterator[Page]:
        """The rows of one hour at a time by the server's own clock, oldest first. Reading can go on after each hour."""
        end = self._now() - self.options.get("lag", LAG)
        start = state["since"] if state else end - int(self.options.get("history_days", HISTORY_DAYS) * DAY)
        counters = (state or {}).get("counters")
        while start < end:
            until = min(end, (start // HOUR + 1) * HOUR)
            if entity == "api_requests":
                steps, new_counters = self._increments(start, until, counters)
                rows: list[pa.RecordBatch] = []
                for batch in self._batches(steps):
                    if rows and sum(b.num_rows for b in rows) + batch.num_rows > PAGE_ROWS:
                        # the hour is not complete: the next reading starts with it again, and gives the same rows for it
                        yield Page(_concatenate(rows), {"since": start, "counters": counters})
                        rows = []
                    rows.append(batch)
                counters = new_counters
                yield Page(_concatenate(rows), {"since": until, "counters": counters})
            else:
                make = self._checks if entity == "uptime_checks" else self._samples
                yield Page(make(start, until), {"since": until})
            start = until

    def totals(self, entity: str, state: State | None) -> Totals:
        """The number of samples of the last complete day, as Prometheus counts them."""
        if entity != "uptime_checks" or state is None:
            return {}
        end = state["since"] // DAY * DAY
        metric = self._uptime()[0]
        samples = self._query(f"sum(count_over_time({metric}[{DAY}s] @ {end}))", end)
        day = datetime.fromtimestamp(end - DAY, UTC)
        landed = f"count(*) filter (where checked_at > '{day:%Y-%m-%d %H:%M}Z' and checked_at <= '{datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M}Z')"
        return {f"samples on {day:%Y-%m-%d}": (int(float(samples[0]["value"][1])) if samples else 0, landed)}

    def _uptime(self) -> tuple[str, str]:
        uptime_options = self.options.get("uptime") or {}
        return uptime_options.get("metric", "up"), uptime_options.get("service", "job")

    def _checks(self, start: int, until: int) -> list[ContractRow]:
        metric, label = self._uptime()
        checks: dict[tuple[str, float], bool] = {}
        for series in self._raw(metric, start, until):
            service = series["metric"].get(label) or series["metric"].get("instance", "")
            for at, value in series["values"]:
                checks[service, at] = checks.get((service, at), True) and float(value) > 0
        third_parties = set(self.options.get("third_party") or [])
        return [
            {"service": service, **self._application(service), "checked_at": _time(at), "is_up": is_up, "is_third_party": service in third_parties}
            for (service, at), is_up in sorted(checks.items(), key=lambda item: item[0][1])
        ]  # fmt: skip

    def _samples(self, start: int, until: int) -> list[ContractRow]:
        resource_options: Options = self.options.get("resources") or RESOURCES
        label: str = resource_options.get("resource", "instance")
        step: int = resource_options.get("step", STEP)
        # steps are counted from the epoch, so that every reading has the same ones
        first = start // step * step + step
        samples: dict[tuple[float, str], dict[str, str | None]] = {}
        for measure in MEASURES:
            if measure in resource_options and first <= until:
                parameters: Parameters = {
                    "query": resource_options[measure],
                    "start": first,
                    "end": until,
                    "step": step,
                }
                for series in self._result("query_range", parameters):
                    for at, value in series["values"]:
                        row = samples.setdefault((at, series["metric"].get(label, "")), {})
                        # rounding may bring a percentage slightly above 100
                        row[measure] = _number(value, 100 if measure.endswith("percent") else None)
        return [
            {"resource": resource, **self._application(resource), "sampled_at": _time(at), **row}
            for (at, resource), row in sorted(samples.items())
        ]

    def _increments(self, start: int, until: int, previous_counters: Counters | None) -> tuple[Increments, Counters]:
        """A histogram's increments, {(time, series): (labels, {bound: increment})}, and the last value of each counter, by series."""
        request_options = self.options.get("requests")
        if not request_options:
            return {}, previous_counters or {}
        last: Counters = dict(previous_counters or {})
        groups: Increments = {}
        histogram_series = [
            s
            for part in ("bucket", "sum")
            for s in self._raw(f"{request_options['metric']}_{part}", start, until)
            if s["values"]
        ]
        first_times: dict[str, float] = {}
        for series in histogram_series:
            target = _target(series)
            first_times[target] = min(first_times.get(target, np.inf), series["values"][0][0])
        for series in histogram_series:
            labels = {k: v for k, v in series["metric"].items() if k not in ("__name__", "le")}
            name, bound, target = _name(labels), series["metric"].get("le", "sum"), _target(series)
            previous = last.get(f"{name}/{bound}")
            if previous is None and (target in last or series["values"][0][0] > first_times[target]):
                # its target was scraped before: the series is new, and counts from 0
                previous = 0.0
            for at, value in series["values"]:
                count = float(value)
                if previous is not None:
                    step = groups.setdefault((at, name), (labels, {}))[1]
                    step[bound] = count - previous if count >= previous else count
                previous = count
            if previous is not None:
                last[f"{name}/{bound}"] = previous
        last.update(first_times)
        return groups, last

    def _batches(self, steps: Increments) -> Iterator[pa.RecordBatch]:
        """The requests of each increment. An impossible increment is one row that landing puts into quarantine."""
        request_options: Options = self.options.get("requests") or {}
        for (at, name), (labels, step) in sorted(steps.items(), key=lambda g: g[0]):
            maximum = max((count for bound, count in step.items() if bound != "sum"), default=0)
            batch = (
                _request_rows(at, name, step, labels, request_options)
                if maximum <= MOST_REQUESTS
                else _impossible_row(at, name, maximum, labels, request_options)
            )
            if batch.num_rows:
                yield self._add_application(batch)

    def _add_application(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        application = (
            self._application(batch.column("service")[0].as_py()).get("application") or self.source.application
        )
        return batch.append_column("application", pa.array([application] * batch.num_rows, pa.string()))

    def _application(self, name: str) -> dict[str, str]:
        for application, names in (self.options.get("applications") or {}).items():
            if name in names:
                return {"application": application}
        return {"application": self.source.application} if self.source.application else {}

    def _now(self) -> int:
        return int(float(self._result("query", {"query": "time()"})[1]))

    def _raw(self, metric: str, start: int, until: int) -> list[JsonObject]:
        """Samples as they were scraped, later than start and not later than until."""
        all_series = self._query(f"{metric}[{until - start}s]", until)
        for series in all_series:
            # versions before 3 also give the sample at the window's very start
            series["values"] = [(at, value) for at, value in series["values"] if start < at <= until]
        return all_series

    def _query(self, query: str, at: int) -> list[JsonObject]:
        result: list[JsonObject] = self._result("query", {"query": query, "time": at})
        return result

    def _result(self, path: str, parameters: Parameters) -> Json:
        answer = self.http.get(path, parameters)
        if answer.get("status") != "success":
            raise SourceDown(f"Prometheus answered {answer.get('error', 'without a result')}")
        return answer["data"]["result"]


def _request_rows(at: float, name: str, step: dict[str, float], labels: Labels, options: Options) -> pa.RecordBatch:
    """The requests of one sample, a row for each. Durations (ms) are placed within their buckets so that they fit the histogram's sum."""
    bounds = sorted((float(bound), count) for bound, count in step.items() if bound != "sum")
    upper = np.array([bound for bound, _ in bounds])
    # buckets are cumulative; a scrape between two increments can be off by one
    counts = np.diff(np.maximum.accumulate(np.array([0.0, *(count for _, count in bounds)]))).round().astype(int)
    lower = np.concatenate([[0.0], upper[:-1]]) if len(upper) else upper
    total, spent = counts.sum(), step.get("sum", 0.0)
    if total:
        endless = counts[-1] if np.isinf(upper[-1]) else 0
        top = np.where(np.isinf(upper), lower, upper)
        if endless:
            # the last bucket has no upper bound: it takes what is left of the sum when the others lie in the middle of their buckets
            remainder = spent - float((counts[:-1] * (lower[:-1] + upper[:-1]) / 2).sum())
            top[-1] = max(lower[-1], 2 * remainder / endless - lower[-1])
        room = float((counts * (top - lower)).sum())
        place = min(1.0, max(0.0, (spent - float((counts * lower).sum())) / room)) if room else 0.0
        seconds = lower + place * (top - lower)
    else:
        seconds = upper
    durations = np.repeat(seconds * 1000, counts)
    stem = f"{name}-{at:.3f}-"
    ids = pc.binary_join_element_wise(pa.scalar(stem), pa.array(range(total)).cast(pa.string()), "")
    return _rows(ids, pa.array([f"{d:.6f}" for d in durations.tolist()], pa.string()), at, labels, options)


def _impossible_row(at: float, name: str, count: float, labels: Labels, options: Options) -> pa.RecordBatch:
    """The row for an increment that no service can serve: a request with an impossible duration, minus the increment."""
    return _rows(pa.array([f"{name}-{at:.3f}-jump"]), pa.array([f"{-count:.0f}"]), at, labels, options)


def _rows(ids: pa.Array, durations: pa.Array, at: float, labels: Labels, options: Options) -> pa.RecordBatch:
    same = {
        "service": labels.get(options["service"], ""), "route": labels.get(options.get("route", ""), ""),
        "status_code": labels.get(options["status"], ""), "occurred_at": _time(at),
    }  # fmt: skip
    columns = {"request_id": ids, "duration_ms": durations}
    for column, value in same.items():
        columns[column] = pa.array([value or None] * len(ids), pa.string())
    return pa.RecordBatch.from_pydict(columns)


def _concatenate(batches: list[pa.RecordBatch]) -> pa.RecordBatch | list[ContractRow]:
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0] if batches else []


def _number(value: str, maximum: float | None) -> str | None:
    number = float(value)
    if not np.isfinite(number):
        return None
    return repr(min(number, maximum) if maximum is not None else number)


def _target(series: JsonObject) -> str:
    return "target/" + _name({label: series["metric"].get(label, "") for label in ("job", "instance")})


def _name(labels: Labels) -> str:
    text = "\n".join(f"{k}={v}" for k, v in sorted(labels.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
