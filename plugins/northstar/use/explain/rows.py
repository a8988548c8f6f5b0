"""From an expression over measures to the rows whose contributions add up to it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from sqlglot import exp, parse_one

from northstar.base.clock import LENGTHS
from northstar.base.errors import NorthstarError
from northstar.build.definitions import Definition, Measure, Metric, Part

MONTHS = {"month": 1, "quarter": 3, "year": 12}
DAYS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}


@dataclass(frozen=True)
class Cell:
    """One number's place: grain, period, application, segment."""

    grain: str
    period_start: datetime
    application: str
    segment: str = ""
    segment_value: str = ""

    @property
    def start(self) -> str:
        """The period's start, as SQL."""
        return f"timestamptz '{self.period_start.isoformat()}'"

    @property
    def end(self) -> str:
        """The period's end (exclusive), as SQL."""
        return f"({self.start} + interval '{LENGTHS[self.grain]}')"

    def shift(self, period: str, as_of: datetime) -> "Cell":
        """The cell that the words `previous`, `month_before`, `year_before`, `last_month`, `last_month_of_year_before` and `whole` of an explanation mean."""
        if period == "whole":
            return replace(self, segment="", segment_value="")
        cell = self
        if period == "previous":
            return replace(cell, period_start=_add_months(cell.period_start, -MONTHS[cell.grain]) if cell.grain in MONTHS else cell.period_start - DAYS[cell.grain])  # fmt: skip
        if period.endswith("year_before"):
            cell = replace(cell, period_start=_add_months(cell.period_start, -12))
        if period == "month_before":
            cell = replace(cell, period_start=_add_months(cell.period_start, -1))
        if period.startswith("last_month"):
            months = [_add_months(cell.period_start, n) for n in range(MONTHS.get(cell.grain, 1))]
            cell = replace(cell, grain="month", period_start=[m for m in months if m < as_of][-1])
        return cell


@dataclass(frozen=True)
class Term:
    """One measure at one place: the relation that has it, and the model that relation is part of."""

    name: str
    cell: Cell
    definition: Definition
    measure: Measure
    is_opening: bool
    details: dict[str, str]

    @property
    def aggregate(self) -> str:
        text: str = self.measure.measures[self.name]
        return text

    @property
    def where(self) -> str:
        """The SQL condition for the rows `r` that count."""
        cell, measure = self.cell, self.measure
        if measure.kind == "by_period":
            conditions = [f"r.grain = '{cell.grain}'", f"r.period_start = {cell.start}"]
        elif measure.kind == "standing":
            conditions = [f"r.{measure.at} < {cell.start if self.is_opening else cell.end}"]
        else:
            conditions = [f"r.{measure.at} >= {cell.start}", f"r.{measure.at} < {cell.end}"]
        if measure.has_totals or cell.application != "all":
            conditions.append(f"r.application = {literal(cell.application)}")
        if cell.segment in measure.segments:
            conditions.append(f"coalesce(r.{cell.segment}::text, '(unknown)') = {literal(cell.segment_value)}")
        return " and ".join(conditions)

    @property
    def value_sql(self) -> str:
        """SQL for the measure's value, from the rows; sums and counts of no rows are 0."""
        kinds = {type(node) for node in parse_one(self.aggregate, read="postgres").find_all(exp.AggFunc)}
        empty = "0" if kinds <= {exp.Sum, exp.Count} else "null"
        return (
            f"{self.definition.with_clause(self.measure.relation)}\n"
            f"select coalesce(({self.aggregate})::numeric, {empty}) as value from {self.measure.relation} as r\nwhere {self.where}"
        )

    def rows_sql(self, weighted: str, is_detailed: bool = False) -> str:
        """SQL for the rows (as json) and what each contributes; `weighted` is an expression over `part`, a row's part of the measure.

        is_detailed: read the rows that grouped models (hours, days) were made of instead of theirs.
        """
        key = self.measure.key
        order_by = "period_start" if self.measure.kind == "by_period" else self.measure.at
        parts = (
            f"select ({row_part(self.aggregate, order_by)})::numeric as part, to_jsonb(r) as source\n"
            f"        from {self.measure.relation} as r\n        where {self.where}"
        )
        if key:
            parts = (
                f"select sum(part) as part, jsonb_build_object('{key}', source -> '{key}', 'rows', count(*)) as source\n"
                f"        from (\n        {parts}\n        ) as differences\n        group by source -> '{key}'"
            )
        return (
            f"{self.definition.with_clause(self.measure.relation, self.details if is_detailed else None)}\n\n"
            f"select contribution, source\nfrom (\n    select {weighted} as contribution, source\n    from (\n"
            f"        {parts}\n    ) as counted\n) as weighted\nwhere contribution != 0"
        )


