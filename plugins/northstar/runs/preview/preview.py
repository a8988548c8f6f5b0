"""What the working tree would change, from its first difference in the SQL to the rows behind the largest differences.

build_beside        the models that are compiled to other SQL, and what is made from them
compare_values      the metric values that differ
compare_marts       the rows and columns of the other marts that differ
compare_zones       targets in another zone, and alerts that would open or close
find_readers        who reads what differs
find_rows           the accounts or rows behind the largest differences
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC
from decimal import Decimal

from pydantic import Field

from northstar.base.clock import show_utc
from northstar.base.config_files import Section, read_config_file
from northstar.base.errors import NorthstarError, PassingError, WarehouseLost
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.runs.preview.scratch import Scratch, build_beside
from northstar.runs.preview.values import (
    ChangedMetric,
    ChangedValue,
    MartDifference,
    compare_alerts,
    compare_marts,
    compare_values,
    compare_zones,
    largest_and_newest,
    unknown_in_history,
)
from northstar.use.explain.explanation import Library, contributions_by_id
from northstar.use.explain.readers import DirectReader
from northstar.use.explain.rows import Cell
from northstar.use.lineage.readers import find_readers, read_catalogue
from northstar.warehouse import db, turn_lock
from northstar.warehouse.published.past import SETTING as PAST_SETTING
from northstar.warehouse.rows import Connection, Row, fetch_one

EXPLAINED = 5
ROWS = 5


class Limits(Section):
    """preview.yml of the home: how much a change may differ before `northstar preview` says that it is too much. Nothing is limited by default."""

    max_values: int | None = None
    max_metrics: int | None = None
    max_zones: int | None = None
    max_alerts: int | None = None
    # metrics of which no value of a complete period may change
    unchanged_metrics: list[str] = Field([])


@dataclass
class RowsBehind:
    """The accounts or rows that make a value differ: what each added before and would add now. note: why there are none to show."""

    value: ChangedValue
    side: str
    id_name: str
    count: int
    rows: list[Row]
    note: str | None = None


@dataclass
class ChangedColumn:
    """A mart's column that differs, or ROWS for rows that are added or removed. rows: in how many; readers: {kind: names} of those who read it."""

    mart: str
    column: str
    rows: int | None
    readers: dict[str, list[str]]


@dataclass
class MetricDifference:
    """A metric that differs, with the values that differ most and the newest."""

    counts: ChangedMetric
    largest: list[ChangedValue]
    newest: list[ChangedValue]


@dataclass
class Preview:
    """What the working tree would change beside a published version. exceeded: the limits that it would go beyond; cannot_tell: what the preview
    cannot know of an older version, None beside the newest."""

    version: int
    as_of: str
    changed: dict[str, list[str]]
    built: list[str]
    metrics: list[MetricDifference] = field(default_factory=list)
    marts: list[MartDifference] = field(default_factory=list)
    columns: list[ChangedColumn] = field(default_factory=list)
    zones: list[Row] = field(default_factory=list)
    alerts: list[Row] = field(default_factory=list)
    readers: dict[str, list[str]] = field(default_factory=dict)
    behind: list[RowsBehind] = field(default_factory=list)
    exceeded: list[str] = field(default_factory=list)
    cannot_tell: str | None = None

    @property
    def is_different(self) -> bool:
        """Whether anything that readers see would differ."""
        return bool(self.metrics or self.marts or self.zones or self.alerts)

    @property
    def status(self) -> int:
        """The exit status: 0 nothing would change, 2 something would, 3 more than the limits allow."""
        return 3 if self.exceeded else 2 if self.is_different else 0

    def as_dict(self) -> Row:
        """The preview as a dict of plain values."""
        return asdict(self) | {"is_different": self.is_different}


def preview(
    settings: Settings,
    select: Iterable[str] = (),
    against: int | None = None,
    limits: Limits | None = None,
    progress: Progress = print,
) -> Preview:
    """Build what the working tree changes and compare it with the published version.

    against: an older version to compare with, as history keeps it. limits: those of the home's preview.yml by
    default. It is made once more where the server undid a step because of another session. Raises NorthstarError as `build_beside` does.
    """
    select = tuple(select)
    try:
        return _preview(settings, select, against, limits, progress)
    except WarehouseLost:
        raise
    except PassingError:
        progress("another session was in the way; once more ...")
        return _preview(settings, select, against, limits, progress)


def _preview(
    settings: Settings, select: tuple[str, ...], against: int | None, limits: Limits | None, progress: Progress
) -> Preview:
    with db.translate_driver_errors(settings), build_beside(settings, against, select, progress) as scratch:
        result = Preview(
            scratch.base["published_version"], scratch.base["as_of"].astimezone(UTC).isoformat(),
            {name: sorted(causes) for name, causes in sorted(scratch.changed.items())}, sorted(scratch.built),
        )  # fmt: skip
        if scratch.built or scratch.removed or scratch.is_against_older:
            progress("comparing ...")
            with db.connect(settings, "transformer", autocommit=True) as connection:
                _compare(connection, scratch, result)
    result.exceeded = _exceeded(result, limits or read_limits(settings))
    return result


