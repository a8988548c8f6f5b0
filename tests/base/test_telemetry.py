"""No process of ours reports anything to anybody, unless it is told to."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from northstar.audit.worker import start_worker
from northstar.base.settings import ROOT
from northstar.base.telemetry import OFF, switch_off
from northstar.connections.airflow import airflow_environment
from northstar.use.pages import serve
from northstar.use.semantic import _environment

SHOWS = "import northstar, os, json; print(json.dumps(dict(os.environ)))"


def imported(**environment) -> dict:
    import json

    bare = {name: value for name, value in os.environ.items() if name not in OFF}
    done = subprocess.run(
        [sys.executable, "-c", SHOWS], env=bare | environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_whoever_imports_northstar_is_silent_and_so_are_its_children():
    assert OFF.items() <= imported().items()


def test_telemetry_is_there_for_who_asks_for_it():
    assert not OFF.keys() & imported(NORTHSTAR_TELEMETRY="1").keys()


def test_the_environment_of_every_child_is_silent(warehouse):
    for environment in (
        airflow_environment(warehouse),
        serve.environment(warehouse),
        os.environ | _environment(warehouse, warehouse.home),
    ):
        assert OFF.items() <= environment.items()
    worker = start_worker(warehouse)
    try:
        process, deadline = psutil.Process(worker._process.pid), time.monotonic() + 10
        # the kernel shows nothing for a moment after the start of a program
        while not (environment := process.environ()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert OFF.items() <= environment.items()
    finally:
        worker.stop()


def test_the_tools_believe_it():
    # each reads its own wish when it is imported
    code = (
        "import northstar\n"
        "from airflow.configuration import conf; assert not conf.getboolean('usage_data_collection', 'enabled')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize("name", sorted(OFF))
def test_the_container_says_so_too(name):
    assert f"{name}={OFF[name]}" in (ROOT / "Dockerfile").read_text()


def test_silence_overrides_what_was_there():
    environment = {"GX_ANALYTICS_ENABLED": "true"}
    switch_off(environment)
    assert environment["GX_ANALYTICS_ENABLED"] == "false"
