"""Nightly: land what is new, rebuild everything, audit, publish; a task for each domain reports on its models."""

from datetime import datetime, time, timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, TaskGroup
from airflow.timetables.interval import CronDataIntervalTimetable

from northstar.orchestration import tasks
from northstar.orchestration.approvals import PublishOperator
from northstar.orchestration.assets import MARTS
from northstar.orchestration.deadlines import publication_deadline, reporting_zone
from northstar.orchestration.domains import DomainOperator, domains
from northstar.orchestration.retries import RetryWhatPasses
from northstar.orchestration.spark import builds_on_spark

DOC = """
### Purpose
Rebuild every model from the landed rows (`--full-refresh`), audit, publish: what the hourly runs built is confirmed or corrected.
### Kind
Interval DAG: `as_of` is the end of the data interval (02:30 by the company's clock, `reporting_time_zone`); by hand the current hour, or conf `{"as_of": "2025-04-01T00:00:00Z"}`.
### Rerun
Trigger it again, or backfill a past interval: the same rows and the same `as_of` give the same marts.
### Expected failures
As hourly_refresh. `build_models` runs dbt and is red when anything failed; so is the task of the failed model's domain, whose log names the
model and has a table of the domain's models: state, seconds, rows. A domain is skipped when what its models read failed.
`build_wide_models` (with `wide_engine: spark` only) is tried again when Spark was lost; then the run stops, and nothing is loaded (docs/scaling.md).
`maintain_warehouse` red in a green run: the version is published, only the upkeep failed (docs/runbooks.md, maintenance_failed).
"""

with DAG(
    dag_id="nightly_rebuild",
    description="Land, rebuild everything, audit, publish",
    schedule=CronDataIntervalTimetable("30 2 * * *", timezone=reporting_zone()),
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    deadline=publication_deadline(timedelta(days=1), time(2, 30)),
    doc_md=DOC,
    tags=["owner:data-platform", "tier:1"],
    default_args={"owner": "data-platform", "retries": 0, "execution_timeout": timedelta(hours=4)},
):
    with TaskGroup("extract") as extract:
        open_run = PythonOperator(task_id="open_run", python_callable=tasks.open_run, op_kwargs={"mode": "nightly"})
        list_sources = PythonOperator(task_id="list_sources", python_callable=tasks.list_sources)
        land_sources = PythonOperator.partial(
            task_id="land_source", python_callable=tasks.land_source, retries=2, retry_delay=timedelta(minutes=2), retry_policy=RetryWhatPasses(),
            map_index_template="{{ task.op_kwargs['name'] }}",
        ).expand(op_kwargs=list_sources.output)  # fmt: skip
        settle_sources = PythonOperator(
            task_id="settle_sources", python_callable=tasks.settle_sources, trigger_rule="all_done"
        )
        open_run >> list_sources >> land_sources >> settle_sources
    with TaskGroup("build") as build:
        build_models = PythonOperator(task_id="build_models", python_callable=tasks.build_models)
        if builds_on_spark():
            build_wide_models = PythonOperator(
                task_id="build_wide_models", python_callable=tasks.build_wide_models, retries=2, retry_delay=timedelta(minutes=2), retry_policy=RetryWhatPasses(),
            )  # fmt: skip
            build_wide_models >> build_models
        for domain, models in domains().items():
            DomainOperator(task_id=domain.replace("/", "_"), domain=domain, models=models)
    with TaskGroup("audit") as audit:
        PythonOperator(task_id="audit_marts", python_callable=tasks.audit_marts)
    with TaskGroup("publish") as publish:
        publish_marts = PublishOperator(task_id="publish_marts", outlets=[MARTS])
        maintain_warehouse = PythonOperator(task_id="maintain_warehouse", python_callable=tasks.maintain_warehouse)
        close_run = PythonOperator(task_id="close_run", python_callable=tasks.close_run, trigger_rule="all_done")
        publish_marts >> maintain_warehouse >> close_run
    extract >> build
    build_models >> audit >> publish_marts
