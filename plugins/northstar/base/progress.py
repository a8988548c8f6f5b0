"""Progress messages of commands that take a while."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime

# a function that takes a message about what is being done, one line at a time
Progress = Callable[[str], object]


def progress(text: str) -> None:
    """Print a line with the time to standard error; standard output is for results only."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


def no_progress(text: str) -> None:
    """Say nothing."""
