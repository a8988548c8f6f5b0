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
import time
from contextlib import contextmanager
from pathlib import Path

import psutil

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.connections.dag_runs import has_ended
from northstar.warehouse import db

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
# the server hears a moment later that a process is gone
ENDING_SECONDS = 60
POLL_SECONDS = 2
# Airflow is asked this often whether the DAG run that is waited for has ended
ASK_SECONDS = 30
# {run_id: the connection on which this process holds the lock for its turn}
_OWN: dict[int, object] = {}
_LOCKED = (
    "select exists (select 1 from pg_locks where locktype = 'advisory' and granted and (classid, objid, objsubid) = (0, %s, 1) "
    "and database = (select oid from pg_database where datname = current_database())) as is_locked"
)


def take(settings: Settings, holder: str, is_own: bool, wait: bool = False) -> int:
    """Take the turn; returns the run_id that it has.

    holder: who writes, in words; of a DAG run `<dag_id> <run_id>`. is_own: the turn ends with this process; otherwise it is a DAG run's.
    wait: until the other's turn is over, instead of refusing.
    Raises NorthstarError when it is another's turn.
    """
    connection = _open(settings)
    try:
        run_id = connection.execute("select nextval('audit.run_ids') as id").fetchone()["id"]
        _wait_for_turn(settings, connection, run_id, holder, is_own, wait)
    except BaseException:
        connection.close()
        raise
    if is_own:
        _OWN[run_id] = connection
    else:
        connection.close()
    return run_id


def give_back(settings: Settings, run_id: int) -> None:
    """End the turn of a run, if it still has it."""
    try:
        with db.connect(settings, "transformer", autocommit=True, is_awaited=True) as connection:
            connection.execute("delete from audit.writer_lease where run_id = %s", [run_id])
    finally:
        held = _OWN.pop(run_id, None)
        if held is not None:
            held.close()


@contextmanager
def working(settings: Settings, run_id: int):
    """A connection that keeps others from taking the turn while the context lasts, though this process were stopped for hours.

    Raises NorthstarError when the turn is another's by now.
    """
    with db.telling_of_loss(settings), _open(settings) as connection:
        connection.execute("select pg_advisory_lock_shared(%s)", [WRITING_LOCK])
        if not connection.execute("select 1 from audit.writer_lease where run_id = %s", [run_id]).fetchone():
            raise over(run_id)
        yield connection


@contextmanager
def turn(settings: Settings, what: str, wait: bool = False):
    """The turn for something that is no run, such as a replay, for as long as the context lasts; gives its number.

    wait: until the other's turn is over. Raises NorthstarError when it is another's, and for a home that no run has set up.
    """
    with db.telling_of_loss(settings):
        number = take(settings, what, is_own=True, wait=wait)
    try:
        with working(settings, number):
            yield number
    finally:
        give_back(settings, number)


def unlock(settings: Settings, run_id: int) -> str:
    """End the turn of a run on which nobody works any more; returns who had it.

    Raises NorthstarError when a stage of it is at work, or when it is not that run's turn.
    """
    with _open(settings) as connection:
        if not _try_lock(connection):
            raise taken(holding(connection), is_at_work=True)
        row = connection.execute("delete from audit.writer_lease where run_id = %s returning holder", [run_id]).fetchone()  # fmt: skip
        if row is None:
            other = holding(connection)
            raise NorthstarError(
                f"run {other['run_id']} has the turn, not {run_id}" if other else "nobody has the turn"
            )
        connection.execute(
            "update audit.runs set state = 'failed', finished_at = clock_timestamp(), message = coalesce(message, 'unlocked by hand') "
            "where run_id = %s and state = 'running'",
            [run_id],
        )
    return row["holder"]


def holding(connection) -> dict | None:
    """The row of audit.writer_lease, with `is_over`: whether the next who asks may take the turn. None where nobody has it."""
    row = connection.execute("select * from audit.writer_lease").fetchone()
    if row is None:
        return None
    # of an older release's home, which had time-outs instead
    row.setdefault("is_dag_run", False)
    is_locked = connection.execute(_LOCKED, [WRITING_LOCK]).fetchone()["is_locked"]
    return row | {"is_over": not is_locked and (not row["is_dag_run"] or is_dead(row))}


def over(run_id: int) -> NorthstarError:
    """The error of a run that has lost its turn."""
    return NorthstarError(
        f"run {run_id} is not running any more: it lost its turn to another, or was ended; start a new one"
    )


def statements(run_id: int, is_session: bool = False, by_hand: bool = False) -> tuple[str, str, str]:
    """SQL that keeps the turn (until the transaction ends, or the session), the last of which tells whether it was lost before.

    Each is one of its own: what the last one sees has to be as it is once the lock is held. by_hand: nobody need have the turn.
    """
    return (
        LEAVE_WITH_CLIENT.format(is_local=str(not is_session).lower()),
        f"select pg_advisory_{'' if is_session else 'xact_'}lock_shared({WRITING_LOCK})",
        (LOST_TO_ANOTHER if by_hand else LOST).format(run=int(run_id)),
    )


