"""What Airflow says of a DAG run: asked from inside one of its tasks, or of the home's own Airflow from the command line."""

import subprocess
import sys
from pathlib import Path

from northstar.base.settings import Settings
from northstar.connections.airflow import airflow_environment

ENDED = ("success", "failed")


def has_ended(settings: Settings, holder: str) -> bool:
    """Whether the DAG run that `holder` (`<dag_id> <run_id>`) names has ended; False where it has not, or Airflow cannot tell from here."""
    dag_id, _, run_id = holder.partition(" ")
    return any(look(settings, dag_id, run_id) in ENDED for look in (_state_from_task, _state_from_home))


def _is_task() -> bool:
    # who only imports it, as a DAG's file may, has nobody to ask
    return hasattr(sys.modules.get("airflow.sdk.execution_time.task_runner"), "SUPERVISOR_COMMS")


def _state_from_task(settings: Settings, dag_id: str, run_id: str) -> str | None:
    if not _is_task():
        return None
    from airflow.sdk.exceptions import AirflowRuntimeError
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    try:
        return RuntimeTaskInstance.get_dagrun_state(dag_id, run_id)
    except AirflowRuntimeError:
        # another Airflow's, or deleted: nobody here can tell
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
    # the conf stands behind the state, warnings may stand before it
    return next((line.split(",")[0].strip() for line in reversed(lines) if line.strip()), None)
