"""`northstar doctor`: check a home; one line for each problem, with what to do about it. It starts nothing and changes nothing."""

import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import psycopg

from northstar.base.clock import show_utc
from northstar.base.config_files import ConfigError
from northstar.base.errors import NorthstarError
from northstar.base.files import read_word
from northstar.base.ports import read_port
from northstar.base.service_processes import service_states
from northstar.base.settings import Settings
from northstar.build import wide
from northstar.build.code_version import code_version
from northstar.build.own_seeds import check_own_seeds, unknown_names
from northstar.connections.airflow import api_health
from northstar.contract import entities
from northstar.extract.sources.declared import open_source, read_sources
from northstar.operate.status import judge_promises
from northstar.warehouse import db, embedded, migrations, role_settings, turn_lock
from northstar.warehouse.lake import WIDE_ENTITIES
from northstar.warehouse.lake_store import open_store
from northstar.warehouse.landed_tables import key_index_name, landed_columns, secondary_indexes
from northstar.warehouse.published.limited import unguarded_by_limits, unknown_in_roles
from northstar.warehouse.rights import WRITERS
from northstar.warehouse.rows import Connection, as_shape, fetch_one
from northstar.warehouse.schemas import SCHEMAS
from northstar.warehouse.setup import OLDEST_POSTGRES
from northstar.warehouse.troubles import newest_warnings, open_alerts, unevaluated_run

FREE_BYTES = 2 << 30
MAX_SKEW = timedelta(seconds=2)
BLOATED_ROWS = 100_000
SETUP_ADVICE = "`northstar setup` repairs roles, grants, tables and indexes"
# the rights that each role needs: (role, schema, privilege on all of its tables)
GRANTS = (
    ("loader", "staging", "insert"),
    ("loader", "quarantine", "insert"),
    ("loader", "audit", "update"),
    ("transformer", "staging", "select"),
    ("transformer", "quarantine", "select"),
    ("transformer", "core", "insert"),
    ("transformer", "marts_candidate", "insert"),
    ("transformer", "marts", "select"),
    ("transformer", "marts_history", "select"),
    ("transformer", "audit", "update"),
    ("publisher", "core", "select"),
    ("publisher", "marts_candidate", "select"),
    ("publisher", "marts", "insert"),
    ("publisher", "marts_history", "insert"),
    ("publisher", "audit", "update"),
    ("bi_reader", "marts", "select"),
)

# (what a check saw) or, when something is wrong, (what it saw, what to do about it)
Observation = tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """What one check saw. do: what to do about it; '' when nothing is wrong."""

    check: str
    seen: str
    advice: str = ""

    @property
    def is_wrong(self) -> bool:
        return bool(self.advice)

    def __str__(self) -> str:
        return f"{'WRONG' if self.is_wrong else 'ok   '} {self.check:12} {self.seen}{'; ' + self.advice if self.advice else ''}"


def examine(settings: Settings) -> Iterator[Finding]:
    """The findings of every check, at least one for each; that a check cannot be made is a finding as well."""
    for name, check in CHECKS_WITHOUT_DATABASE.items():
        yield from _run_check(name, check, settings)
    try:
        if not settings.warehouse_url and not embedded.is_running(settings):
            yield Finding(
                "server", "Postgres is not running", "`make run` or `northstar run` starts it; then run doctor again"
            )
            return
        role = "owner" if db.has_administrator(settings) else "transformer"
        connection = db.connect(settings, role, autocommit=True)
    except NorthstarError as exc:
        yield Finding("server", str(exc), "check that it is running, and that address and password are right")
        return
    with connection:
        connection.execute("set statement_timeout = '20s'")
        yield Finding("server", f"Postgres {connection.info.parameter_status('server_version')} answers")
        for name, look in DATABASE_CHECKS.items():
            yield from _run_check(name, look, settings, connection)


def _run_check(name: str, check: Callable[..., Iterator[Observation]], *arguments: object) -> Iterator[Finding]:
    findings = []
    try:
        findings = [Finding(name, *words) for words in check(*arguments)]
    except (psycopg.Error, NorthstarError, OSError) as exc:
        findings = [
            Finding(name, f"could not be checked: {str(exc).splitlines()[0]}", "fix this first, then run doctor again")
        ]
    yield from findings or [Finding(name, "nothing to check")]


