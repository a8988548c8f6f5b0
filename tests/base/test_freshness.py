"""Freshness promises: what is late when, on a table of cases, and what a promise may say."""

from datetime import time, timedelta

import pytest

from northstar.base.config_files import ConfigError, read_config
from northstar.base.freshness import Freshness, NewestVersion, Promise, judge, time_allowed
from northstar.base.settings import Operations
from tests.support import utc

HALF_PAST = {"every": "hour", "by": ":30"}
BY_SIX = {"every": "day", "by": "06:00"}
AT_HALF_PAST_TWO = {"every": "day", "by": "02:30"}
WEEKDAYS = {"every": "weekday", "by": "06:00"}
LAST_DAY = {"every": "month", "day": 31, "by": "06:00"}
THIRD = {"every": "month", "day": 3, "by": "06:00"}
# what is promised, the time zone, up to when the data is there, the clock, whether it is late, and since when or until when
CASES = [
    # published by half past: until then the version of the hour before is in time
    (HALF_PAST, "UTC", "2026-11-30T09:00:00", "2026-11-30T10:29:59", False, "2026-11-30T10:30:00"),
    (HALF_PAST, "UTC", "2026-11-30T09:00:00", "2026-11-30T10:30:00", True, "2026-11-30T10:30:00"),
    (HALF_PAST, "UTC", "2026-11-30T10:00:00", "2026-11-30T10:30:00", False, "2026-11-30T11:30:00"),
    # late since the first deadline that was missed, not the last
    (HALF_PAST, "UTC", "2026-11-28T09:00:00", "2026-11-30T10:35:00", True, "2026-11-28T10:30:00"),
    # the hours of a zone that is half an hour off begin at half past of UTC
    (HALF_PAST, "Asia/Kolkata", "2026-11-30T09:30:00", "2026-11-30T09:59:00", False, "2026-11-30T10:00:00"),
    (HALF_PAST, "Asia/Kolkata", "2026-11-30T09:00:00", "2026-11-30T10:00:00", True, "2026-11-30T10:00:00"),
    # the hour that the clock repeats has a deadline both times: 00:30 and 01:30 UTC are both 02:30 in Berlin
    (HALF_PAST, "Europe/Berlin", "2026-10-25T00:00:00", "2026-10-25T01:29:00", False, "2026-10-25T01:30:00"),
    (HALF_PAST, "Europe/Berlin", "2026-10-25T00:00:00", "2026-10-25T01:30:00", True, "2026-10-25T01:30:00"),
    # daily by six: in winter at 05:00 UTC in Berlin, in summer at 04:00; the day begins at 23:00 or 22:00 UTC
    (BY_SIX, "Europe/Berlin", "2026-11-29T22:59:59", "2026-11-30T04:59:59", False, "2026-11-30T05:00:00"),
    (BY_SIX, "Europe/Berlin", "2026-11-29T22:59:59", "2026-11-30T05:00:00", True, "2026-11-30T05:00:00"),
    (BY_SIX, "Europe/Berlin", "2026-11-29T23:00:00", "2026-11-30T05:00:00", False, "2026-12-01T05:00:00"),
    (BY_SIX, "Europe/Berlin", "2026-06-29T21:59:59", "2026-06-30T04:00:00", True, "2026-06-30T04:00:00"),
    (BY_SIX, "Europe/Berlin", "2026-06-29T22:00:00", "2026-06-30T04:00:00", False, "2026-07-01T04:00:00"),
    # a day of 23 hours, and one of 25: its start and its six o'clock are in different offsets
    (BY_SIX, "Europe/Berlin", "2026-03-28T22:59:59", "2026-03-29T04:00:00", True, "2026-03-29T04:00:00"),
    (BY_SIX, "Europe/Berlin", "2026-03-28T23:00:00", "2026-03-29T04:00:00", False, "2026-03-30T04:00:00"),
    (BY_SIX, "Europe/Berlin", "2026-10-24T21:59:59", "2026-10-25T05:00:00", True, "2026-10-25T05:00:00"),
    (BY_SIX, "Europe/Berlin", "2026-10-24T21:59:59", "2026-10-25T04:59:59", False, "2026-10-25T05:00:00"),
    # a time that the clock skips counts on from before; of one that it repeats the first counts
    (AT_HALF_PAST_TWO, "Europe/Berlin", "2026-03-28T12:00:00", "2026-03-29T01:29:59", False, "2026-03-29T01:30:00"),
    (AT_HALF_PAST_TWO, "Europe/Berlin", "2026-03-28T12:00:00", "2026-03-29T01:30:00", True, "2026-03-29T01:30:00"),
    (AT_HALF_PAST_TWO, "Europe/Berlin", "2026-10-24T12:00:00", "2026-10-25T00:30:00", True, "2026-10-25T00:30:00"),
    # what landed on Friday is enough until Monday at six
    (WEEKDAYS, "UTC", "2026-11-27T03:00:00", "2026-11-29T12:00:00", False, "2026-11-30T06:00:00"),
    (WEEKDAYS, "UTC", "2026-11-27T03:00:00", "2026-11-30T06:00:00", True, "2026-11-30T06:00:00"),
    (WEEKDAYS, "UTC", "2026-11-26T03:00:00", "2026-11-29T12:00:00", True, "2026-11-27T06:00:00"),
    # a day that a month lacks is its last; what has to be there is something of the month
    (LAST_DAY, "UTC", "2026-02-01T00:00:00", "2026-02-28T06:00:00", False, "2026-03-31T06:00:00"),
    (LAST_DAY, "UTC", "2026-01-31T23:59:59", "2026-02-28T05:59:59", False, "2026-02-28T06:00:00"),
    (LAST_DAY, "UTC", "2026-01-31T23:59:59", "2026-02-28T06:00:00", True, "2026-02-28T06:00:00"),
    (LAST_DAY, "UTC", "2028-01-31T23:59:59", "2028-02-28T12:00:00", False, "2028-02-29T06:00:00"),
    (THIRD, "UTC", "2026-11-02T12:00:00", "2026-12-03T05:00:00", False, "2026-12-03T06:00:00"),
    (THIRD, "UTC", "2026-11-30T23:00:00", "2026-12-31T23:00:00", True, "2026-12-03T06:00:00"),
    # the first of a month in Auckland begins in the month before in UTC
    (THIRD, "Pacific/Auckland", "2026-11-30T11:00:00", "2026-12-02T17:00:00", False, "2027-01-02T17:00:00"),
    (THIRD, "Pacific/Auckland", "2026-11-30T10:59:00", "2026-12-02T17:00:00", True, "2026-12-02T17:00:00"),
    ({"hours": 3}, "UTC", "2026-11-30T07:00:00", "2026-11-30T10:00:00", False, "2026-11-30T10:00:00"),
    ({"hours": 3}, "UTC", "2026-11-30T07:00:00", "2026-11-30T10:00:01", True, "2026-11-30T10:00:00"),
    # where nothing has landed yet, the last deadline was missed
    (BY_SIX, "UTC", None, "2026-11-30T05:00:00", True, "2026-11-29T06:00:00"),
    ({"hours": 3}, "UTC", None, "2026-11-30T05:00:00", True, None),
]


