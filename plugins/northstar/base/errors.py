"""The one error a user sees, and what the machine has too little of."""

import errno
import os
import pwd
import tempfile
from contextlib import suppress

from northstar.base.escaping import visible

# what has no memory for a thread's stack (in Python, in Rust), for the code of a library, for a buffer
STARVED = ("can't start new thread", "ThreadPoolBuildError", "failed to map segment", "allocate memory")


class NorthstarError(Exception):
    """One line for the user: what is wrong, where, and what to do about it.

    The command line prints it without a traceback (``--debug`` shows the chain); Airflow fails the task with it. What it cites of
    a source cannot command whoever's terminal shows it.
    """

    def __init__(self, message: object = ""):
        super().__init__(visible(str(message)))


def lacking(exc: BaseException) -> str | None:
    """What the machine lacks, where an error (or what caused it) says that it is out of memory or of disk; else None."""
    while exc is not None:
        text = str(exc)
        if isinstance(exc, MemoryError) or any(words in text for words in STARVED):
            return "out of memory: nothing of this step was kept; give the process more memory and run again"
        if getattr(exc, "errno", None) == errno.ENOSPC or "No space left" in text or "could not extend file" in text:
            place = f" (the home's, or the temp directory {tempfile.gettempdir()})" if isinstance(exc, OSError) else ""
            return full_disk(place)
        exc = exc.__cause__ or exc.__context__
    return None


def refused(exc: BaseException) -> str | None:
    """Which file this process may not use, and what to do, where an error (or what caused it) says that; else None."""
    while exc is not None:
        number = getattr(exc, "errno", None)
        if isinstance(exc, OSError) and number in (errno.EACCES, errno.EPERM, errno.EROFS):
            place = exc.filename or "a file"
            do = (
                "mount it for writing"
                if number == errno.EROFS
                else f"run as the user it belongs to{_owner(exc.filename)}"
            )
            return f"cannot use {place}: {exc.strerror}; {do}, or choose another home with --home"
        exc = exc.__cause__ or exc.__context__
    return None


def _owner(path: str | None) -> str:
    """Who owns a file, or the nearest directory above it that can be looked at, in brackets."""
    while path:
        with suppress(OSError, KeyError):
            return f" ({pwd.getpwuid(os.stat(path).st_uid).pw_name})"
        path = os.path.dirname(path) if path != os.path.dirname(path) else None
    return ""


def full_disk(place: str = "") -> str:
    """What a full disk is told as."""
    return f"the disk is full{place}: nothing of this step was kept; make room and run again"
