"""Reports: what the marts say of a day, week, month or quarter, for people who read mail. `contents.yml` says what is in each."""

from northstar.use.reports.make import Report, make_report
from northstar.use.reports.store import keep, kept

__all__ = ["Report", "keep", "kept", "make_report"]
