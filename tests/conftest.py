"""One embedded Postgres for the whole test session."""

import tempfile
from pathlib import Path

import pytest
from northstar import embedded
from northstar.settings import load_settings
from northstar.warehouse import bootstrap


@pytest.fixture(scope="session")
def warehouse():
    """Settings of a bootstrapped, empty home that the whole session shares; stopped and removed at the end."""
    # a short path outside pytest's own private directory: the server may run as another user
    with tempfile.TemporaryDirectory(prefix="northstar-test-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        settings = load_settings(Path(directory) / "home")
        try:
            bootstrap(settings)
            yield settings
        finally:
            embedded.stop(settings)
