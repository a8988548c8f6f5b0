"""The stack for production, as far as it can be checked without a container engine."""

import re

import yaml

from northstar.orchestration.services import SERVICES
from northstar.settings import ROOT

COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVED = (*SERVICES, "pages")
STACK = yaml.safe_load(COMPOSE)


def test_it_runs_postgres_and_every_service_of_airflow():
    assert set(STACK["services"]) == {"warehouse", "init", *SERVED}
    for name in SERVED:
        assert STACK["services"][name]["command"] == [name]


def test_every_secret_comes_from_the_environment_and_is_documented():
    asked = set(re.findall(r"\$\{(\w+):\?", COMPOSE))
    header = COMPOSE[: COMPOSE.index("x-northstar")]
    assert asked and asked == set(re.findall(r"NORTHSTAR_\w+", header))
    assert not re.search(r"\$\{\w+\}|\$\{\w+:-", COMPOSE), "a secret with a default, or without a message"


def test_services_run_unprivileged_on_a_read_only_file_system_with_health_checks():
    for name in SERVED:
        service = STACK["services"][name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and "healthcheck" in service
    assert re.search(r"^USER northstar$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_nothing_listens_beyond_loopback_on_the_host():
    for service in STACK["services"].values():
        assert all(p.startswith("127.0.0.1:") for p in service.get("ports", []))


def test_images_are_pinned():
    assert re.fullmatch(r"postgres:\d+\.\d+-\w+", STACK["services"]["warehouse"]["image"])
    assert all(
        re.search(r":[\d.]+", line)
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("FROM ")
    )