# the values of an expression's terms, in their order
Values = list[Decimal | None]
# explanations of columns that are no measures: an expression, or an expression and the period that it is for
Explained = Mapping[str, str | list[str]]


class Lookup(Protocol):
    """Finds measures."""

    as_of: datetime

    def __call__(self, name: str, cell: Cell) -> Term:
        """The measure of that name at a place. Raises NorthstarError where there is none."""

    def part(self, metric_id: str) -> tuple[Metric, "Lookup"]:
        """How a metric that another is made of is made itself, and what finds its measures."""


class Expression:
    """An expression over measures, resolved to terms."""

    def __init__(self, text: str, spec: Metric, cell: Cell, lookup: Lookup, constants: dict[str, str]):
        """text: one of the sides of the metric `spec`; lookup: (measure name, cell) -> Term; constants: column name -> SQL."""
        self.text = text
        self.terms: list[Term] = []
        # {column that stands for another metric: its expression over terms}
        self._part_trees: dict[str, exp.Expr] = {}
        self._constants = constants
        self._tree = self._resolve(text, cell, spec.explained, spec.parts, lookup)
        self.is_rounded = self._tree.find(exp.Round) is not None

    def _resolve(
        self, text: str, cell: Cell, explained: Explained, parts: Mapping[str, Part], lookup: Lookup
    ) -> exp.Expr:
        def resolve(node: exp.Expr) -> exp.Expr:
            if not isinstance(node, exp.Column):
                return node
            name = node.name
            if name in parts:
                self._part_trees[name] = self._resolve_part(parts[name], cell, lookup)
                return exp.Paren(this=self._part_trees[name].copy())
            if name in self._constants:
                return parse_one(f"({self._constants[name]})", read="postgres")
            if name in explained:
                explanation = explained[name]
                inner, period = (explanation, None) if isinstance(explanation, str) else explanation
                place = cell.shift(period, lookup.as_of) if period else cell
                others = {k: v for k, v in explained.items() if k != name}
                return exp.Paren(this=self._resolve(inner, place, others, parts, lookup))
            term = lookup(name, cell)
            if term not in self.terms:
                self.terms.append(term)
            return exp.column(f"m{self.terms.index(term)}")

        tree: exp.Expr = parse_one(text, read="postgres").transform(resolve)
        return tree

    def _resolve_part(self, part: Part, cell: Cell, lookup: Lookup) -> exp.Expr:
        """A metric that another is made of, as an expression over its own measures."""
        spec, own = lookup.part(part["metric"])
        place = cell.shift(part["before"], lookup.as_of) if part["before"] else cell
        sides = {"numerator": spec.numerator, "denominator": spec.denominator}

        def resolve(node: exp.Expr) -> exp.Expr:
            side = sides.get(node.name) if isinstance(node, exp.Column) else None
            if side is None:
                return node
            return exp.Paren(this=self._resolve(side, place, spec.explained, spec.parts, own))

        tree: exp.Expr = parse_one(part["formula"], read="postgres").transform(resolve)
        return tree

    def value_sql(self, values: Values) -> str:
        """The expression with the terms' values in it."""
        return f"select ({_with_values(self._tree, values).sql(dialect='postgres')})::numeric as value"

    def parts_sql(self, values: Values) -> str | None:
        """SQL for the values of the metrics that this one is made of, a column for each; None if it is made of none."""
        columns = [
            f'({_with_values(tree.copy(), values).sql(dialect="postgres")})::numeric as "{name}"'
            for name, tree in self._part_trees.items()
        ]
        return f"select {', '.join(columns)}" if columns else None

    def weighted(self, position: int, values: Values) -> str:
        """SQL for what one row's part of a term is worth in the whole; divisors and conditions are replaced by their values."""
        return _weight_of_part(self._tree.copy(), position, values).sql(dialect="postgres")


def _with_values(tree: exp.Expr, values: Values) -> exp.Expr:
    return tree.transform(lambda node: _number(values[int(node.name[1:])]) if isinstance(node, exp.Column) else node)


