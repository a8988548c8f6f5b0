"""The errors that a user sees. Each has one line for the user: what is wrong, where, and what to do. Type and fields are for programs."""

from northstar.base.escaping import make_visible


class NorthstarError(Exception):
    """One line for the user: what is wrong, where, and what to do about it.

    The command line prints it without a traceback (``--debug`` shows the chain); Airflow fails the task with it. Text of a source that it
    cites is escaped, so that it cannot control a terminal.
    """

    def __init__(self, message: object = ""):
        super().__init__(make_visible(str(message)))


class PassingError(NorthstarError):
    """A failure that may pass by itself: the same step can succeed later. wait_seconds: how long to wait, where that is known."""

    def __init__(self, message: object = "", wait_seconds: float | None = None):
        super().__init__(message)
        self.wait_seconds = wait_seconds


class OutOfMemory(PassingError):
    """The machine has too little memory for this step."""

    def __init__(self) -> None:
        super().__init__("out of memory: nothing of this step was kept; give the process more memory and run again")


class OutOfDisk(PassingError):
    """A disk is full. place: which one, in words such as ` (the home's)`, or '' if that is not known."""

    def __init__(self, place: str = ""):
        super().__init__(f"the disk is full{place}: nothing of this step was kept; make room and run again")
        self.place = place


class FileRefused(NorthstarError):
    """A file that this process may not use. path: None if the system does not say which."""

    def __init__(self, path: str | None, reason: str, advice: str):
        super().__init__(f"cannot use {path or 'a file'}: {reason}; {advice}, or choose another home with --home")
        self.path = path


class WarehouseUnreachable(PassingError):
    """A failed connection as a role. role: one of northstar.warehouse.db.ROLES, or owner; is_login_refused: the server refused role or password."""

    def __init__(self, role: str, reason: str, is_login_refused: bool = False):
        super().__init__(f"cannot reach the warehouse as {role}: {reason}")
        self.role, self.is_login_refused = role, is_login_refused


class WarehouseLost(PassingError):
    """The connection to the warehouse was lost during the work."""


class TurnTaken(PassingError):
    """Another run or command has the turn to write. run_id: its number, or None if that is not known."""

    def __init__(self, run_id: int | None, message: str):
        super().__init__(message)
        self.run_id = run_id


class TurnLost(NorthstarError):
    """A run has lost the turn to another, or was ended. run_id: the number of the run that lost it."""

    def __init__(self, run_id: int):
        super().__init__(
            f"run {run_id} is no longer running: another run took its turn, or it was ended; start a new one"
        )
        self.run_id = run_id


class SourceDown(PassingError):
    """The system of a source gave no usable answer, however often it was asked. wait_seconds: how long it asked to be left alone."""


class SourceFailed(NorthstarError):
    """A source of a run could not be read or landed. source: its name."""

    def __init__(self, source: str, message: str):
        super().__init__(message)
        self.source = source


class SourceUnavailable(PassingError):
    """A source of a run could not be read or landed now, and may be soon. source: its name."""

    def __init__(self, source: str, message: str, wait_seconds: float | None):
        super().__init__(message, wait_seconds)
        self.source = source


class FileFailed(NorthstarError):
    """A file that cannot be read as what it should be. path: relative to its source. reason: the message without it."""

    def __init__(self, path: str, reason: object):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, str(reason)


class BuildFailed(NorthstarError):
    """A model or test of the build failed. node: its name."""

    def __init__(self, node: str, message: str):
        super().__init__(message)
        self.node = node


class BuildIncomplete(NorthstarError):
    """The build ended and did not build all nodes that it had to. missing: the dbt unique_ids of the others."""

    def __init__(self, missing: list[str], message: str):
        super().__init__(message)
        self.missing = missing


class CheckFailed(NorthstarError):
    """Checks of the audit failed, and stop the publication. checks: their names."""

    def __init__(self, checks: list[str], message: str):
        super().__init__(message)
        self.checks = checks
