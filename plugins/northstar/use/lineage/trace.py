"""What a column or metric is made of, down to the landed columns, and what is made of it, up to those who read it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from northstar.base.config_files import nearest_name
from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.build.lineage import METRIC, NOTHING, NUMBERS, ROWS, Column, Lineage, Origin
from northstar.build.manifest import Manifest
from northstar.contract import entities
from northstar.use.lineage.published import PublishedLineage, published_lineage
from northstar.use.lineage.readers import CatalogueRow, alerts_on_landed, find_readers
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, fetch_all_as

LANDED = "staging"


@dataclass
class Step:
    """A column on the way. rows: what chooses its rows, or whose rows it chooses. state: `again` if it stands above with its steps, `deeper` where the depth ends."""

    name: Origin
    steps: list["Step"] = field(default_factory=list)
    rows: list[Origin] = field(default_factory=list)
    state: str = ""


@dataclass
class Upstream:
    """What a column is made of. values: the landed columns that it is computed from; rows: the other landed columns that choose the rows on the way."""

    tree: Step
    values: list[Origin]
    rows: list[Origin]
    models: list[str]


@dataclass
class Readers:
    """What is made of a column: marts' columns and metrics, and {kind: names} of who reads those."""

    metrics: list[str]
    marts: dict[str, list[str]]
    by_kind: dict[str, list[str]]


@dataclass
class Downstream:
    """What a column goes into. values: what is computed from it; rows: what besides is computed from rows that it chooses."""

    tree: Step
    values: Readers
    rows: Readers


@dataclass
class Trace:
    """The lineage of one column or metric in a published version. not_followed: {relation: what could not be followed} on the way."""

    name: Origin
    version: int
    up: Upstream | None
    down: Downstream | None
    not_followed: dict[str, list[str]]


def trace(settings: Settings, name: str, up: bool = True, down: bool = True, depth: int | None = None) -> Trace:
    """The lineage of a metric, or of a column written `relation.column` or `schema.relation.column`; `relation.*` stands for its rows.

    depth: how many steps the trees show; what lies behind them counts in the lists all the same. Raises NorthstarError for a name that is unknown or
    stands for several columns.
    """
    with db.translate_driver_errors(settings), db.connect(settings, "transformer") as connection:
        published = published_lineage(settings, connection)
        start = find_column(published.lineage, name)
        upstream = trace_up(published.lineage, start, depth) if up else None
        downstream = None
        if down:
            readers = _Published(published, connection)
            downstream = trace_down(published.lineage, start, readers, depth)
    passed = {start.relation, *(_models(published.lineage, [start]) if up else ())}
    if down:
        passed |= {o.relation for o in reached(published.lineage, [start], with_rows=True)}
    lost = {relation: texts for relation, texts in published.lineage.not_followed.items() if relation in passed}
    return Trace(start, published.version, upstream, downstream, lost)


def find_column(lineage: Lineage, name: str) -> Origin:
    """The column or metric of a name. Raises NorthstarError if there is none or more than one."""
    known = all_columns(lineage)
    if Origin(METRIC, name) in known:
        return Origin(METRIC, name)
    found = sorted(o for o in known if o.relation != METRIC and name in (str(o), str(o).split(".", 1)[1]))
    if len(found) == 1:
        return found[0]
    if found:
        raise NorthstarError(f"{name} is in several schemas: write {' or '.join(map(str, found))}")
    near = nearest_name(name, {str(o) for o in known} | {str(o).split(".", 1)[-1] for o in known})
    hint = f"did you mean {near}? " if near else ""
    raise NorthstarError(
        f"there is no metric or column {name}; {hint}a column is written relation.column, such as charges.amount"
    )


def all_columns(lineage: Lineage) -> set[Origin]:
    """Every column and metric of a lineage, landed ones and those of seeds included as far as anything reads them."""
    return {o for name, column in lineage.columns.items() for o in (name, *column.values, *column.rows)}


def is_landed(origin: Origin) -> bool:
    """Whether a column is one of a landed entity, and not of the view over it."""
    schema, _, relation = origin.relation.partition(".")
    return schema == LANDED and relation in entities()


