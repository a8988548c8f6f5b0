"""Limits of so many in a minute, for each name."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

MINUTE = 60.0


class Allowance:
    """A limit of so many in a minute for each name, such as an address; thread-safe. The oldest names are forgotten beyond 1,000."""

    NAMES = 1_000

    def __init__(self, count: int, clock: Callable[[], float] = time.monotonic):
        self.count, self.clock = count, clock
        self._taken: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def is_left(self, name: str) -> bool:
        """Whether one more is allowed now."""
        with self._lock:
            return len(self._recent(name)) < self.count

    def take(self, name: str, count: int | None = None) -> bool:
        """Use one up; false where none is left. count: that name's own limit."""
        with self._lock:
            recent = self._recent(name)
            if len(recent) >= (self.count if count is None else count):
                return False
            recent.append(self.clock())
            self._taken[name] = recent
            self._taken.move_to_end(name)
            while len(self._taken) > self.NAMES:
                self._taken.popitem(last=False)
            return True

    def _recent(self, name: str) -> deque[float]:
        """When the name was used in the last minute, oldest first. What is older is forgotten, each once: a name may be used thousands of times."""
        taken, now = self._taken.get(name, deque()), self.clock()
        while taken and now - taken[0] >= MINUTE:
            taken.popleft()
        return taken
