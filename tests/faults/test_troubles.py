"""The machine has too little of something, its clock jumps, its scheduler slept or runs twice: one line, and the next run is whole."""

import os
import resource
import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from northstar.audit.stage import audit
from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings
from northstar.build.stage import build
from northstar.extract.stage import extract
from northstar.publish.stage import publish
from northstar.runs import job
from northstar.runs.lifecycle import close_run, open_run
from northstar.warehouse import db, embedded
from northstar.warehouse.setup import bootstrap
from tests.conftest import home
from tests.end_to_end.test_edges import small_disk
from tests.faults.campaign import compare, fingerprint
from tests.faults.story import story
from tests.support import empty, run, select, silent, utc, write_rows

pytestmark = [pytest.mark.timeout(1800), pytest.mark.usefixtures("one_key")]
AS_OF = utc("2025-04-01T00:00:00")


def charge(number: int, at: str = "2025-03-05T00:00:00Z", **more) -> dict:
    return {"charge_id": f"c{number}", "account_id": "a1", "application": "shop", "amount": 1000, "currency": "USD",
            "status": "succeeded", "created_at": at, "updated_at": at, **more}  # fmt: skip


def versions(settings) -> int:
    return select(settings, "select count(*) as n from publications")[0]["n"]


def command(settings, source, **options) -> subprocess.CompletedProcess:
    """`northstar run` in a process of its own."""
    words = ["run", "--source-dir", str(source), "--as-of", AS_OF.isoformat(), "--home", str(settings.home)]
    return subprocess.run([sys.executable, "-m", "northstar.cli", *words], capture_output=True, text=True, **options)


