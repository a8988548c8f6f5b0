"""`northstar explain`: a published number, its definition, its parts, the SQL that made it, and the rows that add up to it.

The rows come from the models' own SQL: every build keeps its compiled models in `audit.definitions`, and a measure's aggregate
is taken apart into what each row adds to it. So an explanation cannot differ from the model.
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TypedDict

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.build.definitions import Definition, Metric, Part, parents, parse_definition
from northstar.contract import entities
from northstar.use.explain.rows import Cell, Expression, Term, literal
from northstar.use.words import describe_needs, describe_segments
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, Row, fetch_all_as, fetch_one

DEFAULT_GRAIN = ("month", "week", "day", "quarter", "year", "hour")


class Contribution(TypedDict):
    """A row that a measure is made from: what it adds, its own columns, and the landed rows that carry its id."""

    contribution: Decimal
    source: Row
    landed: list[Row]


@dataclass
class Rows:
    """The rows that one measure is made from: how many contribute, what they add, the largest of them, and the SQL that finds them."""

    measure: str
    relation: str
    model: str
    cell: Cell
    value: Decimal | None
    count: int
    contribution: Decimal
    sample: list[Contribution]
    sql: str


@dataclass
class Side:
    """A numerator or denominator: its expression over measures, its value as published and as computed again, and its rows.

    parts: {a name in the expression that stands for another metric: that metric's value, None where it has none}.
    """

    expression: str
    published: Decimal | None
    recomputed: Decimal | None
    is_rounded: bool
    parts: dict[str, Decimal | None] = field(default_factory=dict)
    rows: list[Rows] = field(default_factory=list)

    @property
    def contributions(self) -> Decimal:
        """What the rows add up to."""
        return sum((r.contribution for r in self.rows), Decimal(0))

    @property
    def adds_up(self) -> bool:
        """Whether the rows add up to what was published: to a hundredth where parts were rounded before they were added, else to 1e-9."""
        slack = Decimal("0.01") if self.is_rounded else Decimal("1e-9")
        published = self.published or Decimal(0)
        return abs(self.contributions - published) <= slack * max(Decimal(1), abs(published)) and close(
            self.recomputed or Decimal(0), published
        )


def close(one: Decimal, other: Decimal) -> bool:
    """Whether two numbers are equal to 1e-9 of their size."""
    return abs(one - other) <= Decimal("1e-9") * max(Decimal(1), abs(other))


@dataclass
class Explanation:
    """A published value, taken apart."""

    metric: Row
    published: Row
    model: str
    model_sql: str
    upstream_sql: dict[str, str]
    numerator: Side
    denominator: Side | None

    @property
    def adds_up(self) -> bool:
        """Whether numerator and denominator both add up."""
        return self.numerator.adds_up and (self.denominator is None or self.denominator.adds_up)


def explain(
    settings: Settings,
    metric_id: str,
    period: datetime | None = None,
    grain: str | None = None,
    application: str = "all",
    segment: str = "",
    segment_value: str = "",
    sample: int = 8,
) -> Explanation:
    """Explain one published value. Without a period it is the newest complete one, without a grain the month or else what the metric has.

    Raises NorthstarError for a metric, grain or place that has no value or was not measured yet, and when the rows are not those of the published
    version (a later build was not published, or the version was put back).
    """
    with db.connect(settings, "transformer") as connection:
        connection.execute("set transaction isolation level repeatable read, read only")
        metric, row = _find_published(connection, metric_id, period, grain, application, segment, segment_value)
        version = current_version(connection)
        models = {
            r["model"]: r["sql"]
            for r in connection.execute(
                "select model, sql from audit.definitions where code_version = %s", [version["code_version"]]
            ).fetchall()
        }
        library = Library(models, version["as_of"])
        definition = library.of_metric(metric_id)
        spec = definition.metrics[metric_id]
        cell = Cell(row["grain"], row["period_start"], row["application"], row["segment"], row["segment_value"])
        numerator = _explain_side(connection, library, definition, spec, spec.numerator, cell, row["numerator"], sample)
        denominator = None
        if spec.denominator is not None and row["denominator"] is not None:
            denominator = _explain_side(
                connection, library, definition, spec, spec.denominator, cell, row["denominator"], sample
            )
    sides = [s for s in (numerator, denominator) if s]
    upstream = {r.model for s in sides for r in s.rows} - {definition.name}
    return Explanation(
        metric, row | {"published_version": version["published_version"], "as_of": version["as_of"]}, definition.name,
        definition.sql, {name: library.definition(name).sql for name in sorted(upstream)}, numerator, denominator,
    )  # fmt: skip


class Library:
    """The compiled models of one code version."""

    def __init__(self, models: dict[str, str], as_of: datetime):
        self._models, self.as_of = models, as_of
        self._read: dict[str, Definition] = {}
        self._detailed: dict[str, str | None] = {}

    def definition(self, name: str) -> Definition:
        """A model's definition; each model is taken apart once."""
        if name not in self._read:
            self._read[name] = parse_definition(name, self._models[name])
        return self._read[name]

    def of_metric(self, metric_id: str) -> Definition:
        """The model that makes a metric."""
        for name, sql in self._models.items():
            if f'"{metric_id}": [' in sql and metric_id in self.definition(name).metrics:
                return self.definition(name)
        raise NorthstarError(
            f"no build has recorded yet how {metric_id} is made; the next nightly run does (`northstar run` or the DAG)"
        )

    def find(self, model: Definition, name: str, cell: Cell, of: str | None) -> Term:
        """The measure `name` in the model or the nearest model it is made from.

        Raises NorthstarError where nothing upstream has such a measure.
        """
        is_opening = name.startswith("opening_")
        base_name = name.removeprefix("opening_")
        queue, visited = [model], {model.name}
        while queue:
            definition = queue.pop(0)
            measure = definition.find(base_name, cell.grain, cell.segment, of)
            if measure and (measure.kind == "standing" or not is_opening):
                return Term(base_name, cell, definition, measure, is_opening, self._details(definition))
            for parent in definition.parents:
                if parent in self._models and parent not in visited:
                    visited.add(parent)
                    queue.append(self.definition(parent))
        raise NorthstarError(
            f"{model.name} does not say what {name} is made of; name it under `explained` (docs/add_a_metric.md)"
        )

    def _details(self, definition: Definition) -> dict[str, str]:
        parents = [p for p in definition.parents if p in self._models]
        return {p: d for p in parents if (d := self._detail(p))}

    def _detail(self, name: str) -> str | None:
        if name not in self._detailed:
            self._detailed[name] = self.definition(name).detail
        return self._detailed[name]

    def entities(self, term: Term) -> list[list[str]]:
        """The landed entities that a term's relation is made from: the nearest first, those equally near together."""
        levels, visited = [], set()
        names = parents(term.definition.with_clause(term.measure.relation))
        while names:
            levels.append([n for n in names if n in entities()])
            visited |= set(names)
            models = [n for n in names if n in self._models]
            names = list(dict.fromkeys(p for m in models for p in self.definition(m).parents if p not in visited))
        return [level for level in levels if level]


class _Lookup:
    def __init__(self, library: Library, model: Definition, of: str | None):
        self._library, self._model, self._of, self.as_of = library, model, of, library.as_of

    def __call__(self, name: str, cell: Cell) -> Term:
        return self._library.find(self._model, name, cell, self._of)

    def part(self, metric_id: str) -> tuple[Metric, "_Lookup"]:
        model = self._library.of_metric(metric_id)
        spec = model.metrics[metric_id]
        return spec, _Lookup(self._library, model, spec.of)


def contributions_by_id(
    connection: Connection, library: Library, metric_id: str, cell: Cell, is_denominator: bool = False
) -> tuple[str, dict[str, Decimal]]:
    """What each account, or else each thing that has an id, adds to a metric's numerator or denominator; with the name of the id.

    Raises NorthstarError where the models do not say what the metric is made of.
    """
    definition = library.of_metric(metric_id)
    spec = definition.metrics[metric_id]
    text = spec.denominator if is_denominator else spec.numerator
    if text is None:
        return "", {}
    expression = Expression(text, spec, cell, _Lookup(library, definition, spec.of), _constants(cell))
    values = [fetch_one(connection.execute(term.value_sql))["value"] for term in expression.terms]
    id_name, contributions = "", dict[str, Decimal]()
    for position, term in enumerate(expression.terms):
        query = term.rows_sql(expression.weighted(position, values), is_detailed=bool(term.details))
        row = connection.execute(f"select source from (\n{query}\n) as contributions limit 1").fetchone()
        if row is None:
            continue
        names = sorted(n for n in (row["source"].get("_row") or row["source"]) if n.endswith("_id"))
        id_name = "account_id" if "account_id" in names else (names or [""])[0]
        value = (
            f"coalesce(source -> '_row' ->> {literal(id_name)}, source ->> {literal(id_name)})"
            if id_name
            else "source::text"
        )
        for part in connection.execute(
            f"select {value} as id, sum(contribution) as contribution from (\n{query}\n) as contributions group by 1"
        ):
            name = part["id"] or "(none)"
            contributions[name] = contributions.get(name, Decimal(0)) + part["contribution"]
    return id_name, contributions


def _constants(cell: Cell) -> dict[str, str]:
    """{column that is no measure: its SQL} at a place."""
    return {
        "grain": literal(cell.grain), "period_start": cell.start, "period_end": cell.end,
        "application": literal(cell.application), "segment": literal(cell.segment),
    }  # fmt: skip


def _explain_side(
    connection: Connection,
    library: Library,
    definition: Definition,
    spec: Metric,
    text: str,
    cell: Cell,
    published: Decimal | None,
    sample: int,
) -> Side:
    expression = Expression(text, spec, cell, _Lookup(library, definition, spec.of), _constants(cell))
    values = [fetch_one(connection.execute(term.value_sql))["value"] for term in expression.terms]
    recomputed = fetch_one(connection.execute(expression.value_sql(values)))["value"]
    parts_query = expression.parts_sql(values)
    parts = fetch_one(connection.execute(parts_query)) if parts_query else {}
    for name, part in spec.parts.items():
        if name in parts and not _is_published(connection, part, cell, library.as_of):
            parts[name] = None
    side = Side(text, published, recomputed, expression.is_rounded, parts)
    for position, term in enumerate(expression.terms):
        weighted = expression.weighted(position, values)
        query = term.rows_sql(weighted)
        total = fetch_one(connection.execute(_total_query(query)))
        if not total["rows"]:
            continue
        if term.details:
            detailed = term.rows_sql(weighted, is_detailed=True)
            finer = fetch_one(connection.execute(_total_query(detailed)))
            # a grouped model is explained by the rows that it was grouped from, where they give the same total
            if close(finer["contribution"], total["contribution"]):
                query, total = detailed, finer
        result = connection.execute(
            f"select * from (\n{query}\n) as contributions order by abs(contribution) desc, source::text limit {int(sample)}"
        )
        largest = fetch_all_as(Contribution, result)
        for row in largest:
            row["source"] = row["source"].pop("_row", None) or row["source"]
            row["landed"] = _landed_rows(connection, row["source"], library.entities(term))
        side.rows.append(
            Rows(
                ("opening " if term.is_opening else "") + term.name, term.measure.relation, term.definition.name, term.cell,
                values[position], total["rows"], total["contribution"], largest, query,
            )
        )  # fmt: skip
    return side


def _total_query(query: str) -> str:
    return (
        f"select count(*) as rows, coalesce(sum(contribution), 0) as contribution from (\n{query}\n) as contributions"
    )


def _landed_rows(connection: Connection, row: Row, sources: list[list[str]]) -> list[Row]:
    """The landed rows that carry the id of `row`: entity, how many, and the files that brought them."""
    contract = entities()
    ids = {
        key[0]
        for key in (contract[s].key for level in sources for s in level)
        if len(key) == 1 and row.get(key[0]) is not None
    }
    if not ids:
        return []
    # an id other than the account's is preferred, since many rows share an account
    name = min(ids, key=lambda i: (i == "account_id", i))
    landed_rows = []
    with_id = [[s for s in level if name in contract[s].columns] for level in sources]
    # only the two nearest levels: the farther away, the less the same id has to do with this number
    for source in [s for level in [level for level in with_id if level][:2] for s in level]:
        landed = fetch_one(
            connection.execute(
                f"select count(*) as rows, array_agg(distinct _batch_id) as batches from staging.{source} where {name} = %s",
                [row[name]],
            )
        )
        if landed["rows"]:
            files = connection.execute(
                "select path from audit.landed_files where entity = %s and batch_id = any(%s) order by path limit 3",
                [source, landed["batches"]],
            ).fetchall()
            paths = [f["path"] for f in files] or _sources_of(connection, landed["batches"])
            landed_rows.append({"entity": source, name: row[name], "rows": landed["rows"], "files": paths})
    return landed_rows


def _sources_of(connection: Connection, batches: list[int]) -> list[str]:
    """Where rows came from whose file was delivered again since, or which came from no file: the names of their sources."""
    sources = connection.execute(
        "select distinct source, exists (select 1 from audit.landed_files as f where f.source = b.source and f.entity = b.entity) as has_files "
        "from audit.landing_batches as b where batch_id = any(%s) order by source",
        [batches],
    ).fetchall()
    return [f"{s['source']}, delivered again since" if s["has_files"] else s["source"] for s in sources]


def current_version(connection: Connection) -> Row:
    """The newest publication. Raises NorthstarError when the rows in core are not those that it was made from."""
    version = fetch_one(connection.execute("select * from marts.publications order by published_version desc limit 1"))
    built = connection.execute(
        "select r.run_id, r.as_of, r.state from core.run_context as c join audit.runs as r using (run_id) "
        "where exists (select 1 from audit.model_runs as m where m.run_id = r.run_id)"
    ).fetchone()
    if version["restores_version"] is not None:
        raise NorthstarError(
            f"version {version['published_version']} puts version {version['restores_version']} back, and the rows in core are "
            "newer than it; a run brings them together again"
        )
    if built is None or built["run_id"] != version["run_id"]:
        writing = connection.execute("select run_id from audit.runs where state = 'running'").fetchone()
        if writing:
            raise NorthstarError(
                f"run {writing['run_id']} is building what comes after version {version['published_version']}; ask again when it has ended"
            )
        raise NorthstarError(
            f"the rows in core are not those of the published version {version['published_version']}: a later run began and "
            "was not published; a run that publishes brings them together again"
        )
    return version


def _is_published(connection: Connection, part: Part, cell: Cell, as_of: datetime) -> bool:
    """Whether a metric that another is made of has what stands for it at a place: a sum of no rows is 0 there as well."""
    place = cell.shift(part["before"], as_of) if part["before"] else cell
    row = connection.execute(
        f"select ({part['formula']}) is not null as is_there from marts.metric_values where metric_id = %s and grain = %s and period_start = %s "
        "and application = %s and segment = %s and segment_value = %s",
        [part["metric"], place.grain, place.period_start, place.application, place.segment, place.segment_value],
    ).fetchone()
    return row is not None and row["is_there"]


def _find_published(
    connection: Connection,
    metric_id: str,
    period: datetime | None,
    grain: str | None,
    application: str,
    segment: str,
    segment_value: str,
) -> tuple[Row, Row]:
    """The metric's catalogue row and the value in question."""
    if fetch_one(connection.execute("select to_regclass('marts.metric_values') as t"))["t"] is None:
        raise NorthstarError("nothing has been published yet; start a run with `northstar run`")
    metric = connection.execute("select * from marts.metrics where metric_id = %s", [metric_id]).fetchone()
    if metric is None:
        near = fetch_one(
            connection.execute(
                "select string_agg(metric_id, ', ' order by metric_id) as names from marts.metrics "
                "where position(%(id)s in metric_id) > 0 or position(metric_id in %(id)s) > 0",
                {"id": metric_id},
            )
        )["names"]
        hint = f"; is it one of {near}?" if near else "; `northstar sql 'select metric_id from metrics'` lists them"
        raise NorthstarError(f"there is no metric {metric_id!r}{hint}")
    grains = [g.strip() for g in metric["grains"].split(",")]
    grain = grain or next(g for g in DEFAULT_GRAIN if g in grains)
    if grain not in grains:
        raise NorthstarError(f"{metric_id} has no {grain} values; its grains are {', '.join(grains)}")
    place = [metric_id, grain, application, segment, segment_value]
    where = "metric_id = %s and grain = %s and application = %s and segment = %s and segment_value = %s"
    row = connection.execute(
        f"select * from marts.metric_values where {where} and (%s::timestamptz is null or period_start = %s) "
        "order by is_complete desc, period_start desc limit 1",
        [*place, period, period],
    ).fetchone()
    if row is None or row["null_reason"] == "source_missing":
        _require_measured(connection, metric_id, grain, application, row["period_start"] if row else None)
    if row is None:
        bounds = fetch_one(
            connection.execute(
                f"select min(period_start) as first, max(period_start) as last from marts.metric_values where {where}",
                place,
            )
        )
        shown = f"{application}" + (f", {segment}={segment_value}" if segment else "")
        segments = [name.strip() for name in (metric["segments"] or "").split(";") if name.strip()]
        if segment and segment not in segments:
            raise NorthstarError(f"{metric_id} has no segment {segment!r}; {describe_segments(segments)}")
        if bounds["first"] is None:
            raise NorthstarError(
                f"{metric_id} has no {grain} values for {shown}; "
                f"northstar sql \"select distinct application, segment, segment_value from metric_values where metric_id = '{metric_id}'\" lists what there is"
            )
        raise NorthstarError(
            f"{metric_id} has no value for the {grain} {period:%Y-%m-%d %H:%M} ({shown}); it has from {bounds['first']:%Y-%m-%d} "
            f"to {bounds['last']:%Y-%m-%d}, and a period is named by its start"
        )
    return metric, row


def _require_measured(
    connection: Connection, metric_id: str, grain: str, application: str, period: datetime | None
) -> None:
    """Raise NorthstarError where no source had measured the metric in the application by the period (None: by now)."""
    # a version of an earlier release has no such table
    if fetch_one(connection.execute("select to_regclass('marts.metric_coverage') as t"))["t"] is None:
        return
    coverage = connection.execute(
        "select stands_on, lacking, measured_from, measured_from >= (select period_end from marts.dim_periods where grain = %s and period_start = %s) as is_later "
        "from marts.metric_coverage where metric_id = %s and application = %s",
        [grain, period, metric_id, application],
    ).fetchone()
    if coverage is None:
        return
    what = f"{metric_id} is not measured in {application}"
    if coverage["lacking"] is not None:
        raise NorthstarError(
            f"{what}: it stands on {describe_needs(coverage['stands_on'])}. Nothing was landed of: {describe_needs(coverage['lacking'])} "
            "(`northstar coverage` lists all metrics)"
        )
    if coverage["is_later"]:
        raise NorthstarError(
            f"{what} before {coverage['measured_from']:%Y-%m-%d}, when the last of what it stands on was first seen: {describe_needs(coverage['stands_on'])}"
        )
