"""The job: open a run, extract, build, audit, publish, close. The command line and the DAGs' tasks call the same functions.

Between the calls a run lives in `audit.runs` and `audit.writer_lease`, so each call may happen in a process of its own, on a machine of
its own.
"""

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from types import MappingProxyType

from psycopg import sql

from northstar import db, lease
from northstar.collector import uncollected
from northstar.contract import entities
from northstar.dbt_connections import kept_connections
from northstar.embedded.priority import job_niceness, standing_back
from northstar.errors import NorthstarError, lacking
from northstar.files import read_json
from northstar.manifest import dbt_target, find_manifest, is_current, note_version, read_manifest, share_manifest
from northstar.privacy.details import forget_details
from northstar.settings import Settings
from northstar.unchanged import note_nothing, unchanged_nodes
from northstar.warehouse import bootstrap

MODES = ("nightly", "hourly")
# dbt's results name its hooks too
BUILT_TYPES = ("model", "seed", "test")
# the name of the source that is a run's directory
FILES = "files"


def open_run(
    settings: Settings,
    mode: str,
    as_of: datetime,
    sources_dir: str | None = None,
    trigger: str = "cli",
    wait: bool = False,
    mapping: str | None = None,
    restate: tuple[datetime, datetime] | None = None,
    is_own: bool | None = None,
) -> int:
    """Start a run and take the writer's turn; returns the run_id.

    is_own: whether the run goes on and ends in this process (default: when no DAG triggered it).

    as_of: logical time, timezone-aware, exclusive. wait: wait for a run that is under way instead of refusing. restate: a half-open
    range whose periods are built again whether or not a row in it has changed.
    Raises NorthstarError for a bad mode or time, or when it is another's turn.
    """
    if mode not in MODES:
        raise NorthstarError(f"unknown mode {mode!r}; use {' or '.join(MODES)}")
    if as_of > datetime.now(UTC):
        raise NorthstarError(f"as-of {as_of:%Y-%m-%dT%H:%M:%SZ} lies in the future; give a time that has passed")
    bootstrap(settings)
    run_id = lease.take(settings, trigger, trigger == "cli" if is_own is None else is_own, wait)
    with _given_back_on_error(settings, run_id), db.connect(settings, "transformer", autocommit=True) as connection:
        connection.execute(
            "update audit.runs set state = 'failed', finished_at = clock_timestamp(), "
            "message = coalesce(message, 'the process ended without a word') where state = 'running'"
        )
        context = _context(connection, settings, mode, as_of)
        connection.execute(
            "insert into audit.runs (run_id, mode, as_of, is_full, trigger, source_dir, code_version, mapping) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s)",
            [run_id, mode, as_of, context["is_full"], trigger, sources_dir, code_version(settings), mapping],
        )
        connection.execute(
            "insert into core.run_context values (true, %(run_id)s, %(mode)s, %(as_of)s, %(previous_as_of)s, "
            "%(since_batch_id)s, %(is_full)s, %(rules)s, %(restate_from)s, %(restate_to)s) on conflict (only_one) do update set run_id = excluded.run_id, "
            "mode = excluded.mode, as_of = excluded.as_of, previous_as_of = excluded.previous_as_of, "
            "since_batch_id = excluded.since_batch_id, is_full = excluded.is_full, rules = excluded.rules, "
            "restate_from = excluded.restate_from, restate_to = excluded.restate_to",
            {
                "run_id": run_id,
                "mode": mode,
                "as_of": as_of,
                "rules": json.dumps(settings.rules),
                **context,
                "restate_from": restate[0] if restate else None,
                "restate_to": restate[1] if restate else None,
            },
        )
        connection.execute(
            sql.SQL(
                "create or replace function core.as_of() returns timestamptz language sql immutable parallel safe "
                "return {}::timestamptz"
            ).format(as_of.isoformat())
        )
    return run_id


def extract(settings: Settings, run_id: int, progress=print) -> None:
    """Land what is new in all of the run's sources. Raises NorthstarError when one that is required failed."""
    with _stage(settings, run_id, "extract") as run:
        for name in _due(settings, run):
            _land(settings, run, name, progress)
        _settle(settings, run)


