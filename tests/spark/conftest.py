"""A warehouse of which Spark built the wide models."""

from dataclasses import replace
from datetime import timedelta

import pytest

from northstar.base.settings import Operations
from northstar.demo.company import END, simulate
from northstar.demo.writing import write_entity
from northstar.extract.landing.directory import land_directory
from northstar.runs.lifecycle import close_run, open_run
from tests.conftest import home
from tests.dbt_project.ledgers import CASES, rate_rows, subscription_rows
from tests.demo.test_books import random_companies
from tests.spark.handover import hand_over
from tests.support import query_as, run, silent, utc, write_rows

# values of a member that engines write in ways of their own
ODD = (
    '{"b":  1}',
    "[1, 2]",
    "1.50",
    "1e3",
    "12345678901234567890.123",
    "-0",
    '"\\ud834\\udd1e"',
    "true",
    "null",
    '1, "tool": 2',
    '"a", "Tool": "b"',
)


@pytest.fixture(scope="session")
def everything(tmp_path_factory):
    """Source files of the demonstration company, of 25 random ones, and of all ledgers, side by side."""
    source = tmp_path_factory.mktemp("everything")
    simulate(source, incidents=4)
    for entity, table in random_companies(seed=3).items():
        # one company's rates hold for all
        if entity != "fx_rates" and len(table):
            write_entity(source / entity, entity, table, "random")
    ledgers = [case for case in CASES if "expect_error" not in case]
    rates = {(row["rate_date"], row["currency"]): row for case in ledgers for row in rate_rows(case)}
    subscriptions = [row for case in ledgers for row in subscription_rows(case)]
    return write_rows(source, {"subscriptions": subscriptions, "fx_rates": list(rates.values())}, "ledgers")


@pytest.fixture(scope="session")
def on_spark(everything, tmp_path_factory):
    """All of it in one warehouse and one lake, after some events were corrected and some with odd documents have landed; Spark built the wide models."""
    with home() as settings:
        settings = replace(settings, operations=Operations(lake="lake", wide_engine="spark", job_niceness=0))
        land_directory(settings, None, str(everything), progress=silent)
        events = query_as(
            settings, "loader", "select event_id, 'tool.invoked' as event_name, occurred_at, received_at, account_id, application, session_id, properties, consent "
            "from staging.events order by md5(event_id) limit 200",
        )  # fmt: skip
        for number, event in enumerate(events):
            event["received_at"] += timedelta(hours=1)
            if number < len(ODD):
                event["properties"] = f'{{"tool": {ODD[number]}}}'
        later = write_rows(tmp_path_factory.mktemp("later"), {"events": events})
        land_directory(settings, None, str(later), progress=silent)
        run(settings, everything, END)
        yield settings


@pytest.fixture(scope="session")
def small(company):
    """The small company, landed and in a lake: handovers of it are made one by one, and nothing is built of them."""
    with home() as settings:
        settings = replace(settings, operations=Operations(lake="lake", wide_engine="spark", spark_memory_mb=1024))
        land_directory(settings, None, str(company), progress=silent)
        # what models read of a run stays when it has ended
        close_run(settings, open_run(settings, "nightly", utc("2026-03-01T00:00:00")), "only handovers are made")
        yield settings


@pytest.fixture(scope="session")
def wanted(small):
    """What is handed over of the small company when nothing goes wrong."""
    return hand_over(small, 100)
