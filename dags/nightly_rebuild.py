"""Nightly: land what is new, rebuild everything with each model as a task, audit, publish."""

import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, TaskGroup
from airflow.timetables.interval import CronDataIntervalTimetable
from cosmos import DbtTaskGroup, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import ExecutionMode, InvocationMode, LoadMode, TestBehavior

from northstar.orchestration import tasks

PROJECT = Path(__file__).parents[1] / "dbt_project"
HOME = Path(os.environ.get("NORTHSTAR_HOME", PROJECT.parent / ".northstar"))
DOC = """
### Purpose
Rebuild every model from the landed rows (`--full-refresh`), audit, publish: what the hourly runs left is proven or mended.
### Kind
Interval DAG: `as_of` is the end of the data interval (02:30 UTC); by hand the current hour, or conf `{"as_of": "2025-04-01T00:00:00Z"}`.
### Rerun
Trigger it again, or backfill a past interval: the same rows and the same `as_of` give the same marts.
### Expected failures
As hourly_refresh. A model that fails is red by name; its message is in the log of `dbt_producer_watcher`.
`maintain_warehouse` red in a green run: the version is up, only the upkeep failed (docs/runbooks.md, maintenance_failed).
"""

with DAG(
    dag_id="nightly_rebuild",
    description="Land, rebuild everything, audit, publish",
    schedule=CronDataIntervalTimetable("30 2 * * *", timezone="UTC"),
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=DOC,
    tags=["owner:data-platform", "tier:1"],
    default_args={"owner": "data-platform", "retries": 0, "execution_timeout": timedelta(hours=4)},
):
    with TaskGroup("extract") as extract:
        opened = PythonOperator(task_id="open_run", python_callable=tasks.open_run, op_kwargs={"mode": "nightly"})
        listed = PythonOperator(task_id="list_sources", python_callable=tasks.list_sources)
        landed = PythonOperator.partial(
            task_id="land_source", python_callable=tasks.land_source, retries=2, retry_delay=timedelta(minutes=2),
            map_index_template="{{ task.op_kwargs['name'] }}",
        ).expand(op_kwargs=listed.output)  # fmt: skip
        settled = PythonOperator(
            task_id="settle_sources", python_callable=tasks.settle_sources, trigger_rule="all_done"
        )
        opened >> listed >> landed >> settled
    build = DbtTaskGroup(
        group_id="build",
        project_config=ProjectConfig(dbt_project_path=PROJECT, manifest_path=HOME / "dbt" / "dag" / "manifest.json"),
        profile_config=ProfileConfig("northstar", "warehouse", profiles_yml_filepath=PROJECT / "profiles.yml"),
        execution_config=ExecutionConfig(ExecutionMode.WATCHER, InvocationMode.SUBPROCESS),
        render_config=RenderConfig(load_method=LoadMode.DBT_MANIFEST, test_behavior=TestBehavior.NONE, emit_datasets=False),
        operator_args={"full_refresh": True, "install_deps": False, "deferrable": False, "poke_interval": 1,
                       # NONE spares a task for each model's tests; the producer runs them all the same
                       "dbt_cmd_flags": ["--resource-type", "test"]},
    )  # fmt: skip
    with TaskGroup("audit") as audit:
        verified = PythonOperator(task_id="verify_build", python_callable=tasks.verify_build)
        verified >> PythonOperator(task_id="audit_marts", python_callable=tasks.audit_marts)
    with TaskGroup("publish") as publish:
        published = PythonOperator(task_id="publish_marts", python_callable=tasks.publish_marts)
        kept = PythonOperator(task_id="maintain_warehouse", python_callable=tasks.maintain_warehouse)
        closed = PythonOperator(task_id="close_run", python_callable=tasks.close_run, trigger_rule="all_done")
        published >> kept >> closed
    extract >> build >> audit >> published
