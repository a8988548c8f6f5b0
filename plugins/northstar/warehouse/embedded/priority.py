"""The priority of the job's processes: on a machine that it shares with readers, the job takes the processor time that they leave."""

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
# this includes parallel workers, which have the role of their leader
JOB_BACKENDS = "select pid from pg_stat_activity where usename in ('loader', 'transformer', 'publisher')"


def job_niceness(settings: Settings) -> int:
    """The niceness of the job's processes; 0 with an external server, whose readers are on another machine."""
    return 0 if settings.warehouse_url else settings.operations.job_niceness


def lower_priority(niceness: int) -> None:
    """Lower the priority of the calling thread, and of what it starts from then on, permanently."""
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), niceness))


@contextmanager
def lowered_priority(connect: Callable[[], Connection], niceness: int) -> Iterator[None]:
    """Lower the priority of the calling thread, of what it starts, and of the server's processes that work for the job.

    connect: opens a connection to a server on this machine. niceness: 0 (nothing is done) to 19.
    """
    if not niceness:
        yield
        return
    original_niceness, stop_event = os.getpriority(os.PRIO_PROCESS, 0), threading.Event()
    lower_priority(niceness)
    watcher = threading.Thread(target=_lower_job_backends, args=(connect, niceness, stop_event), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop_event.set()
        # not for longer: the thread may be waiting for a server that is recovering
        watcher.join(timeout=1)
        # only root may raise a priority
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, original_niceness)


def _lower_job_backends(connect: Callable[[], Connection], niceness: int, stop_event: threading.Event) -> None:
    lowered_pids: set[int] = set()
    # a lost server is no error here: whoever works with it reports that
    with suppress(psycopg.Error, NorthstarError), connect() as connection:
        while not stop_event.wait(SECONDS):
            job_pids = {row["pid"] for row in connection.execute(JOB_BACKENDS)}
            lowered_pids = (lowered_pids & job_pids) | {
                pid for pid in job_pids - lowered_pids if _lower_process(pid, niceness)
            }


def _lower_process(pid: int, niceness: int) -> bool:
    """Lower the priority of a process; returns whether that succeeded."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
        # with autogroups each session gets its share of the processor as a group, and each of the server's processes is a session: then the
        # niceness of the group counts
        if AUTOGROUP.exists() and AUTOGROUP.read_text().strip() == "1":
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
    except OSError:
        return False
    return True
