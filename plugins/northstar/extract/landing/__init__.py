"""Landing: source rows become typed, keyed, deduplicated rows in `staging`; what cannot becomes a row in quarantine."""
