"""Metrics that are a row in dbt_project/metrics.yml instead of SQL: arithmetic over other metrics (composed), and counts and sums of a fact (counted).

The models, unit tests and rows of the catalogue that follow from the file are written by `northstar dev generate` (northstar.build.generate); everything behind
them treats the metrics as any other. What a row leaves out follows from its parts: grains, segments, the window, and what it stands on.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import sqlglot
from pydantic import AfterValidator, Field
from sqlglot import exp

from northstar.base.clock import GRAINS, Grain
from northstar.base.config_files import ConfigError, Section, nearest_name, read_config, read_text
from northstar.build.generate import CATALOGUE, DECLARED, DECLARED_MODELS
from northstar.build.structure import parse_project_file
from northstar.contract import entities

COMPOSED_MODEL, COUNTED_MODEL = DECLARED_MODELS
SERIES_MODEL = "series_counted"
# a metric's place in the text of a model that makes it
METRIC_IN_MODEL = r"'{}'\s*:\s*\["
# kinds whose value is their numerator, and 0 in a period in which nothing happened
COUNTS = ("sum", "count", "distinct", "snapshot")
DIVIDED = ("ratio", "mean")
# which earlier period a function of an expression reads, and the grains that have it
EARLIER = {"previous": GRAINS, "year_before": ("month", "quarter", "year")}
# what an expression may be made of; each of these can be taken apart by `northstar explain`
ARITHMETIC = (
    exp.Column, exp.Identifier, exp.Literal, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Neg, exp.Paren, exp.Case, exp.If,
    exp.GT, exp.GTE, exp.LT, exp.LTE, exp.EQ, exp.NEQ, exp.And, exp.Or, exp.Not, exp.Null, exp.Is,
)  # fmt: skip
MEASURE = re.compile(
    r"(?P<rows>count\(\*\))|count\(distinct (?P<distinct>\w+)\)|(?P<function>sum|avg)\((?P<column>\w+)\)"
)
EXPRESSION_ADVICE = "give arithmetic over metrics, such as `mrr / paying_accounts` or `mrr - year_before(mrr)`"
MEASURE_ADVICE = "give count(*), count(distinct COLUMN), sum(COLUMN) or avg(COLUMN)"


def _one_line(text: str) -> str:
    if "\n" in text.strip():
        raise ValueError("give it in one line (`>-` folds several)")
    return text.strip()


def _measure(text: str) -> str:
    if not MEASURE.fullmatch(text):
        raise ValueError(MEASURE_ADVICE)
    return text


# a number as it is written: 0.1 must not become the nearest fraction of two
Written = Annotated[str, Field(pattern=r"^-?\d+(\.\d+)?$", description="give a number, such as 110 or 0.5")]
Line = Annotated[str, AfterValidator(_one_line)]


class Declared(Section):
    """What both kinds of declared metrics have: their row of the catalogue."""

    domain: str = Field(description="the domain, whose team answers for the metric (seeds/metric_owners.csv)")
    level: Literal["1", "2", "3"] = Field("3", description="give 1 (headline), 2 or 3 (detail)")
    unit: str = Field(description="the unit: money, count, percent, ratio, months, ...")
    direction: Literal["up", "down"] = Field(description="say which way is good: up or down")
    grains: tuple[Grain, ...] | None = Field(
        None, description=f"give grains, such as [month, quarter]; there are {', '.join(GRAINS)}"
    )
    segments: tuple[str, ...] | None = None
    dashboards: str = ""
    reports: str = ""
    requirement_refs: str = ""
    definition: Line = Field(min_length=1, description="say in one line what the number is")


class ComposedExample(Section):
    """A case worked by hand. given: {part: its value, or numerator}, as the expressions name the parts."""

    given: dict[str, Written] = Field(description="give a number for each part, as the expressions name it: {mrr: 120}")
    numerator: Written = Field(description="the numerator that you worked out by hand")
    denominator: Written | None = None
    value: Written | None = None


class Composed(Declared):
    """A metric that is arithmetic over others."""

    kind: Literal["ratio", "sum", "snapshot"] | None = Field(
        None,
        description="give sum if it adds up over applications and segments, else snapshot; with a denominator it is a ratio",
    )
    numerator: Line = Field(description=EXPRESSION_ADVICE)
    denominator: Line | None = Field(None, description=EXPRESSION_ADVICE)
    example: ComposedExample = Field(description="a case worked by hand: it becomes the metric's unit test")


class CountedExample(Section):
    """A case worked by hand: rows of the table, within April 2025 (its second week for weeks, its first day for days), and what they come to."""

    rows: tuple[dict[str, str | None], ...] = Field(description="give rows of the table, with times in April 2025")
    numerator: Written = Field(description="the numerator that you worked out by hand")
    denominator: Written | None = None
    value: Written | None = None


class Counted(Declared):
    """A metric that counts or sums rows of a table."""

    table: str = Field(description="the model whose rows are counted, such as fct_payments")
    measure: Annotated[str, AfterValidator(_measure)] = Field(description=MEASURE_ADVICE)
    where: Line | None = Field(None, min_length=1, description="give a condition over the table's columns, in SQL")
    at: str = Field(description="the table's column of time by which a row belongs to a period, such as created_at")
    needs: tuple[str, ...] | None = Field(
        None, description="give what has to have been landed, as macros/metrics/needs.sql does"
    )
    example: CountedExample = Field(description="a case worked by hand: it becomes the metric's unit test")


class DeclaredMetrics(Section):
    """The file metrics.yml."""

    composed: dict[str, Composed] = Field(default_factory=dict)
    counted: dict[str, Counted] = Field(default_factory=dict)


class Part(NamedTuple):
    """What a name in an expression stands for. field: numerator, denominator or value of `metric`; before: '' or the function that names an earlier period."""

    metric: str
    field: str
    before: str

    @property
    def column(self) -> str:
        """Its column in the model."""
        return "_".join(filter(None, [self.metric, "" if self.field == "value" else self.field, self.before]))

    @property
    def written(self) -> str:
        """How an expression writes it."""
        name = self.metric if self.field == "value" else f"{self.metric}.{self.field}"
        return f"{self.before}({name})" if self.before else name


@dataclass(frozen=True)
class ComposedMetric:
    """A composed metric with what follows from its parts. numerator, denominator: over the columns of its parts. row: of the catalogue."""

    metric_id: str
    declared: Composed
    parts: tuple[Part, ...]
    numerator: str
    denominator: str | None
    row: dict[str, str]


@dataclass(frozen=True)
class CountedMetric:
    """A counted metric. needs: what has to have been landed. row: of the catalogue."""

    metric_id: str
    declared: Counted
    needs: tuple[str, ...]
    row: dict[str, str]


@dataclass
class Project:
    """What a declared metric may be made of. catalogue: {metric: its row}; makers: {metric: the model that makes it}; models: {model: its text}; columns: {model: its columns}."""

    path: Path
    header: list[str]
    catalogue: dict[str, dict[str, str]]
    makers: dict[str, str]
    models: dict[str, str]
    columns: dict[str, list[str]]
    composed: list[ComposedMetric] = field(default_factory=list)
    counted: list[CountedMetric] = field(default_factory=list)


def read_project(path: Path) -> Project:
    """The declared metrics of a dbt project, with what they are made of. Raises ConfigError, with line and key, for the first thing in metrics.yml that cannot be."""
    where = f"dbt_project/{DECLARED}"
    text = read_text(path / DECLARED)
    declared = read_config(text, where, DeclaredMetrics, as_texts=True)
    reader = csv.DictReader(io.StringIO((path / CATALOGUE).read_text()))
    catalogue = {row["metric_id"]: row for row in reader}
    files = {p.stem: p for p in sorted((path / "models").rglob("*.sql"))}
    models = {name: p.read_text() for name, p in files.items()}
    project = Project(path, list(reader.fieldnames or []), catalogue, {}, models, _documented_columns(path))
    own = {COMPOSED_MODEL, COUNTED_MODEL}
    known = catalogue.keys() | declared.composed.keys() | declared.counted.keys()
    for name, model in models.items():
        if name.startswith("metrics_") and name not in own:
            project.makers |= {metric: name for metric in known if re.search(METRIC_IN_MODEL.format(metric), model)}
    for metric_id, counted in declared.counted.items():
        complain = _complaint(text, where, "counted", metric_id)
        if metric_id in project.makers or metric_id in declared.composed:
            raise complain("", f"{metric_id} is a metric already: of {project.makers.get(metric_id, COMPOSED_MODEL)}")
        _check_declared(project, counted, complain)
        project.counted.append(_counted(project, metric_id, counted, complain))
        project.catalogue[metric_id], project.makers[metric_id] = project.counted[-1].row, COUNTED_MODEL
    for metric_id, composed in declared.composed.items():
        complain = _complaint(text, where, "composed", metric_id)
        if metric_id in project.makers:
            raise complain("", f"{metric_id} is a metric already: of {project.makers[metric_id]}")
        _check_declared(project, composed, complain)
        project.composed.append(_composed(project, metric_id, composed, complain, declared.composed))
    for metric in project.composed:
        project.catalogue[metric.metric_id] = metric.row
    return project


Complaint = Callable[[str, str], ConfigError]


def _complaint(text: str, where: str, kind: str, metric_id: str) -> Complaint:
    """A function that makes the error for a key of a declared metric: (key, problem) -> ConfigError with its line."""
    lines = text.splitlines()

    def find(pattern: str, after: int) -> int:
        return next((n for n in range(after, len(lines)) if re.match(pattern, lines[n])), after)

    start = find(rf"\s+['\"]?{re.escape(metric_id)}['\"]?:", find(f"{kind}:", 0))

    def complain(key: str, problem: str) -> ConfigError:
        line = find(rf"\s+{re.escape(key)}:", start) if key else start
        return ConfigError(where, line + 1, ".".join(filter(None, [kind, metric_id, key])), problem)

    return complain


def _hint(name: str, known: Iterable[str]) -> str:
    near = nearest_name(name, known)
    return f"; did you mean {near!r}?" if near else ""


def _check_declared(project: Project, declared: Declared, complain: Complaint) -> None:
    domains = {row["domain"] for row in project.catalogue.values()}
    if declared.domain not in domains:
        raise complain("domain", f"unknown domain {declared.domain!r}{_hint(declared.domain, domains)}")


def _documented_columns(path: Path) -> dict[str, list[str]]:
    """{model: its columns}, as the YAML files beside the models name them."""
    columns = {}
    for file in sorted((path / "models").rglob("_*.yml")):
        if file.name != "_unit_tests.yml":
            for model in parse_project_file(file.read_text()).get("models") or []:
                columns[model["name"]] = [column["name"] for column in model.get("columns") or []]
    return columns


# composed metrics


def _composed(project: Project, metric_id: str, declared: Composed, complain: Complaint, others: Iterable[str]) -> ComposedMetric:  # fmt: skip
    parts: dict[str, Part] = {}
    numerator = _resolve(project, declared.numerator, parts, others, partial(complain, "numerator"))
    denominator = None
    if declared.denominator is not None:
        denominator = _resolve(project, declared.denominator, parts, others, partial(complain, "denominator"))
    if not parts:
        raise complain("numerator", f"it names no metric: {EXPRESSION_ADVICE}")
    kind = declared.kind or ("ratio" if denominator else "snapshot")
    if (kind == "ratio") != (denominator is not None):
        raise complain("kind", "a ratio has a denominator, and nothing else has one")
    uncertain = [part for part in parts.values() if _may_be_null(project, part)]
    if uncertain and denominator is None and not (kind == "snapshot" and declared.unit == "percent"):
        raise complain(
            "numerator", f"{uncertain[0].written} may have no value, and a metric without a denominator would be 0 then: give a denominator, or unit: percent"
        )  # fmt: skip
    if denominator is not None and any(part.column in _names(numerator) for part in uncertain):
        # nothing is known, and not 0, where a part has no value
        denominator = f"case when ({numerator}) is not null then {denominator} end"
    metrics = list(dict.fromkeys(part.metric for part in parts.values()))
    grains = _shared(project, metrics, "grains", ",", declared.grains, complain)
    for part in parts.values():
        if part.before and declared.grains is None:
            grains = [grain for grain in grains if grain in EARLIER[part.before]]
        elif part.before and (wrong := [grain for grain in grains if grain not in EARLIER[part.before]]):
            raise complain("grains", f"{part.before} knows {' and '.join(EARLIER[part.before])}, not {wrong[0]}")
    if not grains:
        raise complain("", f"its parts share no grain: {', '.join(_grains_by_metric(project, metrics))}")
    segments = _shared(project, metrics, "segments", ";", declared.segments, complain)
    window = max(int(project.catalogue[metric]["window_days"]) for metric in metrics)
    _check_example(declared.example, parts.values(), denominator is not None, complain)
    row = _row(project, metric_id, declared, kind, grains, segments, window)
    return ComposedMetric(metric_id, declared, tuple(parts.values()), numerator, denominator, row)


def find_parts(project: Project, numerator: str, denominator: str | None) -> list[str]:
    """The parts of two expressions over metrics, as they name them. Raises ConfigError for what is no arithmetic over metrics."""
    parts: dict[str, Part] = {}
    composed = [metric.metric_id for metric in project.composed]
    for side, text in (("numerator", numerator), ("denominator", denominator)):
        if text is not None:
            _resolve(project, text, parts, composed, partial(ConfigError, side, None, ""))
    return [part.written for part in parts.values()]


def _grains_by_metric(project: Project, metrics: list[str]) -> list[str]:
    return [f"{metric} has {project.catalogue[metric]['grains']}" for metric in metrics]


def _check_example(example: ComposedExample, parts: Iterable[Part], has_denominator: bool, complain: Complaint) -> None:
    written = [part.written for part in parts]
    for name in example.given:
        if name not in written:
            raise complain("given", f"{name!r} is no part of the expressions{_hint(name, written)}")
    for name in written:
        if name not in example.given:
            raise complain("given", f"{name} is missing; give each part a number")
    if has_denominator != (example.denominator is not None):
        raise complain("example", "the metric has a denominator: give it too" if has_denominator else "the metric has no denominator")  # fmt: skip


def _resolve(project: Project, text: str, parts: dict[str, Part], others: Iterable[str], complain: Callable[[str], ConfigError]) -> str:  # fmt: skip
    """An expression over metrics as one over the columns of its parts, which are added to `parts`; what is divided by is never 0."""
    try:
        tree = sqlglot.parse_one(text, read="postgres")
    except sqlglot.ParseError as exc:
        raise complain(f"{text!r} is no expression: {EXPRESSION_ADVICE}") from exc

    def resolve(node: exp.Expr) -> exp.Expr:
        before = ""
        if isinstance(node, exp.Anonymous):
            before, arguments = node.name.lower(), node.expressions
            if before not in EARLIER:
                raise complain(
                    f"unknown function {node.name!r}{_hint(before, EARLIER)}; known are {', '.join(EARLIER)}"
                )
            if len(arguments) != 1 or not isinstance(arguments[0], exp.Column):
                raise complain(f"{before} takes one metric: {before}(mrr)")
            node = arguments[0]
        if isinstance(node, exp.Column):
            part = _part(project, node, before, others, complain)
            parts[part.column] = part
            return exp.column(part.column)
        if not isinstance(node, ARITHMETIC) or (isinstance(node, exp.Literal) and node.is_string):
            raise complain(f"{node.sql(dialect='postgres')!r} is no arithmetic: {EXPRESSION_ADVICE}")
        return node

    resolved = tree.transform(resolve)
    for node in resolved.find_all(exp.Add, exp.Sub):
        for side in (node.this, node.expression):
            if side.find(exp.Column) is None:
                raise complain(
                    f"no rows are behind {side.sql()}, so the metric would not be explained: give a numerator and a denominator instead"
                )

    def divide(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Div):
            node.set("expression", exp.func("nullif", node.expression.unnest(), exp.Literal.number(0)))
        return node

    # numbers and names only: SQL's own words are in lower case here
    return resolved.transform(divide).sql(dialect="postgres").lower()


def _part(project: Project, column: exp.Column, before: str, others: Iterable[str], complain: Callable[[str], ConfigError]) -> Part:  # fmt: skip
    metric, name = (column.table, column.name) if column.table else (column.name, "value")
    if name not in ("value", "numerator", "denominator"):
        raise complain(f"{column.sql()}: a metric has a numerator, a denominator and a value")
    if metric in others:
        raise complain(f"{metric} is composed itself: write out what it is made of")
    if metric not in project.makers:
        raise complain(f"unknown metric {metric!r}{_hint(metric, project.makers)}")
    if project.makers[metric] == "metrics_targets":
        raise complain(f"{metric} judges other metrics, and can be no part of one")
    return Part(metric, name, before)


def kind_and_unit(project: Project, part: Part) -> tuple[str, str]:
    """The kind and the unit of a part's metric."""
    row = project.catalogue[part.metric]
    return row["kind"], row["unit"]


