"""What Airflow's processes are told by their environment."""

import json
from dataclasses import replace

import pytest

from northstar.base.errors import NorthstarError
from northstar.connections.airflow import airflow_environment
from northstar.orchestration import tasks


def telling(settings, **operations):
    return replace(settings, operations=settings.operations.model_copy(update=operations))


def test_lineage_is_told_to_nobody_unless_operations_yml_says_to_whom(warehouse):
    assert not [name for name in airflow_environment(warehouse) if "OPENLINEAGE" in name]
    with pytest.raises(NorthstarError, match="openlineage must be an address such as"):
        airflow_environment(telling(warehouse, openlineage="somewhere"))


def test_what_tells_lineage_outlives_a_busy_machine_and_every_try_to_reach_a_server_that_is_silent(warehouse):
    from openlineage.client.transport.http import HttpConfig

    env = airflow_environment(telling(warehouse, openlineage="http://127.0.0.1:5000"))
    transport = HttpConfig.from_dict(json.loads(env["AIRFLOW__OPENLINEAGE__TRANSPORT"]))
    silence = transport.timeout * (1 + transport.retry["total"])
    assert silence <= 10, "each event of a task waits that long"
    # Airflow's default of 10 s ended it before its event was told
    assert int(env["AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT"]) >= 60 + silence


def test_hosts_that_are_asked_without_the_proxy_stay_so(warehouse, monkeypatch):
    monkeypatch.setenv("no_proxy", "git.corp.example, localhost")
    assert airflow_environment(warehouse)["no_proxy"] == "git.corp.example,localhost,127.0.0.1"


def test_whatever_goes_wrong_in_an_evaluation_of_alerts_stops_no_run(monkeypatch, capsys):
    def broken(**_):
        raise KeyError("targets")

    monkeypatch.setattr(tasks, "evaluate_alerts", broken)
    tasks._evaluate_quietly()
    assert capsys.readouterr().out == "alerts: KeyError: 'targets'\n"
