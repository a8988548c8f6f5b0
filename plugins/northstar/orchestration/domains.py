"""The build in Airflow: one dbt process builds all models, and a task for each domain reports on the domain's models.

dbt's process records each model as it ends (`record_nodes`). The tasks of domains take no processes of their own: they run in the triggerer, where all
of them together query the warehouse once a second. A task is red when a model of its domain failed, and names that model.
"""

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import psycopg
from airflow.sdk import BaseOperator
from airflow.triggers.base import (
    BaseTaskEndEvent,
    BaseTrigger,
    StartTriggerArgs,
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)

from northstar.base.errors import NorthstarError
from northstar.base.settings import ROOT, Settings, load_settings
from northstar.base.tables import table
from northstar.build.results import BUILT_TYPES
from northstar.warehouse import db
from northstar.warehouse.rows import fetch_all_as

if TYPE_CHECKING:
    from airflow.sdk import Context

    from northstar.build.dbt import Event, OnEvent

POLL_SECONDS = 1.0
# a node that has ended, as a row of audit.model_runs
EndedNode = tuple[int, str, str, str, str, float, int | None, str]
# how long to wait for a task's table to be written to its log
LOG_SECONDS = 2.0
# dbt's words for a node that was built, and ours for one that need not be
BUILT_STATUSES = ("success", "pass", "warn", "unchanged")
# the domain of dbt's tests, which belong to no folder
TESTS = "tests"


def domains(project: Path = ROOT / "dbt_project") -> dict[str, list[str]]:
    """{domain: the names of its models}. The domains are the project's folders, such as `core/accounts`, and `tests`, whose list is empty."""
    models_by_domain: dict[str, list[str]] = {"seeds": sorted(path.stem for path in (project / "seeds").rglob("*.csv"))}
    for path in sorted((project / "models").rglob("*.sql")):
        models_by_domain.setdefault(str(path.parent.relative_to(project / "models")), []).append(path.stem)
    return models_by_domain | {TESTS: []}


class DomainOperator(BaseOperator):
    """The task of a domain in a run's build: red when a model failed, skipped when what its models read failed. Its log has a table of them."""

    # Any: the arguments of every operator
    def __init__(self, domain: str, models: list[str], **kwargs: Any):
        super().__init__(
            doc_md=f"The models of {domain}: {', '.join(models)}." if models else "dbt's tests.",
            **kwargs,
        )
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=f"{__name__}.{DomainTrigger.__name__}",
            trigger_kwargs={"domain": domain, "models": models},
            next_method="execute",
            timeout=self.execution_timeout or timedelta(hours=4),
        )

    def execute(self, context: "Context") -> None:
        """Never called: the trigger ends the task."""
        raise NotImplementedError


class Node(TypedDict):
    """A row of audit.model_runs: the columns that are shown."""

    name: str
    resource_type: str
    status: str
    seconds: Decimal | None
    rows: int | None
    message: str | None


@dataclass
class Build:
    """The state of a run's build: whether it has ended, and the nodes that have ended, from audit.model_runs."""

    has_ended: bool = False
    nodes: list[Node] = field(default_factory=list)


class DomainTrigger(BaseTrigger):
    """The trigger that waits until a domain's models are built, or it is certain that they will not be, and then ends the domain's task."""

    def __init__(self, domain: str, models: list[str]):
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's own has no types
        self.domain, self.models = domain, models

    # Any: the signature of BaseTrigger
    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class's path and its arguments, as BaseTrigger requires."""
        return f"{__name__}.{type(self).__name__}", {"domain": self.domain, "models": self.models}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event, once the domain's state is certain."""
        if self.task_instance is None:
            raise RuntimeError("a trigger that was not started by a task has no run")
        trigger = f"{self.task_instance.dag_id} {self.task_instance.run_id}"
        while not (verdict := judge(self.domain, self.models, build := await _read_build_shared(trigger))):
            await asyncio.sleep(POLL_SECONDS)
        ending, message = verdict
        # one log record: the triggerer writes about nine in a round, and closes a task's log when its trigger ends, even if records are left
        say = self.log.error if ending is TaskFailedEvent else self.log.info
        say(f"{message}\n{describe(self.domain, self.models, build)}")
        await asyncio.sleep(LOG_SECONDS)
        yield ending()


