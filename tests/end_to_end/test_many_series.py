"""A company of many names: 5,000 events' names, 240 countries, three years of hours. A run costs what happened, not names times hours."""

import resource
import subprocess
import sys
from string import ascii_uppercase

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import home
from tests.support import select

EVENTS, NAMES, COUNTRIES, DAYS = 60_000, 5_000, 240, 3 * 365
AS_OF = "2026-01-01T00:00:00Z"


def write_events(folder) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(17)
    end = np.datetime64("2026-01-01T00:00:00", "us").astype("int64")
    at = pa.array(end - np.sort(random.integers(1, DAYS * 86_400_000_000, EVENTS))[::-1], pa.int64()).cast(
        pa.timestamp("us", "UTC")
    )
    names = np.char.add("name.", random.integers(0, NAMES, EVENTS).astype(str))
    codes = np.array([first + second for first in ascii_uppercase for second in ascii_uppercase])
    # one that appears a single time, in the first hour of all
    names[0] = "name.once"
    pq.write_table(pa.table({
        "event_id": pa.array(np.char.add("e", np.arange(EVENTS).astype(str))), "event_name": pa.array(names), "occurred_at": at, "received_at": at,
        "account_id": pa.array(np.char.add("a", random.integers(0, 500, EVENTS).astype(str))), "application": pa.array(np.full(EVENTS, "web")),
        "country": pa.array(codes[random.integers(0, COUNTRIES, EVENTS)]),
    }), folder / "rows.parquet")  # fmt: skip


@pytest.mark.timeout(1800)
def test_a_run_costs_what_happened_and_a_name_that_appears_once_costs_a_row_for_each_grain(tmp_path):
    write_events(tmp_path / "events")
    with home() as settings:
        command = [
            sys.executable,
            "-m",
            "northstar.cli",
            "run",
            "--home",
            str(settings.home),
            "--source-dir",
            str(tmp_path),
            "--as-of",
            AS_OF,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        # the largest of all processes that ended so far, dbt's among them
        assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1_500_000
        counts = select(
            settings,
            "select (select count(*) from metric_points) as points, count(*) filter (where segment = 'event_name') as series, "
            "(select (row_counts ->> 'metric_values')::bigint from publications) as shown from metric_series",
        )[0]
        # an event is a value of its name and of all, in its application and in the company, in four grains
        assert counts["points"] < 20 * EVENTS
        assert counts["series"] >= 2 * 4 * NAMES and counts["shown"] > 200_000_000
        once = select(
            settings,
            "select grain, count(*) as points from metric_points join metric_series using (series_id) where segment_value = 'name.once' "
            "and application = 'web' group by grain order by grain",
        )
        assert {r["grain"]: r["points"] for r in once} == {"hour": 1, "day": 1, "week": 1, "month": 1}
        hours = select(
            settings,
            "select count(*) as hours, sum(value)::int as events from metric_values where metric_id = 'tracked_events' and grain = 'hour' "
            "and application = 'web' and segment = 'event_name' and segment_value = 'name.once'",
        )
        assert hours[0]["events"] == 1 and DAYS * 24 - 30 < hours[0]["hours"] <= DAYS * 24