def read_limits(settings: Settings) -> Limits:
    """The limits of the home's preview.yml."""
    return read_config_file(settings.config / "preview.yml", Limits)


def _compare(connection: Connection, scratch: Scratch, result: Preview) -> None:
    # a killed preview leaves no statement behind
    connection.execute(turn_lock.END_WITH_CLIENT.format(is_local="false"))
    connection.execute("set work_mem = '128MB'; set enable_nestloop = off")
    if scratch.is_against_older:
        connection.execute("select set_config(%s, %s, false)", [PAST_SETTING, str(result.version)])
        result.cannot_tell = _unknown(scratch, unknown_in_history(connection, scratch))
    for counts in compare_values(connection, scratch):
        largest, newest = largest_and_newest(connection, counts["metric_id"])
        result.metrics.append(MetricDifference(counts, largest, newest))
    connection.execute("reset enable_nestloop")
    result.marts = compare_marts(connection, scratch)
    result.zones = compare_zones(connection, scratch)
    result.alerts = compare_alerts(connection, scratch)
    catalogue = read_catalogue(scratch.project)
    metrics = [m.counts["metric_id"] for m in result.metrics]
    result.readers = find_readers(
        scratch.new, catalogue, metrics, {m.mart: list(m.differing_columns) for m in result.marts}
    )
    result.columns = [
        ChangedColumn(mart.mart, column, rows, find_readers(scratch.new, catalogue, [], {mart.mart: [column]}))
        for mart in result.marts
        for column, rows in mart.differing_columns.items()
    ]
    for metric in [] if scratch.is_against_older else result.metrics[:EXPLAINED]:
        result.behind += find_rows(connection, scratch, metric.largest[0])


def _unknown(scratch: Scratch, unknown: list[str]) -> str:
    newest = scratch.version["published_version"]
    told = (
        f"version {scratch.base['published_version']} is of {show_utc(scratch.base['as_of'])} and compared with what version {newest} would be: "
        "what landed or changed between the two differs too, and core no longer has the rows behind the differences"
    )
    if scratch.base_manifest is None:
        return f"{told}; its manifest is not kept, so a column that was added since shows as one that was empty"
    return told + (f"; history has nothing of {', '.join(unknown)}" if unknown else "")


def find_rows(connection: Connection, scratch: Scratch, value: ChangedValue) -> list[RowsBehind]:
    """The accounts or rows that add something else to a value's numerator or denominator than before."""
    cell = Cell(value["grain"], value["period_start"], value["application"], value["segment"], value["segment_value"])
    as_of = scratch.version["as_of"]
    period = "(select from {}.dim_periods where grain = %(grain)s and period_start = %(period_start)s)"
    is_in_both = (
        f"select exists {period.format('marts')} and exists {period.format(scratch.schema_of('dim_periods'))} as yes"
    )
    if not fetch_one(connection.execute(is_in_both, dict(value)))["yes"]:
        return [RowsBehind(value, "value", "", 0, [], "since only one of the two versions has this period")]
    old = Library(dict(scratch.old.compiled), as_of)
    new = Library({**scratch.old.compiled, **scratch.compiled}, as_of)
    reader = DirectReader(connection)
    found = []
    for is_denominator in (False, True):
        side = "denominator" if is_denominator else "numerator"
        try:
            old_id, before = _contributions(reader, old, value["metric_id"], cell, is_denominator)
            new_id, now = _contributions(reader, new, value["metric_id"], cell, is_denominator)
        except NorthstarError as exc:
            found.append(RowsBehind(value, side, "", 0, [], str(exc)))
            continue
        differences = {
            name: (before.get(name, Decimal(0)), now.get(name, Decimal(0)))
            for name in before.keys() | now.keys()
            if before.get(name, Decimal(0)) != now.get(name, Decimal(0))
        }
        largest = sorted(differences.items(), key=lambda item: (-abs(item[1][1] - item[1][0]), item[0]))[:ROWS]
        if differences:
            rows: list[Row] = [{"id": name, "before": pair[0], "now": pair[1]} for name, pair in largest]
            found.append(RowsBehind(value, side, new_id or old_id or "row", len(differences), rows))
    return found


def _contributions(
    reader: DirectReader, library: Library, metric_id: str, cell: Cell, is_denominator: bool
) -> tuple[str, dict[str, Decimal]]:
    """`contributions_by_id`; nothing where a metric is new, or is gone."""
    if not library.has_metric(metric_id):
        return "", {}
    return contributions_by_id(reader, library, metric_id, cell, is_denominator)


def _exceeded(result: Preview, limits: Limits) -> list[str]:
    counts = {
        "max_values": sum(m.counts["values"] for m in result.metrics),
        "max_metrics": len(result.metrics),
        "max_zones": len(result.zones),
        "max_alerts": len(result.alerts),
    }
    exceeded = [
        f"{name}: {count:,}, the limit is {limit:,}"
        for name, count in counts.items()
        if (limit := getattr(limits, name)) is not None and count > limit
    ]
    exceeded += [
        f"unchanged_metrics: {m.counts['metric_id']} would change in {m.counts['complete']:,} complete values"
        for m in result.metrics
        if m.counts["metric_id"] in limits.unchanged_metrics and m.counts["complete"]
    ]
    return exceeded
