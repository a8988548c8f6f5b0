"""Two homes are compared to the byte, so they hash identifiers with one key."""

import pytest


@pytest.fixture
def one_key(monkeypatch):
    """The same key of personal data for every home of the test."""
    monkeypatch.setenv("NORTHSTAR_SECRET_PII_KEY", "a key of the tests")
