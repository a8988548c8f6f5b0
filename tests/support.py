"""Helpers of several tests: source files from rows, runs of the job, the published marts as data."""

import contextlib
import json
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
from psycopg.types.json import Jsonb

from northstar.audit.worker import start_worker
from northstar.base.settings import Settings
from northstar.runs import job
from northstar.runs.preview.preview import preview
from northstar.warehouse import db, embedded
from tests.parsed_project import give_parse, keep_templates


@contextmanager
def changed_text(path: Path, was: str, now: str):
    """A file with a text in it replaced, for as long as the context lasts."""
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, now))
    try:
        yield
    finally:
        path.write_text(text)


def replace_entry(file: Path, beginning: str, entry: str) -> None:
    """Put an entry of a YAML file in the place of the one that begins with that line."""
    lines = file.read_text().splitlines(keepends=True)
    start = next(n for n, line in enumerate(lines) if line.startswith(beginning))
    depth = len(beginning) - len(beginning.lstrip())
    end = next(
        (n for n in range(start + 1, len(lines)) if lines[n].strip() and (len(lines[n]) - len(lines[n].lstrip()) < depth + 2)),
        len(lines),
    )  # fmt: skip
    file.write_text("".join([*lines[:start], entry, *lines[end:]]))


@contextmanager
def udp_receiver():
    """A UDP receiver on loopback; gives (its port, the list of the lines received so far)."""
    lines: list[str] = []
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))

    def listen():
        with contextlib.suppress(OSError):
            while True:
                lines.extend(receiver.recv(65536).decode().splitlines())

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield receiver.getsockname()[1], lines
    finally:
        receiver.close()


