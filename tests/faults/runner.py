"""Runs of the job in forked children of one process that has imported everything once, so that a kill costs what it kills.

A line of JSON on standard input starts a run ({"home", "mode", "as_of", "source"}), or a command ({"home", "words"}, and "at", "delay",
"kind" for one that is to be killed); what it does comes back a line each on standard output: its process id, its progress, and at last
how it ended. The child leads a process group of its own, which is what gets killed.
"""

import contextlib
import io
import json
import os
import signal
import sys
import traceback
from datetime import datetime

# the one command that the command line has not
MAKE_RUN = ["make", "run"]


class InThisProcess:
    """The auditor's interface without a process of its own."""

    def __init__(self, settings):
        self.settings = settings

    def run_audit(self, run_id: int, progress=print) -> dict:
        from northstar.audit.run import run_audit

        return run_audit(self.settings, run_id, progress=progress)

    def stop(self) -> None:
        pass


class Drawn:
    """Made-up names and keys, in place of the module `secrets`: the same in every process."""

    def __init__(self):
        self._count = 0

    def token_hex(self, size: int) -> str:
        self._count += 1
        return f"{self._count:0{2 * size}x}"

    def token_urlsafe(self, size: int) -> str:
        return "another-key-of-the-tests"


def _command(order: dict, say) -> str:
    """A command of the command line; returns what it said where it failed."""
    from northstar.audit import worker as auditors
    from northstar.cli import main as cli
    from northstar.orchestration import up
    from northstar.runs import rotate
    from northstar.runs.erase import request
    from tests.faults.ticks import Ticks

    auditors.start_worker = InThisProcess
    # two homes are compared to the byte, so both draw the same lots
    request.secrets = rotate.secrets = Drawn()
    ticks, told = Ticks(order["home"], **order.get("strike", {})), io.StringIO()
    ticks.watch()
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            if order["words"] == MAKE_RUN:
                os.environ["NORTHSTAR_HOME"] = order["home"]
                status = up.main([])
            else:
                status = cli.main([*order["words"], "--home", order["home"]])
    except BaseException:
        return f"CRASHED {traceback.format_exc()}"
    # before a blow that was to come later
    say({"ticks": ticks.count, "programs": ticks.programs})
    return f"{told.getvalue()}" if status else ""


def _run(order: dict, say) -> str:
    from northstar.base.errors import NorthstarError
    from northstar.base.settings import load_settings
    from northstar.runs import job

    settings = load_settings(order["home"])
    try:
        job.run(
            settings, order["mode"], datetime.fromisoformat(order["as_of"]), order["source"],
            lambda text: say({"progress": text}), worker=InThisProcess(settings),
        )  # fmt: skip
    except NorthstarError as exc:
        return str(exc)
    except Exception:
        return f"CRASHED {traceback.format_exc()}"
    return ""


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(answer: dict) -> None:
        answers.write(json.dumps(answer) + "\n")

    import great_expectations  # noqa: F401
    from dbt.cli.main import dbtRunner  # noqa: F401

    import northstar.cli.main
    import northstar.operate.backup
    import northstar.orchestration.up
    import northstar.runs.rotate
    import northstar.runs.verify  # noqa: F401
    from northstar.audit import expectations  # noqa: F401

    say({"ready": True})
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            os.setsid()
            say({"process": os.getpid()})
            order = json.loads(line)
            say({"error": (_command if "words" in order else _run)(order, say)})
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        say({"ended": status, "killed": status == -signal.SIGKILL})


if __name__ == "__main__":
    main()
