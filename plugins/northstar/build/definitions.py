"""The definition of a compiled model: its relations, measures and metrics, read from its SQL.

The macros `measured` and `metric_rows` write notes into the compiled SQL, so that nothing has to be declared a second time here. The parser of
SQL is imported where it is used: no hourly run needs it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from northstar.base.errors import NorthstarError

if TYPE_CHECKING:
    from sqlglot import exp

NOTE = re.compile(r"/\* northstar\.(measures|metrics) (\{.*?\}) \*/", re.DOTALL)
RELATION = re.compile(r'"[^"]+"\."[^"]+"\."([^"]+)"')


@dataclass(frozen=True)
class Measure:
    """Aggregates (measures) over rows `r` of a relation, and how rows are assigned to periods, applications and segments."""

    relation: str
    measures: dict[str, str]
    segments: list[str]
    grains: list[str]
    at: str
    kind: str
    key: str | None
    has_totals: bool
    # {segment: SQL over r} of those that are no column of the relation
    derived: dict[str, str] = field(default_factory=dict)


class Part(TypedDict):
    """A metric that another one is made of. formula: what stands for it, over its `numerator` and `denominator`; before: '', or which earlier period is meant."""

    metric: str
    formula: str
    before: str


@dataclass(frozen=True)
class Metric:
    """The arguments of `metric_rows` for a metric: expressions over measures, explanations of columns that are no measures, and the metrics that columns stand for."""

    numerator: str
    denominator: str | None
    explained: dict[str, str | list[str]]
    of: str | None
    parts: dict[str, Part] = field(default_factory=dict)


@dataclass
class Definition:
    """A compiled model, taken apart into its CTEs, measures and metrics."""

    name: str
    sql: str
    ctes: dict[str, str] = field(default_factory=dict)
    measures: list[Measure] = field(default_factory=list)
    metrics: dict[str, Metric] = field(default_factory=dict)

    @property
    def detail(self) -> str | None:
        """SQL for the model's rows before it groups them, each aggregate replaced by what the row adds to it; None if that is not possible."""
        import sqlglot
        from sqlglot import exp

        tree = sqlglot.parse_one(self.sql, read="postgres")
        group = tree.args.get("group")
        if (
            not isinstance(tree, exp.Select)
            or group is None
            or tree.args.get("joins")
            or group.args.get("grouping_sets")
        ):
            return None
        aggregates = [a for column in tree.expressions for a in column.find_all(exp.AggFunc)]
        if tree.args.get("having") or any(
            not isinstance(a, exp.Sum | exp.Count | exp.Max | exp.Min)
            or isinstance(a.this, exp.Distinct)
            or a.find_ancestor(exp.Window)
            for a in aggregates
        ):
            return None
        tree.set("group", None)
        relation = tree.args["from_"].this.alias_or_name
        tree.set("expressions", [replace_aggregates(column) for column in tree.expressions])
        return f"({tree.select(f'to_jsonb({relation}) as _row').sql(dialect='postgres')})"

    @property
    def parents(self) -> list[str]:
        """The models and sources it reads, in the order of their first mention."""
        return parents(self.sql)

    def with_clause(self, relation: str, details: dict[str, str] | None = None) -> str:
        """The CTEs that `relation` is made of, as a `with` clause.

        details: {model name: the query to read instead of that model}.
        """
        needed_ctes, queue = set(), [relation]
        while queue:
            name = queue.pop()
            if name in self.ctes and name not in needed_ctes:
                needed_ctes.add(name)
                queue += [n for n in self.ctes if re.search(rf"\b{n}\b", self.ctes[name])]
        bodies = {name: body for name, body in self.ctes.items() if name in needed_ctes}
        if details:
            bodies = {name: _read_details(body, details) for name, body in bodies.items()}
        parts = [f"{name} as (\n    {body}\n)" for name, body in bodies.items()]
        return "with " + ",\n\n".join(parts) if parts else ""

    def find(self, measure: str, grain: str, segment: str, of: str | None) -> Measure | None:
        """The relation that has `measure` at `grain`, by preference one that is split by `segment`, or is called `of`; None if there is none."""
        candidates = [m for m in self.measures if measure in m.measures and grain in m.grains]
        if of and any(m.relation == of for m in candidates):
            candidates = [m for m in candidates if m.relation == of]
        return next((m for m in candidates if segment in m.segments), candidates[0] if candidates else None)


