"""What Spark costs per million events, with the part that does not grow told apart, and Postgres alone beside it; BENCH_SCALE=0.1 for a tenth.

The lake's files are written directly, a batch of 2 M events each: 20,000 accounts over a year, ten events a session. Processor seconds count; other
work on the machine makes seconds longer.
"""

import threading
import time
from dataclasses import replace
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

# millions of events; Postgres alone builds the first
SIZES = (10.0, 50.0, 200.0)
FIXED = 0.001
IN_A_FILE = 2_000_000
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
# of a file; half of the free space stays free
BYTES_PER_EVENT = 60
MODELS = "1+tag:wide,path:models/staging", "tag:wide"


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


def on_spark(settings: Settings, lake: Path, millions: float) -> dict[str, float]:
    """The seconds, processor seconds and memory of Spark, from files to rows with their manifest."""
    count = int(millions * 1_000_000)
    files = {name: write_lake(lake, count) if name == "events" else [] for name in WIDE_ENTITIES}
    landed = {name: sum(file["rows"] for file in files[name]) for name in WIDE_ENTITIES}
    work = settings.home / "wide" / f"bench-{count}"
    work.mkdir(parents=True)
    wide.write_job(settings, work, lake, files, landed)
    started = time.monotonic()
    with Watched() as watched:
        manifest = wide.run_spark(settings, lake, work)
    return {
        "millions": millions, "seconds": time.monotonic() - started, "processor_seconds": watched.seconds, "megabytes": watched.megabytes,
        "rows": sum(model["rows"] for model in manifest["models"].values()),
    }  # fmt: skip


def on_postgres(settings: Settings, lake: Path, millions: float) -> dict[str, float]:
    """The same of Postgres, from landed rows to the models' tables; dbt is part of it."""
    files = [lake / file["path"] for file in write_lake(lake, int(millions * 1_000_000))]
    with adbc.connect(db.uri(settings, "loader")) as connection, connection.cursor() as cursor:
        columns = ", ".join(
            name if name != "properties" else "properties::json" for name in file_schema(entities()["events"]).names
        )
        cursor.adbc_ingest("bench_events", ds.dataset(files).scanner().to_reader(), temporary=True)
        cursor.execute(
            f"insert into staging.events ({columns.replace('::json', '')}) select {columns} from bench_events"
        )
        connection.commit()
    with db.connect(settings, "loader", autocommit=True) as connection:
        connection.execute("analyze staging.events")
    before, started = processor_seconds(settings), time.monotonic()
    with context_in_environment(settings):
        run_dbt(settings, ["run", "--full-refresh", "--select", *MODELS], code_version(settings))
    return {
        "millions": millions,
        "seconds": time.monotonic() - started,
        "processor_seconds": processor_seconds(settings) - before,
    }


def spark(work: Path, scale: float, results: list) -> None:
    """Measure Spark at the sizes that the disk has room for, and Postgres at the first; the goal is that an event costs the same in a larger lake."""
    settings = load_settings(work / "spark-home")
    bootstrap(settings)
    close_run(settings, open_run(settings, "nightly", END), "only its context is needed")
    settings = replace(settings, operations=Operations(lake="lake", wide_engine="spark"))
    lake = work / "lake"
    fixed = on_spark(settings, lake, FIXED)
    print(
        f"{'Spark, a thousand events':44} {fixed['seconds']:8.1f} s {fixed['processor_seconds']:8.1f} processor s {fixed['megabytes']:8.0f} MB",
        flush=True,
    )
    per_million: list[float] = []
    for size in SIZES:
        millions = size * scale
        if millions * 1e6 * BYTES_PER_EVENT > psutil.disk_usage(str(work)).free / 2:
            print(f"Spark, {millions:g} M events: left out, the disk is too small", flush=True)
            break
        told = on_spark(settings, lake, millions)
        per_million.append((told["processor_seconds"] - fixed["processor_seconds"]) / millions)
        results.append(
            {
                "name": f"Spark, {millions:g} M events",
                **told,
                "processor_seconds_per_million_beyond_the_fixed": round(per_million[-1], 2),
            }
        )
        print(f"{f'Spark, {millions:g} M events':44} {told['seconds']:8.1f} s {told['processor_seconds']:8.1f} processor s {told['megabytes']:8.0f} MB "
              f"{per_million[-1]:6.2f} processor s per million beyond the fixed, {told['rows']:.0f} rows", flush=True)  # fmt: skip
    if len(per_million) > 1:
        ratio = per_million[-1] / per_million[-2]
        results.append(
            {
                "name": "an event in the largest lake against one in the next",
                "ratio": round(ratio, 3),
                "goal": 1.2,
                "reached": ratio <= 1.2,
            }
        )
        print(f"{'an event in the largest lake':44} x {ratio:6.2f}   goal 1.2", flush=True)
    told = on_postgres(settings, lake, SIZES[0] * scale)
    results.append({"name": f"Postgres, {told['millions']:g} M events", **told})
    print(
        f"{'Postgres, ' + format(told['millions'], 'g') + ' M events':44} {told['seconds']:8.1f} s {told['processor_seconds']:8.1f} processor s",
        flush=True,
    )
    embedded.stop(settings)
