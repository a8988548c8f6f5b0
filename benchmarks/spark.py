"""What Spark costs per million events, with the part that does not grow told apart, and Postgres alone beside it.

`python -m benchmarks spark 10 50 200` runs these millions of events on Spark, and the first two of them on Postgres; `TMPDIR` says on which disk. The
lake's files are written directly, a batch of a million events each: 20,000 accounts over a year, ten events a session. Processor seconds count;
other work on the machine makes seconds longer.
"""

import threading
import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.series import processor_seconds
from northstar.base.settings import Operations, Settings, load_settings
from northstar.build import wide
from northstar.build.code_version import code_version
from northstar.build.dbt import context_in_environment, run_dbt
from northstar.contract import entities
from northstar.runs.lifecycle import close_run, open_run
from northstar.warehouse import db, embedded
from northstar.warehouse.lake import LAYOUT, WIDE_ENTITIES, LakeFile, file_schema
from northstar.warehouse.setup import bootstrap

# millions of events, where the command line names none
SIZES = [10.0, 50.0, 200.0]
# so few that all of it is what Spark costs at any size
FIXED = 0.001
IN_A_FILE = 1_000_000
ACCOUNTS, DAYS, IN_A_SESSION = 20_000, 365, 10
NAMES = np.array(
    [
        "user.login",
        "tool.invoked",
        "document.created",
        "export.finished",
        "page.viewed",
        "search.run",
        "report.opened",
        "item.shared",
    ]
)
END = datetime(2026, 3, 1, tzinfo=UTC)
# in the lake, in what Spark writes meanwhile, and in what Postgres holds of the result; half of the free space stays free
BYTES_PER_EVENT = 60
# by which the processes may be larger than Spark's own memory: Java beside its heap, and dbt
BESIDE_MB = 1536
MODELS = "1+tag:wide,path:models/staging", "tag:wide"


@dataclass
class Measured:
    """The cost of one size. megabytes: of Spark's processes together, at most; stages: {stage: seconds}, those of Spark and `load`."""

    millions: float
    seconds: float
    processor_seconds: float
    megabytes: float
    rows: int
    stages: dict[str, float]


class Watched:
    """The processor seconds and the most memory, in MB, of the processes that this one starts meanwhile."""

    def __init__(self) -> None:
        self.megabytes = 0.0
        self._seconds: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        return sum(self._seconds.values())

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            held = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    used, memory = process.cpu_times(), process.memory_info()
                except psutil.Error:
                    continue
                self._seconds[process.pid] = used.user + used.system
                held += memory.rss - memory.shared
            self.megabytes = max(self.megabytes, held / 2**20)


def named(prefix: str, numbers: np.ndarray) -> pa.Array:
    """Names, of a letter and a number."""
    return pa.array(np.char.add(prefix, numbers.astype(str)))


