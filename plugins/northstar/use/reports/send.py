"""Make reports, keep them, and send them on the routes that the home's notify.yml names."""

from datetime import UTC, datetime, time, timedelta

from northstar.base.clock import Calendar
from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.use import outbox
from northstar.use.notify import Message, read_channels, send_message
from northstar.use.reports.make import Report, contents, make_report
from northstar.use.reports.store import last_version, record_sending, store_report
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, fetch_one

# people read reports in the morning, also when the night's version is published earlier
SENT_FROM = time(6, 30)
# a weekly report is still sent on Wednesday, when the nights before it published nothing; after that the next one tells more
DAYS_LATE = 3


def make_and_keep(
    settings: Settings, name: str, as_of: datetime | None = None, application: str = "all", role: str | None = None
) -> tuple[int, Report]:
    """Make a report and keep it; returns it with its number in audit.reports. It has the restatements since the previous period's report."""
    first = make_report(settings, name, as_of, application, role=role)
    since = last_version(settings, name, application, first.period_start, role)
    report = first if since is None else make_report(settings, name, as_of, application, since, role)
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


def reports_over(calendar: Calendar, at: datetime, days: int = 1) -> list[str]:
    """The reports whose last period ended less than so many days before `at`: the daily one, on the first day of the week the weekly one, ..."""
    return [
        name
        for name, content in contents().items()
        if at - calendar.last_period(content["grain"], at)[1] < timedelta(days=days)
    ]


def reports_due(settings: Settings, at: datetime) -> tuple[list[str], str | None]:
    """The reports that should be sent at a moment and were not sent yet, and in words what others wait for.

    Reports are sent from SENT_FROM on, once a nightly run has published their period; one that waited for it is sent up to DAYS_LATE days
    after its period.
    """
    zone = settings.rules.calendar.zone
    if at.astimezone(zone).time() < SENT_FROM:
        return [], f"reports are sent from {SENT_FROM:%H:%M} {zone.key} on"
    routes = read_channels(settings).reports
    with db.connect(settings, "publisher") as connection:
        if fetch_one(connection.execute("select to_regclass('marts.publications') as t"))["t"] is None:
            return [], "nothing is published yet"
        night = fetch_one(
            connection.execute("select max(as_of) as as_of from marts.publications where mode = 'nightly'")
        )
        waiting, due = [], []
        for name in reports_over(settings.rules.calendar, at, DAYS_LATE):
            start, end = settings.rules.calendar.last_period(contents()[name]["grain"], at)
            if night["as_of"] is None or night["as_of"] < end:
                waiting.append(name)
            elif not _is_sent(connection, name, start, name in routes):
                due.append(name)
    return due, f"{', '.join(waiting)}: no nightly run has published their period yet" if waiting else None


def _is_sent(connection: Connection, name: str, start: datetime, has_route: bool) -> bool:
    """Whether the report of a period was sent; where no route is named for it, whether it was kept."""
    row = connection.execute(
        "select from audit.reports where report = %s and application = 'all' and role = '' and period_start = %s and (sent_at is not null or not %s)",
        [name, start, has_route],
    ).fetchone()
    return row is not None
