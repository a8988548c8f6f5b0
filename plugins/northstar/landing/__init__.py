"""Landing: source files become typed, keyed, deduplicated rows in `staging`; what cannot becomes a row in quarantine."""

from northstar.landing.directory import EntityResult, land_directory

__all__ = ["EntityResult", "land_directory"]
