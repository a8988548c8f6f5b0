"""The auditor: a process of its own that imports Great Expectations (6 to 8 s) while dbt still builds."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from northstar.base.collector import end_soon, uncollected
from northstar.base.errors import CheckFailed, NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings, load_settings
from northstar.warehouse import db
from northstar.warehouse.embedded.priority import job_niceness, lower_priority

if TYPE_CHECKING:
    from northstar.audit.run import Verdict


class Worker:
    """A started auditor; `run_audit` hands it a run, `stop` ends it."""

    def __init__(self, settings: Settings):
        with open(settings.logs / "auditor.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "northstar.audit.worker", str(settings.home)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        if self._process.stdin is None or self._process.stdout is None:
            raise NorthstarError("the auditor was started without pipes")
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def run_audit(self, run_id: int, progress: Progress = print) -> Verdict:
        """As `northstar.audit.run_audit`, in the worker."""
        try:
            self._requests.write(f"{run_id}\n")
            self._requests.flush()
        except BrokenPipeError as exc:
            raise NorthstarError("the auditor ended before its work; see auditor.log in the home's logs") from exc
        for line in self._answers:
            answer = json.loads(line)
            if "progress" in answer:
                progress(answer["progress"])
            elif "error" in answer:
                raise (
                    CheckFailed(answer["checks"], answer["error"])
                    if answer["checks"]
                    else NorthstarError(answer["error"])
                )
            else:
                verdict: Verdict = answer
                return verdict
        raise NorthstarError("the auditor ended during its work; see auditor.log in the home's logs")

    def stop(self) -> None:
        """End the worker; safe to call twice."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        self._answers.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start_worker(settings: Settings) -> Worker:
    """Start an auditor for `settings`."""
    return Worker(settings)


def _serve(home: str) -> None:
    from northstar.audit.run import connect_warehouse, run_audit

    end_soon()
    answers = sys.stdout
    sys.stdout = sys.stderr
    settings = load_settings(home)
    # lower its priority like that of the build: otherwise the auditor, whose result is not needed yet, takes processor time from the build
    lower_priority(job_niceness(settings))
    with uncollected():
        connect_warehouse(settings)

    def send(answer: Mapping[str, object]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    for line in sys.stdin:
        try:
            with db.translate_driver_errors(settings):
                send(run_audit(settings, int(line), progress=lambda text: send({"progress": text})))
        except NorthstarError as exc:
            send({"error": str(exc), "checks": getattr(exc, "checks", [])})


if __name__ == "__main__":
    _serve(sys.argv[1])
