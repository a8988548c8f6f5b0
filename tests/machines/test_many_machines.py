"""Airflow on several machines: Celery's workers, each with a home, a user and a view of the disk of its own, share a warehouse and a broker.

Each of them is told by the test which tasks it gets, so that every stage of a run begins where the one before did not end.
"""

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from northstar.base.clock import parse_time
from northstar.base.errors import NorthstarError
from northstar.base.settings import ROOT, Settings, load_settings
from northstar.connections.dag_runs import has_ended
from northstar.demo.company import simulate
from northstar.orchestration.up import Api, follow, owed_run
from northstar.warehouse import db
from tests.external import External, free_port, server
from tests.support import query_as, select, silent

ROLES = ("loader", "transformer", "publisher", "bi_reader")
AIRFLOW = ("airflow_db", "airflow_api_key", "airflow_jwt", "airflow_fernet", "airflow_password")
# what one worker lands and builds, the other settles, audits and publishes
PLACES = """
def task_instance_mutation_hook(ti):
    ti.queue = "second" if ti.task_id in ("extract.land_source", "build.build_models") else "first"
"""
WORKERS = {"first": "daemon", "second": "games"}


class Machines:
    """The services and workers of one installation, with what they have in common in their environment and nothing on their disks."""

    def __init__(self, directory: Path, external: External, broker: int):
        self.directory, self.external, self.processes = directory, external, {}
        words = {
            f"{name}_password" if name != "pii_key" else name: secrets.token_urlsafe(16) for name in (*ROLES, "pii_key")
        }
        words |= {"airflow_db_password": secrets.token_urlsafe(16)} | {
            n: secrets.token_urlsafe(24) for n in AIRFLOW[1:]
        }
        self.api_port = free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "NORTHSTAR"))},
            **{f"NORTHSTAR_SECRET_{name.upper()}": value for name, value in words.items()},
            "NORTHSTAR_WAREHOUSE_URL": f"postgresql://127.0.0.1:{external.port}/northstar",
            "NORTHSTAR_BROKER_URL": f"redis://127.0.0.1:{broker}/0",
            "NORTHSTAR_API_PORT": str(self.api_port),
            "NORTHSTAR_API_URL": f"http://127.0.0.1:{self.api_port}",
            "NORTHSTAR_SOURCE_DIR": str(directory / "source"),
            # as soon as that a worker's task that was killed is missed, five minutes otherwise
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": "2",
        }  # fmt: skip
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def home(self, name: str) -> Path:
        path = self.directory / name
        path.mkdir(exist_ok=True)
        return path

    def settings(self, name: str) -> Settings:
        """Of one machine's home, with an administrator's eyes."""
        return replace(
            load_settings(self.home(name)),
            warehouse_url=self.external.address("postgres", "super/user#1?@", "northstar"),
        )

    def start(self, name: str, place: str, words: list[str], user: str | None = None, **environment: str) -> None:
        """Start a part of the installation, as the container does, in the home of `place`."""
        command = [sys.executable, "-m", "northstar.orchestration.container", *words]
        if user:
            command = as_another(
                user,
                self.home(place),
                [self.directory / other for other in ("main", *WORKERS) if other != place],
                command,
            )
        with open(self.directory / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=self.environment | {"NORTHSTAR_HOME": str(self.home(place)), "HOME": str(self.home(place))} | environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=self.home(place),
            )  # fmt: skip

    def kill(self, name: str) -> None:
        """A machine that falls: all its processes at once."""
        started = self.processes.pop(name)
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(started.pid)
            for each in [process, *process.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.send_signal(signal.SIGKILL)
        started.wait()

    def start_worker(self, name: str) -> None:
        words = ["worker", "--queues", name, "--celery-hostname", f"{name}@%h", "--without-mingle", "--without-gossip"]
        self.start(name, name, words, user=WORKERS[name])

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")[-3000:]


def as_another(user: str, own: Path, hidden: list[Path], command: list[str]) -> list[str]:
    """A command run by another user who sees of the disk what such a machine has: Python, the release, its own home."""
    if (
        os.geteuid() != 0
        or not shutil.which("unshare")
        or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode
    ):
        # by this one, then, who could see the rest
        return command
    script = ["set -e", "mount -t tmpfs -o mode=755 none /mnt"]
    kept = [p for p in (Path(sys.base_prefix), Path(sys.prefix), ROOT) if _closed(p)]
    for number, path in enumerate(kept):
        script += [f"mkdir /mnt/{number}", f"mount --bind '{path}' /mnt/{number}"]
    script += [f"mount -t tmpfs -o mode=755 none '{top}'" for top in sorted({_closed(p) for p in kept})]
    for number, path in enumerate(kept):
        script += [f"mkdir -p '{path}'", f"mount --bind /mnt/{number} '{path}'"]
    script += [f"mount -t tmpfs -o mode=000 none '{path}'" for path in hidden if path.exists()]
    script += [f"chown -R {user} '{own}'", f'exec setpriv --reuid={user} --regid={user} --clear-groups "$@"']
    return ["unshare", "--mount", "sh", "-c", "\n".join(script), "sh", *command]


def _closed(path: Path) -> Path | None:
    """The first directory on the way to a path that others may not enter."""
    return next((p for p in reversed(path.parents) if not p.stat().st_mode & 0o001), None)


@contextmanager
def redis(directory: Path):
    """A Redis for the context's time; gives its port."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("Redis is not installed; apt-get install redis-server")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    with open(directory / "redis.log", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield port
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    with ExitStack() as stack:
        external = stack.enter_context(server())
        directory = external.directory / "machines"
        directory.mkdir()
        directory.chmod(0o755)
        broker = stack.enter_context(redis(directory))
        external.make_database("northstar")
        simulate(directory / "source", months=1, accounts=30, applications=("web",), end=parse_time(None))
        found = Machines(directory, external, broker)
        stack.callback(lambda: [found.kill(name) for name in list(found.processes)])
        config = found.home("main") / "airflow" / "config"
        config.mkdir(parents=True)
        (config / "airflow_local_settings.py").write_text(PLACES)
        found.start(
            "init",
            "main",
            ["init"],
            NORTHSTAR_WAREHOUSE_URL=external.address("postgres", "super/user#1?@", "northstar"),
        )
        assert found.processes.pop("init").wait(120) == 0, found.log("init")
        for service in ("api-server", "scheduler", "dag-processor", "triggerer"):
            found.start(service, "main", [service], PYTHONPATH=str(config))
        for worker in WORKERS:
            found.start_worker(worker)
        yield found


@pytest.fixture(scope="module")
def api(machines):
    with pytest.MonkeyPatch.context() as patch:
        # what the tests ask, they ask as such a machine
        for name, value in machines.environment.items():
            if name.startswith("NORTHSTAR") and name not in ("NORTHSTAR_WAREHOUSE_URL", "NORTHSTAR_SOURCE_DIR"):
                patch.setenv(name, value)
        deadline = time.monotonic() + 120
        while True:
            try:
                api = Api(machines.settings("main"))
                break
            except (NorthstarError, OSError) as exc:
                assert time.monotonic() < deadline, (exc, machines.log("api-server"))
                time.sleep(0.5)
        for dag in ("nightly_rebuild", "hourly_refresh"):
            api._call_when_registered(f"/api/v2/dags/{dag}")
        for name, process in machines.processes.items():
            assert process.poll() is None, f"{name} ended: {machines.log(name)}"
        yield api


def places(api: Api, dag_id: str, run_id: str) -> set[str]:
    """The workers that ran the tasks of a DAG run."""
    answer = api._call(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100")
    return {t["queue"] for t in answer["task_instances"] if t["operator"] == "PythonOperator"}


def leave_turn(settings: Settings, holder: str) -> None:
    """What a DAG run leaves whose last task never ran: its turn, taken by a scheduler on another machine."""
    with db.connect(settings, "transformer") as connection:
        connection.execute(
            "insert into audit.writer_lease (run_id, holder, is_dag_run, host, process_id, taken_at) "
            "values (0, %s, true, 'elsewhere', 1, clock_timestamp())",
            [holder],
        )


@pytest.mark.timeout(1200)
def test_the_stages_of_a_run_work_on_whichever_machine(machines, api):
    settings = machines.settings("main")
    run_id = owed_run(api, "nightly_rebuild") or api.trigger("nightly_rebuild", {})
    follow(api, "nightly_rebuild", run_id, silent)
    assert places(api, "nightly_rebuild", run_id) == set(WORKERS)
    assert [p["published_version"] for p in select(settings, "select published_version from publications")] == [1]
    # what one machine built the other published, without a file of it
    homes = {name: machines.home(name) for name in ("main", *WORKERS)}
    assert [n for n, home in homes.items() if (home / "dbt" / "target" / "manifest.json").exists()] == ["second"]
    assert [n for n, home in homes.items() if (home / "secrets.json").exists()] == []

    # Airflow says of a DAG run of which only its turn is left that it has ended, to a task and on the command line
    ended = f"nightly_rebuild {run_id}"
    assert has_ended(settings, ended) and not has_ended(settings, "nightly_rebuild of_another_airflow")
    leave_turn(settings, ended)
    run_id = owed_run(api, "hourly_refresh") or api.trigger("hourly_refresh", {})
    follow(api, "hourly_refresh", run_id, silent)
    published = select(settings, "select mode from publications order by published_version")
    assert [p["mode"] for p in published] == ["nightly", "hourly"]


@pytest.mark.timeout(1200)
def test_a_worker_that_is_killed_in_mid_build_fails_its_run_and_the_next_one_publishes(machines, api):
    settings = machines.settings("main")
    before = len(select(settings, "select 1 from publications"))
    run_id = api.trigger("nightly_rebuild", {})
    started = f"select run_id from audit.runs where trigger = 'nightly_rebuild {run_id}' and stage = 'build'"
    deadline = time.monotonic() + 300
    while not query_as(settings, "transformer", f"select 1 from audit.model_runs where run_id in ({started}) limit 1"):
        assert time.monotonic() < deadline, machines.log("second")
        time.sleep(0.2)
    machines.kill("second")
    machines.start_worker("second")
    with pytest.raises(NorthstarError, match=re.escape(f"the run {run_id} failed")):
        follow(api, "nightly_rebuild", run_id, silent)
    # at a full hour the scheduler has begun the next run meanwhile, which may have the turn
    own = f"nightly_rebuild {run_id}"
    assert query_as(settings, "transformer", "select 1 from audit.writer_lease where holder = %s", own) == []
    follow(api, "hourly_refresh", owed_run(api, "hourly_refresh") or api.trigger("hourly_refresh", {}), silent)
    assert len(select(settings, "select 1 from publications")) > before
    runs = query_as(
        settings, "transformer", "select mode, is_full, state from audit.runs where run_id >= (select run_id from audit.runs where trigger = %s) "
        "order by run_id limit 2", own,
    )  # fmt: skip
    # what a nightly run left half done, the next run builds anew, whichever it is
    assert [tuple(run.values()) for run in runs] == [("nightly", True, "failed"), ("hourly", True, "published")]
