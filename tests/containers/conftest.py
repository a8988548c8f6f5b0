"""The images, once for all tests, and the stack with a small company published by its scheduler."""

import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from northstar.base.clock import parse_time
from northstar.base.settings import ROOT, load_settings
from northstar.demo.company import simulate
from northstar.orchestration.up import Api, follow, owed_run
from tests.containers.engine import POSTGRES, POSTGRES_HOOKS, POSTGRES_IS, PYTHON, Engine, engine
from tests.containers.stack import LIMITS, Stack, asked
from tests.external import free_port
from tests.support import silent

# what a shell, an address, a compose file or a connection string would take for something else
ODD = "p/w#x?y@z%41$HOME${{1}}:'\" "
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVED = [name for name, service in COMPOSE["services"].items() if "healthcheck" in service]


def variables(source) -> dict[str, str]:
    """All that docker-compose.yml asks for, every secret another; free ports, the images that stand in."""
    return {name: f"{ODD}{secrets.token_hex(12)}" for name in asked()} | {
        "NORTHSTAR_SOURCE_DIR": str(source),
        "NORTHSTAR_AIRFLOW_PORT": str(free_port()),
        "NORTHSTAR_PAGES_PORT": str(free_port()),
        "NORTHSTAR_PYTHON_IMAGE": PYTHON,
        "NORTHSTAR_POSTGRES_IMAGE": POSTGRES,
    }


@pytest.fixture(scope="session")
def podman():
    """The engine with the image built from the Dockerfile and what stands in for those of the registry."""
    with engine() as found, ThreadPoolExecutor() as beside:
        demand_containers(found)
        postgres = beside.submit(found.make_base, POSTGRES, *POSTGRES_HOOKS, changes=POSTGRES_IS)
        Stack(found, "image", variables("/")).build()
        postgres.result()
        yield found


def demand_containers(podman: Engine) -> None:
    """Skip where the machine itself cannot do it: no packages of Debian's, no container however plain, no network of its own for one."""
    try:
        podman.make_base(PYTHON)
        podman("network", "create", "tried")
        podman("run", "--rm", "--network", "tried", *LIMITS, PYTHON, "python", "-c", "print(1)")
        podman("network", "rm", "tried")
    except AssertionError as exc:
        pytest.skip(f"this machine runs no containers: {exc}")


@pytest.fixture(scope="session")
def company(tmp_path_factory):
    """Source files of two months of a company of 60 accounts: what runs long in the stack is what is the same for any company."""
    directory = tmp_path_factory.mktemp("company")
    simulate(directory, months=2, accounts=60, applications=("web", "coaching"), end=parse_time(None))
    for path in (directory, *directory.parents[:2]):
        path.chmod(0o755)
    return directory


@pytest.fixture(scope="session")
def stack(podman: Engine, company):
    """The whole stack, started in the order that the file demands, every health check true."""
    found = Stack(podman, "stack", variables(company))
    found.create()
    for name, service in found.compose.services.items():
        found.start(name)
        if "healthcheck" not in service:
            assert found.await_end(name) == 0, found.log(name)
    for name in SERVED:
        found.await_health(name)
    return found


@pytest.fixture(scope="session")
def airflow(stack: Stack, tmp_path_factory):
    """Airflow's API, as an administrator reaches it from this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NORTHSTAR_API_PORT", stack.compose.variables["NORTHSTAR_AIRFLOW_PORT"])
        patch.setenv("NORTHSTAR_SECRET_AIRFLOW_PASSWORD", stack.compose.variables["NORTHSTAR_AIRFLOW_PASSWORD"])
        yield Api(load_settings(tmp_path_factory.mktemp("administrator")))


@pytest.fixture(scope="session")
def nightly(airflow: Api) -> dict:
    """The states of the tasks of a nightly run that the scheduler has run to its end."""
    return run_dag(airflow, "nightly_rebuild")


def run_dag(airflow: Api, dag_id: str) -> dict:
    """Let a DAG's schedule loose for the run that it owes, or run it by hand; returns the states of its tasks.

    Raises NorthstarError when it fails.
    """
    run_id = owed_run(airflow, dag_id) or airflow.trigger(dag_id, {})
    follow(airflow, dag_id, run_id, silent)
    # no other run comes between what a test sees before and after
    airflow._call(f"/api/v2/dags/{dag_id}", {"is_paused": True}, "PATCH")
    return airflow.tasks(dag_id, run_id)
