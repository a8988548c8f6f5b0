"""Sessions: single events, and events grouped into visits."""

from collections import defaultdict

from northstar.demo.books.ledger import BookRow, Ledger, properties
from northstar.demo.books.times import seconds


def reckon(ledger: Ledger) -> None:
    """Tracked events, tools, logins; sessions with their duration, messages and tools."""
    visits = defaultdict(list)
    for event in ledger.rows["events"]:
        _event(ledger, event)
        if event["session_id"]:
            visits[event["application"], event["session_id"]].append(event)
    for (application, _), events in visits.items():
        _visit(ledger, application, events)
    for message in ledger.rows["messages"]:
        channel = {"channel": message["channel"]}
        ledger.add("messages_per_session", message["sent_at"], message["application"], 1, 0, channel)


def _event(ledger: Ledger, event: BookRow) -> None:
    application, when, name = event["application"], event["occurred_at"], event["event_name"]
    ledger.add("tracked_events", when, application, 1, None, {"event_name": name})
    if name == "tool.invoked":
        event_properties = properties(event)
        tool = {"tool": event_properties.get("tool", "(unknown)")}
        ledger.add("tool_invocations", when, application, 1, None, tool)
        ledger.add("tool_error_rate", when, application, int(event_properties.get("status") == "error"), 1, tool)
    if name in ("user.login", "user.login_failed"):
        ledger.add("auth_success_rate", when, application, int(name == "user.login"), 1)


def _visit(ledger: Ledger, application: str, events: list[BookRow]) -> None:
    """A session belongs to the month and the channel of its first event."""
    first = min(events, key=lambda e: (e["occurred_at"], e["event_id"]))
    start, end = first["occurred_at"], max(e["occurred_at"] for e in events)
    channel = {"channel": first["channel"]}
    ledger.add("sessions", start, application, 1, None, channel)
    ledger.add("session_duration", start, application, seconds(end - start), 1, channel)
    ledger.add("messages_per_session", start, application, 0, 1, channel)
    tools = sum(e["event_name"] == "tool.invoked" for e in events)
    if tools:
        ledger.add("tools_per_session", start, application, tools, 1)
