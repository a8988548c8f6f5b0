"""How fresh and how whole the newest version is."""

from datetime import UTC, datetime

from northstar.use.answers.reading import Reading
from northstar.use.answers.shapes import Alert, Status
from northstar.use.why.background import certificate_of
from northstar.use.words import what_to_land


def get_status(reading: Reading) -> Status:
    """The version, its checks, what is late, the open alerts, and which metrics are not measured anywhere, with what has to be landed for them.

    Alerts and broken promises are of now: an earlier version has none.
    """
    reading.require("metrics")
    certificate = certificate_of(reading)
    alerts = [
        Alert(
            row["alert"], row["severity"], row["metric_id"], row["application"], row["says"], row["since"], row["contributes"] or "", row["action"]
        )
        for row in (reading.open_alerts("all") if reading.is_newest else [])
    ]  # fmt: skip
    return Status(
        reading.provenance, len(reading.catalogue()), reading.applications(),
        {metric: what_to_land(lacking) for metric, lacking in reading.lacking("all").items()}, certificate["checks"], certificate["failed"],
        reading.broken_promises(datetime.now(UTC)) if reading.is_newest else [], alerts,
    )  # fmt: skip
