"""Runs of the job in forked children of one process that has imported everything once, so that a kill costs what it kills.

A line of JSON on standard input starts a run ({"home", "mode", "as_of", "source"}); what it does comes back a line each on standard
output: its process id, its progress, and at last how it ended. The child leads a process group of its own, which is what gets killed.
"""

import json
import os
import signal
import sys
import traceback
from datetime import datetime


class InThisProcess:
    """The auditor's interface without a process of its own."""

    def __init__(self, settings):
        self.settings = settings

    def run_audit(self, run_id: int, progress=print) -> dict:
        from northstar.quality import run_audit

        return run_audit(self.settings, run_id, progress=progress)


def _run(order: dict, say) -> str:
    from northstar import job
    from northstar.errors import NorthstarError
    from northstar.settings import load_settings

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

    from northstar.quality import expectations  # noqa: F401

    say({"ready": True})
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            os.setsid()
            say({"process": os.getpid()})
            say({"error": _run(json.loads(line), say)})
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        say({"ended": status, "killed": status == -signal.SIGKILL})


if __name__ == "__main__":
    main()
