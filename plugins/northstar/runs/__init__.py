"""Runs: all stages in their order, and the changes to landed rows that end in a run (backfill, erasure, replay)."""
