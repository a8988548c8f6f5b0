"""Airflow for real: the services start, the schedule runs both DAGs, everything stops without a trace."""

import json
import re
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import psutil
import psycopg
import pytest

from northstar.base.clock import parse_time
from northstar.base.errors import NorthstarError
from northstar.base.service_processes import recorded_services, running_services
from northstar.base.settings import load_settings
from northstar.base.telemetry import OFF
from northstar.cli.main import main
from northstar.connections.airflow import airflow_environment
from northstar.demo.company import simulate
from northstar.orchestration.domains import domains
from northstar.orchestration.services import _own_processes, start_services, stop_services
from northstar.orchestration.up import Api, follow, owed_run, why_run_is_owed
from northstar.publish.approval import describe_pending_approval
from northstar.publish.stage import describe_publication
from northstar.warehouse import db
from tests.conftest import home
from tests.support import accessible_to_others, find_needles, json_server, select, silent, udp_receiver, write_rows

SOURCES = """
sources:
  crm: {system: sql, connection: crm, entities: [accounts], application: web, options: {timezone: UTC, entities: {accounts: {query:
    "select id as account_id, 'customer' as account_type, at as created_at, at as updated_at from users", cursor: updated_at}}}}
  gone: {system: sql, connection: gone, entities: [accounts], options: {entities: {accounts: {table: users}}}}
"""
LATE = {
    "charge_id": "late",
    "account_id": "a",
    "application": "web",
    "amount": 1000,
    "currency": "USD",
    "status": "succeeded",
}
SHOWN_AT = (("nav", "/northstar/"), ("dag_run", "/northstar/dags/{DAG_ID}/runs/{RUN_ID}"))
PUBLISHING = "publish.publish_marts"
# a model that cannot be built
REFUSE_COHORT_CASH = """
create function public.refuse_cohort_cash() returns event_trigger language plpgsql as $$ begin
    if exists (select 1 from pg_event_trigger_ddl_commands() where object_identity like '%cohort_cash%') then raise 'no cohorts today'; end if;
end $$;
create event trigger refuse_cohort_cash on ddl_command_end when tag in ('CREATE TABLE', 'CREATE TABLE AS') execute function public.refuse_cohort_cash();
"""


