"""The files of the dbt project that follow from metrics.yml (northstar.build.declared_metrics): its rows of the catalogue, models, needs and unit tests."""

import csv
import io
from decimal import Decimal
from pathlib import Path

import yaml

from northstar.build.declared_metrics import (
    COMPOSED_MODEL,
    COUNTED_MODEL,
    COUNTS,
    DIVIDED,
    MEASURE,
    SERIES_MODEL,
    ComposedExample,
    ComposedMetric,
    CountedExample,
    CountedMetric,
    Part,
    Project,
    formula_of,
    is_counted,
    kind_and_unit,
    read_project,
)
from northstar.build.generate import CATALOGUE

FOLDER = Path("models", "core", "declared")
NEEDS = Path("macros", "metrics", "declared_metrics.sql")
# the periods of examples, by grain; each begins where its grain does
EXAMPLE_PERIODS = {
    "hour": "2025-04-01 00:00:00+00", "day": "2025-04-01 00:00:00+00", "week": "2025-04-07 00:00:00+00",
    "month": "2025-04-01 00:00:00+00", "quarter": "2025-04-01 00:00:00+00", "year": "2025-01-01 00:00:00+00",
}  # fmt: skip
EXAMPLE_ENDS = {
    "hour": "2025-04-01 01:00:00+00", "day": "2025-04-02 00:00:00+00", "week": "2025-04-14 00:00:00+00",
    "month": "2025-05-01 00:00:00+00", "quarter": "2025-07-01 00:00:00+00", "year": "2026-01-01 00:00:00+00",
}  # fmt: skip
EXAMPLE_BEFORE = {
    "hour": "2025-03-31 23:00:00+00", "day": "2025-03-31 00:00:00+00", "week": "2025-03-31 00:00:00+00",
    "month": "2025-03-01 00:00:00+00", "quarter": "2025-01-01 00:00:00+00", "year": "2024-01-01 00:00:00+00",
}  # fmt: skip
EXAMPLE_YEAR_BEFORE = {
    "month": "2024-04-01 00:00:00+00", "quarter": "2024-04-01 00:00:00+00", "year": "2024-01-01 00:00:00+00",
}  # fmt: skip


def declared_files(path: Path) -> dict[Path, str]:
    """{path within the project: content} of what follows from metrics.yml. Raises ConfigError as `read_project` does."""
    project = read_project(path)
    return {
        CATALOGUE: _catalogue(project),
        NEEDS: _needs(project),
        FOLDER / f"{COMPOSED_MODEL}.sql": _composed_model(project),
        FOLDER / f"{COUNTED_MODEL}.sql": _counted_model(project),
        FOLDER / f"{SERIES_MODEL}.sql": _series_model(project),
        FOLDER / "_unit_tests.yml": _unit_tests(project),
    }


WRITTEN = "Written by northstar.build.generate from metrics.yml."


def _catalogue(project: Project) -> str:
    """The catalogue with a row for each declared metric: in its place, or at the end."""
    rows = {metric.metric_id: metric.row for metric in project.counted}
    rows |= {metric.metric_id: metric.row for metric in project.composed}
    lines = (project.path / CATALOGUE).read_text().splitlines()
    placed = [_csv_line(rows.pop(line.partition(",")[0])) if line.partition(",")[0] in rows else line for line in lines]
    return "\n".join([*placed, *map(_csv_line, rows.values()), ""])


