"""`make run`: from a set-up checkout to published marts, through the real scheduler.

Its steps: it starts Postgres, Airflow's services and the pages; then it waits for a nightly run, if one is owed or asked for; then it prints
the headlines and the addresses.
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any, TypedDict

from northstar.base.clock import parse_time, show_utc
from northstar.base.errors import NorthstarError
from northstar.base.escaping import visible_output
from northstar.base.progress import Progress, progress
from northstar.base.settings import Settings, load_settings, private_umask
from northstar.base.third_parties import file_error, resource_error
from northstar.build.code_version import code_version
from northstar.connections.airflow import api_url
from northstar.orchestration.services import await_pages, start_pages, start_services
from northstar.publish import hold
from northstar.use.headline import print_headline
from northstar.warehouse import db, embedded, turn_lock
from northstar.warehouse.rows import as_shape, fetch_one
from northstar.warehouse.setup import bootstrap, make_airflow_database

NIGHTLY = "nightly_rebuild"
POLL_SECONDS = 1.0
TRIES = 3
# the state of a task that waits for somebody (northstar.orchestration.approvals)
AWAITING_INPUT = "awaiting_input"
RUN_SECONDS = 30 * 60
# how long the scheduler may take to make a run that its schedule owes
OWED_SECONDS = 30
LOGIN = "/auth/token"
PAGE = 100  # the most items that Airflow returns at once

# Any: JSON from Airflow's API
Answer = dict[str, Any]


class PublishedRun(TypedDict):
    """The run that published last, by its version."""

    published_version: int
    as_of: datetime
    code_version: str


class Api:
    """The calls of Airflow's REST API that are needed to start and follow a run."""

    def __init__(self, settings: Settings):
        self.base = api_url(settings)
        answer = self._call(LOGIN, {"username": "admin", "password": settings.secret("airflow_password")})
        self.token = answer["access_token"]

    def _call(self, path: str, body: Answer | None = None, method: str | None = None) -> Answer:
        headers = {"Content-Type": "application/json"}
        if hasattr(self, "token"):
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data=data, headers=headers, method=method)
        tries_left = TRIES
        while True:
            tries_left -= 1
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    content: Answer = json.load(answer)
                    return content
            except urllib.error.HTTPError as exc:
                # a busy api-server answers 500 once in thousands of requests; a request that changes nothing is repeated
                if exc.code < 500 or data is not None or not tries_left:
                    raise
            except (OSError, ValueError) as exc:
                # a request that changes something is not repeated: it may have been carried out all the same
                if (data is not None and path != LOGIN) or not tries_left:
                    raise NorthstarError(
                        f"Airflow does not answer at {self.base}: `make stop`, then `make run`"
                    ) from exc
            time.sleep(POLL_SECONDS)

    def trigger(self, dag_id: str, conf: dict[str, str]) -> str:
        """Trigger a DAG; returns the id of the DAG run."""
        dag_run = self._call_when_registered(f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})
        run_id: str = dag_run["dag_run_id"]
        return run_id

    def unpause(self, dag_id: str) -> bool:
        """Let the scheduler run the DAG; returns whether it was paused until now."""
        was_paused: bool = self._call_when_registered(f"/api/v2/dags/{dag_id}")["is_paused"]
        if was_paused:
            self._call(f"/api/v2/dags/{dag_id}", {"is_paused": False}, "PATCH")
        return was_paused

    def newest_run(self, dag_id: str, run_type: str) -> str | None:
        """The id of the newest DAG run of a type ("scheduled", "backfill", "manual"), or None."""
        path = f"/api/v2/dags/{dag_id}/dagRuns?order_by=-run_after&limit=1&run_type={run_type}"
        runs = self._call(path)["dag_runs"]
        return runs[0]["dag_run_id"] if runs else None

    def unfinished_run(self, dag_id: str) -> str | None:
        """The id of the DAG run that is queued or running, except backfills; None if there is none."""
        runs = self._call(f"/api/v2/dags/{dag_id}/dagRuns?state=running&state=queued&order_by=run_after&limit={PAGE}")
        return next((r["dag_run_id"] for r in runs["dag_runs"] if r["run_type"] != "backfill"), None)

    def is_due(self, dag_id: str) -> bool:
        """Whether the DAG's next scheduled run is due and the scheduler has not made it yet."""
        due_at = self._call_when_registered(f"/api/v2/dags/{dag_id}")["next_dagrun_run_after"]
        return due_at is not None and datetime.fromisoformat(due_at) <= datetime.now(UTC)

    def fail_unfinished(self, started_at: datetime) -> list[tuple[str, str]]:
        """Mark as failed the DAG runs that were under way when Airflow was stopped, except backfills; returns (dag_id, run_id) of each.

        Otherwise the scheduler waits for minutes before it takes their tasks for dead. started_at: when Airflow was started; runs that the
        scheduler has made since are left alone.
        """
        runs = self._call(f"/api/v2/dags/~/dagRuns?state=running&state=queued&limit={PAGE}")["dag_runs"]
        runs = [
            r for r in runs
            if r["run_type"] != "backfill" and not (r["queued_at"] and datetime.fromisoformat(r["queued_at"]) >= started_at)
        ]  # fmt: skip
        for r in runs:
            self._call(f"/api/v2/dags/{r['dag_id']}/dagRuns/{r['dag_run_id']}", {"state": "failed"}, "PATCH")
        return [(r["dag_id"], r["dag_run_id"]) for r in runs]

    def await_run(self, dag_id: str, run_type: str) -> str | None:
        """The result of `newest_run`, as soon as the scheduler has made a run; None if it makes none within half a minute."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if run_id := self.newest_run(dag_id, run_type):
                return run_id
            time.sleep(0.5)
        return None

    def _call_when_registered(self, path: str, body: Answer | None = None) -> Answer:
        """Make a call about a DAG, repeated until the dag-processor has registered the DAG; returns the answer."""
        deadline = time.monotonic() + 120
        while True:
            try:
                return self._call(path, body)
            except urllib.error.HTTPError as exc:
                if exc.code != 404 or time.monotonic() > deadline:
                    raise NorthstarError(f"Airflow refuses {path}: {exc.read().decode()[:200]}") from exc
                time.sleep(0.5)

    def state(self, dag_id: str, run_id: str) -> str:
        """The DAG run's state."""
        state: str = self._call(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"]
        return state

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """{task id: its state}; for a mapped task the state of its last instance."""
        states: dict[str, str | None] = {}
        read, path = 0, f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit={PAGE}&offset="
        while True:
            answer = self._call(f"{path}{read}")
            states |= {t["task_id"]: t["state"] for t in answer["task_instances"]}
            # count instances, not names: a mapped task has several instances with one name
            read += len(answer["task_instances"])
            if not answer["task_instances"] or read >= answer["total_entries"]:
                return states


def follow(api: Api, dag_id: str, run_id: str, report: Progress = progress) -> None:
    """Report the progress of each stage until the run has ended. Raises NorthstarError if the run failed."""
    started = time.monotonic()
    reported_at: dict[str, float] = {}
    ended_groups: set[str] = set()
    asking_groups: set[str] = set()
    while time.monotonic() - started < RUN_SECONDS:
        state = api.state(dag_id, run_id)
        groups: dict[str, list[str | None]] = {}
        for task, task_state in api.tasks(dag_id, run_id).items():
            groups.setdefault(task.split(".")[0], []).append(task_state)
        for group in ("extract", "build", "audit", "publish"):
            states = groups.get(group, [])
            done_count = sum(s in ("success", "failed", "upstream_failed", "skipped") for s in states)
            has_ended = bool(states) and done_count == len(states)
            if AWAITING_INPUT in states and group not in asking_groups:
                asking_groups.add(group)
                report(f"{group}: waits for an approval (Required actions at {api.base})")
            if "running" not in states and not has_ended:
                continue
            now = time.monotonic()
            if not has_ended:
                # a group runs for the first time, or again, because somebody cleared one of its tasks
                ended_groups.discard(group)
            if (has_ended and group not in ended_groups) or (not has_ended and now - reported_at.get(group, 0) > 10):
                report(f"{group}: {done_count} of {len(states)} tasks done")
                reported_at[group] = now
                if has_ended:
                    ended_groups.add(group)
        if state in ("success", "failed"):
            if state == "failed":
                raise NorthstarError(f"the run {run_id} failed")
            return
        time.sleep(POLL_SECONDS)
    raise NorthstarError(f"the run {run_id} did not end within {RUN_SECONDS // 60} minutes; look at {api.base}")


def up(settings: Settings, is_fresh: bool = False) -> None:
    """Start everything, do a nightly run on the demonstration company's files if one is owed, and print what is published.

    is_fresh: do the nightly run in any case.
    """
    started, started_at = time.monotonic(), datetime.now(UTC)
    if not settings.warehouse_url:
        embedded.ensure_running(settings)
    elif db.has_administrator(settings):
        make_airflow_database(settings)
    bootstrap(settings)
    demo = settings.home / "demo"
    if not (demo / "_simulation.json").exists():
        from northstar.demo.company import INCIDENTS, simulate

        progress("simulating the demonstration company ...")
        simulate(demo, end=parse_time(None), incidents=INCIDENTS, rare_cases=True)
    # if something is published, the pages start together with Airflow
    has_started = start_services(settings, progress, with_pages=newest_published_run(settings) is not None)
    progress(f"Airflow is up after {time.monotonic() - started:.0f} s")
    api = Api(settings)
    interrupted = api.fail_unfinished(started_at) if has_started else []
    for dag_id, ended_id in interrupted:
        progress(f"{dag_id} {ended_id} was interrupted when Airflow was stopped")
    run_started = time.monotonic()
    run_id = owed_run(api, NIGHTLY)
    if run_id:
        progress(f"{NIGHTLY} {run_id} is owed by the schedule, or already under way")
    elif (
        reason := "FRESH=1 asks for one"
        if is_fresh
        else why_run_is_owed(settings, [dag_id for dag_id, _ in interrupted])
    ):
        progress(f"a nightly run starts: {reason}")
        run_id = api.trigger(NIGHTLY, {"source_dir": str(demo)})
    if run_id:
        try:
            follow(api, NIGHTLY, run_id)
        except NorthstarError as exc:
            raise NorthstarError(f"{_last_run_message(settings) or exc}; see {api.base}/dags/{NIGHTLY}") from exc
        progress(f"the nightly run took {time.monotonic() - run_started:.0f} s")
    else:
        with db.connect(settings, "bi_reader") as connection:
            publication = fetch_one(
                connection.execute("select * from publications order by published_version desc limit 1")
            )
        progress(
            f"version {publication['published_version']} of {show_utc(publication['as_of'])} is published; "
            "no nightly run is owed (`make run FRESH=1` starts one anyway)"
        )
        if words := describe_hold(settings):
            progress(f"{words} (`northstar release`)")
    for dag_id in (
        "hourly_refresh",
        "evaluate_alerts",
        "send_reports",
        "erase_subject",
        "backfill_range",
        "rebuild_models",
    ):
        api.unpause(dag_id)
    if api.unpause("forecast_metrics"):
        # make the first forecasts now, not tomorrow; nothing waits for them
        api.trigger("forecast_metrics", {})
    start_pages(settings)
    print_headline(settings)
    print(f"\nthe pages  {await_pages(settings)}")
    print(f"Airflow    {api.base}   (user admin, password {settings.secret('airflow_password')})")
    print(f"the marts  {db.uri(settings, 'bi_reader')}")
    print('ask them   .venv/bin/northstar sql "select * from mrr_movements limit 5"')


def owed_run(api: Api, dag_id: str) -> str | None:
    """Unpause a DAG; returns the id of its run that is under way, or that its schedule owes by now. None if there is none."""
    is_due = api.is_due(dag_id)
    api.unpause(dag_id)
    # `is_due` was asked first: a run that the scheduler makes in between is found as one under way
    deadline = time.monotonic() + (OWED_SECONDS if is_due else 0)
    while not (run_id := api.unfinished_run(dag_id)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return run_id


def newest_published_run(settings: Settings) -> PublishedRun | None:
    """The published_version, as_of and code_version of the run that published last; None if nothing was published."""
    with db.connect(settings, "transformer") as connection:
        row = connection.execute(
            "select published_version, as_of, code_version from audit.runs where published_version is not null "
            "order by published_version desc limit 1"
        ).fetchone()
    return None if row is None else as_shape(PublishedRun, row)


def describe_hold(settings: Settings) -> str | None:
    """A sentence that says that publishing is held; None while it is not."""
    with db.connect(settings, "transformer") as connection:
        return hold.describe_hold(connection)


def why_run_is_owed(settings: Settings, interrupted: list[str]) -> str | None:
    """The reason why a nightly run is owed regardless of the schedule, in words; None if none is.

    interrupted: the DAGs of which a run was under way when Airflow was stopped.
    """
    version = newest_published_run(settings)
    if version is None:
        return "nothing has been published yet"
    if version["code_version"] != code_version(settings):
        return f"version {version['published_version']} was made by other models or rules than the present ones"
    if describe_hold(settings):
        # a run would publish nothing
        return None
    if NIGHTLY in interrupted:
        return "the last one was interrupted"
    with db.connect(settings, "transformer") as connection:
        last_run = fetch_one(
            connection.execute("select run_id, mode, state from audit.runs order by run_id desc limit 1")
        )
        writer = turn_lock.current_turn(connection)
    is_at_work = writer is not None and writer["run_id"] == last_run["run_id"] and not writer["is_over"]
    # only nightly runs count: a failed hourly run is followed by the next one of its schedule
    if last_run["mode"] == "nightly" and last_run["state"] == "failed":
        return f"run {last_run['run_id']} failed"
    if last_run["mode"] == "nightly" and last_run["state"] == "running" and not is_at_work:
        return f"run {last_run['run_id']} was interrupted"
    return None


def _last_run_message(settings: Settings) -> str | None:
    with db.connect(settings, "transformer") as connection:
        row = connection.execute("select message from audit.runs order by run_id desc limit 1").fetchone()
    message: str | None = None if row is None else row["message"]
    return message


@private_umask()
@visible_output()
def main(arguments: list[str] | None = None) -> int:
    """The entry point of `make run`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make run", description="Start everything, show the published headlines.")
    parser.add_argument("--fresh", action="store_true", help="run the nightly job even if no run is owed")
    fresh = parser.parse_args(arguments).fresh
    try:
        up(load_settings(), fresh)
    except NorthstarError as exc:
        print(f"northstar: {exc}", file=sys.stderr)
        return 1
    except OSError as exc:
        problem = resource_error(exc) or file_error(exc)
        if problem is None:
            raise
        print(f"northstar: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
