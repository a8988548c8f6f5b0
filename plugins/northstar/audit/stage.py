"""Stage 3, `audit`, as the DAGs and the command line call it."""

from northstar.audit.run import Verdict, run_audit
from northstar.audit.worker import Worker
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.warehouse.stages import run_stage


def audit(settings: Settings, run_id: int, progress: Progress = print, worker: Worker | None = None) -> Verdict:
    """Run the audit at both boundaries; returns {'run': n, 'passed': n, 'warned': n}.

    worker: an auditor that was started earlier (northstar.audit.worker.start_worker); without one the audit runs in this process.
    Raises CheckFailed naming the first failed error-level check with its rows and numbers.
    """
    with run_stage(settings, run_id, "audit"):
        if worker is not None:
            return worker.run_audit(run_id, progress)
        return run_audit(settings, run_id, progress=progress)
