"""Many writers, stopped and killed ones: one at a time, and never one that lost its turn."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pyarrow as pa
import pytest

from northstar.audit.stage import audit
from northstar.base.errors import NorthstarError
from northstar.build.stage import build
from northstar.cli import main as cli
from northstar.contract import entities
from northstar.extract.landing.batch import land_batch
from northstar.extract.landing.normalise import normalise
from northstar.extract.stage import extract
from northstar.privacy.guard import landing_guard
from northstar.publish.stage import publish
from northstar.runs import quarantine, turns
from northstar.runs.erase import purge
from northstar.runs.lifecycle import close_run, open_run
from northstar.runs.turns import command_turn, give_turn_back, unlock
from northstar.warehouse import db, turn_lock
from northstar.warehouse.stages import run_stage
from tests.support import empty, query_as, utc

END = utc("2026-02-01T00:00:00")
WRITERS = 16
ROW = {"charge_id": "c1", "account_id": "a", "amount": "1", "currency": "USD", "status": "succeeded", "created_at": "2026-01-01T00:00:00Z",
       "updated_at": "2026-01-01T00:00:00Z"}  # fmt: skip
AT_WORK = """
import sys, time
from datetime import UTC, datetime
from northstar.base.settings import load_settings
from northstar.runs.lifecycle import open_run
from northstar.warehouse.stages import run_stage
settings, run_id = load_settings(sys.argv[1]), int(sys.argv[2])
run_id = run_id or open_run(settings, "nightly", datetime(2026, 2, 1, tzinfo=UTC), "nowhere")
with run_stage(settings, run_id, "extract"):
    print(run_id, flush=True)
    time.sleep(600)
"""

KILLED = """
import os, sys
from datetime import UTC, datetime
from northstar.base.settings import load_settings
from northstar.runs.lifecycle import open_run
from northstar.warehouse.stages import run_stage
settings = load_settings(sys.argv[1])
run_id = open_run(settings, "nightly", datetime(2026, 2, 1, tzinfo=UTC), "nowhere", trigger=sys.argv[2], is_own=True)
with run_stage(settings, run_id, "extract"):
    os.kill(os.getpid(), 9)
