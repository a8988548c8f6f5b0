"""Backup and restore of a home whose Postgres is embedded.

A backup is a directory: `postgres/` (what pg_basebackup copies from the running server, with the log that makes it consistent), the
home's own files, and `backup.json`, which describes it. With an archive of the write-ahead log (operations.yml) a restore can go to any
moment after the backup. The secrets are not in it: whoever has both the data and the key of the hashed identifiers can tell whose data it is.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, TypedDict

import psycopg
from psycopg.rows import dict_row

from northstar.base.errors import NorthstarError
from northstar.base.files import read_end, read_json, sync_directory, write_private
from northstar.base.progress import Progress
from northstar.base.settings import HOME_VERSION, REPLACEABLE_SEEDS, Settings
from northstar.warehouse import db, embedded
from northstar.warehouse.embedded import server
from northstar.warehouse.rows import Connection, as_shape, fetch_one

FORMAT_VERSION = 1
DESCRIPTION_FILE = "backup.json"
# the end of the name of the directory in which a backup is made; it is renamed when the backup is complete
UNFINISHED = ".new"
PROOF_SECRETS = ("pii_key", "owner_password")
LATEST: Final = "latest"
# a moment, the end of the archive, or None: the moment of the backup
ToTime = datetime | Literal["latest"] | None
RECOVERY_SECONDS = 4 * 3600


class BackupDescription(TypedDict):
    """The content of backup.json. secrets: the digest that `_proof` makes; times are in ISO 8601."""

    form: int
    started_at: str
    ended_at: str
    home: str
    home_version: int
    postgres: str
    published_version: int | None
    wal_archive: str | None
    secrets: str
    bytes: int


def backup(
    settings: Settings, to: Path, secrets_to: Path | None = None, progress: Progress = print
) -> BackupDescription:
    """Copy a home, while it is in use, into the new directory `to`; returns the content of `backup.json`.

    secrets_to: a file to write the home's secrets to, which should be kept elsewhere. Raises NorthstarError for an external Postgres, a
    directory that is not empty, a server that still runs as an older version started it, or a copy that does not verify; then nothing is
    left in `to`.
    """
    if settings.warehouse_url:
        raise NorthstarError(
            "this warehouse is an external Postgres: back it up with its own tools (docs/operations.md)"
        )
    if not (settings.home / "postgres" / "PG_VERSION").exists():
        raise NorthstarError(f"{settings.home} has no warehouse yet; `make run` or `northstar run` creates one")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise NorthstarError(f"{to} is not empty; give each backup a directory of its own")
    with db.connect(settings, "owner", autocommit=True) as connection:
        if fetch_one(connection.execute("show wal_level"))["wal_level"] == "minimal":
            raise NorthstarError(
                "Postgres is still running with the options of an older version: run `northstar stop`, then back up again"
            )
        published_version = None
        if fetch_one(connection.execute("select to_regclass('marts.publications') as t"))["t"]:
            published_version = fetch_one(
                connection.execute("select max(published_version) as v from marts.publications")
            )["v"]
        postgres = connection.info.parameter_status("server_version") or ""
    unfinished = to.with_name(f".{to.name}{UNFINISHED}")
    unfinished.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(unfinished):
        return _make_backup(settings, unfinished, to, secrets_to, postgres, published_version, progress)


def _make_backup(
    settings: Settings, unfinished: Path, to: Path, secrets_to: Path | None, postgres: str, published_version: int | None, progress: Progress
) -> BackupDescription:  # fmt: skip
    try:
        _empty_directory(unfinished)
        started_at = datetime.now(UTC)
        _copy(settings, unfinished / "postgres")
        ended_at = datetime.now(UTC)
        progress("copied; verifying ...")
        _verify(unfinished / "postgres")
        for file in _written_files(settings.home):
            shutil.copy(file, unfinished / file.name)
        about: BackupDescription = {
            "form": FORMAT_VERSION, "started_at": started_at.isoformat(), "ended_at": ended_at.isoformat(), "home": str(settings.home),
            "home_version": HOME_VERSION, "postgres": postgres, "published_version": published_version,
            "wal_archive": settings.operations.wal_archive, "secrets": _proof(settings.secret),
            "bytes": sum(f.stat().st_size for f in (unfinished / "postgres").rglob("*") if f.is_file()),
        }  # fmt: skip
        write_private(unfinished / DESCRIPTION_FILE, json.dumps(about, indent=1))
        if secrets_to:
            _write_secrets(settings, secrets_to)
        # `to` may exist if it is empty
        unfinished.rename(to)
        sync_directory(to.parent)
    except BaseException:
        _empty_directory(unfinished)
        unfinished.rmdir()
        raise
    return about


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes from using a directory while the context lasts. Raises NorthstarError when another process has it."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise NorthstarError(f"another backup is being made in {directory}; let it finish, or stop it") from exc
        yield
    finally:
        os.close(descriptor)


def _empty_directory(directory: Path) -> None:
    """Empty a directory in which a backup was interrupted; ends the processes that still write to it."""
    server.remove_data_directory(directory / "postgres")
    for leftover_file in directory.iterdir():
        leftover_file.unlink()


def restore(source: Path, settings: Settings, to_time: ToTime = None, secrets: Path | None = None,
            archive: Path | None = None, progress: Progress = print) -> int | None:  # fmt: skip
    """Make the new home of `settings` from a backup; returns its published version.

    to_time: a moment after the backup's end, or "latest" for the end of the archive; None is the moment of the backup. archive: where the
    archive is now, if it was moved. Raises NorthstarError when a part is missing or wrong, and leaves no half-made home behind.
    """
    about = _read_description(source)
    if settings.warehouse_url:
        raise NorthstarError("a restore creates a home with its own Postgres; unset NORTHSTAR_WAREHOUSE_URL")
    data = settings.home / "postgres"
    if server.is_complete(data) and not server.is_half_copied(data):
        raise _warehouse_exists_error(settings)
    recovery = _recovery_options(about, source, to_time, archive)
    home_secrets = _read_secrets(about, source, secrets)
    if settings.secrets_file.exists() and _read_secrets_file(settings.secrets_file) != (home_secrets or {}):
        raise _warehouse_exists_error(settings)
    progress("verifying the backup ...")
    _verify(source / "postgres")
    with server.lock(settings), server.new_data_directory(data, is_copied=True) as unfinished:
        shutil.copytree(source / "postgres", unfinished, dirs_exist_ok=True)
        if to_time is not None:
            (unfinished / "recovery.signal").touch()
        progress("recovering ...")
        password = os.environ.get("NORTHSTAR_SECRET_OWNER_PASSWORD") or (home_secrets or {})["owner_password"]
        version = _run_recovery(settings, unfinished, password, recovery, to_time)
        for file in _written_files(source):
            text = file.read_text()
            write_private(settings.home / file.name, _without_archive(text) if file.name == "operations.yml" else text)
        if home_secrets is not None:
            write_private(settings.secrets_file, json.dumps(home_secrets, indent=1))
    embedded.ensure_running(settings)
    return version


def _written_files(directory: Path) -> list[Path]:
    """The files of a home, or of its backup, that people write, and its VERSION."""
    own_seeds = [directory / f"{name}.csv" for name in REPLACEABLE_SEEDS]
    return [*directory.glob("*.yml"), *(file for file in own_seeds if file.exists()), directory / "VERSION"]


def _warehouse_exists_error(settings: Settings) -> NorthstarError:
    return NorthstarError(f"{settings.home} already has a warehouse; restore into a new --home")


def _read_description(source: Path) -> BackupDescription:
    content = read_json(source / DESCRIPTION_FILE)
    if content is None:
        raise NorthstarError(f"{source} is not a backup: it has no readable {DESCRIPTION_FILE}")
    about = as_shape(BackupDescription, content)
    if about["form"] != FORMAT_VERSION or about["home_version"] != HOME_VERSION:
        raise NorthstarError(f"{source} was made by another version of Northstar; restore it with that one")
    major, own_major = about["postgres"].partition(".")[0], server.major_version()
    if major != own_major:
        raise NorthstarError(
            f"{source} was made with Postgres {major}, and this is Postgres {own_major}; restore it with the checkout that made it"
        )
    return about


def _recovery_options(about: BackupDescription, source: Path, to_time: ToTime, archive: Path | None) -> dict[str, str]:
    """The server's options for the recovery: none for the moment of the backup."""
    if to_time is None:
        return {}
    place = archive or (about["wal_archive"] and Path(about["wal_archive"]))
    if not place:
        raise NorthstarError(
            "no write-ahead log was archived for this backup, so it can only be restored as of its own time; leave out --to-time"
        )
    if not place.is_dir():
        raise NorthstarError(f"there is no archive in {place}; give its directory with --archive")
    ended_at = datetime.fromisoformat(about["ended_at"])
    options = {
        "restore_command": server.restore_command(server.check_archive(str(place))),
        "recovery_target_action": "promote",
    }
    if not isinstance(to_time, datetime):
        return options
    if to_time < ended_at:
        raise NorthstarError(
            f"{to_time:%Y-%m-%dT%H:%M:%SZ} is before the end of this backup ({ended_at:%Y-%m-%dT%H:%M:%SZ}); use an older backup"
        )
    if to_time > datetime.now(UTC) + timedelta(minutes=1):
        raise NorthstarError(f"{to_time:%Y-%m-%dT%H:%M:%SZ} is in the future")
    return options | {"recovery_target_time": to_time.isoformat()}


