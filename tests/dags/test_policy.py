"""What every DAG has to be like. The DAG bag is asserted not to be empty: a policy over nothing holds always."""

import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from northstar.base.settings import ROOT, Operations
from northstar.connections.airflow import airflow_environment
from northstar.orchestration import tasks
from northstar.orchestration.approvals import PublishOperator
from northstar.orchestration.assets import MARTS
from northstar.orchestration.domains import DomainOperator, domains
from northstar.orchestration.retries import RetryWhatPasses

DAGS = Path(__file__).parents[2] / "dags"
STAGES = ["extract", "build", "audit", "publish"]


@pytest.fixture(scope="module")
def bag(warehouse):
    """The project's DAGs, parsed as Airflow does."""
    before = dict(os.environ)
    os.environ.update(airflow_environment(warehouse))
    os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = "sqlite:////tmp/northstar-never-used.db"
    try:
        from airflow.dag_processing.dagbag import DagBag

        yield DagBag(dag_folder=str(DAGS))
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_the_dags_are_exactly_these_and_all_import(bag):
    assert bag.import_errors == {}
    assert set(bag.dags) == {
        "hourly_refresh",
        "nightly_rebuild",
        "evaluate_alerts",
        "send_reports",
        "forecast_metrics",
        "erase_subject",
        "backfill_range",
        "rebuild_models",
    }


def test_a_dag_is_documented_owned_tiered_and_never_catches_up(bag):
    for dag in bag.dags.values():
        assert dag.catchup is False and dag.max_active_runs == 1
        assert {t.split(":")[0] for t in dag.tags} == {"owner", "tier"}
        for heading in ("### Purpose", "### Kind", "### Rerun", "### Expected failures"):
            assert heading in dag.doc_md, (dag.dag_id, heading)


def test_the_stages_are_task_groups_in_order(bag):
    for dag in (bag.dags["hourly_refresh"], bag.dags["nightly_rebuild"]):
        assert sorted(dag.task_group.children) == sorted(STAGES), dag.dag_id
        stage_of = {task.task_id: task.task_id.split(".")[0] for task in dag.tasks}
        assert set(stage_of.values()) == set(STAGES)
        for task in dag.tasks:
            for later in task.downstream_task_ids:
                assert STAGES.index(stage_of[task.task_id]) <= STAGES.index(stage_of[later])


def test_the_last_task_decides_about_a_run_so_upkeep_that_fails_leaves_a_published_one_green(bag):
    for dag in (bag.dags["hourly_refresh"], bag.dags["nightly_rebuild"]):
        (last,) = [t for t in dag.tasks if not t.downstream_task_ids and not isinstance(t, DomainOperator)]
        assert (last.task_id, last.trigger_rule) == ("publish.close_run", "all_done")
    assert bag.dags["nightly_rebuild"].get_task("publish.maintain_warehouse").downstream_task_ids == {
        "publish.close_run"
    }


def test_the_nightly_dag_shows_every_model_in_its_domains_task(bag):
    shown = {t.task_id: t for t in bag.dags["nightly_rebuild"].tasks if isinstance(t, DomainOperator)}
    assert set(shown) == {f"build.{domain.replace('/', '_')}" for domain in domains()}
    for domain, models in domains().items():
        task = shown[f"build.{domain.replace('/', '_')}"]
        assert task.start_trigger_args.trigger_kwargs == {"domain": domain, "models": models}
        assert all(model in task.doc_md for model in models)


def test_a_domains_task_takes_no_process_and_nobody_waits_for_it(bag):
    for task in bag.dags["nightly_rebuild"].tasks:
        if isinstance(task, DomainOperator):
            assert task.start_from_trigger and task.start_trigger_args.timeout
            # it looks on: a triggerer that is away keeps no version from readers, and no turn
            assert (task.upstream_task_ids, task.downstream_task_ids) == ({"extract.settle_sources"}, set())


def test_spark_has_a_task_of_its_own_where_it_is_turned_on(bag, tmp_path, monkeypatch):
    assert "build.build_wide_models" not in bag.dags["nightly_rebuild"].task_ids
    monkeypatch.setenv("NORTHSTAR_CONFIG", str(tmp_path))
    (tmp_path / "operations.yml").write_text("lake: lake\nwide_engine: spark\n")
    on_spark = type(bag)(dag_folder=str(DAGS))
    assert on_spark.import_errors == {}
    for policy in (
        test_the_stages_are_task_groups_in_order,
        test_the_last_task_decides_about_a_run_so_upkeep_that_fails_leaves_a_published_one_green,
        test_a_domains_task_takes_no_process_and_nobody_waits_for_it,
        test_models_and_checks_are_not_retried,
    ):
        policy(on_spark)
    task = on_spark.dags["nightly_rebuild"].get_task("build.build_wide_models")
    assert (task.upstream_task_ids, task.downstream_task_ids) == ({"extract.settle_sources"}, {"build.build_models"})
    assert task.retries == 2 and isinstance(task.retry_policy, RetryWhatPasses)
    assert "build.build_wide_models" not in on_spark.dags["hourly_refresh"].task_ids
    # a run says what is wrong with the settings; the DAG is there all the same
    (tmp_path / "operations.yml").write_text("wide_engine: hadoop\n")
    assert type(bag)(dag_folder=str(DAGS)).import_errors == {}


