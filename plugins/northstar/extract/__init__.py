"""Stage 1, extract: read what is new in the sources and land it in `staging`; what cannot land goes to quarantine."""