def trace_up(lineage: Lineage, start: Origin, depth: int | None = None) -> Upstream:
    """What a column is made of."""
    values = {o for o in lineage.upstream([start], with_rows=False) if is_landed(o)}
    every = {o for o in lineage.upstream([start]) if is_landed(o)}
    return Upstream(
        _tree(start, lineage.columns, depth, set()), sorted(values), sorted(every - values), _models(lineage, [start])
    )


def _models(lineage: Lineage, start: Iterable[Origin]) -> list[str]:
    return sorted({o.relation for o in lineage.upstream(start) if o in lineage.columns and o.relation != METRIC})


def trace_down(lineage: Lineage, start: Origin, readers: "_Published", depth: int | None = None) -> Downstream:
    """What is made of a column, and who reads that."""
    values = {start} | reached(lineage, [start], with_rows=False)
    rows = reached(lineage, [start], with_rows=True) - values
    return Downstream(_tree(start, _followed(lineage), depth, set()), readers.of(values), readers.of(rows))


def reached(lineage: Lineage, start: Iterable[Origin], with_rows: bool) -> set[Origin]:
    """The columns and metrics that are made of columns. with_rows: also those whose rows they choose."""
    readers = _followed(lineage)
    visited: set[Origin] = set()
    queue = list(start)
    while queue:
        column = readers.get(queue.pop(), NOTHING)
        found = (column.values | column.rows if with_rows else column.values) - visited
        visited |= found
        queue += found
    return visited


def _followed(lineage: Lineage) -> dict[Origin, Column]:
    """Who reads each column, but for the columns of metric models: those hold many metrics, each of which is followed by itself."""
    models = {
        name.relation
        for name, column in lineage.columns.items()
        if name.column in NUMBERS and any(o.relation == METRIC for o in column.values)
    }
    return {
        origin: Column(*(frozenset(o for o in origins if o.relation not in models) for origins in column))
        for origin, column in lineage.readers().items()
    }


def _tree(start: Origin, edges: dict[Origin, Column], depth: int | None, shown: set[Origin]) -> Step:
    column = edges.get(start, NOTHING)
    step = Step(start)
    if start in shown and (column.values or column.rows):
        step.state = "again"
        return step
    if depth == 0:
        step.state = "deeper" if column.values or column.rows else ""
        return step
    shown.add(start)
    step.rows = sorted(column.rows - column.values)
    step.steps = [_tree(o, edges, None if depth is None else depth - 1, shown) for o in sorted(column.values)]
    return step


class _Published:
    """The readers of what is published."""

    def __init__(self, published: PublishedLineage, connection: Connection):
        self._manifest: Manifest = published.manifest
        self._catalogue = fetch_all_as(
            CatalogueRow, connection.execute("select metric_id, level, dashboards, reports from marts.metrics")
        )
        self._targets = connection.execute(
            "select metric_id, concat_ws(' ', metric_id, 'of', application, nullif(concat_ws(' ', segment, segment_value), ' '), operator, "
            "trim_scale(target), 'by', grain) as target from marts.metric_status order by 2"
        ).fetchall()

    def of(self, columns: set[Origin]) -> Readers:
        """The metrics and the columns of marts among columns, and who reads them."""
        metrics = sorted(o.column for o in columns if o.relation == METRIC)
        marts: dict[str, list[str]] = {}
        for origin in sorted(columns):
            schema, _, name = origin.relation.partition(".")
            if schema == "marts":
                marts.setdefault(name, []).append(origin.column)
        by_kind = find_readers(self._manifest, self._catalogue, metrics, marts)
        targets = [row["target"] for row in self._targets if row["metric_id"] in metrics]
        if targets:
            by_kind["targets"] = targets
        direct = alerts_on_landed(
            (o.relation.partition(".")[2], o.column) for o in columns if is_landed(o) and o.column != ROWS
        )
        if direct:
            by_kind["alerts"] = sorted({*by_kind.get("alerts", []), *direct})
        return Readers(metrics, marts, by_kind)
