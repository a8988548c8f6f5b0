"""The skeletons of a new metric and a new model: every place that the project wants something in, with TODO where somebody has to think.

`northstar dev check` names what is still to be written, and a run stops for it.
"""

import csv
import io
import re
from pathlib import Path

from northstar.base.config_files import nearest_name, read_own_yaml
from northstar.base.errors import NorthstarError
from northstar.build.declared_metrics import METRIC_IN_MODEL, Project, find_parts, read_project
from northstar.build.generate import CATALOGUE, DECLARED, METRIC_MODELS, metric_models
from northstar.build.structure import find_unfinished, metric_model_names

NAME = re.compile(r"[a-z][a-z0-9_]*")
NEEDS = Path("macros", "metrics", "needs.sql")
TODO = "TODO"


def require_new_name(name: str, known: dict[str, str]) -> None:
    """Raise NorthstarError for a name that cannot be one, or that is taken. known: {name: what has it}."""
    if not NAME.fullmatch(name):
        raise NorthstarError(f"{name!r} is no name: use small letters, digits and _, beginning with a letter")
    if name in known:
        raise NorthstarError(f"there is {known[name]} {name!r} already")


def new_composed_metric(path: Path, name: str, numerator: str, denominator: str | None) -> list[Path]:
    """A row of metrics.yml for a metric made of others. Raises NorthstarError for a name that is taken and for expressions that cannot be."""
    project = _open(path, name)
    parts = find_parts(project, numerator, denominator)
    lines = [
        f"  {name}:", *_catalogue_todos(project),
        *([] if denominator else [f"    kind: {TODO} sum if it adds up over applications and segments, else snapshot"]),
        f"    numerator: {numerator}", *([f"    denominator: {denominator}"] if denominator else []),
        f"    definition: {TODO} say in one line what the number is", "    example:", "      given:",
        *(f"        {part}: {TODO}" for part in parts), *_example_todos(denominator is not None),
    ]  # fmt: skip
    return [_append_to_section(path, "composed", lines)]


def new_counted_metric(path: Path, name: str, table: str) -> list[Path]:
    """A row of metrics.yml for a metric that counts or sums rows of a table. Raises NorthstarError for a name that is taken and for an unknown table."""
    project = _open(path, name)
    _require_table(project, table)
    columns = project.columns[table]
    times = [column for column in columns if column.endswith(("_at", "_on", "_date", "_hour"))]
    lines = [
        f"  {name}:", *_catalogue_todos(project), f"    table: {table}",
        f"    measure: {TODO} count(*), count(distinct COLUMN), sum(COLUMN) or avg(COLUMN)",
        f"    where: {TODO} a condition, or leave the line out",
        f"    at: {times[0] if len(times) == 1 else f'{TODO} one of ' + ', '.join(times or columns)}",
        f"    segments: {TODO} columns, such as [country], or leave the line out",
        f"    needs: {TODO} what has to have been landed, such as [charges]; a table made of one entity needs no such line",
        f"    definition: {TODO} say in one line what the number is", "    example:",
        "      rows:", f"        - {{application: shop, COLUMN: VALUE}} # {TODO} rows of {table} in April 2025", *_example_todos(False),
    ]  # fmt: skip
    return [_append_to_section(path, "counted", lines)]


