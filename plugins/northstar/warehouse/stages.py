"""A stage of a run at work: it keeps the run's turn, gives readers priority, and records how it ended."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from northstar.base.errors import NorthstarError, TurnLost
from northstar.base.settings import Settings
from northstar.warehouse import db, turn_lock
from northstar.warehouse.embedded.priority import job_niceness, lowered_priority
from northstar.warehouse.reuse import reuse_sessions
from northstar.warehouse.rows import Run, as_shape


@contextmanager
def run_stage(settings: Settings, run_id: int, stage: str) -> Iterator[Run]:
    """Keep the turn while a stage of a run works, and record how it ended; gives the run's row of audit.runs.

    Raises NorthstarError when another has the turn by now, or the run has ended.
    """
    with reuse_sessions(), turn_lock.hold_turn(settings, run_id) as connection:
        run = connection.execute(
            # keep a message of this stage: it may be from another of its tasks, or from an earlier try
            "update audit.runs set stage = %(stage)s, message = case when stage = %(stage)s then message end "
            "where run_id = %(run)s and state = 'running' returning *", {"stage": stage, "run": run_id},
        ).fetchone()  # fmt: skip
        if run is None:
            raise TurnLost(run_id)
        started = time.monotonic()
        try:
            with db.translate_driver_errors(settings), _lowered_priority(settings):
                yield as_shape(Run, run)
        except Exception as exc:
            _record_end(settings, run_id, stage, started, f"{stage}: {exc}")
            raise
        else:
            _record_end(settings, run_id, stage, started, None)


def _lowered_priority(settings: Settings) -> AbstractContextManager[None]:
    return lowered_priority(lambda: db.connect(settings, "transformer", autocommit=True), job_niceness(settings))


def _record_end(settings: Settings, run_id: int, stage: str, started: float, message: str | None) -> None:
    try:
        with db.connect(settings, "transformer", autocommit=True) as connection:
            # a stage may have several tasks, such as one for each source: its seconds are those of the longest
            connection.execute(
                "update audit.runs set message = case when %(stage)s = 'extract' then coalesce(%(message)s, message) else %(message)s end, stage_seconds = stage_seconds || jsonb_build_object("
                "%(stage)s::text, greatest((stage_seconds ->> %(stage)s)::numeric, %(seconds)s)) where run_id = %(run)s",
                {"message": message, "stage": stage, "seconds": round(time.monotonic() - started, 2), "run": run_id},
            )
    except NorthstarError:
        if message is None:
            raise