@pytest.mark.parametrize(("promise", "zone", "newest", "now", "is_late", "deadline"), CASES)
def test_a_promise_is_judged_by_the_newest_data_and_the_clock(promise, zone, newest, now, is_late, deadline):
    promises = Freshness(time_zone=zone, marts={}, sources={"billing": Promise(**promise)})
    landings = {} if newest is None else {"billing": utc(newest), "web": utc(now)}
    [judgement] = judge(promises, None, landings, utc(now))
    assert (judgement.is_late, judgement.deadline) == (is_late, deadline and utc(deadline))


def test_marts_are_judged_by_what_a_version_has_or_by_its_publication():
    promises = Freshness(marts={"all": Promise(**HALF_PAST), "mrr_bridge": Promise(hours=2)})
    of_nine = NewestVersion(utc("2026-11-30T09:00:00"), utc("2026-11-30T10:31:00"))
    # somebody published at 10:31, and only what was before nine
    judged = judge(promises, of_nine, {}, utc("2026-11-30T10:40:00"))
    assert [(j.about(), j.is_late) for j in judged] == [("all marts", True), ("mart mrr_bridge", False)]
    assert [j.describe() for j in judged] == [
        "all marts by :30 of each hour (UTC): the newest version is of 2026-11-30 09:00 UTC, late since 2026-11-30 10:30 UTC",
        "mart mrr_bridge no older than 2 hours: published last 2026-11-30 10:31 UTC",
    ]
    # before the first version nobody waits for the marts
    assert judge(promises, None, {}, utc("2026-11-30T10:40:00")) == []


