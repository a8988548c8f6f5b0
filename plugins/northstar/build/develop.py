"""The inner loop of those who change models: check the project, show a model's rows, run its unit tests. Nothing is built, and no run is needed.

dbt compiles the working tree into a directory of its own, where it keeps its parse from one command to the next. What a model reads comes from the core
that the last run built; models above it that differ from those of the last run are computed on the way, in temporary tables of one transaction that is
rolled back. So a change to a fact can be seen in a metric at once.
"""

import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psycopg
from psycopg import sql as quoting

from northstar.base.collector import uncollected
from northstar.base.config_files import nearest_name
from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.base.tables import table
from northstar.build.dbt import context_in_environment, dbt_env, describe_failure, hidden_command_line
from northstar.build.definitions import NOTE
from northstar.build.differences import is_same_sql
from northstar.build.generate import DECLARED_MODELS
from northstar.build.lean import without_what_nobody_reads
from northstar.build.manifest import TEMPLATES, Node, dbt_target
from northstar.build.own_seeds import project_directory, write_project
from northstar.build.results import read_definitions
from northstar.build.structure import (
    Finding,
    check_files,
    check_metrics,
    check_removals,
    find_unfinished,
    line_of,
    metric_model_names,
)
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, Row

if TYPE_CHECKING:
    from dbt.artifacts.schemas.run import RunResult

# a function that runs a dbt command and gives the results of its nodes
Invoke = Callable[[list[str]], list["RunResult"]]
# how long the query of one model may take
STATEMENT_TIMEOUT = "120s"


class Shown(NamedTuple):
    """Rows of a model. computed: the models above it that were computed on the way, since they are not as the last run built them."""

    rows: list[Row]
    columns: list[str]
    computed: list[str]


@dataclass
class UnitTest:
    """A unit test's result. message: of a failure, dbt's comparison of the rows."""

    name: str
    model: str
    passed: bool
    message: str = ""
    seconds: float = field(default=0, compare=False)


def check_project(settings: Settings) -> list[Finding]:
    """All mistakes that a run would stop at. Raises NorthstarError for a project that dbt cannot read, with the file and line."""
    project = settings.root / "dbt_project"
    # what is not finished need not compile
    if unfinished := find_unfinished(project):
        return unfinished
    write_project(settings)
    with db.connect(settings, "transformer") as connection:
        findings = check_files(project) + check_removals(project, connection)
    names = metric_model_names(project)
    with _dbt(settings) as invoke:
        compiled, _ = _compile(settings, invoke, [f"+{name}" for name in names])
    return findings + check_metrics(project, compiled)


def show(
    settings: Settings, name: str, limit: int, grain: str | None = None, application: str | None = None, segment: str | None = None
) -> Shown:  # fmt: skip
    """The rows that a model, or a metric, has with the working tree's code.

    name: of a model or a metric; limit: the most rows; grain, application, segment: of a metric's values, by default months (or its longest grain), `all`
    and no segment. Raises NorthstarError, with the file and line, for code that does not work.
    """
    project = project_directory(settings)
    write_project(settings)
    with _dbt(settings) as invoke:
        model, is_metric = find_model(project, name)
        compiled, nodes = _compile(settings, invoke, [f"+{model}"])
    with db.connect(settings, "transformer") as connection:
        connection.execute(f"set local statement_timeout = '{STATEMENT_TIMEOUT}'")
        # as dbt's hook does for metrics (find_affected): the sizes of grouped CTEs are guesses, and one bad nested loop turned 5 s into 500 s
        connection.execute("set local enable_nestloop = off; set local enable_mergejoin = off")
        published = _published_definitions(connection)
        target = nodes[model]
        order = [one for one in _in_order(nodes) if one != model]
        changed: list[str] = []
        for one in order:
            is_seed = nodes[one]["resource_type"] == "seed"
            if is_seed:
                is_changed = _load_seed(connection, project, nodes[one])
            else:
                is_changed = one not in published or not is_same_sql(compiled[one], published[one])
                is_changed = is_changed or bool(set(changed) & _parents(nodes[one]))
                if is_changed and nodes[one]["config"]["materialized"] != "ephemeral":
                    text = _redirect(compiled[one], nodes, changed)
                    _execute(connection, project, nodes[one], f'create temp table "{one}" as ({text}\n)', compiled[one])
                    connection.execute(f'analyze pg_temp."{one}"')
            if is_changed:
                changed.append(one)
        text = NOTE.sub("", _redirect(compiled[model], nodes, changed))
        if model not in published or not is_same_sql(compiled[model], published[model]):
            _require_unique(connection, project, target, text, compiled[model])
        statement, values = _select(text, name if is_metric else None, limit, grain, application, segment)
        rows, columns = _execute(connection, project, target, statement, compiled[model], values)
        connection.rollback()
    return Shown(rows, columns, changed)