def extract_again(
    settings: Settings, run_id: int, names: list[str], within: tuple[datetime, datetime], progress=print
) -> dict:
    """Read sources from their beginning and land what lies in the range; returns {'read': rows, 'changed': rows}.

    Where their next reading starts stays as it is. Raises NorthstarError when one of them failed.
    """
    told = {"read": 0, "changed": 0}
    with _stage(settings, run_id, "extract") as run:
        for name in names:
            result = _land(settings, run, name, progress, within)
            if result.error:
                raise NorthstarError(f"source {name}: {result.error}")
            told["read"] += result.landed.read
            told["changed"] += result.landed.inserted + result.landed.updated
        _demand_rows(settings, run["as_of"])
        _note_batch(settings, run_id)
    return told


def due_sources(settings: Settings, run_id: int) -> list[str]:
    """The names of the sources that a run asks: `files` for its source directory, and the declared ones that are due.

    Raises NorthstarError when there is none.
    """
    with db.connect(settings, "transformer") as connection:
        return _due(settings, connection.execute("select * from audit.runs where run_id = %s", [run_id]).fetchone())


def land_source(settings: Settings, run_id: int, name: str, progress=print) -> None:
    """Land one of a run's sources, as a task of its own. Raises NorthstarError when it failed, required or not."""
    with _stage(settings, run_id, "extract") as run:
        error = _land(settings, run, name, progress).error
    if error:
        raise NorthstarError(error)


def settle_extract(settings: Settings, run_id: int) -> None:
    """After all sources: raises NorthstarError when a required one failed or nothing is there to build from."""
    with _stage(settings, run_id, "extract") as run:
        _settle(settings, run)


def build(settings: Settings, run_id: int, progress=print, callback=None) -> dict:
    """Build core and candidate marts with dbt, in this process; returns {model name: seconds}.

    callback: is given each of dbt's events as it comes.
    Raises NorthstarError when a node fails or when the manifest's nodes were not all built.
    """
    with _stage(settings, run_id, "build") as run:
        _demand_same_code(settings, run)
        unchanged = {}
        if run["is_full"]:
            arguments = ["--full-refresh"]
        else:
            manifest = find_manifest(settings, run["code_version"])
            if manifest is not None:
                unchanged = unchanged_nodes(settings, run, manifest)
                note_nothing(settings, unchanged)
            # the code is that of the published version, so what consists of nothing but code stands
            names = [node["name"] for node in unchanged.values() if node["resource_type"] == "model"]
            arguments = ["--exclude-resource-type", "seed", "--exclude", "config.materialized:view", *names]
        command = ["build", "--exclude-resource-type", "unit_test", "--exclude-resource-type", "exposure", *arguments]
        with _told_context(settings), uncollected(), kept_connections(run_id):
            _dbt(settings, command, run["code_version"], callback)
        share_manifest(settings, run["code_version"])
        return record_build(settings, run_id, progress, unchanged)


def _demand_same_code(settings: Settings, run: dict) -> None:
    """Raise NorthstarError where this machine has other models or rules than the one that opened the run, or they changed since."""
    if (here := code_version(settings)) != run["code_version"]:
        raise NorthstarError(
            f"the models or rules changed since run {run['run_id']} began, or this machine ({socket.gethostname()}) has others than the one "
            f"that opened it ({here}, not {run['code_version']}): bring all to the same release and configuration, then start a new run"
        )


def last_as_of(settings: Settings) -> datetime | None:
    """The as_of of the newest published run, or None."""
    bootstrap(settings)
    with db.connect(settings, "transformer") as connection:
        return connection.execute(
            "select max(as_of) as t from audit.runs where published_version is not null"
        ).fetchone()["t"]


def demand_published(settings: Settings, run_id: int) -> None:
    """Raise NorthstarError with the run's own message unless it published a version."""
    with db.connect(settings, "transformer") as connection:
        run = connection.execute("select * from audit.runs where run_id = %s", [run_id]).fetchone()
    if run["published_version"] is None:
        raise NorthstarError(run["message"] or f"run {run_id} published nothing")


def dbt_env(settings: Settings, role: str = "transformer") -> dict:
    """The environment that dbt_project/profiles.yml reads."""
    from urllib.parse import unquote, urlsplit

    address = db.uri(settings, role)
    parts, tls = urlsplit(address), db.tls_options(address)
    return {
        "NORTHSTAR_PG_HOST": parts.hostname,
        "NORTHSTAR_PG_PORT": str(parts.port),
        "NORTHSTAR_PG_USER": parts.username,
        "DBT_ENV_SECRET_PG_PASSWORD": unquote(parts.password),
        "NORTHSTAR_PG_DBNAME": parts.path.lstrip("/"),
        # empty is libpq's default, and takes back what an earlier home of this process said
        **{
            f"NORTHSTAR_PG_{name.upper()}": tls.get(name, "")
            for name in ("sslmode", "sslrootcert", "sslcert", "sslkey")
        },
        "DBT_PROJECT_DIR": str(settings.root / "dbt_project"),
        "DBT_PROFILES_DIR": str(settings.root / "dbt_project"),
        "DBT_TARGET_PATH": str(dbt_target(settings)),
        "DBT_LOG_PATH": str(settings.logs),
    }


