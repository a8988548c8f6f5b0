"""Read a range of the past again, rebuild its periods and publish: `northstar backfill` with a form."""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Param

from northstar.orchestration import tasks

DOC = """
### Purpose
Correct a range of the past whose rows changed behind the sources' state: read it again, rebuild every period that it touches, audit, publish
(docs/operations.md, Backfill). `audit.backfills` records range, reason and who triggered it.
### Kind
By hand only; the form asks for the range and the reason. It publishes with the newest version's `as_of`, so readers are never taken back in time.
(Airflow's own backfill of the other DAGs publishes past states.)
### Rerun
Any time: rows that have landed already change nothing.
### Expected failures
A source that cannot be read, a check that fails: the last version stays up; the task's last line says why. It waits while another run writes.
"""

with DAG(
    dag_id="backfill_range",
    description="Read a range of the past again, rebuild it, publish",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=DOC,
    tags=["owner:data-platform", "tier:1"],
    default_args={"owner": "data-platform", "retries": 0, "execution_timeout": timedelta(hours=12)},
    params={
        "from": Param(type="string", format="date-time", title="From", description="The start of the range."),
        "to": Param(type="string", format="date-time", title="To", description="The end of the range, exclusive."),
        "reason": Param(type="string", minLength=3, title="Reason", description="Why; it is kept with the backfill."),
        "source": Param(
            default=None,
            type=["null", "string"],
            title="Source",
            description="Only this declared source; empty: all of them.",
        ),
        "read_sources": Param(
            default=True, type="boolean", title="Read sources", description="Off: rebuild from what has landed."
        ),
    },
):
    PythonOperator(task_id="backfill_range", python_callable=tasks.backfill_range)