START = """
import sys
from northstar.orchestration.services import start_services
from northstar.base.settings import load_settings

start_services(load_settings(sys.argv[1]))
"""


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("private")
def test_the_scheduler_runs_both_dags_and_stop_leaves_no_process(tmp_path, tmp_path_factory, monkeypatch):
    simulate(tmp_path, months=1, accounts=40, applications=("web",), end=parse_time(None))
    monkeypatch.setenv("NORTHSTAR_SOURCE_DIR", str(tmp_path))
    monkeypatch.setenv("NORTHSTAR_RETRY_SECONDS", "1")
    events = []
    with sqlite3.connect(tmp_path / "crm.db") as crm:
        crm.execute("create table users as select 'crm_1' as id, '2025-01-01 10:00:00' as at")
    for name, path in (("CRM", tmp_path / "crm.db"), ("GONE", "/nowhere/gone.db")):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": "sqlite", "schema": str(path)}))
    with (
        home() as settings,
        udp_receiver() as (port, metrics),
        json_server(lambda path, event: events.append((path, event)) or {}) as lineage,
    ):
        (settings.home / "operations.yml").write_text(
            f"statsd: 127.0.0.1:{port}\nopenlineage: {lineage}\nfreshness: {{marts: {{all: {{hours: 0.001}}}}}}\n"
        )
        settings = load_settings(settings.home)
        # a start that is killed midway, as `make run` may be
        with subprocess.Popen([sys.executable, "-c", START, str(settings.home)]) as starting:
            while "api-server" not in recorded_services(settings):
                time.sleep(0.05)
            starting.kill()
        start_services(settings, silent)
        try:
            api = Api(settings)
            api.unpause("forecast_metrics")
            run_id = owed_run(api, "nightly_rebuild")
            follow(api, "nightly_rebuild", run_id, silent)
            ours = [
                p for p in psutil.process_iter() if _belongs_to(p, str(settings.home)) and "postgres" not in p.name()
            ]
            assert len(ours) >= 4 and all(OFF.items() <= p.environ().items() for p in ours if p.is_running())
            ours += _own_processes(settings)
            # servers of logs and all: nobody beyond this machine can ask them
            listening = [
                c.laddr for p in ours if p.is_running() for c in p.net_connections("inet") if c.status == "LISTEN"
            ]
            assert listening and {at.ip for at in listening} <= {"127.0.0.1", "::1"}
            assert not {at.port for at in listening} & {8793, 8794}
            tasks = api.tasks("nightly_rebuild", run_id)
            assert {f"build.{domain.replace('/', '_')}" for domain in domains()} < set(tasks)
            assert set(tasks.values()) == {"success"}
            assert "publish.maintain_warehouse" in tasks
            for domain, models in domains().items():
                log = _log(api, "nightly_rebuild", run_id, f"build.{domain.replace('/', '_')}")
                assert all(re.search(rf"{model} +success +\d+\.\d\d +(\d+|-)", log) for model in models), log
            _demand_told(metrics, events)
            [event] = api._call("/api/v2/assets/events")["asset_events"]
            assert event["source_run_id"] == run_id and event["extra"] == describe_publication(settings, 1)
            # it took longer than what was promised leaves it: Airflow's own deadline has asked for an evaluation of the alerts
            [deadline] = api._call(f"/ui/dags/nightly_rebuild/dagRuns/{run_id}/deadlines")["deadlines"]
            assert deadline["missed"] and deadline["alert_name"] == "published in the promised time"
            _await_callback(settings)
            # the page inside Airflow shows the run to who may see it there, and to nobody else
            page = _page(api, f"/northstar/dags/nightly_rebuild/runs/{quote(run_id, safe='')}")
            assert "Run 1, nightly" in page and "version 1 at" in page and ">mrr_movements<" in page
            assert "Run 1, nightly" in _page(api, "/northstar/runs/1") and 'href="/northstar/runs/1"' in _page(
                api, "/northstar/"
            )
            assert set(SHOWN_AT) == {
                (view["destination"], view["href"])
                for plugin in api._call("/api/v2/plugins?limit=50")["plugins"]
                if plugin["name"] == "northstar"
                for view in plugin["external_views"]
            }
            for path in (
                "/northstar/",
                "/northstar/runs/1",
                f"/northstar/dags/nightly_rebuild/runs/{quote(run_id, safe='')}",
            ):
                for headers, status in (({}, 401), ({"Authorization": "Bearer nobody"}, 403)):
                    with pytest.raises(HTTPError) as refused:
                        urlopen(Request(api.base + path, headers=headers))
                    assert refused.value.code == status and b"nightly" not in refused.value.read()
            # what follows the marts has been started by that
            follow(api, "forecast_metrics", api.await_run("forecast_metrics", "asset_triggered"), silent)
            # what `make run` asks: nothing more is owed
            assert (owed_run(api, "nightly_rebuild"), why_run_is_owed(settings, [])) == (None, None)

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
            past = published[1]["as_of"].replace(minute=0) - timedelta(days=2)
            words = ["--dag-id", "hourly_refresh", "--from-date", past.isoformat(), "--to-date", past.isoformat()]
            assert main(["airflow", "--home", str(settings.home), "backfill", "create", *words]) == 0
            follow(api, "hourly_refresh", api.await_run("hourly_refresh", "backfill"), silent)
            # the hour may have turned meanwhile, and the schedule have published the present again
            later = select(settings, "select as_of from publications where published_version > 2")
            assert {p["as_of"] for p in later} & {past, past + timedelta(hours=1)}

            # a night that would restate more than is allowed waits for somebody, without a process, and publishes when it is told to
            (settings.home / "operations.yml").write_text("approve_above: 0\n")
            # a source of its own: an hourly run that the schedule starts just now reads the other one
            at = (past - timedelta(days=9)).isoformat()
            late = write_rows(
                tmp_path_factory.mktemp("late"), {"charges": [LATE | {"created_at": at, "updated_at": at}]}
            )
            run_id = api.trigger("nightly_rebuild", {"source_dir": str(late)})
            said = []
            with ThreadPoolExecutor(1) as pool:
                following = pool.submit(follow, api, "nightly_rebuild", run_id, said.append)
                while not following.done() and not any("waits for an approval" in line for line in said):
                    time.sleep(0.5)
                asked = f"/api/v2/dags/nightly_rebuild/dagRuns/{run_id}/taskInstances/{PUBLISHING}/-1/hitlDetails"
                assert "| cash_collected |" in api._call(asked)["body"]
                with db.connect(settings, "transformer") as connection:
                    assert "for an approval in Airflow" in describe_pending_approval(connection)
                api._call(asked, {"chosen_options": ["Publish"], "params_input": {}}, "PATCH")
                following.result()
            with db.connect(settings, "transformer") as connection:
                [decided] = connection.execute("select is_approved, decided_by from audit.approvals").fetchall()
            assert decided == {"is_approved": True, "decided_by": "admin"}
            assert select(settings, "select count(*) as n from fct_payments where charge_id = 'late'") == [{"n": 1}]
            (settings.home / "operations.yml").unlink()

            # a run that fails is red, says why, publishes nothing and gives the turn back
            run_id = api.trigger("hourly_refresh", {"source_dir": "/nowhere"})
            with pytest.raises(NorthstarError):
                follow(api, "hourly_refresh", run_id, silent)
            with db.connect(settings, "transformer") as connection:
                last = connection.execute("select * from audit.runs where source_dir = '/nowhere'").fetchone()
                assert last["state"] == "failed" and "no source directory /nowhere" in last["message"]
                turn = connection.execute("select * from audit.writer_lease where run_id = %s", [last["run_id"]])
                assert turn.fetchone() is None

            # a model that fails is red by its domain and named there, and what reads it is not said to have been built
            with db.connect(settings, "owner") as connection:
                connection.execute(REFUSE_COHORT_CASH)
            run_id = api.trigger("nightly_rebuild", {"source_dir": str(tmp_path)})
            with pytest.raises(NorthstarError):
                follow(api, "nightly_rebuild", run_id, silent)
            tasks = api.tasks("nightly_rebuild", run_id)
            assert tasks["build.build_models"] == tasks["build.core_cohorts"] == "failed"
            assert tasks["build.marts_cohorts"] == "skipped" and tasks["build.core_signals"] == "success"
            assert tasks["audit.audit_marts"] == tasks["publish.publish_marts"] == "upstream_failed"
            assert "model cohort_cash failed" in _log(api, "nightly_rebuild", run_id, "build.core_cohorts")
            # nor is anybody of the source files in Airflow's database, its tasks' logs, or anywhere else
            assert find_needles(settings, ["person1@example.com", "203.0.113.7"]) == set()
            assert list((settings.logs / "airflow").rglob("*.log")) and accessible_to_others(settings.home) == []
            # its workers and their log server are found without it
            running_services(settings)["scheduler"].kill()
        finally:
            assert main(["stop", "--home", str(settings.home)]) == 0
        assert stop_services(settings) == []
        left = [p for p in psutil.process_iter() if _belongs_to(p, str(settings.home)) or p in ours]
        assert [p for p in left if p.status() != psutil.STATUS_ZOMBIE] == []


