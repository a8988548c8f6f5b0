"""The state of a DAG run, asked from inside a task of Airflow, or with the command line of the home's own Airflow."""

import subprocess
import sys
from pathlib import Path

from northstar.base.settings import Settings
from northstar.connections.airflow import airflow_environment

ENDED = ("success", "failed")


def has_ended(settings: Settings, holder: str) -> bool:
    """Whether the DAG run of `holder` (`<dag_id> <run_id>`) has ended; False if it has not, or if that cannot be known from here."""
    dag_id, _, run_id = holder.partition(" ")
    return any(look(settings, dag_id, run_id) in ENDED for look in (_state_from_task, _state_from_home))


def _is_task() -> bool:
    # a process may only import the module, as a DAG file does; then it has no supervisor to ask
    return hasattr(sys.modules.get("airflow.sdk.execution_time.task_runner"), "SUPERVISOR_COMMS")


def _state_from_task(settings: Settings, dag_id: str, run_id: str) -> str | None:
    if not _is_task():
        return None
    from airflow.sdk.exceptions import AirflowRuntimeError
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    try:
        return RuntimeTaskInstance.get_dagrun_state(dag_id, run_id)
    except AirflowRuntimeError:
        # a DAG run of another Airflow, or a deleted one: its state is not known here
        return None


def _state_from_home(settings: Settings, dag_id: str, run_id: str) -> str | None:
    if _is_task() or not (settings.home / "airflow" / "migrated").exists():
        return None

    airflow = Path(sys.executable).parent / "airflow"
    process = subprocess.run(
        [str(airflow), "dags", "state", dag_id, run_id],
        env=airflow_environment(settings),
        capture_output=True,
        text=True,
    )
    lines = process.stdout.split("\n")
    # the conf follows the state in its line; lines with warnings may come before it
    return next((line.split(",")[0].strip() for line in reversed(lines) if line.strip()), None)
