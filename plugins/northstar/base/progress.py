"""What a command that takes a while says meanwhile."""

import sys
from datetime import UTC, datetime


def progress(text: str) -> None:
    """A line on standard error, with the time, so that standard output stays the result's."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)
