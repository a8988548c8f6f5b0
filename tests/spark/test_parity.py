"""The models with the tag `wide`, built by Spark and by Postgres from the same landed rows, are the same to the byte (`make test-spark`)."""

from dataclasses import replace

import pytest

from northstar.base.settings import Operations
from tests.conftest import home
from tests.support import published, run, utc

AS_OF = utc("2026-03-01T00:00:00")


@pytest.fixture(scope="module")
def on_spark(company):
    """The warehouse of the small company, of which Spark built the wide models."""
    with home() as settings:
        settings = replace(settings, operations=Operations(lake="lake", wide_engine="spark"))
        run(settings, company, AS_OF)
        yield settings


def test_what_is_published_is_the_same(built, on_spark):
    assert published(on_spark) == published(built)
