"""The functions of the DAGs' tasks. They call the stages; only the run's number passes from one task to another.

Each function imports its own stage: what other stages import (parts of pyarrow, pandas, numpy) would cost each task half a second.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Unpack

from northstar.base.clock import parse_time
from northstar.base.escaping import make_visible
from northstar.base.settings import Settings, load_settings
from northstar.extract.sources.declared import read_sources
from northstar.runs import lifecycle

if TYPE_CHECKING:
    from airflow.sdk import Context


def window_end(context: Context) -> datetime:
    """The run's as_of: `as_of` in its conf, else the end of the data interval; for a run that was started by hand, the start of that hour."""
    run = context["dag_run"]
    if as_of := (run.conf or {}).get("as_of"):
        return parse_time(as_of, load_settings().rules.calendar.zone)
    if run.run_type != "manual" and (end := context.get("data_interval_end")):
        moment: datetime = end.astimezone(UTC)
        return moment
    return (run.run_after or datetime.now(UTC)).astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def open_run(mode: str, **context: Unpack[Context]) -> int:
    """Open a run, after waiting for one that is under way; returns its number, for the other tasks."""
    settings = load_settings()
    conf = context["dag_run"].conf or {}
    source = conf.get("source_dir") or os.environ.get("NORTHSTAR_SOURCE_DIR")
    if not source and not read_sources(settings):
        source = str(settings.home / "demo")
    as_of = window_end(context)
    if context["dag_run"].run_type == "scheduled":
        # a run that the schedule makes up for must not take readers back in time
        as_of = max(as_of, lifecycle.last_as_of(settings) or as_of)
    return lifecycle.open_run(settings, mode, as_of, source, _trigger_name(context), wait=True, progress=_print_visible)


def _trigger_name(context: Context) -> str:
    return f"{context['dag'].dag_id} {context['run_id']}"


def run_id_of(context: Context) -> int:
    """The number of the run that the DAG run opened."""
    run_id: int = context["ti"].xcom_pull(task_ids="extract.open_run")
    return run_id


def list_sources(**context: Unpack[Context]) -> list[dict[str, str]]:
    """The arguments of `land_source`, for each source that this run reads."""
    from northstar.extract.stage import due_sources

    return [{"name": name} for name in due_sources(load_settings(), run_id_of(context))]


def land_source(name: str, **context: Unpack[Context]) -> None:
    """Land what is new in one source."""
    from northstar.extract.stage import land_source as land

    land(load_settings(), run_id_of(context), name, _print_visible)


def settle_sources(**context: Unpack[Context]) -> None:
    """Fail unless every required source has landed. The run goes on without a source that failed and is not required; it is marked late."""
    from northstar.extract.stage import finish_extract

    finish_extract(load_settings(), run_id_of(context))
    # the rows that just landed may open an alert
    _evaluate_quietly()


def build_wide_models(**context: Unpack[Context]) -> None:
    """Have Spark build the models with the most input; their rows are loaded, and `build_models` takes them."""
    from northstar.build.stage import build_wide_models as build_on_spark

    build_on_spark(load_settings(), run_id_of(context), _print_visible)


def build_models(**context: Unpack[Context]) -> None:
    """Build the models in one dbt process, which records each as it ends."""
    from northstar.build.stage import build
    from northstar.orchestration.domains import record_nodes

    settings, run_id = load_settings(), run_id_of(context)
    with record_nodes(settings, run_id) as note:
        build(settings, run_id, _print_visible, note)


def audit_marts(**context: Unpack[Context]) -> None:
    """Run the suites at both boundaries."""
    from northstar.audit.stage import audit

    audit(load_settings(), run_id_of(context), _print_visible)


def publish_marts(**context: Unpack[Context]) -> int:
    """Publish the candidate, and tell those who follow the marts' asset; returns the published version.

    Raises ApprovalNeeded for a run that restates more than is allowed without an approval.
    """
    from northstar.orchestration.assets import MARTS
    from northstar.publish.stage import describe_publication, publish

    settings = load_settings()
    version = publish(settings, run_id_of(context), _print_visible, needs_approval=True)
    context["outlet_events"][MARTS].extra = dict(describe_publication(settings, version))
    if settings.operations.openlineage:
        _tell_lineage_quietly(settings, context)
    return version


def maintain_warehouse(**context: Unpack[Context]) -> None:
    """Do the upkeep after the publication. When it fails only this task is red: close_run decides about the run."""
    from northstar.runs.maintenance import maintain_after_run
    from northstar.use.pages.prepare import prepare

    settings = load_settings()
    maintain_after_run(settings, run_id_of(context), _print_visible)
    prepare(settings, _print_visible)


