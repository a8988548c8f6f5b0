"""`northstar rollback`: put an earlier version back, in a turn of its own, and hold publishing if asked to."""

from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.publish.merge import rollback
from northstar.runs.hold import end_hold, hold
from northstar.runs.turns import command_turn


def put_back(
    settings: Settings, version: int | None, because: str | None, progress: Progress = print
) -> tuple[int, int]:
    """Put a version back (default: the one before); returns (the new version, the version that it repeats).

    because: the reason to hold publishing afterwards; None begins no hold. Raises NorthstarError as publish.merge.rollback does; then there
    is no hold either.
    """
    if because is not None:
        # the hold begins before the rollback, so that no run publishes in between
        progress(hold(settings, because))
    try:
        with command_turn(settings, "rollback") as number:
            return rollback(settings, version, number)
    except NorthstarError:
        if because is not None:
            end_hold(settings)
        raise
