"""The models with the tag `wide`, built by Spark from the lake in a full run, where `wide_engine` in operations.yml says so (docs/scaling.md).

    1. what the lake lacks is written from the landed tables (northstar.warehouse.lake)
    2. a process in Spark's environment builds the models (spark/reduce.py) and leaves their rows as parquet, with a manifest
    3. the rows are loaded into `core._handed_over__<model>`, and have to add up to what the manifest says
    4. dbt then makes the models' tables of them (macros/engine/materializations.sql), with the columns, types, tests and traces as ever

The process has no password and no address of the warehouse: what it reads are files, and what it leaves are files.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TypedDict

import adbc_driver_postgresql.dbapi as adbc
import pyarrow.dataset as ds
from psycopg import sql
from psycopg.types.json import Jsonb

from northstar.base.errors import NorthstarError, PassingError
from northstar.base.files import read_json
from northstar.base.progress import Progress
from northstar.base.settings import ROOT, Settings, require_days_of_utc
from northstar.base.telemetry import OFF
from northstar.build.dbt import read_context
from northstar.build.own_seeds import project_directory, write_project
from northstar.contract import entities
from northstar.warehouse import db
from northstar.warehouse.lake import WIDE_ENTITIES, LakeFile, complete, discard, paths_of
from northstar.warehouse.lake_store import DamagedFile, LakeStore, open_store
from northstar.warehouse.rows import Connection, Run, as_shape, fetch_one

REDUCE = Path(__file__).parent / "spark" / "reduce.py"
OLDEST_JAVA = 17
ADVICE = "run again, or set `wide_engine: postgres` in operations.yml meanwhile"
# SQL: what stands for a column of a type in its sum, as in spark/reduce.py
SUMMED = {
    "text": "char_length({})", "date": "{} - date '1970-01-01'", "timestamp with time zone": "extract(epoch from {}) * 1000000",
    "boolean": "{}::int", "bigint": "{}", "integer": "{}", "numeric": "{}",
}  # fmt: skip


class ColumnSums(TypedDict):
    """What a manifest says of a column. sum: of its values as numbers, as text; None if all are null."""

    sum: str | None
    nulls: int


class ModelSums(TypedDict):
    """What a manifest says of a model."""

    rows: int
    columns: dict[str, ColumnSums]


class HandoverManifest(TypedDict):
    """What Spark says of its work. landed: {entity: the rows that it read}; seconds: {model, or other stage of the work: how long it took}."""

    landed: dict[str, int]
    models: dict[str, ModelSums]
    seconds: dict[str, float]


@contextmanager
def handed_over(settings: Settings, run: Run, progress: Progress) -> Iterator[list[str]]:
    """A context in which the rows of the returned models stand in `core._handed_over__<model>`; none where Postgres builds them itself.

    They may stand there already, when `hand_over` was a task of its own. Raises NorthstarError as `hand_over` does.
    """
    try:
        # a rebuild is of some models, for which starting Spark would not pay
        if settings.operations.wide_engine == "spark" and run["is_full"] and not run["rebuilds"]:
            yield _standing(settings, run) or hand_over(settings, run, progress)
        else:
            # what a build that was killed left: its rows name accounts, and an erasure builds as well
            clear(settings)
            yield []
    finally:
        clear(settings)


def hand_over(settings: Settings, run: Run, progress: Progress) -> list[str]:
    """Have Spark build the models and load their rows, which stand there until the run's build ends; returns the models.

    Raises NorthstarError when Spark fails, or when what it hands over does not add up; then nothing of it is left.
    """
    clear(settings)
    store = open_store(settings)
    if store is None:
        raise NorthstarError("spark reads the lake: give `lake` in operations.yml a directory as well")
    require_days_of_utc(settings)
    work = settings.home / "wide" / f"run-{run['run_id']}"
    work.mkdir(mode=0o700, parents=True)
    try:
        models = _hand_over(settings, run, store, work, progress)
    except BaseException:
        clear(settings)
        raise
    _clear_files(settings)
    return models


def _standing(settings: Settings, run: Run) -> list[str]:
    """The models that were handed over in this run, if all their rows are still there and nothing has landed since; else none."""
    with db.connect(settings, "transformer") as connection:
        row = fetch_one(connection.execute(
            "select coalesce(array_agg(model order by model), '{}') as models, coalesce(bool_and(to_regclass(format('core.%%I', '_handed_over__' || model)) "
            "is not null and loaded_at > coalesce((select max(coalesce(finished_at, started_at)) from audit.landing_batches), '-infinity')), false) as all_there "
            "from audit.handovers where run_id = %s", [run["run_id"]],
        ))  # fmt: skip
    return list(row["models"]) if row["all_there"] else []


def _hand_over(settings: Settings, run: Run, store: LakeStore, work: Path, progress: Progress) -> list[str]:
    for seen, remedy in troubles(settings):
        raise NorthstarError(f"{seen}: {remedy}; or {ADVICE}")
    files = complete(settings, store)
    landed = _landed_rows(settings)
    try:
        place = show_to_spark(settings, store, files, work)
        write_job(settings, work, place, files, landed)
        manifest = run_spark(settings, work)
    except DamagedFile as exc:
        discard(settings, store, exc.path)
        raise PassingError(
            f"Spark cannot read {store.name(exc.path)}, which is out of the lake now: run again, and it is written again from its table "
            f"(Spark's log: {spark_log(settings)})"
        ) from exc
    if manifest["landed"] != landed:
        wrong = next(name for name in landed if manifest["landed"].get(name) != landed[name])
        raise NorthstarError(
            f"the lake does not hold what has landed: {landed[wrong]} rows of {wrong}, and Spark read {manifest['landed'].get(wrong)}; "
            f"remove {store.name(wrong)}, so that it is written again, and {ADVICE}"
        )
    load(settings, run["run_id"], work, manifest)
    total = sum(said["rows"] for said in manifest["models"].values())
    progress(f"    Spark built {len(manifest['models'])} models: {total} rows of {sum(landed.values())} landed ones")
    return list(manifest["models"])


def load(settings: Settings, run_id: int, work: Path, manifest: HandoverManifest) -> None:
    """Load the models' rows from the directory `work`. Raises NorthstarError if they do not add up to the manifest."""
    with db.connect(settings, "transformer") as connection:
        for name, said in manifest["models"].items():
            _load_model(settings, work / name, name)
            loaded = _describe(connection, name)
            if loaded != said:
                raise NorthstarError(
                    f"what Spark handed over for {name} does not add up to its manifest ({_difference(said, loaded)}): nothing of it is used; {ADVICE}"
                )
            connection.execute(
                "insert into audit.handovers (run_id, model, rows, columns) values (%s, %s, %s, %s) on conflict (run_id, model) "
                "do update set rows = excluded.rows, columns = excluded.columns, loaded_at = clock_timestamp()",
                [run_id, name, loaded["rows"], Jsonb(loaded["columns"])],
            )


