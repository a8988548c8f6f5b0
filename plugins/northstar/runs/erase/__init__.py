"""Erasing a subject; erasure.py has the states in their order."""