def unit_test(settings: Settings, name: str) -> list[UnitTest]:
    """Run the unit tests of a model, or of the model of a metric.

    Raises NorthstarError if there is no such model, if it has no unit test, or for code that does not work.
    """
    write_project(settings)
    model, _ = find_model(project_directory(settings), name)
    # the examples of metrics.yml share two models; whoever asks for one metric means its own
    own = f"{name}_by_hand" if model in DECLARED_MODELS and name != model else None
    with _dbt(settings) as invoke:
        results = invoke(["test", "--select", own or f"{model},test_type:unit"])
    tests = [
        UnitTest(one.node.name, model, str(one.status) == "pass", _comparison(one.message or ""), one.execution_time)
        for one in results if str(one.node.resource_type) == "unit_test"
    ]  # fmt: skip
    if not tests:
        raise NorthstarError(f"the model {model} has no unit test; add one to _unit_tests.yml beside it")
    return tests


def as_text(shown: Shown) -> str:
    """The rows as a table, with what was computed on the way."""
    lines = [table(shown.rows, shown.columns)]
    if shown.computed:
        lines.append(f"computed on the way, since they differ from the last run: {', '.join(shown.computed)}")
    return "\n".join(lines)


@contextmanager
def _dbt(settings: Settings) -> Iterator[Invoke]:
    """dbt in the development directory: a function that runs a command, and raises NorthstarError with one line if it could not."""
    os.environ.update(dbt_env(settings))
    target = settings.home / "dbt" / "dev"
    target.mkdir(parents=True, exist_ok=True)
    os.environ["DBT_TARGET_PATH"] = str(target)
    from dbt.artifacts.schemas.run import RunExecutionResult
    from dbt.cli.main import dbtRunner

    runner = dbtRunner()

    def invoke(arguments: list[str]) -> list["RunResult"]:
        # dbt prints the SQL of what it compiles
        with (
            hidden_command_line(),
            open(os.devnull, "w") as nowhere,
            redirect_stdout(nowhere),
            uncollected(),
            without_what_nobody_reads(dbt_target(settings) / TEMPLATES, "", is_written=False),
        ):
            result = runner.invoke(
                [*arguments, "--quiet", "--log-level-file", "none", "--no-use-colors", "--no-write-json"]
            )
        if result.exception is not None:
            raise NorthstarError(describe_failure(project_directory(settings), str(result.exception)))
        return list(result.result.results) if isinstance(result.result, RunExecutionResult) else []

    with context_in_environment(settings):
        context = json.loads(os.environ["NORTHSTAR_RUN_CONTEXT"])
        # as a full build under the rules that the home has now
        context |= {"is_full": True, "rules": settings.rules.model_dump(mode="json")}
        os.environ["NORTHSTAR_RUN_CONTEXT"] = json.dumps(context)
        yield invoke


def _compile(settings: Settings, invoke: Invoke, select: list[str]) -> tuple[dict[str, str], dict[str, Node]]:
    """({model: compiled SQL as of a full build}, {name: node} of the selected models and seeds)."""
    results = invoke(["compile", "--full-refresh", "--select", *select])
    compiled, nodes = {}, {}
    for one in results:
        node = one.node.to_dict()
        if str(one.status) not in ("success", "pass"):
            raise NorthstarError(describe_failure(project_directory(settings), one.message or ""))
        if node["resource_type"] == "model":
            compiled[node["name"]] = node["compiled_code"]
        if node["resource_type"] in ("model", "seed"):
            nodes[node["name"]] = node
    return compiled, nodes


