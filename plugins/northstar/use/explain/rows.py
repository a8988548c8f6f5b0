"""From an expression over measures to the rows whose contributions add up to it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Protocol

from sqlglot import exp, parse_one

from northstar.base.errors import NorthstarError
from northstar.build.definitions import Definition, Measure, Metric, Part

MONTHS = {"month": 1, "quarter": 3, "year": 12}
DAYS = {"day": timedelta(days=1), "week": timedelta(days=7)}


@dataclass(frozen=True)
class Cell:
    """One number's place: grain, period, application, segment."""

    grain: str
    period_start: datetime
    application: str
    segment: str = ""
    segment_value: str = ""

    @property
    def period_end(self) -> datetime:
        """The period's end (exclusive)."""
        return _add_periods(self.period_start, self.grain, 1)

    def shift(self, period: str, as_of: datetime) -> "Cell":
        """The cell that the words `previous`, `month_before`, `year_before`, `last_month`, `last_month_of_year_before` and `whole` of an explanation mean."""
        if period == "whole":
            return replace(self, segment="", segment_value="")
        cell = self
        if period == "previous":
            return replace(cell, period_start=_add_periods(cell.period_start, cell.grain, -1))
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
    def arguments(self) -> tuple[str | datetime, ...]:
        """What stands in the place of $1 to $6 in `value_sql` and `rows_sql`; their $7 is the weight."""
        cell = self.cell
        start, end = cell.period_start, cell.period_end
        return (
            start,
            start if self.is_opening else end,
            cell.application,
            cell.segment,
            cell.segment_value,
            cell.grain,
        )

    def filled(self, body: str, weight: Decimal | None = None) -> str:
        """A query with literals in the place of its parameters."""
        values = [
            f"timestamptz '{a.isoformat()}'" if isinstance(a, datetime) else literal(a) for a in self.arguments
        ]  # fmt: skip
        values.append("null::numeric" if weight is None else f"{weight:f}")
        return re.sub(r"\$([1-7])::\w+", lambda found: values[int(found[1]) - 1], body)

    @property
    def with_clause(self) -> str:
        """The CTEs that the measure's relation is made of."""
        return self.definition.with_clause(self.measure.relation)

    @property
    def detailed_with_clause(self) -> str:
        """The same, reading the rows that grouped models (hours, days) were made of instead of theirs."""
        return self.definition.with_clause(self.measure.relation, self.details)


def condition(measure: Measure) -> str:
    """The SQL condition for the rows `r` that count at a place: $1 its start, $2 its end (for a stand, the instant), $3 application, $4 segment, $5 its value, $6 grain."""
    if measure.kind == "by_period":
        conditions = ["r.grain = $6::text", "r.period_start = $1::timestamptz"]
    elif measure.kind == "standing":
        conditions = [f"r.{measure.at} < $2::timestamptz"]
    else:
        conditions = [f"r.{measure.at} >= $1::timestamptz", f"r.{measure.at} < $2::timestamptz"]
    conditions.append(
        "r.application = $3::text" if measure.has_totals else "($3::text = 'all' or r.application = $3::text)"
    )
    if measure.segments:
        choices = " ".join(
            f"when {literal(name)} then ({measure.derived.get(name, f'r.{name}')})::text" for name in measure.segments
        )
        names = ", ".join(map(literal, measure.segments))
        conditions.append(
            f"($4::text not in ({names}) or coalesce(case $4::text {choices} end, '(unknown)') = $5::text)"
        )
    return " and ".join(conditions)


def value_sql(measure: Measure, name: str) -> str:
    """SQL for a measure's value at a place, from the rows of its relation; sums and counts of no rows are 0. It stands after the relation's CTEs."""
    aggregate = measure.measures[name]
    kinds = {type(node) for node in parse_one(aggregate, read="postgres").find_all(exp.AggFunc)}
    empty = "0" if kinds <= {exp.Sum, exp.Count} else "null"
    return f"select coalesce(({aggregate})::numeric, {empty}) as value from {measure.relation} as r\nwhere {condition(measure)}"


def rows_sql(measure: Measure, name: str) -> str:
    """SQL for the rows (as json) that count at a place, and what each contributes: its part of the measure times the weight $7. It stands after the CTEs."""
    order_by = "period_start" if measure.kind == "by_period" else measure.at
    parts = (
        f"select ({row_part(measure.measures[name], order_by)})::numeric as part, to_jsonb(r) as source\n"
        f"    from {measure.relation} as r\n    where {condition(measure)}"
    )
    if measure.key:
        parts = (
            f"select sum(part) as part, jsonb_build_object('{measure.key}', source -> '{measure.key}', 'rows', count(*)) as source\n"
            f"    from (\n    {parts}\n    ) as differences\n    group by source -> '{measure.key}'"
        )
    return f"select $7::numeric * part as contribution, source\nfrom (\n    {parts}\n) as counted\nwhere $7::numeric * part != 0"


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

        # whoever reads the pages may not ask core
        text = text.replace("core.as_of()", f"timestamptz '{lookup.as_of.isoformat()}'")
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

    def weight_sql(self, position: int, values: Values) -> str:
        """SQL for what a term's part of 1 is worth in the whole; divisors and conditions are replaced by their values."""
        weighted = _weight_of_part(self._tree.copy(), position, values)
        of_one, of_none = (
            weighted.copy().transform(lambda node, part=part: part if isinstance(node, exp.Column) else node)
            for part in (exp.cast(exp.Literal.number(1), "numeric"), exp.cast(exp.Literal.number(0), "numeric"))
        )
        return f"select ({of_one.sql(dialect='postgres')})::numeric - ({of_none.sql(dialect='postgres')})::numeric as weight"


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


def _add_periods(moment: datetime, grain: str, number: int) -> datetime:
    if grain == "hour":
        # by the clock, two hours of a day may have one name
        return (moment.astimezone(UTC) + timedelta(hours=number)).astimezone(moment.tzinfo)
    return _add_months(moment, number * MONTHS[grain]) if grain in MONTHS else moment + number * DAYS[grain]


def _add_months(moment: datetime, months: int) -> datetime:
    number = moment.year * 12 + moment.month - 1 + months
    return moment.replace(year=number // 12, month=number % 12 + 1)