def new_sql_metric(path: Path, name: str, model: str) -> list[Path]:
    """A metric of a metric model: its line there, its row of the catalogue, its needs and its lines of the unit test."""
    project = _open(path, name)
    names = metric_model_names(path)
    if model not in names:
        raise NorthstarError(f"there is no metric model {model!r}{_hint(model, names)}; they are {', '.join(names)}")
    neighbours = [
        metric for metric in project.catalogue if re.search(METRIC_IN_MODEL.format(metric), project.models[model])
    ]
    file = next(p for p in (path / "models").rglob(f"{model}.sql"))
    tests = file.with_name("_unit_tests.yml")
    domain = project.catalogue[neighbours[-1]]["domain"] if neighbours else f"{TODO} domain"
    row = dict.fromkeys(project.header, "") | {
        "metric_id": name, "domain": domain, "level": "3", "unit": f"{TODO} unit", "direction": f"{TODO} up or down", "kind": f"{TODO} sum, ratio, ...",
        "grains": "month", "window_days": "0", "definition": f"{TODO} say in one line what the number is",
    }  # fmt: skip
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(row.values())
    with (path / CATALOGUE).open("a") as catalogue:
        catalogue.write(out.getvalue())
    _insert_after_last(file, r"    '\w+': \[.*\],\s*$", f"    '{name}': ['{TODO} numerator', none],")
    _insert_after_last(
        path / NEEDS, r"        '\w+': .*\],\s*$", f"        '{name}': ['{TODO} what has to have been landed'],"
    )
    shape = f"{{metric_id: {name}, grain: month, segment: '', kind: {TODO}, unit: {TODO}, is_zero_filled: true}}"
    _insert_after_last(tests, r"\s+- \{metric_id: .*is_zero_filled: .*\}\s*$", shape, as_item=True)
    result = (
        f"{{metric_id: {name}, grain: month, numerator: {TODO}, denominator: null, value: {TODO}, null_reason: null}}"
    )
    _insert_after_last(tests, r"\s+- \{metric_id: .*null_reason: .*\}\s*$", result, as_item=True)
    return [changed for changed in (path / CATALOGUE, file, path / NEEDS, tests)]


def new_model(path: Path, name: str, folder: str, reads: str, key: list[str]) -> list[Path]:
    """A model of a folder (`marts/payments`) that reads one other: its SQL, its YAML, its unit test, and, of a mart, its checks.

    Raises NorthstarError for a name that is taken, and for a folder, model or column that there is not.
    """
    project = _open(path, name)
    require_new_name(name, dict.fromkeys(project.models, "a model"))
    _require_table(project, reads)
    folders = sorted(
        str(p.parent.relative_to(path / "models"))
        for p in (path / "models").glob("*/*/_*.yml")
        if p.name != "_unit_tests.yml"
    )
    if folder not in folders:
        raise NorthstarError(
            f"there is no folder models/{folder}{_hint(folder, folders)}; they are {', '.join(folders)}"
        )
    is_mart = folder.startswith("marts/")
    types = _types(path, reads)
    alias = reads.removeprefix("fct_").removeprefix("dim_").removeprefix("stg_")
    place = path / "models" / folder
    selected = [column if column in project.columns[reads] else f"{TODO} as {column}" for column in key]
    sql = [
        f"-- Grain: {', '.join(key)}. {TODO}: say what a row is.", f"{{{{ config(unique_key={key}) }}}}", "",
        f"with {alias} as (", f"    select * from {{{{ ref('{reads}') }}}}", ")", "", "select",
        *(f"    {column}," for column in selected), f"    count(*) as rows -- {TODO}: the columns that the model is for", f"from {alias}",
        f"group by {', '.join(str(n) for n in range(1, len(key) + 1))}",
    ]  # fmt: skip
    description = f"{TODO} say what a row is"
    columns = [(column, types.get(column, f"{TODO} type"), f"{TODO} what {column} is") for column in key]
    columns.append(("rows", "bigint", f"{TODO} what is counted"))
    described = [
        f"- name: {name}", f"  description: '{description}'",
        *(["  config: {contract: {enforced: true}}"] if is_mart else []), "  columns:",
        *(f"  - {{name: {column}, data_type: {kind}, description: {text}}}" for column, kind, text in columns),
        "  data_tests:", f"  - unique_key: {{arguments: {{columns: [{', '.join(key)}]}}}}",
    ]  # fmt: skip
    given = ", ".join(f"{column}: {TODO}" for column in key if column in project.columns[reads]) or f"COLUMN: {TODO}"
    test = [
        f"  - name: {name}_by_hand", f"    model: {name}", f"    description: '{TODO} what the rows below show'", "    given:",
        f"      - input: ref('{reads}')", "        rows:", f"          - {{{given}}}", "    expect:", "      rows:",
        f"        - {{{', '.join(f'{column}: {TODO}' for column in key)}, rows: 1}}",
    ]  # fmt: skip
    (place / f"{name}.sql").write_text("\n".join(sql) + "\n")
    yaml_file = next(p for p in sorted(place.glob("_*.yml")) if p.name != "_unit_tests.yml")
    written = [place / f"{name}.sql", _append_lines(yaml_file, described)]
    tests = place / "_unit_tests.yml"
    if not tests.exists():
        tests.write_text("# Each model against a ledger worked by hand.\nversion: 2\nunit_tests:\n")
    written.append(_append_lines(tests, test))
    checks = path.parent / "expectations" / "marts" / f"{name}.yml"
    if is_mart and checks.parent.exists():
        lines = [
            f"table: marts_candidate.{name}", "checks:", f"  - name: {TODO.lower()}_name_of_the_check # {TODO}",
            f"    rows: select * from $batch where false # {TODO} a query for the rows that are wrong", "    severity: error",
            f"    reason: {TODO} why readers must not see such rows",
        ]  # fmt: skip
        checks.write_text("\n".join(lines) + "\n")
        written.append(checks)
    lists = path / METRIC_MODELS
    lists.write_text(metric_models(path))
    return written


