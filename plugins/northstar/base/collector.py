"""Python's garbage collector, switched off while dbt or Great Expectations make millions of objects that live until their process ends.

The collector searched these objects again and again, and once more when the process ended and freed all its memory anyway. That took a quarter
of the processor time of an hourly run with almost no changes (docs/decisions.md, D121).
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_ends_soon = False


def end_soon() -> None:
    """Declare that this process does one thing and ends: objects made under `uncollected` are never searched, and nothing is at the end."""
    global _ends_soon
    if not _ends_soon:
        _ends_soon = True
        # such a process mostly imports: collect after tens of thousands of new objects instead of hundreds
        gc.set_threshold(20_000, 20, 50)
        atexit.register(gc.freeze)


@contextmanager
def uncollected() -> Iterator[None]:
    """Switch the collector off inside. In a process that goes on (a test, a server) the next collection afterwards finds the garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _ends_soon:
            gc.freeze()
        if was_enabled:
            gc.enable()