def test_models_and_checks_are_not_retried(bag):
    for dag in bag.dags.values():
        for task in dag.tasks:
            assert task.retries == 0 or task.task_id in (
                "extract.land_source",
                "build.build_wide_models",
                "send_report",
                "send_subscriptions",
            ), task.task_id
            assert task.task_id != "extract.land_source" or isinstance(task.retry_policy, RetryWhatPasses)


def test_who_follows_a_publication_is_scheduled_on_it(bag):
    for name in ("hourly_refresh", "nightly_rebuild"):
        telling = {
            task.task_id: [asset.name for asset in task.outlets] for task in bag.dags[name].tasks if task.outlets
        }
        assert telling == {"publish.publish_marts": ["northstar_marts"]}
    following = {dag.dag_id for dag in bag.dags.values() if dag.timetable.asset_condition}
    assert following == {"forecast_metrics", "send_reports"}
    assert bag.dags["send_reports"].timetable.timetable.summary == "30 6 * * *"


def test_what_publishes_may_ask_and_who_waits_for_it_has_the_time(bag):
    for name in ("hourly_refresh", "nightly_rebuild"):
        asking = bag.dags[name].get_task("publish.publish_marts")
        assert isinstance(asking, PublishOperator) and asking.execution_timeout
    longest = timedelta(hours=Operations().approve_within_hours)
    assert bag.dags["hourly_refresh"].get_task("extract.open_run").execution_timeout > 2 * longest


def test_what_publishes_has_a_deadline_behind_the_promises(bag):
    has_deadline = {name: [alert.interval for alert in dag.deadline] for name, dag in bag.dags.items() if dag.deadline}
    assert has_deadline == {"hourly_refresh": [timedelta(hours=2.5)], "nightly_rebuild": [timedelta(hours=2.5)]}
    for name in has_deadline:
        [alert] = bag.dags[name].deadline
        assert alert.callback.path == "northstar.orchestration.deadlines.report_missed_deadline"


def test_the_page_in_airflow_asks_airflow_who_may_see_it_and_costs_tasks_nothing():
    """Every process of Airflow reads the plugin; only the api-server may import what serves its page."""
    code = (
        "import sys; from airflow import plugins_manager as p; [ours] = [x for x in p._get_plugins()[0] if x.name == 'northstar']; "
        "assert not {'fastapi', 'northstar.orchestration.run_page'} & sys.modules.keys(); "
        "[app] = [a['app'] for a in p.get_fastapi_plugins()[0] if a['name'] == 'Northstar']; "
        "print(*(f'{route.path}={[d.dependency.__qualname__ for d in route.dependencies]}' for route in app.routes))"
    )
    env = os.environ | {
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(DAGS.parent / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////tmp/northstar-never-used.db",
    }
    answer = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    asks = "['requires_access_dag.<locals>.inner']"
    paths = ("/", "/runs/{number}", "/dags/{dag_id}/runs/{dag_run_id:path}")
    assert answer.stdout.splitlines()[-1] == " ".join(f"{path}={asks}" for path in paths)


def test_the_documented_dag_of_somebody_else_follows_the_marts(bag, tmp_path):
    text = (ROOT / "docs" / "operations.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", text.partition("## Your own DAG after a publication")[2], re.DOTALL)
    (tmp_path / "example.py").write_text(example)
    own = type(bag)(dag_folder=str(tmp_path))
    assert own.import_errors == {}
    [dag] = own.dags.values()
    assert [asset.name for asset in dag.timetable.asset_condition.objects] == ["northstar_marts"]
    assert dag.tasks


def test_forecasts_are_made_after_the_night_and_not_each_hour():
    hourly = SimpleNamespace(extra={"version": 8, "mode": "hourly"})
    with pytest.raises(AirflowSkipException, match="no nightly run has published"):
        tasks.forecast_metrics(triggering_asset_events={MARTS: [hourly, hourly]})


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda p: p.stem)
def test_a_dag_file_wires_and_nothing_else(path):
    text = path.read_text()
    assert len(text.splitlines()) < 80
    assert not re.search(r"\b(select|insert|update|delete)\b.+\b(from|into|set)\b", text, re.IGNORECASE)
    assert not re.search(r"Variable\.get|get_connection|open\(|requests|psycopg|read_text", text)


def test_the_hours_of_the_schedules(bag):
    assert bag.dags["hourly_refresh"].timetable.summary == "0 * * * *"
    assert bag.dags["nightly_rebuild"].timetable.summary == "30 2 * * *"


def test_the_scheduler_has_read_what_the_nightly_dag_imports(bag):
    """Each of its tasks would import it again."""
    code = """
import sys
sys.argv = ["airflow", "scheduler"]
import airflow.settings
airflow.settings.initialize()
assert not [name for name in sys.modules if name.startswith("northstar")], "a task runs the code that lies there when it starts"
before = set(sys.modules)
from airflow.dag_processing.dagbag import DagBag
assert DagBag(dag_folder="DAG").dags
print(sorted(name for name in set(sys.modules) - before if name.startswith(("fastapi", "psycopg", "numpy", "pyarrow", "dbt"))))
""".replace('DAG")', f'{DAGS}/nightly_rebuild.py")')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout[-500:] + done.stderr[-2000:]