def _read_secrets(about: BackupDescription, source: Path, secrets: Path | None) -> dict[str, str] | None:
    """The home's secrets from the file `secrets`; None when the environment has them instead.

    Raises NorthstarError when they are not the secrets of the home that was backed up.
    """
    home_secrets = None
    if secrets is not None:
        home_secrets = _read_secrets_file(secrets)
    proving_secrets = {
        name: os.environ.get(f"NORTHSTAR_SECRET_{name.upper()}") or (home_secrets or {}).get(name)
        for name in PROOF_SECRETS
    }
    if None in proving_secrets.values():
        raise NorthstarError(
            "a backup does not hold the secrets: give the file that `northstar backup --secrets` wrote, or the old home's secrets.json, with --secrets"
        )
    if _proof(lambda name: proving_secrets[name] or "") != about["secrets"]:
        raise NorthstarError(
            "these are the secrets of another home: with them nobody could log in, and identifiers would get other hashes"
        )
    return home_secrets


def _proof(secret: Callable[[str], str]) -> str:
    # the secrets are 192 random bits each: a digest of them gives nothing away
    return hashlib.sha256("\n".join(secret(name) for name in PROOF_SECRETS).encode()).hexdigest()


def _read_secrets_file(file: Path) -> dict[str, str]:
    home_secrets = read_json(file)
    if home_secrets is None:
        raise NorthstarError(f"{file} does not hold the secrets of a home")
    return home_secrets


