"""What the embedded server's own log tells of its end, and which of its processes stand back."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psutil
import psycopg
import pytest

from northstar.audit.worker import start_worker
from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings
from northstar.warehouse import db, embedded
from northstar.warehouse.embedded import server
from northstar.warehouse.embedded.priority import lowered_priority
from northstar.warehouse.reuse import Reusable
from northstar.warehouse.setup import _create_databases
from tests.conftest import home


@pytest.mark.parametrize(("ago", "said", "told"), [
    (1, "PANIC:  could not write to file \"pg_wal/xlogtemp.7\": No space left on device", True),
    (3600, "PANIC:  could not write to file \"pg_wal/xlogtemp.7\": No space left on device", False),
    (1, "LOG:  server process (PID 7) was terminated by signal 9: Killed", False),
])  # fmt: skip
def test_a_server_that_fell_to_a_full_disk_a_moment_ago_is_told_of(tmp_path, ago, said, told):
    settings = load_settings(tmp_path)
    settings.logs.mkdir(parents=True, exist_ok=True)
    at = datetime.now(UTC) - timedelta(seconds=ago)
    (settings.logs / "postgres.log").write_text(f"{at:%Y-%m-%d %H:%M:%S.123} UTC [7] {said}\n")
    assert embedded.ran_out_of_disk(settings) is told


FELL = "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n"


def falling_once(monkeypatch) -> list:
    """The next connection meets a server on its way down, the ones after it what is there; returns what was asked so far."""
    asked, connect = [], Reusable.connect

    def fall(*args, **options):
        asked.append(args)
        if len(asked) == 1:
            raise psycopg.OperationalError(FELL)
        return connect(*args, **options)

    monkeypatch.setattr(Reusable, "connect", fall)
    return asked


def test_a_connection_to_an_embedded_server_that_is_just_falling_is_tried_again(warehouse, monkeypatch):
    falling_once(monkeypatch)
    with db.connect(warehouse, "loader") as connection:
        assert connection.execute("select 1 as one").fetchone() == {"one": 1}


def test_of_another_machines_server_that_falls_is_told_at_once(tmp_path, monkeypatch):
    settings = replace(load_settings(tmp_path), warehouse_url="postgresql://owner:word@127.0.0.1:1/northstar")
    asked = falling_once(monkeypatch)
    with pytest.raises(NorthstarError, match="cannot reach the warehouse as owner"):
        db.connect(settings, "owner")
    assert len(asked) == 1


def nice(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


def test_the_job_and_its_processes_of_the_server_stand_back_for_readers(warehouse):
    before, as_job = nice(0), lambda: db.connect(warehouse, "transformer", autocommit=True)
    with (
        lowered_priority(as_job, 10),
        db.connect(warehouse, "loader") as job,
        db.connect(warehouse, "bi_reader") as reader,
    ):
        deadline = time.monotonic() + 10
        while nice(job.info.backend_pid) != 10 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (nice(0), nice(job.info.backend_pid), nice(reader.info.backend_pid)) == (10, 10, before)
    assert nice(0) == (before if os.geteuid() == 0 else 10)


def test_the_auditor_stands_back_while_it_loads(warehouse):
    worker = start_worker(warehouse)
    try:
        deadline = time.monotonic() + 60
        while nice(worker._process.pid) != 10 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert nice(worker._process.pid) == 10
    finally:
        worker.stop()


def test_a_server_that_is_gone_leaves_no_traceback_of_the_watcher(monkeypatch):
    def gone():
        raise NorthstarError("cannot reach the warehouse")

    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    with lowered_priority(gone, 1):
        pass
    assert not told


class Starting:
    """A process that is a Postgres which has not come up yet."""

    def __init__(self, _):
        pass

    def name(self):
        return "postgres"

    def status(self):
        return "sleeping"

    def cwd(self):
        raise psutil.AccessDenied(7)


def test_a_server_that_recovers_for_long_is_waited_for(tmp_path, monkeypatch):
    looks = []
    pid = tmp_path / "postmaster.pid"

    def sleep(_):
        looks.append(1)
        pid.write_text("7\n\n\n5433\n\n\n\n" + ("ready" if len(looks) == 400 else "starting") + "\n")

    sleep(0)
    monkeypatch.setattr(psutil, "Process", Starting)
    monkeypatch.setattr(server.time, "sleep", sleep)
    assert server._running_port(tmp_path) == 5433
    pid.write_text("7\n\n\n5433\n\n\n\nstarting\n")
    monkeypatch.setattr(server, "START_SECONDS", 0)
    with pytest.raises(NorthstarError, match=r"Postgres is still recovering after .* try again later"):
        server._running_port(tmp_path)


def test_a_recovery_that_takes_longer_than_its_start_is_told_as_what_it_is(monkeypatch):
    def recovering(settings):
        data = settings.home / "postgres"
        with server.new_data_directory(data) as beside:
            server._initialise(settings, beside)
        (data / "recovery.signal").touch()
        monkeypatch.setattr(server, "START_SECONDS", 1)
        with pytest.raises(NorthstarError, match=r"Postgres is still recovering after .* try again later"):
            server.recover(settings, data, {"restore_command": "sleep 2; false", "hot_standby": "off"})
        monkeypatch.setattr(server, "START_SECONDS", 60)
        # it went on
        assert embedded.is_running(settings), (settings.logs / "postgres.log").read_text()

    with home(recovering):
        pass


def test_databases_are_made_once_by_several_who_start_at_once(warehouse, monkeypatch):
    monkeypatch.setattr(db, "DATABASE", "made_at_once")
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: _create_databases(warehouse), range(6)))
    with db.connect(warehouse, "owner", autocommit=True, database="postgres") as connection:
        connection.execute("drop database made_at_once")