def _csv_line(row: dict[str, str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(row.values())
    return out.getvalue()


def _needs(project: Project) -> str:
    composed = [f"        '{m.metric_id}': {list(dict.fromkeys(p.metric for p in m.parts))}," for m in project.composed]
    counted = [f"        '{m.metric_id}': {list(m.needs)}," for m in project.counted]
    return "\n".join(
        [
            f"{{# {WRITTEN} #}}", "",
            "{# The metrics that are counted, each with what it stands on (metric_needs). #}",
            "{% macro counted_metrics() %}", "    {{ return({", *counted, "    }) }}", "{% endmacro %}", "",
            "{# The metrics that are composed, each with the metrics that it is made of. #}",
            "{% macro composed_metrics() %}", "    {{ return({", *composed, "    }) }}", "{% endmacro %}", "",
        ]
    )  # fmt: skip


METRIC_CONFIG = [
    "    materialized='incremental', unique_key=metric_key(),",
    "    affected_by=['grain', 'period_start'],",
    "    meta={'mart': 'metric_points'}, indexes=metric_indexes()",
]


def _composed_model(project: Project) -> str:
    makers: dict[str, list[str]] = {}
    for part in dict.fromkeys(part for metric in project.composed for part in metric.parts):
        names = makers.setdefault(project.makers[part.metric], [])
        if part.metric not in names:
            names.append(part.metric)
    lines = [
        f"-- Grain: metric_id, grain, period_start, application, segment, segment_value. Metrics made of other metrics. {WRITTEN}",
        "{{ config(", *METRIC_CONFIG, ") }}",
    ]  # fmt: skip
    for metric in project.composed:
        lines.append(f"{{% set {metric.metric_id}_parts = {{")
        lines += [f"    '{part.column}': {_part_literal(project, part)}," for part in metric.parts]
        lines.append("} %}")
    lines += ["", "with parts as ("]
    for position, (model, names) in enumerate(sorted(makers.items())):
        lines += ["    union all"] if position else []
        lines += [f"    {{{{ rows_of_metrics('{model}', {names}) }}}}"]
    lines += [")"]
    for metric in project.composed:
        grains = metric.row["grains"].split(",")
        segments = [s for s in metric.row["segments"].split(";") if s]
        lines[-1] += ","
        lines += ["", f"{metric.metric_id}_by_period as (", f"    {{{{ side_by_side('parts', {metric.metric_id}_parts, {segments}, {grains}) }}}}", ")"]  # fmt: skip
    for position, metric in enumerate(project.composed):
        options = f"'parts': {metric.metric_id}_parts"
        earlier = [part for part in metric.parts if part.before]
        if earlier:
            lacking = " or ".join(f"{part.column} is null" for part in earlier)
            options += f", 'null_reason': \"case when {lacking} then 'no_earlier_value' else 'empty_base' end\""
        sides = f'"{metric.numerator}", {f"{chr(34)}{metric.denominator}{chr(34)}" if metric.denominator else "none"}'
        lines += ["", *(["union all"] if position else [])]
        lines += [
            f"select * from ({{{{ metric_rows('{metric.metric_id}_by_period', {{",
            f"    '{metric.metric_id}': [{sides}, {{{options}}}],",
            f"}}) }}}}) as {metric.metric_id}_rows",
        ]
    return "\n".join([*lines, ""])


def _part_literal(project: Project, part: Part) -> str:
    kind, _ = kind_and_unit(project, part)
    # money that is counted is rounded in values only
    column = "numerator" if part.field == "value" and kind not in (*DIVIDED, "median", "percentile") else part.field
    formula = formula_of(project, part)
    literal = repr(
        {"metric": part.metric, "column": column, "formula": formula, "before": part.before, "is_counted": is_counted(project, part)}
    ).replace("True", "true").replace("False", "false")  # fmt: skip
    # within a literal of Jinja a macro is called as it is
    return (
        literal.replace(repr(formula), formula.removeprefix("{{ ").removesuffix(" }}")) if "{{" in formula else literal
    )


def _counted_rows(metric: CountedMetric, is_of_series: bool) -> list[str]:
    """The CTE of a counted metric's rows; the series begin with the table's first row, whether it is counted or not."""
    declared, grains = metric.declared, metric.row["grains"].split(",")
    match = MEASURE.fullmatch(declared.measure)
    column = match and (match["distinct"] or match["column"])
    columns = [
        "application",
        *(declared.segments or ()),
        *([f"{column} as measured"] if column and not is_of_series else []),
    ]
    lines = [f"{metric.metric_id}_facts as (", "    select"]
    lines += [f"        {name}," for name in columns]
    lines += [f"        {declared.at}::timestamptz as happened_at", f"    from {{{{ ref('{declared.table}') }}}}"]
    conditions = [f"{declared.at} is not null"]
    if not is_of_series:
        conditions += [f"{{{{ at_or_after_affected('{declared.at}', grains={grains}) }}}}", *([f"({declared.where})"] if declared.where else [])]  # fmt: skip
    return [*lines, f"    where {' and '.join(conditions)}", ")"]


def _joined(parts: list[list[str]]) -> list[str]:
    """CTEs one after the other."""
    lines: list[str] = []
    for position, part in enumerate(parts):
        lines += [*part[:-1], part[-1] + ("," if position + 1 < len(parts) else ""), ""]
    lines[0] = f"with {lines[0]}"
    return lines


def _counted_model(project: Project) -> str:
    lines = [
        f"-- Grain: metric_id, grain, period_start, application, segment, segment_value. Metrics that count or sum rows. {WRITTEN}",
        "{{ config(", *METRIC_CONFIG, ") }}", f"{{% set series = ref('{SERIES_MODEL}') %}}", "",
    ]  # fmt: skip
    lines += _joined([_counted_rows(metric, is_of_series=False) for metric in project.counted])
    for position, metric in enumerate(project.counted):
        name, measure = metric.metric_id, MEASURE.fullmatch(metric.declared.measure)
        aggregate = "count(*)" if measure and measure["rows"] else "count(distinct r.measured)" if measure and measure["distinct"] else "sum(r.measured)"  # fmt: skip
        measures, denominator = {name: aggregate}, "none"
        if metric.row["kind"] == "mean":
            measures[f"{name}_rows"] = "count(r.measured)"
            denominator = f"'{name}_rows'"
        grains, segments = metric.row["grains"].split(","), list(metric.declared.segments or ())
        lines += ["union all"] if position else []
        lines += [
            f"{{{{ metrics_of('{name}_facts', series, '{name}', {measures}, {segments}, {grains}, {{",
            f"    '{name}': ['{name}', {denominator}],",
            "}) }}",
        ]
    return "\n".join([*lines, ""])


def _series_model(project: Project) -> str:
    lines = [
        f"-- Grain: fact, application, segment, segment_value. When each series of the counted metrics begins. {WRITTEN}",
        "{{ config(", "    materialized='incremental',",
        "    unique_key=['fact', 'application', 'segment', 'segment_value'], touches=['first_at']", ") }}", "",
    ]  # fmt: skip
    lines += _joined([_counted_rows(metric, is_of_series=True) for metric in project.counted])
    for position, metric in enumerate(project.counted):
        lines += ["union all"] if position else []
        lines.append(
            f"{{{{ series_of('{metric.metric_id}', '{metric.metric_id}_facts', {list(metric.declared.segments or ())}) }}}}"
        )
    return "\n".join([*lines, ""])


# unit tests


def _unit_tests(project: Project) -> str:
    tests = [_composed_test(project, metric) for metric in project.composed]
    tests += [_counted_test(project, metric) for metric in project.counted]
    content = yaml.safe_dump({"version": 2, "unit_tests": tests}, sort_keys=False, width=1000, default_flow_style=None)
    return f"# The examples of metrics.yml as tests. {WRITTEN}\n{content}"


def _test(project: Project, metric_id: str, model: str, given: dict[str, list[dict[str, object]]], example: ComposedExample | CountedExample) -> dict[str, object]:  # fmt: skip
    row = project.catalogue[metric_id]
    grain = _example_grain(row)
    is_zero_filled = row["kind"] in (*COUNTS, *DIVIDED) and not (row["kind"] == "snapshot" and row["unit"] == "percent")
    given |= {
        "periods": [{"grain": grain, "period_start": EXAMPLE_PERIODS[grain], "period_end": EXAMPLE_ENDS[grain]}],
        "metric_shapes": [{"metric_id": metric_id, "grain": grain, "segment": "", "kind": row["kind"], "unit": row["unit"], "is_zero_filled": is_zero_filled}],
    }  # fmt: skip
    expected: dict[str, object] = {
        "metric_id": metric_id,
        "grain": grain,
        "numerator": example.numerator,
        "denominator": example.denominator,
    }
    if example.value is not None:
        # money is rounded to hundredths, and dbt compares what is written
        digits = len(example.value.partition(".")[2])
        expected["value"] = f"{Decimal(example.value):.2f}" if row["unit"] == "money" and digits < 2 else example.value
    return {
        "name": f"{metric_id}_by_hand",
        "model": model,
        "description": "the example of its row in metrics.yml",
        "overrides": {"macros": {"is_incremental": False, "as_of": "timestamptz '2025-07-01 00:00:00+00'"}},
        "given": [{"input": f"ref('{name}')", "rows": rows} for name, rows in given.items()],
        "expect": {"rows": [expected]},
    }


def _example_grain(row: dict[str, str]) -> str:
    grains = row["grains"].split(",")
    return "month" if "month" in grains else grains[0]


def _composed_test(project: Project, metric: ComposedMetric) -> dict[str, object]:
    grain = _example_grain(metric.row)
    starts = {
        "": EXAMPLE_PERIODS[grain],
        "previous": EXAMPLE_BEFORE[grain],
        "year_before": EXAMPLE_YEAR_BEFORE.get(grain, ""),
    }
    models = sorted({project.makers[part.metric] for other in project.composed for part in other.parts})
    given: dict[str, list[dict[str, object]]] = {model: [] for model in models}
    rows: dict[tuple[str, str], dict[str, object]] = {}
    place = {"grain": grain, "application": "shop", "segment": "", "segment_value": ""}
    for part in metric.parts:
        column = "numerator" if part.field == "value" and formula_of(project, part) == "numerator" else part.field
        row = rows.setdefault(
            (part.metric, part.before),
            {"metric_id": part.metric, **place, "period_start": starts[part.before], "numerator": None, "denominator": None, "value": None,
             "is_point": True, "series_state": None},
        )  # fmt: skip
        row[column] = metric.declared.example.given[part.written]
    for (name, _), row in rows.items():
        given[project.makers[name]].append(row)
    first = min(starts[part.before] for part in metric.parts)
    for name in dict.fromkeys(part.metric for part in metric.parts):
        begins = {
            "metric_id": name,
            **place,
            "period_start": first,
            "numerator": None,
            "denominator": None,
            "value": None,
        }
        given[project.makers[name]].append(begins | {"is_point": False, "series_state": "measured"})
    return _test(project, metric.metric_id, COMPOSED_MODEL, given, metric.declared.example)


def _counted_test(project: Project, metric: CountedMetric) -> dict[str, object]:
    given: dict[str, list[dict[str, object]]] = {other.declared.table: [] for other in project.counted}
    given[metric.declared.table] = [dict(row) for row in metric.declared.example.rows]
    begins: dict[str, object] = {
        "fact": metric.metric_id,
        "application": "all",
        "segment": "",
        "segment_value": "",
        "first_at": EXAMPLE_PERIODS[_example_grain(metric.row)],
    }
    given[SERIES_MODEL] = [begins]
    return _test(project, metric.metric_id, COUNTED_MODEL, given, metric.declared.example)
