"""Migrations: numbered changes to the warehouse's own tables. Each is applied once, in order, and recorded in `audit.migrations`.

A migration is a file NNNN_what.sql in this directory. It runs in the transaction that brings a home to this version
(northstar.warehouse.setup), before the landed tables are compared with the contract. A migration that changes `staging.<entity>` uses `alter
table if exists`, because a new home has no such table yet. It writes the plain names of roles (loader, transformer, publisher, bi_reader),
which are replaced by the home's own; it uses these words for nothing else. A released file is never changed; a mistake in it is corrected by
the next migration.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import psycopg

from northstar.base.errors import NorthstarError
from northstar.warehouse.rows import Connection, fetch_all_as

FOLDER = Path(__file__).parent
JOURNAL = """
create table if not exists audit.migrations (
    number int primary key, name text not null, digest text not null, applied_at timestamptz, seconds numeric, message text
)
"""


@dataclass(frozen=True)
class Migration:
    """One numbered change."""

    number: int
    name: str
    text: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        return f"{self.number:04}_{self.name}"


class AppliedMigration(TypedDict):
    """A row of audit.migrations: the columns that a version is compared with."""

    number: int
    name: str
    digest: str


def load_migrations(folder: Path = FOLDER) -> list[Migration]:
    """The migrations of this version, in order."""
    files = sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [Migration(int(f.stem[:4]), f.stem[5:], f.read_text()) for f in files]


def apply(
    connection: Connection, known: list[Migration] | None = None, replace_names: Callable[[str], str] = str
) -> list[Migration]:
    """Apply the migrations that the warehouse lacks, in the caller's transaction; returns those that were applied.

    known: the migrations of this version. replace_names: puts the names of this home's roles into a migration's text.
    Raises NorthstarError for a warehouse that a newer version has changed, and when a migration fails, naming it.
    """
    known = load_migrations() if known is None else known
    connection.execute(JOURNAL)
    applied_rows = connection.execute("select * from audit.migrations where applied_at is not null")
    applied_by_number = {r["number"]: r for r in fetch_all_as(AppliedMigration, applied_rows)}
    require_compatible(list(applied_by_number.values()), known)
    pending = [m for m in known if m.number not in applied_by_number]
    for migration in pending:
        started = time.monotonic()
        try:
            connection.execute(replace_names(migration.text))
        except psycopg.Error as exc:
            raise MigrationFailed(migration, exc) from exc
        connection.execute(
            "insert into audit.migrations values (%s, %s, %s, clock_timestamp(), %s, null) on conflict (number) do update set "
            "name = excluded.name, digest = excluded.digest, applied_at = excluded.applied_at, seconds = excluded.seconds, message = null",
            [migration.number, migration.name, migration.digest, round(time.monotonic() - started, 3)],
        )
    return pending


def require_compatible(applied: list[AppliedMigration], known: list[Migration]) -> None:
    """Raise NorthstarError when an applied migration is newer than this version, or differs from its own of the same number."""
    own_migrations = {m.number: m for m in known}
    for row in sorted(applied, key=lambda r: r["number"]):
        title = f"{row['number']:04}_{row['name']}"
        if row["number"] not in own_migrations:
            raise IncompatibleMigrations(
                f"this warehouse belongs to a newer version (migration {title}; this version has migrations up to {max(own_migrations):04})",
                "update the checkout, or use another --home",
            )
        if own_migrations[row["number"]].digest != row["digest"]:
            raise IncompatibleMigrations(
                f"the migration {title} that this warehouse has had differs from this version's {own_migrations[row['number']].title}",
                "restore the released file, and write a new migration for the change",
            )


class IncompatibleMigrations(NorthstarError):
    """A warehouse whose applied migrations are not those of this version. problem: in words; advice: what to do."""

    def __init__(self, problem: str, advice: str):
        super().__init__(f"{problem}: {advice}")
        self.problem, self.advice = problem, advice


class MigrationFailed(NorthstarError):
    """A migration that Postgres refused. Nothing of it, or of the migrations in the same transaction, was kept."""

    def __init__(self, migration: Migration, cause: psycopg.Error):
        self.migration, self.cause = migration, cause.diag.message_primary or str(cause).splitlines()[0]
        super().__init__(
            f"migration {migration.title} failed: {self.cause}; the warehouse is as it was, and the previous version still runs on it"
        )

    def record(self, connection: Connection) -> None:
        """Record the failure, in a transaction of its own."""
        connection.execute(JOURNAL)
        connection.execute(
            "insert into audit.migrations values (%s, %s, %s, null, null, %s) on conflict (number) do update set message = excluded.message",
            [self.migration.number, self.migration.name, self.migration.digest, self.cause],
        )
