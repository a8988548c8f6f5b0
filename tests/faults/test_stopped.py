"""A run's process is stopped (SIGSTOP) in each stage and comes to life when its turn is another's: it changes nothing, and says so in a line."""

import contextlib
import os
import signal
import subprocess
import sys
from datetime import timedelta

import psutil
import pytest

from northstar.base.errors import NorthstarError
from northstar.publish.merge import rollback
from northstar.runs import turns
from northstar.runs.lifecycle import open_run
from northstar.runs.turns import command_turn
from northstar.warehouse import db
from tests.faults.campaign import compare, fingerprint
from tests.support import empty, query_as, run, select, utc, write_rows

pytestmark = pytest.mark.timeout(1800)
AS_OF = utc("2025-04-01T00:00:00")
STAGES = ("extract", "build", "audit", "publish", "maintain")
# dbt builds in several threads: half of it is done, and some of it under way
BUILT_NODES = 40
EVERYTHING = ("core", "marts_candidate", "marts", "marts_history")

# a run from one of its stages on, which stops itself in it where it is about to change something with a new connection
STOPPED = f"""
import os, signal, sys
from northstar.audit import run as auditing
from northstar.audit.stage import audit
from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings
from northstar.build.stage import build
from northstar.extract.landing import batch as landing
from northstar.extract.stage import extract
from northstar.publish import merge as publishing
from northstar.publish.stage import publish
from northstar.runs import maintenance
from northstar.runs.lifecycle import close_afterwards
from northstar.warehouse import db

settings, run_id, stage = load_settings(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def stop():
    os.kill(os.getpid(), signal.SIGSTOP)

def stopping(function):
    def call(*given, **options):
        stop()
        return function(*given, **options)
    return call

built = 0
def count(message):
    global built
    if message.info.name == "NodeFinished":
        built += 1
        if built == {BUILT_NODES}:
            stop()

if stage == "extract":
    landing._connect = stopping(landing._connect)
if stage == "publish":
    publishing.marts = stopping(publishing.marts)
if stage == "maintain":
    maintenance.STEPS["traces"] = stopping(maintenance.STEPS["traces"])
if stage == "audit":
    # what the checks find is nothing to this
    auditing._validate = lambda *_: []
    auditing._record = stopping(auditing._record)
try:
    with close_afterwards(settings, run_id), db.translate_driver_errors(settings):
        if stage == "build":
            build(settings, run_id, callback=count)
        else:
            stages = {{"extract": extract, "audit": audit, "publish": publish, "maintain": maintenance.maintain_after_run}}
            stages[stage](settings, run_id)
except NorthstarError as exc:
    sys.exit(f"northstar: {{exc}}")
"""


def charge(number: int) -> dict:
    return {"charge_id": f"c{number}", "account_id": "a1", "application": "shop", "amount": 1000, "currency": "USD", "status": "succeeded",
            "created_at": "2025-03-05T00:00:00Z", "updated_at": "2025-03-05T00:00:00Z"}  # fmt: skip


def stopped_in(settings, stage: str, source) -> subprocess.Popen:
    """A process that was stopped in a stage of a run of its own."""
    # an hour later, since a second run in the same hour builds little
    run_id = open_run(settings, "hourly", AS_OF + timedelta(hours=1), str(source), f"hourly_refresh {stage}")
    if stage == "publish":
        with db.connect(settings, "transformer") as connection:
            connection.execute(
                "insert into audit.checks (run_id, boundary, suite, check_name, severity, success, expected) "
                "values (%s, 'marts', 'tests', 'passes', 'error', true, 'the tests')", [run_id],
            )  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(settings.home), str(run_id), stage],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"{stage} ended: {process.stderr.read()[-2000:]}"
    return process


def cut_off(settings, process: subprocess.Popen) -> None:
    """End all of a process's sessions, as a restarted server does, or a network that is gone for long enough."""
    ports = [c.laddr.port for c in psutil.Process(process.pid).net_connections() if c.status == psutil.CONN_ESTABLISHED]
    with db.connect(settings, "owner", autocommit=True) as connection:
        ended = connection.execute(
            "select pg_terminate_backend(pid, 60000) as is_over from pg_stat_activity where client_port = any(%s)",
            [ports],
        ).fetchall()
    assert ended and all(row["is_over"] for row in ended)


@pytest.fixture(scope="module")
def overtaken(warehouse, tmp_path_factory):
    """(settings, {stage: a process that was stopped in it}, what the run that took over after them made)."""
    source = tmp_path_factory.mktemp("source")
    empty(warehouse)
    write_rows(source, {"charges": [charge(n) for n in range(5)]})
    run(warehouse, source, AS_OF)
    write_rows(source, {"charges": [charge(9)]}, "second")
    stopped = {}
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(turns, "has_ended", lambda *_: True)
            for stage in STAGES:
                stopped[stage] = stopped_in(warehouse, stage, source)
                # while its sessions live its turn is its own, though Airflow has given it up
                with pytest.raises(
                    NorthstarError, match=rf"run \d+ .hourly_refresh {stage}. is writing to this warehouse"
                ):
                    open_run(warehouse, "hourly", AS_OF, str(source))
                cut_off(warehouse, stopped[stage])
            run(warehouse, source, AS_OF + timedelta(hours=1), "hourly")
        yield warehouse, stopped, fingerprint(warehouse, EVERYTHING)
    finally:
        for process in stopped.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()


def test_the_run_that_took_over_has_published(overtaken):
    settings, _, _ = overtaken
    assert select(settings, "select count(*) as n from fct_payments")[0]["n"] == 6


@pytest.mark.parametrize("stage", STAGES)
def test_who_comes_to_life_when_its_turn_is_anothers_changes_nothing_and_says_so(overtaken, stage):
    settings, stopped, made = overtaken
    versions = select(settings, "select * from publications order by 1")
    stopped[stage].send_signal(signal.SIGCONT)
    _, said = stopped[stage].communicate(timeout=600)
    assert stopped[stage].returncode == 1 and "Traceback" not in said, said[-2000:]
    assert "is no longer running: another run took its turn" in said.strip().splitlines()[-1]
    compare(made, fingerprint(settings, EVERYTHING), f"after {stage} went on")
    assert select(settings, "select * from publications order by 1") == versions
    assert query_as(settings, "transformer", "select holder from audit.writer_lease") == []


def test_who_puts_a_version_back_when_its_turn_is_anothers_puts_nothing_back(overtaken):
    settings, _, _ = overtaken
    versions = select(settings, "select * from publications order by 1")
    with command_turn(settings, "rollback") as number:
        with db.connect(settings, "owner") as connection:
            connection.execute("update audit.writer_lease set run_id = run_id + 1")
        with pytest.raises(NorthstarError, match=f"run {number} is no longer running: another run took its turn"):
            rollback(settings, None, number)
        with db.connect(settings, "owner") as connection:
            connection.execute("delete from audit.writer_lease")
    assert select(settings, "select * from publications order by 1") == versions
