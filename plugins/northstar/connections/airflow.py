"""The home's own Airflow: the environment of its processes and commands, its address, and its health."""

import base64
import hashlib
import json
import os
import sys
import urllib.request
from pathlib import Path

from northstar.base.errors import NorthstarError
from northstar.base.ports import remembered_port
from northstar.base.service_processes import running_services
from northstar.base.settings import Settings
from northstar.base.telemetry import switch_off
from northstar.warehouse import db

# the services of Airflow that every home has
AIRFLOW_SERVICES = ("scheduler", "api-server", "dag-processor", "triggerer")


CELERY = "airflow.providers.celery.executors.celery_executor.CeleryExecutor"


# an address at which no server answers, because Airflow requires one
NO_METADATA = "postgresql:///not-allowed"


def airflow_home(settings: Settings) -> Path:
    """The AIRFLOW_HOME of a home; it is made on first use."""
    path = settings.home / "airflow"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def api_url(settings: Settings) -> str:
    """The address of the home's api-server; its port is chosen once and remembered."""
    return f"http://127.0.0.1:{_api_port(settings)}"


def users_file(settings: Settings) -> Path:
    """The file with the users who may log in to the home's api-server, and their passwords."""
    return airflow_home(settings) / "passwords.json"


def airflow_environment(settings: Settings, with_metadata: bool = True) -> dict[str, str]:
    """The whole environment of Airflow's processes. Airflow's configuration is here and nowhere else.

    with_metadata: whether to include the address of Airflow's own database. A worker on another machine does not need it: it asks the api-server.
    NORTHSTAR_BROKER_URL, such as redis://HOST:6379/0, lets Celery's workers run the tasks, on any number of machines.
    """
    home = airflow_home(settings)
    address = NO_METADATA
    if with_metadata:
        address = db.uri(settings, db.AIRFLOW_ROLE, db.airflow_database(settings))
    port = _api_port(settings)
    base_url = os.environ.get("NORTHSTAR_API_URL", f"http://127.0.0.1:{port}")
    options = {
        "CORE__DAGS_FOLDER": settings.root / "dags",
        "CORE__PLUGINS_FOLDER": settings.root / "plugins",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": 8,
        "CORE__MAX_ACTIVE_TASKS_PER_DAG": 8,
        "CORE__LOAD_EXAMPLES": False,
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": True,
        "CORE__FERNET_KEY": _fernet_key(settings),
        "CORE__EXECUTION_API_SERVER_URL": f"{base_url}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": users_file(settings),
        "DATABASE__SQL_ALCHEMY_CONN": address.replace("postgresql://", "postgresql+psycopg2://", 1),
        # asyncpg, Airflow's default, does not know libpq's options, such as those for TLS
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": address.replace("postgresql://", "postgresql+psycopg://", 1),
        "API__HOST": os.environ.get("NORTHSTAR_API_HOST", "127.0.0.1"),
        "API__PORT": port,
        "API__WORKERS": 1,
        "API__BASE_URL": base_url,
        "API__SECRET_KEY": settings.secret("airflow_api_key"),
        "API_AUTH__JWT_SECRET": settings.secret("airflow_jwt"),
        # a DAG file that has changed is read at once; the interval is for changes in its imports and in the models that it names
        "DAG_PROCESSOR__REFRESH_INTERVAL": 60,
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 300,
        "DAG_PROCESSOR__PARSING_PROCESSES": 1,
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.3,
        "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": 2,
        "SCHEDULER__ENABLE_HEALTH_CHECK": False,
        "TRIGGERER__ENABLE_HEALTH_CHECK": False,
        "LOGGING__BASE_LOG_FOLDER": settings.logs / "airflow",
        # Airflow sets permissions itself, regardless of the umask
        "LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
        "LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
        **_reporting_options(settings),
        **_celery_options(),
    }
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
    env |= {f"AIRFLOW__{name}": str(value) for name, value in options.items()}
    env |= {
        "AIRFLOW_HOME": str(home),
        "NORTHSTAR_HOME": str(settings.home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONWARNINGS": "ignore",
        "no_proxy": ",".join(dict.fromkeys([*_unproxied_hosts(), "127.0.0.1", "localhost"])),
    }
    switch_off(env)
    return env


def api_health(settings: Settings) -> dict[str, str]:
    """{part of Airflow: its status, such as "healthy"}, as its api-server reports it."""
    try:
        with urllib.request.urlopen(f"{api_url(settings)}/api/v2/monitor/health", timeout=5) as answer:
            health = json.load(answer)
    except (OSError, json.JSONDecodeError):
        return {"api-server": "does not answer"}
    return {
        part: (health.get(part) or {}).get("status") or "unknown"
        for part in ("metadatabase", "scheduler", "dag_processor")
    }


def _celery_options() -> dict[str, str]:
    """Airflow's options for Celery's workers; none unless NORTHSTAR_BROKER_URL names a broker."""
    broker = os.environ.get("NORTHSTAR_BROKER_URL")
    if not broker:
        return {}
    if not broker.startswith(("redis://", "rediss://")):
        raise NorthstarError(
            "NORTHSTAR_BROKER_URL: give the address of a Redis server, such as redis://HOST:6379/0 (rediss:// over a network)"
        )
    return {"CORE__EXECUTOR": CELERY, "CELERY__BROKER_URL": broker, "CELERY__RESULT_BACKEND": broker}


def _unproxied_hosts() -> list[str]:
    """The hosts that this machine connects to without its proxy."""
    host_list = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    return [host.strip() for host in host_list.split(",") if host.strip()]


def _reporting_options(settings: Settings) -> dict[str, object]:
    """Airflow's options for reporting metrics (StatsD) and lineage (OpenLineage); none unless operations.yml names a server."""
    options: dict[str, object] = {}
    statsd, lineage = settings.operations.statsd, settings.operations.openlineage
    if statsd:
        host, _, port = str(statsd).rpartition(":")
        if not host or not port.isdigit():
            raise NorthstarError(f"operations.yml: statsd must be host:port, such as 127.0.0.1:8125, not {statsd!r}")
        options |= {
            "METRICS__STATSD_ON": True,
            "METRICS__STATSD_HOST": host,
            "METRICS__STATSD_PORT": port,
            "METRICS__STATSD_PREFIX": "northstar",
        }
    if lineage:
        if not str(lineage).startswith(("http://", "https://")):
            raise NorthstarError(
                f"operations.yml: openlineage must be an address such as http://127.0.0.1:5000, not {lineage!r}"
            )
        options |= {
            # each event, of which a task has two, waits up to 10 s for a server that does not answer
            "OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "http", "url": lineage, "endpoint": "api/v1/lineage", "timeout": 5, "retry": {"total": 1}}
            ),
            # a separate process reports on a task; on a busy machine the default of 10 s ends it before it has reported
            "OPENLINEAGE__EXECUTION_TIMEOUT": 120,
            "OPENLINEAGE__NAMESPACE": "northstar",
            "OPENLINEAGE__DISABLE_SOURCE_CODE": True,
        }
    return options


def _api_port(settings: Settings) -> int:
    is_ours = bool(running_services(settings).keys() & set(AIRFLOW_SERVICES))
    return remembered_port(airflow_home(settings) / "port", "NORTHSTAR_API_PORT", is_ours)


def _fernet_key(settings: Settings) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(settings.secret("airflow_fernet").encode()).digest()).decode()
