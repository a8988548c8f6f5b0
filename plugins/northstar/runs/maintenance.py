"""Upkeep of a warehouse after the nightly publication: prune what was kept long enough, vacuum what changed, shorten logs.

Nothing here decides a number. The upkeep keeps the run's turn, so other runs wait for it, but no longer than `maintenance_minutes`. A step
that fails is recorded in `audit.maintenance`; the other steps and the published version are not affected.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.connections.airflow import airflow_environment
from northstar.use.reads import forget_reads
from northstar.warehouse import db, lake, turn_lock
from northstar.warehouse.published.past import record_pruned
from northstar.warehouse.rows import fetch_one
from northstar.warehouse.schemas import SCHEMAS
from northstar.warehouse.stages import run_stage

# a table is vacuumed when at least this many rows, and this share of it, changed since the last time
CHANGED_ROWS, CHANGED_SHARE = 10_000, 0.2
LOG_BYTES = 20 << 20
# what a step did: numbers and words by name
StepResult = dict[str, int | str]
PRUNED_BY_TIME = {
    # {table: column with its time}; the journals of backfills and reports stay, and so do the batches that rows refer to
    "checks": "checked_at",
    "reconciliations": "checked_at",
    "source_runs": "finished_at",
    "alert_evaluations": "evaluated_at",
    "outbox": "queued_at",
}


def maintain(settings: Settings, run_id: int | None = None, progress: Progress = print) -> dict[str, StepResult | str]:
    """Do all steps; returns what was done, by step. Raises NorthstarError at the end, naming the steps that failed."""
    deadline = time.monotonic() + 60 * settings.operations.maintenance_minutes
    with db.connect(settings, "transformer") as connection:
        number = fetch_one(
            connection.execute(
                "insert into audit.maintenance (run_id) values (%s) returning maintenance_id as id", [run_id]
            )
        )["id"]
    results: dict[str, StepResult | str] = {}
    failed: list[str] = []
    for name, step in STEPS.items():
        if time.monotonic() > deadline:
            results[name] = "no time left; the next nightly run continues"
            continue
        with _keep_turn(settings, run_id):
            try:
                results[name] = step(settings, deadline, number)
            except (psycopg.Error, NorthstarError, OSError) as exc:
                failed.append(f"{name}: {str(exc).splitlines()[0]}")
    with db.connect(settings, "transformer") as connection:
        connection.execute(
            "update audit.maintenance set finished_at = clock_timestamp(), succeeded = %s, message = %s, did = %s where maintenance_id = %s",
            [not failed, "; ".join(failed) or None, Jsonb(results), number],
        )
    summaries = [f"{name} {words}" for name, words in ((n, _describe(d)) for n, d in results.items()) if words]
    progress(f"maintained: {'; '.join(summaries) or 'nothing to do'}")
    if failed:
        raise NorthstarError(f"maintenance: {'; '.join(failed)}")
    return results


def maintain_after_run(settings: Settings, run_id: int, progress: Progress = print) -> None:
    """Do the upkeep after a nightly publication. Raises NorthstarError naming what failed; the published version is not affected."""
    with run_stage(settings, run_id, "maintain"):
        maintain(settings, run_id, progress)


@contextmanager
def _keep_turn(settings: Settings, run_id: int | None) -> Iterator[None]:
    """Keep the turn of a run for one step: what looks like a leftover could belong to a run that has taken over."""
    with db.connect(settings, "transformer", autocommit=True) as connection:
        turn_lock.keep(connection, run_id, is_session=True)
        yield


def _versions(settings: Settings, _: float, number: int) -> StepResult:
    """Delete what only versions older than `keep_versions_days` need: the rows that they showed and the landed rows that they were made of."""
    days = settings.operations.keep_versions_days
    with db.connect(settings, "transformer") as connection:
        certificates_table = fetch_one(connection.execute("select to_regclass('marts.certificates') as t"))["t"]
        if days is None or certificates_table is None:
            return {}
        # the version that was up when the time began is the oldest that is kept
        oldest_version = fetch_one(connection.execute(
            "select coalesce(max(published_version) filter (where published_at < clock_timestamp() - make_interval(days => %s)), "
            "min(published_version)) as oldest from marts.publications", [days],
        ))["oldest"]  # fmt: skip
        oldest_batch = fetch_one(
            connection.execute(
                "select min(built_batch_id) as b from marts.certificates where published_version >= %s",
                [oldest_version],
            )
        )["b"]
        codes = connection.execute(
            "select distinct code_version as c from marts.certificates where published_version >= %s", [oldest_version]
        ).fetchall()
        # the code of the last full build, and of the run under way, is still read
        unused = "code_version != all(%s) and code_version not in (select code_version from audit.runs where run_id in "
        unused += "((select max(run_id) from audit.runs where is_full), (select max(run_id) from audit.runs)))"
        definitions = connection.execute(
            f"delete from audit.definitions where {unused}", [[r["c"] for r in codes]]
        ).rowcount
        for table in ("manifests", "explained"):
            connection.execute(f"delete from audit.{table} where {unused}", [[r["c"] for r in codes]])
        # recorded first, so that nobody reads a version of which half is gone
        connection.execute(
            "update audit.maintenance set oldest_version = %s where maintenance_id = %s", [oldest_version, number]
        )
    with db.connect(settings, "loader") as connection:
        replaced = connection.execute(
            "delete from staging._replaced where batch_id <= %s", [oldest_batch or 0]
        ).rowcount

    with db.connect(settings, "publisher") as connection:
        names = connection.execute(
            "select tablename from pg_tables where schemaname = 'marts_history' order by 1"
        ).fetchall()
        history = sum(
            connection.execute(
                sql.SQL("delete from marts_history.{} where _to_version <= %s").format(sql.Identifier(r["tablename"])),
                [oldest_version],
            ).rowcount
            for r in names
        )
        record_pruned(connection, oldest_version)
    return {"oldest_version": oldest_version, "landed": replaced, "published": history, "definitions": definitions}


def _journals(settings: Settings, *_: float) -> StepResult:
    """Delete records of the audit that are older than `keep_audit_days`. The certificates of published versions stay."""
    cutoff = datetime.now(UTC) - timedelta(days=settings.operations.keep_audit_days)
    with db.connect(settings, "transformer") as connection:
        pruned_rows = {
            table: connection.execute(
                sql.SQL("delete from audit.{} where {} < %s").format(sql.Identifier(table), sql.Identifier(column)),
                [cutoff],
            ).rowcount
            for table, column in PRUNED_BY_TIME.items()
        }
        pruned_rows["notices"] = connection.execute("delete from audit.notices where closed_at < %s", [cutoff]).rowcount
        pruned_rows["maintenance"] = connection.execute(
            "delete from audit.maintenance where started_at < %s and oldest_version is null", [cutoff]
        ).rowcount
        old_runs = "select run_id from audit.runs where finished_at < %s"
        pruned_rows["model_runs"] = connection.execute(
            f"delete from audit.model_runs where run_id in ({old_runs})", [cutoff]
        ).rowcount
        # runs that published stay: the next run starts from the last one, and certificates refer to them
        pruned_rows["runs"] = connection.execute(
            "delete from audit.runs where finished_at < %s and published_version is null", [cutoff]
        ).rowcount
    return {table: rows for table, rows in pruned_rows.items() if rows}


def _people(settings: Settings, *_: float) -> StepResult:
    """Delete rejected rows after `keep_quarantine_days` and kept reports after `keep_report_days`: no number depends on either.

    Unresolved rejected rows stay while no version has been published since they came: without them the next run would publish.
    """
    pruned_rows = {}
    published = "coalesce((select max(built_batch_id) from audit.runs where published_version is not null), -1)"
    for name, days, role, table, column, settled in (
        ("quarantine", settings.operations.keep_quarantine_days, "loader", "quarantine.rows", "quarantined_at",
         f"(resolved_at is not null or accepted_at is not null or batch_id is null or batch_id <= {published})"),
        ("report", settings.operations.keep_report_days, "publisher", "audit.reports", "made_at", "true"),
    ):  # fmt: skip
        if days is not None:
            with db.connect(settings, role) as connection:
                pruned_rows[name] = connection.execute(
                    f"delete from {table} where {column} < clock_timestamp() - make_interval(days => %s) and {settled}",
                    [days],
                ).rowcount
    return {name: rows for name, rows in pruned_rows.items() if rows}


def _traces(settings: Settings, *_: float) -> StepResult:
    """Drop the temporary tables of builds that were killed, and the changed keys of models that no longer exist."""
    with db.connect(settings, "transformer") as connection:
        leftover_tables = connection.execute(
            "select schemaname, tablename from pg_tables as t where schemaname in ('core', 'marts_candidate') and "
            "(tablename like '%%\\_\\_dbt\\_tmp' or tablename like '%%\\_\\_dbt\\_backup' or (tablename like '\\_changed\\_\\_%%' and not exists "
            "(select 1 from pg_tables as m where m.schemaname = t.schemaname and '_changed__' || m.tablename = t.tablename)))", [],
        ).fetchall()  # fmt: skip
        for table in leftover_tables:
            connection.execute(sql.SQL("drop table {}").format(sql.Identifier(table["schemaname"], table["tablename"])))
    return {"tables": len(leftover_tables)} if leftover_tables else {}


def _lake(settings: Settings, *_: float) -> StepResult:
    """Merge small files of the lake, and remove those that do not count any more: of landings that were killed, withdrawn, or merged."""
    fewer = lake.compact(settings)
    removed = lake.sweep(settings)
    return {"files": removed, "fewer": fewer} if removed or fewer else {}


def _vacuum(settings: Settings, deadline: float, _: int) -> StepResult:
    """Vacuum and analyze tables, those that changed most first, each as its owner, until the deadline."""
    with db.connect(settings, "transformer") as connection:
        changed_tables = connection.execute(
            "select s.schemaname as schema, s.relname as name from pg_stat_user_tables as s join pg_class as c on c.oid = s.relid "
            "where s.schemaname = any(%s) and n_dead_tup + n_ins_since_vacuum >= greatest(%s, %s * c.reltuples) "
            "order by n_dead_tup + n_ins_since_vacuum desc",
            [[s for s in SCHEMAS if s != "audit"], CHANGED_ROWS, CHANGED_SHARE],
        ).fetchall()
    vacuumed_count, skipped_count = 0, 0
    for table in changed_tables:
        seconds = deadline - time.monotonic()
        if seconds < 1:
            skipped_count += 1
            continue
        with db.connect(settings, SCHEMAS[table["schema"]], autocommit=True) as connection:
            connection.execute(f"set statement_timeout = '{int(seconds)}s'")
            connection.execute("set lock_timeout = '5s'")
            try:
                connection.execute(
                    sql.SQL("vacuum (analyze) {}").format(sql.Identifier(table["schema"], table["name"]))
                )
                vacuumed_count += 1
            except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable):
                skipped_count += 1
    return {name: tables for name, tables in (("tables", vacuumed_count), ("left", skipped_count)) if tables}


def _logs(settings: Settings, *_: float) -> StepResult:
    """Shorten the services' logs in place (the services hold them open), and delete old Airflow logs and old log segments."""
    cutoff = time.time() - 86400 * settings.operations.keep_log_days
    shortened = removed = segments = 0
    for log in settings.logs.glob("*.log"):
        if log.stat().st_size > LOG_BYTES:
            shutil.copy(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)
            shortened += 1
    for run in (settings.logs / "airflow").glob("dag_id=*/run_id=*"):
        if run.stat().st_mtime < cutoff:
            shutil.rmtree(run, ignore_errors=True)
            removed += 1
    if settings.operations.wal_archive:
        oldest = time.time() - 86400 * settings.operations.keep_wal_days
        for segment in Path(settings.operations.wal_archive).glob("*.gz"):
            if segment.stat().st_mtime < oldest:
                segment.unlink()
                segments += 1
    reads = forget_reads(settings, datetime.now(UTC))
    counts = {"shortened": shortened, "runs": removed, "segments": segments, "reads": reads}
    return {name: n for name, n in counts.items() if n}


