"""Airflow imports this at its start. The scheduler forks each task's process: what the DAGs import is there already, read once.

The imports were a third of a task's processor time. Nothing of our own is among them: a task runs the code that lies there when it starts.
"""

import sys
from importlib import import_module

MODULES = (
    "airflow.providers.standard.operators.python",
    "airflow.sdk.execution_time.task_runner",
    "psycopg",
    "pyarrow",
)

if "scheduler" in sys.argv:
    for module in MODULES:
        import_module(module)
