"""Targets with the values that they judge."""

from northstar.use.answers.metrics import resolve_metric
from northstar.use.answers.reading import Reading
from northstar.use.answers.refusals import Refused
from northstar.use.answers.require import require_application
from northstar.use.answers.shapes import Target, TargetList
from northstar.use.words import ZONES, Chance, describe_chance
from northstar.warehouse.rows import Row


def list_targets(reading: Reading, metric: str = "", application: str = "all", zone: str = "") -> TargetList:
    """The judged targets of a metric, an application, a zone (green, yellow, red, unknown), or all of them. Raises Refused."""
    reading.require("metrics")
    if zone and zone not in ZONES:
        raise Refused("bad_request", f"there is no zone {zone[:40]!r}; there are {', '.join(ZONES)}", list(ZONES))
    application = require_application(reading, application)
    chosen = resolve_metric(reading, metric)["metric_id"] if metric else ""
    rows = reading.rows(
        "select s.*, m.unit, m.definition from metric_status as s join metrics as m using (metric_id) where %(application)s in ('all', s.application) "
        "and %(metric)s in ('', s.metric_id) and %(zone)s in ('', s.zone) order by s.metric_id, s.application, s.target_id",
        application=application, metric=chosen, zone=zone,
    )  # fmt: skip
    # forecasts are of the newest version only
    chances: dict[str, Chance] = {}
    if reading.is_newest:
        for later in sorted({row["metric_id"] for row in rows if row["due_at"] is not None}):
            chances |= reading.expectations(later)
    return TargetList(reading.provenance, [as_target(row, chances.get(row["target_id"])) for row in rows])


def as_target(row: Row, chance: Chance | None) -> Target:
    """A row of metric_status, with its metric's definition and unit, as answers have it."""
    return Target(
        row["target_id"], row["metric_id"], row["application"], row["segment"], row["segment_value"], row["grain"], row["period_start"], row["value"],
        row["operator"], row["target"], row["warning"], row["critical"], row["zone"], ZONES[row["zone"]], row["trend"], row["due_at"], bool(row["is_due"]),
        describe_chance(chance), row["action"], row["definition"], row["unit"],
    )  # fmt: skip
