"""What is made of the stages: a run of all five in their order, and the changes to landed rows that end in one (backfill, erasure, replay)."""
