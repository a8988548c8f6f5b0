"""Run the benchmarks and print a table; `bench.json` has the same figures. BENCH_SCALE=0.1 runs a tenth of the rows."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.answers import answers
from benchmarks.data import END, events, write_events, write_rest
from benchmarks.faults import faults
from benchmarks.floor import floor
from benchmarks.growth import growth
from benchmarks.large import large
from benchmarks.load import load
from benchmarks.pages import pages
from benchmarks.series import series
from benchmarks.spark import spark
from benchmarks.values import values
from northstar.base.clock import parse_time
from northstar.base.settings import load_settings
from northstar.build.manifest import dbt_target
from northstar.extract.landing.directory import land_directory
from northstar.publish.merge import rollback
from northstar.runs import job
from northstar.warehouse import db, embedded
from northstar.warehouse.embedded.server import binaries
from northstar.warehouse.setup import bootstrap

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
RESULTS: list = []


def silent(_: str) -> None:
    """Progress that nobody reads."""


def timed(function, *arguments) -> float:
    started = time.monotonic()
    function(*arguments)
    return time.monotonic() - started


def report(name: str, seconds: float, peer: str, peer_seconds: float, goal: float) -> None:
    """Note a figure beside its peer's, and print it."""
    ratio = seconds / peer_seconds
    RESULTS.append({"name": name, "seconds": round(seconds, 2), "peer": peer, "peer_seconds": round(peer_seconds, 2),
                    "ratio": round(ratio, 3), "goal": goal, "reached": ratio <= goal})  # fmt: skip
    print(f"{name:44} {seconds:8.1f} s   {peer:28} {peer_seconds:8.1f} s   x {ratio:6.2f}   goal {goal}", flush=True)


def landing(work: Path, settings) -> None:
    """Landing against COPY of a csv and bare ADBC of the same rows."""
    count = int(5_000_000 * SCALE)
    write_events(work / "landing" / "events", count)
    rows = ds.dataset(work / "landing" / "events").to_table()
    text = work / "events.csv"
    pa_csv.write_csv(rows, text)
    columns = ", ".join(rows.column_names)
    shape = "create table public.peer as select " + columns + " from staging.events limit 0"

    def bare_adbc() -> None:
        batches = ds.dataset(work / "landing" / "events").to_batches(batch_size=65_536)
        reader = pa.RecordBatchReader.from_batches(rows.schema, batches)
        with adbc.connect(db.uri(settings, "owner")) as connection:
            connection.cursor().adbc_ingest("peer_adbc", reader, mode="create", db_schema_name="public")
            connection.commit()

    def copy() -> None:
        with db.connect(settings, "owner") as connection:
            connection.execute(shape)
            with (
                connection.cursor().copy(f"copy public.peer ({columns}) from stdin csv header") as sink,
                open(text, "rb") as source,
            ):
                while block := source.read(1 << 20):
                    sink.write(block)

    copied, ingested = timed(copy), timed(bare_adbc)
    landed = timed(land_directory, settings, 1, str(work / "landing"), None, "files", silent)
    report(f"landing {count:,} events", landed, "bare ADBC", ingested, 2.5)
    report(f"landing {count:,} events", landed, "COPY from csv", copied, 2.5)
    mapped = timed_mapping(work, settings)
    report("the same of 20 columns, with a mapping", mapped, "without a mapping", landed, 2)
    memory(work, settings)


def timed_mapping(work: Path, settings) -> float:
    """Seconds to land the same events out of files with 20 columns of other names: renames, value maps, times and an expression."""
    foreign = work / "foreign"
    foreign.mkdir()
    names = {}
    for number, path in enumerate(sorted((work / "landing" / "events").glob("*.parquet"))):
        rows = pq.read_table(path)
        names = {column: column.replace("_", " ").title() for column in rows.column_names}
        rows = rows.rename_columns(list(names.values()))
        while rows.num_columns < 20:
            rows = rows.append_column(f"Other {rows.num_columns}", rows.column(0))
        pq.write_table(rows, foreign / f"{number}.parquet")
    columns = dict(names)
    columns["channel"] = {"column": names["channel"], "map": {"web": "web", "mobile": "mobile"}}
    columns["event_name"] = {"sql": f'lower("{names["event_name"]}")'}
    mapping = work / "foreign.yml"
    mapping.write_text(json.dumps({"entities": {"events": {"files": "*.parquet", "columns": columns}}}))
    with db.connect(settings, "owner") as connection:
        connection.execute("truncate staging.events")
    return timed(land_directory, settings, 1, str(foreign), mapping, "mapped", silent)


