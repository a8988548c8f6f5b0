"""Sessions that a run keeps for its next user: what was left in one is gone, and one that ended is not given out."""

import os
import traceback

import psycopg
import pytest

from northstar.warehouse import db
from northstar.warehouse.reuse import reuse_sessions


def backend(settings, role="transformer", **more) -> int:
    with db.connect(settings, role, **more) as connection:
        return connection.execute("select pg_backend_pid() as pid").fetchone()["pid"]


def test_the_next_user_of_a_session_finds_it_as_new(warehouse):
    with reuse_sessions():
        with db.connect(warehouse, "transformer", autocommit=True) as connection:
            first = connection.info.backend_pid
            # more often than psycopg waits for until it prepares a statement
            for _ in range(7):
                connection.execute("set search_path = pg_catalog")
                connection.execute("select 1")
            connection.execute("create temp table left_behind (x int)")
            connection.execute("select pg_advisory_lock(815)")
        for _ in range(7):
            with db.connect(warehouse, "transformer") as connection:
                assert connection.info.backend_pid == first and not connection.autocommit
                left = connection.execute(
                    "select to_regclass('pg_temp.left_behind') as t, current_setting('search_path') as path, current_setting('timezone') as zone, "
                    "(select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks"
                ).fetchone()
                assert left == {"t": None, "path": '"$user", public', "zone": "UTC", "locks": 0}
        # what is in use is nobody else's, and neither is another role's
        with db.connect(warehouse, "transformer"):
            assert backend(warehouse) != first
            assert backend(warehouse, "loader") not in (first, backend(warehouse))
    with db.connect(warehouse, "owner") as connection:
        assert connection.execute("select 1 from pg_stat_activity where pid = %s", [first]).fetchone() is None
    assert backend(warehouse) != backend(warehouse)


def test_an_error_undoes_what_was_done_and_the_session_is_kept(warehouse):
    with reuse_sessions():
        first = backend(warehouse, "owner")
        with pytest.raises(psycopg.errors.DivisionByZero), db.connect(warehouse, "owner") as connection:
            connection.execute("create table undone (x int)")
            connection.execute("select 1 / 0")
        with db.connect(warehouse, "owner") as connection:
            assert connection.info.backend_pid == first
            assert connection.execute("select to_regclass('undone') as t").fetchone()["t"] is None


def test_a_session_that_ended_meanwhile_is_not_given_out(warehouse):
    with reuse_sessions():
        first = backend(warehouse)
        with db.connect(warehouse, "owner", autocommit=True) as connection:
            # waits until it has ended
            assert connection.execute("select pg_terminate_backend(%s, 10000) as t", [first]).fetchone()["t"]
        assert backend(warehouse) != first
        with db.connect(warehouse, "transformer") as connection:
            closed = connection.info.backend_pid
            connection.close()
        assert backend(warehouse) != closed


def test_a_forked_process_has_sessions_of_its_own(warehouse):
    with reuse_sessions():
        first = backend(warehouse)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with reuse_sessions():
                    mine = backend(warehouse)
                    status = 0 if mine != first and backend(warehouse) == mine else 2
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert backend(warehouse) == first