def _weight_of_part(node: exp.Expr, position: int, values: Values) -> exp.Expr:
    if isinstance(node, exp.Column):
        return exp.column("part") if int(node.name[1:]) == position else exp.Literal.number(0)
    if isinstance(node, exp.Round):
        return _weight_of_part(node.this, position, values)
    if isinstance(node, exp.Mul) and any(node.this.find_all(exp.Column)):
        # the rows of the first factor stand for a product
        node.set("this", _weight_of_part(node.this, position, values))
        node.set("expression", exp.Paren(this=_with_values(node.expression, values)))
        return node
    if isinstance(node, exp.Div):
        node.set("this", _weight_of_part(node.this, position, values))
        node.set("expression", exp.Paren(this=_with_values(node.expression, values)))
        return node
    if isinstance(node, exp.If):
        return exp.If(this=_with_values(node.this, values), true=_weight_of_part(node.args["true"], position, values))
    for key, child in list(node.args.items()):
        if isinstance(child, exp.Expression):
            node.set(key, _weight_of_part(child, position, values))
        elif isinstance(child, list):
            node.set(key, [_weight_of_part(c, position, values) if isinstance(c, exp.Expression) else c for c in child])
    return node


def row_part(aggregate: str, order_by: str) -> str:
    """What one row adds to an aggregate over all counted rows, as SQL over `r`.

    In a distinct count the first row of each value counts; in a maximum the first row that has it; in a percentile the two
    rows between which it lies, by their distance (percentile_cont); in a mean each row, divided by the number of rows.
    """

    def replace_aggregate(node: exp.Expr) -> exp.Expr:
        condition = None
        if isinstance(node, exp.Filter):
            condition, node = node.expression.this.sql(dialect="postgres"), node.this
        if isinstance(node, exp.WithinGroup):
            share = node.this.this.sql(dialect="postgres")
            value = node.expression.expressions[0].this.sql(dialect="postgres")
            if condition:
                value = f"case when {condition} then {value} end"
            distance = f"row_number() over (order by {value}) - 1 - {share} * (count({value}) over () - 1)"
            return _parse(f"({value})::numeric * greatest(0, 1 - abs({distance}))::numeric")
        if not isinstance(node, exp.AggFunc):
            return node
        inner = node.this
        counted = None
        if isinstance(node, exp.Count) and isinstance(inner, exp.Distinct):
            values = ", ".join(e.sql(dialect="postgres") for e in inner.expressions)
            counted = condition or "true"
            first = f"row_number() over (partition by {values}, ({counted}) is true order by r.{order_by}) = 1"
            # a row value (a tuple) is counted even if its parts are null
            alone = [e for e in inner.expressions if not isinstance(e, exp.Tuple)]
            all_present = " and ".join(f"{e.sql(dialect='postgres')} is not null" for e in alone) or "true"
            return _parse(f"case when ({counted}) and ({all_present}) and {first} then 1 else 0 end")
        if isinstance(node, exp.Count):
            is_star = isinstance(inner, exp.Star)
            value = "1" if is_star else f"case when {inner.sql(dialect='postgres')} is not null then 1 end"
        else:
            value = inner.sql(dialect="postgres")
        if condition:
            value = f"case when {condition} then {value} end"
        if isinstance(node, exp.Max):
            return _parse(
                f"case when row_number() over (order by {value} desc nulls last, r.{order_by}) = 1 then {value} end"
            )
        if isinstance(node, exp.Avg):
            return _parse(f"({value})::numeric / nullif(count({value}) over (), 0)")
        if isinstance(node, exp.Count | exp.Sum):
            return _parse(f"coalesce({value}, 0)")
        raise NorthstarError(f"cannot tell what one row adds to {node.sql(dialect='postgres')}")

    part: exp.Expr = parse_one(aggregate, read="postgres").transform(replace_aggregate)
    return part.sql(dialect="postgres")


def _parse(text: str) -> exp.Expr:
    return exp.Paren(this=parse_one(text, read="postgres"))


def _number(value: Decimal | None) -> exp.Expr:
    if value is None:
        return exp.cast(exp.null(), "numeric")
    return exp.Paren(this=exp.cast(exp.Literal.string(str(value)), "numeric"))


def literal(value: str) -> str:
    """A text as a SQL literal."""
    return exp.Literal.string(value).sql(dialect="postgres")


def _add_months(moment: datetime, months: int) -> datetime:
    number = moment.year * 12 + moment.month - 1 + months
    return moment.replace(year=number // 12, month=number % 12 + 1)
