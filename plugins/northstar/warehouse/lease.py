"""Whose turn it is to write to the warehouse: one run, or one command that changes what stands there, at a time.

`audit.writer_lease` names the holder. No clock ends a turn:

- a command's process holds WRITING_LOCK, shared, on a connection of its own until its turn ends, so the lock tells whether it lives,
  wherever it runs;
- a DAG run's stages are processes of their own, perhaps on several machines: each holds the lock while it works, between them the turn is
  the DAG run's until `close_run` gives it back, its scheduler is gone, or Airflow says that the DAG run has ended;
- whoever takes a turn holds the lock exclusively for that moment: no stage of anybody else is at work then.

A stage's own connection may be lost without its process noticing: it was stopped, and its server restarted or its network cut; another run took
the turn. Come to life again it opens new connections and would go on. So each transaction that changes what is landed, built or published holds the lock
itself and looks first (`keep`): where the turn is another's by now it changes nothing.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from northstar.base.errors import LeaseHeld, LeaseLost
from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, HeldTurn, Turn, one, shaped

# of the warehouse's database: shared by whoever writes in its turn, exclusive for whoever takes the turn
WRITING_LOCK = 7041778
# a backend whose client was killed keeps what it locked until its statement ends, unless it looks for its client meanwhile; an external
# server's platform may not be able to
LEAVE_WITH_CLIENT = (
    "do $do$ begin perform set_config('client_connection_check_interval', '2s', {is_local}); "
    "exception when others then null; end $do$"
)
LOST = "select not exists (select 1 from audit.writer_lease where run_id = {run}) as is_lost"
# of a run that may be a number and nothing more: landing and audit can be called by hand, and then nobody has the turn
LOST_TO_ANOTHER = (
    "select exists (select 1 from audit.writer_lease where run_id <> {run}) or exists (select 1 from audit.runs where run_id = {run} "
    "and state = 'failed') as is_lost"
)
_LOCKED = (
    "select exists (select 1 from pg_locks where locktype = 'advisory' and granted and (classid, objid, objsubid) = (0, %s, 1) "
    "and database = (select oid from pg_database where datname = current_database())) as is_locked"
)


@contextmanager
def working(settings: Settings, run_id: int) -> Iterator[Connection]:
    """A connection that keeps others from taking the turn while the context lasts, though this process were stopped for hours.

    Raises LeaseLost when the turn is another's by now.
    """
    with db.telling_of_loss(settings), open_connection(settings) as connection:
        connection.execute("select pg_advisory_lock_shared(%s)", [WRITING_LOCK])
        if not connection.execute("select 1 from audit.writer_lease where run_id = %s", [run_id]).fetchone():
            raise LeaseLost(run_id)
        yield connection


def holding(connection: Connection) -> HeldTurn | None:
    """The row of audit.writer_lease, with `is_over`: whether the next who asks may take the turn. None where nobody has it."""
    row = connection.execute("select * from audit.writer_lease").fetchone()
    if row is None:
        return None
    # of an older release's home, which had time-outs instead
    row.setdefault("is_dag_run", False)
    is_locked = one(connection.execute(_LOCKED, [WRITING_LOCK]))["is_locked"]
    is_over = not is_locked and (not row["is_dag_run"] or is_dead(shaped(Turn, row)))
    return shaped(HeldTurn, row | {"is_over": is_over})


def statements(run_id: int, is_session: bool = False, by_hand: bool = False) -> tuple[str, str, str]:
    """SQL that keeps the turn (until the transaction ends, or the session), the last of which tells whether it was lost before.

    Each is one of its own: what the last one sees has to be as it is once the lock is held. by_hand: nobody need have the turn.
    """
    return (
        LEAVE_WITH_CLIENT.format(is_local=str(not is_session).lower()),
        f"select pg_advisory_{'' if is_session else 'xact_'}lock_shared({WRITING_LOCK})",
        (LOST_TO_ANOTHER if by_hand else LOST).format(run=int(run_id)),
    )


def keep(connection: Connection, run_id: int | None, is_session: bool = False, by_hand: bool = False) -> None:
    """Keep the turn on a psycopg connection: until its transaction ends, or for as long as it lives.

    run_id: None is for whoever was called without a turn. by_hand: nobody need have it. Raises LeaseLost where it is another's by now.
    """
    if run_id is None:
        return
    *hold, lost = statements(run_id, is_session, by_hand)
    connection.execute("; ".join(hold))
    if one(connection.execute(lost))["is_lost"]:
        raise LeaseLost(run_id)


def taken(row: Turn | None, is_at_work: bool = False) -> LeaseHeld:
    """The error of who finds that it is another's turn. is_at_work: its process, or a stage of its DAG run, holds the lock."""
    holder = f"run {row['run_id']} ({row['holder']})" if row else "another run"
    since = f" since {row['taken_at']:%H:%M:%S} UTC" if row else ""
    advice = "wait for it to end and run again"
    if row and row["is_dag_run"] and not is_at_work:
        advice += f" (`northstar unlock {row['run_id']}` where Airflow has forgotten it)"
    return LeaseHeld(row["run_id"] if row else None, f"{holder} is writing to this warehouse{since}; {advice}")


def is_dead(row: Turn) -> bool:
    """Whether the process that a row of audit.writer_lease stands for is gone; False where nobody can tell from here."""
    if row["process_id"] is None or row["host"] != machine():
        return False
    process_began = began(row["process_id"])
    return process_began is None or row["process_began"] not in (None, process_began)


def machine() -> str:
    """This machine as its processes see it: containers of one name, and a machine before and after it was started anew, differ."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def open_connection(settings: Settings) -> Connection:
    """A connection of the transformer's to hold the lock on."""
    connection = db.connect(settings, "transformer", autocommit=True)
    # the lock ends with its connection, which must not end for being idle, nor outlive a machine that is gone by hours
    connection.execute("set idle_session_timeout = 0; set tcp_keepalives_idle = 30; set tcp_keepalives_interval = 10")
    return connection


def try_lock(connection: Connection) -> bool:
    """Take the lock exclusively where nobody holds it; whether that was so."""
    is_free: bool = one(connection.execute("select pg_try_advisory_lock(%s) as is_free", [WRITING_LOCK]))["is_free"]
    return is_free


def began(process_id: int) -> str | None:
    """When a process began, in words that no clock which is put right changes; None where there is no such process."""
    try:
        # ticks since the machine was started; the name before them may have blanks and brackets
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        # not Linux, or no such process
        pass
    try:
        return f"{psutil.Process(process_id).create_time():.0f}"
    except psutil.NoSuchProcess:
        return None
