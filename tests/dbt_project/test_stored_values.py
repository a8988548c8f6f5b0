"""What is stored of a value is what was measured: time that passes completes periods without a row, and zeros are published values."""

import pytest

from northstar.use.query import query
from northstar.warehouse import db
from tests.support import empty, run, select, utc, write_rows


def event(number: int, at: str, received: str | None = None) -> dict:
    return {"event_id": f"e{number}", "event_name": "user.login", "occurred_at": f"2025-01-{at}:00:00Z", "account_id": "a",
            "received_at": received or f"2025-01-{at}:00:00Z", "application": "coaching"}  # fmt: skip


ACCOUNT = {"account_id": "a", "account_type": "customer", "application": "coaching", "created_at": "2025-01-08T10:00:00Z",
           "updated_at": "2025-01-08T10:00:00Z"}  # fmt: skip
HOUR = """to_char({}, 'DD"T"HH24')"""
HOURLY = "metric_id = 'tracked_events' and grain = 'hour' and application = 'coaching' and segment_value = 'user.login'"


@pytest.fixture(scope="module")
def story(warehouse, tmp_path_factory):
    """Six versions, an hour apart: the first; nothing but the hour; a late event; that one moved; one before all others; that one moved."""
    empty(warehouse)
    source = tmp_path_factory.mktemp("stored")
    first = [event(1, "10T10"), event(2, "15T10")]
    versions = [
        ("2025-01-19T23:00:00", {"accounts": [ACCOUNT], "events": first}),
        ("2025-01-20T00:00:00", {"events": first[:1]}),
        ("2025-01-20T01:00:00", {"events": [event(3, "12T10")]}),
        ("2025-01-20T02:00:00", {"events": [event(3, "13T11", "2025-01-20T01:30:00Z")]}),
        ("2025-01-20T03:00:00", {"events": [event(4, "09T08")]}),
        ("2025-01-20T04:00:00", {"events": [event(4, "11T08", "2025-01-20T03:30:00Z")]}),
    ]
    for number, (as_of, rows) in enumerate(versions, 1):
        write_rows(source, rows, f"delivery{number}")
        assert run(warehouse, source, utc(as_of), "hourly" if number > 1 else "nightly") == number
    return warehouse


def test_a_value_becomes_complete_and_is_judged_in_the_hour_in_which_its_window_ends(story):
    retention = (
        "select value::int, is_complete from metric_values where metric_id = 'retention_d7' and grain = 'week' "
        "and period_start = '2025-01-06' and application = 'coaching' and segment = ''"
    )
    status = "select zone, value::int from metric_status where metric_id = 'retention_d7' and application = 'coaching' and grain = 'week'"
    assert [query(story, retention, version)[1] for version in (1, 2)] == [[(100, False)], [(100, True)]]
    assert [query(story, status, version)[1] for version in (1, 2)] == [[("unknown", None)], [("green", 100)]]


def test_an_hour_that_passes_stores_no_value(story):
    found = select(story, "select grain, count(*) as points from metric_points as p join metric_series as s using (series_id) "
                   "where p._version = 2 and not s.metric_id = any(%s) group by grain", ["stickiness", "targets_met_rate"])  # fmt: skip
    assert found == []
    hours = "select count(*) from metric_values where " + HOURLY
    assert query(story, hours, 2)[1][0][0] == query(story, hours, 1)[1][0][0] + 1


def test_from_nothing_to_something_and_back_are_restatements(story):
    found = select(
        story,
        f"select {HOUR.format('period_start')} as hour, old_value::int as old, new_value::int as new, old_version, new_version, reason "
        f"from metric_restatements where {HOURLY} and new_version in (3, 4) order by new_version, 1",
    )
    assert [tuple(r.values()) for r in found] == [
        ("12T10", 0, 1, 1, 3, "late_rows"), ("12T10", 1, 0, 3, 4, "correction"), ("13T11", 0, 1, 1, 4, "correction"),
    ]  # fmt: skip


def test_a_series_that_begins_earlier_or_later_is_one_restatement_with_the_count_of_its_periods(story):
    found = select(
        story,
        f"select {HOUR.format('period_start')} as hour, old_value::int as old, new_value::int as new, old_version, new_version, periods "
        f"from metric_restatements where {HOURLY} and new_version in (5, 6) order by new_version, 1",
    )
    # 26 hours from the 9th, 8 o'clock, to the 10th, 10 o'clock
    assert [tuple(r.values()) for r in found] == [
        ("09T08", None, 1, 1, 5, 26), ("09T08", 1, None, 5, 6, 26), ("11T08", 0, 1, 1, 6, 1),
    ]  # fmt: skip
    begins = f"select {HOUR.format('begins_at')} from metric_series where {HOURLY}"
    assert [query(story, begins, version)[1] for version in (4, 5, 6)] == [[("10T10",)], [("09T08",)], [("10T10",)]]
    hours = "select count(*) from metric_values where " + HOURLY
    assert [query(story, hours, version)[1][0][0] for version in (4, 5, 6)] == [232, 259, 234]


def test_every_version_has_as_many_values_as_it_says(story):
    for version in range(1, 7):
        told = query(
            story,
            f"select row_counts ->> 'metric_values' from publications where published_version = {version}",
            version,
        )[1]
        assert int(told[0][0]) == query(story, "select count(*) from metric_values", version)[1][0][0]


def test_a_reader_in_another_time_zone_reads_the_same(story):
    text = "select count(*) filter (where is_complete), count(*), sum(value), min(period_start), max(period_start) from metric_values"
    with db.connect(story, "bi_reader") as connection:
        there = connection.execute(text).fetchone()
        connection.execute("set time zone 'Europe/Berlin'")
        assert connection.execute(text).fetchone() == there
