"""Which published values changed later, and what has been published since a version."""

from northstar.use.answers.metrics import resolve_metric
from northstar.use.answers.reading import Reading
from northstar.use.answers.refusals import Refused
from northstar.use.answers.require import require_application, require_limit
from northstar.use.answers.shapes import ChangeList, RestatedMetric, Restatement, RestatementList, VersionChange
from northstar.use.marts import Metric
from northstar.use.words import restatement_reasons
from northstar.warehouse.rows import Row

RESTATEMENTS, MOST_RESTATEMENTS = 200, 5_000
# the versions that one answer lists
VERSIONS = 200


def list_restatements(
    reading: Reading,
    metric: str = "",
    application: str = "",
    since_version: int | None = None,
    limit: int = RESTATEMENTS,
) -> RestatementList:
    """Published values that a later version changed, newest first. since_version: only those that later versions than that one changed. Raises Refused."""
    reading.require("metrics")
    require_limit(limit, MOST_RESTATEMENTS)
    if application:
        require_application(reading, application)
    rows = reading.rows(
        "select r.*, o.rules ->> 'reporting_currency' as old_currency, n.rules ->> 'reporting_currency' as new_currency from metric_restatements as r "
        "left join certificates as o on r.old_version = o.published_version left join certificates as n on r.new_version = n.published_version "
        "where (%(metric)s = '' or metric_id = %(metric)s) and (%(application)s = '' or application = %(application)s) and new_version > %(since)s "
        "order by new_version desc, metric_id, grain, period_start desc, application, segment, segment_value limit %(most)s",
        metric=resolve_metric(reading, metric)["metric_id"] if metric else "", application=application, since=since_version or 0, most=limit + 1,
    )  # fmt: skip
    catalogue = reading.catalogue()
    restatements = [as_restatement(row, catalogue.get(row["metric_id"])) for row in rows[:limit]]
    return RestatementList(reading.provenance, len(rows) > limit, restatements)


def what_changed(reading: Reading, since_version: int | None = None) -> ChangeList:
    """The versions after one (None: the one before the newest), and how many values of which metrics they restated, and why. Raises Refused."""
    reading.require("metrics")
    newest = reading.shown.version
    since = newest - 1 if since_version is None else since_version
    if not 0 <= since <= newest:
        raise Refused("not_published", f"version {since} was never published; the newest is {newest}")
    versions = reading.rows(
        "select published_version, published_at, as_of, mode, rows_changed, restores_version from publications where published_version > %(since)s "
        "order by published_version desc limit %(most)s",
        since=since, most=VERSIONS + 1,
    )  # fmt: skip
    restated = reading.rows(
        "select metric_id, reason, sum(coalesce(periods, 1))::bigint as values from metric_restatements where new_version > %(since)s "
        "group by 1, 2 order by 3 desc, 1, 2", since=since,
    )  # fmt: skip
    return ChangeList(
        reading.provenance, since, len(versions) > VERSIONS,
        [
            VersionChange(row["published_version"], row["published_at"], row["as_of"], row["mode"], row["rows_changed"], row["restores_version"])
            for row in versions[:VERSIONS]
        ],
        [RestatedMetric(row["metric_id"], row["reason"].replace("_", " "), row["values"]) for row in restated],
    )  # fmt: skip


def as_restatement(row: Row, entry: Metric | None) -> Restatement:
    """A row of metric_restatements with the currencies of its versions, as answers have it. entry: None for a metric that is gone."""
    unit = entry["unit"] if entry else ""
    old_currency, new_currency = (row["old_currency"], row["new_currency"]) if unit == "money" else (None, None)
    return Restatement(
        row["metric_id"], entry["definition"] if entry else "", unit, row["grain"], row["period_start"], row["application"], row["segment"],
        row["segment_value"], row["old_value"], row["new_value"], old_currency, new_currency, row["old_version"], row["new_version"], restatement_reasons(row), row["periods"],
    )  # fmt: skip
