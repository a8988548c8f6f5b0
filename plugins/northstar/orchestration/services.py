"""The services of a home: Airflow's scheduler, api-server, dag-processor and triggerer, and the pages; started and stopped by process id."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

from northstar.base.errors import NorthstarError
from northstar.base.files import read_json, read_word, write_private
from northstar.base.ports import remembered_port
from northstar.base.settings import Settings
from northstar.base.telemetry import silence
from northstar.build.dbt import dbt_env
from northstar.use.pages import serve as pages
from northstar.warehouse import db

SERVICES = ("scheduler", "api-server", "dag-processor", "triggerer")
# what nobody needs before the first task waits for something: it starts when the others are there
LAST = "triggerer"
START_SECONDS = 90
# a machine beside these, told by a broker which tasks to run
WORKER = "worker"
CELERY = "airflow.providers.celery.executors.celery_executor.CeleryExecutor"
# an address, since Airflow wants one, at which nobody answers
NO_METADATA = "postgresql:///not-allowed"


def airflow_home(settings: Settings) -> Path:
    """AIRFLOW_HOME of a home, made on first use."""
    path = settings.home / "airflow"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def api_url(settings: Settings) -> str:
    """The address of the home's api-server; its port is chosen once and remembered."""
    return f"http://127.0.0.1:{_port(settings)}"


def users_file(settings: Settings) -> Path:
    """The file by which the home's api-server knows who may log in."""
    return airflow_home(settings) / "passwords.json"


def keep_users(settings: Settings, file: Path) -> None:
    """Write such a file: the user `admin` with the password that holds now."""
    write_private(file, json.dumps({"admin": settings.secret("airflow_password")}))


def airflow_env(settings: Settings, with_warehouse: bool = True, with_metadata: bool = True) -> dict:
    """The whole environment of Airflow's processes; configuration lives here and nowhere else.

    with_warehouse: with what dbt needs to reach the warehouse, the transformer's password too; the api-server has nothing to do there.
    with_metadata: with the address of Airflow's own database, where a worker on another machine has nothing to do: it asks the api-server.
    NORTHSTAR_BROKER_URL, such as redis://HOST:6379/0, makes Celery's workers run the tasks, on as many machines as there are.
    """
    home = airflow_home(settings)
    address = NO_METADATA
    if with_metadata:
        address = db.uri(settings, db.AIRFLOW_ROLE, db.airflow_database(settings))
    port = _port(settings)
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
        # asyncpg, which Airflow would take, does not know libpq's options, such as those of TLS
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": address.replace("postgresql://", "postgresql+psycopg://", 1),
        "API__HOST": os.environ.get("NORTHSTAR_API_HOST", "127.0.0.1"),
        "API__PORT": port,
        "API__WORKERS": 1,
        "API__BASE_URL": base_url,
        "API__SECRET_KEY": settings.secret("airflow_api_key"),
        "API_AUTH__JWT_SECRET": settings.secret("airflow_jwt"),
        # a DAG file that has changed is read at once; the interval is for what it imports, and the models that it names
        "DAG_PROCESSOR__REFRESH_INTERVAL": 60,
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 300,
        "DAG_PROCESSOR__PARSING_PROCESSES": 1,
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.3,
        "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": 2,
        "SCHEDULER__ENABLE_HEALTH_CHECK": False,
        "TRIGGERER__ENABLE_HEALTH_CHECK": False,
        "LOGGING__BASE_LOG_FOLDER": settings.logs / "airflow",
        # Airflow sets them by itself, whatever the umask says
        "LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
        "LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
        **_telling(settings),
        **_celery(),
    }
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
    env |= {f"AIRFLOW__{name}": str(value) for name, value in options.items()}
    if with_warehouse:
        env |= dbt_env(settings)
    env |= {
        "AIRFLOW_HOME": str(home),
        "NORTHSTAR_HOME": str(settings.home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONWARNINGS": "ignore",
        "no_proxy": ",".join(dict.fromkeys([*_unproxied(), "127.0.0.1", "localhost"])),
    }
    silence(env)
    return env


def _celery() -> dict:
    """Options for Celery's workers; nothing unless NORTHSTAR_BROKER_URL says where they are told what to do."""
    broker = os.environ.get("NORTHSTAR_BROKER_URL")
    if not broker:
        return {}
    if not broker.startswith(("redis://", "rediss://")):
        raise NorthstarError(
            "NORTHSTAR_BROKER_URL: give a Redis, such as redis://HOST:6379/0 (rediss:// over a network)"
        )
    return {"CORE__EXECUTOR": CELERY, "CELERY__BROKER_URL": broker, "CELERY__RESULT_BACKEND": broker}


def _unproxied() -> list[str]:
    """The hosts that this machine asks without its proxy."""
    told = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    return [host.strip() for host in told.split(",") if host.strip()]


def _telling(settings: Settings) -> dict:
    """Options for what Airflow tells of itself; nothing unless operations.yml says to whom."""
    options, statsd, lineage = {}, settings.operations["statsd"], settings.operations["openlineage"]
    if statsd:
        host, _, port = str(statsd).rpartition(":")
        if not host or not port.isdigit():
            raise NorthstarError(f"operations.yml: statsd is host:port, such as 127.0.0.1:8125, not {statsd!r}")
        options |= {
            "METRICS__STATSD_ON": True,
            "METRICS__STATSD_HOST": host,
            "METRICS__STATSD_PORT": port,
            "METRICS__STATSD_PREFIX": "northstar",
        }
    if lineage:
        if not str(lineage).startswith(("http://", "https://")):
            raise NorthstarError(
                f"operations.yml: openlineage is an address such as http://127.0.0.1:5000, not {lineage!r}"
            )
        options |= {
            # a server that does not answer holds each event, of which a task has two, up for 10 s
            "OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "http", "url": lineage, "endpoint": "api/v1/lineage", "timeout": 5, "retry": {"total": 1}}
            ),
            # a process of its own tells of a task; on a busy machine the 10 s that it has by default end it before it has told
            "OPENLINEAGE__EXECUTION_TIMEOUT": 120,
            "OPENLINEAGE__NAMESPACE": "northstar",
            "OPENLINEAGE__DISABLE_SOURCE_CODE": True,
        }
    return options