@contextmanager
def json_server(respond, fault_of=lambda path: None):
    """A JSON server on loopback for as long as the context lasts; gives its address.

    respond(path, query) returns the answer, (status, answer), or (status, answer, headers); a POST's body is its query.
    fault_of(path) returns what goes wrong with an answer: a status, `half`, `malformed`, `silence` (of half a second), or None.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            self.send_answer(respond(parts.path, query))

        def do_POST(self):
            self.send_answer(respond(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def send_answer(self, answer):
            status, answer, headers = (*answer, {})[:3] if isinstance(answer, tuple) else (200, answer, {})
            body, size = json.dumps(answer).encode(), None
            match fault_of(self.path):
                case int(failure):
                    status, headers, body = failure, {"Retry-After": "0"} if failure == 429 else {}, b"<h1>Sorry</h1>"
                case "half":
                    body, size = body[: len(body) // 2], len(body)
                case "malformed":
                    body = body[:-1] + b","
                case "silence":
                    time.sleep(0.5)
            # an answer's own Date is the server's present
            (self.send_response_only if "Date" in headers else self.send_response)(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(size or len(body)))
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def serving(server: HTTPServer):
    """Let a server answer for as long as the context lasts; gives its port."""
    # how often it looks whether it should end is what a test waits for at its end
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def northstar(settings: Settings, *arguments: str) -> subprocess.CompletedProcess:
    """Run a command of the command line on a home; returns its result."""
    command = [sys.executable, "-m", "northstar.cli", *arguments, "--home", str(settings.home)]
    return subprocess.run(command, capture_output=True, text=True)


def utc(text: str) -> datetime:
    """A UTC instant from ISO text without a zone."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def write_rows(source: Path, tables: dict, name: str = "rows") -> Path:
    """Write rows (dicts in contract shape) as SOURCE/<entity>/<name>.jsonl; returns the directory."""
    for entity, rows in tables.items():
        if rows:
            (source / entity).mkdir(parents=True, exist_ok=True)
            lines = [json.dumps(row, default=str) for row in rows]
            (source / entity / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return source


def silent(_: str) -> None:
    """Progress that nobody reads."""


WORKERS: dict = {}


def run(settings: Settings, source: Path, as_of: datetime, mode: str = "nightly") -> int:
    """One run of the job, with one auditor for all runs on a home; returns the published version."""
    if settings.home not in WORKERS:
        WORKERS[settings.home] = start_worker(settings)
    give_parse(settings)
    version = job.run(settings, mode, as_of, str(source), silent, worker=WORKERS[settings.home])
    keep_templates(settings)
    return version


def previewed_metrics(settings: Settings) -> set[str]:
    """The metrics that would change with the settings, as a preview has it, which also says that settings are the reason."""
    shown = preview(settings, progress=silent)
    assert set(map(tuple, shown.changed.values())) == {("setting",)}
    return {difference.counts["metric_id"] for difference in shown.metrics}


def query_as(settings: Settings, role: str, query: str, *values) -> list[dict]:
    """Rows of a query, as one of the roles."""
    with db.connect(settings, role) as connection:
        return connection.execute(query, values).fetchall()


def select(settings: Settings, query: str, *values) -> list[dict]:
    """Rows of the published marts, as the BI role."""
    return query_as(settings, "bi_reader", query, *values)


def select_at(settings: Settings, query: str, version: int) -> list[tuple]:
    """Rows of the marts as a version showed them, read as the transformer, which sees small groups too."""
    with db.connect(settings, "transformer") as connection:
        connection.execute("select set_config('northstar.version', %s, true)", [str(version)])
        connection.execute("set local search_path = marts_at_version, marts")
        return [tuple(row.values()) for row in connection.execute(query).fetchall()]


def published(settings: Settings) -> dict:
    """Every published mart with its rows as sorted text, the publisher's own columns left out."""
    tables = [
        r["table_name"]
        for r in select(
            settings, "select table_name from information_schema.tables where table_schema = 'marts' order by 1"
        )
        if r["table_name"] not in ("publications", "certificates", "recorded_marks", "marks")
    ]
    content = {}
    for table in tables:
        rows = select(settings, f"select * from marts.{table}")
        content[table] = sorted(
            str({k: v.normalize() if hasattr(v, "normalize") else v for k, v in r.items() if not k.startswith("_")})
            for r in rows
        )
    return content


SERIES_ID = "('x' || left(md5(row(%(metric)s::text, %(grain)s::text, %(application)s::text, ''::text, ''::text)::text), 16))::bit(64)::bigint"


def add_values(connection, metric: str, grain: str, application: str, rows: list[tuple]) -> None:
    """Publish values of a metric's total as a run would: (period_start, numerator, denominator, value) of consecutive periods.

    A series that exists begins earlier with them. All rows are marked, for `remove_values`.
    """
    place = {"metric": metric, "grain": grain, "application": application, "first": min(r[0] for r in rows)}
    place["id"] = connection.execute(f"select {SERIES_ID} as id", place).fetchone()["id"]
    for start, numerator, denominator, value in rows:
        connection.execute(
            "insert into marts.dim_periods (grain, period_start, period_end, _version) "
            "values (%s, %s, %s::timestamptz + case %s when 'quarter' then interval '3 months' else ('1 ' || %s)::interval end, -1) on conflict do nothing",
            [grain, start, start, grain, grain],
        )
        connection.execute(
            "insert into marts.metric_points (series_id, period_start, numerator, denominator, value, _version) values (%s, %s, %s, %s, %s, -1) "
            "on conflict do nothing", [place["id"], start, numerator, denominator, value],
        )  # fmt: skip
    connection.execute(
        "insert into marts.metric_series (series_id, metric_id, grain, application, segment, segment_value, begins_at, state, holds_from, holds_until, "
        "_version) select %(id)s, %(metric)s, %(grain)s, %(application)s, '', '', %(first)s, 'measured', %(first)s, "
        "(select min(holds_from) from marts.metric_series where series_id = %(id)s), -1 "
        "where not exists (select 1 from marts.metric_series where series_id = %(id)s and holds_from <= %(first)s)",
        place,
    )


def remove_values(connection) -> None:
    """Remove the rows that `add_values` added."""
    for table in ("metric_points", "metric_series", "dim_periods"):
        connection.execute(f"delete from marts.{table} where _version = -1")


@contextmanager
def longer_history(settings: Settings, months: int = 14, application: str = "all"):
    """Extend the published MRR of an application by so many earlier months, for as long as the context lasts."""

    def change(action, *values) -> None:
        with db.connect(settings, "owner") as connection:
            action(connection, *values)
            # readers that cached this version read it again
            connection.execute("update marts.publications set published_at = published_at + interval '1 second'")

    starts = [utc(f"{2025 - n // 12}-{12 - n % 12:02}-01") for n in range(1, months + 1)]
    rows = [(start, 5000 - 200 * n, None, 5000 - 200 * n) for n, start in enumerate(starts, 1)]
    change(add_values, "mrr", "month", application, rows)
    try:
        yield
    finally:
        change(remove_values)


@contextmanager
def later_versions(
    settings: Settings, *changes: list[tuple[str, str, str]], restatements: str = "", restores: int | None = None
):
    """Publish versions after the first by hand, for as long as the context lasts: one for each list of (mart, condition, assignment).

    restatements: a query for the rows of metric_restatements that the second version records. restores: the version that the last one restores.
    """
    versions = range(2, len(changes) + 2)
    with db.connect(settings, "owner") as connection:
        for version, rows in zip(versions, changes, strict=True):
            _copy_row(connection, "publications", version, restores if version == versions[-1] else None)
            _copy_row(connection, "certificates", version, None)
            for mart, condition, assignment in rows:
                columns = _history_columns(connection, mart)
                connection.execute(
                    f"insert into marts_history.{mart} ({columns}, _from_version, _to_version) "
                    f"select {columns}, _version, {version} from marts.{mart} where {condition}"
                )
                connection.execute(f"update marts.{mart} set {assignment}, _version = {version} where {condition}")
        if restatements:
            connection.execute(f"insert into marts.metric_restatements {restatements}")
    try:
        yield
    finally:
        with db.connect(settings, "owner") as connection:
            for mart in {mart for rows in changes for mart, _, _ in rows}:
                columns = _history_columns(connection, mart)
                connection.execute(f"delete from marts.{mart} where _version > 1")
                connection.execute(
                    f"insert into marts.{mart} ({columns}, _version) select {columns}, _from_version from marts_history.{mart} where _from_version = 1"
                )
                connection.execute(f"delete from marts_history.{mart}")
            for table, column in (
                ("metric_restatements", "new_version"),
                ("certificates", "published_version"),
                ("publications", "published_version"),
            ):
                connection.execute(f"delete from marts.{table} where {column} > 1")


def _history_columns(connection, mart: str) -> str:
    rows = connection.execute(
        "select quote_ident(attname) as name from pg_attribute where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped and attname !~ '^_' order by attnum",
        [f"marts_history.{mart}"],
    )
    return ", ".join(row["name"] for row in rows)


def _copy_row(connection, table: str, version: int, restores: int | None) -> None:
    """The first version's row of a table as another version's, an hour later for each."""
    connection.execute(
        f"insert into marts.{table} select (jsonb_populate_record(t, %s)).* from marts.{table} as t where published_version = 1",
        [Jsonb({"published_version": version} | ({"restores_version": restores} if table == "publications" else {}))],
    )
    if table == "publications":
        connection.execute(
            "update marts.publications set published_at = published_at + make_interval(secs => %s) where published_version = %s",
            [version, version],
        )


def find_needles(settings: Settings, needles: list[str]) -> set[tuple[str, str]]:
    """(needle, file or relation) for each place in the home that contains a needle, in upper or lower case: data files, logs, dbt's output, ..."""
    with db.connect(settings, "owner", autocommit=True) as connection:
        connection.execute("checkpoint")
    found = set()
    for path in settings.home.rglob("*"):
        if path.is_file() and path.name != "secrets.json":
            try:
                # the lake's files are compressed
                is_parquet = path.suffix == ".parquet"
                content = (str(pq.read_table(path).to_pylist()).encode() if is_parquet else path.read_bytes()).lower()
            except FileNotFoundError:
                continue
            found |= {(needle, path) for needle in needles if needle.lower().encode() in content}
    return {(needle, _relation(settings, path)) for needle, path in found}


def accessible_to_others(place: Path) -> list[str]:
    """The files and directories at or below `place` that users other than the owner can read or change. The right to enter a directory does not count."""
    found = [place, *place.rglob("*")]
    return [
        f"{stat.filemode(p.lstat().st_mode)} {p}" for p in found if not p.is_symlink() and p.lstat().st_mode & 0o067
    ]


def _relation(settings: Settings, path: Path) -> str:
    number = path.name.split(".")[0]
    if "base" in path.parts and number.isdigit():
        with db.connect(settings, "owner") as connection:
            return str(
                connection.execute("select pg_filenode_relation(0, %s)::regclass::text as r", [int(number)]).fetchone()[
                    "r"
                ]
            )
    return str(path.relative_to(settings.home))


class Snapshot:
    """A home's warehouse and a directory of source files, kept in `place` to be put back: a copy of files is quicker than a run by far."""

    def __init__(self, settings: Settings, source: Path, place: Path):
        self.settings, self.source, self.place = settings, source, place
        self._copy((self._data, place / "data"), (source, place / "source"))

    @property
    def _data(self) -> Path:
        return self.settings.home / "postgres"

    def put_back(self) -> None:
        """Make warehouse and files what they were, whatever has become of them."""
        self._copy((self.place / "data", self._data), (self.place / "source", self.source))

    def _copy(self, *pairs: tuple[Path, Path]) -> None:
        embedded.stop(self.settings)
        for origin, copy in pairs:
            shutil.rmtree(copy, ignore_errors=True)
            # with owners and times: the server may run as another user, and a file that changed is read again
            subprocess.run(["cp", "-a", "--reflink=auto", str(origin), str(copy)], check=True)
        embedded.ensure_running(self.settings)


def empty(settings: Settings) -> None:
    """Delete everything that was landed, built and published in a home, as if it were new."""
    with db.connect(settings, "owner") as connection:
        for schema in ("core", "marts_candidate", "marts", "marts_history"):
            tables = connection.execute(
                "select tablename from pg_tables where schemaname = %s and tablename not in "
                "('run_context', 'touched', 'touched_periods')",
                [schema],
            ).fetchall()
            for row in tables:
                connection.execute(f'drop table if exists {schema}."{row["tablename"]}" cascade')
        tables = connection.execute(
            "select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname in ('staging', 'quarantine', "
            "'audit', 'core', 'marts_at_version') and tablename not in ('bootstrapped', 'migrations')"
        ).fetchall()
        connection.execute(f"truncate {', '.join(r['name'] for r in tables)}")
