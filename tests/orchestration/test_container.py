"""The stack for production, as far as it can be checked without a container engine."""

import os
import re
import tempfile

import yaml

from northstar.base.settings import ROOT, load_settings
from northstar.connections.airflow import AIRFLOW_SERVICES
from northstar.orchestration import container
from northstar.warehouse import db

COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVED = (*AIRFLOW_SERVICES, "pages", "api")
STACK = yaml.safe_load(COMPOSE)


def test_it_runs_postgres_and_every_service_of_airflow():
    assert set(STACK["services"]) == {"warehouse", "init", *SERVED}
    for name in SERVED:
        assert STACK["services"][name]["command"] == [name]


def test_every_secret_comes_from_the_environment_and_is_documented():
    asked = set(re.findall(r"\$\{(\w+):\?", COMPOSE))
    header = COMPOSE[: COMPOSE.index("x-northstar")]
    required, optional = header.split("# Optional variables")
    assert asked and asked == set(re.findall(r"NORTHSTAR_\w+", required))
    assert not re.search(r"\$\{\w+\}", COMPOSE), "without a message"
    assert set(re.findall(r"\$\{(\w+):-", COMPOSE)) == set(re.findall(r"NORTHSTAR_\w+", optional))
    defaults = set(re.findall(r"\$\{(\w+:-[^}]+)", COMPOSE))
    assert not [d for d in defaults if re.search("PASSWORD|KEY|SECRET|JWT|FERNET", d)], "a secret with a default"
    for name, value in re.findall(r"(NORTHSTAR_\w+)=(\w+)", optional):
        assert f"{name}:-{value}" in defaults


AIRFLOWS = {f"AIRFLOW_{n}" for n in ("DB_PASSWORD", "API_KEY", "JWT", "FERNET")}
READERS, TRANSFORMERS = {"BI_READER_PASSWORD"}, {"TRANSFORMER_PASSWORD"}
JOBS = AIRFLOWS | READERS | TRANSFORMERS | {"LOADER_PASSWORD", "PUBLISHER_PASSWORD", "PII_KEY", "API_LINK_KEY"}
SECRETS = {
    "init": JOBS | {"OWNER_PASSWORD"}, "scheduler": JOBS, "api-server": AIRFLOWS | {"AIRFLOW_PASSWORD"},
    "dag-processor": AIRFLOWS | TRANSFORMERS, "triggerer": AIRFLOWS | TRANSFORMERS, "pages": READERS | {"PAGES_PASSWORD"},
    "api": READERS | {"API_LINK_KEY"},
}  # fmt: skip


def test_each_service_has_the_secrets_of_its_work_and_none_that_stays_up_the_administrators():
    for name, secrets in SECRETS.items():
        environment = STACK["services"][name]["environment"]
        given = {k.removeprefix("NORTHSTAR_SECRET_") for k in environment if k.startswith("NORTHSTAR_SECRET_")}
        assert given == secrets, name
        assert ("OWNER" in str(environment)) == ("northstar_owner" in str(environment)) == (name == "init")


def test_a_service_starts_with_the_secrets_that_the_stack_gives_it(tmp_path, monkeypatch):
    for name in ("scheduler", "api-server", "dag-processor", "triggerer", "pages", "api"):
        with monkeypatch.context() as patch:
            for variable, value in STACK["services"][name]["environment"].items():
                patch.setenv(variable, value)
            patch.setenv("NORTHSTAR_HOME", str(tmp_path / name))
            begun = []
            patch.setattr(os, "execve", lambda *given, begun=begun: begun.append(given))
            patch.setattr(tempfile, "tempdir", str(tmp_path))
            container.main([name])
            assert len(begun) == 1, name
            # nothing that it lacks was made up, nothing that it has was put where another service reads it
            assert not [f for f in (tmp_path / name).rglob("*") if f.name in ("secrets.json", "passwords.json")]
            assert (
                begun[0][2].get("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE") == str(tmp_path / "passwords.json")
            ) == (name == "api-server")
            if name == "pages":
                assert db.uri(load_settings(), "bi_reader").startswith("postgresql://northstar_bi_reader:")