def parents(sql: str) -> list[str]:
    """The relations that compiled SQL reads, by name, in the order of their first mention."""
    return list(dict.fromkeys(RELATION.findall(sql)))


def parse_definition(name: str, sql: str) -> Definition:
    """Take a compiled model apart; returns its definition.

    Raises NorthstarError if its notes cannot be read.
    """
    measures, metrics = read_notes(name, sql)
    ctes = {cte: NOTE.sub("", body).strip() for cte, body in _ctes(sql).items()}
    return Definition(name, NOTE.sub("", sql).strip(), ctes, measures, metrics)


def read_notes(name: str, sql: str) -> tuple[list[Measure], dict[str, Metric]]:
    """(the measures, the metrics) of a compiled model, from its notes. Raises NorthstarError if its notes cannot be read."""
    measures, metrics = list[Measure](), dict[str, Metric]()
    for kind, text in NOTE.findall(sql):
        try:
            note = json.loads(text)
        except ValueError as exc:
            raise NorthstarError(f"the compiled model {name} has a note that is not JSON: {text[:80]}") from exc
        if kind == "measures":
            measures.append(Measure(**note))
            continue
        for metric_id, (numerator, denominator, *options) in note["metrics"].items():
            option = options[0] if options else {}
            metrics[metric_id] = Metric(
                numerator, denominator, option.get("explained", {}), note["of"], option.get("parts", {})
            )
    return measures, metrics


def _read_details(body: str, details: dict[str, str]) -> str:
    """A CTE's body changed to read the details of models; it also selects their rows (`_row`)."""
    if not any(name in details for name in parents(body)):
        return body
    import sqlglot
    from sqlglot import exp

    tree = sqlglot.parse_one(body, read="postgres")
    if isinstance(tree, exp.Select) and not tree.is_star and not tree.args.get("group"):
        body = tree.select("_row").sql(dialect="postgres")
    return RELATION.sub(lambda match: details.get(match[1], match[0]), body)


def replace_aggregates(column: exp.Expression) -> exp.Expression:
    """A column with its sums, counts and extremes replaced by what one row adds."""
    from sqlglot import exp

    def replace_aggregate(node: exp.Expression) -> exp.Expression:
        condition = None
        if isinstance(node, exp.Filter):
            condition, node = node.expression.this, node.this
        if not isinstance(node, exp.AggFunc):
            return node
        value = node.this
        if isinstance(node, exp.Count):
            value = exp.Literal.number(1)
            if not isinstance(node.this, exp.Star):
                value = exp.case().when(node.this.is_(exp.null()).not_(), value)
        return exp.Paren(this=exp.case().when(condition.copy(), value.copy()) if condition else value.copy())

    part: exp.Expression = column.transform(replace_aggregate)
    return part


def _ctes(sql: str) -> dict[str, str]:
    """{name: body} of the statement's own CTEs, as they are written."""
    import sqlglot

    tokens = sqlglot.tokenize(sql, read="postgres")
    ctes: dict[str, str] = {}
    depth, name, start = 0, "", 0
    if not tokens or tokens[0].text.lower() != "with":
        return ctes
    for position, token in enumerate(tokens[1:], start=1):
        if token.text == "(":
            if depth == 0:
                name, start = tokens[position - 2].text, token.end + 1
            depth += 1
        elif token.text == ")":
            depth -= 1
            if depth == 0:
                ctes[name] = sql[start : token.start].strip()
                if position + 1 == len(tokens) or tokens[position + 1].text != ",":
                    break
    return ctes
