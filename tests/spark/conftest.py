"""A warehouse of which Spark built the wide models."""

from dataclasses import replace
from datetime import timedelta

import pytest

from northstar.base.settings import Operations
from northstar.extract.landing.directory import land_directory
from tests.conftest import home
from tests.support import query_as, run, silent, utc, write_rows

AS_OF = utc("2026-03-01T00:00:00")


@pytest.fixture(scope="session")
def on_spark(company, tmp_path_factory):
    """The small company, some of whose events were corrected after they had landed; Spark built the wide models."""
    with home() as settings:
        settings = replace(settings, operations=Operations(lake="lake", wide_engine="spark"))
        land_directory(settings, None, str(company), progress=silent)
        corrections = query_as(
            settings, "loader", "select event_id, 'tool.invoked' as event_name, occurred_at, received_at, account_id, application, session_id, properties, consent "
            "from staging.events order by md5(event_id) limit 200",
        )  # fmt: skip
        for event in corrections:
            event["received_at"] += timedelta(hours=1)
        land_directory(
            settings,
            None,
            str(write_rows(tmp_path_factory.mktemp("corrections"), {"events": corrections})),
            progress=silent,
        )
        run(settings, company, AS_OF)
        yield settings