"""


def test_sixteen_sources_of_one_entity_lose_nothing(warehouse):
    empty(warehouse)
    entity, guard, together = entities()["charges"], landing_guard(warehouse), threading.Barrier(WRITERS)
    failed = []

    def write(number: int) -> None:
        # ten keys that all have, each with a cursor of its own, and one that nobody else has
        names = [f"c{n}" for n in range(10)] + [f"own{number}"]
        columns = {
            "charge_id": names, "account_id": ["a"] * 11, "amount": [str(number)] * 11, "currency": ["USD"] * 11, "status": ["succeeded"] * 11,
            "created_at": ["2026-01-01T00:00:00Z"] * 11, "updated_at": [f"2026-01-02T00:00:{number:02}Z"] * 11,
        }  # fmt: skip
        lines = pa.array(range(11), pa.int64())
        raw = pa.RecordBatch.from_arrays(
            [*(pa.array(v, pa.string()) for v in columns.values()), lines], names=[*columns, "_line"]
        )

        def produce(delivery):
            together.wait(60)
            delivery.read = 11
            yield normalise(entity, raw, guard).rows

        try:
            land_batch(warehouse, entity, f"shop{number}", None, produce)
        except Exception as exc:
            failed.append(exc)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    landed = query_as(warehouse, "loader", "select charge_id, amount from staging.charges order by 1")
    assert {row["charge_id"]: row["amount"] for row in landed} == {f"c{n}": WRITERS - 1 for n in range(10)} | {
        f"own{n}": n for n in range(WRITERS)
    }
    batches = query_as(
        warehouse, "loader", "select sum(rows_inserted)::int as new, sum(rows_updated)::int as replaced, count(*) as n from audit.landing_batches"
    )[0]  # fmt: skip
    assert batches["new"] == 10 + WRITERS and batches["n"] == WRITERS
    assert query_as(warehouse, "loader", "select count(*)::int as n from staging._replaced") == [
        {"n": batches["replaced"]}
    ]


@pytest.fixture
def opened(warehouse):
    """A warehouse with a run that a DAG opened on some other machine, and its number; nobody has the turn at the end."""
    empty(warehouse)
    run_id = open_run(warehouse, "nightly", END, "nowhere", "hourly_refresh one")
    yield warehouse, run_id
    for run_id in list(turns._OWN):
        give_turn_back(warehouse, run_id)
    with db.connect(warehouse, "owner") as connection:
        connection.execute("update audit.runs set state = 'failed' where state = 'running'")
        connection.execute("delete from audit.writer_lease")


@contextmanager
def at_work(settings, run_id=0):
    """A process that is in a stage of a run (0: one of its own); gives it and the run's number."""
    command = [sys.executable, "-c", AT_WORK, str(settings.home), str(run_id)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        try:
            yield worker, int(worker.stdout.readline())
        finally:
            worker.kill()


def test_a_writer_that_is_stopped_keeps_its_turn_and_one_that_is_killed_loses_it(warehouse):
    empty(warehouse)
    with at_work(warehouse) as (worker, run_id):
        worker.send_signal(signal.SIGSTOP)
        with pytest.raises(NorthstarError, match=f"run {run_id} .* is writing to this warehouse"):
            open_run(warehouse, "hourly", END, "nowhere")
        worker.kill()
        worker.wait()
        # the server hears of it a moment later, which is waited for
        following = open_run(warehouse, "hourly", END, "nowhere")
    assert following > run_id
    close_run(warehouse, following)


def test_a_run_whose_turn_is_another_s_by_now_does_nothing_more(opened):
    settings, run_id = opened
    assert unlock(settings, run_id) == "hourly_refresh one"
    following = open_run(settings, "hourly", END, "nowhere")
    for stage in (extract, build, audit, publish):
        with pytest.raises(NorthstarError, match=f"run {run_id} is no longer running"):
            stage(settings, run_id)
    close_run(settings, run_id)
    assert [row["run_id"] for row in query_as(settings, "transformer", "select run_id from audit.writer_lease")] == [
        following
    ]


def test_a_dag_run_keeps_its_turn_between_its_tasks_until_airflow_says_that_it_has_ended(opened, monkeypatch):
    settings, run_id = opened
    with pytest.raises(
        NorthstarError, match=rf"run {run_id} \(hourly_refresh one\) is writing .*northstar unlock {run_id}"
    ):
        open_run(settings, "hourly", END, "nowhere")
    asked = []
    monkeypatch.setattr(turns, "has_ended", lambda settings, holder: asked.append(holder) or True)
    assert open_run(settings, "hourly", END, "nowhere", "hourly_refresh two") > run_id
    assert asked == ["hourly_refresh one"]


def test_a_stage_at_work_is_not_unlocked_nor_taken_over_whatever_airflow_says(opened, monkeypatch):
    settings, run_id = opened
    monkeypatch.setattr(turns, "has_ended", lambda *_: True)
    with at_work(settings, run_id):
        with pytest.raises(NorthstarError, match="is writing to this warehouse"):
            open_run(settings, "hourly", END, "nowhere")
        with pytest.raises(NorthstarError, match=rf"run {run_id} .* is writing .*; wait for it to end and run again$"):
            unlock(settings, run_id)


def test_only_the_turn_that_is_named_is_ended(opened, capsys):
    settings, run_id = opened
    assert cli.main(["unlock", str(run_id + 1), "--home", str(settings.home)]) == 1
    assert f"run {run_id} has the turn, not {run_id + 1}" in capsys.readouterr().err
    assert cli.main(["unlock", str(run_id), "--home", str(settings.home)]) == 0
    assert "(hourly_refresh one) has ended" in capsys.readouterr().err
    state = "select state, message from audit.runs where run_id = %s"
    assert query_as(settings, "transformer", state, run_id) == [{"state": "failed", "message": "unlocked by hand"}]
    assert cli.main(["unlock", str(run_id), "--home", str(settings.home)]) == 1
    assert "nobody has the turn" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["quarantine", "replay"], ["maintain"], ["rollback"]])
def test_whoever_writes_waits_for_its_turn(opened, capsys, command):
    settings, run_id = opened
    assert cli.main([*command, "--home", str(settings.home)]) == 1
    assert f"run {run_id} (hourly_refresh one) is writing to this warehouse" in capsys.readouterr().err


@pytest.mark.parametrize("trigger", ["cli", "erasure 3", "rotation"])
def test_whoever_was_killed_at_work_blocks_nobody(opened, trigger):
    settings, run_id = opened
    close_run(settings, run_id)
    killed = [sys.executable, "-c", KILLED, str(settings.home), trigger]
    # the second follows the first
    for _ in range(2):
        assert subprocess.run(killed).returncode == -signal.SIGKILL
    assert [r["holder"] for r in query_as(settings, "transformer", "select holder from audit.writer_lease")] == [
        trigger
    ]
    assert open_run(settings, "hourly", END, "nowhere") > run_id


