"""The meaning of other programs' errors. This is the only place that searches their messages, because they offer no other way."""

import errno
import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import suppress

from northstar.base.errors import FileRefused, OutOfDisk, OutOfMemory

# messages: no memory for a thread's stack (in Python, in Rust), for the code of a library, for a buffer
OUT_OF_MEMORY_MESSAGES = ("can't start new thread", "ThreadPoolBuildError", "failed to map segment", "allocate memory")
DISK_FULL_MESSAGES = ("No space left", "could not extend file")
# of a Postgres that is starting, or recovering from a crash
STARTING_MESSAGES = ("in recovery mode", "is starting up", "not yet accepting connections")
# of connections to an embedded Postgres that just crashed, before its lock file is gone: the next try finds it recovered, or starts it
CRASHED_MESSAGES = ("server closed the connection unexpectedly", "Connection refused", "Connection reset")
# of a pooler that is not configured to pass a session's options on
OPTIONS_REFUSED_MESSAGE = "unsupported startup parameter"
# of Postgres, for several statements where only one is allowed
SEVERAL_STATEMENTS_MESSAGE = "cannot insert multiple commands"
# of Arrow, for a csv in which nothing follows the header, not even the end of its line
NO_ROWS_MESSAGE = "Empty CSV file"


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _mentions(exc: BaseException, *words: str) -> bool:
    text = str(exc)
    return any(word in text for word in words)


def resource_error(exc: BaseException) -> OutOfMemory | OutOfDisk | None:
    """OutOfMemory or OutOfDisk, if an error (or a cause of it) says so; else None."""
    for cause in _chain(exc):
        if isinstance(cause, MemoryError) or _mentions(cause, *OUT_OF_MEMORY_MESSAGES):
            return OutOfMemory()
        if getattr(cause, "errno", None) == errno.ENOSPC or _mentions(cause, *DISK_FULL_MESSAGES):
            is_here = isinstance(cause, OSError)
            return OutOfDisk(f" (the home's, or the temp directory {tempfile.gettempdir()})" if is_here else "")
    return None


def is_full_disk(message: str) -> bool:
    """Whether the message of a dbt node, which is all that dbt passes on of an error, says that a disk is full."""
    return any(words in message for words in DISK_FULL_MESSAGES)


def file_error(exc: BaseException) -> FileRefused | None:
    """FileRefused with the file and what to do, if an error (or a cause of it) says that this process may not use a file; else None."""
    for cause in _chain(exc):
        if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = (
                "mount it for writing"
                if cause.errno == errno.EROFS
                else f"run as the user it belongs to{_owner(cause.filename)}"
            )
            return FileRefused(cause.filename, cause.strerror or "it may not be used", advice)
    return None


def _owner(path: str | None) -> str:
    """The owner of a file, or of the nearest directory above it that can be inspected, in brackets."""
    while path:
        with suppress(OSError, KeyError):
            return f" ({pwd.getpwuid(os.stat(path).st_uid).pw_name})"
        path = os.path.dirname(path) if path != os.path.dirname(path) else None
    return ""


def is_starting_up(exc: BaseException, is_awaited: bool) -> bool:
    """Whether a Postgres that refused a connection will soon accept one. is_awaited: count also an address at which nobody answers."""
    return _mentions(exc, *STARTING_MESSAGES, *(CRASHED_MESSAGES if is_awaited else ()))


def is_login_refused(exc: BaseException) -> bool:
    """Whether Postgres refused the role or its password; a failed connection has no code for that."""
    return _mentions(exc, "authentication failed")


def is_database_missing(exc: BaseException, database: str) -> bool:
    """Whether Postgres answered that it has no such database."""
    return _mentions(exc, f'database "{database}" does not exist')


def are_options_refused(exc: BaseException) -> bool:
    """Whether a pooler refused the options of a session."""
    return _mentions(exc, OPTIONS_REFUSED_MESSAGE)


def are_several_statements_refused(exc: BaseException) -> bool:
    """Whether Postgres refused several statements at once."""
    return _mentions(exc, SEVERAL_STATEMENTS_MESSAGE)


def is_connection_lost(exc: BaseException) -> bool:
    """Whether ADBC's driver for Postgres, which has one error for everything, lost its connection."""
    return _mentions(exc, "connection", "Connection") and _mentions(exc, "closed", "lost", "terminat")


def explain_unreadable(exc: BaseException, encoding: str, max_line_bytes: int) -> str:
    """Why Arrow could not read a file, and what to do, in one line. encoding: with which it was read; max_line_bytes: bytes that a line may have."""
    if _mentions(exc, "straddling"):
        return f"a line is longer than {max_line_bytes >> 20} MB, or a quote is never closed; repair the file"
    if _mentions(exc, "UTF8"):
        return f"text that is not {encoding}; deliver it as UTF-8, or name its encoding in a mapping"
    if isinstance(exc, IsADirectoryError):
        return "a directory where a file should be; remove or rename it"
    if _mentions(exc, "Parquet magic bytes", "not a parquet", "Not a parquet", "not a Parquet"):
        return "not a parquet file, or cut short; deliver it again"
    return " ".join(str(exc).replace("\x00", " ").split())[:200] or type(exc).__name__


def has_no_rows(exc: BaseException) -> bool:
    """Whether Arrow says that a csv has no rows after its header."""
    return _mentions(exc, NO_ROWS_MESSAGE)
