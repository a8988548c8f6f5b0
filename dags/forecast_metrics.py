"""Forecast the level 1 and 2 metrics after each nightly publication."""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from northstar.orchestration import tasks
from northstar.orchestration.assets import MARTS

DOC = """
### Purpose
Forecast each level 1 and 2 metric whose complete values have changed, with intervals and with the method's errors in trials on the past
(`marts.metric_forecasts`), and the chance that each target that is due later will be met (`marts.target_forecasts`).
### Kind
Moment DAG. It follows the asset `northstar_marts`, and is skipped where only hourly runs have published; by hand it forecasts what is published now.
### Rerun
Any time: a series whose values have not changed is left as it is.
### Expected failures
Nothing was published yet.
"""

with DAG(
    dag_id="forecast_metrics",
    description="Forecast the level 1 and 2 metrics",
    schedule=[MARTS],
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=DOC,
    tags=["owner:data-platform", "tier:2"],
    default_args={"owner": "data-platform", "retries": 0, "execution_timeout": timedelta(hours=1)},
):
    PythonOperator(task_id="forecast_metrics", python_callable=tasks.forecast_metrics)
