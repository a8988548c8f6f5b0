"""The demonstration company: source files of a made-up business, with all 38 entities, and the same bytes for the same seed."""
