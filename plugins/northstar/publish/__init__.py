"""Stage 4, publish: the audited candidate becomes a published version, in one transaction; an earlier version can be put back."""
