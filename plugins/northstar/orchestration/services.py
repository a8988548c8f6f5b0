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
from northstar.base.services import Began, is_anothers, known_services, lives, running_services, state_file
from northstar.base.settings import Settings
from northstar.connections.airflow import AIRFLOW_SERVICES, airflow_environment, airflow_home, api_health, users_file
from northstar.use.pages import serve as pages

# what nobody needs before the first task waits for something: it starts when the others are there
LAST = "triggerer"
START_SECONDS = 90
# a machine beside these, told by a broker which tasks to run
WORKER = "worker"


def keep_users(settings: Settings, file: Path) -> None:
    """Write such a file: the user `admin` with the password that holds now."""
    write_private(file, json.dumps({"admin": settings.secret("airflow_password")}))


def start_services(settings: Settings, progress: Progress = print, with_pages: bool = False) -> bool:
    """Bring the metadata database to Airflow's version if need be and start what is not running; true when it had to.

    with_pages: have the pages load meanwhile; `await_pages` tells when they are there.
    Raises NorthstarError when a service does not come up, naming its log.
    """
    if running_services(settings).keys() >= set(AIRFLOW_SERVICES):
        # whoever started them may have been killed before they were up
        _await_health(settings, progress)
        return False
    stop_services(settings)
    env = airflow_environment(settings)
    keep_users(settings, users_file(settings))
    migrate(settings, env, progress)
    for service in AIRFLOW_SERVICES:
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


def begin_pages(settings: Settings) -> None:
    """Start the pages unless they run, and wait for nothing."""
    if "pages" not in running_services(settings):
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
        if "pages" not in running_services(settings) or time.monotonic() > deadline:
            raise NorthstarError(f"the pages did not come up; see {settings.logs / 'pages.log'}")
        time.sleep(0.2)
    return pages.link(settings)


def _start(settings: Settings, service: str, command: list[str], env: dict[str, str]) -> None:
    with open(settings.logs / f"{service}.log", "ab") as log:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=settings.home
        )  # fmt: skip
    began = Began(pid=process.pid, created=psutil.Process(process.pid).create_time())
    write_private(state_file(settings), json.dumps(known_services(settings) | {service: began}))


def stop_services(settings: Settings) -> list[str]:
    """Stop the home's services with all their children, and nothing else; returns the names of those that ran."""
    running = running_services(settings)
    alive: set[psutil.Process] = set()
    for signal_number, patience in ((signal.SIGTERM, 8), (signal.SIGKILL, 30)):
        # asked anew: a child that was born, or orphaned, in between
        doomed, deadline = alive | _own_processes(settings), time.monotonic() + patience
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal_number)
        while (alive := {p for p in doomed if lives(p)}) and time.monotonic() < deadline:
            time.sleep(0.05)
    alive |= _own_processes(settings)
    if alive:
        raise NorthstarError(f"process {min(p.pid for p in alive)} does not end; end it and run again")
    state_file(settings).unlink(missing_ok=True)
    return list(running)


def _own_processes(settings: Settings) -> set[psutil.Process]:
    """The home's services, what they have started, and what is left of those that were killed.

    Airflow's processes write their title over their environment, and who is orphaned has no parent that leads to it: the session that a
    service was started in holds all of them, the log that they write to those whose service nobody has noted.
    """
    services, logs = (
        known_services(settings),
        {str(settings.home / "logs" / f"{s}.log") for s in (*AIRFLOW_SERVICES, "pages")},
    )
    sessions = {began["pid"] for began in services.values() if not is_anothers(began)}
    this_process = psutil.Process()
    protected = {this_process, *this_process.parents()}
    processes = {p for p in psutil.process_iter() if p not in protected and _is_own(p, settings, sessions, logs)}
    for process in list(processes):
        with contextlib.suppress(psutil.Error):
            processes |= set(process.children(recursive=True)) - protected
    return processes


def _is_own(process: psutil.Process, settings: Settings, sessions: set[int], logs: set[str]) -> bool:
    try:
        if not lives(process):
            return False
        if os.getsid(process.pid) in sessions:
            return True
        if process.environ().get("AIRFLOW_HOME") == str(settings.home / "airflow"):
            return True
        # as its output: whoever reads a log has opened it after these
        return any(file.fd in (1, 2) and file.path in logs for file in process.open_files())
    except (psutil.Error, OSError):
        return False


def migrate(settings: Settings, env: dict[str, str], progress: Progress) -> None:
    """Bring the metadata database to the installed Airflow's version, unless this home has done so."""
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
        ended_services = [service for service in AIRFLOW_SERVICES if service not in running and service != LAST]
        if ended_services:
            stop_services(settings)
            raise NorthstarError(
                f"Airflow's {ended_services[0]} ended at once; see {settings.logs / (ended_services[0] + '.log')}"
            )
        if set(api_health(settings).values()) == {"healthy"}:
            return
        if time.monotonic() - reported_at > 5:
            progress("Airflow is starting ...")
            reported_at = time.monotonic()
        time.sleep(0.3)
    raise NorthstarError(f"Airflow did not come up within {START_SECONDS} s; see {settings.logs}")