def find_model(project: Path, name: str) -> tuple[str, bool]:
    """(the model, whether `name` is a metric of it). Raises NorthstarError for an unknown name."""
    texts = {path.stem: path.read_text() for path in sorted((project / "models").rglob("*.sql"))}
    if name in texts:
        return name, False
    for model in metric_model_names(project):
        if re.search(rf"'{re.escape(name)}'\s*:\s*\[", texts[model]):
            return model, True
    with open(project / "seeds" / "metric_catalogue.csv", newline="") as handle:
        metrics = [row["metric_id"] for row in csv.DictReader(handle)]
    if name in metrics:
        raise NorthstarError(
            f"{name} is in the catalogue, but a metric of no model: name it in the `metric_rows` of one"
        )
    near = nearest_name(name, [*texts, *metrics])
    raise NorthstarError(f"there is no model or metric {name!r}{f'; did you mean {near!r}?' if near else ''}")


def _published_definitions(connection: Connection) -> dict[str, str]:
    """{model: the SQL that the core in the warehouse was built with}."""
    run = connection.execute(
        "select code_version from audit.runs where code_version in (select code_version from audit.definitions) order by run_id desc limit 1"
    ).fetchone()
    if run is None:
        raise NorthstarError(
            "nothing was built in this home yet: `northstar run` (or `make run`) builds the core that models read from"
        )
    return read_definitions(connection, run["code_version"])


def _parents(node: Node) -> set[str]:
    """The models and seeds that a node reads; sources have the names of models."""
    return {one.rsplit(".", 1)[1] for one in node["depends_on"]["nodes"] if not one.startswith("source.")}


def _in_order(nodes: Mapping[str, Node]) -> list[str]:
    """The names, each after those that it reads."""
    order: dict[str, None] = {}

    def add(name: str) -> None:
        if name not in order and name in nodes:
            for parent in sorted(_parents(nodes[name]) if nodes[name]["resource_type"] == "model" else ()):
                add(parent)
            order[name] = None

    for name in sorted(nodes):
        add(name)
    return list(order)


def _load_seed(connection: Connection, project: Path, node: Node) -> bool:
    """Load a seed into a temporary table if it is not as the warehouse has it; returns whether that is so."""
    name, schema = node["name"], node["schema"]
    built, copy = quoting.Identifier(schema, name), quoting.Identifier("pg_temp", name)
    text = (project / node["original_file_path"]).read_text()
    header = [quoting.Identifier(column.strip().lower()) for column in next(csv.reader([text.splitlines()[0]]))]
    connection.execute(quoting.SQL("create temp table {} (like {})").format(quoting.Identifier(name), built))
    try:
        with connection.cursor().copy(
            quoting.SQL("copy {} ({}) from stdin (format csv, header)").format(copy, quoting.SQL(", ").join(header))
        ) as into:
            into.write(text)
    except psycopg.Error as exc:
        raise NorthstarError(
            f"dbt_project/{node['original_file_path']}: {exc.diag.message_primary} ({exc.diag.context})"
        ) from exc
    columns = quoting.SQL(", ").join(header)
    is_changed = connection.execute(
        quoting.SQL("select 1 from ((select {0} from {1} except all select {0} from {2}) union all (select {0} from {2} except all select {0} from {1})) as d limit 1")
        .format(columns, built, copy)
    ).fetchone()  # fmt: skip
    if not is_changed:
        connection.execute(quoting.SQL("drop table {}").format(copy))
    return is_changed is not None


def _redirect(text: str, nodes: Mapping[str, Node], changed: list[str]) -> str:
    """Compiled SQL that reads the temporary tables of the models that have changed."""
    for name in changed:
        text = text.replace(nodes[name]["relation_name"] or f'"{name}"', f'pg_temp."{name}"')
    return text


