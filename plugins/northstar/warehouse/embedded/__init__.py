"""The embedded Postgres of a home. Nothing outside of this package knows how it is run."""

from northstar.warehouse.embedded.server import ensure_running, is_running, ran_out_of_disk, stop

__all__ = ["ensure_running", "is_running", "ran_out_of_disk", "stop"]
