"""Rebuild models or metrics, and everything made from them, from the landed rows: `northstar rebuild` with a form."""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Param

from northstar.orchestration import tasks

DOC = """
### Purpose
Build the named models (or those of the named metrics) and everything that is made from them from the landed rows; audit all of it, publish.
For a table that somebody changed by hand or a disk damaged (docs/operations.md, Rebuild). The run keeps the reason and who triggered it.
### Kind
By hand only; the form asks for names and reason. It reads no source, and publishes with the newest version's `as_of`.
### Rerun
Any time: the same rows give the same marts.
### Expected failures
A name that no model and no metric has, a check that fails: the last version stays up; the task's last line says why. It waits while another run writes.
"""

with DAG(
    dag_id="rebuild_models",
    description="Rebuild some models and everything made from them, publish",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=DOC,
    tags=["owner:data-platform", "tier:1"],
    default_args={"owner": "data-platform", "retries": 0, "execution_timeout": timedelta(hours=12)},
    params={
        "names": Param(
            type="array", items={"type": "string"}, minItems=1, title="Models or metrics", description="One a line."
        ),
        "reason": Param(type="string", minLength=3, title="Reason", description="Why; it is kept with the run."),
    },
):
    PythonOperator(task_id="rebuild_models", python_callable=tasks.rebuild_models)
