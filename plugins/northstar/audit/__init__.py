"""The audit: Great Expectations at the two boundaries, landed rows and marts that are about to be published."""

from northstar.audit.run import run_audit
from northstar.audit.worker import Worker, start_worker

__all__ = ["Worker", "run_audit", "start_worker"]
