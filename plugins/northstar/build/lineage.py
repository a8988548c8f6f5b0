"""Which columns each column of the compiled models is computed from, and which columns choose its rows, down to the landed ones.

read_lineage        the graph of a version of the code: every model's columns, and every metric
Lineage.upstream    what a column or metric is made of
Lineage.downstream  what is made of it

The SQL is followed, nothing is declared a second time. What cannot be followed is listed (`not_followed`), so that a graph is never silently less.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from northstar.build.definitions import read_notes


class Origin(NamedTuple):
    """A column of a relation, written `schema.name`; the column ROWS stands for which rows there are. A metric is a column of METRIC."""

    relation: str
    column: str

    def __str__(self) -> str:
        return self.column if self.relation == METRIC else f"{self.relation}.{self.column}"


Origins = frozenset[Origin]
NONE: Origins = frozenset()
ROWS = "*"
METRIC = "metric"
# what is built as the candidate is read as the published table
CANDIDATE, PUBLISHED = "marts_candidate", "marts"
# the columns of a metric model that hold the metric's number; by the macro `metric_rows`
NUMBERS = ("numerator", "denominator", "value", "null_reason")
SHAPE = "shape_metric_id"
# a metric's unit and kind, and the models that say since when a series has values: left out, since they would be the same part of every metric's lineage
SHAPE_RELATION = "core.metric_shapes"
SERIES = "series_"
MOST_ROUNDS = 10


class Column(NamedTuple):
    """What a column is made of. values: it is computed from these; rows: these choose the rows that it is computed from."""

    values: Origins = NONE
    rows: Origins = NONE

    def __or__(self, other: "Column") -> "Column":
        return Column(self.values | other.values, self.rows | other.rows)


NOTHING = Column()


@dataclass
class Relation:
    """The columns of a query, in their order, and what chooses its rows. counted: the relations, as ROWS, whose rows they are.

    other: the origin of any column that is not listed, where the columns are unknown.
    """

    columns: dict[str, Column] = field(default_factory=dict)
    rows: Origins = NONE
    other: Column | None = None
    counted: Origins = NONE

    def find(self, name: str) -> Column | None:
        """A column by its name; None if there is none."""
        return self.columns.get(name, self.other)

    def whole(self) -> Column:
        """What a reference to the whole row is made of."""
        return _union([*self.columns.values(), *([self.other] if self.other else [])])

    def renamed(self, names: list[str]) -> "Relation":
        """The relation with its first columns called by other names."""
        if not names:
            return self
        if self.other and not self.columns:
            return replace(self, columns=dict.fromkeys(names, self.other), other=None)
        old = list(self.columns)
        return replace(self, columns=dict(zip([*names, *old[len(names) :]], self.columns.values(), strict=False)))


@dataclass
class Lineage:
    """The columns of a version of the code. columns: {column or metric: what it is made of}, directly; not_followed: {model: what its SQL has that cannot be followed}."""

    columns: dict[Origin, Column] = field(default_factory=dict)
    not_followed: dict[str, list[str]] = field(default_factory=dict)

    def upstream(self, start: Iterable[Origin], with_rows: bool = True) -> set[Origin]:
        """The columns that something is made of, directly and through others. with_rows: also those that choose rows on the way."""
        visited: set[Origin] = set()
        queue = list(start)
        while queue:
            column = self.columns.get(queue.pop(), NOTHING)
            found = (column.values | column.rows if with_rows else column.values) - visited
            visited |= found
            queue += found
        return visited

    def readers(self) -> dict[Origin, Column]:
        """{column: the columns that are made of it}: values of those computed from it, rows of those whose rows it chooses."""
        values: dict[Origin, set[Origin]] = {}
        rows: dict[Origin, set[Origin]] = {}
        for name, column in self.columns.items():
            for origin in column.values:
                values.setdefault(origin, set()).add(name)
            for origin in column.rows - column.values:
                rows.setdefault(origin, set()).add(name)
        return {
            origin: Column(frozenset(values.get(origin, ())), frozenset(rows.get(origin, ())))
            for origin in values.keys() | rows.keys()
        }


def read_lineage(
    compiled: Mapping[str, str],
    relations: Mapping[str, str],
    leaves: Mapping[str, list[str]],
    calendars: Iterable[str] = (),
) -> Lineage:
    """Follow the columns of compiled models.

    compiled: {model: SQL}; relations: {model: `schema.name`}; leaves: {`schema.name`: columns} of what no model makes, landed entities and seeds;
    calendars: relations that every entity decides, which are left out.
    """
    lineage = Lineage()
    left_out = {SHAPE_RELATION, *calendars}
    known = {name: list(columns) for name, columns in leaves.items()}
    metric_models = {relations[name] for name, sql in compiled.items() if read_notes(name, sql)[1]}
    for name in _in_order(compiled, relations):
        relation, sql = relations[name], compiled[name]
        reader = _Reader(known, metric_models)
        try:
            tree = sqlglot.parse_one(sql, read="postgres")
        except SqlglotError as exc:
            # whoever reads it says that its columns are not known
            lineage.not_followed[relation] = [f"its SQL, which sqlglot cannot read: {str(exc).splitlines()[0]}"]
            continue
        made = reader.model(tree)
        known[relation] = list(made.columns)
        metrics = read_notes(name, sql)[1]
        for column, origins in made.columns.items():
            if metrics and column in NUMBERS:
                origins = Column(frozenset(Origin(METRIC, metric) for metric in metrics), NONE)
            lineage.columns[Origin(relation, column)] = _without(origins, left_out)
        lineage.columns[Origin(relation, ROWS)] = _without(Column(made.counted, made.rows - made.counted), left_out)
        for metric, spec in metrics.items():
            if spec.parts:
                # what is made of other metrics says of which
                made_of = Column(frozenset(Origin(METRIC, part["metric"]) for part in spec.parts.values()), NONE)
                lineage.columns[Origin(METRIC, metric)] = made_of
            else:
                lineage.columns[Origin(METRIC, metric)] = _without(reader.metric(tree, metric), left_out)
        if "first_at" in made.columns and name.startswith(SERIES):
            # since when a series has values: the models that make the values are read by the metrics themselves
            left_out.add(relation)
        if reader.not_followed:
            lineage.not_followed[relation] = list(dict.fromkeys(reader.not_followed))
    return lineage


def _without(column: Column, relations: set[str]) -> Column:
    values, rows = (frozenset(o for o in origins if o.relation not in relations) for origins in column)
    return Column(values, rows)


def _in_order(compiled: Mapping[str, str], relations: Mapping[str, str]) -> list[str]:
    """The models, those that are read before those that read them."""
    names = {relation: name for name, relation in relations.items()}
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in order:
            return
        for relation in read_relations(compiled[name]):
            if relation in names and names[relation] != name and names[relation] in compiled:
                visit(names[relation])
        order[name] = None

    for name in sorted(compiled):
        visit(name)
    return list(order)


def read_relations(sql: str) -> list[str]:
    """The relations that compiled SQL reads, as `schema.name`, in the order of their first mention."""
    found = re.findall(r'"[^"]+"\."([^"]+)"\."([^"]+)"', sql)
    return list(dict.fromkeys(relation_name(schema, name) for schema, name in found))


def relation_name(schema: str, name: str) -> str:
    """`schema.name`, of a candidate's table as it is published."""
    return f"{PUBLISHED if schema == CANDIDATE else schema}.{name}"


