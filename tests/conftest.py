"""Two warehouses for the whole session: an empty one that tests fill and empty, and one with a published small company."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from northstar import embedded
from northstar.settings import load_settings
from northstar.simulator import simulate
from northstar.warehouse import bootstrap
from tests.support import WORKERS, run, utc


@contextmanager
def home():
    """Settings of a new, bootstrapped home; stopped and removed at the end."""
    # a short path outside pytest's own private directory: the server may run as another user
    with tempfile.TemporaryDirectory(prefix="northstar-test-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        settings = load_settings(Path(directory) / "home")
        try:
            bootstrap(settings)
            yield settings
        finally:
            if settings.home in WORKERS:
                WORKERS.pop(settings.home).stop()
            embedded.stop(settings)


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
