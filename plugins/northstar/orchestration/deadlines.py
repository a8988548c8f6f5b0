"""Airflow's own deadline for the DAGs that publish: the second line behind the freshness promises, which `evaluate_alerts` judges.

It is Airflow's scheduler that notices, and the triggerer that tells, so it also works when no task gets to run, or the warehouse does not answer.
"""

import asyncio
from datetime import time, timedelta
from zoneinfo import ZoneInfo

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from northstar.base.clock import GREENWICH
from northstar.base.errors import NorthstarError
from northstar.base.freshness import Freshness, time_allowed
from northstar.base.settings import Settings, load_settings

ROUTE = "data on-call"


def reporting_zone() -> str:
    """The time zone of the schedules that follow the company's day."""
    return _settings_or_defaults()[1].key


def publication_deadline(between: timedelta, at: time | None = None) -> DeadlineAlert:
    """The deadline of a DAG that publishes, by the home's promises.

    between: the time between two of its runs. at: when the first of a day starts by the company's clock; None for the first hour of a day of UTC.
    """
    promises, zone = _settings_or_defaults()
    return DeadlineAlert(
        name="published in the promised time",
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=time_allowed(promises, between, at, zone) if at else time_allowed(promises, between),
        callback=AsyncCallback(report_missed_deadline),
    )


def _settings_or_defaults() -> tuple[Freshness, ZoneInfo]:
    try:
        settings = load_settings()
    except NorthstarError:
        # a run says what is wrong with the settings, not a DAG that is gone
        return Freshness(), GREENWICH
    return settings.operations.freshness, settings.rules.calendar.zone


async def report_missed_deadline(context: dict[str, dict[str, str]]) -> None:
    """Evaluate the alerts now; where that fails, tell it directly on the route of the job's alerts."""
    await asyncio.to_thread(_report, load_settings(), context["dag_run"]["dag_id"], context["dag_run"]["dag_run_id"])


def _report(settings: Settings, dag_id: str, run_id: str) -> None:
    from northstar.use.alerts.evaluate import evaluate
    from northstar.use.notify import Body, Message, read_channels, send_message

    try:
        evaluate(settings)
    except NorthstarError as exc:
        channels = read_channels(settings)
        route = ROUTE if ROUTE in channels.routes else "default"
        subject = f"[Northstar] {dag_id} has not published in the promised time, and the alerts could not be evaluated"
        text = f"{subject[12:]}: {exc}\nDAG run {run_id}. Start with `northstar doctor` (docs/runbooks.md, data_late)."
        event: Body = {
            "event_action": "trigger", "dedup_key": f"deadline|{dag_id}", "client": "Northstar",
            "payload": {"summary": subject, "source": "northstar", "severity": "critical", "custom_details": {"text": text}},
        }  # fmt: skip
        for address in channels.addresses(route):
            send_message(settings, channels, address, Message(subject, text, events=[event]))