def _union(columns: Iterable[Column]) -> Column:
    values, rows = set[Origin](), set[Origin]()
    for column in columns:
        values |= column.values
        rows |= column.rows
    return Column(frozenset(values), frozenset(rows))


@dataclass
class _Scope:
    """What the expressions of a select can name. outer: the select around it, which a lateral or correlated one sees."""

    ctes: dict[str, Relation]
    outer: "_Scope | None" = None
    sources: dict[str, Relation] = field(default_factory=dict)
    # what chooses the rows of a source that is joined from the left: its own, and the join's condition
    optional: dict[str, Origins] = field(default_factory=dict)
    windows: dict[str, exp.Expr] = field(default_factory=dict)
    # the select's own columns, which `group by` and `order by` may name
    made: dict[str, Column] = field(default_factory=dict)


class _Reader:
    """Follows the columns of one model. known: {relation: columns} of what it may read."""

    def __init__(self, known: Mapping[str, list[str]], metric_models: set[str]):
        self._known, self._metric_models = known, metric_models
        self._ctes: dict[str, Relation] = {}
        # the metric whose expressions alone are followed
        self._metric: str | None = None
        self.not_followed: list[str] = []

    def model(self, tree: exp.Expr) -> Relation:
        """The columns of a whole model."""
        self._ctes = self._with(tree, _Scope({}))
        return self._query(tree, _Scope(self._ctes), is_top=True)

    def metric(self, tree: exp.Expr, metric_id: str) -> Column:
        """The number of one metric of the model that `model` read: the other metrics' expressions are passed over."""
        for arm in _arms(tree):
            cases = [case for case in arm.find_all(exp.Case) if _is_shape(case.this)]
            if any(branch.this.name == metric_id for case in cases for branch in case.args["ifs"]):
                self._metric = metric_id
                made = self._query(arm, _Scope(self._ctes), is_top=True)
                self._metric = None
                return _union(made.columns[name] for name in ("numerator", "denominator") if name in made.columns)
        self.not_followed.append(f"the rows of the metric {metric_id}")
        return NOTHING

    def _with(self, tree: exp.Expr, scope: _Scope) -> dict[str, Relation]:
        """The CTEs that a query may read: those around it, and its own."""
        ctes = dict(scope.ctes)
        clause = tree.args.get("with_")
        if clause is None:
            return ctes
        for cte in clause.expressions:
            names = [c.name for c in cte.args["alias"].args.get("columns") or []]
            inner = _Scope(ctes, scope.outer)
            if clause.args.get("recursive") and isinstance(cte.this, exp.SetOperation):
                # what it begins with, then what is made of that, until nothing is new
                made = self._query(cte.this.left, inner).renamed(names)
                for _ in range(MOST_ROUNDS):
                    inner.ctes = {**ctes, cte.alias: made}
                    again = self._query(cte.this, inner).renamed(names)
                    if again == made:
                        break
                    made = again
                else:
                    self.not_followed.append(f"the recursion of {cte.alias} beyond {MOST_ROUNDS} rounds")
                ctes[cte.alias] = made
            else:
                ctes[cte.alias] = self._query(cte.this, inner).renamed(names)
        return ctes

    def _query(self, tree: exp.Expr, scope: _Scope, is_top: bool = False) -> Relation:
        if isinstance(tree, exp.Subquery | exp.Paren) and not tree.args.get("joins"):
            return self._query(tree.this, _Scope(self._with(tree, scope), scope.outer))
        ctes = scope.ctes if is_top else self._with(tree, scope)
        if isinstance(tree, exp.SetOperation):
            return self._set_operation(tree, _Scope(ctes, scope.outer))
        if isinstance(tree, exp.Values):
            return self._values(tree, _Scope(ctes, scope.outer))
        if isinstance(tree, exp.Select):
            return self._select(tree, _Scope(ctes, scope.outer))
        self.not_followed.append(f"a {type(tree).__name__.lower()}: {tree.sql(dialect='postgres')[:80]}")
        return Relation(other=NOTHING)

    def _set_operation(self, tree: exp.SetOperation, scope: _Scope) -> Relation:
        left = self._query(tree.left, _Scope(scope.ctes, scope.outer))
        right = self._query(tree.right, _Scope(scope.ctes, scope.outer))
        chosen = _all(left.whole()) | _all(right.whole())
        if isinstance(tree, exp.Except | exp.Intersect):
            # the rows of one are chosen by all columns of both
            columns = {
                name: Column(column.values, column.rows | chosen | right.rows) for name, column in left.columns.items()
            }
            return replace(left, columns=columns, rows=left.rows | right.rows | chosen)
        rows = left.rows | right.rows | (chosen if tree.args.get("distinct") else NONE)
        counted = left.counted | right.counted
        if left.other or right.other:
            return Relation(other=left.whole() | right.whole(), rows=rows, counted=counted)
        pairs = zip(left.columns, left.columns.values(), right.columns.values(), strict=False)
        return Relation({name: one | other for name, one, other in pairs}, rows, counted=counted)

    def _values(self, tree: exp.Values, scope: _Scope) -> Relation:
        lines = [line.expressions if isinstance(line, exp.Tuple) else [line] for line in tree.expressions]
        made = [_union(self._of(value, scope) for value in place) for place in zip(*lines, strict=True)]
        names = [c.name for c in tree.args["alias"].args.get("columns") or []] if tree.args.get("alias") else []
        return Relation({f"column{n}": c for n, c in enumerate(made, start=1)}).renamed(names)

    def _select(self, tree: exp.Select, scope: _Scope) -> Relation:
        scope.windows = {w.this.name: w for w in tree.args.get("windows") or []}
        chosen = NONE
        if tree.args.get("from_"):
            self._add_source(tree.args["from_"].this, scope)
        for join in [*(tree.args.get("joins") or []), *(tree.args.get("laterals") or [])]:
            chosen |= self._join(join, scope)
        self._narrow_metrics(tree, scope)
        for part in ("where", "having"):
            if tree.args.get(part):
                chosen |= _all(self._of(tree.args[part].this, scope))
        projected = _with_unique_names(self._project(tree, scope))
        scope.made = {name: column for name, column, _ in projected}
        made = list(scope.made.values())
        for key in tree.args["group"].expressions if tree.args.get("group") else []:
            if isinstance(key, exp.Literal) and key.is_int:
                chosen |= _all(made[int(key.name) - 1])
        for part in ("group", "distinct", "order"):
            # an order alone chooses nothing
            if tree.args.get(part) and (part != "order" or tree.args.get("limit") or tree.args.get("distinct")):
                chosen |= _all(self._of(tree.args[part], scope))
        if tree.args.get("distinct") and not tree.args["distinct"].args.get("on"):
            chosen |= _all(_union(scope.made.values()))
        required = _all_rows(s for name, s in scope.sources.items() if name not in scope.optional)
        every = _all_rows(scope.sources.values()).union(*scope.optional.values())
        is_grouped = bool(tree.args.get("group"))
        columns = {
            name: Column(column.values, column.rows | chosen | (every if adds_up or is_grouped else required))
            for name, column, adds_up in projected
        }
        counted = NONE.union(*(s.counted for name, s in scope.sources.items() if name not in scope.optional))
        return Relation(columns, chosen | every, counted=counted)

    def _project(self, tree: exp.Select, scope: _Scope) -> Iterator[tuple[str, Column, bool]]:
        """(name, what it is made of, whether it is made of many rows) of each column of a select."""
        for place, projection in enumerate(tree.expressions):
            if projection.is_star:
                table = projection.table if isinstance(projection, exp.Column) else ""
                star = projection.this if isinstance(projection, exp.Column) else projection
                if star.args.get("except_") or star.args.get("replace"):
                    self.not_followed.append(f"a star with exceptions: {projection.sql(dialect='postgres')[:80]}")
                for alias, source in scope.sources.items():
                    if not table or alias == table:
                        if source.other and not source.columns:
                            self.not_followed.append(f"{alias}.*, whose columns are not known")
                        for name in source.columns:
                            yield name, self._from_source(alias, name, scope), False
                continue
            name = "" if isinstance(projection, exp.Literal) else projection.output_name
            adds_up = projection.find(exp.AggFunc, exp.Window) is not None
            yield name or f"column {place + 1}", self._of(projection, scope), adds_up

    def _join(self, join: exp.Expr, scope: _Scope) -> Origins:
        """Add what is joined to the sources; returns what the join's condition chooses rows by, if the rows of all sources."""
        before = list(scope.sources)
        alias = self._add_source(join.this if isinstance(join, exp.Join) else join, scope)
        chosen = NONE
        if join.args.get("on"):
            chosen = _all(self._of(join.args["on"], scope))
        for name in join.args.get("using") or []:
            chosen |= _all(_union(c for s in [*before, alias] if (c := scope.sources[s].find(name.name)) is not None))
        if isinstance(join, exp.Join) and join.side == "LEFT":
            scope.optional[alias] = chosen | scope.sources[alias].rows
            return NONE
        return chosen

    def _add_source(self, node: exp.Expr, scope: _Scope) -> str:
        """Add what a `from` or `join` names to the sources; returns its name there."""
        alias = node.args.get("alias")
        names = [c.name for c in alias.args.get("columns") or []] if isinstance(alias, exp.TableAlias) else []
        inner = _Scope(scope.ctes, scope)
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            source = self._table(node, scope)
        elif isinstance(node, exp.Subquery | exp.Values) or (
            isinstance(node, exp.Lateral) and isinstance(node.this, exp.Subquery)
        ):
            source = self._query(node.this if isinstance(node, exp.Lateral) else node, inner)
        else:
            # a function that returns rows: each of its columns is made of all that it is given
            called = node.this if isinstance(node, exp.Table | exp.Lateral) else node
            if isinstance(called.args.get("offset"), exp.Identifier):
                # its ordinality
                names.append(called.args["offset"].name)
            given = _union(
                self._of(part, scope) for part in called.iter_expressions() if not isinstance(part, exp.TableAlias)
            )
            source = Relation(rows=_all(given), other=given)
        name = node.alias_or_name or f"source {len(scope.sources) + 1}"
        scope.sources[name] = source.renamed(names)
        for join in node.args.get("joins") or []:
            self._join(join, scope)
        return name

    def _table(self, node: exp.Table, scope: _Scope) -> Relation:
        if not node.db and node.name in scope.ctes:
            return scope.ctes[node.name]
        relation = relation_name(node.db, node.name)
        rows = frozenset({Origin(relation, ROWS)})
        if relation not in self._known:
            self.not_followed.append(f"{relation}, of which no model or landed entity is known")
            return Relation(rows=rows, other=Column(rows), counted=rows)
        columns = {name: Column(frozenset({Origin(relation, name)})) for name in self._known[relation]}
        return Relation(columns, rows, counted=rows)

    def _narrow_metrics(self, tree: exp.Select, scope: _Scope) -> None:
        """Where metrics of a metric model are read by their ids, its numbers are those metrics'."""
        for table, metrics in _named_metrics(tree.args["where"].this if tree.args.get("where") else None):
            for alias, source in scope.sources.items():
                if {o.relation for o in source.rows} & self._metric_models and table in ("", alias):
                    number = Column(frozenset(Origin(METRIC, metric) for metric in metrics))
                    made = {n: number if n in NUMBERS else c for n, c in source.columns.items()}
                    scope.sources[alias] = replace(source, columns=made)

    def _from_source(self, alias: str, name: str, scope: _Scope) -> Column:
        column = scope.sources[alias].find(name) or NOTHING
        return Column(column.values, column.rows | scope.optional.get(alias, NONE))

    def _column(self, node: exp.Column, scope: _Scope) -> Column:
        within: _Scope | None = scope
        while within is not None:
            if node.table:
                if node.table in within.sources and within.sources[node.table].find(node.name) is not None:
                    return self._from_source(node.table, node.name, within)
            else:
                found = [alias for alias, source in within.sources.items() if source.find(node.name) is not None]
                # with `using`, two sources have it
                if found:
                    return _union(self._from_source(alias, node.name, within) for alias in found)
                if node.name in within.made:
                    return within.made[node.name]
                if node.name in within.sources:
                    return within.sources[node.name].whole()
            within = within.outer
        self.not_followed.append(f"the column {node.sql(dialect='postgres')}")
        return NOTHING

    def _of(self, node: exp.Expr, scope: _Scope) -> Column:
        """What an expression is made of."""
        if isinstance(node, exp.Column):
            if isinstance(node.this, exp.Star):
                return scope.sources[node.table].whole() if node.table in scope.sources else NOTHING
            return self._column(node, scope)
        if self._metric and isinstance(node, exp.Case) and _is_shape(node.this):
            own = [branch.args["true"] for branch in node.args["ifs"] if branch.this.name == self._metric]
            return _union(self._of(part, scope) for part in own)
        if isinstance(node, exp.Exists):
            made = self._query(node.this, _Scope(scope.ctes, scope))
            return Column(NONE, made.rows)
        if isinstance(node, exp.Query):
            made = self._query(node, _Scope(scope.ctes, scope))
            first = next(iter(made.columns.values()), made.other or NOTHING)
            return Column(first.values, first.rows | made.rows)
        if isinstance(node, exp.Window):
            return self._window(node, scope)
        if isinstance(node, exp.Filter):
            value = self._of(node.this, scope)
            for table, metrics in _named_metrics(node.expression.this):
                # of rows of several metrics, those of one
                if all(column.table == table for column in node.this.find_all(exp.Column)):
                    kept = frozenset(o for o in value.values if o.relation != METRIC or o.column in metrics)
                    value = Column(kept, value.rows)
            return _chosen_by(value, self._of(node.expression, scope))
        if isinstance(node, exp.WithinGroup):
            # a percentile is computed of what it orders by
            return _union(self._of(part, scope) for part in (*node.this.iter_expressions(), node.expression))
        if isinstance(node, exp.Order) and isinstance(node.parent, exp.AggFunc | exp.ArrayAgg):
            return _chosen_by(self._of(node.this, scope), _union(self._of(key, scope) for key in node.expressions))
        parts = _union(self._of(part, scope) for part in node.iter_expressions())
        if isinstance(node, exp.AggFunc) and not parts.values:
            # the rows themselves are counted, or a number is added up for each
            counted = (s.counted for name, s in scope.sources.items() if name not in scope.optional)
            return Column(NONE.union(*counted), parts.rows)
        return parts

    def _window(self, node: exp.Window, scope: _Scope) -> Column:
        """A window's function is computed of its arguments; its partition and order choose rows, or are the value of one without arguments."""
        named = scope.windows.get(node.alias)
        keys = [*(node.args.get("partition_by") or []), *((named.args.get("partition_by") or []) if named else [])]
        orders = [o for o in (node.args.get("order"), named.args.get("order") if named else None) if o]
        value = self._of(node.this, scope)
        order = _union(self._of(part, scope) for part in [*keys, *orders])
        return _chosen_by(value, order) if value.values else value | order


