"""Stage 2, build: dbt makes `core` and the candidate marts from what has landed."""