def _write_secrets(settings: Settings, to: Path) -> None:
    names = _read_secrets_file(settings.secrets_file) if settings.secrets_file.exists() else {}
    to.parent.mkdir(parents=True, exist_ok=True)
    write_private(to, json.dumps({name: settings.secret(name) for name in (*PROOF_SECRETS, *names)}, indent=1))


def _without_archive(operations: str) -> str:
    """The operations.yml of a restored home, without wal_archive: it must not write into the archive of the home that was backed up."""
    return re.sub(
        r"(?m)^(wal_archive\s*:.*)$",
        r"# the archive of the home that was backed up; this home needs its own: \1",
        operations,
    )


def _run_recovery(
    settings: Settings, data: Path, password: str, recovery: dict[str, str], to_time: ToTime
) -> int | None:
    """Start the server and wait until it has recovered; returns the published version.

    It does not connect through `northstar.warehouse.db`, which would start a server that gave up.
    """
    deadline = time.monotonic() + RECOVERY_SECONDS
    try:
        port = server.recover(settings, data, recovery)

        def open_database(database: str) -> Connection:
            return psycopg.connect(
                host="127.0.0.1", port=port, user=server.Server.user, password=password, dbname=database, autocommit=True, row_factory=dict_row
            )  # fmt: skip

        with open_database("postgres") as connection:
            while fetch_one(connection.execute("select pg_is_in_recovery() as it_is"))["it_is"]:
                if time.monotonic() > deadline:
                    raise NorthstarError(
                        f"the recovery has not ended after four hours; see {settings.logs}/postgres.log"
                    )
                time.sleep(0.2)
        with open_database(db.DATABASE) as connection:
            # its holder works on the home that was backed up, not on this one
            connection.execute("delete from audit.writer_lease")
            publications_table = fetch_one(connection.execute("select to_regclass('marts.publications') as t"))["t"]
            query = "select max(published_version) as v from marts.publications"
            version: int | None = fetch_one(connection.execute(query))["v"] if publications_table else None
            return version
    except (NorthstarError, psycopg.OperationalError) as exc:
        # only for a moment: the log may also hold the message of an earlier try that asked for one
        if isinstance(to_time, datetime) and "recovery ended before" in read_end(settings.logs / "postgres.log"):
            raise NorthstarError(
                f"the archive ends before {to_time:%Y-%m-%dT%H:%M:%SZ}; `--to-time latest` restores all that is there"
            ) from exc
        raise NorthstarError(f"the recovery failed: {str(exc).splitlines()[0]}") from exc