def _landed_rows(settings: Settings) -> dict[str, int]:
    query = " union all ".join(
        f"select '{name}' as entity, count(*) as rows from staging.{name}" for name in WIDE_ENTITIES
    )
    with db.connect(settings, "transformer") as connection:
        return {row["entity"]: row["rows"] for row in connection.execute(query)}


def show_to_spark(settings: Settings, store: LakeStore, files: dict[str, list[LakeFile]], work: Path) -> str:
    """The place in which Spark finds the files; those of an object store are copied to this machine first, unless Spark reads them itself.

    Raises DamagedFile for one that is gone.
    """
    if store.is_local:
        return store.root
    if settings.operations.spark_lake is not None:
        return settings.operations.spark_lake.rstrip("/")
    store.fetch([path for name in files for path in paths_of(files[name])], work / "lake")
    return str(work / "lake")


def write_job(
    settings: Settings, work: Path, place: str, files: dict[str, list[LakeFile]], landed: dict[str, int]
) -> None:
    """Write what Spark's script is asked for to job.json. place: of the files, by entity; landed: their rows, each key once."""
    job = {
        "master": settings.operations.spark_master,
        "options": settings.operations.spark_options,
        "cores": settings.operations.spark_cores,
        "memory_mb": settings.operations.spark_memory_mb,
        "wait_seconds": settings.operations.spark_wait_minutes * 60,
        "scratch": str(_scratch(settings)),
        "entities": {
            name: {
                "columns": {c.name: c.type for c in entities()[name].stored_columns.values()},
                "key": list(entities()[name].key),
                "files": [f"{place}/{path}" for path in paths_of(files[name])],
                # a row that was replaced is in the file of its former batch as well
                "has_repeated_keys": sum(file["rows"] for file in files[name]) != landed[name],
            }
            for name in WIDE_ENTITIES
        },
    }
    (work / "job.json").write_text(json.dumps(job))


