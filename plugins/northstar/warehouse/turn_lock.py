"""The turn: the right to write to the warehouse. One run, or one command that changes the warehouse, has it at a time.

`audit.writer_lease` names the holder. A turn never ends by time:

- A command's process holds WRITING_LOCK, shared, on a connection of its own until its turn ends. So the lock shows whether the process is
  alive, wherever it runs.
- The stages of a DAG run are separate processes, perhaps on several machines. Each holds the lock while it works. Between them the turn stays
  with the DAG run until `close_run` gives it back, its scheduler is gone, or Airflow says that the DAG run has ended. While its publication waits
  for an approval the scheduler may be restarted: the next one goes on with the DAG run.
- Whoever takes a turn holds the lock exclusively for that moment, so no stage of anybody else is at work then.

A stage can lose the turn without noticing: its process is suspended, the server restarts or the network fails, and another run takes the turn.
When the process continues, it would open new connections and go on. So each transaction that changes what is landed, built or published
holds the lock itself and checks first (`keep`): if another has the turn by now, it changes nothing.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path

import psutil

from northstar.base.errors import TurnLost, TurnTaken
from northstar.base.settings import Settings
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, HeldTurn, Turn, as_shape, fetch_one

# an advisory lock in the warehouse's database: shared for whoever writes in its turn, exclusive for whoever takes the turn
WRITING_LOCK = 7041778
# a backend whose client was killed keeps its locks until its statement ends, unless it checks whether its client is alive. The platform of an
# external server may not support that, so an error is ignored
END_WITH_CLIENT = (
    "do $do$ begin perform set_config('client_connection_check_interval', '2s', {is_local}); "
    "exception when others then null; end $do$"
)
# the table was called writer_lease when a turn could expire; it keeps the name, because a new one would need a migration
TURN_LOST_QUERY = "select not exists (select 1 from audit.writer_lease where run_id = {run}) as is_lost"
# the same for a call by hand: landing and audit can be called with a run's number alone, and then nobody has the turn
TURN_LOST_TO_ANOTHER_QUERY = (
    "select exists (select 1 from audit.writer_lease where run_id <> {run}) or exists (select 1 from audit.runs where run_id = {run} "
    "and state = 'failed') as is_lost"
)
_LOCK_HELD_QUERY = (
    "select exists (select 1 from pg_locks where locktype = 'advisory' and granted and (classid, objid, objsubid) = (0, %s, 1) "
    "and database = (select oid from pg_database where datname = current_database())) as is_locked"
)


@contextmanager
def hold_turn(settings: Settings, run_id: int) -> Iterator[Connection]:
    """Keep others from taking the turn while the context lasts, even if this process is suspended for hours; gives the connection.

    Raises TurnLost when the turn is another's by now.
    """
    with db.translate_driver_errors(settings), open_connection(settings) as connection:
        connection.execute("select pg_advisory_lock_shared(%s)", [WRITING_LOCK])
        if not connection.execute("select 1 from audit.writer_lease where run_id = %s", [run_id]).fetchone():
            raise TurnLost(run_id)
        yield connection


def current_turn(connection: Connection) -> HeldTurn | None:
    """The row of audit.writer_lease, with `is_over`: whether the next one who asks may take the turn. None when nobody has it."""
    row = connection.execute("select * from audit.writer_lease").fetchone()
    if row is None:
        return None
    # the table of an older release, which had time-outs instead, lacks this column
    row.setdefault("is_dag_run", False)
    is_locked = fetch_one(connection.execute(_LOCK_HELD_QUERY, [WRITING_LOCK]))["is_locked"]
    is_over = not is_locked and (not row["is_dag_run"] or is_dag_run_gone(connection, as_shape(Turn, row)))
    return as_shape(HeldTurn, row | {"is_over": is_over})


def keep_statements(run_id: int, is_session: bool = False, by_hand: bool = False) -> tuple[str, str, str]:
    """Three SQL statements that keep the turn. The last one returns whether the turn was lost before.

    They are separate because the last one has to see the state after the lock was taken. is_session: keep the turn until the session ends,
    not the transaction. by_hand: it is also right when nobody has the turn.
    """
    return (
        END_WITH_CLIENT.format(is_local=str(not is_session).lower()),
        f"select pg_advisory_{'' if is_session else 'xact_'}lock_shared({WRITING_LOCK})",
        (TURN_LOST_TO_ANOTHER_QUERY if by_hand else TURN_LOST_QUERY).format(run=int(run_id)),
    )


def keep(connection: Connection, run_id: int | None, is_session: bool = False, by_hand: bool = False) -> None:
    """Keep the turn on a psycopg connection, until its transaction ends, or (is_session) for as long as the connection lives.

    run_id: None for a caller without a turn, who keeps nothing. by_hand: it is also right when nobody has the turn. Raises TurnLost when
    another has the turn by now.
    """
    if run_id is None:
        return
    *hold, lost = keep_statements(run_id, is_session, by_hand)
    connection.execute("; ".join(hold))
    if fetch_one(connection.execute(lost))["is_lost"]:
        raise TurnLost(run_id)


def turn_taken_error(turn: Turn | None, is_at_work: bool = False) -> TurnTaken:
    """The error to raise when another has the turn. is_at_work: whether the holder's process, or a stage of its DAG run, holds the lock."""
    holder = f"run {turn['run_id']} ({turn['holder']})" if turn else "another run"
    since = f" (since {turn['taken_at'].astimezone(UTC):%H:%M:%S} UTC)" if turn else ""
    advice = "wait for it to end and run again"
    if turn and turn["is_dag_run"] and not is_at_work:
        advice += f" (or `northstar unlock {turn['run_id']}` if Airflow has forgotten it)"
    return TurnTaken(turn["run_id"] if turn else None, f"{holder} is writing to this warehouse{since}; {advice}")


