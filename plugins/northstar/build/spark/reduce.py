"""Build the models with the tag `wide` from the files of the lake, on Spark; write their rows as parquet, and a manifest that describes them.

A script by itself, which northstar.build.wide starts with the interpreter of Spark's environment: it imports nothing of Northstar, knows no
warehouse and holds no password. `reduce.py JOB` reads the file JOB and writes `manifest.json` beside it, or `failure.json` with one line, and
the file of the lake that could not be read, if that is the reason.

    1. dbt compiles the models, the engine's facts and the staging views for Spark, without a connection
    2. a session asks the facts, and ends here if an answer is wrong
    3. views show the files as the landed tables: of several rows with one key that of the newest batch
    4. each model's rows are written, in the order in which the models need each other
    5. the manifest has the rows, and for each column the sum and the nulls, of what is in the files then
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TypedDict

from dbt.artifacts.schemas.run import RunExecutionResult
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.nodes import ModelNode
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark import SparkContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as t

FACTS = "engine_facts"
# the types of landed columns; JSON is text, and decimals have the digits that landing keeps
TYPES = {
    "text": t.StringType(), "int": t.LongType(), "decimal": t.DecimalType(38, 12), "bool": t.BooleanType(), "timestamp": t.TimestampType(),
    "date": t.DateType(), "json": t.StringType(),
}  # fmt: skip
# what stands for a column of a type in its sum; northstar.build.wide reckons the same of what it loads
SUMMED = {
    "string": "char_length({0})", "date": "unix_date({0})", "timestamp": "unix_micros({0})", "boolean": "cast({0} as int)",
    "bigint": "{0}", "int": "{0}", "decimal": "{0}",
}  # fmt: skip


# what Spark says when it has lost its machines, and not when it cannot do what is asked
PASSING = (
    "No space left on device",
    "ExecutorLostFailure",
    "cancelled because SparkContext was shut down",
    "Master removed our application",
)


class EntityFiles(TypedDict):
    """A landed entity. columns: {name: its type in the contract}; has_repeated_keys: whether rows of several files may have one key."""

    columns: dict[str, str]
    key: list[str]
    files: list[str]
    has_repeated_keys: bool


class Job(TypedDict):
    """What northstar.build.wide asks for. master: `local`, or as Spark names it; options: Spark's own; wait_seconds: for a cluster's first executor."""

    master: str
    options: dict[str, str]
    cores: int
    memory_mb: int
    wait_seconds: float
    scratch: str
    entities: dict[str, EntityFiles]


@dataclass(frozen=True)
class Model:
    """A model as dbt compiled it. reads: the unique ids of its inputs."""

    unique_id: str
    name: str
    text: str
    is_view: bool
    reads: tuple[str, ...]


class Failed(Exception):
    """What ends the job with a line of our own. may_pass: whether another try can succeed."""

    def __init__(self, line: str, may_pass: bool = False):
        super().__init__(line)
        self.may_pass = may_pass


def main(job_file: Path) -> int:
    """Do the job; returns the exit code. Without the process that started it, it ends at once, and Spark with it."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    job: Job = json.loads(job_file.read_text())
    try:
        manifest = build(job, job_file.parent)
    except Exception as exc:
        traceback.print_exc()
        (job_file.parent / "failure.json").write_text(json.dumps(explain(exc, job)))
        return 1
    (job_file.parent / "manifest.json").write_text(json.dumps(manifest))
    return 0


def end_with_parent() -> None:
    """End this process when the other end of its input is closed, as it is once the run is gone."""
    # past Python's own buffer, whose lock a thread that waits would keep when the interpreter ends
    while os.read(0, 1):
        pass
    os._exit(1)


def explain(exc: Exception, job: Job) -> dict[str, str | bool | None]:
    """A failure in one line, with the file of the lake that Spark names in it, and whether it may pass by itself."""
    text = str(exc)
    files = [file for entity in job["entities"].values() for file in entity["files"]]
    named = next((file for file in files if Path(file).name in text), None)
    line = " ".join(text.split())[:400] or type(exc).__name__
    is_gone = is_java_gone(exc)
    if "No space left on device" in text:
        named, line = None, f"the disk of its temporary files is full ({job['scratch']}, or that of the worker)"
    elif "OutOfMemoryError" in text:
        named, line = None, f"{job['memory_mb']} MB are too little memory for it (spark_memory_mb in operations.yml)"
    elif "JAVA_GATEWAY_EXITED" in text:
        line = f"Java does not start with {job['memory_mb']} MB (spark_memory_mb in operations.yml)"
    elif is_gone:
        line = "its Java process is gone, ended by the system for lack of memory perhaps (spark_memory_mb in operations.yml)"
    may_pass = exc.may_pass if isinstance(exc, Failed) else is_gone or any(mark in text for mark in PASSING)
    return {"failure": line, "file": named, "may_pass": may_pass}


