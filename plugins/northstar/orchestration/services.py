"""The services of a home: Airflow's scheduler, api-server, dag-processor and triggerer, and the pages; started and stopped by process id."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil

from northstar.base.errors import NorthstarError
from northstar.base.files import read_word, write_private
from northstar.base.progress import Progress
from northstar.base.service_processes import (
    ProcessRecord,
    is_alive,
    is_reused_by_another,
    recorded_services,
    running_services,
    state_file,
)
from northstar.base.settings import Settings
from northstar.connections.airflow import AIRFLOW_SERVICES, airflow_environment, airflow_home, api_health, users_file
from northstar.use.pages import serve as pages

# the service that starts when the others are up: nothing needs it before the first task waits for something
LAST_STARTED = "triggerer"
START_SECONDS = 90
# a further service, on other machines, which gets its tasks from a broker
WORKER = "worker"


def write_users_file(settings: Settings, file: Path) -> None:
    """Write a file of users for the api-server: the user `admin` with the current password."""
    write_private(file, json.dumps({"admin": settings.secret("airflow_password")}))


def start_services(settings: Settings, progress: Progress = print, with_pages: bool = False) -> bool:
    """Start Airflow's services unless all of them run, with the metadata database at Airflow's version; returns whether it started them.

    with_pages: start the pages at the same time; `await_pages` waits for them.
    Raises NorthstarError when a service does not start, naming its log.
    """
    if running_services(settings).keys() >= set(AIRFLOW_SERVICES):
        # the process that started them may have been killed before they were up
        _await_health(settings, progress)
        return False
    stop_services(settings)
    env = airflow_environment(settings)
    write_users_file(settings, users_file(settings))
    migrate(settings, env, progress)
    for service in AIRFLOW_SERVICES:
        if service != LAST_STARTED:
            _start(settings, service, service_command(service), env)
    if with_pages:
        start_pages(settings)
    _await_health(settings, progress)
    _start(settings, LAST_STARTED, service_command(LAST_STARTED), env)
    return True


def service_command(service: str) -> list[str]:
    """The command that runs a service, without its server for task logs, which would listen on all addresses: the API reads the logs in the home."""
    airflow = str(Path(sys.executable).parent / "airflow")
    if service == WORKER:
        return [airflow, "celery", "worker", "--skip-serve-logs"]
    return [airflow, service, *(["--skip-serve-logs"] if service in ("scheduler", "triggerer") else [])]


def start_pages(settings: Settings) -> None:
    """Start the pages unless they run; it does not wait for them."""
    if "pages" not in running_services(settings):
        # AIRFLOW_HOME marks the process as this home's, so that stop_services finds it (see _is_own)
        _start(
            settings,
            "pages",
            pages.command(settings),
            pages.environment(settings) | {"AIRFLOW_HOME": str(airflow_home(settings))},
        )


def await_pages(settings: Settings) -> str:
    """The link to the pages that `start_pages` started, once they answer. Raises NorthstarError when they do not start, naming their log."""
    deadline = time.monotonic() + START_SECONDS
    while not pages.is_answering(settings):
        if "pages" not in running_services(settings) or time.monotonic() > deadline:
            raise NorthstarError(f"the pages did not start; see {settings.logs / 'pages.log'}")
        time.sleep(0.2)
    return pages.link(settings)


def _start(settings: Settings, service: str, command: list[str], env: dict[str, str]) -> None:
    with open(settings.logs / f"{service}.log", "ab") as log:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=settings.home
        )  # fmt: skip
    began = ProcessRecord(pid=process.pid, created=psutil.Process(process.pid).create_time())
    write_private(state_file(settings), json.dumps(recorded_services(settings) | {service: began}))


def stop_services(settings: Settings) -> list[str]:
    """Stop the home's services with all their child processes, and nothing else; returns the names of those that ran."""
    running = running_services(settings)
    alive: set[psutil.Process] = set()
    for signal_number, patience in ((signal.SIGTERM, 8), (signal.SIGKILL, 30)):
        # listed again each time: a child may have been started, or orphaned, in between
        doomed, deadline = alive | _own_processes(settings), time.monotonic() + patience
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal_number)
        while (alive := {p for p in doomed if is_alive(p)}) and time.monotonic() < deadline:
            time.sleep(0.05)
    alive |= _own_processes(settings)
    if alive:
        raise NorthstarError(f"process {min(p.pid for p in alive)} does not end; kill it and run again")
    state_file(settings).unlink(missing_ok=True)
    return list(running)


def _own_processes(settings: Settings) -> set[psutil.Process]:
    """The processes of the home's services, of their children, and of services that were killed.

    Airflow's processes overwrite their environment with their title, and an orphan cannot be found through its parent. But all processes of a
    service are in the session in which it was started; and those of a service that was not recorded write to its log.
    """
    services, logs = (
        recorded_services(settings),
        {str(settings.home / "logs" / f"{s}.log") for s in (*AIRFLOW_SERVICES, "pages")},
    )
    sessions = {began["pid"] for began in services.values() if not is_reused_by_another(began)}
    this_process = psutil.Process()
    protected = {this_process, *this_process.parents()}
    processes = {p for p in psutil.process_iter() if p not in protected and _is_own(p, settings, sessions, logs)}
    for process in list(processes):
        with contextlib.suppress(psutil.Error):
            processes |= set(process.children(recursive=True)) - protected
    return processes


def _is_own(process: psutil.Process, settings: Settings, sessions: set[int], logs: set[str]) -> bool:
    try:
        if not is_alive(process):
            return False
        if os.getsid(process.pid) in sessions:
            return True
        if process.environ().get("AIRFLOW_HOME") == str(settings.home / "airflow"):
            return True
        # only as its output (file descriptors 1 and 2): a process that reads a log has it open under a higher number
        return any(file.fd in (1, 2) and file.path in logs for file in process.open_files())
    except (psutil.Error, OSError):
        return False


def migrate(settings: Settings, env: dict[str, str], progress: Progress) -> None:
    """Migrate the metadata database to the installed version of Airflow, unless this home has done so."""
    mark, installed_version = airflow_home(settings) / "migrated", version("apache-airflow")
    if read_word(mark) == installed_version:
        return
    progress("preparing Airflow's database (once) ...")
    airflow = str(Path(sys.executable).parent / "airflow")
    process = subprocess.run(
        [airflow, "db", "migrate"], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if process.returncode != 0:
        write_private(settings.logs / "migrate.log", process.stdout + process.stderr)
        raise NorthstarError(f"Airflow's database could not be prepared; see {settings.logs / 'migrate.log'}")
    write_private(mark, installed_version)


def _await_health(settings: Settings, progress: Progress) -> None:
    deadline, reported_at = time.monotonic() + START_SECONDS, time.monotonic()
    while time.monotonic() < deadline:
        running = running_services(settings)
        ended_services = [service for service in AIRFLOW_SERVICES if service not in running and service != LAST_STARTED]
        if ended_services:
            stop_services(settings)
            raise NorthstarError(
                f"Airflow's {ended_services[0]} exited at once; see {settings.logs / (ended_services[0] + '.log')}"
            )
        if set(api_health(settings).values()) == {"healthy"}:
            return
        if time.monotonic() - reported_at > 5:
            progress("Airflow is starting ...")
            reported_at = time.monotonic()
        time.sleep(0.3)
    raise NorthstarError(f"Airflow did not start within {START_SECONDS} s; see {settings.logs}")
