"""Publishing: the audited candidate becomes what readers see, in one transaction, and can be taken back."""

from northstar.publish.merge import publish_candidate, rollback
from northstar.runs.verify import erased_since, verify

__all__ = ["erased_since", "publish_candidate", "rollback", "verify"]