@contextmanager
def _told_context(settings: Settings):
    """The run's context in the environment, where the models read it, for as long as they are built."""
    with db.connect(settings, "transformer") as connection:
        context = connection.execute(
            "select run_id, mode, as_of::text, previous_as_of::text, since_batch_id, is_full, rules, restate_from::text, restate_to::text "
            "from core.run_context"
        ).fetchone()
    os.environ["NORTHSTAR_RUN_CONTEXT"] = json.dumps(context)
    try:
        yield
    finally:
        del os.environ["NORTHSTAR_RUN_CONTEXT"]


def _dbt(settings: Settings, arguments: list, code_version: str, callback=None) -> None:
    os.environ.update(dbt_env(settings))
    from dbt.cli.main import dbtRunner

    results_file = dbt_target(settings) / "run_results.json"
    results_file.unlink(missing_ok=True)
    runner = dbtRunner(callbacks=[callback] if callback else [])
    arguments = [*arguments, "--quiet", "--log-level-file", "info", "--no-use-colors"]
    with _own_words_untold():
        if is_current(settings, code_version):
            # dbt writes its manifest twice, before and after, which takes longer than most models
            result = runner.invoke([*arguments, "--no-write-json"])
            if result.result is not None:
                result.result.write(str(results_file))
        else:
            result = runner.invoke(arguments)
            if result.result is not None:
                note_version(settings, code_version)
    if result.exception is not None:
        if lacking(result.exception):
            raise NorthstarError(lacking(result.exception)) from result.exception
        reason = " ".join(str(result.exception).split())
        raise NorthstarError(f"dbt could not run: {reason[:400]} (its log: {settings.logs / 'dbt.log'})")


@contextmanager
def _own_words_untold():
    """dbt writes the words of this process's command line into its artefacts, and those of an erasure name a person."""
    words, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = words


def record_build(settings: Settings, run_id: int, progress=print, unchanged: Mapping = MappingProxyType({})) -> dict:
    """Write dbt's results to audit.model_runs and compare them with the manifest; returns {model name: seconds}.

    unchanged: what need not be built (northstar.unchanged), by unique_id; written down with that word.
    Raises NorthstarError naming the first failed node, or the nodes of the manifest that were not built.
    """
    results_file = dbt_target(settings) / "run_results.json"
    told = read_json(results_file)
    if told is None:
        raise NorthstarError(
            f"dbt left no whole results in {results_file.parent}: nothing was built (its log: {settings.logs / 'dbt.log'})"
        )
    manifest = read_manifest(settings)
    results = [
        result for result in told["results"]
        if result["unique_id"].split(".")[0] in BUILT_TYPES
    ]  # fmt: skip
    with db.connect(settings, "transformer") as connection:
        run = connection.execute("select is_full, code_version from audit.runs where run_id = %s", [run_id]).fetchone()
        if run["is_full"]:
            # which loads a parser of SQL that an hourly run has no use for
            from northstar.explain import keep_definitions

            keep_definitions(connection, run["code_version"], results)
    wanted = {i: node for i, node in _wanted(manifest, run["is_full"]).items() if i not in unchanged}
    rows = [
        (run_id, unique_id, node["name"], node["resource_type"], "unchanged", 0, None, "")
        for unique_id, node in unchanged.items()
    ]
    for result in results:
        node = wanted.get(result["unique_id"], {})
        affected = result.get("adapter_response", {}).get("rows_affected")
        rows.append(
            (run_id, result["unique_id"], node.get("name", result["unique_id"]), result["unique_id"].split(".")[0],
             result["status"], round(result["execution_time"], 3), affected if affected != -1 else None,
             (result.get("message") or "")[:2000])
        )  # fmt: skip
    with db.connect(settings, "transformer") as connection:
        connection.cursor().executemany(
            "insert into audit.model_runs values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (run_id, unique_id) "
            "do update set status = excluded.status, seconds = excluded.seconds, rows = excluded.rows, message = excluded.message",
            rows,
        )
    for row in sorted(rows, key=lambda r: -r[5])[:12]:
        progress(f"    {row[5]:7.2f} s  {row[4]:8} {row[2]}")
    if unchanged:
        progress(
            f"    {len(unchanged)} of {len(rows)} models and tests are left as they stand: what they read has not changed"
        )
    failed = [r for r in rows if r[4] not in ("success", "pass", "warn", "skipped", "unchanged")]
    if failed:
        message = " ".join(failed[0][7].split())
        if "No space left" in message or "could not extend file" in message:
            raise NorthstarError(
                f"the disk is full: {failed[0][3]} {failed[0][2]} could not be built; make room and run again"
            )
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise NorthstarError(f"{failed[0][3]} {failed[0][2]} failed{more}: {message[:600]}")
    missing = sorted(set(wanted) - {r[1] for r in rows if r[4] in ("success", "pass", "warn")})
    if missing:
        raise NorthstarError(
            f"the build is not complete: {len(missing)} of {len(wanted)} nodes were not built, first {missing[0]}"
        )
    return {r[2]: r[5] for r in rows if r[3] in ("model", "seed")}