def is_dag_run_gone(connection: Connection, turn: Turn) -> bool:
    """Whether nobody goes on with the DAG run that has the turn: its scheduler is gone, and it does not wait for an approval."""
    if not is_holder_gone(turn):
        return False
    # the home of an older release has no such table until its next run
    if fetch_one(connection.execute("select to_regclass('audit.approvals') as t"))["t"] is None:
        return True
    waits = "select 1 from audit.approvals join audit.runs using (run_id) where run_id = %s and decided_at is null and state = 'running'"
    return connection.execute(waits, [turn["run_id"]]).fetchone() is None


def is_holder_gone(turn: Turn) -> bool:
    """Whether the process that a row of audit.writer_lease names is gone; False also when that cannot be known from this machine."""
    if turn["process_id"] is None or turn["host"] != machine_id():
        return False
    process_began = process_start(turn["process_id"])
    return process_began is None or turn["process_began"] not in (None, process_began)


def machine_id() -> str:
    """An identifier of this machine as its processes see it. Containers with the same name differ, and so do two boots of one machine."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def open_connection(settings: Settings) -> Connection:
    """A connection, as the transformer, on which to hold the lock."""
    connection = db.connect(settings, "transformer", autocommit=True)
    # the lock ends with its connection, which must not end because it is idle, nor live for hours after its machine is gone
    connection.execute("set idle_session_timeout = 0; set tcp_keepalives_idle = 30; set tcp_keepalives_interval = 10")
    return connection


def try_lock(connection: Connection) -> bool:
    """Take the lock exclusively if nobody holds it; returns whether it was taken."""
    is_free: bool = fetch_one(connection.execute("select pg_try_advisory_lock(%s) as is_free", [WRITING_LOCK]))[
        "is_free"
    ]
    return is_free


def process_start(process_id: int) -> str | None:
    """When a process began, in a form that does not change when the clock is corrected; None if there is no such process."""
    try:
        # clock ticks since the machine was started; the process name before them may contain blanks and brackets
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        # not Linux, or no such process
        pass
    try:
        return f"{psutil.Process(process_id).create_time():.0f}"
    except psutil.NoSuchProcess:
        return None