@pytest.mark.parametrize(
    ("marts", "hourly", "nightly"),
    [
        ([Promise(hours=2.5)], 150, 150),
        ([Promise(**HALF_PAST)], 30, 24 * 60),
        # in summer six in Berlin is 04:00 UTC; the hourly run of the day's first hour begins at 22:00 UTC
        ([Promise(**BY_SIX)], 6 * 60, 90),
        ([Promise(**BY_SIX), Promise(**HALF_PAST), Promise(hours=1)], 30, 60),
        # Monday's day begins on Sunday at 22:00 UTC
        ([Promise(**WEEKDAYS)], 6 * 60, 90),
        ([Promise(**THIRD)], 54 * 60, 49 * 60 + 30),
        ([], 24 * 60, 24 * 60),
    ],
)  # fmt: skip
def test_a_run_may_take_until_the_deadline_of_what_it_publishes(marts, hourly, nightly):
    promises = Freshness(time_zone="Europe/Berlin", marts={str(n): promise for n, promise in enumerate(marts)})
    assert time_allowed(promises, timedelta(hours=1)) == timedelta(minutes=hourly)
    assert time_allowed(promises, timedelta(days=1), time(2, 30)) == timedelta(minutes=nightly)


WRONG = [
    ("marts: {all: {every: hour}}", "line 1, freshness.marts.all: give {every: hour, by:"),
    ("marts: {all: {every: hour, by: ':30', hours: 2}}", "freshness.marts.all: give {every: hour"),
    ("marts: {all: {every: hour, by: '06:00'}}", "`by` is a minute of each hour, such as :30, in quotes; '06:00' is none"),
    ("marts: {all: {every: day, by: '6'}}", "`by` is a time, such as 06:00, in quotes; '6' is none"),
    ("marts: {all: {every: day, by: 10:30}}", "give a time, such as \"06:00\""),
    ("marts: {all: {every: day, by: '00:00'}}", "'00:00' is the moment up to which the data has to be there: give a later one"),
    ("marts: {all: {every: week, by: '06:00'}}", "freshness.marts.all.every: give hour, day, weekday (Monday to Friday) or month"),
    ("marts: {all: {every: day, day: 3, by: '06:00'}}", "`day` is given with `every: month`, and only there"),
    ("sources: {billing: {every: month, day: 32, by: '06:00'}}", "freshness.sources.billing.day: give the day of the month, 1 to 31"),
    ("sources: {billing: {hours: 0}}", "freshness.sources.billing.hours: give hours, more than 0"),
    ("time_zone: Berlin", "freshness.time_zone: give a time zone, such as Europe/Berlin; 'Berlin' is none"),
    ("marts: {mrr_brige: {hours: 3}}", "'mrr_brige' is not a mart: did you mean 'mrr_bridge'?"),
    ("mart: {}", "freshness.mart: unknown key; did you mean 'marts'?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), WRONG)
def test_a_wrong_promise_is_one_line(text, problem):
    with pytest.raises(ConfigError) as failed:
        read_config(f"freshness: {{{text}}}", "operations.yml", Operations)
    assert problem in str(failed.value) and "\n" not in str(failed.value)