def is_java_gone(exc: Exception) -> bool:
    """Whether a call failed because Spark's Java process has ended. Of that, py4j often says no more than that it failed."""
    if isinstance(exc, ConnectionError):
        return True
    process = getattr(SparkContext._gateway, "proc", None)
    if type(exc) not in (Py4JError, Py4JNetworkError) or process is None:
        return False
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return False
    return True


class Stopwatch:
    """The seconds of each stage, from one call to the next. seconds: {stage: how long it took}."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.monotonic()

    def note(self, stage: str) -> None:
        """A stage has ended."""
        now = time.monotonic()
        self.seconds[stage], self._since = round(now - self._since, 3), now


def build(job: Job, directory: Path) -> dict[str, object]:
    """The manifest of what was written below the directory."""
    watch = Stopwatch()
    compiled = compile_models()
    watch.note("compile")
    session = open_session(job)
    try:
        await_executor(session, job)
        watch.note("start")
        ask_facts(session, compiled.pop(FACTS))
        watch.note("facts")
        landed = {name: show_landed(session, name, entity) for name, entity in job["entities"].items()}
        watch.note("count")
        models = {}
        for model in in_order(compiled):
            rows = session.sql(model.text)
            if model.is_view:
                rows.createOrReplaceGlobalTempView(model.name)
                continue
            path = str(directory / model.name)
            rows.write.parquet(path)
            written = session.read.parquet(path)
            written.createOrReplaceGlobalTempView(model.name)
            models[model.name] = describe(written)
            watch.note(model.name)
        return {"landed": landed, "models": models, "seconds": watch.seconds}
    finally:
        # of a process that is gone there is nothing to stop, and nothing that says more than why
        with suppress(Py4JError, ConnectionError):
            session.stop()


def compile_models() -> dict[str, Model]:
    """{name: model} of the models with the tag, and of the views of landed tables that they read."""
    selection = ["tag:wide", "1+tag:wide,path:models/staging"]
    result = dbtRunner().invoke(
        ["compile", "--quiet", "--full-refresh", "--no-introspect", "--no-populate-cache", "--select", *selection]
    )
    if not result.success or not isinstance(result.result, RunExecutionResult):
        raise Failed(f"the models do not compile for Spark: {result.exception or 'see the log'}")
    nodes = [r.node for r in result.result.results if isinstance(r.node, ModelNode)]
    return {
        n.name: Model(
            n.unique_id, n.name, n.compiled_code or "", n.config.materialized == "view", tuple(n.depends_on.nodes)
        )
        for n in nodes
    }


def open_session(job: Job) -> SparkSession:
    """A session in UTC, with the ANSI rules, on this machine or on a cluster's workers. Raises Failed if the cluster's master does not answer."""
    scratch = job["scratch"]
    options = {
        **job["options"],
        "spark.driver.memory": f"{job['memory_mb']}m",
        "spark.driver.extraJavaOptions": f"-Duser.timezone=UTC -Djava.io.tmpdir={scratch} -Dderby.system.home={scratch}",
        "spark.executor.extraJavaOptions": "-Duser.timezone=UTC",
        "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
        "spark.local.dir": scratch,
        "spark.ui.enabled": "false",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
        "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(4 * job["cores"]),
        "spark.sql.warehouse.dir": scratch,
    }
    Path(scratch).mkdir(parents=True, exist_ok=True)
    builder = SparkSession.builder.master(use_master(job, options)).appName("northstar")
    for name, value in options.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("WARN")
    return session


def use_master(job: Job, options: dict[str, str]) -> str:
    """The master's address; adds what a session on it needs to the options."""
    master = job["master"]
    on_this_machine = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    if is_local(job):
        options |= on_this_machine
        return f"local[{job['cores']}]" if master == "local" else master
    options["spark.executor.memory"] = f"{job['memory_mb']}m"
    if made := re.fullmatch(r"local-cluster\[(\d+),(\d+),(\d+)\]", master):
        options |= on_this_machine | {"spark.executor.memory": f"{made[3]}m"}
        return master
    if master.startswith("k8s://"):
        options.setdefault("spark.executor.instances", str(job["cores"]))
        return master
    options["spark.cores.max"] = str(job["cores"])
    addresses = [tuple(one.rsplit(":", 1)) for one in master.removeprefix("spark://").split(",")]
    if all(host in ("127.0.0.1", "localhost") for host, _ in addresses):
        options |= on_this_machine
    reasons = []
    for host, port in addresses:
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as exc:
            reasons.append(exc.strerror or str(exc))
    if len(reasons) == len(addresses):
        raise Failed(
            f"no master answers at {master} ({reasons[0]}); see `spark_master` in operations.yml", may_pass=True
        )
    return master


