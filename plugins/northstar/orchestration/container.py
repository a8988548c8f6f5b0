"""The container's entry point: `init` once, then the pages, the API, a service of Airflow or a worker, in the same environment as with `make run`.

Options of Airflow in the container's environment (AIRFLOW__SECTION__KEY) take precedence over those that `airflow_environment` sets.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from northstar.base.errors import NorthstarError
from northstar.base.progress import progress
from northstar.base.settings import load_settings, private_umask
from northstar.connections.airflow import AIRFLOW_SERVICES, airflow_environment, users_file
from northstar.orchestration.services import WORKER, migrate, service_command, write_users_file
from northstar.use.pages import serve as pages
from northstar.warehouse.setup import bootstrap, make_airflow_database

AIRFLOW = str(Path(sys.executable).parent / "airflow")


@private_umask()
def main(arguments: list[str]) -> int:
    """Run a command of the container; returns the exit status. A service, a worker, the pages or the API replace this process.

    arguments: `init`, `alive JOB`, `pages`, `api`, `worker [OPTION ...]`, or a service's name.
    """
    try:
        settings = load_settings()
        if arguments == ["init"]:
            make_airflow_database(settings)
            bootstrap(settings)
            # an earlier version kept this file where every service can read it
            users_file(settings).unlink(missing_ok=True)
            migrate(settings, airflow_environment(settings), progress)
            return 0
        if arguments == ["pages"]:
            command = pages.command(settings)
            os.execve(command[0], command, pages.environment(settings))
        if arguments == ["api"]:
            os.execve(sys.executable, [sys.executable, "-m", "northstar.cli", "api"], dict(os.environ))
        is_worker = arguments[:1] == [WORKER]
        env = airflow_environment(settings, with_metadata=not is_worker)
        env |= {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW__")}
        if is_worker:
            if "AIRFLOW__CELERY__BROKER_URL" not in env:
                raise NorthstarError(
                    "a worker gets its tasks from a broker: set NORTHSTAR_BROKER_URL=redis://HOST:6379/0"
                )
            os.execve(AIRFLOW, [*service_command(WORKER), *arguments[1:]], env)
        if arguments == ["api-server"]:
            # not in the home, which the other services can read
            users = Path(tempfile.gettempdir()) / "passwords.json"
            write_users_file(settings, users)
            env["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"] = str(users)
        if len(arguments) == 2 and arguments[0] == "alive":
            return subprocess.run([AIRFLOW, "jobs", "check", "--job-type", arguments[1], "--local"], env=env).returncode
        if len(arguments) == 1 and arguments[0] in AIRFLOW_SERVICES:
            os.execve(AIRFLOW, service_command(arguments[0]), env)
        raise NorthstarError(
            f"unknown command; give init, alive JOB, pages, api, worker, or one of {', '.join(AIRFLOW_SERVICES)}"
        )
    except NorthstarError as exc:
        print(f"northstar: {exc}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