def _disk(settings: Settings) -> Iterator[Observation]:
    places = {"the home": settings.home, "the archive of the write-ahead log": settings.operations.wal_archive}
    for name, place in places.items():
        if place and Path(place).exists():
            free = shutil.disk_usage(place).free
            says = f"{free / 2**30:.1f} GB free for {name}"
            yield (says, f"make room on the disk of {place}") if free < FREE_BYTES else (says,)


def _secrets(settings: Settings) -> Iterator[Observation]:
    if not settings.warehouse_url and not settings.secrets_file.exists():
        if (settings.home / "postgres" / "PG_VERSION").exists():
            yield (
                f"{settings.secrets_file} is missing",
                "restore your copy of it: it holds the key of all hashed identifiers",
            )
        return
    # raises NorthstarError for a file that is cut short, without which no other check can connect
    settings.known_secret("owner_password")
    for file in (
        settings.secrets_file,
        settings.home / "airflow" / "passwords.json",
        settings.home / "api_access.json",
    ):
        if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
            yield f"{file} can be read by other users than its owner", f"chmod 600 {file}"
            return
    yield ("only their owner can read them",)


def _ports(settings: Settings) -> Iterator[Observation]:
    running = {name for name, lives in service_states(settings).items() if lives}
    services = {
        "Postgres": (settings.home / "postgres.port", not settings.warehouse_url and embedded.is_running(settings)),
        "Airflow": (settings.home / "airflow" / "port", "api-server" in running),
        "the pages": (settings.home / "pages_port", "pages" in running),
        # it runs in the foreground of whoever started it
        "the API": (settings.home / "api_port", _is_api_up(settings)),
    }
    for service, (file, is_up) in services.items():
        if not file.exists():
            continue
        port = read_port(file)
        if port is None:
            yield f"{file} does not contain a port", f"rm {file}: the next start chooses one"
            continue
        with socket.socket() as probe:
            probe.settimeout(1)
            answers = probe.connect_ex(("127.0.0.1", port)) == 0
        if answers and not is_up:
            yield (
                f"port {port} of {service} is taken by another program",
                f"stop that program, or delete {file}: the next start then chooses another port, which readers have to know",
            )
        elif is_up and not answers:
            yield f"{service} is running but does not answer on port {port}", "restart it: `make stop`, `make run`"
        else:
            yield (f"{service} on port {port}",)


def _is_api_up(settings: Settings) -> bool:
    if not (settings.home / "api_port").exists():
        return False
    # it imports a web server
    from northstar.use.api.serve import is_answering

    return is_answering(settings)


def _airflow(settings: Settings) -> Iterator[Observation]:
    database_version = read_word(settings.home / "airflow" / "migrated")
    if database_version not in (None, version("apache-airflow")):
        yield (
            f"its database is at version {database_version}, but {version('apache-airflow')} is installed",
            "`make stop`, then `make run` migrates it",
        )
    states = service_states(settings)
    dead_services = [name for name, lives in states.items() if not lives]
    if dead_services:
        yield (
            f"{', '.join(dead_services)} ended without being stopped",
            f"see {settings.logs}/{dead_services[0]}.log; `make run` starts them again",
        )
    elif "api-server" in states:
        sick_parts = [part for part, health in api_health(settings).items() if health != "healthy"]
        if sick_parts:
            yield f"{', '.join(sick_parts)}: not healthy", f"see {settings.logs}; `make stop`, `make run`"
    if states and not dead_services:
        yield (f"{', '.join(states)} are running",)


def _sources(settings: Settings) -> Iterator[Observation]:
    for name, source in read_sources(settings).items():
        try:
            yield (f"{name}: {open_source(settings, source).check()}",)
        except NorthstarError as exc:
            yield f"{name}: {exc}", f"fix the system or its connection; `northstar sources check {name}` tries again"


