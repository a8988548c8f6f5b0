"""`northstar explain`: a published number, its definition, its parts, the SQL that made it, and the rows that add up to it.

The rows come from the models' own SQL: every build keeps its compiled models in `audit.definitions`, and a measure's aggregate
is taken apart into what each row adds to it. So an explanation cannot differ from the model.
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.build.definitions import Definition, Metric, Part, parents, parse_definition
from northstar.contract import entities
from northstar.use.explain.readers import Contribution, DirectReader, RowReader, rows_text
from northstar.use.explain.rows import Cell, Expression, Term, Values, literal
from northstar.use.words import describe_needs, describe_segments
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, Row, fetch_one

DEFAULT_GRAIN = ("month", "week", "day", "quarter", "year", "hour")


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
        db.count_days_in(connection, published_zone(connection))
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
        cell = Cell(row["grain"], row["period_start"], row["application"], row["segment"], row["segment_value"])
        reader = DirectReader(connection)
        numerator, denominator = explain_sides(
            reader, library, metric_id, cell, row["numerator"], row["denominator"], sample
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

    def has_metric(self, metric_id: str) -> bool:
        """Whether a model makes a metric."""
        return self._find_maker(metric_id) is not None

    def of_metric(self, metric_id: str) -> Definition:
        """The model that makes a metric."""
        maker = self._find_maker(metric_id)
        if maker is None:
            raise NorthstarError(
                f"no build has recorded yet how {metric_id} is made; the next nightly run does (`northstar run` or the DAG)"
            )
        return maker

    def _find_maker(self, metric_id: str) -> Definition | None:
        for name, sql in self._models.items():
            if f'"{metric_id}": [' in sql and metric_id in self.definition(name).metrics:
                return self.definition(name)
        return None

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
                return Term(base_name, cell, definition, measure, is_opening, self.details(definition))
            for parent in definition.parents:
                if parent in self._models and parent not in visited:
                    visited.add(parent)
                    queue.append(self.definition(parent))
        raise NorthstarError(
            f"{model.name} does not say what {name} is made of; name it under `explained` (docs/add_a_metric.md)"
        )

    def definitions(self) -> list[Definition]:
        """The definitions of all models."""
        return [self.definition(name) for name in self._models]

    def details(self, definition: Definition) -> dict[str, str]:
        """{model that a model reads: the rows that it was grouped from}, for those that have such rows."""
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
    reader: RowReader, library: Library, metric_id: str, cell: Cell, is_denominator: bool = False
) -> tuple[str, dict[str, Decimal]]:
    """What each account, or else each thing that has an id, adds to a metric's numerator or denominator; with the name of the id.

    Raises NorthstarError where the models do not say what the metric is made of.
    """
    expression = _expression(library, metric_id, is_denominator, cell)
    id_name, contributions = "", dict[str, Decimal]()
    if expression is None:
        return id_name, contributions
    values = [reader.value(term) for term in expression.terms]
    for position, term in enumerate(expression.terms):
        weight = _weight(reader, expression, position, values)
        largest = reader.rows(term, weight, bool(term.details), 1).largest
        if not largest:
            continue
        source = largest[0]["source"]
        names = sorted(n for n in (source.get("_row") or source) if n.endswith("_id"))
        id_name = "account_id" if "account_id" in names else (names or [""])[0]
        for name, contribution in reader.parts(term, weight, id_name).items():
            contributions[name] = contributions.get(name, Decimal(0)) + contribution
    return id_name, contributions


def _expression(library: Library, metric_id: str, is_denominator: bool, cell: Cell) -> Expression | None:
    """A metric's numerator or denominator over measures; None for a denominator that it does not have."""
    definition = library.of_metric(metric_id)
    spec = definition.metrics[metric_id]
    text = spec.denominator if is_denominator else spec.numerator
    if text is None:
        return None
    return Expression(text, spec, cell, _Lookup(library, definition, spec.of), _constants(cell))


def _weight(reader: RowReader, expression: Expression, position: int, values: Values) -> Decimal:
    weight: Decimal = fetch_one(reader.connection.execute(expression.weight_sql(position, values)))["weight"]
    return weight


def _constants(cell: Cell) -> dict[str, str]:
    """{column that is no measure: its SQL} at a place."""
    return {
        "grain": literal(cell.grain), "period_start": _instant(cell.period_start), "period_end": _instant(cell.period_end),
        "application": literal(cell.application), "segment": literal(cell.segment),
    }  # fmt: skip


def _instant(moment: datetime) -> str:
    return f"timestamptz '{moment.isoformat()}'"


def explain_sides(
    reader: RowReader,
    library: Library,
    metric_id: str,
    cell: Cell,
    numerator: Decimal | None,
    denominator: Decimal | None,
    sample: int,
) -> tuple[Side, Side | None]:
    """A published numerator and denominator, with the `sample` largest rows of each of their measures.

    Raises NorthstarError where the models do not say what the metric is made of.
    """
    upper = _explain_side(reader, library, metric_id, False, cell, numerator, sample)
    if upper is None:
        raise NorthstarError(f"{metric_id} has no numerator")
    if denominator is None:
        return upper, None
    return upper, _explain_side(reader, library, metric_id, True, cell, denominator, sample)


def _explain_side(
    reader: RowReader,
    library: Library,
    metric_id: str,
    is_denominator: bool,
    cell: Cell,
    published: Decimal | None,
    sample: int,
) -> Side | None:
    expression = _expression(library, metric_id, is_denominator, cell)
    if expression is None:
        return None
    connection, spec = reader.connection, library.of_metric(metric_id).metrics[metric_id]
    values = [reader.value(term) for term in expression.terms]
    recomputed = fetch_one(connection.execute(expression.value_sql(values)))["value"]
    parts_query = expression.parts_sql(values)
    parts = fetch_one(connection.execute(parts_query)) if parts_query else {}
    for name, part in spec.parts.items():
        if name in parts and not _is_published(connection, part, cell, library.as_of):
            parts[name] = None
    side = Side(expression.text, published, recomputed, expression.is_rounded, parts)
    for position, term in enumerate(expression.terms):
        weight = _weight(reader, expression, position, values)
        found, is_detailed = reader.rows(term, weight, False, sample), False
        if not found.count:
            continue
        if term.details:
            finer = reader.rows(term, weight, True, sample)
            # a grouped model is explained by the rows that it was grouped from, where they give the same total
            if close(finer.contribution, found.contribution):
                found, is_detailed = finer, True
        for row in found.largest:
            row["source"] = row["source"].pop("_row", None) or row["source"]
            row["landed"] = reader.landed(row["source"], library.entities(term))
        side.rows.append(
            Rows(
                ("opening " if term.is_opening else "") + term.name, term.measure.relation, term.definition.name, term.cell,
                values[position], found.count, found.contribution, found.largest, rows_text(term, weight, is_detailed),
            )
        )  # fmt: skip
    return side


def published_zone(connection: Connection) -> str:
    """The time zone by whose clock the newest version has its days: until a run has followed, not the one that the setting was changed to."""
    zone: str = fetch_one(
        connection.execute(
            "select coalesce((select c.rules ->> 'reporting_time_zone' from marts.certificates as c order by c.published_version desc limit 1), 'UTC') as zone"
        )
    )["zone"]
    return zone


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
