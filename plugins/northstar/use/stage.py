"""Stage 5 as the DAGs call it: what follows a publication, and what is done with the published marts at fixed times."""

from datetime import datetime

from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.use.alerts.evaluate import evaluate
from northstar.use.forecasts import forecast_metrics
from northstar.use.reports.send import make_and_keep, reports_due, reports_over, send

__all__ = ["due_reports", "evaluate_alerts", "forecast_metrics", "send_report", "send_subscriptions"]


def evaluate_alerts(settings: Settings, progress: Progress = print) -> None:
    """Evaluate the alerts, and send notices to the people concerned."""
    evaluate(settings, progress=progress)


def due_reports(settings: Settings, at: datetime, is_by_hand: bool, progress: Progress = print) -> list[str]:
    """The names of the reports to send at a moment: by hand, those whose period ended in the day before, sent or not."""
    if is_by_hand:
        return reports_over(settings.rules.calendar, at)
    due, waiting = reports_due(settings, at)
    if waiting:
        progress(waiting)
    return due


def send_report(settings: Settings, name: str, as_of: datetime, task: str) -> str:
    """Make a report, keep it, and send it on its route; says where it went. task: the task that does it, in words."""
    report_id, report = make_and_keep(settings, name, as_of)
    addresses = send(settings, report_id, report, task)
    return f"{report.subject}: {', '.join(addresses) or 'kept, no route is named for it'}"


def send_subscriptions(settings: Settings, at: datetime, progress: Progress = print) -> str:
    """Send the views that readers subscribed to and that are due; says where they went."""
    # what draws the pages is imported where it is used
    from northstar.use.pages.subscriptions import send_due

    return ", ".join(send_due(settings, at, progress)) or "no subscription is due"
