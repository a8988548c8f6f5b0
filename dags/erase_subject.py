"""Erase the subjects that somebody asked to have erased: what `northstar erase --later` noted, or a killed erasure left."""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from airflow.timetables.trigger import CronTriggerTimetable

from northstar.orchestration import tasks

DOC = """
### Purpose
Carry out every request of `audit.erasures` that is not done: the person's rows under a fresh random name in every schema, through the same
build, audit and publish as ever; then history, logs and the pages of the database (docs/privacy.md).
### Kind
Moment DAG. It takes no name of anybody: conf would stand in Airflow's database. `northstar erase --later` notes whom.
### Rerun
Any time: an erasure goes on where it was.
### Expected failures
As hourly_refresh; or a reader that holds a table which has to be written anew: trigger it again.
"""

with DAG(
    dag_id="erase_subject",
    description="Erase the subjects that were asked for",
    schedule=CronTriggerTimetable("30 4 * * *", timezone="UTC"),
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=DOC,
    tags=["owner:data-platform", "tier:1"],
    default_args={"owner": "data-platform", "retries": 0, "execution_timeout": timedelta(hours=4)},
):
    PythonOperator(task_id="erase_subjects", python_callable=tasks.erase_subjects)