def is_counted(project: Project, part: Part) -> bool:
    """Whether a part is 0 in a period in which nothing happened."""
    kind, unit = kind_and_unit(project, part)
    return part.field != "denominator" and (kind in COUNTS or (kind in DIVIDED and part.field == "numerator")) and not (kind == "snapshot" and unit == "percent")  # fmt: skip


def _may_be_null(project: Project, part: Part) -> bool:
    return bool(part.before) or not is_counted(project, part)


def formula_of(project: Project, part: Part) -> str:
    """A part as an expression over its metric's numerator and denominator, for `northstar explain`, in SQL that may call macros; metric_value says the same."""
    kind, unit = kind_and_unit(project, part)
    if part.field != "value":
        return part.field
    if kind in ("median", "percentile"):
        return "case when denominator > 0 then numerator end"
    if kind not in DIVIDED:
        return "numerator"
    formula = "numerator / nullif(denominator, 0)"
    if unit == "money":
        return f"{{{{ rounded({formula!r}) }}}}"
    return f"100 * {formula}" if unit == "percent" and kind == "ratio" else formula


def _names(expression: str | None) -> set[str]:
    return set(re.findall(r"[a-z_][a-z0-9_]*", expression or ""))


def _shared(
    project: Project,
    metrics: list[str],
    column: str,
    separator: str,
    asked: tuple[str, ...] | None,
    complain: Complaint,
) -> list[str]:
    """The grains or segments that all metrics have; of these only those that are asked for, if any are."""
    lists = {metric: [n for n in project.catalogue[metric][column].split(separator) if n] for metric in metrics}
    shared = [name for name in lists[metrics[0]] if all(name in names for names in lists.values())]
    for name in asked or ():
        if name not in shared:
            lacking = next((metric for metric, names in lists.items() if name not in names), metrics[0])
            raise complain(
                column, f"{lacking} has no {column[:-1]} {name!r}; the parts share {', '.join(shared) or 'none'}"
            )
    return shared if asked is None else list(asked)


