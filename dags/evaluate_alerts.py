"""Evaluate alerts every five minutes: what landed, what was published, and the job itself."""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from airflow.timetables.trigger import CronTriggerTimetable

from northstar.orchestration import tasks

DOC = """
### Purpose
Find what is wrong (targets off in `marts.alerts`, the rules of `alerts/rules.yml` on rows that have just landed, failed runs, late sources, quarantine)
and notify the people concerned, on the routes of the home's `notify.yml`. The same is done right after each landing.
### Kind
Moment DAG: it evaluates the present. An alert is sent when it opens, as a reminder, and when it has closed; `northstar alerts list|ack|mute`.
### Rerun
Any time: what has been sent to whom is recorded.
### Expected failures
An address that does not answer: the task is red, the other addresses got their alerts, the next evaluation tries this one again.
"""

with DAG(
    dag_id="evaluate_alerts",
    description="Find what is wrong, notify the people concerned",
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=DOC,
    tags=["owner:data-platform", "tier:1"],
    default_args={"owner": "data-platform", "retries": 0, "execution_timeout": timedelta(minutes=4)},
):
    PythonOperator(task_id="evaluate_alerts", python_callable=tasks.evaluate_alerts)
