"""A whole run in one process: open it, extract, build, audit, publish, close it. The DAGs' tasks call the same functions one by one."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from northstar.audit import worker as auditors
from northstar.audit.stage import audit
from northstar.audit.worker import Worker
from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.build.stage import build
from northstar.extract.stage import extract, record_built_batch
from northstar.publish.stage import publish
from northstar.runs.lifecycle import close_afterwards, open_run
from northstar.runs.maintenance import maintain_after_run
from northstar.warehouse import db
from northstar.warehouse.reuse import reuse_sessions
from northstar.warehouse.setup import bootstrap
from northstar.warehouse.stages import run_stage

# Any: each stage returns a result of its own; the last one returns the version that it published
Stage = Callable[[Settings, int, Progress], Any]


@reuse_sessions()
def run(
    settings: Settings,
    mode: str,
    as_of: datetime,
    source_dir: str | None,
    progress: Progress = print,
    mapping: str | None = None,
    worker: Worker | None = None,
    extract: Stage = extract,
    restate: tuple[datetime, datetime] | None = None,
    wait: bool = False,
    approved_by: str | None = None,
) -> int:
    """Do one whole run in this process, as the DAGs do it; returns the published version.

    worker: a running auditor to use; None starts one, which loads while dbt builds. extract, restate: how a backfill lands its rows, and
    its range. wait: wait for a run that is under way instead of refusing. approved_by: who approves the publication whatever it restates.
    """
    with db.translate_driver_errors(settings):
        run_id = open_run(
            settings, mode, as_of, source_dir, mapping=mapping, restate=restate, wait=wait, progress=progress
        )
    with close_afterwards(settings, run_id), _running_auditor(settings, worker) as auditor:
        stages: dict[str, Stage] = {
            "extract": extract,
            "build": build,
            "audit": lambda settings, run_id, progress: audit(settings, run_id, progress, auditor),
            "publish": partial(publish, needs_approval=True, approved_by=approved_by),
        }
        for title, stage in stages.items():
            started = time.monotonic()
            progress(f"{title} ...")
            with db.translate_driver_errors(settings):
                version = stage(settings, run_id, progress)
            progress(f"{title} done in {time.monotonic() - started:.1f} s")
        if mode == "nightly":
            try:
                maintain_after_run(settings, run_id, progress)
            except NorthstarError as exc:
                # the failure is recorded in audit.maintenance, and readers have their version
                progress(f"published, but {exc}")
        published: int = version
        return published


@contextmanager
def _running_auditor(settings: Settings, worker: Worker | None = None) -> Iterator[Worker]:
    """The given auditor, or a new one that lives as long as the context."""
    if worker is not None:
        yield worker
        return
    new_auditor = auditors.start_worker(settings)
    try:
        yield new_auditor
    finally:
        new_auditor.stop()


@reuse_sessions()
def run_change(
    settings: Settings,
    trigger: str,
    change: Callable[[int], None],
    mode: str = "hourly",
    progress: Progress = print,
    worker: Worker | None = None,
    wait: bool = False,
    rebuilds: list[str] | None = None,
) -> int | None:
    """Do a run that reads no source: `change(run_id)` changes landed rows, then build, audit and publish follow at the published as_of.

    rebuilds: see open_run. Returns the published version; None when nothing was ever published: then `change` is all there is to do.
    """
    bootstrap(settings)
    with db.connect(settings, "transformer") as connection:
        last_run = connection.execute(
            "select as_of from audit.runs where published_version is not null order by published_version desc limit 1"
        ).fetchone()
    as_of = last_run["as_of"] if last_run else datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    run_id = open_run(
        settings, mode, as_of, trigger=trigger, wait=wait, is_own=True, rebuilds=rebuilds, progress=progress
    )
    with close_afterwards(settings, run_id):
        with run_stage(settings, run_id, "extract"):
            change(run_id)
            record_built_batch(settings, run_id)
        if last_run is None:
            return None
        with _running_auditor(settings, worker) as auditor:
            build(settings, run_id, progress)
            audit(settings, run_id, progress, auditor)
            return publish(settings, run_id, progress)