def start_services(settings: Settings, progress=print, with_pages: bool = False) -> bool:
    """Bring the metadata database to Airflow's version if need be and start what is not running; true when it had to.

    with_pages: have the pages load meanwhile; `await_pages` tells when they are there.
    Raises NorthstarError when a service does not come up, naming its log.
    """
    if _running(settings).keys() >= set(SERVICES):
        # whoever started them may have been killed before they were up
        _await_health(settings, progress)
        return False
    stop_services(settings)
    env = airflow_env(settings)
    keep_users(settings, users_file(settings))
    migrate(settings, env, progress)
    for service in SERVICES:
        if service != LAST:
            _start(settings, service, service_command(service), env)
    if with_pages:
        begin_pages(settings)
    _await_health(settings, progress)
    _start(settings, LAST, service_command(LAST), env)
    return True


def service_command(service: str) -> list[str]:
    """What runs a service. The servers of task logs, which would listen on all addresses, are left out: the logs are in the home, where the API reads them."""
    airflow = str(Path(sys.executable).parent / "airflow")
    if service == WORKER:
        return [airflow, "celery", "worker", "--skip-serve-logs"]
    return [airflow, service, *(["--skip-serve-logs"] if service in ("scheduler", "triggerer") else [])]


def service_states(settings: Settings) -> dict[str, bool]:
    """{service that was started: whether it lives}; {} where none was, or all were stopped."""
    running = _running(settings)
    return {service: service in running for service in _known(settings)}


def api_health(settings: Settings) -> dict[str, str]:
    """{part of Airflow: "healthy" or not}, as its api-server tells."""
    try:
        with urllib.request.urlopen(f"{api_url(settings)}/api/v2/monitor/health", timeout=5) as answer:
            told = json.load(answer)
    except (OSError, json.JSONDecodeError):
        return {"api-server": "does not answer"}
    return {
        part: (told.get(part) or {}).get("status") or "unknown"
        for part in ("metadatabase", "scheduler", "dag_processor")
    }


def begin_pages(settings: Settings) -> None:
    """Start the pages unless they run, and wait for nothing."""
    if "pages" not in _running(settings):
        # their own kind of stray: what is stopped by its home is found by Airflow's
        _start(
            settings,
            "pages",
            pages.command(settings),
            pages.environment(settings) | {"AIRFLOW_HOME": str(airflow_home(settings))},
        )


def await_pages(settings: Settings) -> str:
    """The link to the pages that `begin_pages` started, once they answer. Raises NorthstarError when they do not come up, naming their log."""
    deadline = time.monotonic() + START_SECONDS
    while not pages.answers(settings):
        if "pages" not in _running(settings) or time.monotonic() > deadline:
            raise NorthstarError(f"the pages did not come up; see {settings.logs / 'pages.log'}")
        time.sleep(0.2)
    return pages.link(settings)


def _start(settings: Settings, service: str, command: list[str], env: dict) -> None:
    with open(settings.logs / f"{service}.log", "ab") as log:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=settings.home
        )  # fmt: skip
    began = {"pid": process.pid, "created": psutil.Process(process.pid).create_time()}
    write_private(_state_file(settings), json.dumps(_known(settings) | {service: began}))