def _wanted(manifest: dict, is_full: bool) -> dict:
    """The nodes that a run has to build: all, or in an incremental run those that hold rows, and their tests."""
    nodes = {
        unique_id: node for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] in BUILT_TYPES and node["config"].get("materialized") != "ephemeral"
    }  # fmt: skip
    if is_full:
        return nodes
    standing = {i for i, node in nodes.items() if node["config"].get("materialized") in ("view", "seed")}
    return {
        i: node for i, node in nodes.items()
        if i not in standing and (node["resource_type"] != "test" or standing.isdisjoint(node["depends_on"]["nodes"]))
    }  # fmt: skip


def audit(settings: Settings, run_id: int, progress=print, worker=None) -> dict:
    """Run the audit at both boundaries; returns {'run': n, 'passed': n, 'warned': n}.

    worker: an auditor that was started earlier (northstar.quality.start_worker), else the audit runs in this process.
    Raises NorthstarError naming the first failed error-level check with its rows and numbers.
    """
    from northstar.quality import run_audit

    with _stage(settings, run_id, "audit"):
        if worker is not None:
            return worker.run_audit(run_id, progress)
        return run_audit(settings, run_id, progress=progress)


def publish(settings: Settings, run_id: int, progress=print) -> int:
    """Publish the audited candidate in one transaction; returns the published version."""
    from northstar.publish import publish_candidate

    with _stage(settings, run_id, "publish"):
        return publish_candidate(settings, run_id, progress=progress)


def maintain(settings: Settings, run_id: int, progress=print) -> None:
    """The upkeep after a nightly publication. Raises NorthstarError naming what failed; the publication stands."""
    from northstar import maintenance

    with _stage(settings, run_id, "maintain"):
        maintenance.maintain(settings, run_id, progress)


def close_trigger(settings: Settings, trigger: str) -> None:
    """End what a trigger left behind when its task died between taking the turn and telling of the run."""
    with db.connect(settings, "transformer", autocommit=True) as connection:
        connection.execute("delete from audit.writer_lease where holder = %s", [trigger])


def close_run(settings: Settings, run_id: int, error: str | None = None) -> None:
    """End a run: its state, its message, and its turn."""
    try:
        with db.connect(settings, "transformer", autocommit=True, is_awaited=True) as connection:
            connection.execute(
                "update audit.runs set finished_at = clock_timestamp(), message = coalesce(%s::text, message), "
                "state = case when published_version is not null then 'published' else 'failed' end where run_id = %s",
                [error, run_id],
            )
    finally:
        lease.give_back(settings, run_id)


