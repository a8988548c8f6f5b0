"""Airflow for real: the services start, the schedule runs both DAGs, everything stops without a trace."""

import json
import sqlite3
from datetime import timedelta

import psutil
import pytest

from northstar import db
from northstar.cli import main, parse_time
from northstar.errors import NorthstarError
from northstar.orchestration.services import start_services, stop_services
from northstar.orchestration.up import Api, follow, owed_run
from northstar.settings import ROOT
from northstar.simulator import simulate
from tests.conftest import home
from tests.support import select, silent

SOURCES = """
sources:
  crm: {system: sql, connection: crm, entities: [accounts], application: web, options: {timezone: UTC, entities: {accounts: {query:
    "select id as account_id, 'customer' as account_type, at as created_at, at as updated_at from users", cursor: updated_at}}}}
  gone: {system: sql, connection: gone, entities: [accounts], options: {entities: {accounts: {table: users}}}}
"""


@pytest.mark.timeout(600)
def test_the_scheduler_runs_both_dags_and_stop_leaves_no_process(tmp_path, monkeypatch):
    simulate(tmp_path, months=1, accounts=40, applications=("web",), end=parse_time(None))
    monkeypatch.setenv("NORTHSTAR_SOURCE_DIR", str(tmp_path))
    monkeypatch.setenv("NORTHSTAR_RETRY_SECONDS", "1")
    with sqlite3.connect(tmp_path / "crm.db") as crm:
        crm.execute("create table users as select 'crm_1' as id, '2025-01-01 10:00:00' as at")
    for name, path in (("CRM", tmp_path / "crm.db"), ("GONE", "/nowhere/gone.db")):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": "sqlite", "schema": str(path)}))
    with home() as settings:
        start_services(settings, silent)
        try:
            api = Api(settings)
            run_id = owed_run(api, "nightly_rebuild")
            follow(api, "nightly_rebuild", run_id, silent)
            tasks = api.tasks("nightly_rebuild", run_id)
            models = {p.stem for p in (ROOT / "dbt_project" / "models").rglob("*.sql")}
            assert {f"build.{m}_run" for m in models} <= set(tasks)
            assert set(tasks.values()) == {"success"}

            # a task for each source: the one that is down is red, and the others are published
            (settings.home / "sources.yml").write_text(SOURCES)
            run_id = owed_run(api, "hourly_refresh")
            follow(api, "hourly_refresh", run_id, silent)
            (settings.home / "sources.yml").unlink()
            with db.connect(settings, "loader") as connection:
                told = connection.execute(
                    "select source, succeeded from audit.source_runs where system = 'sql' order by 1"
                ).fetchall()
            assert [tuple(t.values()) for t in told] == [("crm", True), ("gone", False)]
            assert select(settings, "select application from dim_accounts where account_id = 'crm_1'") == [
                {"application": "web"}
            ]
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


def _belongs_to(process: psutil.Process, place: str) -> bool:
    try:
        return any(place in word for word in process.cmdline()) or process.environ().get("NORTHSTAR_HOME") == place
    except psutil.Error:
        return False
