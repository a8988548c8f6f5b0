"""Stage 4, publish: the audited candidate becomes what readers see, in one transaction, and can be taken back."""