def test_no_password_stands_in_an_address_where_some_characters_would_mean_something_else():
    assert not re.search(r"://[^\s/]*\$\{", COMPOSE)


def test_services_run_unprivileged_on_a_read_only_file_system_with_health_checks():
    for name in SERVED:
        service = STACK["services"][name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and "healthcheck" in service
    assert re.search(r"^USER northstar$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_no_service_can_gain_rights_or_reach_the_host():
    for name in STACK["services"]:
        service = STACK["services"][name]
        assert (
            service["read_only"]
            and "no-new-privileges:true" in service["security_opt"]
            and service["cap_drop"] == ["ALL"]
        )
    for name in (*SERVED, "init"):
        service = STACK["services"][name]
        assert service["volumes"][0] == "home:/var/lib/northstar" + (
            ":ro" if name in ("api-server", "pages", "api") else ""
        )
        assert ("/source" in str(service)) == (name == "scheduler")
    for service in STACK["services"].values():
        assert not service.get("privileged") and "network_mode" not in service and "pid" not in service
        assert not any("docker.sock" in str(v) or str(v).startswith("/:") for v in service.get("volumes", []))
        assert "healthcheck" in service or service.get("restart") == "no"
    # what the image runs is made before its user is another than root (tests/containers looks whether that user can write to it)
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "chown" not in dockerfile and dockerfile.index("USER northstar") > dockerfile.rindex("COPY")
    assert re.findall(r"^USER (\w+)$", dockerfile, re.MULTILINE)[-1] == "northstar"


def test_every_package_is_installed_by_its_hashes_and_the_image_has_those_of_production_only():
    installed = {}
    for file in ("Dockerfile", "Makefile"):
        installs = [line for line in (ROOT / file).read_text().splitlines() if "-r requirements" in line]
        assert all("--require-hashes" in line for line in installs), file
        installed[file] = re.findall(r"-r (requirements\S*\.txt)", " ".join(installs))
    assert installed["Dockerfile"] == ["requirements-uv.txt", "requirements.txt"]
    assert installed["Makefile"] == ["requirements-uv.txt", "requirements.txt", "requirements-dev.txt"]


def test_nothing_listens_beyond_loopback_on_the_host():
    for service in STACK["services"].values():
        assert all(p.startswith("127.0.0.1:") for p in service.get("ports", []))


def test_images_are_pinned():
    dockerfile = (ROOT / "Dockerfile").read_text()
    base = re.search(r"^ARG PYTHON_IMAGE=(python:\d+\.\d+-slim-\w+)$", dockerfile, re.MULTILINE)[1]
    assert set(re.findall(r"^FROM (.+)$", dockerfile, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
    for name in ("init", *SERVED):
        assert STACK["services"][name]["build"]["args"] == {"PYTHON_IMAGE": f"${{NORTHSTAR_PYTHON_IMAGE:-{base}}}"}
    image = STACK["services"]["warehouse"]["image"]
    assert re.fullmatch(r"\$\{NORTHSTAR_POSTGRES_IMAGE:-postgres:\d+\.\d+-\w+\}", image)


def test_no_service_takes_the_whole_machine():
    for service in STACK["services"].values():
        assert service["mem_limit"] and service["pids_limit"]


def test_the_image_carries_what_a_wheel_carries():
    carried = re.search(r"CARRIED = \((.*?)\)", (ROOT / "setup.py").read_text(), re.DOTALL)[1]
    copied = set(re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    for name in re.findall(r'"(.+)"', carried):
        assert name.split("/")[0] in copied, name
        assert f"{name.split('/')[0]}/*" not in ignored or f"!{name}" in ignored, name
