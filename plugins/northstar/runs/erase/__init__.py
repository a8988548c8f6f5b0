"""Erasing a subject. erasure.py lists the states in their order."""
