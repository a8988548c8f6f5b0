"""A Postgres that is not ours is restarted in the middle of a run: one line, exit status 1, and the next run publishes."""

import threading
import time
from contextlib import contextmanager

import pytest

from northstar.audit import worker as auditors
from northstar.cli import main as cli
from northstar.runs import job
from northstar.warehouse import db
from northstar.warehouse.setup import bootstrap
from tests import external
from tests.faults.runner import InThisProcess
from tests.support import select, write_rows

pytestmark = pytest.mark.timeout(1800)
AS_OF = "2025-04-01T00:00:00Z"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """(a server, the settings of a home with its warehouse there, its source)."""
    with external.server(15 if external.DEBIAN.exists() else 18) as server:
        server.make_database("shop")
        settings = server.home("shop")
        bootstrap(settings)
        rows = [{"charge_id": f"c{n}", "account_id": "a", "application": "web", "amount": 100, "currency": "USD", "status": "succeeded",
                 "created_at": "2025-03-05T00:00:00Z", "updated_at": "2025-03-05T00:00:00Z"} for n in range(5)]  # fmt: skip
        yield server, settings, write_rows(tmp_path_factory.mktemp("source"), {"charges": rows})


@pytest.fixture
def command(shop, monkeypatch, capsys):
    """A function that calls `northstar run`, does something meanwhile, and returns its exit status and what it said last."""
    _, settings, source = shop
    monkeypatch.setenv("NORTHSTAR_WAREHOUSE_URL", settings.warehouse_url)
    # the auditor's own process takes longer to begin than all the rest
    monkeypatch.setattr(auditors, "start_worker", InThisProcess)
    words = ["run", "--as-of", AS_OF, "--source-dir", str(source), "--home", str(settings.home)]

    def call(meanwhile=lambda running: None) -> tuple[int, str]:
        statuses = []
        running = threading.Thread(target=lambda: statuses.append(cli.main(words)))
        running.start()
        meanwhile(running)
        running.join()
        # a traceback leaves no status
        assert statuses, capsys.readouterr().err
        return statuses[0], capsys.readouterr().err.strip().splitlines()[-1]

    return call


@contextmanager
def held(server):
    """A table of landed rows is held as long as the context lasts, so that whoever writes or reads it waits."""
    holder = server.connect("shop")
    try:
        holder.execute("begin")
        holder.execute("lock table staging.charges in access exclusive mode")
        yield
    finally:
        holder.close()


def restart_where_it_waits(running: threading.Thread, server, settings, role: str, mode: str) -> None:
    """Restart the server once a session of the role waits for a table."""
    waiting = (
        "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = 'shop' "
        f"and usename = '{db.role_name(settings, role)}'"
    )
    while not server.run(waiting):
        assert running.is_alive(), "the run ended before it came to the table"
        time.sleep(0.02)
    server.restart(mode)


def tells_in_a_line(status: int, said: str) -> bool:
    return status == 1 and said.startswith("northstar: ") and ("connection" in said or "warehouse" in said)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_while_a_run_lands_is_a_line(shop, command, mode):
    server, settings, _ = shop
    with held(server):
        status, said = command(lambda running: restart_where_it_waits(running, server, settings, "loader", mode))
    assert tells_in_a_line(status, said), said


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_while_a_run_builds_is_a_line(shop, command, monkeypatch, mode):
    server, settings, _ = shop
    building = job.build

    def build(*given):
        with held(server):
            return building(*given)

    monkeypatch.setattr(job, "build", build)
    status, said = command(lambda running: restart_where_it_waits(running, server, settings, "transformer", mode))
    assert tells_in_a_line(status, said), said


def test_the_next_run_publishes(shop, command):
    _, settings, _ = shop
    assert command()[0] == 0
    assert select(settings, "select count(*) as n from fct_payments")[0]["n"] == 5