def _copy(settings: Settings, to: Path) -> None:
    port, env = server.ensure_running(settings).port, {**os.environ, "PGPASSWORD": db.password(settings, "owner")}
    process = subprocess.run(
        [server.binaries() / "pg_basebackup", "-h", "127.0.0.1", "-p", str(port), "-U", server.Server.user, "-D", str(to), "-X", "stream",
         "-c", "fast", "--manifest-checksums=SHA256", "--no-password"],
        capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if process.returncode:
        messages = (
            [line for line in process.stderr.splitlines() if "error" in line]
            or process.stderr.splitlines()
            or ["no message"]
        )
        raise NorthstarError(f"could not copy the database: {messages[0].strip()}")


def _verify(copy: Path) -> None:
    """Compare a copy with its manifest, file by file. (The pg_verifybackup that comes with the binaries ends with a segmentation fault.)

    Raises NorthstarError naming the first file that is missing or differs from what was copied.
    """
    try:
        manifest_bytes = (copy / "backup_manifest").read_bytes()
        manifest = json.loads(manifest_bytes)
    except (OSError, json.JSONDecodeError) as exc:
        raise NorthstarError(f"{copy} is damaged: it has no readable manifest; use another backup") from exc
    if (
        hashlib.sha256(manifest_bytes[: manifest_bytes.rindex(b'"Manifest-Checksum"')]).hexdigest()
        != manifest["Manifest-Checksum"]
    ):
        raise NorthstarError(f"{copy} is damaged: its manifest was changed; use another backup")
    for entry in manifest["Files"]:
        # the manifest gives a path that is not UTF-8 in hexadecimal
        path = copy / (entry["Path"] if "Path" in entry else os.fsdecode(bytes.fromhex(entry["Encoded-Path"])))
        try:
            with path.open("rb") as file:
                is_same = hashlib.file_digest(file, "sha256").hexdigest() == entry["Checksum"]
        except OSError:
            is_same = False
        if not is_same:
            raise NorthstarError(f"{copy} is damaged: {path.name} is missing or was changed; use another backup")
