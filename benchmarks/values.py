"""What a value costs: the cubes of events, requests and payments at all grains, as our models make them, beside DuckDB and plain SQL in Postgres.

DuckDB reads the same parquet files; Postgres groups the landed rows. All three make the sums by grain, period, application and segment, with
totals; what our models do beside that (rates, kinds, series, numbers) is in their time, and the whole run is told beside it by stage.
"""

import time
from datetime import timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import END, micros, write_events, write_rest
from northstar.base.settings import load_settings
from northstar.runs import job
from northstar.warehouse import db, embedded
from northstar.warehouse.setup import bootstrap

GRAINS = ("hour", "day", "week", "month")
# name: (entity, models of ours, segment, its time, the sums)
CUBES = {
    "events": ("events", ("event_hours", "metrics_events"), "event_name", "occurred_at", "count(*)"),
    "requests": (
        "api_requests", ("request_hours", "metrics_signals"), "service", "occurred_at",
        "count(*), count(*) filter (where status_code >= 500), sum(duration_ms)",
    ),
    "payments": (
        "charges", ("fct_payments", "metrics_payments"), "country", "created_at",
        "count(*), count(*) filter (where status = 'failed'), sum(amount) filter (where status = 'succeeded')",
    ),
}  # fmt: skip


def cube_sql(relation: str, segment: str, at: str, sums: str) -> str:
    """The cube as one statement that both engines understand."""
    starts = " union all ".join(
        f"select '{grain}' as grain, date_trunc('{grain}', {at}) as period_start, r.* from {relation} as r"
        for grain in GRAINS
    )
    key = "grain, period_start"
    sets = f"({key}), ({key}, application), ({key}, {segment}), ({key}, application, {segment})"
    return f"select {key}, application, {segment}, {sums} from ({starts}) as g group by grouping sets ({sets})"


def write_requests(folder: Path, count: int, days: float) -> None:
    """API requests of two services as one parquet file."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(5)
    at = micros(np.sort(random.random(count) * days)[::-1])
    pq.write_table(pa.table({
        "request_id": pa.array(np.char.add("q", np.arange(count).astype(str))), "occurred_at": at,
        "application": pa.array(np.full(count, "web")), "service": pa.array(np.array(["api", "auth"])[random.integers(0, 2, count)]),
        "route": pa.array(np.char.add("/r", random.integers(0, 20, count).astype(str))), "method": pa.array(np.full(count, "GET")),
        "status_code": pa.array(np.where(random.random(count) < 0.99, 200, 500)), "duration_ms": pa.array(random.integers(5, 900, count).astype(float)),
    }), folder / "rows.parquet")  # fmt: skip


def values(work: Path, scale: float, results: list) -> None:
    """Build a company of 2 M events, 1 M requests and 200 k payments over 300 days, and put its cubes beside the others'."""
    settings, source, days = load_settings(work / "values"), work / "values-source", 300
    bootstrap(settings)
    write_events(source / "events", int(2_000_000 * scale), days=days)
    write_requests(source / "api_requests", int(1_000_000 * scale), days)
    write_rest(source, int(20_000 * scale), int(200_000 * scale), int(20_000 * scale), days=days)
    started = time.monotonic()
    job.run(settings, "nightly", END + timedelta(hours=1), str(source), lambda _: None)
    whole = time.monotonic() - started
    with db.connect(settings, "owner") as connection:
        run = connection.execute("select run_id, stage_seconds from audit.runs order by run_id desc limit 1").fetchone()
        seconds = {
            r["name"]: float(r["seconds"])
            for r in connection.execute(
                "select name, seconds from audit.model_runs where run_id = %s", [run["run_id"]]
            ).fetchall()
        }
        points = connection.execute("select count(*) as n from marts.metric_points").fetchone()["n"]
        for name, (entity, models, segment, at, sums) in CUBES.items():
            ours = sum(seconds[model] for model in models)
            query = cube_sql(f"staging.{entity}", segment, at, sums)
            began = time.monotonic()
            rows = connection.execute(f"select count(*) as n from ({query}) as cube").fetchone()["n"]
            plain = time.monotonic() - began
            files = str(source / entity / "*.parquet")
            query = cube_sql(f"read_parquet('{files}')", segment, at, sums)
            duck = duckdb.connect(config={"threads": 2})
            duck.execute("set timezone = 'UTC'")
            began = time.monotonic()
            same = duck.execute(f"select count(*) from ({query}) as cube").fetchone()[0]
            quick = time.monotonic() - began
            assert same == rows, f"{name}: DuckDB makes {same} rows, Postgres {rows}"
            for peer, other in (("DuckDB", quick), ("plain SQL in Postgres", plain)):
                results.append({"name": f"cost of a value: {name}, {rows:,} of them", "seconds": round(ours, 2), "peer": peer,
                                "peer_seconds": round(other, 2), "ratio": round(ours / other, 2), "goal": 3.0 if peer == "DuckDB" else None})  # fmt: skip
                print(f"cost of a value: {name:9} {rows:9,} rows {ours:6.2f} s   {peer:22} {other:6.2f} s   x {ours / other:6.2f}"
                      + ("   goal 3" if peer == "DuckDB" else ""), flush=True)  # fmt: skip
    stages = ", ".join(f"{stage} {float(s):.1f} s" for stage, s in run["stage_seconds"].items())
    results.append(
        {
            "name": "cost of a value: the whole run",
            "seconds": round(whole, 1),
            "stages": run["stage_seconds"],
            "points": points,
        }
    )
    print(f"cost of a value: the whole run {whole:.1f} s for {points:,} points: {stages}", flush=True)
    embedded.stop(settings)
