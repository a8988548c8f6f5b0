"""When Python looks for objects that only hold each other: not while dbt or Great Expectations make millions that live until their process ends.

It went through them again and again, and once more when the process ended and gave back all its memory anyway: a quarter of the processor
time of an hourly run on next to nothing (docs/decisions.md, D121).
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_ends_soon = False


def end_soon() -> None:
    """Say that this process does one thing and ends: what `uncollected` leaves is never looked through, and nothing is at the end."""
    global _ends_soon
    if not _ends_soon:
        _ends_soon = True
        # what is imported and little else: ten thousands of objects instead of hundreds between two looks
        gc.set_threshold(20_000, 20, 50)
        atexit.register(gc.freeze)


@contextmanager
def uncollected() -> Iterator[None]:
    """No search inside. In a process that goes on (a test, a server) the next one afterwards finds what is garbage by then."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _ends_soon:
            gc.freeze()
        if was_enabled:
            gc.enable()