def run(
    settings: Settings,
    mode: str,
    as_of: datetime,
    sources_dir: str | None,
    progress=print,
    mapping: str | None = None,
    worker=None,
    extract=extract,
    restate: tuple[datetime, datetime] | None = None,
) -> int:
    """One whole run in this process, as the DAGs do it; returns the published version.

    worker: an auditor to use again; without one, one is started, which loads while dbt builds. extract, restate: a backfill's own
    way to land, and its range.
    """
    with db.telling_of_loss(settings):
        run_id = open_run(settings, mode, as_of, sources_dir, mapping=mapping, restate=restate)
    with _closing(settings, run_id), _auditor(settings, worker) as auditor:
        stages = {
            "extract": extract,
            "build": build,
            "audit": lambda *given: audit(*given, worker=auditor),
            "publish": publish,
        }
        for title, stage in stages.items():
            started = time.monotonic()
            progress(f"{title} ...")
            with db.telling_of_loss(settings):
                result = stage(settings, run_id, progress)
            progress(f"{title} done in {time.monotonic() - started:.1f} s")
        if mode == "nightly":
            try:
                maintain(settings, run_id, progress)
            except NorthstarError as exc:
                # it is written down, and readers have their version
                progress(f"published, but {exc}")
        return result


@contextmanager
def _given_back_on_error(settings: Settings, run_id: int):
    """A run that could not be opened has no turn."""
    try:
        yield
    except BaseException:
        with suppress(NorthstarError):
            lease.give_back(settings, run_id)
        raise


@contextmanager
def _closing(settings: Settings, run_id: int):
    """Ends the run with what is done inside: published, or failed with its error."""
    error = None
    try:
        yield
    except BaseException as exc:
        error = str(exc) or type(exc).__name__
        raise
    finally:
        try:
            with db.telling_of_loss(settings):
                close_run(settings, run_id, error)
        except NorthstarError:
            if error is None:
                raise


@contextmanager
def _auditor(settings: Settings, worker=None):
    """The given auditor, or one for as long as the context lasts."""
    from northstar.quality import start_worker

    own = None if worker else start_worker(settings)
    try:
        yield worker or own
    finally:
        if own:
            own.stop()


def run_change(
    settings: Settings,
    trigger: str,
    change: Callable[[int], None],
    mode: str = "hourly",
    progress=print,
    worker=None,
    wait: bool = False,
) -> int | None:
    """A run that asks no source: `change(run_id)` changes what was landed, then build, audit and publish as ever, at the published as_of.

    Returns the published version; None where nothing was ever published, which `change` alone brings up to date.
    """
    bootstrap(settings)
    with db.connect(settings, "transformer") as connection:
        last = connection.execute(
            "select as_of from audit.runs where published_version is not null order by published_version desc limit 1"
        ).fetchone()
    as_of = last["as_of"] if last else datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    run_id = open_run(settings, mode, as_of, trigger=trigger, wait=wait, is_own=True)
    with _closing(settings, run_id):
        with _stage(settings, run_id, "extract"):
            change(run_id)
            _note_batch(settings, run_id)
        if last is None:
            return None
        with _auditor(settings, worker) as auditor:
            build(settings, run_id, progress)
            audit(settings, run_id, progress, auditor)
            return publish(settings, run_id, progress)


