"""Privacy: what counts as personal, keyed hashes and sealed values, erasing a subject, rotating the key."""
