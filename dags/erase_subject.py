"""Carry out pending erasures: those that `northstar erase --later` stored, and one that was killed."""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from airflow.timetables.trigger import CronTriggerTimetable

from northstar.orchestration import tasks

DOC = """
### Purpose
Carry out every request of `audit.erasures` that is not done: the person's rows under a fresh random name in every schema, through the same
build, audit and publish as in every run; then history, logs and the pages of the database (docs/privacy.md).
### Kind
Moment DAG. It takes no names, because conf is stored in Airflow's database: `northstar erase --later` stores the request.
### Rerun
Any time: an erasure continues where it stopped.
### Expected failures
As hourly_refresh; or a reader that locks a table which has to be rewritten: trigger it again.
"""

with DAG(
    dag_id="erase_subject",
    description="Carry out the pending erasures",
    schedule=CronTriggerTimetable("30 4 * * *", timezone="UTC"),
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=DOC,
    tags=["owner:data-platform", "tier:1"],
    default_args={"owner": "data-platform", "retries": 0, "execution_timeout": timedelta(hours=4)},
):
    PythonOperator(task_id="erase_subjects", python_callable=tasks.erase_subjects)