def keep(connection, run_id: int | None, is_session: bool = False, by_hand: bool = False) -> None:
    """Keep the turn on a psycopg connection: until its transaction ends, or for as long as it lives.

    run_id: None is for whoever was called without a turn. by_hand: nobody need have it. Raises NorthstarError where it is another's by now.
    """
    if run_id is None:
        return
    *hold, lost = statements(run_id, is_session, by_hand)
    connection.execute("; ".join(hold))
    if connection.execute(lost).fetchone()["is_lost"]:
        raise over(run_id)


def taken(row: dict | None, is_at_work: bool = False) -> NorthstarError:
    """The error of who finds that it is another's turn. is_at_work: its process, or a stage of its DAG run, holds the lock."""
    who = f"run {row['run_id']} ({row['holder']})" if row else "another run"
    since = f" since {row['taken_at']:%H:%M:%S} UTC" if row else ""
    advice = "wait for it to end and run again"
    if row and row["is_dag_run"] and not is_at_work:
        advice += f" (`northstar unlock {row['run_id']}` where Airflow has forgotten it)"
    return NorthstarError(f"{who} is writing to this warehouse{since}; {advice}")


def is_dead(row: dict) -> bool:
    """Whether the process that a row of audit.writer_lease stands for is gone; False where nobody can tell from here."""
    if row["process_id"] is None or row["host"] != machine():
        return False
    began = _began(row["process_id"])
    return began is None or row["process_began"] not in (None, began)


def machine() -> str:
    """This machine as its processes see it: containers of one name, and a machine before and after it was started anew, differ."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def _open(settings: Settings):
    connection = db.connect(settings, "transformer", autocommit=True)
    # the lock ends with its connection, which must not end for being idle, nor outlive a machine that is gone by hours
    connection.execute("set idle_session_timeout = 0; set tcp_keepalives_idle = 30; set tcp_keepalives_interval = 10")
    return connection


def _try_lock(connection) -> bool:
    return connection.execute("select pg_try_advisory_lock(%s) as is_free", [WRITING_LOCK]).fetchone()["is_free"]


def _wait_for_turn(settings: Settings, connection, run_id: int, holder: str, is_own: bool, wait: bool) -> None:
    deadline, asked_at, ended = time.monotonic() + ENDING_SECONDS, {}, None
    while True:
        is_ending, is_at_work = False, not _try_lock(connection)
        if not is_at_work:
            other = _claim(connection, run_id, holder, is_own, ended)
            if other is None and is_own:
                # held from now on: there is no moment in between in which it seems that nobody works
                connection.execute("select pg_advisory_lock_shared(%s)", [WRITING_LOCK])
            connection.execute("select pg_advisory_unlock(%s)", [WRITING_LOCK])
            if other is None:
                return
            # asked without the lock, which the other's stages want
            if time.monotonic() - asked_at.get(other["run_id"], float("-inf")) > ASK_SECONDS:
                asked_at[other["run_id"]] = time.monotonic()
                if has_ended(settings, other["holder"]):
                    ended = other["run_id"]
                    continue
        else:
            other = connection.execute("select * from audit.writer_lease").fetchone()
            is_ending = other is not None and is_dead(other) and time.monotonic() < deadline
        if not (wait or is_ending):
            raise taken(other, is_at_work)
        time.sleep(0.1 if is_ending else POLL_SECONDS)


def _claim(connection, run_id: int, holder: str, is_own: bool, ended: int | None) -> dict | None:
    """Take the turn, under the lock; returns the other's that stands in the way, or None. ended: the run of a DAG run that has ended."""
    other = connection.execute("select * from audit.writer_lease").fetchone()
    # the lock was free, so of a command's process nothing lives; the same DAG run again is a later try of a task that died
    if other is not None and other["is_dag_run"]:
        is_again = other["holder"] == holder and not is_own
        if not (is_again or is_dead(other) or other["run_id"] == ended):
            return other
    process = os.getpid() if is_own else _scheduler()
    connection.execute(
        "insert into audit.writer_lease (run_id, holder, is_dag_run, host, process_id, process_began, taken_at) values (%(run)s, %(holder)s, "
        "%(is_dag_run)s, %(host)s, %(pid)s, %(began)s, clock_timestamp()) on conflict (only_one) do update set run_id = excluded.run_id, "
        "holder = excluded.holder, is_dag_run = excluded.is_dag_run, host = excluded.host, process_id = excluded.process_id, "
        "process_began = excluded.process_began, taken_at = excluded.taken_at",
        {"run": run_id, "holder": holder, "is_dag_run": not is_own, "host": machine(), "pid": process, "began": process and _began(process)},
    )  # fmt: skip
    return None


def _scheduler() -> int | None:
    """The process without which a DAG's run cannot go on: the scheduler whose executor runs this task; None where that is elsewhere."""
    titles = ((p, " ".join(p.cmdline())) for p in psutil.Process().parents())
    return next((p.pid for p, title in titles if "airflow" in title and " scheduler" in title), None)


def _began(process_id: int) -> str | None:
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
