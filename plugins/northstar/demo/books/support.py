"""Support: tickets and what happened to them, in time by the clock and in the hours in which support is open, and self-service."""

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from northstar.base.settings import WEEKDAYS, Rules, SupportCalendar
from northstar.demo.books.ledger import BookRow, Ledger
from northstar.demo.books.times import seconds

LEFT_OUT = {"spam", "deleted", "merged"}
OPEN_STATES = {"new", "open", "pending", "on_hold"}


def reckon(ledger: Ledger) -> None:
    """Volume, times to a first response, to an escalation and to the resolution, reopened tickets, self-service."""
    stories = defaultdict(list)
    for event in ledger.rows["ticket_events"]:
        stories[event["ticket_id"]].append(event)
    for ticket in ledger.rows["tickets"]:
        if ticket["status"] not in LEFT_OUT:
            _count_beginning(ledger, ticket, stories[ticket["ticket_id"]])
            _measure_end(ledger, ticket, stories[ticket["ticket_id"]])
    for visit in ledger.rows["help_center_visits"]:
        alone = int(not visit["led_to_ticket"])
        ledger.add("self_service_rate", visit["occurred_at"], visit["application"], alone, alone)
    ledger.reckon_percentile("first_response_time", "escalation_time", "resolution_time")
    ledger.reckon_percentile("first_response_business_time", "escalation_business_time", "resolution_business_time")


def _count_beginning(ledger: Ledger, ticket: BookRow, story: list[BookRow]) -> None:
    """The beginning of a ticket: that it came, its first reply, and an urgent ticket's first escalation."""
    application, created, desk = ticket["application"], ticket["created_at"], _desk(ticket)
    ledger.add("ticket_volume", created, application, 1, None, desk | {"category": ticket["category"]})
    ledger.add("self_service_rate", created, application, 0, 1)
    replies = _replies(story)
    if replies:
        minutes = seconds(min(replies) - created) / 60
        ledger.measure("first_response_time", min(replies), application, minutes, desk)
        if (opened := _open_seconds(ledger.rules, application, created, min(replies))) is not None:
            ledger.measure("first_response_business_time", min(replies), application, opened / 60, desk)
    escalated = [e["occurred_at"] for e in story if e["event_type"] == "escalated"]
    if escalated and ticket["priority"] == "urgent":
        minutes = seconds(min(escalated) - created) / 60
        ledger.measure("escalation_time", min(escalated), application, minutes)
        if (opened := _open_seconds(ledger.rules, application, created, min(escalated))) is not None:
            ledger.measure("escalation_business_time", min(escalated), application, opened / 60)


def _measure_end(ledger: Ledger, ticket: BookRow, story: list[BookRow]) -> None:
    """The end of a ticket that is resolved in the end: its last solution since it was last reopened, whatever happened in between."""
    application, created = ticket["application"], ticket["created_at"]
    ends = ends_of(ticket, story, ledger.as_of)
    if not ends or not ends[-1][1]:
        return
    reopenings = [at for at, is_end in ends if not is_end]
    since = max(reopenings, default=created)
    solved = [e["occurred_at"] for e in story if e["event_type"] == "solved" and e["occurred_at"] >= since]
    resolved = max(solved) if solved else ends[-1][0]
    ledger.measure("resolution_time", resolved, application, seconds(resolved - created) / 3600, _desk(ticket))
    if (opened := _open_seconds(ledger.rules, application, created, resolved)) is not None:
        ledger.measure("resolution_business_time", resolved, application, opened / 3600, _desk(ticket))
    at_once, channel = len(_replies(story)) == 1 and not reopenings, {"channel": ticket["channel"]}
    ledger.add("first_contact_resolution_rate", resolved, application, int(at_once), 1, channel)
    ledger.add("ticket_reopen_rate", resolved, application, int(bool(reopenings)), 1)


def ends_of(ticket: BookRow, story: list[BookRow], as_of: datetime) -> list[tuple[datetime, bool]]:
    """The ends of a ticket: (when, True where it ended, False where it was reopened), in the order of time."""
    states = [
        (e["occurred_at"], e["event_type"] in ("solved", "closed"), e["event_type"])
        for e in story
        if e["event_type"] in ("solved", "closed", "reopened", "opened")
    ]
    if ticket["status"] in OPEN_STATES and ticket["updated_at"] < as_of:
        states.append((max(ticket["updated_at"], ticket["created_at"]), False, ticket["status"]))
    ends: list[tuple[datetime, bool]] = []
    for at, is_end, kind in sorted(states):
        # an open state is a reopening only of what had ended
        if is_end or kind == "reopened" or (ends and ends[-1][1]):
            ends.append((at, is_end))
    has_end_event = any(is_end for _, is_end in ends)
    if not has_end_event and ticket["status"] in ("solved", "closed") and ticket["updated_at"] < as_of:
        # no event says when it ended: its last update counts
        ends.append((max(ticket["updated_at"], ticket["created_at"]), True))
    return ends


def _replies(story: list[BookRow]) -> list[datetime]:
    return [e["occurred_at"] for e in story if e["event_type"] == "public_reply" and e["actor_type"] == "agent"]


def _desk(ticket: BookRow) -> dict[str, object]:
    return {"channel": ticket["channel"], "priority": ticket["priority"]}


def _open_seconds(rules: Rules, application: str, begins: datetime, ends: datetime) -> Fraction | None:
    """The seconds between two moments in which an application's support is open; None without a calendar."""
    calendar: SupportCalendar | None = rules.support_calendars.get(application, rules.support_calendars.get("default"))
    if calendar is None:
        return None
    zone, hours = ZoneInfo(calendar.time_zone), {str(weekday): spans for weekday, spans in calendar.hours.items()}
    day, last, total = begins.astimezone(zone).date(), ends.astimezone(zone).date(), Fraction(0)
    while day <= last:
        spans = hours.get(WEEKDAYS[day.weekday()], "") if day not in calendar.holidays else ""
        for span in filter(None, spans.replace(" ", "").split(",")):
            opens, closes = (_moment(day, clock, zone) for clock in span.split("-"))
            total += seconds(max(min(ends, closes) - max(begins, opens), timedelta(0)))
        day += timedelta(days=1)
    return total


def _moment(day: date, clock: str, zone: ZoneInfo) -> datetime:
    """When the clock of a zone shows a time; the later moment where it shows it twice, or where it skips it."""
    if clock == "24:00":
        day, clock = day + timedelta(days=1), "00:00"
    shown = datetime.combine(day, time.fromisoformat(clock), zone)
    return max(shown.astimezone(UTC), shown.replace(fold=1).astimezone(UTC))
