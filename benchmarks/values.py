"""What a value costs: the cubes of events, requests and payments at all grains, as our models make them, beside DuckDB and plain SQL in Postgres.

The first peer is DuckDB with the very SQL of our models, over the same parquet files: the same values, so that only the engine differs. Beside it
stand two that do less, the sums by grain, period, application and one segment: in DuckDB from the files, in Postgres from the landed rows. All are
processor seconds of one process, the least of three; the whole run is printed by stage.
"""

import re
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import END, micros, write_events, write_rest
from northstar.base.settings import Settings, load_settings
from northstar.build.manifest import dbt_target
from northstar.contract import entities
from northstar.runs import job
from northstar.warehouse import db, embedded
from northstar.warehouse.rows import Connection
from northstar.warehouse.setup import bootstrap

GRAINS = ("hour", "day", "week", "month")
# name: (entity, models of ours, the view between them, segment, its time, the sums)
CUBES = {
    "events": ("events", ("event_hours", "metrics_events"), None, "event_name", "occurred_at", "count(*) as all_rows"),
    "requests": (
        "api_requests", ("request_hours", "metrics_signals"), None, "service", "occurred_at",
        "count(*) as all_rows, count(*) filter (where status_code >= 500) as failed, sum(duration_ms) as duration_ms",
    ),
    "payments": (
        "charges", ("fct_payments", "fct_refunds", "metrics_payments"), "cash_flows", "country", "created_at",
        "count(*) as all_rows, count(*) filter (where status = 'failed') as failed, sum(amount) filter (where status = 'succeeded') as amount",
    ),
}  # fmt: skip
REPEATS = 3
# how DuckDB writes what it has in other words; its decimals hold fewer digits than ours, so its quotients are rounded
SERIES_ID = re.compile(r"\('x' \|\| left\(md5\(row\((.*?)\)::text\), 16\)\)::bit\(64\)::bigint")
DUCKDB_TYPES = {"text": "varchar", "numeric": "decimal(38, 10)", "timestamp with time zone": "timestamptz"}


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


def model_sql(settings: Settings, name: str) -> str:
    """The SQL of a model, as the full build compiled it."""
    (path,) = (dbt_target(settings) / "compiled").rglob(f"{name}.sql")
    return path.read_text()


def in_duckdb(query: str) -> str:
    """A model's SQL in DuckDB's words, over relations without schemas."""
    query = re.sub(r"/\*.*?\*/|--[^\n]*", "", query, flags=re.DOTALL)
    query = re.sub(r'"\w+"\."(staging|core|marts_candidate)"\."(\w+)"', r'"\2"', query)
    query = SERIES_ID.sub(r"md5_number_lower(concat_ws(',', \1))", query)
    return query.replace("core.as_of()", f"timestamptz '{END + timedelta(hours=1)}'").replace(
        "::numeric", "::decimal(38, 10)"
    )


def seconds_in_postgres(connection: Connection, query: str) -> float:
    """The processor seconds of a backend that makes a table of a query, planned as our models are."""
    backend = psutil.Process(connection.info.backend_pid)
    connection.execute("set enable_nestloop = off; set enable_mergejoin = off; set max_parallel_workers_per_gather = 0")
    connection.execute("drop table if exists pg_temp.made")
    before = backend.cpu_times()
    connection.execute(f"create temp table made as {query}")
    after = backend.cpu_times()
    return after.user + after.system - before.user - before.system