def _airflow(settings: Settings, deadline: float, _: int) -> StepResult:
    """Let Airflow delete what is older than `keep_log_days` from its own database, when it has a run that old."""
    if not (settings.home / "airflow" / "migrated").exists():
        return {}
    cutoff = datetime.now(UTC) - timedelta(days=settings.operations.keep_log_days)
    with db.connect(settings, db.AIRFLOW_ROLE, database=db.airflow_database(settings)) as connection:
        oldest = fetch_one(connection.execute("select min(run_after) as at from dag_run"))["at"]
    # only every few days: Airflow's cleaning takes some seconds however little there is to delete
    if oldest is None or oldest > cutoff - timedelta(days=3):
        return {}

    command = [str(Path(sys.executable).parent / "airflow"), "db", "clean", "--clean-before-timestamp", cutoff.isoformat(), "--skip-archive", "--yes"]  # fmt: skip
    try:
        process = subprocess.run(
            command, env=airflow_environment(settings), capture_output=True, text=True, stdin=subprocess.DEVNULL,
            timeout=max(1, deadline - time.monotonic()),
        )  # fmt: skip
    except subprocess.TimeoutExpired as exc:
        raise NorthstarError("`airflow db clean` did not finish in the time that was left") from exc
    if process.returncode:
        raise NorthstarError(f"`airflow db clean` failed: {(process.stderr.splitlines() or ['no message'])[-1]}")
    return {"before": f"{cutoff:%Y-%m-%d}"}


def _describe(result: StepResult | str) -> str:
    return result if isinstance(result, str) else ", ".join(f"{name} {n}" for name, n in result.items())


# each step takes (settings, the deadline on the monotonic clock, the number in audit.maintenance) and returns what it did
STEPS: dict[str, Callable[[Settings, float, int], StepResult]] = {
    "versions": _versions, "journals": _journals, "people": _people, "traces": _traces, "lake": _lake, "vacuum": _vacuum, "logs": _logs, "airflow": _airflow,
}  # fmt: skip
