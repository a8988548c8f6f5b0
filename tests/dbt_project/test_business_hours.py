"""Business hours: how long support was open between two instants, by the clock of the calendar's zone, without its holidays."""

import random
from datetime import timedelta
from zoneinfo import ZoneInfo

import jinja2

from northstar.base.settings import ROOT, Rules, SupportCalendar
from tests.support import select, utc

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
BERLIN = SupportCalendar(
    time_zone="Europe/Berlin", hours=dict.fromkeys(WEEKDAYS, "09:00-12:00, 13:00-17:00"), holidays=["2026-04-06"]
)
ALWAYS = SupportCalendar(
    time_zone="Europe/Berlin", hours=dict.fromkeys((*WEEKDAYS, "saturday", "sunday"), "00:00-24:00")
)
KOLKATA = SupportCalendar(time_zone="Asia/Kolkata", hours=dict.fromkeys(WEEKDAYS, "10:00-18:00"))
NEW_YORK = SupportCalendar(time_zone="America/New_York", hours={"sunday": "01:00-04:30", "monday": "09:00-17:00"})
CALENDARS = {"default": BERLIN, "always": ALWAYS, "kolkata": KOLKATA, "new_york": NEW_YORK}


def business_minutes(warehouse, rows, calendars=CALENDARS):
    """The minutes that the macro has for rows of (application, from, to)."""
    rules = Rules(support_calendars=calendars).model_dump(mode="json")
    environment = jinja2.Environment(extensions=["jinja2.ext.do"])
    text = (ROOT / "dbt_project" / "macros" / "facts" / "business_hours.sql").read_text()
    macro = (
        environment.from_string(text)
        .make_module({"run_context": lambda: jinja2.utils.Namespace(rules=rules)})
        .business_seconds
    )
    values = ", ".join(["(%s, %s::timestamptz, %s::timestamptz)"] * len(rows))
    found = select(
        warehouse,
        f"select {macro('begins', 'ends', 'application')} / 60 as minutes from (values {values}) as t (application, begins, ends)",
        *(value for row in rows for value in row),
    )
    return [None if r["minutes"] is None else float(r["minutes"]) for r in found]


def test_only_the_hours_in_which_support_is_open_count(warehouse):
    by_hand = [
        # 11:30 to 13:30 in Berlin, with the lunch in between
        ("web", "2026-02-02 10:30Z", "2026-02-02 12:30Z", 60),
        # Friday 16:30 to Monday 09:30; on the Sunday clocks went forward
        ("web", "2026-03-27 15:30Z", "2026-03-30 07:30Z", 60),
        # Thursday 16:00 to Tuesday 10:00: an hour, seven, Easter Monday, an hour
        ("web", "2026-04-02 14:00Z", "2026-04-07 08:00Z", 9 * 60),
        # a week-end
        ("web", "2026-02-07 08:00Z", "2026-02-08 20:00Z", 0),
        # the days on which clocks change have 23 and 25 hours
        ("always", "2026-03-28 23:00Z", "2026-03-29 22:00Z", 23 * 60),
        ("always", "2026-10-24 22:00Z", "2026-10-25 23:00Z", 25 * 60),
        # a Sunday from 01:00 to 04:30 without its hour from two to three; what opens at 01:00 opens at the second of two
        ("new_york", "2026-03-08 00:00Z", "2026-03-09 00:00Z", 150),
        ("new_york", "2026-11-01 00:00Z", "2026-11-02 00:00Z", 210),
        # 09:30 to 11:00, and a Monday that began on Sunday in UTC
        ("kolkata", "2026-02-02 04:00Z", "2026-02-02 05:30Z", 60),
        ("kolkata", "2026-02-01 20:00Z", "2026-02-02 04:31Z", 1),
        # nobody answered yet; clocks that differ
        ("web", "2026-02-02 10:30Z", None, None),
        ("web", "2026-02-02 10:30Z", "2026-02-02 10:29Z", None),
    ]  # fmt: skip
    assert business_minutes(warehouse, [row[:3] for row in by_hand]) == [row[3] for row in by_hand]


def test_an_application_without_a_calendar_has_no_business_hours(warehouse):
    rows = [("web", "2026-02-02 10:00Z", "2026-02-02 12:00Z"), ("it's", "2026-02-02 10:00Z", "2026-02-02 12:00Z")]
    assert business_minutes(warehouse, rows, {"it's": BERLIN}) == [None, 60]
    assert business_minutes(warehouse, rows, {"default": BERLIN}) == [60, 60]
    assert business_minutes(warehouse, rows, {}) == [None, None]


def test_hours_are_those_that_a_clock_on_the_wall_shows(warehouse):
    chance, rows, expected = random.Random(1), [], []
    for _ in range(40):
        name = chance.choice(list(CALENDARS))
        begins = utc("2026-03-20T00:00:00") + timedelta(minutes=chance.randrange(20 * 24 * 60))
        ends = begins + timedelta(minutes=chance.randrange(5 * 24 * 60))
        rows.append((name, begins, ends))
        expected.append(float(sum(is_open(CALENDARS[name], begins + timedelta(minutes=n)) for n in range(int((ends - begins).total_seconds()) // 60))))  # fmt: skip
    assert sum(expected) > 10_000
    assert business_minutes(warehouse, rows) == expected


def is_open(calendar, moment):
    """Whether support is open in the minute that begins at a moment."""
    local = moment.astimezone(ZoneInfo(calendar.time_zone))
    spans = calendar.hours.get(f"{local:%A}".lower(), "")
    clock = f"{local:%H:%M}"
    return local.date() not in calendar.holidays and any(a <= clock < b for a, _, b in (span.strip().partition("-") for span in spans.split(",") if span))  # fmt: skip
