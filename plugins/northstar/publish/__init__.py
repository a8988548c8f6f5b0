"""Publishing: the audited candidate becomes what readers see, in one transaction, and can be taken back."""

from northstar.publish.merge import publish_candidate, rollback

__all__ = ["publish_candidate", "rollback"]
