"""Take the turn to write, give it back, and end the turn of a run that is gone (northstar.warehouse.turn_lock says what a turn is)."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress, no_progress
from northstar.base.settings import Settings
from northstar.connections.dag_runs import has_ended
from northstar.publish.approval import describe_pending_approval
from northstar.warehouse import db, turn_lock
from northstar.warehouse.rows import Connection, Turn, as_shape, fetch_one

# the server notices only some time later that a process is gone
ENDING_SECONDS = 60
POLL_SECONDS = 2
# how often Airflow is asked whether the DAG run that has the turn has ended
ASK_SECONDS = 30
# {run_id: the connection on which this process holds the lock for its turn}
_OWN: dict[int, Connection] = {}


def take_turn(
    settings: Settings, holder: str, is_own: bool, wait: bool = False, progress: Progress = no_progress
) -> int:
    """Take the turn; returns the run_id that it has.

    holder: who writes, in words; for a DAG run `<dag_id> <run_id>`. is_own: whether the turn ends with this process; otherwise it belongs to a
    DAG run. wait: wait until the current turn is over, instead of refusing. progress: is told whom it waits for.
    Raises NorthstarError when another run or command has the turn.
    """
    connection = turn_lock.open_connection(settings)
    try:
        run_id: int = fetch_one(connection.execute("select nextval('audit.run_ids') as id"))["id"]
        _wait_for_turn(settings, connection, run_id, holder, is_own, wait, progress)
    except BaseException:
        connection.close()
        raise
    if is_own:
        _OWN[run_id] = connection
    else:
        connection.close()
    return run_id


def give_turn_back(settings: Settings, run_id: int) -> None:
    """End the turn of a run, if it still has it."""
    try:
        with db.connect(settings, "transformer", autocommit=True, is_awaited=True) as connection:
            connection.execute("delete from audit.writer_lease where run_id = %s", [run_id])
    finally:
        own_connection = _OWN.pop(run_id, None)
        if own_connection is not None:
            own_connection.close()


def move_turn(settings: Settings, run_id: int) -> None:
    """Note that the scheduler which runs this task goes on with the DAG run that has the turn: another one may have taken it, and be gone."""
    process = _scheduler_pid()
    with turn_lock.open_connection(settings) as connection:
        connection.execute(
            "update audit.writer_lease set host = %s, process_id = %s, process_began = %s where run_id = %s",
            [turn_lock.machine_id(), process, process and turn_lock.process_start(process), run_id],
        )


@contextmanager
def command_turn(settings: Settings, holder: str, wait: bool = False) -> Iterator[int]:
    """Have the turn, for a command that is no run (such as a replay), for as long as the context lasts; gives the turn's number.

    wait: wait until the current turn is over. Raises NorthstarError when another has the turn, and for a home that no run has set up.
    """
    with db.translate_driver_errors(settings):
        number = take_turn(settings, holder, is_own=True, wait=wait)
    try:
        with turn_lock.hold_turn(settings, number):
            yield number
    finally:
        give_turn_back(settings, number)


def unlock(settings: Settings, run_id: int) -> str:
    """End the turn of a run that no process works on; returns who had it.

    Raises NorthstarError when one of its stages is at work, or when that run does not have the turn.
    """
    with turn_lock.open_connection(settings) as connection:
        if not turn_lock.try_lock(connection):
            raise turn_lock.turn_taken_error(turn_lock.current_turn(connection), is_at_work=True)
        row = connection.execute("delete from audit.writer_lease where run_id = %s returning holder", [run_id]).fetchone()  # fmt: skip
        if row is None:
            current_turn = turn_lock.current_turn(connection)
            raise NorthstarError(
                f"run {current_turn['run_id']} has the turn, not {run_id}" if current_turn else "nobody has the turn"
            )
        connection.execute(
            "update audit.runs set state = 'failed', finished_at = clock_timestamp(), message = coalesce(message, 'unlocked by hand') "
            "where run_id = %s and state = 'running'",
            [run_id],
        )
    holder: str = row["holder"]
    return holder


def _wait_for_turn(
    settings: Settings, connection: Connection, run_id: int, holder: str, is_own: bool, wait: bool, progress: Progress
) -> None:
    deadline = time.monotonic() + ENDING_SECONDS
    asked_at: dict[int, float] = {}
    ended_run: int | None = None
    told = ""
    while True:
        is_ending, is_at_work = False, not turn_lock.try_lock(connection)
        if not is_at_work:
            other_turn = _claim(connection, run_id, holder, is_own, ended_run)
            if other_turn is None and is_own:
                # taken before the exclusive lock is released: at no moment does it look as if nobody works
                connection.execute("select pg_advisory_lock_shared(%s)", [turn_lock.WRITING_LOCK])
            connection.execute("select pg_advisory_unlock(%s)", [turn_lock.WRITING_LOCK])
            if other_turn is None:
                return
            # Airflow is asked after the lock is released, because the stages of the other run need it
            if time.monotonic() - asked_at.get(other_turn["run_id"], float("-inf")) > ASK_SECONDS:
                asked_at[other_turn["run_id"]] = time.monotonic()
                if has_ended(settings, other_turn["holder"]):
                    ended_run = other_turn["run_id"]
                    continue
        else:
            other_turn = _read_turn(connection)
            # without a turn whoever holds the lock is at its end, or about to say that it has the turn
            is_gone = other_turn is None or turn_lock.is_holder_gone(other_turn)
            is_ending = is_gone and time.monotonic() < deadline
        if not (wait or is_ending):
            raise turn_lock.turn_taken_error(other_turn, is_at_work)
        if other_turn and (words := _describe_wait(connection, other_turn)) != told:
            progress(words)
            told = words
        time.sleep(0.1 if is_ending else POLL_SECONDS)


def _claim(connection: Connection, run_id: int, holder: str, is_own: bool, ended_run: int | None) -> Turn | None:
    """Take the turn, while holding the lock. Returns None, or the turn of another that stands in the way.

    ended_run: the run_id of a DAG run that Airflow says has ended.
    """
    other_turn = _read_turn(connection)
    # the lock was free, so no command's process is alive; the same DAG run asking again is a retry of a task that died
    if other_turn is not None and other_turn["is_dag_run"]:
        is_again = other_turn["holder"] == holder and not is_own
        if not (is_again or turn_lock.is_dag_run_gone(connection, other_turn) or other_turn["run_id"] == ended_run):
            return other_turn
    process = os.getpid() if is_own else _scheduler_pid()
    connection.execute(
        "insert into audit.writer_lease (run_id, holder, is_dag_run, host, process_id, process_began, taken_at) values (%(run)s, %(holder)s, "
        "%(is_dag_run)s, %(host)s, %(pid)s, %(began)s, clock_timestamp()) on conflict (only_one) do update set run_id = excluded.run_id, "
        "holder = excluded.holder, is_dag_run = excluded.is_dag_run, host = excluded.host, process_id = excluded.process_id, "
        "process_began = excluded.process_began, taken_at = excluded.taken_at",
        {"run": run_id, "holder": holder, "is_dag_run": not is_own, "host": turn_lock.machine_id(), "pid": process, "began": process and turn_lock.process_start(process)},
    )  # fmt: skip
    return None


def _describe_wait(connection: Connection, other_turn: Turn) -> str:
    approval_text = describe_pending_approval(connection)
    return f"waiting for run {other_turn['run_id']} ({other_turn['holder']})" + (
        f"; {approval_text}" if approval_text else ""
    )


def _read_turn(connection: Connection) -> Turn | None:
    row = connection.execute("select * from audit.writer_lease").fetchone()
    return None if row is None else as_shape(Turn, row)


def _scheduler_pid() -> int | None:
    """The process id of the scheduler whose executor runs this task, without which the DAG run cannot go on; None if it runs elsewhere."""
    titles = ((p, " ".join(p.cmdline())) for p in psutil.Process().parents())
    return next((p.pid for p, title in titles if "airflow" in title and " scheduler" in title), None)
