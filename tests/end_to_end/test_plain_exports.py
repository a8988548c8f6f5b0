"""Exports in the shape of public sets, mapped as they stand: an A/B test with one timestamp, a status page's log, a repository's tags."""

import pytest

from northstar.runs import job
from tests.support import empty, select, silent, utc

# the sets' own columns; what is asked of each was worked by hand
FILES = {
    # one line for each visitor, one timestamp for what he saw and what he did
    "ab_data.csv": """\
user_id,timestamp,group,landing_page,converted
1,2017-01-03 10:00:00,control,old_page,0
2,2017-01-03 10:05:00,control,old_page,1
3,2017-01-03 10:10:00,control,old_page,0
4,2017-01-03 10:15:00,control,old_page,0
5,2017-01-03 10:20:00,treatment,new_page,1
6,2017-01-03 10:25:00,treatment,new_page,0
""",
    # written when the state changes, and once more while it stands; `degraded` is up, as on the page
    "history.csv": """\
site,at,status
api,2017-01-02 12:00:00,up
api,2017-01-03 08:13:24,down
api,2017-01-03 08:20:00,down
api,2017-01-03 10:10:11,degraded
web,2017-01-03 18:00:00,up
""",
    # what `git log` and `git tag` say of a repository; of its pull requests only the numbers are known
    "commits.csv": """\
sha,date,pull
c1,2017-01-03T08:00:00Z,
c2,2017-01-03T09:00:00Z,9
c3,2017-01-04T10:00:00Z,
c4,2017-01-04T11:00:00Z,
""",
    "tags.csv": """\
tag,sha,date
v1,c1,2017-01-03T08:30:00Z
v2,c3,2017-01-04T12:00:00Z
""",
}
MAPPING = """\
application: trial
entities:
  accounts:
    files: ab_data.csv
    select: |
      select user_id as account_id, 'user' as account_type, utc(timestamp, 'UTC') as created_at, utc(timestamp, 'UTC') as updated_at, _file, _line
      from input
  events:
    - name: exposures
      files: ab_data.csv
      select: |
        select user_id || ' saw' as event_id, 'experiment.exposed' as event_name, user_id as account_id, utc(timestamp, 'UTC') as occurred_at,
          utc(timestamp, 'UTC') as received_at, json_object('experiment', 'page', 'variant', "group", 'goal', 'order.placed') as properties, _file, _line
        from input
    - name: goals
      files: ab_data.csv
      select: |
        select user_id || ' did' as event_id, 'order.placed' as event_name, user_id as account_id, utc(timestamp, 'UTC') as occurred_at,
          utc(timestamp, 'UTC') as received_at, _file, _line
        from input where converted = '1'
  service_states:
    files: history.csv
    select: |
      select site as service, utc("at", 'UTC') as changed_at, status != 'down' as is_up, _file, _line from input
  commits:
    files: commits.csv
    columns: {commit_sha: sha, committed_at: date, pull_request_id: pull}
  deployments:
    files: tags.csv
    columns: {deployment_id: tag, commit_sha: sha, status: {constant: succeeded}, started_at: date, updated_at: date}
"""


@pytest.fixture(scope="module")
def marts(warehouse, tmp_path_factory):
    directory = tmp_path_factory.mktemp("exports")
    mapping = tmp_path_factory.mktemp("mapping") / "mapping.yml"
    mapping.write_text(MAPPING)
    for name, text in FILES.items():
        (directory / name).write_text(text)
    empty(warehouse)
    job.run(warehouse, "nightly", utc("2017-01-05T06:00:00"), str(directory), silent, mapping=str(mapping))
    return warehouse


def values(settings, metric: str, grain: str, segment: str = "", segment_value: str = "") -> dict:
    """{period: (numerator, denominator)} of a metric of the application."""
    rows = select(
        settings,
        "select period_start, numerator, denominator from metric_values where metric_id = %s and grain = %s and application = 'trial' "
        "and segment = %s and segment_value = %s and value is not null",
        metric, grain, segment, segment_value,
    )  # fmt: skip
    return {f"{r['period_start']:%Y-%m-%d}": (float(r["numerator"]), float(r["denominator"])) for r in rows}


def test_who_converted_at_the_instant_of_the_exposure_converted(marts):
    rows = select(
        marts, "select variant, exposed, converted from experiment_results where application = 'trial' order by 1"
    )
    assert [tuple(r.values()) for r in rows] == [("control", 4, 1), ("treatment", 2, 1)]


def test_a_state_holds_until_the_next(marts):
    day = 86400
    down = 3600 + 56 * 60 + 47  # from 08:13:24 to 10:10:11
    assert values(marts, "uptime_by_time", "day", "service", "api") == {
        # nothing is known before the first state
        "2017-01-02": (day / 2, day / 2),
        "2017-01-03": (day - down, day),
        # and the newest holds, though nothing was logged since, until as_of
        "2017-01-04": (day, day),
        "2017-01-05": (day / 4, day / 4),
    }
    assert round(100 * (day - down) / day, 2) == 91.89
    assert values(marts, "uptime_by_time", "day")["2017-01-03"] == (day - down + day / 4, day + day / 4)
    # no probe was landed
    assert values(marts, "uptime", "day") == {}


def test_tags_that_name_commits_have_lead_times(marts):
    # c1 half an hour; c2, merged before c3, a day and three hours; c3 two hours; c4 waits
    found = select(
        marts, "select change_id, deployment_id, linked_by, lead_time_hours::float as hours from fct_changes order by 1"
    )
    assert [tuple(r.values()) for r in found] == [
        ("c1", "v1", "sha", 0.5), ("c2", "v2", "sha", 27), ("c3", "v2", "sha", 2), ("c4", None, None, None),
    ]  # fmt: skip
    assert values(marts, "change_lead_time", "week", "linked_by", "sha") == {"2017-01-02": (2, 3)}
    # tags do not say whether they failed
    assert values(marts, "change_failure_rate", "week") == {}
    assert sum(float(r["value"]) for r in select(
        marts, "select value from metric_values where metric_id = 'deployment_frequency' and grain = 'day' and application = 'trial' and segment = ''"
    )) == 2  # fmt: skip
