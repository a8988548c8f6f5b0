"""The demonstration company: source files of a made-up business, all 36 entities, the same bytes for the same seed."""