def _select(
    text: str, metric_id: str | None, limit: int, grain: str | None, application: str | None, segment: str | None
) -> tuple[str, list[object]]:
    """(the query for what is shown of a model's SQL, its parameters)."""
    text = text.replace("%", "%%")
    if metric_id is None:
        return f"select * from (\n{text}\n) as shown limit %s", [limit]
    metric = "select * from shown where metric_id = %s and is_point"
    statement = (
        f"with shown as materialized (\n{text}\n), metric as ({metric}) "
        "select grain, period_start, application, segment, segment_value, numerator, denominator, value, null_reason from metric "
        "where grain = coalesce(%s, (select grain from metric order by array_position(array['month', 'quarter', 'year', 'week', 'day', 'hour'], grain) limit 1)) "
        "and application = %s and segment = %s order by period_start desc, segment_value limit %s"
    )
    return statement, [metric_id, grain, application or "all", segment or "", limit]


def _execute(
    connection: Connection, project: Path, node: Node, statement: str, compiled: str, values: list[object] | None = None
) -> tuple[list[Row], list[str]]:
    """Run the query of a model. Raises NorthstarError with the line of the model's file for what Postgres refuses."""
    try:
        cursor = connection.execute(statement if values is not None else statement.encode(), values)
        if cursor.description is None:
            return [], []
        return cursor.fetchall(), [column.name for column in cursor.description]
    except psycopg.errors.QueryCanceled as exc:
        raise NorthstarError(f"{node['name']} took longer than {STATEMENT_TIMEOUT} and was cancelled") from exc
    except psycopg.Error as exc:
        message = exc.diag.message_primary or str(exc).splitlines()[0]
        hint = f" ({exc.diag.message_hint})" if exc.diag.message_hint else ""
        position = exc.diag.statement_position
        # with parameters, psycopg sends % for %%
        sent = statement if values is None else statement.replace("%%", "%")
        line = _line_in_file(project / node["original_file_path"], sent, int(position or 0), message)
        if isinstance(exc, psycopg.errors.DivisionByZero):
            line, hint = _line_of_division(project / node["original_file_path"]), " (what may be 0: `/ nullif(..., 0)`)"
        raise NorthstarError(f"dbt_project/{node['original_file_path']}:{line}: {message}{hint}") from exc


def _require_unique(connection: Connection, project: Path, node: Node, text: str, compiled: str) -> None:
    """Raise NorthstarError if rows of a model have the same key."""
    key = node["config"].get("unique_key")
    columns = [key] if isinstance(key, str) else list(key or [])
    if not columns:
        return
    named = ", ".join(f'"{column}"' for column in columns)
    query = f"select {named}, count(*) as copies from (\n{text}\n) as shown group by {named} having count(*) > 1 order by copies desc limit 1"
    rows, _ = _execute(connection, project, node, query, compiled)
    if rows:
        path = node["original_file_path"]
        place = ", ".join(f"{column}={rows[0][column]}" for column in columns)
        line = line_of((project / path).read_text(), "unique_key")
        raise NorthstarError(f"dbt_project/{path}:{line}: the key is not unique: {rows[0]['copies']} rows have {place}")


def _line_in_file(path: Path, statement: str, position: int, message: str) -> int:
    """The line of a model's file that became the line of a statement in which a character is (from 1; 0 for none).

    Where a macro wrote that line: the first line with the name that the message quotes, or else 1.
    """
    text = path.read_text()
    if position:
        lines = [source.strip() for source in text.splitlines()]
        failed_line = statement.splitlines()[statement[: position - 1].count("\n")].strip()
        if failed_line in lines:
            return lines.index(failed_line) + 1
    quoted = re.search(r'"(\w+)"', message)
    return line_of(text, quoted.group(1)) if quoted else 1


def _line_of_division(path: Path) -> int:
    """The first line of a model that divides by something that may be 0; 1 if a macro does."""
    lines = enumerate(path.read_text().splitlines(), 1)
    return next((n for n, line in lines if re.search(r"(?<![/*])/(?![/*])\s*(?!nullif\b|\d)", line)), 1)


def _comparison(message: str) -> str:
    """dbt's message of a failed unit test without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m|\r", "", message).strip()