def judge(domain: str, models: list[str], build: Build) -> tuple[type[BaseTaskEndEvent], str] | None:
    """(how a domain's task ends, the reason in words); None while that is not certain."""
    nodes = _own_nodes(domain, models, build)
    failed = [n for n in nodes if n["status"] not in (*BUILT_STATUSES, "skipped")]
    if failed and (build.has_ended or len(nodes) == len(models)):
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        message = " ".join((failed[0]["message"] or "").split())
        return TaskFailedEvent, f"{failed[0]['resource_type']} {failed[0]['name']} failed{more}: {message[:600]}"
    missing = sorted(set(models) - {n["name"] for n in nodes})
    if missing:
        return (TaskFailedEvent, f"the build ended without {', '.join(missing)}") if build.has_ended else None
    if domain == TESTS and not build.has_ended:
        return None
    skipped = [n["name"] for n in nodes if n["status"] == "skipped"]
    if skipped:
        return TaskSkippedEvent, f"not built, because what they read failed: {', '.join(skipped[:20])}"
    return TaskSuccessEvent, f"{len(nodes)} built"


def describe(domain: str, models: list[str], build: Build) -> str:
    """The domain's nodes with their state, seconds and rows as a text table, slowest first."""
    nodes = sorted(_own_nodes(domain, models, build), key=lambda n: -(n["seconds"] or 0))
    if not nodes:
        return "nothing was built"
    return table(
        [
            {"model": n["name"], "status": n["status"], "seconds": f"{n['seconds'] or 0:.2f}", "rows": "-" if n["rows"] is None else n["rows"]}
            for n in nodes
        ]
    )  # fmt: skip


def _own_nodes(domain: str, models: list[str], build: Build) -> list[Node]:
    if domain == TESTS:
        return [n for n in build.nodes if n["resource_type"] == "test"]
    return [n for n in build.nodes if n["resource_type"] != "test" and n["name"] in models]


def read_build(settings: Settings, trigger: str) -> Build:
    """The state of the build of the run that `trigger` opened last; an empty one while the warehouse does not answer.

    trigger: `<dag_id> <run_id>`, as in audit.runs.
    """
    with suppress(psycopg.Error, NorthstarError), db.connect(settings, "transformer") as connection:
        run = connection.execute(
            "select run_id, state <> 'running' or stage_seconds ? 'build' as has_ended from audit.runs where trigger = %s "
            "order by run_id desc limit 1",
            [trigger],
        ).fetchone()
        if run is not None:
            nodes = fetch_all_as(Node, connection.execute(
                "select name, resource_type, status, seconds, rows, message from audit.model_runs where run_id = %s",
                [run["run_id"]],
            ))  # fmt: skip
            return Build(run["has_ended"], nodes)
    return Build()


_SHARED_READS: dict[str, tuple[float, asyncio.Task[Build]]] = {}


async def _read_build_shared(trigger: str) -> Build:
    """The result of `read_build`, which is called once in POLL_SECONDS for all domains of a run."""
    now = time.monotonic()
    at, looking = _SHARED_READS.get(trigger, (0.0, None))
    if looking is None or now - at >= POLL_SECONDS:
        for other in [t for t, (when, _) in _SHARED_READS.items() if now - when > 60 * POLL_SECONDS]:
            del _SHARED_READS[other]
        looking = asyncio.create_task(asyncio.to_thread(lambda: read_build(load_settings(), trigger)))
        _SHARED_READS[trigger] = now, looking
    return await asyncio.shield(looking)


@contextmanager
def record_nodes(settings: Settings, run_id: int) -> Iterator["OnEvent"]:
    """Give a callback for dbt that writes each node's status, seconds and rows to audit.model_runs as it ends.

    A thread of its own writes, so dbt's threads do not wait. The build writes the whole result afterwards (build.results.record_build): a row
    that is lost here, because the server is gone, is only missing until then.
    """
    ended_nodes: queue.SimpleQueue[EndedNode | None] = queue.SimpleQueue()

    def note(message: "Event") -> None:
        if message.info.name != "NodeFinished" or message.data.node_info.resource_type not in BUILT_TYPES:
            return
        node, result = message.data.node_info, message.data.run_result
        affected = dict(result.adapter_response).get("rows_affected")
        ended_nodes.put(
            (run_id, node.unique_id, node.node_name, node.resource_type, result.status, round(result.execution_time, 3),
             int(affected) if affected is not None and affected != -1 else None, result.message[:2000])
        )  # fmt: skip

    writer = threading.Thread(target=_write_nodes, args=(settings, ended_nodes), daemon=True)
    writer.start()
    try:
        yield note
    finally:
        ended_nodes.put(None)
        writer.join(timeout=10)


def _write_nodes(settings: Settings, ended_nodes: queue.SimpleQueue[EndedNode | None]) -> None:
    with suppress(psycopg.Error, NorthstarError), db.connect(settings, "transformer", autocommit=True) as connection:
        while (row := ended_nodes.get()) is not None:
            connection.execute(
                "insert into audit.model_runs values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (run_id, unique_id) "
                "do update set status = excluded.status, seconds = excluded.seconds, rows = excluded.rows, message = excluded.message",
                row,
            )
