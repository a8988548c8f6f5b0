"""Sessions of the warehouse that a run keeps for its next user, as a pooler would.

A run connects some fifty times, mostly for one statement. Each time costs the server a process with empty caches, and both sides a log-in:
together more than all of these statements. No pool of a library is used, because those open sessions in threads of their own, and a run's
processes fork.
"""

import os
import select
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from threading import Lock
from types import TracebackType

import psycopg
from psycopg.rows import DictRow

_lock = Lock()
# the process in which sessions are kept, how many contexts keep them, and those that nobody uses
_process, _depth = 0, 0
_idle: dict[Hashable, list["Reusable"]] = {}


class Reusable(psycopg.Connection[DictRow]):
    """A connection whose session may be kept when the `with` that opened it ends. `close` closes it in any case."""

    _place: Hashable = None

    def keep_as(self, place: Hashable) -> None:
        """Have the session kept for the next who takes it by its place, if sessions are kept now and it is in order then."""
        if _is_kept():
            self._place = place
            # what psycopg remembers of prepared statements would outlive them
            self.prepare_threshold = None

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Commit, or roll back after an error, as psycopg does; then keep or close the session."""
        place, self._place = self._place, None
        if place is None or self.closed or not _is_kept():
            super().__exit__(exc_type, exc_val, exc_tb)
            return
        try:
            if exc_type is None:
                self.commit()
        except BaseException:
            self.close()
            raise
        if self._is_discarded():
            with _lock:
                if _depth:
                    _idle.setdefault(place, []).append(self)
                    return
        self.close()

    def _is_discarded(self) -> bool:
        """Put the session back to what it was when it began: no settings, temporary tables or locks of a session. False if it cannot be."""
        try:
            self.rollback()
            self.autocommit = True
            self.execute("discard all")
        except psycopg.Error:
            return False
        return True


@contextmanager
def reuse_sessions() -> Iterator[None]:
    """Keep sessions of the warehouse inside, for whoever connects next with the same address and options in this process; at the end they are closed."""
    global _process, _depth
    with _lock:
        if _process != os.getpid():
            # those of the process that this one was forked from are its own
            _process, _depth = os.getpid(), 0
            _idle.clear()
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            left = [] if _depth else [session for sessions in _idle.values() for session in sessions]
            if not _depth:
                _idle.clear()
        for session in left:
            session.close()


def take_idle(place: Hashable) -> Reusable | None:
    """A kept session of a place (the address, role and options that it was opened with), for the caller alone; None if there is none."""
    while _is_kept():
        with _lock:
            if not (sessions := _idle.get(place)):
                return None
            session = sessions.pop()
        # a server says nothing to an idle session, unless it ends it
        if not session.closed and not select.select([session.fileno()], [], [], 0)[0]:
            return session
        session.close()
    return None


def _is_kept() -> bool:
    return _depth > 0 and _process == os.getpid()