def _row(
    project: Project,
    metric_id: str,
    declared: Declared,
    kind: str,
    grains: Iterable[str],
    segments: Iterable[str],
    window: int,
) -> dict[str, str]:
    """A metric's row of the catalogue."""
    values = {
        "metric_id": metric_id, "domain": declared.domain, "level": declared.level, "unit": declared.unit, "direction": declared.direction,
        "kind": kind, "grains": ",".join(grains), "segments": ";".join(segments), "window_days": str(window), "dashboards": declared.dashboards,
        "reports": declared.reports, "requirement_refs": declared.requirement_refs, "definition": declared.definition,
    }  # fmt: skip
    return {name: values[name] for name in project.header}


# counted metrics


def _counted(project: Project, metric_id: str, declared: Counted, complain: Complaint) -> CountedMetric:
    if declared.table not in project.columns:
        raise complain("table", f"unknown model {declared.table!r}{_hint(declared.table, project.columns)}")
    columns = project.columns[declared.table]
    match = MEASURE.fullmatch(declared.measure)
    measured = match and (match["distinct"] or match["column"])
    wanted = [("at", declared.at), ("measure", measured), *(("segments", name) for name in declared.segments or ())]
    for key, name in wanted:
        if name and name not in columns:
            raise complain(key, f"{declared.table} has no column {name!r}{_hint(name, columns)}")
    for row in declared.example.rows:
        for name in row:
            if name not in columns:
                raise complain("example", f"{declared.table} has no column {name!r}{_hint(name, columns)}")
    if "application" not in columns:
        raise complain("table", f"{declared.table} has no column application, by which every metric is split")
    is_mean = declared.measure.startswith("avg")
    if is_mean != (declared.example.denominator is not None):
        raise complain("example", "a mean has a denominator, the number of rows: give it too" if is_mean else "the metric has no denominator")  # fmt: skip
    kind = "mean" if is_mean else "distinct" if match and match["distinct"] else "sum"
    grains = declared.grains or ("day", "week", "month", "quarter", "year")
    needs = declared.needs
    if needs is None:
        name = declared.table
        read = [name] if name.startswith("stg_") else re.findall(r"ref\('(stg_\w+)'\)", project.models[name])
        landed = [view for view in dict.fromkeys(read) if view != "stg_fx_rates"]
        if len(landed) != 1:
            raise complain(
                "",
                f"say what has to have been landed, `needs: [...]`: {name} is made of {', '.join(landed) or 'other models'}",
            )
        needs = (landed[0].removeprefix("stg_"),)
    for need in needs:
        if (entity := re.split("[. ]", need)[0]) not in entities():
            raise complain("needs", f"unknown entity {entity!r}{_hint(entity, entities())}")
    return CountedMetric(
        metric_id, declared, needs, _row(project, metric_id, declared, kind, grains, declared.segments or (), 0)
    )