def stop_services(settings: Settings) -> list[str]:
    """Stop the home's services with all their children, and nothing else; returns the names of those that ran."""
    running = _running(settings)
    alive: set[psutil.Process] = set()
    for signal_number, patience in ((signal.SIGTERM, 8), (signal.SIGKILL, 30)):
        # asked anew: a child that was born, or orphaned, in between
        doomed, deadline = alive | _own_processes(settings), time.monotonic() + patience
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal_number)
        while (alive := {p for p in doomed if _lives(p)}) and time.monotonic() < deadline:
            time.sleep(0.05)
    alive |= _own_processes(settings)
    if alive:
        raise NorthstarError(f"process {min(p.pid for p in alive)} does not end; end it and run again")
    _state_file(settings).unlink(missing_ok=True)
    return list(running)


def _own_processes(settings: Settings) -> set[psutil.Process]:
    """The home's services, what they have started, and what is left of those that were killed.

    Airflow's processes write their title over their environment, and who is orphaned has no parent that leads to it: the session that a
    service was started in holds all of them, the log that they write to those whose service nobody has noted.
    """
    known, logs = _known(settings), {str(settings.home / "logs" / f"{s}.log") for s in (*SERVICES, "pages")}
    sessions = {began["pid"] for began in known.values() if not _is_anothers(began)}
    me = psutil.Process()
    spared = {me, *me.parents()}
    found = {p for p in psutil.process_iter() if p not in spared and _is_own(p, settings, sessions, logs)}
    for process in list(found):
        with contextlib.suppress(psutil.Error):
            found |= set(process.children(recursive=True)) - spared
    return found


def _is_anothers(began: dict) -> bool:
    """Whether the number of a service's process is by now that of some other one."""
    try:
        return abs(psutil.Process(began["pid"]).create_time() - began["created"]) >= 1
    except psutil.NoSuchProcess:
        return False


def _lives(process: psutil.Process) -> bool:
    """Whether a process is at work; one that nobody has reaped, as in a container without an init, is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_own(process: psutil.Process, settings: Settings, sessions: set[int], logs: set[str]) -> bool:
    try:
        if not _lives(process):
            return False
        if os.getsid(process.pid) in sessions:
            return True
        if process.environ().get("AIRFLOW_HOME") == str(settings.home / "airflow"):
            return True
        # as its output: whoever reads a log has opened it after these
        return any(file.fd in (1, 2) and file.path in logs for file in process.open_files())
    except (psutil.Error, OSError):
        return False


def migrate(settings: Settings, env: dict, progress) -> None:
    """Bring the metadata database to the installed Airflow's version, unless this home has done so."""
    from importlib.metadata import version

    mark, wanted = airflow_home(settings) / "migrated", version("apache-airflow")
    if read_word(mark) == wanted:
        return
    progress("preparing Airflow's database (once) ...")
    airflow = str(Path(sys.executable).parent / "airflow")
    done = subprocess.run([airflow, "db", "migrate"], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        write_private(settings.logs / "migrate.log", done.stdout + done.stderr)
        raise NorthstarError(f"Airflow's database could not be prepared; see {settings.logs / 'migrate.log'}")
    write_private(mark, wanted)


def _await_health(settings: Settings, progress) -> None:
    deadline, told = time.monotonic() + START_SECONDS, time.monotonic()
    while time.monotonic() < deadline:
        running = _running(settings)
        ended = [service for service in SERVICES if service not in running and service != LAST]
        if ended:
            stop_services(settings)
            raise NorthstarError(f"Airflow's {ended[0]} ended at once; see {settings.logs / (ended[0] + '.log')}")
        if set(api_health(settings).values()) == {"healthy"}:
            return
        if time.monotonic() - told > 5:
            progress("Airflow is starting ...")
            told = time.monotonic()
        time.sleep(0.3)
    raise NorthstarError(f"Airflow did not come up within {START_SECONDS} s; see {settings.logs}")


def _running(settings: Settings) -> dict[str, psutil.Process]:
    found = {}
    for service, began in _known(settings).items():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(began["pid"])
            if not _is_anothers(began) and _lives(process):
                found[service] = process
    return found


def _known(settings: Settings) -> dict[str, dict]:
    """{service: its process id and when that began}, of those that were started; what is not whole is not known."""
    told = read_json(_state_file(settings)) or {}
    return {
        service: began for service, began in told.items()
        if isinstance(began, dict) and isinstance(began.get("pid"), int) and isinstance(began.get("created"), int | float)
    }  # fmt: skip


def _state_file(settings: Settings) -> Path:
    return settings.home / "airflow" / "services.json"


def _port(settings: Settings) -> int:
    is_ours = bool(_running(settings).keys() & set(SERVICES))
    return remembered_port(airflow_home(settings) / "port", "NORTHSTAR_API_PORT", is_ours)


def _fernet_key(settings: Settings) -> str:
    import base64
    import hashlib

    return base64.urlsafe_b64encode(hashlib.sha256(settings.secret("airflow_fernet").encode()).digest()).decode()
