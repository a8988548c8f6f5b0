"""Airflow for real: the services start, the schedule runs both DAGs, everything stops without a trace."""

import time
from datetime import timedelta

import psutil
import pytest

from northstar import db
from northstar.cli import main, parse_time
from northstar.errors import NorthstarError
from northstar.orchestration.services import start_services, stop_services
from northstar.orchestration.up import Api, follow, owed_run
from northstar.settings import ROOT, load_settings
from northstar.simulator import simulate
from tests.conftest import home
from tests.support import hearing, select, serving, silent


@pytest.mark.timeout(600)
def test_the_scheduler_runs_both_dags_and_stop_leaves_no_process(tmp_path, monkeypatch):
    simulate(tmp_path, months=1, accounts=40, applications=("web",), end=parse_time(None))
    monkeypatch.setenv("NORTHSTAR_SOURCE_DIR", str(tmp_path))
    monkeypatch.setenv("NORTHSTAR_RETRY_SECONDS", "1")
    events = []
    with (
        home() as settings,
        hearing() as (port, metrics),
        serving(lambda path, event: events.append((path, event)) or {}) as lineage,
    ):
        (settings.home / "operations.yml").write_text(f"statsd: 127.0.0.1:{port}\nopenlineage: {lineage}\n")
        settings = load_settings(settings.home)
        start_services(settings, silent)
        try:
            api = Api(settings)
            run_id = owed_run(api, "nightly_rebuild")
            follow(api, "nightly_rebuild", run_id, silent)
            tasks = api.tasks("nightly_rebuild", run_id)
            models = {p.stem for p in (ROOT / "dbt_project" / "models").rglob("*.sql")}
            assert {f"build.{m}_run" for m in models} <= set(tasks)
            assert set(tasks.values()) == {"success"}
            assert "publish.maintain_warehouse" in tasks
            _demand_told(metrics, events)

            run_id = owed_run(api, "hourly_refresh")
            follow(api, "hourly_refresh", run_id, silent)
            published = select(settings, "select mode, as_of from publications order by published_version")
            assert [p["mode"] for p in published] == ["nightly", "hourly"]
            assert published[0]["as_of"] <= published[1]["as_of"]

            # a backfill of a past interval publishes the state at that interval's end
            past = published[1]["as_of"] - timedelta(days=2)
            words = ["--dag-id", "hourly_refresh", "--from-date", past.isoformat(), "--to-date", past.isoformat()]
            assert main(["airflow", "--home", str(settings.home), "backfill", "create", *words]) == 0
            follow(api, "hourly_refresh", api.await_run("hourly_refresh", "backfill"), silent)
            newest = select(settings, "select as_of from publications order by published_version desc limit 1")
            assert newest[0]["as_of"] in (past, past + timedelta(hours=1))

            # a run that fails is red, says why, publishes nothing and gives the lease back
            run_id = api.trigger("hourly_refresh", {"source_dir": "/nowhere"})
            with pytest.raises(NorthstarError):
                follow(api, "hourly_refresh", run_id, silent)
            with db.connect(settings, "transformer") as connection:
                last = connection.execute(
                    "select state, message from audit.runs order by run_id desc limit 1"
                ).fetchone()
                assert last["state"] == "failed" and "no source directory /nowhere" in last["message"]
                assert connection.execute("select * from audit.writer_lease").fetchone() is None
        finally:
            assert main(["stop", "--home", str(settings.home)]) == 0
        assert stop_services(settings) == []
        left = [p for p in psutil.process_iter() if _belongs_to(p, str(settings.home))]
        assert left == []


def _demand_told(metrics: list[str], events: list[tuple]) -> None:
    """The StatsD server and the OpenLineage server that operations.yml names have heard of the nightly run and of its tasks."""
    wanted = {
        "northstar.dagrun.duration.success.nightly_rebuild",
        "northstar.ti.finish.nightly_rebuild.publish.publish_marts.success",
    }
    completed = {
        "nightly_rebuild",
        "nightly_rebuild.publish.publish_marts",
        "nightly_rebuild.build.dbt_producer_watcher",
    }
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        told = {line.split(":")[0] for line in metrics}
        done = {e["job"]["name"] for path, e in events if path == "/api/v1/lineage" and e["eventType"] == "COMPLETE"}
        if wanted <= told and completed <= done:
            assert not any(name.endswith("_run") for name in done), "who only watches tells nothing"
            return
        time.sleep(0.2)
    raise AssertionError((wanted - told, completed - done, sorted(told)[:50], sorted(done)))


def _belongs_to(process: psutil.Process, place: str) -> bool:
    try:
        return any(place in word for word in process.cmdline()) or process.environ().get("NORTHSTAR_HOME") == place
    except psutil.Error:
        return False
