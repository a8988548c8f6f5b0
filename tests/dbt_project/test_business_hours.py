"""Business hours: how long support was open between two instants, by the clock of the calendar's zone, without its holidays."""

import random
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import jinja2
import pytest

from northstar.base.settings import ROOT, Rules, SupportCalendar
from northstar.use.explain.explanation import explain
from northstar.use.words import what_to_land
from tests.support import empty, previewed_metrics, run, select, utc, write_rows

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


def ticket(name, application, created, replied, solved, priority="normal", escalated=None):
    """A ticket's row and its events, by the clock of UTC."""
    events = [("public_reply", replied), ("solved", solved), ("escalated", escalated)]
    return (
        {"ticket_id": name, "application": application, "channel": "email", "priority": priority, "status": "solved",
         "created_at": created, "updated_at": solved},
        [{"ticket_event_id": f"{name}-{kind}", "ticket_id": name, "event_type": kind, "actor_type": "agent", "occurred_at": at} for kind, at in events if at],
    )  # fmt: skip


# Berlin is an hour ahead of UTC until 29 March 2026, 1:00, and two from then on; its desk is open 9 to 12 and 13 to 17
TICKETS = [
    # Friday 16:30 to Monday 9:30, over the change of clocks, and solved at 15:00: 60 minutes, and half an hour, 3 hours, 2 hours
    ticket("weekend", "web", "2026-03-27T15:30:00Z", "2026-03-30T07:30:00Z", "2026-03-30T13:00:00Z"),
    # Monday 11:30 to 13:30, with the lunch in between, solved at 17:30, when the desk was closed; escalated at 12:15: 60 and 30 minutes, 4 and a half hours
    ticket("lunch", "web", "2026-03-30T09:30:00Z", "2026-03-30T11:30:00Z", "2026-03-30T15:30:00Z", "urgent", "2026-03-30T10:15:00Z"),
    # on a Sunday, answered and solved there and then
    ticket("sunday", "web", "2026-03-29T10:00:00Z", "2026-03-29T10:10:00Z", "2026-03-29T11:00:00Z"),
    # Thursday 16:00 to Tuesday 10:00, over Good Friday and Easter Monday; solved at 11:00
    ticket("easter", "web", "2026-04-02T14:00:00Z", "2026-04-07T08:00:00Z", "2026-04-07T09:00:00Z"),
    ticket("shop", "shop", "2026-03-30T09:30:00Z", "2026-03-30T11:30:00Z", "2026-03-30T15:30:00Z"),
]  # fmt: skip
APRIL_20 = utc("2026-04-20T00:00:00")
METRICS = ("first_response_business_time", "resolution_business_time", "escalation_business_time")


def medians(settings, period, application="web"):
    """The medians of business hours in the week of a day, and of how many tickets."""
    return {
        r["metric_id"].removesuffix("_business_time"): (r["value"] and float(r["value"]), r["denominator"])
        for r in select(settings, "select metric_id, value, denominator from metric_values where metric_id = any(%s) and grain = 'week' and segment = '' "
                                  "and application = %s and period_start = %s", list(METRICS), application, utc(period))
    }  # fmt: skip


@pytest.fixture(scope="module")
def story(warehouse, tmp_path_factory):
    """Without a calendar; with one for the web; with Easter Monday as a holiday of it, which a preview shows before."""
    empty(warehouse)
    tables = {"tickets": [row for row, _ in TICKETS], "ticket_events": [event for _, events in TICKETS for event in events]}  # fmt: skip
    source = write_rows(tmp_path_factory.mktemp("desk"), tables)
    without_holiday = BERLIN.model_copy(update={"holidays": []})
    shown = []
    for calendars in ({}, {"web": without_holiday}, {"web": BERLIN}):
        settings = replace(warehouse, rules=Rules(support_calendars=calendars))
        previewed = previewed_metrics(settings) if len(shown) == 2 else set()
        run(settings, source, APRIL_20, "hourly")
        shown.append({
            "weeks": [medians(settings, week) for week in ("2026-03-23", "2026-03-30", "2026-04-06")],
            "company": medians(settings, "2026-03-30", "all"), "shop": medians(settings, "2026-03-30", "shop"), "previewed": previewed,
            "lacking": {r["application"]: r["lacking"] for r in select(settings, "select application, lacking from metric_coverage where metric_id = 'resolution_business_time'")},
        })  # fmt: skip
    return settings, shown


def test_the_medians_of_business_hours_stand_beside_those_of_the_clock(story):
    _, (_, by_calendar, _) = story
    sunday, monday, tuesday = by_calendar["weeks"]
    # the Sunday's took no time in which support was open, and counts
    assert (sunday["first_response"], sunday["resolution"]) == ((0, 1), (0, 1))
    # (60 + 60) / 2 minutes; (5.5 + 4.5) / 2 hours
    assert monday == {"first_response": (60, 2), "resolution": (5, 2), "escalation": (30, 1)}
    # an hour on Thursday, seven on Friday and on Monday, an hour on Tuesday, and another until the solve
    assert (tuesday["first_response"], tuesday["resolution"]) == ((16 * 60, 1), (17, 1))
    # the shop has no calendar: its tickets are not among the company's
    assert by_calendar["company"] == monday
    assert {value for value, _ in by_calendar["shop"].values()} == {None}


def test_without_a_calendar_business_hours_are_not_measured(story):
    _, (without, by_calendar, _) = story
    assert {value for week in without["weeks"] for value, _ in week.values()} == {None}
    assert without["lacking"] == dict.fromkeys(("all", "shop", "web"), "tickets.support_calendar")
    assert by_calendar["lacking"] == {"all": None, "shop": "tickets.support_calendar", "web": None}
    assert what_to_land("tickets.support_calendar") == "not measured: land tickets with a calendar in support_calendars of northstar.yml"  # fmt: skip


def test_a_holiday_restates_what_it_touches_with_the_setting_as_the_reason(story):
    settings, (_, before, after) = story
    assert after["weeks"][:2] == before["weeks"][:2]
    # seven hours less; Good Friday is no holiday of theirs
    assert (after["weeks"][2]["first_response"], after["weeks"][2]["resolution"]) == ((9 * 60, 1), (10, 1))
    restated = select(settings, "select distinct metric_id, grain, application, period_start::date::text as day, reasons from metric_restatements where new_version = 3")  # fmt: skip
    assert {tuple(r["reasons"]) for r in restated} == {("setting",)}
    assert {(r["grain"], r["day"]) for r in restated} == {("day", "2026-04-07"), ("week", "2026-04-06")}
    assert {r["application"] for r in restated} == {"web", "all"}
    touched = {"first_response_business_time", "resolution_business_time"}
    assert {r["metric_id"] for r in restated} == after["previewed"] == touched


def test_a_median_of_business_hours_is_made_of_its_tickets(story):
    settings, _ = story
    explanation = explain(settings, "resolution_business_time", utc("2026-03-30"), "week", "web")
    assert explanation.adds_up and float(explanation.published["value"]) == 5
