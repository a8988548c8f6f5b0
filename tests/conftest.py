"""Two warehouses for the whole session: an empty one that tests fill and empty, and one with a published small company."""

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from northstar.base.settings import load_settings
from northstar.demo.company import simulate
from northstar.warehouse import db, embedded
from northstar.warehouse.embedded import server
from northstar.warehouse.embedded.server import binaries
from northstar.warehouse.setup import bootstrap
from tests import parsed_project
from tests.parsed_project import give_parse
from tests.support import WORKERS, run, utc

# what pg_dump said of homes that earlier versions left (core and candidate: no rows): f3e08e4, the last without migrations, had published
# twice; 5e1421c, the last that stored every period, five times, the fourth a rollback
HOMES = Path(__file__).parent / "end_to_end" / "homes"

# `make test-containers`, `make test-machines` and `make test-spark` run them: they build images, start a whole cluster, or need Java
collect_ignore = ["containers", "machines", "spark"]


# what is about a warehouse, dbt or a browser from its first test to its last: rooms, and files of other rooms
SLOW = ("browser", "build", "dbt_project", "demo", "end_to_end", "faults", "operate", "publish", "real_data", "runs",
        "audit/test_engine.py", "audit/test_run.py", "extract/test_stage.py", "extract/landing/test_reasons.py", "extract/landing/test_source.py",
        "extract/sources/test_github.py", "extract/sources/test_packages.py", "extract/sources/test_prometheus.py", "extract/sources/test_sentry.py",
        "extract/sources/test_umami.py", "project/test_docs.py", "use/test_explain.py", "use/test_forecasts.py", "use/test_reports.py", "warehouse/test_lake.py", "warehouse/test_rights.py",
        "warehouse/test_setup.py")  # fmt: skip

# processes are killed here, machines are not: what is written survives them in the operating system's memory
server.SERVER_OPTIONS["fsync"] = "off"

# hundreds of processes import the same modules: compiled once, whatever this machine says of bytecode
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        parses = tempfile.mkdtemp(prefix="northstar-parses-")
        os.environ[parsed_project.VARIABLE] = parses
        config.add_cleanup(partial(shutil.rmtree, parses))


def pytest_addoption(parser):
    parser.addoption("--fast", action="store_true", help="only what needs no warehouse (make test-fast)")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--fast"):
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def pytest_ignore_collect(collection_path, config):
    tests = Path(__file__).parent
    is_slow = collection_path.is_relative_to(tests) and collection_path.relative_to(tests).as_posix() in SLOW
    return (config.getoption("--fast") and is_slow) or None


@pytest.fixture(scope="session", autouse=True)
def no_warehouse(request):
    """With --fast, whatever wants a server is skipped when it asks for one, and there is nothing to keep up by hand."""
    if not request.config.getoption("--fast"):
        yield
        return

    def skip(*given, **more):
        pytest.skip("needs a warehouse: make test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "_start", skip)
        # what another process would start is not seen here
        patch.setattr(subprocess, "Popen", skip)
        yield


@contextmanager
def home(prepare=bootstrap):
    """Settings of a new home that `prepare` has set up; stopped and removed at the end."""
    # a short path outside pytest's own private directory: the server may run as another user
    with tempfile.TemporaryDirectory(prefix="northstar-test-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        settings = load_settings(Path(directory) / "home")
        try:
            prepare(settings)
            if prepare is bootstrap:
                give_parse(settings, is_made=False)
            yield settings
        finally:
            if settings.home in WORKERS:
                WORKERS.pop(settings.home).stop()
            embedded.stop(settings)


def release_before(settings, release: str = "f3e08e4") -> None:
    """Make a home as an earlier release left it."""
    with db.connect(settings, "owner", autocommit=True, database="postgres") as connection:
        connection.execute("create database northstar")
        connection.execute("create database airflow")
        for role in db.ROLES:
            connection.execute(f"create role {role} login password '{db.password(settings, role)}'")
    subprocess.run(
        [binaries() / "psql", "-q", "-v", "ON_ERROR_STOP=1", db.uri(settings, "owner")], input=gzip.decompress((HOMES / f"{release}.sql.gz").read_bytes()),
        check=True, capture_output=True, env={**os.environ, "PGOPTIONS": "-c client_min_messages=error"},
    )  # fmt: skip
    with db.connect(settings, "owner") as connection:
        # roles' own settings are no part of a database's dump
        connection.execute("alter role bi_reader set search_path = marts")


@pytest.fixture
def private():
    """The umask: what the command line sets for itself and what it starts."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def warehouse():
    """An empty warehouse; `tests.support.empty` makes it so again."""
    with home() as settings:
        yield settings


@pytest.fixture(scope="session")
def company(tmp_path_factory):
    """Source files of a small simulated company that ends on 2026-03-01."""
    directory = tmp_path_factory.mktemp("company")
    simulate(
        directory,
        seed=7,
        months=3,
        accounts=120,
        applications=("web", "coaching", "tutoring"),
        end=utc("2026-03-01T00:00:00"),
        monitored_days=14,
    )
    return directory


@pytest.fixture(scope="session")
def built(company):
    """A warehouse with the small company published once; tests only read it, or leave it as they found it."""
    with home() as settings:
        run(settings, company, utc("2026-03-01T00:00:00"))
        yield settings