def _log(api: Api, dag_id: str, run_id: str, task_id: str) -> str:
    """What a task's first try has logged, as Airflow's pages show it."""
    answer = api._call(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1")
    return "\n".join(entry["event"] for entry in answer["content"])


def _demand_told(metrics: list[str], events: list[tuple]) -> None:
    """The StatsD server and the OpenLineage server that operations.yml names have heard of the nightly run and of its tasks."""
    wanted = {
        "northstar.dagrun.duration.success.nightly_rebuild",
        "northstar.dag.nightly_rebuild.publish__publish_marts.duration",
    }
    completed = {
        "nightly_rebuild",
        "nightly_rebuild.publish.publish_marts",
        "nightly_rebuild.build.build_models",
        # the last of the models and marts
        "marts.user_paths",
    }
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        told = {line.split(":")[0] for line in metrics}
        done = {e["job"]["name"] for path, e in events if path == "/api/v1/lineage" and e["eventType"] == "COMPLETE"}
        if wanted <= told and completed <= done:
            made_from = {
                e["job"]["name"]: {i["name"].partition(".")[2] for i in e["inputs"]}
                for path, e in events if path == "/api/v1/lineage" and e["job"]["name"].startswith(("models.", "marts."))
            }  # fmt: skip
            assert "staging.charges" in made_from["models.stg_charges"] and made_from["marts.fct_payments"] == {
                "marts_candidate.fct_payments"
            }
            assert len(made_from) > 100 and "core.metrics_events" in made_from["marts.metric_points"]
            watching = {name for name in done if name.startswith("nightly_rebuild.build.")} - completed
            assert not watching, "who only watches tells nothing"
            return
        time.sleep(0.2)
    raise AssertionError((wanted - told, completed - done, sorted(told)[:50], sorted(done)))


def _page(api: Api, path: str) -> str:
    """A page that the api-server serves to who is logged in."""
    with urlopen(Request(api.base + path, headers={"Authorization": f"Bearer {api.token}"})) as answer:
        assert (
            answer.headers["Content-Type"].startswith("text/html")
            and "default-src 'none'" in answer.headers["Content-Security-Policy"]
        )
        return answer.read().decode()


def _await_callback(settings) -> None:
    """Wait until the triggerer has run the callback of a missed deadline."""
    address = airflow_environment(settings)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    until = time.monotonic() + 300
    with psycopg.connect(re.sub(r"^postgresql\+\w+", "postgresql", address), autocommit=True) as connection:
        while (states := connection.execute("select state, output from callback order by created_at").fetchall()) and (
            states[0][0] not in ("success", "failed")
        ):
            assert time.monotonic() < until, states
            time.sleep(0.5)
    assert states[0][0] == "success", states


def _belongs_to(process: psutil.Process, place: str) -> bool:
    try:
        return any(place in word for word in process.cmdline()) or process.environ().get("NORTHSTAR_HOME") == place
    except psutil.Error:
        return False
