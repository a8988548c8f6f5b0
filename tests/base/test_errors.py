"""What the machine lacks is told in a line."""

import ast
import errno

import pytest

from northstar.base.errors import CheckFailed, FileFailed, NorthstarError, OutOfDisk, PassingError, TurnLost
from northstar.base.settings import PACKAGE
from northstar.base.third_parties import resource_error
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
    assert str(resource_error(error) or "").startswith(told or "") and (resource_error(error) is None) is (told is None)


def test_a_server_that_answers_is_not_told_of_as_lost(warehouse):
    with (
        pytest.raises(NorthstarError, match="refused a statement: canceling statement due to statement timeout"),
        db.translate_driver_errors(warehouse),
        db.connect(warehouse, "loader") as connection,
    ):
        connection.execute("set statement_timeout = 1")
        connection.execute("select pg_sleep(5)")


def test_a_deadlock_is_not_told_of_as_a_lost_connection_and_may_pass(warehouse):
    with (
        pytest.raises(
            PassingError, match="the warehouse undid a step because of another session: deadlock detected; run again"
        ),
        db.translate_driver_errors(warehouse),
        db.connect(warehouse, "loader") as connection,
    ):
        connection.execute("do $$ begin raise sqlstate '40P01' using message = 'deadlock detected'; end $$")


def _looks_for_words(code: str) -> list[int]:
    """The lines that look for words in the text of an error: `"x" in str(exc)`, `str(exc).startswith("x")`."""
    tree = ast.parse(code)
    errors = {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)}

    def is_text(part: ast.AST) -> bool:
        is_str = isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == "str"
        return is_str and isinstance(part.args[0], ast.Name) and part.args[0].id in errors

    return [
        node.lineno
        for node in ast.walk(tree)
        if (
            isinstance(node, ast.Compare)
            and isinstance(node.ops[0], ast.In | ast.NotIn)
            and is_text(node.comparators[0])
        )
        or (isinstance(node, ast.Attribute) and node.attr in WORDS and is_text(node.value))
    ]


WORDS = ("startswith", "endswith", "partition", "find", "index", "removeprefix")


@pytest.mark.parametrize("look", ['"x" in str(exc)', 'str(exc).startswith("x")'])
def test_what_looks_for_words_in_an_error_is_recognised(look):
    assert _looks_for_words(f"try:\n  f()\nexcept ValueError as exc:\n  if {look}:\n    g()") == [4]


def test_only_what_third_parties_say_is_looked_through_for_words():
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "third_parties.py"
        for line in _looks_for_words(path.read_text())
    ]
    assert not found, "errors are told apart by their types and fields (northstar.base.errors)"


def test_errors_have_fields_and_say_the_same_line():
    assert str(FileFailed("charges/1.csv", "cut short")) == "charges/1.csv: cut short"
    assert FileFailed("charges/1.csv", "cut short").path == "charges/1.csv"
    assert CheckFailed(["core.keys"], "no").checks == ["core.keys"] and TurnLost(7).run_id == 7
    assert str(OutOfDisk()) == "the disk is full: nothing of this step was kept; make room and run again"
