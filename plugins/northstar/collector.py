"""When Python looks for objects that only hold each other: not while dbt or Great Expectations make millions that live until their process ends.

Looking through them again and again is a tenth of the processor time of an hourly run on next to nothing, and once more at the end of each process
half a second, for memory that the process gives back anyway.
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
