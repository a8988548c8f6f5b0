"""Hourly: land what is new, rebuild the periods it touches, audit, publish."""

import os
from datetime import datetime, timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, TaskGroup
from airflow.timetables.interval import CronDataIntervalTimetable

from northstar.orchestration import tasks
from northstar.orchestration.approvals import PublishOperator
from northstar.orchestration.assets import MARTS
from northstar.orchestration.deadlines import publication_deadline
from northstar.orchestration.retries import RetryWhatPasses

# the time between two tries of a source that is down; after the third its task is red
RETRY_DELAY = timedelta(seconds=int(os.environ.get("NORTHSTAR_RETRY_SECONDS", "30")))
DOC = """
### Purpose
Land what arrived since the last hour, rebuild the periods it touches with dbt in one process, audit, publish.
### Kind
Interval DAG: `as_of` is the end of the data interval; by hand it is the current hour, or conf `{"as_of": "2025-04-01T00:00:00Z"}`.
conf `{"source_dir": "/data/source"}` reads that directory instead of NORTHSTAR_SOURCE_DIR; without either and without declared
sources (`sources.yml`) it reads the demonstration company.
### Rerun
Clear the run or trigger it again: landing skips what it has read, the build starts from the last published version.
### Expected failures
The task of a source that is down is red, and the others are published without it; a required source stops the run in `settle_sources`.
A failed check or model stops the publish and keeps the last version up; read the failed task's last line, fix the cause, trigger the DAG again.
A run waits in `open_run` while another one writes.
"""

with DAG(
    dag_id="hourly_refresh",
    description="Land, build what changed, audit, publish",
    schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    deadline=publication_deadline(timedelta(hours=1)),
    doc_md=DOC,
    tags=["owner:data-platform", "tier:1"],
    default_args={"owner": "data-platform", "retries": 0, "execution_timeout": timedelta(hours=2)},
):
    with TaskGroup("extract") as extract:
        # a night may wait for an approval, and this run for the night
        open_run = PythonOperator(
            task_id="open_run",
            python_callable=tasks.open_run,
            op_kwargs={"mode": "hourly"},
            execution_timeout=timedelta(days=2),
        )
        list_sources = PythonOperator(task_id="list_sources", python_callable=tasks.list_sources)
        land_sources = PythonOperator.partial(
            task_id="land_source", python_callable=tasks.land_source, retries=2, retry_delay=RETRY_DELAY, retry_policy=RetryWhatPasses(),
            map_index_template="{{ task.op_kwargs['name'] }}",
        ).expand(op_kwargs=list_sources.output)  # fmt: skip
        settle_sources = PythonOperator(
            task_id="settle_sources", python_callable=tasks.settle_sources, trigger_rule="all_done"
        )
        open_run >> list_sources >> land_sources >> settle_sources
    with TaskGroup("build") as build:
        PythonOperator(task_id="build_models", python_callable=tasks.build_models)
    with TaskGroup("audit") as audit:
        PythonOperator(task_id="audit_marts", python_callable=tasks.audit_marts)
    with TaskGroup("publish") as publish:
        publish_marts = PublishOperator(task_id="publish_marts", outlets=[MARTS])
        publish_marts >> PythonOperator(task_id="close_run", python_callable=tasks.close_run, trigger_rule="all_done")
    extract >> build >> audit >> publish_marts
