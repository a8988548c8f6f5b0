"""Spark on a master with two workers of its own on loopback, some of which die or come late: the numbers are the same."""

import json
import os
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from northstar.base.ports import free_port
from tests.spark.handover import SPARK_PYTHON, changed, fail_to_hand_over, hand_over, with_changes

SPARK_HOME = next((SPARK_PYTHON.parent.parent / "lib").glob("python3*/site-packages/pyspark"), Path())
# a guard against waiting for what never comes, and no measure of anything
LONG = 300
# an executor that is killed while it has a task: all are stopped first, so that none can end meanwhile. The work is held back until then,
# with Spark's stages going on
KILL = """
describe = reduce.describe
def hold(rows):
    described = describe(rows)
    while not killed.is_set():
        described = describe(rows)
    return described
reduce.describe = hold
killed = threading.Event()

def executors(session):
    marks = (b"CoarseGrainedExecutorBackend", session.sparkContext.applicationId.encode())
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if all(mark in words for mark in marks) and b"java" in words.partition(b"\\0")[0]:
            yield int(path.parent.name)

def is_at_work(session):
    try:
        session.sparkContext._jsc.sc().listenerBus().waitUntilEmpty()
    except Exception:
        return False
    tracker = session.sparkContext.statusTracker()
    stages = [tracker.getStageInfo(number) for number in tracker.getActiveStageIds()]
    return any(stage and stage.numActiveTasks for stage in stages)

def kill_one(session):
    while not killed.is_set():
        stopped = list(executors(session))
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        if len(stopped) == 2 and is_at_work(session):
            os.kill(stopped[0], signal.SIGKILL)
            killed.set()
        for process in stopped[1:] if killed.is_set() else stopped:
            os.kill(process, signal.SIGCONT)
        time.sleep(0.05)

await_executor = reduce.await_executor
def await_and_kill(session, job):
    await_executor(session, job)
    threading.Thread(target=kill_one, args=[session], daemon=True).start()
reduce.await_executor = await_and_kill
"""


class Standalone:
    """A master and its workers, each with a core and 1 GB, below a directory."""

    def __init__(self, place: Path):
        self.place, self.port, self.web = place, free_port(), free_port()
        self.address = f"spark://127.0.0.1:{self.port}"
        self.workers: list[subprocess.Popen] = []
        self.master = self._start("Master", "--port", str(self.port), "--webui-port", str(self.web))
        self.wait(lambda state: state["status"] == "ALIVE")

    def add_worker(self) -> None:
        self.workers.append(
            self._start("Worker", "--cores", "1", "--memory", "1g", "--webui-port", str(free_port()), self.address)
        )
        wanted = len(self.workers)
        self.wait(lambda state: sum(w["state"] == "ALIVE" for w in state["workers"]) == wanted)

    def remove_workers(self) -> None:
        while self.workers:
            _end(self.workers.pop())
        self.wait(lambda state: not any(w["state"] == "ALIVE" for w in state["workers"]))

    def wait(self, holds: Callable[[dict], bool]) -> None:
        """Wait until the master's state is as wanted."""
        until = time.monotonic() + LONG
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.web}/json/") as answer:
                    if holds(json.load(answer)):
                        return
            except OSError:
                pass
            assert self.master.poll() is None and time.monotonic() < until, (self.place / "log").read_text()[-2000:]
            time.sleep(0.1)

    def _start(self, kind: str, *arguments: str) -> subprocess.Popen:
        environment = {
            "PATH": os.environ["PATH"], "SPARK_HOME": str(SPARK_HOME), "SPARK_DAEMON_MEMORY": "256m", "SPARK_LOCAL_DIRS": str(self.place / "scratch"),
            "SPARK_WORKER_DIR": str(self.place / "work"), "TZ": "UTC",
        }  # fmt: skip
        command = [
            SPARK_HOME / "bin" / "spark-class",
            f"org.apache.spark.deploy.{kind.lower()}.{kind}",
            "--host",
            "127.0.0.1",
            *arguments,
        ]
        with open(self.place / "log", "a") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    process.wait(LONG)


@pytest.fixture(scope="module")
def standalone(tmp_path_factory) -> Iterator[Standalone]:
    cluster = Standalone(tmp_path_factory.mktemp("standalone"))
    try:
        yield cluster
    finally:
        for worker in cluster.workers:
            _end(worker)
        _end(cluster.master)


def test_workers_that_join_late_and_an_executor_that_is_killed_in_the_middle_of_a_stage(
    small, wanted, standalone, tmp_path
):
    """The first joins when the work is waiting for one, the second when the first is at work; then the executor of one is killed."""
    results: list[list[dict]] = []
    settings = changed(small, spark_master=standalone.address, spark_python=with_changes(tmp_path, KILL))
    work = threading.Thread(target=lambda: results.append(hand_over(settings, 110)))
    work.start()
    try:
        standalone.wait(lambda state: any(app["state"] == "WAITING" for app in state["activeapps"]))
        standalone.add_worker()
        standalone.wait(lambda state: state["coresused"] == 1)
        standalone.add_worker()
        work.join()
    finally:
        standalone.remove_workers()
    assert results == [wanted]
    assert "Lost executor" in (settings.logs / "spark.log").read_text()


def test_a_cluster_that_gives_nothing_is_one_line(small, standalone):
    message = fail_to_hand_over(changed(small, spark_master=standalone.address, spark_wait_minutes=0.01))
    assert message.startswith(
        f"Spark failed: no worker of {standalone.address} gave an executor within 0.6 seconds: is there one with a free core and 1024 MB"
    )
    nowhere = f"spark://127.0.0.1:{free_port()}"
    assert (
        f"Spark failed: no master answers at {nowhere} (Connection refused); see `spark_master`"
        in fail_to_hand_over(changed(small, spark_master=nowhere))
    )


def test_a_cluster_of_processes_on_this_machine(small, wanted):
    assert hand_over(changed(small, spark_master="local-cluster[2,1,1024]"), 112) == wanted
