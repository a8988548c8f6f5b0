"""The job stands back for readers: on one machine it takes what processor time they leave."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.warehouse.rows import Connection

AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")
SECONDS = 0.2
# parallel workers carry the name of their leader's role
JOB_BACKENDS = "select pid from pg_stat_activity where usename in ('loader', 'transformer', 'publisher')"


def job_niceness(settings: Settings) -> int:
    """How far the job's processes stand back; not at all from an external server's readers, who are on another machine."""
    return 0 if settings.warehouse_url else settings.operations.job_niceness


def stand_back(niceness: int) -> None:
    """Lower the priority of the calling thread, and of what it starts from then on, for good."""
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), niceness))


@contextmanager
def standing_back(connect: Callable[[], Connection], niceness: int) -> Iterator[None]:
    """Lower the priority of the calling thread, of what it starts, and of the server's processes that work for the job.

    connect: opens a connection to a server on this machine. niceness: 0 (nothing is done) to 19.
    """
    if not niceness:
        yield
        return
    original_niceness, stop_event = os.getpriority(os.PRIO_PROCESS, 0), threading.Event()
    stand_back(niceness)
    watcher = threading.Thread(target=_watch, args=(connect, niceness, stop_event), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop_event.set()
        # which may be waiting for a server that is recovering
        watcher.join(timeout=1)
        # only an administrator may take it back
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, original_niceness)


def _watch(connect: Callable[[], Connection], niceness: int, ended: threading.Event) -> None:
    lowered_pids: set[int] = set()
    # a server that is gone is told of by who works with it
    with suppress(psycopg.Error, NorthstarError), connect() as connection:
        while not ended.wait(SECONDS):
            job_pids = {row["pid"] for row in connection.execute(JOB_BACKENDS)}
            lowered_pids = (lowered_pids & job_pids) | {pid for pid in job_pids - lowered_pids if _lower(pid, niceness)}


def _lower(pid: int, niceness: int) -> bool:
    """Whether the priority of a process was lowered."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
        # where sessions share the processor as groups, and each of the server's processes is a session, the group's counts
        if AUTOGROUP.exists() and AUTOGROUP.read_text().strip() == "1":
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
    except OSError:
        return False
    return True
