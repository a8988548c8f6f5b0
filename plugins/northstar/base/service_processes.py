"""The services of a home (Airflow's and the pages): which were started, and which are alive. Their process ids are kept in a file of the home."""

import contextlib
from pathlib import Path
from typing import TypedDict

import psutil

from northstar.base.files import read_json
from northstar.base.settings import Settings


class ProcessRecord(TypedDict):
    """A service's process: its id, and when it began, in seconds since 1970."""

    pid: int
    created: float


def is_reused_by_another(record: ProcessRecord) -> bool:
    """Whether the process id of a service now belongs to another process."""
    try:
        return abs(psutil.Process(record["pid"]).create_time() - record["created"]) >= 1
    except psutil.NoSuchProcess:
        return False


def is_alive(process: psutil.Process) -> bool:
    """Whether a process is alive. A zombie that was not reaped, as in a container without an init, is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def running_services(settings: Settings) -> dict[str, psutil.Process]:
    """{service: its process} of the services that are alive."""
    processes = {}
    for service, began in recorded_services(settings).items():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(began["pid"])
            if not is_reused_by_another(began) and is_alive(process):
                processes[service] = process
    return processes


def recorded_services(settings: Settings) -> dict[str, ProcessRecord]:
    """{service: its process id and when that process began}, of the services that were started; incomplete entries are left out."""
    state = read_json(state_file(settings)) or {}
    return {
        service: ProcessRecord(pid=began["pid"], created=began["created"]) for service, began in state.items()
        if isinstance(began, dict) and isinstance(began.get("pid"), int) and isinstance(began.get("created"), int | float)
    }  # fmt: skip


def state_file(settings: Settings) -> Path:
    """The file that holds the process ids of the services."""
    return settings.home / "airflow" / "services.json"


def service_states(settings: Settings) -> dict[str, bool]:
    """{service that was started: whether it is alive}; {} if none was started, or all were stopped."""
    running = running_services(settings)
    return {service: service in running for service in recorded_services(settings)}