def code_version(settings: Settings) -> str:
    """A digest of what decides the numbers: the dbt project, the business rules, and the dbt that builds."""
    digest = hashlib.sha256(json.dumps(settings.rules, sort_keys=True).encode())
    project = settings.root / "dbt_project"
    for package in ("dbt-core", "dbt-postgres"):
        digest.update(f"{package} {version(package)}".encode())
    # hooks, schemas, materializations and the types of seeds
    digest.update((project / "dbt_project.yml").read_bytes())
    for folder in ("models", "macros", "seeds"):
        for path in sorted((project / folder).rglob("*")):
            # what describes and what tests decides no number
            if path.is_file() and path.suffix != ".md" and path.name != "_unit_tests.yml":
                digest.update(str(path.relative_to(project)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _context(connection, settings: Settings, mode: str, as_of: datetime) -> dict:
    """What the last publication left: from when on rows are new, and whether everything has to be rebuilt."""
    last = connection.execute(
        "select run_id, as_of, code_version, built_batch_id from audit.runs where published_version is not null "
        "order by published_version desc limit 1"
    ).fetchone()
    since = connection.execute(
        "select coalesce(bool_or(is_full), false) as was_full, max(as_of) as latest from audit.runs where run_id > %s",
        [last["run_id"] if last else 0],
    ).fetchone()
    is_full = (
        mode == "nightly"
        or last is None
        or as_of < last["as_of"]
        or last["code_version"] != code_version(settings)
        or since["was_full"]
        or (since["latest"] is not None and since["latest"] > as_of)
    )
    return {
        "previous_as_of": last["as_of"] if last else None,
        "since_batch_id": last["built_batch_id"] if last else 0,
        "is_full": is_full,
    }


@contextmanager
def _stage(settings: Settings, run_id: int, stage: str):
    """Keeps the turn while a stage works, and writes down how it went."""
    with lease.working(settings, run_id) as connection:
        run = connection.execute(
            # what went wrong in this stage may be another task's, or that of a try before
            "update audit.runs set stage = %(stage)s, message = case when stage = %(stage)s then message end "
            "where run_id = %(run)s and state = 'running' returning *", {"stage": stage, "run": run_id},
        ).fetchone()  # fmt: skip
        if run is None:
            raise lease.over(run_id)
        started = time.monotonic()
        try:
            with db.telling_of_loss(settings), _standing_back(settings):
                yield run
        except Exception as exc:
            _note(settings, run_id, stage, started, f"{stage}: {exc}")
            raise
        else:
            _note(settings, run_id, stage, started, None)


def _standing_back(settings: Settings):
    return standing_back(lambda: db.connect(settings, "transformer", autocommit=True), job_niceness(settings))


def _note(settings: Settings, run_id: int, stage: str, started: float, message: str | None) -> None:
    try:
        with db.connect(settings, "transformer", autocommit=True) as connection:
            # several tasks may be at a stage, each source's for one: it took what the longest took
            connection.execute(
                "update audit.runs set message = case when %(stage)s = 'extract' then coalesce(%(message)s, message) else %(message)s end, stage_seconds = stage_seconds || jsonb_build_object("
                "%(stage)s::text, greatest((stage_seconds ->> %(stage)s)::numeric, %(seconds)s)) where run_id = %(run)s",
                {"message": message, "stage": stage, "seconds": round(time.monotonic() - started, 2), "run": run_id},
            )
    except NorthstarError:
        if message is None:
            raise


def _due(settings: Settings, run: dict) -> list[str]:
    from northstar.sources.declared import read_sources

    declared = [source.name for source in read_sources(settings).values() if source.is_due(run["mode"])]
    due = declared + ([FILES] if run["source_dir"] else [])
    if not due:
        raise NorthstarError(
            f"no source: give a directory with --source-dir, or declare sources in {settings.config}/sources.yml"
        )
    return due


def _land(settings: Settings, run: dict, name: str, progress, within: tuple[datetime, datetime] | None = None):
    """Land one source of a run; returns its northstar.landing.SourceResult. The run's directory is a source as any other."""
    from northstar import landing
    from northstar.sources.declared import Source, read_sources

    if name == FILES:
        source = Source(FILES, FILES, required=True, options={"path": run["source_dir"], "mapping": run["mapping"]})
    else:
        source = read_sources(settings)[name]
    return landing.land_source(settings, run["run_id"], source, progress, within)


def _settle(settings: Settings, run: dict) -> None:
    from northstar.sources.declared import read_sources

    declared = read_sources(settings)
    with db.connect(settings, "loader") as connection:
        told = {
            row["source"]: row
            for row in connection.execute("select * from audit.source_runs where run_id = %s", [run["run_id"]])
        }
    for name in _due(settings, run):
        is_required = name == FILES or declared[name].required
        if is_required and not (name in told and told[name]["succeeded"]):
            reason = told[name]["message"] if name in told else "it was never asked"
            raise NorthstarError(reason if name == FILES else f"source {name}, which is required: {reason}")
    _demand_rows(settings, run["as_of"])
    if run["is_full"]:
        # no trace tells an hourly run of what was emptied
        forget_details(settings, run["run_id"], run["as_of"])
    _note_batch(settings, run["run_id"])


def _note_batch(settings: Settings, run_id: int) -> None:
    """Write down the newest landed batch: what the run builds from."""
    with db.connect(settings, "transformer") as connection:
        connection.execute(
            "update audit.runs set built_batch_id = (select coalesce(max(batch_id), 0) from audit.landing_batches) where run_id = %s",
            [run_id],
        )


def _demand_rows(settings: Settings, as_of: datetime) -> None:
    questions = [
        f"exists (select 1 from staging.{entity.name} where {entity.own_time} < %(as_of)s)"
        for entity in entities().values()
    ]
    with db.connect(settings, "loader") as connection:
        found = connection.execute(f"select {' or '.join(questions)} as found", {"as_of": as_of}).fetchone()["found"]
    if not found:
        raise NorthstarError(
            f"no landed row is older than as-of {as_of:%Y-%m-%dT%H:%M:%SZ}; give a later --as-of or another --source-dir"
        )