def is_local(job: Job) -> bool:
    """Whether the driver does the work itself."""
    return re.fullmatch(r"local(\[.*\])?", job["master"]) is not None


def await_executor(session: SparkSession, job: Job) -> None:
    """Wait for an executor of a cluster: without one, Spark waits for ever. Raises Failed when the time is up."""
    until = time.monotonic() + job["wait_seconds"]
    while not is_local(job) and count_executors(session) == 0:
        if time.monotonic() > until:
            raise Failed(
                f"no worker of {job['master']} gave an executor within {job['wait_seconds']:g} seconds: is there one with a free core "
                f"and {job['memory_mb']} MB (spark_memory_mb in operations.yml)?",
                may_pass=True,
            )
        time.sleep(0.1)


def count_executors(session: SparkSession) -> int:
    """The executors that are there now, without the driver."""
    return int(session.sparkContext._jsc.sc().getExecutorMemoryStatus().size()) - 1


def ask_facts(session: SparkSession, facts: Model) -> None:
    """Raise Failed for the facts that this engine gets wrong."""
    answers = session.sql(facts.text).collect()
    wrong = sorted(row["fact"] for row in answers if row["is_true"] is not True)
    if wrong:
        raise Failed(f"this Spark does not reckon as the models need it: {'; '.join(wrong)}")


def show_landed(session: SparkSession, name: str, entity: EntityFiles) -> int:
    """Show an entity's files as the landed table of its name; returns its rows."""
    schema = t.StructType([t.StructField(c, TYPES[kind]) for c, kind in entity["columns"].items()])
    schema = schema.add("_batch_id", t.LongType())
    files = (
        session.read.schema(schema).parquet(*entity["files"])
        if entity["files"]
        else session.createDataFrame([], schema)
    )
    if entity["has_repeated_keys"]:
        files.createOrReplaceTempView("files")
        order = f"row_number() over (partition by {', '.join(entity['key'])} order by _batch_id desc) as _place"
        files = session.sql(f"select * except (_place) from (select *, {order} from files) where _place = 1")
    rows = files.selectExpr("*", "cast(null as string) as _extra", "cast(null as timestamp) as _loaded_at")
    rows.createOrReplaceGlobalTempView(name)
    count: int = rows.count()
    return count


def in_order(compiled: dict[str, Model]) -> list[Model]:
    """The models, each after those that it reads."""
    by_id = {model.unique_id: model for model in compiled.values()}
    ordered: dict[str, Model] = {}

    def add(model: Model) -> None:
        for unique_id in model.reads:
            if unique_id in by_id and unique_id not in ordered:
                add(by_id[unique_id])
        ordered.setdefault(model.unique_id, model)

    for model in by_id.values():
        add(model)
    return list(ordered.values())


def describe(rows: DataFrame) -> dict[str, object]:
    """The rows of a model, and of each column the sum and the nulls."""
    measures = ["count(*) as rows"]
    for number, (name, kind) in enumerate(rows.dtypes):
        summed = SUMMED[kind.partition("(")[0]].format(f"`{name}`")
        measures += [
            f"cast(sum(cast({summed} as decimal(38, 12))) as string) as sum{number}",
            f"count_if(`{name}` is null) as nulls{number}",
        ]
    [row] = rows.selectExpr(*measures).collect()
    columns = {
        name: {"sum": plain(row[f"sum{number}"]), "nulls": row[f"nulls{number}"]}
        for number, (name, _) in enumerate(rows.dtypes)
    }
    return {"rows": row["rows"], "columns": columns}


def plain(number: str | None) -> str | None:
    """A number without zeros at its end."""
    return None if number is None else f"{Decimal(number).normalize():f}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