def test_whose_turn_is_over_and_whose_session_has_not_ended_yet_is_waited_for(warehouse):
    empty(warehouse)
    with turn_lock.open_connection(warehouse) as ending:
        ending.execute("select pg_advisory_lock_shared(%s)", [turn_lock.WRITING_LOCK])
        timer = threading.Timer(0.5, ending.execute, ["select pg_advisory_unlock_shared(%s)", [turn_lock.WRITING_LOCK]])
        timer.start()
        with command_turn(warehouse, "the test") as number:
            assert turn_lock.current_turn(ending)["run_id"] == number
        timer.join()


def test_a_process_that_is_stopped_while_it_looks_for_the_server_keeps_nobody_out(warehouse):
    holding = "import fasteners, sys, time; lock = fasteners.InterProcessLock(sys.argv[1]); lock.acquire(); print(flush=True); time.sleep(900)"
    holder = subprocess.Popen(
        [sys.executable, "-c", holding, str(warehouse.home / "postgres.lock")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline()
        assert query_as(warehouse, "loader", "select 1 as one") == [{"one": 1}]
    finally:
        holder.kill()
        holder.wait()


def test_whether_a_writer_lives_is_no_question_of_clocks(warehouse):
    empty(warehouse)
    run_id = open_run(warehouse, "nightly", END, "nowhere")
    with db.connect(warehouse, "owner") as connection:
        # by the clock of a server that is behind, the turn was taken before this process began
        connection.execute("update audit.writer_lease set taken_at = taken_at - interval '10 days'")
        row = turn_lock.current_turn(connection)
    assert not row["is_over"] and not turn_lock.is_holder_gone(row)
    assert turn_lock.is_holder_gone(row | {"process_began": "1"}) and turn_lock.is_holder_gone(
        row | {"process_id": 2**22 + 1}
    )
    # a container of the same name, and this machine before it was started anew, have numbers of their own
    assert not turn_lock.is_holder_gone(row | {"process_id": 2**22 + 1, "host": f"{row['host']}0"})
    # of a turn that an older release took only that its process is gone
    assert not turn_lock.is_holder_gone(row | {"process_began": None})
    close_run(warehouse, run_id)


def test_who_lost_its_turn_lands_accepts_and_erases_nothing(warehouse):
    empty(warehouse)
    entity = entities()["charges"]
    with (
        pytest.raises(NorthstarError, match="is no longer running"),
        command_turn(warehouse, "quarantine replay") as number,
    ):
        with db.connect(warehouse, "owner") as connection:
            # as when its sessions were cut off and another took over
            connection.execute("update audit.writer_lease set run_id = run_id + 1")
        for write in (
            lambda: land_batch(warehouse, entity, "shop", None, lambda _: iter(()), turn=number),
            lambda: purge.purge(warehouse, 0, None, number),
            lambda: quarantine._retry_lot(warehouse, "shop", "charges", [(1, ROW)], landing_guard(warehouse), number),
        ):
            with pytest.raises(NorthstarError, match=f"run {number} is no longer running: another run took its turn"):
                write()
        assert query_as(warehouse, "loader", "select 1 from audit.landing_batches") == []
        # nor does whoever comes later find it had the turn
        with turn_lock.hold_turn(warehouse, number):
            pass
    with db.connect(warehouse, "owner") as connection:
        connection.execute("delete from audit.writer_lease")


def test_what_one_source_failed_of_is_not_forgotten_because_another_landed(opened):
    settings, run_id = opened

    def told():
        return query_as(settings, "transformer", "select message, stage_seconds from audit.runs where run_id = %s", run_id)[0]  # fmt: skip

    with pytest.raises(NorthstarError), run_stage(settings, run_id, "extract"):
        time.sleep(0.3)
        raise NorthstarError("the shop is down")
    with run_stage(settings, run_id, "extract"):
        pass
    assert told()["message"] == "extract: the shop is down" and told()["stage_seconds"]["extract"] >= 0.3
    with run_stage(settings, run_id, "build"):
        assert told()["message"] is None
    with pytest.raises(NorthstarError), run_stage(settings, run_id, "build"):
        raise NorthstarError("a model failed")
    with run_stage(settings, run_id, "build"):
        pass
    assert told()["message"] is None
