"""Make reports, keep them, and send them on the routes that the home's notify.yml names."""

from datetime import UTC, datetime

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.use import outbox
from northstar.use.notify import Message, read_channels, send_message
from northstar.use.reports.make import Report, contents, make_report
from northstar.use.reports.store import last_version, record_sending, store_report
from northstar.warehouse import db


def make_and_keep(
    settings: Settings, name: str, as_of: datetime | None = None, application: str = "all"
) -> tuple[int, Report]:
    """Make a report and keep it; returns it with its number in audit.reports. It has the restatements since the previous period's report."""
    first = make_report(settings, name, as_of, application)
    since = last_version(settings, name, application, first.period_start)
    report = first if since is None else make_report(settings, name, as_of, application, since)
    return store_report(settings, report), report


def send(settings: Settings, report_id: int, report: Report, occasion: str | None = None) -> list[str]:
    """Send a kept report; returns where it went, [] where no route is named for it.

    occasion: an address gets a report once for each occasion, even when Airflow tries a task again; None: every address gets it.
    Raises NorthstarError when an address failed, after the report was sent to the others.
    """
    channels, now = read_channels(settings), datetime.now(UTC)
    route = channels.reports.get(report.name)
    if route is None:
        return []
    message = Message(report.subject, report.text, report.html, report.images)
    message_due = outbox.Due(str(report_id), "made", occasion or f"{now}", route)
    with db.connect(settings, "publisher") as connection:
        outbox.put(connection, "report", [message_due], channels, now)
        waiting = outbox.waiting(connection, "report", now)
        rows = [row for row in waiting if (row["about"], row["instance"]) == (message_due.about, message_due.instance)]
        connection.commit()
        _, destinations, problems = outbox.send_each(
            connection, rows, channels, lambda address, _: send_message(settings, channels, address, message), now
        )
    record_sending(settings, report_id, destinations)
    if problems:
        raise NorthstarError("; ".join(f"could not send to {problem}" for problem in problems))
    return destinations


def reports_due(at: datetime) -> list[str]:
    """The reports whose period ended in the day before `at`: the daily one, on Mondays the weekly one, ..."""
    is_due = {
        "daily": True,
        "weekly": at.weekday() == 0,
        "monthly": at.day == 1,
        "quarterly": at.day == 1 and at.month % 3 == 1,
        "annual": at.day == 1 and at.month == 1,
    }
    return [name for name in contents() if is_due[name]]