def close_run(**context: Unpack[Context]) -> None:
    """Close the run and give its turn back. Fails when the run did not publish, so that the DAG run is red."""
    run_id: int | None = run_id_of(context)
    if run_id is None:
        lifecycle.close_trigger(load_settings(), _trigger_name(context))
        raise RuntimeError("the run was never opened")
    lifecycle.close_run(load_settings(), run_id)
    lifecycle.require_published(load_settings(), run_id)


def evaluate_alerts(**context: Unpack[Context]) -> None:
    """Evaluate the alerts and send their notices."""
    from northstar.use import stage as use

    use.evaluate_alerts(load_settings(), _print_visible)


def forecast_metrics(**context: Unpack[Context]) -> int:
    """Forecast the series that have changed; returns how many there were. Skipped after an hourly run, which completes few periods."""
    from airflow.sdk.exceptions import AirflowSkipException

    from northstar.orchestration.assets import MARTS
    from northstar.use import stage as use

    publications = context["triggering_asset_events"].get(MARTS, [])
    # an event that somebody made by hand has no mode
    if publications and all(event.extra.get("mode") == "hourly" for event in publications):
        raise AirflowSkipException("no nightly run has published since the last forecasts")

    return use.forecast_metrics(load_settings(), _print_visible)


def erase_subjects(**context: Unpack[Context]) -> int:
    """Carry out the erasures that are not done; returns how many there were."""
    from northstar.runs.erase.erasure import erase_pending

    return len(erase_pending(load_settings(), _print_visible))


def backfill_range(**context: Unpack[Context]) -> int:
    """Restate the range that the DAG run's form names, when it is this run's turn; returns the published version."""
    from northstar.runs.backfill import backfill

    asked = context["params"]
    by = context["dag_run"].triggering_user_name or "Airflow"
    settings = load_settings()
    start, end = (parse_time(asked[name], settings.rules.calendar.zone) for name in ("from", "to"))
    return backfill(
        settings, start, end, asked["reason"], by,
        sources=[asked["source"]] if asked["source"] else None, with_reading=asked["read_sources"], progress=_print_visible, wait=True,
    )  # fmt: skip


def rebuild_models(**context: Unpack[Context]) -> int:
    """Build the models that the DAG run's form names from nothing, when it is this run's turn; returns the published version."""
    from northstar.runs.rebuild import rebuild

    asked = context["params"]
    by = context["dag_run"].triggering_user_name or "Airflow"
    return rebuild(load_settings(), asked["names"], asked["reason"], by, _print_visible, wait=True)


def _evaluate_quietly() -> None:
    """Evaluate the alerts during a run. An error is only printed: it must not fail the run, and the alert DAG will meet it too."""
    try:
        evaluate_alerts()
    except Exception as exc:
        _print_visible(f"alerts: {type(exc).__name__}: {exc}")


def _tell_lineage_quietly(settings: Settings, context: Context) -> None:
    """Tell the OpenLineage server about the models. An error is only printed: the version is published."""
    try:
        from northstar.orchestration.lineage_events import tell_models

        tell_models(settings, run_id_of(context), context["ti"])
    except Exception as exc:
        _print_visible(f"lineage events: {type(exc).__name__}: {exc}")


def _print_visible(text: str) -> None:
    print(make_visible(text), flush=True)


def list_reports(**context: Unpack[Context]) -> list[dict[str, str]]:
    """The arguments of `send_report`, for each report that is due, or that the DAG run's conf names."""
    from northstar.use.stage import due_reports

    run = context["dag_run"]
    conf = run.conf or {}
    settings = load_settings()
    at = (
        parse_time(conf["as_of"], settings.rules.calendar.zone)
        if conf.get("as_of")
        else (run.run_after or datetime.now(UTC)).astimezone(UTC)
    )
    names = conf.get("reports") or due_reports(settings, at, run.run_type == "manual", _print_visible)
    return [{"name": name, "as_of": at.isoformat()} for name in names]


def send_report(name: str, as_of: str, **context: Unpack[Context]) -> str:
    """Make, keep and send one report; returns where it went."""
    from northstar.use import stage as use

    return use.send_report(load_settings(), name, parse_time(as_of), f"{context['dag_run'].dag_id} {context['run_id']}")


def send_subscriptions(**context: Unpack[Context]) -> str:
    """Send the views that readers subscribed to and that are due; returns where they went."""
    from northstar.use import stage as use

    at = (context["dag_run"].run_after or datetime.now(UTC)).astimezone(UTC)
    return use.send_subscriptions(load_settings(), at, _print_visible)