def spark_log(settings: Settings) -> Path:
    """Where the output of Spark is, of the last time."""
    return settings.logs / "spark.log"


def run_spark(settings: Settings, work: Path) -> HandoverManifest:
    """Run Spark's script on the job in the directory `work`; returns its manifest.

    Raises DamagedFile for a file of the lake that Spark cannot read, else NorthstarError if it fails: PassingError where another try may succeed.
    """
    write_project(settings)
    log = spark_log(settings)
    with log.open("w") as output:
        # its input stays open for as long as this process lives: when it closes, the other one ends
        command = [str(_python(settings)), "-P", str(REDUCE), str(work / "job.json")]
        with subprocess.Popen(
            command,
            cwd=work,
            env=_environment(settings, work),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process:
            process.wait()
    if process.returncode:
        said = read_json(work / "failure.json") or {
            "failure": f"it ended with the code {process.returncode}",
            "file": None,
            "may_pass": True,
        }
        if said["file"]:
            # below a folder for each entity
            raise DamagedFile("/".join(said["file"].split("/")[-2:]))
        failure = PassingError if said["may_pass"] else NorthstarError
        raise failure(f"Spark failed: {said['failure']} (its log: {log}); {ADVICE}")
    return as_shape(HandoverManifest, read_json(work / "manifest.json") or {})


def _python(settings: Settings) -> Path:
    return Path(settings.operations.spark_python or ROOT / ".venv-spark" / "bin" / "python")


def troubles(settings: Settings) -> Iterator[tuple[str, str]]:
    """What Spark lacks on this machine, each with what to do about it."""
    python, memory_mb = _python(settings), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    if not python.exists():
        yield f"Spark's environment is missing ({python})", "`make setup-spark` makes it"
    java_home = os.environ.get("JAVA_HOME")
    java = shutil.which(f"{java_home}/bin/java" if java_home else "java")
    if java is None:
        where = f" (there is none in JAVA_HOME, {java_home})" if java_home else ""
        yield f"Spark needs Java 17{where}", "on Debian, apt-get install openjdk-17-jre-headless"
    elif (found := _java_version(java)) is not None and found < OLDEST_JAVA:
        yield (
            f"Spark needs Java 17 or newer, and {java} is {found}",
            "on Debian, apt-get install openjdk-17-jre-headless, and JAVA_HOME names its directory",
        )
    if settings.operations.spark_memory_mb > memory_mb:
        yield (
            f"spark_memory_mb is {settings.operations.spark_memory_mb}, and this machine has {memory_mb} MB",
            "set it lower in operations.yml",
        )


def _java_version(java: str) -> int | None:
    """Java's version; None where it says none. Until 8 it was written 1.8."""
    said = subprocess.run([java, "-version"], capture_output=True, text=True)
    found = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    return int(found[1]) if found else None


def _environment(settings: Settings, work: Path) -> dict[str, str]:
    """Nothing of this process's own environment but where programs are: it may hold passwords."""
    kept = {name: os.environ[name] for name in ("PATH", "JAVA_HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "HOME": str(work),
        "TZ": "UTC",
        **OFF,
        "NORTHSTAR_DBT_TARGET": "spark",
        "NORTHSTAR_RUN_CONTEXT": json.dumps(read_context(settings)),
        "DBT_PROJECT_DIR": str(project_directory(settings)),
        "DBT_PROFILES_DIR": str(settings.root / "dbt_project"),
        "DBT_TARGET_PATH": str(work / "target"),
        "DBT_LOG_PATH": str(work),
        # where the workers of local-cluster keep their files; they would lie beside Spark's programs
        "SPARK_WORKER_DIR": str(work / "workers"),
    }


def _scratch(settings: Settings) -> Path:
    """The directory of Spark's temporary files, which is this home's own."""
    if settings.operations.spark_scratch is None:
        return settings.home / "wide" / "scratch"
    home = hashlib.sha256(str(settings.home).encode()).hexdigest()[:12]
    return Path(settings.operations.spark_scratch) / f"northstar-{home}"


def _load_model(settings: Settings, path: Path, model: str) -> None:
    table = f"_handed_over__{model}"
    with closing(adbc.connect(db.uri(settings, "transformer"))) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(f"drop table if exists core.{table}")
        rows = ds.dataset(path, format="parquet").scanner().to_reader()
        cursor.adbc_ingest(table, rows, mode="create", db_schema_name="core")
        connection.commit()


def _describe(connection: Connection, model: str) -> ModelSums:
    """A loaded model as its manifest should describe it."""
    table = sql.Identifier("core", f"_handed_over__{model}")
    columns = connection.execute(
        "select attname as name, format_type(atttypid, null) as type from pg_attribute where attrelid = %s::regclass and attnum > 0 "
        "and not attisdropped order by attnum", [f"core._handed_over__{model}"],
    ).fetchall()  # fmt: skip
    measures: list[sql.Composable] = [sql.SQL("count(*) as rows")]
    for number, column in enumerate(columns):
        value = sql.SQL(SUMMED[column["type"]]).format(sql.Identifier(column["name"]))
        measures.append(
            sql.SQL("sum(({})::numeric) as {}, count(*) filter (where {} is null) as {}").format(
                value, sql.Identifier(f"sum{number}"), sql.Identifier(column["name"]), sql.Identifier(f"nulls{number}")
            )
        )
    row = fetch_one(connection.execute(sql.SQL("select {} from {}").format(sql.SQL(", ").join(measures), table)))
    sums: dict[str, ColumnSums] = {
        column["name"]: {"sum": _plain(row[f"sum{number}"]), "nulls": row[f"nulls{number}"]}
        for number, column in enumerate(columns)
    }
    return {"rows": row["rows"], "columns": sums}


def _plain(number: Decimal | None) -> str | None:
    """A number without zeros at its end."""
    return None if number is None else f"{number.normalize():f}"


def _difference(said: ModelSums, loaded: ModelSums) -> str:
    if said["rows"] != loaded["rows"]:
        return f"{said['rows']} rows, {loaded['rows']} loaded"
    names = said["columns"].keys() | loaded["columns"].keys()
    name = min(n for n in names if said["columns"].get(n) != loaded["columns"].get(n))
    return f"column {name}: {said['columns'].get(name)}, loaded {loaded['columns'].get(name)}"


def _clear_files(settings: Settings) -> None:
    shutil.rmtree(settings.home / "wide", ignore_errors=True)
    shutil.rmtree(_scratch(settings), ignore_errors=True)


def clear(settings: Settings) -> None:
    """Remove the files and the tables of a handover."""
    _clear_files(settings)
    with db.connect(settings, "transformer") as connection:
        tables = connection.execute(
            "select tablename from pg_tables where schemaname = 'core' and tablename like '\\_handed\\_over\\_\\_%%'",
            [],
        ).fetchall()
        for table in tables:
            connection.execute(sql.SQL("drop table {}").format(sql.Identifier("core", table["tablename"])))
