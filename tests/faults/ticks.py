"""Where a process is in its work, counted by what it does to the world: files, programs, connections, statements. At one of them it dies."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress

import psutil

# what the interpreter tells of, by the beginning of its name; opening a file counts if it is opened for writing
EVENTS = ("os.", "shutil.", "subprocess.", "socket.connect", "sqlite3.connect")
UNCOUNTED = ("os.listdir", "os.scandir", "os.fwalk", "os.walk")
KINDS = ("process", "group", "machine")


class Ticks:
    """Counts, and kills at the `at`-th tick (None: never), or `delay` seconds after it.

    kind: this process alone, so that what it started goes on; its group, which it leads; or also the home's server and services, as when the machine
    goes down (what the operating system had not written yet is not lost by it).
    """

    def __init__(self, home: str, at: int | None = None, delay: float = 0, kind: str = "process"):
        self.home, self.at, self.delay, self.kind, self.count = home, at, delay, kind, 0
        self._dying, self.programs = False, []

    def watch(self) -> None:
        """Count from now on, in this process."""
        import psycopg
        from adbc_driver_manager import dbapi
        from dbt.adapters.sql.connections import SQLConnectionManager

        for owner, names in (
            (psycopg.Cursor, ("execute", "executemany")),
            (psycopg.Connection, ("commit",)),
            (dbapi.Cursor, ("execute", "adbc_ingest")),
            (SQLConnectionManager, ("add_query",)),
        ):
            for name in names:
                setattr(owner, name, self._counted(getattr(owner, name)))
        sys.addaudithook(self._hear)

    def _counted(self, function):
        def call(*args, **options):
            self.tick()
            return function(*args, **options)

        return call

    def _hear(self, event: str, args: tuple) -> None:
        if event == "open":
            is_written = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        else:
            is_written = event.startswith(EVENTS) and event not in UNCOUNTED
        if is_written:
            self.tick()
        if event == "subprocess.Popen":
            self.programs.append(self.count)

    def tick(self) -> None:
        self.count += 1
        if self.count != self.at or self._dying:
            return
        self._dying = True
        if self.delay:
            threading.Timer(self.delay, self._die).start()
        else:
            self._die()

    def _die(self) -> None:
        if self.kind == "machine":
            self._fall()
        if self.kind != "process":
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def _fall(self) -> None:
        """All at once, as a machine does: no thread of this process sees that its server is gone before it is gone itself."""
        servers = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                # Postgres, and what `make run` has started
                if process.cwd().startswith(self.home):
                    servers.append(process.pid)
        me, group = os.getpid(), os.getpgid(0)
        if os.fork():
            while True:
                time.sleep(1)
        os.setsid()
        os.kill(me, signal.SIGSTOP)
        for number in servers:
            with suppress(OSError):
                os.kill(number, signal.SIGKILL)
        with suppress(OSError):
            os.killpg(group, signal.SIGKILL)
        os._exit(0)