def memory(work: Path, settings) -> None:
    """The resident memory of a process that lands one large file."""
    count = int(10_000_000 * SCALE)
    folder = work / "large" / "events"
    folder.mkdir(parents=True)
    with pq.ParquetWriter(folder / "one.parquet", events(1, 0, 1).schema) as writer:
        for number in range(10):
            writer.write_table(events(count // 10, 10_000_000 + number * count // 10, 100))
    code = "import sys; from northstar.base.settings import load_settings; from northstar.extract.landing.directory import land_directory; "
    code += "land_directory(load_settings(sys.argv[1]), 1, sys.argv[2], progress=lambda _: None); "
    # getrusage would count what was inherited from this process
    code += "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    command = [sys.executable, "-c", code, str(settings.home), str(folder.parent)]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024
    RESULTS.append({"name": f"one file of {count:,} rows, resident MB", "megabytes": round(peak), "goal": 700})
    print(f"one file of {count:,} rows: {peak:,.0f} MB resident at most   goal 700", flush=True)


def run(settings, source: Path, mode: str, as_of) -> float:
    return timed(job.run, settings, mode, as_of, str(source), silent)


def seconds_of_last(settings, stage: str) -> float:
    with db.connect(settings, "transformer") as connection:
        row = connection.execute("select stage_seconds from audit.runs order by run_id desc limit 1").fetchone()
    return float(row["stage_seconds"][stage])


def psql_build(settings) -> float:
    """The SQL that dbt ran for each model, in its order, by psql; what it makes is dropped again."""
    target = dbt_target(settings)
    results = json.loads((target / "run_results.json").read_text())["results"]
    manifest = json.loads((target / "manifest.json").read_text())["nodes"]
    script = ["set client_min_messages = warning;"]
    for result in sorted(results, key=lambda r: r["timing"][-1]["started_at"] if r["timing"] else ""):
        node = manifest.get(result["unique_id"], {})
        if node.get("resource_type") != "model":
            continue
        path = target / "run" / "northstar" / node["original_file_path"]
        if path.exists():
            relation = f'"{node["schema"]}"."{node["alias"]}__dbt_tmp"'
            script += [
                "begin;",
                # the hook `find_affected` says it to dbt; without it one statement of five million events did not end in half an hour
                "set local enable_nestloop = off; set local enable_mergejoin = off;"
                if is_planned_apart(node["name"])
                else "",
                path.read_text().rstrip().rstrip(";") + ";",
                "commit;",
                f"drop {node_kind(node)} if exists {relation};",
            ]
    file = target / "psql.sql"
    file.write_text("\n".join(script))
    command = [
        str(binaries() / "psql"),
        "-q",
        "-v",
        "ON_ERROR_STOP=0",
        "-f",
        str(file),
        db.uri(settings, "transformer"),
    ]
    return timed(lambda: subprocess.run(command, capture_output=True, check=False))


def is_planned_apart(name: str) -> bool:
    return name.startswith("metrics_") or name.endswith("_by_period") or name == "target_periods"


def node_kind(node: dict) -> str:
    return "view" if node["config"]["materialized"] == "view" else "table"


def history(work: Path, name: str, count: int, hourly: int) -> tuple:
    """A home with `count` events built in full, then two hourly runs with new events; (full, build, hourly) seconds."""
    settings = load_settings(work / name)
    bootstrap(settings)
    source = work / f"{name}-source"
    days = count / 7_000
    write_events(source / "events", count, days=days, until=0.2)
    write_rest(source, int(200_000 * SCALE), int(500_000 * SCALE), int(100_000 * SCALE), days=min(days, 700))
    full = run(settings, source, "nightly", END - timedelta(hours=4))
    built = seconds_of_last(settings, "build")
    hours = []
    for number in range(2):
        write_events(
            source / "events",
            hourly,
            first_id=count + number * hourly,
            days=0.04,
            until=0.1 - number * 0.05,
            name=f"new{number}",
        )
        hours.append(run(settings, source, "hourly", END - timedelta(hours=2 - number)))
    return settings, full, built, min(hours)


def builds(work: Path) -> None:
    """Full build against psql; an hourly run on a long and on a short history."""
    new = int(20_000 * SCALE) or 200
    _, _, _, short_hour = small = history(work, "short", int(500_000 * SCALE), new)
    embedded.stop(small[0])
    settings, full, built, hour = history(work, "long", int(5_000_000 * SCALE), new)
    report(f"hourly run, {new:,} new events", hour, "on a tenth of the history", short_hour, 1.25)
    report("hourly run on the long history", hour, "the full run", full, 0.1)
    idle = min(
        run(settings, work / "long-source", "hourly", END - timedelta(minutes=30 - number)) for number in (0, 15)
    )
    report("hourly run on the long history", hour, "3 s after one without events", idle + 3, 1.0)
    run(settings, work / "long-source", "nightly", END)
    built = seconds_of_last(settings, "build")
    report("full build by dbt (4 threads)", built, "the same SQL by psql, in turn", psql_build(settings), 1.3)
    embedded.stop(settings)


def orchestration(work: Path) -> None:
    """The DAGs' wall time against the same job by `northstar run`, on the demonstration company, nothing new to land."""
    from northstar.demo.company import simulate
    from northstar.orchestration.services import start_services, stop_services
    from northstar.orchestration.up import Api, follow, owed_run

    settings = load_settings(work / "airflow")
    bootstrap(settings)
    end = parse_time(None)
    simulate(settings.home / "demo", end=end)
    command = [sys.executable, "-m", "northstar.cli", "run", "--home", str(settings.home), "--as-of", end.isoformat()]
    command += ["--source-dir", str(settings.home / "demo"), "--mode"]
    run(settings, settings.home / "demo", "nightly", end)
    start_services(settings, silent)
    try:
        api = Api(settings)
        for dag, goal in (("hourly_refresh", 1.5), ("nightly_rebuild", 1.5)):
            mode = dag.split("_")[0]
            bare = timed(lambda mode=mode: subprocess.run([*command, mode], check=True, capture_output=True))
            follow(api, dag, owed_run(api, dag), silent)
            started = time.monotonic()
            follow(api, dag, api.trigger(dag, {"source_dir": str(settings.home / "demo")}), silent)
            report(f"{dag} through the scheduler", time.monotonic() - started, "northstar run", bare, goal)
    finally:
        stop_services(settings)
        embedded.stop(settings)


def readers(work: Path) -> None:
    """The slowest of a reader's queries over all marts, in quiet and while 30 versions are published."""
    from northstar.demo.company import simulate

    settings = load_settings(work / "readers")
    end = parse_time(None)
    simulate(work / "company", months=3, accounts=500, end=end)
    for mode in ("nightly", "hourly"):
        run(settings, work / "company", mode, end)
    waits, versions, stop = [], set(), threading.Event()

    def read() -> None:
        with db.connect(settings, "bi_reader", autocommit=True) as connection:
            marts = connection.execute("select tablename from pg_tables where schemaname = 'marts'").fetchall()
            counts = ", ".join(f"(select count(*) from marts.{m['tablename']}) as {m['tablename']}" for m in marts)
            while not stop.is_set():
                started = time.monotonic()
                row = connection.execute(
                    f"select max(published_version) as version, {counts} from marts.publications"
                ).fetchone()
                waits.append(time.monotonic() - started)
                versions.add(row["version"])

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(5)
    quiet = max(waits)
    waits.clear()
    for _ in range(30):
        rollback(settings)
    stop.set()
    reader.join()
    embedded.stop(settings)
    beyond = max(waits) - quiet
    RESULTS.append({"name": "slowest query while 30 versions were published, ms beyond quiet", "goal": 100,
                    "milliseconds": round(beyond * 1000), "versions_seen": len(versions), "queries": len(waits)})  # fmt: skip
    print(f"slowest of {len(waits):,} queries over all marts while 30 versions were published ({len(versions)} seen): "
          f"{beyond * 1000:+.0f} ms beyond the slowest in quiet ({quiet * 1000:.0f} ms)   goal +100", flush=True)  # fmt: skip


def main() -> int:
    """Run what is named on the command line (landing, floor, builds, growth, values, series, orchestration, readers, load, answers, pages, large, faults), or all.

    `spark` runs by its name only, after `make setup-spark`, with millions of events as further words: `python -m benchmarks spark 10 50 200`.
    """
    wanted = sys.argv[1:] or [
        "landing",
        "floor",
        "builds",
        "growth",
        "values",
        "series",
        "orchestration",
        "readers",
        "load",
        "answers",
        "pages",
        "large",
        "faults",
    ]
    work = Path(tempfile.mkdtemp(prefix="northstar-bench-"))
    work.chmod(0o755)
    try:
        if "landing" in wanted:
            settings = load_settings(work / "landing-home")
            bootstrap(settings)
            landing(work, settings)
            embedded.stop(settings)
        if "floor" in wanted:
            floor(work, RESULTS)
        if "builds" in wanted:
            builds(work)
        if "growth" in wanted:
            growth(work, SCALE, RESULTS)
        if "values" in wanted:
            values(work, SCALE, RESULTS)
        if "series" in wanted:
            series(work, SCALE, RESULTS)
        if "orchestration" in wanted:
            orchestration(work)
        if "readers" in wanted:
            readers(work)
        if "load" in wanted:
            load(work, SCALE, RESULTS)
        if "answers" in wanted:
            answers(work, SCALE, RESULTS)
        if "pages" in wanted:
            pages(work, SCALE, RESULTS)
        if "large" in wanted:
            large(work, SCALE, RESULTS)
        if "spark" in wanted:
            spark(work, [float(word) for word in wanted if word[0].isdigit()], RESULTS)
        if "faults" in wanted:
            faults(work, SCALE, RESULTS)
    finally:
        for home in work.iterdir():
            if (home / "postgres").exists():
                embedded.stop(load_settings(home))
        shutil.rmtree(work, ignore_errors=True)
    Path("bench.json").write_text(json.dumps({"scale": SCALE, "results": RESULTS}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