def events(first: int, count: int) -> pa.Table:
    """Events as the lake has them, in no order of time."""
    random = np.random.default_rng(first)
    numbers = np.arange(first, first + count)
    sessions = numbers // IN_A_SESSION
    # what belongs to a session is drawn from its number, so that a session is the same in two files
    account = sessions * 2_654_435_761 % ACCOUNTS
    begins = sessions * 40_503 % (DAYS * 86_400)
    end = int(END.timestamp() * 1e6)
    at = pa.array(end - (begins - random.integers(0, 600, count)) * 1_000_000 - 600_000_000, pa.int64()).cast(
        pa.timestamp("us", "UTC")
    )
    rows = {
        "event_id": named("e", numbers), "event_name": pa.array(NAMES[random.integers(0, len(NAMES), count)]), "occurred_at": at, "received_at": at,
        "account_id": named("a", account), "anonymous_id": named("v", account * 3), "session_id": named("s", sessions),
        "application": pa.array(np.full(count, "web")), "channel": pa.nulls(count, pa.string()), "country": pa.array(np.array(["DE", "FR", "US"])[account % 3]),
        "consent": pa.nulls(count, pa.bool_()), "properties": pa.array(np.full(count, '{"tool": "editor"}')), "_batch_id": pa.array(np.full(count, first // IN_A_FILE + 1)),
    }  # fmt: skip
    schema = file_schema(entities()["events"])
    return pa.table(rows).select(schema.names).cast(schema)


def write_lake(lake: Path, count: int) -> list[LakeFile]:
    """Add the files that are missing for so many events; returns their entries."""
    (lake / "events").mkdir(parents=True, exist_ok=True)
    entries: list[LakeFile] = []
    for first in range(0, count, IN_A_FILE):
        rows = min(IN_A_FILE, count - first)
        path = lake / "events" / f"{first:012}-{rows}.{LAYOUT}.parquet"
        if not path.exists():
            pq.write_table(events(first, rows), path, compression="zstd", write_page_checksum=True)
        entries.append({"entity": "events", "batch_id": first // IN_A_FILE + 1, "path": str(path.relative_to(lake)), "rows": rows, "bytes": path.stat().st_size})  # fmt: skip
    return entries


def on_spark(settings: Settings, lake: Path, millions: float) -> Measured:
    """From files to rows in Postgres that add up to the manifest."""
    count = round(millions * 1_000_000)
    files = {name: write_lake(lake, count) if name == "events" else [] for name in WIDE_ENTITIES}
    landed = {name: sum(file["rows"] for file in files[name]) for name in WIDE_ENTITIES}
    wide.clear(settings)
    work = settings.home / "wide" / f"run-{count}"
    work.mkdir(parents=True)
    wide.write_job(settings, work, str(lake), files, landed)
    started = time.monotonic()
    with Watched() as watched:
        manifest = wide.run_spark(settings, work)
    if manifest["landed"] != landed:
        raise AssertionError(f"Spark read {manifest['landed']} of {landed}")
    before, loading = processor_seconds(settings), time.monotonic()
    wide.load(settings, count, work, manifest)
    now = time.monotonic()
    measured = Measured(
        millions,
        now - started,
        watched.seconds + processor_seconds(settings) - before,
        watched.megabytes,
        sum(model["rows"] for model in manifest["models"].values()),
        {**manifest["seconds"], "load": round(now - loading, 3)},
    )
    wide.clear(settings)
    return measured


def on_postgres(settings: Settings, lake: Path, millions: float) -> Measured:
    """The same models by Postgres, from landed rows to their tables; dbt is part of it. Rows of a smaller size stay."""
    files = [lake / file["path"] for file in write_lake(lake, round(millions * 1_000_000))]
    if files:
        names = file_schema(entities()["events"]).names
        chosen = ", ".join(name if name != "properties" else "properties::json" for name in names)
        with closing(adbc.connect(db.uri(settings, "loader"))) as connection, closing(connection.cursor()) as cursor:
            cursor.adbc_ingest("bench_events", ds.dataset(files).scanner().to_reader(), temporary=True)
            cursor.execute(
                f"insert into staging.events ({', '.join(names)}, _loaded_at) select {chosen}, now() from bench_events on conflict do nothing"
            )
            connection.commit()
    with db.connect(settings, "loader", autocommit=True) as connection:
        connection.execute("analyze staging.events")
    before, started = processor_seconds(settings), time.monotonic()
    with context_in_environment(settings):
        run_dbt(settings, ["run", "--full-refresh", "--select", *MODELS], code_version(settings))
    return Measured(
        millions, time.monotonic() - started, processor_seconds(settings) - before, 0, 0, dict[str, float]()
    )


def spark(work: Path, sizes: list[float], results: list) -> None:
    """Measure Spark at the sizes that the disk has room for, and Postgres at the first two.

    The goals are that an event costs the same in a larger lake, and that memory is what the settings say.
    """
    settings = load_settings(work / "spark-home")
    bootstrap(settings)
    close_run(settings, open_run(settings, "nightly", END), "only its context is needed")
    settings = replace(settings, operations=Operations(lake="lake", wide_engine="spark"))
    lake, most_mb = settings.home / "lake", settings.operations.spark_memory_mb + BESIDE_MB
    fixed = on_spark(settings, lake, FIXED)
    report("Spark, the fixed part (a thousand events)", fixed, results)
    per_million: list[float] = []
    for millions in sorted(sizes or SIZES):
        if millions * 1e6 * BYTES_PER_EVENT > psutil.disk_usage(str(work)).free / 2:
            print(f"Spark, {millions:g} M events: left out, the disk is too small", flush=True)
            break
        measured = on_spark(settings, lake, millions)
        per_million.append((measured.processor_seconds - fixed.processor_seconds) / millions)
        report(f"Spark, {millions:g} M events", measured, results, processor_seconds_per_million=per_million[-1])
        goal(f"memory at {millions:g} M events, MB", measured.megabytes, most_mb, results)
    if len(per_million) > 1:
        goal("an event in the largest lake, in the next", per_million[-1] / per_million[-2], 1.2, results)
    # the first time, dbt reads the project
    on_postgres(settings, lake, 0)
    without = on_postgres(settings, lake, 0)
    report("Postgres, the fixed part (no events)", without, results)
    for millions in sorted(sizes or SIZES)[: min(2, len(per_million))]:
        told = on_postgres(settings, lake, millions)
        beyond = told.processor_seconds - without.processor_seconds
        report(f"Postgres, {millions:g} M events", told, results, beyond / millions)
    embedded.stop(settings)


def report(name: str, measured: Measured, results: list, processor_seconds_per_million: float = 0) -> None:
    """Note a size, and print it: its cost, and below it the stages from the longest on."""
    results.append(
        {"name": name, **asdict(measured), "processor_seconds_per_million": round(processor_seconds_per_million, 2)}
    )
    print(f"{name:44} {measured.seconds:8.1f} s {measured.processor_seconds:8.1f} processor s"
          + (f" {processor_seconds_per_million:8.2f} a million" if processor_seconds_per_million else "")
          + (f" {measured.megabytes:8.0f} MB {measured.rows:10,} rows" if measured.stages else ""), flush=True)  # fmt: skip
    longest = sorted(measured.stages.items(), key=lambda stage: -stage[1])
    if longest:
        print(
            "    " + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in longest if seconds >= 0.05), flush=True
        )


def goal(name: str, value: float, most: float, results: list) -> None:
    """Note a figure with its goal, and print it."""
    results.append({"name": name, "value": round(value, 3), "goal": most, "reached": value <= most})
    print(f"{name:44} {value:8.2f}   goal {most:g}", flush=True)
