"""Landing: source rows become typed, keyed, deduplicated rows in `staging`; what cannot becomes a row in quarantine."""

from northstar.extract.landing.directory import EntityResult, land_directory
from northstar.extract.landing.source import SourceResult, land_source

__all__ = ["EntityResult", "SourceResult", "land_directory", "land_source"]