def last_line(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
    return done.stderr.strip().splitlines()[-1]


def test_a_process_that_may_not_have_the_memory_says_so_and_the_next_one_publishes(warehouse, tmp_path):
    empty(warehouse)
    write_rows(tmp_path, {"charges": [charge(n, description="x" * 20_000) for n in range(10_000)]})
    # enough to begin to land, which is where it is wanted
    limit = 800 << 20
    done = command(warehouse, tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    # compiled code that asks in vain may crash, as the kernel's own killer would end it; libpq may not even have the memory to say why
    assert done.returncode < 0 or "out of memory" in last_line(done) or "refused the batch: IO" in last_line(done)
    with db.connect(warehouse, "loader") as connection:
        landed = connection.execute("select count(*) as n from staging.charges").fetchone()["n"]
        assert landed in (0, 10_000)
    run(warehouse, tmp_path, AS_OF)
    assert select(warehouse, "select count(*) as n from fct_payments")[0]["n"] == 10_000


def test_a_full_temp_directory_is_one_line(warehouse, tmp_path):
    empty(warehouse)
    write_rows(tmp_path / "source", {"charges": [charge(n, amount="much" + "x" * 50_000) for n in range(1000)]})
    with small_disk(tmp_path / "tmp", megabytes=8) as disk:
        done = command(warehouse, tmp_path / "source", env={**os.environ, "TMPDIR": str(disk)})
    assert f"the disk is full (the home's, or the temp directory {disk})" in last_line(done)
    with db.connect(warehouse, "loader") as connection:
        assert connection.execute("select count(*) as n from quarantine.rows").fetchone()["n"] == 0


def test_a_disk_that_fills_up_while_marts_are_built_leads_to_the_same_marts(warehouse, tmp_path):
    empty(warehouse)
    steps = story(tmp_path / "company", 3)[:1]
    write_rows(tmp_path / "source", steps[0].rows)
    with home() as elsewhere, small_disk(elsewhere.home / "disk", megabytes=900) as disk:
        settings = load_settings(disk / "home")
        bootstrap(settings)
        ballast = disk / "ballast"

        def fill_up(text: str) -> None:
            if text == "build ...":
                free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
                with ballast.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, free - (6 << 20))

        try:
            with pytest.raises(NorthstarError, match="disk is full"):
                job.run(settings, "nightly", steps[0].as_of, str(tmp_path / "source"), fill_up)
            ballast.unlink()
            run(settings, tmp_path / "source", steps[0].as_of)
            found = fingerprint(settings)
        finally:
            embedded.stop(settings)
    run(warehouse, tmp_path / "source", steps[0].as_of)
    compare(fingerprint(warehouse), found, "after a full disk")


@pytest.mark.parametrize("jump", [timedelta(days=-2), timedelta(days=2)], ids=["back", "forward"])
def test_a_clock_that_jumps_leaves_no_turn_to_a_dead_process(warehouse, tmp_path, jump):
    empty(warehouse)
    write_rows(tmp_path, {"charges": [charge(1)]})
    code = "import sys, os; from northstar.runs.lifecycle import open_run; from northstar.base.clock import parse_time; from northstar.base.settings import load_settings; "
    code += "open_run(load_settings(sys.argv[1]), 'nightly', parse_time('2025-04-01T00:00:00Z'), sys.argv[2]); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(warehouse.home), str(tmp_path)])
    with db.connect(warehouse, "owner") as connection:
        # as if the clock had been set by so much since the turn was taken
        moved = connection.execute(
            "update audit.writer_lease set taken_at = taken_at - %(jump)s",
            {"jump": jump},
        ).rowcount
    assert moved == 1
    run(warehouse, tmp_path, AS_OF)
    assert versions(warehouse) == 1


def test_a_scheduler_that_slept_for_48_hours_publishes_what_48_hourly_runs_would_have(warehouse, tmp_path):
    empty(warehouse)
    first = [charge(n, f"2025-03-{n:02}T06:00:00Z") for n in range(1, 29)]
    write_rows(tmp_path, {"charges": first}, "before")
    start = utc("2025-03-30T00:00:00")
    run(warehouse, tmp_path, start)
    missed = [charge(100 + n, (start + timedelta(hours=n, minutes=5)).isoformat()) for n in range(47)]
    late = [
        charge(200, "2025-03-03T10:00:00Z"),
        charge(1, "2025-03-01T06:00:00Z", amount=1, updated_at="2025-03-31T00:00:00Z"),
    ]
    write_rows(tmp_path, {"charges": missed + late}, "missed")
    run(warehouse, tmp_path, start + timedelta(hours=48), "hourly")
    caught_up = fingerprint(warehouse)
    run(warehouse, tmp_path, start + timedelta(hours=48), "nightly")
    compare(fingerprint(warehouse), caught_up, "after 48 missed hours")
    assert select(warehouse, "select count(*) as n from fct_payments")[0]["n"] == 28 + 47 + 1


def test_the_same_dag_run_twice_at_once_publishes_twice_in_turn_and_changes_nothing_the_second_time(
    warehouse, tmp_path
):
    empty(warehouse)
    write_rows(tmp_path, {"charges": [charge(n) for n in range(5)]})
    run(warehouse, tmp_path, AS_OF)
    write_rows(tmp_path, {"charges": [charge(9)]}, "second")
    failures, order = [], []

    def dag_run(name: str) -> None:
        try:
            run_id = open_run(warehouse, "hourly", AS_OF, str(tmp_path), f"hourly_refresh {name}", wait=True)
            order.append(name)
            extract(warehouse, run_id, silent)
            # dbt keeps one invocation at a time in one process, so the second thread waits for the turn meanwhile
            build(warehouse, run_id, silent)
            audit(warehouse, run_id, silent)
            publish(warehouse, run_id, silent)
            close_run(warehouse, run_id)
        except Exception as exc:
            failures.append(exc)

    runs = [threading.Thread(target=dag_run, args=[name]) for name in ("scheduled", "manual")]
    for each in runs:
        each.start()
    for each in runs:
        each.join()
    assert not failures and len(order) == 2
    changed = select(warehouse, "select rows_changed from publications order by published_version")
    assert len(changed) == 3 and changed[1]["rows_changed"] > 0 and changed[2]["rows_changed"] == 0
    assert select(warehouse, "select count(*) as n from fct_payments")[0]["n"] == 6