def _named_metrics(condition: exp.Expr | None) -> Iterator[tuple[str, list[str]]]:
    """(table, metrics) of each `metric_id = '...'` and `metric_id in ('...')` that a condition requires."""
    for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
        if isinstance(part, exp.EQ | exp.In) and isinstance(part.this, exp.Column) and part.this.name == "metric_id":
            named = part.expressions if isinstance(part, exp.In) else [part.expression]
            if named and all(isinstance(name, exp.Literal) for name in named):
                yield part.this.table, [name.name for name in named]


def _chosen_by(value: Column, choice: Column) -> Column:
    return Column(value.values, value.rows | _all(choice))


def _all(column: Column) -> Origins:
    return column.values | column.rows


def _all_rows(sources: Iterable[Relation]) -> Origins:
    return NONE.union(*(source.rows for source in sources))


def _arms(body: exp.Expr) -> Iterator[exp.Expr]:
    """The selects that a model's last statement puts together."""
    if isinstance(body, exp.SetOperation):
        yield from _arms(body.left)
        yield from _arms(body.right)
    else:
        yield body


def _is_shape(node: exp.Expr | None) -> bool:
    return isinstance(node, exp.Column) and node.name == SHAPE


def _with_unique_names(projected: Iterable[tuple[str, Column, bool]]) -> list[tuple[str, Column, bool]]:
    """The columns of a select with other names for those that have one twice: set operations know columns by their place."""
    named: dict[str, tuple[str, Column, bool]] = {}
    for name, column, adds_up in projected:
        unique = name if name not in named else f"{name} {len(named) + 1}"
        named[unique] = (unique, column, adds_up)
    return list(named.values())
