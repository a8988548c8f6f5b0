"""The embedded Postgres of a home, and all that is known about it."""

from northstar.warehouse.embedded.server import ensure_running, is_running, ran_out_of_disk, stop

__all__ = ["ensure_running", "is_running", "ran_out_of_disk", "stop"]
