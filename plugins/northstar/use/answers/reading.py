"""How answers read: each in one transaction as `bi_reader`, which sees one published version from its first statement to its last."""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import psycopg
from cachetools import LRUCache
from psycopg.pq import TransactionStatus

from northstar.base.settings import Settings
from northstar.use.answers.refusals import Refused
from northstar.use.answers.shapes import Provenance
from northstar.use.marts import Marts, Metric, Published, first_rows
from northstar.warehouse import db
from northstar.warehouse.published.past import VersionNotShown, VersionWithheld, read_version, use_past_path
from northstar.warehouse.rows import Connection, Row

# what a caller may ask. metrics: everything that is no person's, company's or row's own. rows: the rows behind a number. customers: accounts
# by their ids. sql: any statement that bi_reader may run, which includes all of these
Scope = Literal["metrics", "rows", "customers", "sql"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
# answers that are made at the same time: each has a connection of its own, and others wait
CONNECTIONS = 6
# callers' own statements at the same time, of these: others are not kept waiting by slow ones
APART = 2
# how long one statement of an answer may take, and how long an answer waits for its turn
STATEMENT_SECONDS, WAIT_SECONDS = 20, 5
# the most rows that an answer reads
ROWS = 50_000
# versions whose catalogue is kept
KEPT = 8
# what is known of the newest version is read again after so long: forecasts are made after a publication, and make no new version
FRESH_SECONDS = 5.0
NEWEST = "select published_version, published_at from publications order by published_version desc limit 1"
BEGIN = "set transaction isolation level repeatable read, read only"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Known:
    """What can be named in a question about a version."""

    catalogue: dict[str, Metric]
    applications: list[str]


class Reading(Marts):
    """The marts of one version, for one answer. It is used by one thread.

    shown: the version. is_newest: whether it was the newest when the answer began. scopes: what the caller may ask.
    """

    def __init__(
        self, desk: "Desk", connection: Connection, version: int | None, scopes: Collection[Scope], seconds: float
    ):
        super().__init__(desk.settings, desk.role)
        self.desk, self.connection, self.scopes = desk, connection, frozenset(scopes)
        connection.execute(f"{BEGIN}; set local statement_timeout = '{int(seconds * 1000)}ms'")
        newest = desk.newest(self)
        if newest is None:
            raise Refused("not_published", "nothing has been published yet; the first run of `northstar run` does")
        self.is_newest = version is None or version == newest.version
        if version is not None and version != newest.version:
            try:
                read_version(connection, desk.settings, version)
            except VersionNotShown as exc:
                raise Refused("not_published", str(exc)) from exc
            except VersionWithheld as exc:
                raise Refused("withheld", str(exc)) from exc
            use_past_path(connection)
            newest = self._newest()
            if newest is None:
                raise Refused("not_published", f"version {version} was never published")
        self.shown: Published = newest
        if newest.time_zone:
            db.count_days_in(connection, newest.time_zone, is_local=True)

    @property
    def provenance(self) -> Provenance:
        """The version that the answer is from."""
        shown = self.shown
        return Provenance(shown.version, shown.as_of, shown.published_at, self.is_newest, list(shown.warnings))

    def require(self, scope: Scope) -> None:
        """Raises Refused for a caller who may not ask this."""
        require_scope(self.scopes, scope)

    def published(self) -> Published | None:
        """The version that is read."""
        return self.shown

    def remember(self, key: tuple[object, ...], make: Callable[[], Result]) -> Result:
        """The result of `make`, which is not kept: questions differ, and a version's catalogue is kept by the desk."""
        return make()

    def steadily(self, make: Callable[[], Result]) -> Result:
        """The result of `make`: the transaction sees one version."""
        return make()

    def catalogue(self) -> dict[str, Metric]:
        """The metrics of the version by id."""
        return self.desk.known(self).catalogue

    def applications(self) -> list[str]:
        """The applications of the version, 'all' first."""
        return self.desk.known(self).applications

    def find_known(self) -> Known:
        """What can be named in a question about the version, as the marts have it."""
        return Known(super().catalogue(), super().applications())

    def find_newest(self, known: Published | None) -> Published | None:
        """The version that is the newest in this transaction; `known` if that is it, which costs one short statement."""
        if known is not None:
            row = planned_rows(self.connection, NEWEST, {}, True)[0]
            if (row["published_version"], row["published_at"]) == (known.version, known.published_at):
                return known
        return self._newest()

    def few_rows(self, text: str, **parameters: object) -> list[Row]:
        """The rows of a statement that has a few only. The server keeps its plan, so the text must not depend on what is asked.

        A condition that a parameter may switch off keeps the server from that: leave it out of the text instead.
        """
        # the plan of another version's tables would be made anew each time, in turn with this one's
        return planned_rows(self.connection, text, parameters, self.is_newest)

    def _rows(self, text: str, parameters: dict[str, object]) -> list[Row]:
        rows = first_rows(self.connection, text, parameters, ROWS + 1)
        if len(rows) > ROWS:
            raise Refused("too_much", f"the answer has more than {ROWS:,} rows: ask for less at a time")
        return rows


def planned_rows(connection: Connection, text: str, parameters: dict[str, object], is_kept: bool) -> list[Row]:
    """The rows of a statement. is_kept: the server keeps its plan from the first time on."""
    return connection.execute(text, parameters, prepare=is_kept).fetchall()


def require_scope(scopes: Collection[Scope], scope: Scope) -> None:
    """Raises Refused for a caller with these scopes who may not ask this."""
    if scope not in scopes:
        raise Refused("not_allowed", f"this needs the scope {scope}, which the caller does not have")


class Desk:
    """Opens readings, on a few connections that are kept. It is thread-safe. role: of readers.yml; None: who sees everything."""

    def __init__(
        self,
        settings: Settings,
        connections: int = CONNECTIONS,
        seconds: float = STATEMENT_SECONDS,
        role: str | None = None,
    ):
        self.settings, self.seconds, self.role = settings, seconds, role
        self._turns, self._apart = threading.BoundedSemaphore(connections), threading.BoundedSemaphore(APART)
        self._desks: dict[str, Desk] = {}
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._newest: tuple[Published | None, float] = (None, 0.0)
        self._known: LRUCache[tuple[object, ...], Known] = LRUCache(KEPT)
        self._look_lock = threading.Lock()
        self._look_connection: Connection | None = None

    def of_role(self, role: str | None) -> "Desk":
        """The desk at which a role reads. It has its own connections and memory, and all desks of a home take turns.

        Raises Refused for a role that readers.yml no longer has.
        """
        if role == self.role:
            return self
        if role is None or role not in self.settings.readers.roles:
            raise Refused("not_allowed", "the role of this caller is not in readers.yml any more")
        with self._lock:
            if role not in self._desks:
                desk = self._desks[role] = Desk(self.settings, seconds=self.seconds, role=role)
                desk._turns, desk._apart = self._turns, self._apart
            return self._desks[role]

    @contextmanager
    def reading(
        self, scopes: Collection[Scope] = SCOPES, version: int | None = None, is_apart: bool = False
    ) -> Iterator[Reading]:
        """A reading of a version (None: the newest) for a caller with these scopes.

        is_apart: on a connection of its own, which is closed afterwards: a caller's own statement may leave something in its session.
        Raises Refused for a version that cannot be read, for an answer that takes too long, and when too many are asked for at once.
        """
        with ExitStack() as turns:
            for semaphore in (self._apart, self._turns) if is_apart else (self._turns,):
                if not semaphore.acquire(timeout=WAIT_SECONDS):
                    raise Refused("busy", "too many questions at once; ask again in a moment")
                turns.callback(semaphore.release)
            connection: Connection | None = None
            try:
                connection, reading = self._begin(scopes, version, is_apart)
                yield reading
            except psycopg.errors.QueryCanceled as exc:
                raise Refused(
                    "too_much", f"the answer takes longer than {self.seconds:g} s: ask for less at a time"
                ) from exc
            finally:
                self._end(connection, is_apart)

    def _begin(self, scopes: Collection[Scope], version: int | None, is_apart: bool) -> tuple[Connection, Reading]:
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle and not is_apart else None
            connection = kept or db.connect(self.settings, db.reader_role(self.role))
            try:
                return connection, Reading(self, connection, version, scopes, self.seconds)
            except psycopg.OperationalError:
                # the server was started anew since a kept connection was used
                is_lost = connection.closed
                connection.close()
                if kept is None or not is_lost:
                    raise
            except BaseException:
                self._end(connection, is_apart)
                raise

    def _end(self, connection: Connection | None, is_apart: bool) -> None:
        if connection is None:
            return
        with suppress(psycopg.Error):
            # nothing was written; the client library forgets prepared statements at a rollback
            if connection.info.transaction_status is TransactionStatus.INTRANS:
                connection.commit()
            connection.rollback()
            if not is_apart and not connection.closed:
                with self._lock:
                    self._idle.append(connection)
                return
        connection.close()

    def newest(self, reading: Reading) -> Published | None:
        """The newest version for a reading that begins."""
        with self._lock:
            known, read_at = self._newest
        is_fresh = time.monotonic() - read_at < FRESH_SECONDS
        found = reading.find_newest(known if is_fresh else None)
        if found is not known or not is_fresh:
            with self._lock:
                self._newest = found, time.monotonic()
        return found

    def still_newest(self) -> Published | None:
        """The newest version where it is the one that was read in the last seconds, which one short statement says; None where a reading has to look."""
        with self._lock:
            known, read_at = self._newest
        if known is None or time.monotonic() - read_at >= FRESH_SECONDS:
            return None
        with self._look_lock:
            try:
                if self._look_connection is None:
                    self._look_connection = db.connect(self.settings, db.reader_role(self.role), autocommit=True)
                row = self._look_connection.execute(NEWEST, prepare=True).fetchone()
            except psycopg.OperationalError:
                # the server was started anew, or does not answer: a reading connects again, or says so
                if self._look_connection is not None:
                    self._look_connection.close()
                self._look_connection = None
                return None
        is_same = row is not None and (row["published_version"], row["published_at"]) == (
            known.version,
            known.published_at,
        )
        return known if is_same else None

    def known(self, reading: Reading) -> Known:
        """What can be named in a question about the reading's version."""
        key = (reading.shown.version, reading.shown.published_at)
        with self._lock:
            kept = self._known.get(key)
        if kept is not None:
            return kept
        known = reading.find_known()
        with self._lock:
            self._known[key] = known
        return known

    def close(self) -> None:
        """Close the connections that are kept."""
        for desk in self._desks.values():
            desk.close()
        with self._lock:
            connections, self._idle = self._idle, []
        with self._look_lock:
            if self._look_connection is not None:
                connections.append(self._look_connection)
            self._look_connection = None
        for connection in connections:
            connection.close()
