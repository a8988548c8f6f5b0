"""Send reports each morning, once the night is published: the daily one, on the first day of the week the weekly one, the others on the first day after their period."""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, AssetOrTimeSchedule
from airflow.timetables.trigger import CronTriggerTimetable

from northstar.orchestration import tasks
from northstar.orchestration.assets import MARTS
from northstar.orchestration.deadlines import reporting_zone

DOC = """
### Purpose
Make the reports whose period is over from what is published, keep each in `audit.reports` with the version it was made from, and send
it on the route that the home's `notify.yml` names for it (mail with a plain-text part, Slack). A report without a route is kept, not sent.
Send readers the views of the pages that they subscribed to: daily and weekly ones like reports, others when a version has other values.
### Kind
Moment DAG. It runs at 06:30 by the company's clock (`reporting_time_zone`) and whenever the asset `northstar_marts` is published: a report goes out at 06:30, or as soon as a late night
is published, once, and up to three days after its period. By hand conf `{"as_of": "2026-04-01T00:00:00Z", "reports": ["monthly"]}`; without
`reports` those whose period ended in the day before as_of, sent or not.
### Rerun
Trigger it by hand: the report of the same version replaces itself, and is sent again.
### Expected failures
A mail server or Slack that does not answer: the task is tried again three times, the other reports are sent.
"""

with DAG(
    dag_id="send_reports",
    description="Make, keep and send the reports that are due",
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("30 6 * * *", timezone=reporting_zone()), assets=[MARTS]
    ),
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=DOC,
    tags=["owner:data-platform", "tier:2"],
    default_args={"owner": "data-platform", "retries": 0, "execution_timeout": timedelta(minutes=30)},
):
    list_reports = PythonOperator(task_id="list_reports", python_callable=tasks.list_reports)
    PythonOperator.partial(
        task_id="send_report", python_callable=tasks.send_report, retries=3, retry_delay=timedelta(minutes=5),
        map_index_template="{{ task.op_kwargs['name'] }}",
    ).expand(op_kwargs=list_reports.output)  # fmt: skip
    PythonOperator(
        task_id="send_subscriptions",
        python_callable=tasks.send_subscriptions,
        retries=3,
        retry_delay=timedelta(minutes=5),
    )