def _own_seeds(settings: Settings) -> Iterator[Observation]:
    try:
        check_own_seeds(settings)
    except ConfigError as exc:
        yield str(exc), "correct the file: until then no run begins"
        return
    for name in settings.own_seeds:
        yield (f"{settings.config / name}.csv replaces the release's {name}",)


def _spark(settings: Settings) -> Iterator[Observation]:
    if settings.operations.wide_engine == "spark":
        found, master = list(wide.troubles(settings)), settings.operations.spark_master
        yield from found
        if master.startswith("spark://") and not any(map(_answers, master.removeprefix("spark://").split(","))):
            yield f"no master answers at {master}", "start it, or correct `spark_master` in operations.yml"
        elif not found:
            yield (f"builds the models with the tag wide, on {master}",)


def _answers(address: str) -> bool:
    """Whether somebody accepts connections at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def _lake(settings: Settings) -> Iterator[Observation]:
    try:
        store = open_store(settings)
        if store is not None:
            sizes = [size for name in WIDE_ENTITIES for size in store.sizes(name).values()]
            yield (f"{store.address}: {len(sizes)} files, {sum(sizes) >> 20} MB",)
    except NorthstarError as exc:
        yield str(exc), "until then nothing lands of what has many rows"


def _now() -> datetime:
    return datetime.now(UTC)


def _clock(settings: Settings, connection: Connection) -> Iterator[Observation]:
    asked_at = _now()
    server = fetch_one(connection.execute("select clock_timestamp() as at"))["at"]
    skew = server - (asked_at + (_now() - asked_at) / 2)
    if abs(skew) > MAX_SKEW:
        way = "ahead of" if skew > timedelta(0) else "behind"
        yield (
            f"the server's clock is {abs(skew).total_seconds():.0f} s {way} this machine's",
            "synchronise both clocks (NTP): as_of depends on them",
        )
    else:
        yield ("the clocks of the server and of this machine agree",)


def _versions(settings: Settings, connection: Connection) -> Iterator[Observation]:
    number = connection.info.server_version // 10000
    if number < OLDEST_POSTGRES:
        yield f"Postgres {number} is too old", f"Northstar needs {OLDEST_POSTGRES} or newer"
    if fetch_one(connection.execute("select to_regclass('audit.migrations') as t"))["t"] is None:
        yield "the warehouse is missing, or from a version without migrations", "the next run sets it up"
        return
    rows = connection.execute("select * from audit.migrations order by number").fetchall()
    for row in rows:
        if row["applied_at"] is None:
            yield (
                f"migration {row['number']:04}_{row['name']} failed: {row['message']}",
                "fix the cause; the next run tries it again",
            )
    applied_rows = [r for r in rows if r["applied_at"] is not None]
    try:
        migrations.require_compatible(
            [as_shape(migrations.AppliedMigration, r) for r in applied_rows], migrations.load_migrations()
        )
    except migrations.IncompatibleMigrations as exc:
        yield exc.problem, exc.advice
        return
    pending = [m for m in migrations.load_migrations() if m.number not in {r["number"] for r in rows}]
    if pending:
        yield f"{len(pending)} migrations are pending, the first is {pending[0].title}", "the next run applies them"
    yield (f"the newest applied migration is {max((r['number'] for r in applied_rows), default=0):04}",)


def _roles(settings: Settings, connection: Connection) -> Iterator[Observation]:
    names = {role: db.role_name(settings, role) for role in db.ROLES}
    role_rows = connection.execute("select * from pg_roles where rolname = any(%s)", [list(names.values())]).fetchall()
    roles = {role: r for role, name in names.items() for r in role_rows if r["rolname"] == name}
    schemas = {r["nspname"] for r in connection.execute("select nspname from pg_namespace")}
    is_wrong = False
    for role in db.ROLES:
        if role not in roles:
            is_wrong = True
            yield f"the role {names[role]} is missing", SETUP_ADVICE
        elif roles[role]["rolsuper"] or roles[role]["rolcreaterole"] or roles[role]["rolcreatedb"]:
            is_wrong = True
            yield (
                f"the role {names[role]} has more rights than it needs",
                f"alter role {names[role]} nosuperuser nocreaterole nocreatedb",
            )
        else:
            try:
                db.connect(settings, role).close()
            except NorthstarError as exc:
                is_wrong = True
                yield f"the role {names[role]} cannot log in: {exc}", SETUP_ADVICE
    for schema in SCHEMAS:
        if schema not in schemas:
            is_wrong = True
            yield f"the schema {schema} is missing", SETUP_ADVICE
    for role, schema, privilege in GRANTS:
        if role in roles and schema in schemas:
            closed_tables = connection.execute(
                "select c.relname from pg_class as c where c.relnamespace = %(schema)s::regnamespace and c.relkind in ('r', 'v') "
                "and not (has_schema_privilege(%(role)s, c.relnamespace, 'usage') and (c.relkind = 'v' and %(privilege)s != 'select' or "
                "has_table_privilege(%(role)s, c.oid, %(privilege)s))) order by 1",
                {"role": names[role], "schema": schema, "privilege": privilege},
            ).fetchall()
            closed_tables = [
                r["relname"] for r in closed_tables
                if (schema, r["relname"]) not in PRIVATE and not (schema == "audit" and role not in WRITERS.get(r["relname"], db.ROLES))
            ]  # fmt: skip
            if closed_tables:
                is_wrong = True
                more = f" and {len(closed_tables) - 1} more" if len(closed_tables) > 1 else ""
                yield f"{names[role]} may not {privilege} {schema}.{closed_tables[0]}{more}", SETUP_ADVICE
    if "bi_reader" in roles:
        open_schemas = [
            s for s in SCHEMAS if s in schemas and s not in OPEN_TO_READERS
            and fetch_one(connection.execute("select has_schema_privilege(%s, %s, 'usage') as may", [names["bi_reader"], s]))["may"]
        ]  # fmt: skip
        for schema in open_schemas:
            is_wrong = True
            yield (
                f"{names['bi_reader']} may read {schema}, which is not audited",
                f"revoke usage on schema {schema} from {names['bi_reader']}",
            )
        unguarded_tables = connection.execute(
            "select relname as name from pg_class where relnamespace = to_regnamespace('marts_history') and relkind = 'r' and not relrowsecurity "
            "and has_table_privilege(%s, oid, 'select') order by 1", [names["bi_reader"]],
        ).fetchall()  # fmt: skip
        for table in unguarded_tables:
            is_wrong = True
            yield (
                f"{names['bi_reader']} may read all of marts_history.{table['name']}, including groups that are withheld now",
                f"alter table marts_history.{table['name']} enable row level security",
            )
    for name in unguarded_by_limits(connection, settings):
        is_wrong = True
        yield (
            f"roles of readers.yml may read all of {name}: it has no policy for them",
            f"revoke select on {name} from {db.role_name(settings, db.LIMITED)}",
        )
    for words in unknown_in_roles(connection, settings):
        is_wrong = True
        yield (
            f"{words}, of which nothing is published",
            "correct readers.yml if it is mistyped; until then the role sees less",
        )
    for role, _, difference in role_settings.find_changes(connection, settings):
        is_wrong = True
        yield (
            f"{db.role_name(settings, role)} has a changed setting: {difference}",
            "the next run, or `northstar setup`, restores it",
        )
    if not is_wrong:
        yield (f"{', '.join(names.values())} have the rights that they need, and no more",)


# schemas that readers may use; in marts_history a policy of each table limits the rows that they see
OPEN_TO_READERS = ("marts", "marts_history", "marts_at_version", "explain", "subscriptions")
# tables that no role but their owner uses
PRIVATE = {("audit", "bootstrapped"), ("audit", "migrations"), ("core", "touched"), ("core", "touched_periods")}


def _tables(settings: Settings, connection: Connection) -> Iterator[Observation]:
    existing_tables = landed_columns(connection)
    for entity in entities().values():
        missing_columns = set(entity.stored_columns) - set(existing_tables.get(entity.name, {}))
        if entity.name not in existing_tables:
            yield f"staging.{entity.name} is missing", SETUP_ADVICE
        elif missing_columns:
            yield f"staging.{entity.name} has no column {sorted(missing_columns)[0]}", SETUP_ADVICE
    bloated_tables = connection.execute(
        "select schemaname || '.' || relname as name, n_dead_tup as dead, n_live_tup as live from pg_stat_user_tables "
        "where schemaname = any(%s) and n_dead_tup > %s and n_dead_tup > n_live_tup order by n_dead_tup desc limit 5",
        [list(SCHEMAS), BLOATED_ROWS],
    ).fetchall()
    for row in bloated_tables:
        yield (
            f"{row['name']} is bloated: {row['dead']:,} dead rows, {row['live']:,} live ones",
            "`northstar maintain` cleans up",
        )
    if len(existing_tables) == len(entities()) and not bloated_tables:
        yield (f"all {len(existing_tables)} landed tables exist, and none is bloated",)


def _indexes(settings: Settings, connection: Connection) -> Iterator[Observation]:
    invalid_indexes = connection.execute(
        "select indexrelid::regclass::text as name from pg_index join pg_class as c on c.oid = indexrelid "
        "where not (indisvalid and indisready) and c.relnamespace = any(%s::text[]::regnamespace[]) order by 1",
        [list(SCHEMAS)],
    ).fetchall()
    for row in invalid_indexes:
        yield (
            f"the index {row['name']} is invalid: it neither finds rows nor keeps them unique",
            f"reindex index {row['name']}",
        )
    existing_indexes = {
        r["indexname"]
        for r in connection.execute("select indexname from pg_indexes where schemaname = 'staging'").fetchall()
    }
    expected_indexes = {key_index_name(e) for e in entities().values()} | {
        n for e in entities().values() for n in secondary_indexes(e)
    }
    for name in sorted(expected_indexes - existing_indexes)[:5]:
        yield f"the index staging.{name} is missing", SETUP_ADVICE
    if not invalid_indexes and expected_indexes <= existing_indexes:
        yield (f"all {len(expected_indexes)} indexes of the landed tables exist and are valid",)


def _checksums(settings: Settings, connection: Connection) -> Iterator[Observation]:
    rows = connection.execute(
        "select datname, checksum_failures as n from pg_stat_database where checksum_failures > 0"
    ).fetchall()
    for row in rows:
        yield (
            f"{row['n']} pages of the database {row['datname']} are damaged",
            "repair the disk and restore a backup (docs/operations.md)",
        )
    if not rows:
        yield ("no damaged page has been found",)


def _archive(settings: Settings, connection: Connection) -> Iterator[Observation]:
    archive_directory = settings.operations.wal_archive
    if settings.warehouse_url:
        yield ("the external Postgres has its own",)
        return
    if not archive_directory:
        yield ("the write-ahead log is not archived: a backup can only be restored as of its own time",)
        return
    if fetch_one(connection.execute("show archive_mode"))["archive_mode"] != "on":
        yield (
            "the write-ahead log is not archived yet",
            "`northstar stop` (or `make stop`) and start again: the setting takes effect at a start",
        )
        return
    archiver = fetch_one(connection.execute("select * from pg_stat_archiver"))
    failed_at, archived_at = archiver["last_failed_time"], archiver["last_archived_time"]
    if failed_at and (archived_at is None or failed_at > archived_at):
        yield (
            f"segment {archiver['last_failed_wal']} could not be archived to {archive_directory} since {show_utc(failed_at)}",
            "make sure that it is a directory with free space that Postgres may write to; until then the log grows in the home",
        )
    else:
        yield (f"newest segment {archiver['last_archived_wal'] or 'none yet'} in {archive_directory}",)


def _writer(settings: Settings, connection: Connection) -> Iterator[Observation]:
    writer = turn_lock.current_turn(connection)
    stale_runs = connection.execute(
        "select run_id, started_at from audit.runs where state = 'running' and run_id not in (select run_id from audit.writer_lease) order by 1"
    ).fetchall()
    if writer and writer["is_over"]:
        yield (
            f"run {writer['run_id']} ({writer['holder']}) has the turn to write, but its process is gone",
            f"the next run takes it over; `northstar unlock {writer['run_id']}` ends it now",
        )
    for run in stale_runs:
        yield (
            f"run {run['run_id']} of {show_utc(run['started_at'])} is recorded as running, but no process works on it",
            "the next run closes it",
        )
    last_run = connection.execute(
        "select * from audit.runs where state != 'running' order by run_id desc limit 1"
    ).fetchone()
    if last_run and last_run["state"] == "failed":
        yield f"the last run, {last_run['run_id']}, failed: {last_run['message']}", "docs/runbooks.md, run_failed"
    elif last_run:
        yield (f"the last run, {last_run['run_id']}, published version {last_run['published_version']}",)


def _published(settings: Settings, connection: Connection) -> Iterator[Observation]:
    if fetch_one(connection.execute("select to_regclass('marts.publications') as t"))["t"] is None:
        yield "nothing has been published yet", "`northstar run` or `make run`"
        return
    newest_publication = connection.execute(
        "select * from marts.publications order by published_version desc limit 1"
    ).fetchone()
    if newest_publication is None:
        yield "nothing has been published yet", "`northstar run` or `make run`"
        return
    age = _now() - newest_publication["published_at"]
    says = f"version {newest_publication['published_version']} was published {age.total_seconds() / 3600:.1f} h ago"
    judgements = judge_promises(settings, connection, _now())
    is_late = any(j.is_late for j in judgements if j.kind == "mart")
    yield (says, "docs/runbooks.md, data_late") if is_late else (says,)
    for judgement in judgements:
        if judgement.is_late and judgement.kind == "source":
            yield judgement.describe(), "docs/runbooks.md, source_overdue"
    if newest_publication["restores_version"]:
        yield (
            f"a rollback is published: the marts are those of version {newest_publication['restores_version']}",
            "the next run publishes current numbers again",
        )
    if newest_publication["code_version"] != code_version(settings):
        yield (
            f"it was made by other models or rules ({newest_publication['code_version']}) than this checkout has ({code_version(settings)})",
            "the next run rebuilds everything; or check out the commit that its certificate names",
        )


def _own_names(settings: Settings, connection: Connection) -> Iterator[Observation]:
    if fetch_one(connection.execute("select to_regclass('core.series_states') as t"))["t"] is not None:
        for warning in unknown_names(settings, connection):
            yield warning, "correct the name, or leave it if it is still to come"


def _warnings(settings: Settings, connection: Connection) -> Iterator[Observation]:
    warnings = newest_warnings(connection)
    for warning in warnings:
        yield (f"warning     {warning}",)
    if not warnings:
        yield ("the newest audit warned of nothing",)


def _alerts(settings: Settings, connection: Connection) -> Iterator[Observation]:
    yield (open_alerts(connection) or "none is open",)
    if unevaluated := unevaluated_run(connection):
        yield (f"alerts      {unevaluated}",)


def _upkeep(settings: Settings, connection: Connection) -> Iterator[Observation]:
    last_upkeep = connection.execute("select * from audit.maintenance order by maintenance_id desc limit 1").fetchone()
    if last_upkeep and last_upkeep["succeeded"] is False:
        yield f"the last maintenance failed: {last_upkeep['message']}", "docs/runbooks.md, maintenance_failed"
    elif last_upkeep and last_upkeep["finished_at"]:
        yield (f"done {show_utc(last_upkeep['finished_at'])}",)


CHECKS_WITHOUT_DATABASE: dict[str, Callable[[Settings], Iterator[Observation]]] = {
    "disk": _disk,
    "secrets": _secrets,
    "ports": _ports,
    "airflow": _airflow,
    "sources": _sources,
    "own seeds": _own_seeds,
    "lake": _lake,
    "spark": _spark,
}
DATABASE_CHECKS: dict[str, Callable[[Settings, Connection], Iterator[Observation]]] = {
    "clock": _clock, "versions": _versions, "roles": _roles, "tables": _tables, "indexes": _indexes, "checksums": _checksums,
    "archive": _archive, "writer": _writer, "published": _published, "own names": _own_names, "audit": _warnings, "alerts": _alerts, "upkeep": _upkeep,
}  # fmt: skip