def open_duckdb(source: Path, connection: Connection) -> duckdb.DuckDBPyConnection:
    """DuckDB on one thread: views over the parquet files as our landed entities are, and copies of the small tables that the models look up."""
    duck = duckdb.connect(config={"threads": 1})
    duck.execute("set timezone = 'UTC'; create macro trim_scale(x) as x")
    for entity in entities().values():
        files = source / entity.name / "*.parquet"
        is_there = files.parent.exists()
        present = {r[0] for r in duck.execute(f"describe from '{files}'").fetchall()} if is_there else set()
        columns = [
            f"{column.name if column.name in present else 'null'}::{DUCKDB_TYPES.get(column.postgres_type, column.postgres_type)} as {column.name}"
            for column in entity.stored_columns.values()
        ]
        columns += ["null::json as _extra", "1::bigint as _batch_id", "null::timestamptz as _loaded_at"]
        rows = f"from '{files}'" if is_there else "where false"
        duck.execute(f"create view {entity.name} as select {', '.join(columns)} {rows}")
    tables = [
        *("periods", "metric_shapes", "currencies", "fx_daily", "series_events", "series_signals", "series_payments"),
        *("probe_hours", "error_hours", "resource_hours", "query_hours", "vital_hours", "integration_hours"),
    ]
    for name in tables:
        columns = connection.execute(
            "select attname as name, format_type(atttypid, null) as type from pg_attribute "
            "where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped order by attnum", [f"core.{name}"],
        ).fetchall()  # fmt: skip
        kinds = ", ".join(f"{c['name']} {DUCKDB_TYPES.get(c['type'], c['type'])}" for c in columns)
        duck.execute(f"create table {name} ({kinds})")
        rows = [
            [str(value) if isinstance(value, Decimal) else value for value in row.values()]
            for row in connection.execute(f"select * from core.{name}").fetchall()
        ]
        if rows:
            duck.executemany(f"insert into {name} values ({', '.join('?' * len(columns))})", rows)
    return duck


def seconds_here(work: Callable[[], object]) -> float:
    """The processor seconds of this process for some work, the least of several times."""

    def once() -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    return min(once() for _ in range(REPEATS))


def seconds_in_duckdb(duck: duckdb.DuckDBPyConnection, settings: Settings, name: str) -> float:
    """The processor seconds in which DuckDB makes a model's table."""
    query = in_duckdb(model_sql(settings, name))
    return seconds_here(lambda: duck.execute(f"create or replace table {name} as {query}"))


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
    with db.connect(settings, "owner", autocommit=True) as connection:
        run = connection.execute("select run_id, stage_seconds from audit.runs order by run_id desc limit 1").fetchone()
        points = connection.execute("select count(*) as n from marts.metric_points").fetchone()["n"]
        compare(settings, source, connection, results)
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


def compare(settings: Settings, source: Path, connection: Connection, results: list) -> None:
    """Make each cube in each way, and report the seconds beside each other."""
    duck = open_duckdb(source, connection)
    for entity in ("events", "api_requests", "charges", "refunds"):
        duck.execute(f"create view stg_{entity} as {in_duckdb(model_sql(settings, f'stg_{entity}'))}")
    for name, (entity, models, view, segment, at, sums) in CUBES.items():
        ours = same = 0.0
        for model in models:
            if view and model == models[-1]:
                duck.execute(f"create or replace view {view} as {in_duckdb(model_sql(settings, view))}")
            query = model_sql(settings, model)
            ours += min(seconds_in_postgres(connection, query) for _ in range(REPEATS))
            same += seconds_in_duckdb(duck, settings, model)
            rows = connection.execute("select count(*) as n from pg_temp.made").fetchone()["n"]
            made = duck.execute(f"select count(*) from {model}").fetchone()[0]
            assert made == rows, f"{model}: DuckDB makes {made} rows, Postgres {rows}"
        query = cube_sql(f"staging.{entity}", segment, at, sums)
        plain = min(seconds_in_postgres(connection, query) for _ in range(REPEATS))
        query = cube_sql(entity, segment, at, sums)
        bare = seconds_here(lambda query=query: duck.execute(f"create or replace table made as {query}"))
        for peer, other, goal in (
            ("DuckDB, the same SQL", same, 3.0),
            ("DuckDB, sums alone", bare, None),
            ("Postgres, sums alone", plain, None),
        ):
            results.append({"name": f"cost of a value: {name}, {rows:,} of them", "seconds": round(ours, 2), "peer": peer,
                            "peer_seconds": round(other, 2), "ratio": round(ours / other, 2), "goal": goal})  # fmt: skip
            print(f"cost of a value: {name:9} {rows:9,} rows {ours:6.2f} s   {peer:22} {other:6.2f} s   x {ours / other:6.2f}"
                  + (f"   goal {goal:.0f}" if goal else ""), flush=True)  # fmt: skip
