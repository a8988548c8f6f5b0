"""docs/kubernetes.yml, as far as it can be checked without a cluster: what a pod is given is what its work needs, and with it it starts."""

import os
import re
import tempfile

import pytest
import yaml

from northstar.base.settings import ROOT, load_settings
from northstar.connections.airflow import AIRFLOW_SERVICES
from northstar.extract.sources.declared import read_sources
from northstar.orchestration import container
from northstar.orchestration.services import WORKER
from northstar.use.notify import read_channels
from tests.orchestration.test_container import AIRFLOWS, JOBS, READERS, SECRETS, TRANSFORMERS

TEXT = (ROOT / "docs" / "kubernetes.yml").read_text()
DOCUMENTS = list(yaml.safe_load_all(TEXT))
MAPS = {d["metadata"]["name"]: d["data"] for d in DOCUMENTS if d["kind"] == "ConfigMap"}
PODS = {
    pod["containers"][0]["name"]: pod
    for pod in (d["spec"]["template"]["spec"] for d in DOCUMENTS if d["kind"] in ("Deployment", "Job"))
}
# as the comment in the file says, which whoever makes them follows
WORDS = dict(re.findall(r"^#   (northstar-\S+) +(.+)$", TEXT, re.MULTILINE))
# of the stack on one machine the scheduler runs the tasks; here the workers do, and ask the api-server instead of Airflow's database
WANTED = SECRETS | {
    "scheduler": AIRFLOWS | TRANSFORMERS,
    WORKER: (JOBS - {"AIRFLOW_DB_PASSWORD"}) | READERS,
}
# the API is not part of it: its tokens are in a home that pods do not share
WANTED = {name: secrets - {"API_LINK_KEY"} for name, secrets in WANTED.items()}


def environment(pod: dict) -> dict:
    """What a pod's process finds in its environment, the secrets made up."""
    one, found = pod["containers"][0], {}
    for reference in one["envFrom"]:
        if name := reference.get("configMapRef", {}).get("name"):
            found |= MAPS[name]
        else:
            found |= dict.fromkeys(re.findall(r"NORTHSTAR_\w+", WORDS[reference["secretRef"]["name"]]), "made up")
    found |= {"NORTHSTAR_BROKER_URL": "rediss://:word@broker:6379/0"} if "NORTHSTAR_BROKER_URL" in found else {}
    return found | {e["name"]: e["value"] for e in one.get("env", [])}


def test_it_has_every_service_of_the_stack_and_workers():
    assert set(PODS) == {"init", *AIRFLOW_SERVICES, "pages", WORKER}
    assert {name: pod["containers"][0]["args"][0] for name, pod in PODS.items()} == {name: name for name in PODS}


def test_a_pod_has_the_secrets_of_its_work_and_no_other():
    for name, pod in PODS.items():
        given = {k.removeprefix("NORTHSTAR_SECRET_") for k in environment(pod) if k.startswith("NORTHSTAR_SECRET_")}
        assert given == WANTED[name], name
        assert ("northstar_owner" in str(pod)) == (name == "init")


def test_pods_run_unprivileged_on_a_read_only_file_system_and_share_the_logs_alone():
    for name, pod in PODS.items():
        one = pod["containers"][0]
        assert one["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}  # fmt: skip
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        user = re.search(r"useradd --uid (\d+)", (ROOT / "Dockerfile").read_text())[1]
        assert pod["securityContext"]["runAsUser"] == int(user)
        shared = [v["name"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
        assert shared == ["logs"] and {m["name"] for m in one["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
        assert one["resources"]["limits"]["memory"], name


@pytest.mark.parametrize("name", [n for n in PODS if n != "init"])
def test_a_pod_starts_with_what_it_is_given(name, tmp_path, monkeypatch):
    for variable in [v for v in os.environ if v.startswith(("NORTHSTAR", "AIRFLOW"))]:
        monkeypatch.delenv(variable)
    for variable, value in environment(PODS[name]).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("NORTHSTAR_HOME", str(tmp_path))
    monkeypatch.setenv("NORTHSTAR_CONFIG", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    begun = []
    monkeypatch.setattr(os, "execve", lambda *given: begun.append(given))
    container.main([str(word) for word in PODS[name]["containers"][0]["args"]])
    _, words, given = begun[0]
    assert not (tmp_path / "secrets.json").exists()
    if name == "pages":
        return
    assert given["AIRFLOW__CORE__EXECUTOR"].endswith("CeleryExecutor")
    # what the pod says of Airflow counts for more than what is set by itself
    assert given["AIRFLOW__LOGGING__BASE_LOG_FOLDER"] == "/var/log/northstar"
    if name == WORKER:
        assert words[1:3] == ["celery", "worker"] and words[-2:] == ["--concurrency", "4"]
        assert "airflow_db" not in str(given)


def test_the_files_that_people_write_are_read(tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.mkdir()
    for name, text in MAPS["northstar-config"].items():
        (config / name).write_text(text)
    monkeypatch.setenv("NORTHSTAR_CONFIG", str(config))
    settings = load_settings(tmp_path / "home")
    assert settings.config == config and settings.operations.keep_versions_days == 400
    assert list(read_sources(settings)) == ["shop"]
    assert read_channels(settings).routes == {}


def test_a_worker_without_a_broker_and_a_configuration_that_is_not_there_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NORTHSTAR_HOME", str(tmp_path))
    monkeypatch.setenv("NORTHSTAR_WAREHOUSE_URL", "postgresql://127.0.0.1/northstar")
    for name in ("AIRFLOW_API_KEY", "AIRFLOW_JWT", "AIRFLOW_FERNET", "TRANSFORMER_PASSWORD"):
        monkeypatch.setenv(f"NORTHSTAR_SECRET_{name}", "made up")
    assert container.main(["worker"]) == 1
    assert (
        capsys.readouterr().err
        == "northstar: a worker gets its tasks from a broker: set NORTHSTAR_BROKER_URL=redis://HOST:6379/0\n"
    )
    monkeypatch.setenv("NORTHSTAR_CONFIG", str(tmp_path / "none"))
    assert container.main(["worker"]) == 1
    assert capsys.readouterr().err == f"northstar: NORTHSTAR_CONFIG={tmp_path / 'none'} is not a directory\n"


def test_a_broker_that_is_none_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NORTHSTAR_HOME", str(tmp_path))
    monkeypatch.setenv("NORTHSTAR_WAREHOUSE_URL", "postgresql://127.0.0.1/northstar")
    monkeypatch.setenv("NORTHSTAR_BROKER_URL", "amqp://queue")
    for name in AIRFLOWS:
        monkeypatch.setenv(f"NORTHSTAR_SECRET_{name}", "made up")
    assert container.main(["scheduler"]) == 1
    assert (
        capsys.readouterr().err
        == "northstar: NORTHSTAR_BROKER_URL: give the address of a Redis server, such as redis://HOST:6379/0 (rediss:// over a network)\n"
    )