def _open(path: Path, name: str) -> Project:
    """The project in which nothing has that name yet. Raises NorthstarError while something else is still to be written."""
    if unfinished := find_unfinished(path):
        raise NorthstarError(f"{unfinished[0]}; finish that first (`northstar dev check` lists all)")
    project = read_project(path)
    require_new_name(name, dict.fromkeys(project.catalogue, "a metric"))
    return project


def _hint(name: str, known: list[str]) -> str:
    near = nearest_name(name, known)
    return f"; did you mean {near!r}?" if near else ""


def _require_table(project: Project, table: str) -> None:
    if table not in project.columns:
        raise NorthstarError(f"there is no model {table!r}{_hint(table, list(project.columns))}")


def _types(path: Path, model: str) -> dict[str, str]:
    """{column: its type} of a model, as far as its YAML says."""
    for file in (path / "models").rglob("_*.yml"):
        for described in (read_own_yaml(file) or {}).get("models") or []:
            if described["name"] == model:
                return {c["name"]: c["data_type"] for c in described.get("columns") or [] if c.get("data_type")}
    return {}


def _catalogue_todos(project: Project) -> list[str]:
    domains = sorted({row["domain"] for row in project.catalogue.values()})
    return [
        f"    domain: {TODO} one of {', '.join(domains)}", f"    unit: {TODO} money, count, percent, ratio, ...", f"    direction: {TODO} up or down",
    ]  # fmt: skip


def _example_todos(has_denominator: bool) -> list[str]:
    return [
        f"      numerator: {TODO} the result that you worked out by hand", *([f"      denominator: {TODO}"] if has_denominator else []),
        f"      value: {TODO}",
    ]  # fmt: skip


def _append_to_section(path: Path, section: str, lines: list[str]) -> Path:
    """Add an entry at the end of a section of metrics.yml."""
    file = path / DECLARED
    text = file.read_text().splitlines()
    start = text.index(f"{section}:") if f"{section}:" in text else len(text)
    if start == len(text):
        text.append(f"{section}:")
    end = next((n for n in range(start + 1, len(text)) if text[n] and not text[n].startswith((" ", "#"))), len(text))
    file.write_text("\n".join([*text[:end], *lines, *text[end:], ""]))
    return file


def _append_lines(file: Path, lines: list[str]) -> Path:
    file.write_text(file.read_text().rstrip("\n") + "\n" + "\n".join(lines) + "\n")
    return file


def _insert_after_last(file: Path, pattern: str, line: str, as_item: bool = False) -> None:
    """Insert a line after the last one that matches. as_item: with the indentation of that one, as an item of its list."""
    lines = file.read_text().splitlines()
    place = max((n for n, text in enumerate(lines) if re.match(pattern, text)), default=None)
    if place is None:
        raise NorthstarError(f"{file.name} has no line like the one to add; add it by hand: {line}")
    indent = re.match(r"\s*", lines[place])
    lines.insert(place + 1, f"{indent[0] if indent else ''}- {line}" if as_item else line)
    file.write_text("\n".join(lines) + "\n")
