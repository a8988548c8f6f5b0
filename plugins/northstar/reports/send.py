"""Make reports, keep them, and send them on the routes that the home's notify.yml names."""

from datetime import datetime

from northstar.notify import RouteNotifier, read_channels
from northstar.reports.make import Report, contents, make_report
from northstar.reports.store import keep, last_version, note_sent
from northstar.settings import Settings


def make_and_keep(
    settings: Settings, name: str, as_of: datetime | None = None, application: str = "all"
) -> tuple[int, Report]:
    """A report, and its number in audit.reports; it tells of restatements since the one about the period before."""
    first = make_report(settings, name, as_of, application)
    since = last_version(settings, name, application, first.period_start)
    report = first if since is None else make_report(settings, name, as_of, application, since)
    return keep(settings, report), report


def send(settings: Settings, report_id: int, report: Report) -> list[str]:
    """Send a kept report; returns where it went, nowhere where no route is named for it. Raises NorthstarError when an address failed."""
    route = read_channels(settings).reports.get(report.name)
    if route is None:
        return []
    told = RouteNotifier(route, report.subject, report.text, report.html, report.images).notify({})
    note_sent(settings, report_id, told)
    return told


def due(at: datetime) -> list[str]:
    """The reports whose period ended in the day before `at`: the daily one, on Mondays the weekly one, ..."""
    found = {
        "daily": True,
        "weekly": at.weekday() == 0,
        "monthly": at.day == 1,
        "quarterly": at.day == 1 and at.month % 3 == 1,
        "annual": at.day == 1 and at.month == 1,
    }
    return [name for name in contents() if found[name]]
