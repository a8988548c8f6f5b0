"""What the machine lacks is told in a line."""

import errno

import pytest

from northstar.base.errors import NorthstarError, lacking
from northstar.warehouse import db


def caused_by(cause: BaseException) -> RuntimeError:
    error = RuntimeError("a library failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(("error", "told"), [
    (MemoryError(), "out of memory"),
    (RuntimeError("can't start new thread"), "out of memory"),
    (BaseException('The global thread pool has not been initialized.: ThreadPoolBuildError { kind: IOError(..) }'), "out of memory"),
    (caused_by(MemoryError()), "out of memory"),
    (ImportError("libcrypto.so.3: failed to map segment from shared object"), "out of memory"),
    (RuntimeError("IO: Error writing tuple field data: cannot allocate memory for output buffer"), "out of memory"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
    (OSError(errno.ENOSPC, "No space left on device"), "the disk is full (the home's, or the temp directory"),
    (caused_by(RuntimeError('could not extend file "base/1": No space left on device')), "the disk is full:"),
    (RuntimeError("something else"), None),
])  # fmt: skip
def test_what_the_machine_lacks_is_told(error, told):
    assert (lacking(error) or "").startswith(told or "") and bool(lacking(error)) is bool(told)


def test_a_server_that_answers_is_not_told_of_as_lost(warehouse):
    with (
        pytest.raises(NorthstarError, match="refused what it was asked: canceling statement due to statement timeout"),
        db.telling_of_loss(warehouse),
        db.connect(warehouse, "loader") as connection,
    ):
        connection.execute("set statement_timeout = 1")
        connection.execute("select pg_sleep(5)")
