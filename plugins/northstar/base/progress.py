"""What a command that takes a while says meanwhile."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime

# is given what is being done, a line at a time
Progress = Callable[[str], object]


def progress(text: str) -> None:
    """A line on standard error, with the time, so that standard output stays the result's."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)
