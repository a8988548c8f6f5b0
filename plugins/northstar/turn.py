"""The turn to write: one run has it at a time, and what changes the warehouse keeps it for as long as that takes.

The lease in `audit.writer_lease` says whose turn it is, and a stage holds a lock so that nobody takes it over meanwhile (northstar.job).
Both may be gone without the stage's process noticing: it was stopped, and its server restarted or its network cut; another run took over. Come to
life again it opens new connections and would go on. So each transaction that changes what is landed, built or published holds the same lock
itself and looks first: where the turn is another's by now it changes nothing.
"""

from contextlib import contextmanager

from northstar.errors import NorthstarError

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


@contextmanager
def kept_by_dbt(run_id: int):
    """Every connection that dbt opens meanwhile keeps the turn of a run.

    Raises NorthstarError afterwards where one could not, for the turn was another's.
    """
    from dbt.adapters.exceptions.connection import FailedToConnectError
    from dbt.adapters.postgres.connections import PostgresConnectionManager as Manager

    opening, refused = Manager.__dict__["open"], []
    *hold, lost = statements(run_id, is_session=True)

    def opened(cls, connection):
        connection = opening.__func__(cls, connection)
        with connection.handle.cursor() as cursor:
            cursor.execute("; ".join(hold))
            cursor.execute(lost)
            is_lost = cursor.fetchone()[0]
        connection.handle.commit()
        if is_lost:
            refused.append(connection.name)
            connection.handle.close()
            connection.handle, connection.state = None, "fail"
            raise FailedToConnectError(str(over(run_id)))
        return connection

    Manager.open = classmethod(opened)
    try:
        yield
    except NorthstarError as exc:
        if refused:
            raise over(run_id) from exc
        raise
    finally:
        Manager.open = opening
    if refused:
        raise over(run_id)
