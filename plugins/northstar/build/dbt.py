"""dbt, called in this process: its environment, the run's context, and what it says when it cannot run."""

import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from northstar.base.config_files import nearest_name
from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.base.third_parties import resource_error
from northstar.build import lean
from northstar.build.code_version import project_version
from northstar.build.manifest import PARSE, TEMPLATES, dbt_target, is_current, is_parsed, record_versions
from northstar.build.own_seeds import project_directory, write_project
from northstar.build.structure import line_of
from northstar.warehouse import db
from northstar.warehouse.rows import Row, fetch_one


class Event(Protocol):
    """An event of dbt."""

    # Any: messages of protobuf, which have no types
    info: Any
    data: Any


# how dbt names a model that reads what is not there, where an error is, and a macro that is not there
NOT_FOUND = re.compile(r"'?model\.northstar\.(\w+)'? \(([^)]+)\).*?depends on .*? named '(\w+)'", re.DOTALL)
IN_MODEL = re.compile(
    r"(?:Error|Compilation Error) in (?:model|test|seed|unit_test|macro) (\w+) \(([^)]+)\)\s*(.*)", re.DOTALL
)
MACRO_MISSING = re.compile(r"'(\w+)' is undefined")
# a function that is called with each of dbt's events as it comes
OnEvent = Callable[[Event], None]


def dbt_env(settings: Settings, role: str = "transformer") -> dict[str, str]:
    """The environment that dbt_project/profiles.yml reads."""
    address = db.uri(settings, role)
    parts, tls = urlsplit(address), db.tls_options(address)
    return {
        "NORTHSTAR_PG_HOST": parts.hostname or "",
        "NORTHSTAR_PG_PORT": str(parts.port),
        "NORTHSTAR_PG_USER": parts.username or "",
        "DBT_ENV_SECRET_PG_PASSWORD": unquote(parts.password or ""),
        "NORTHSTAR_PG_DBNAME": parts.path.lstrip("/"),
        # an empty value is libpq's default, and replaces one that this process used for another home before
        **{
            f"NORTHSTAR_PG_{name.upper()}": tls.get(name, "")
            for name in ("sslmode", "sslrootcert", "sslcert", "sslkey")
        },
        "DBT_PROJECT_DIR": str(project_directory(settings)),
        "DBT_PROFILES_DIR": str(settings.root / "dbt_project"),
        "DBT_TARGET_PATH": str(dbt_target(settings)),
        "DBT_LOG_PATH": str(settings.logs),
    }


def read_context(settings: Settings) -> Row:
    """The context of the open run, as the models read it: its times are text."""
    with db.connect(settings, "transformer") as connection:
        return fetch_one(connection.execute(
            "select run_id, mode, as_of::text, previous_as_of::text, since_batch_id, is_full, rules, restate_from::text, restate_to::text "
            "from core.run_context"
        ))  # fmt: skip


@contextmanager
def context_in_environment(settings: Settings, handed_over: Sequence[str] = ()) -> Iterator[None]:
    """Put the run's context into the environment, where the models read it, for as long as they are built.

    handed_over: the models whose rows are there already (northstar.build.wide).
    """
    os.environ["NORTHSTAR_RUN_CONTEXT"] = json.dumps({**read_context(settings), "handed_over": list(handed_over)})
    try:
        yield
    finally:
        del os.environ["NORTHSTAR_RUN_CONTEXT"]


# the only event that a callback reads of those that are for debugging (northstar.orchestration.domains)
READ_EVENTS = ("NodeFinished",)


def run_dbt(
    settings: Settings,
    arguments: list[str],
    code_version: str,
    callback: OnEvent | None = None,
    left_out: Collection[str] = (),
) -> None:
    """Run a dbt command; its results are written to the home's target directory. Raises NorthstarError if dbt could not run.

    callback: is called with each of dbt's events but those for debugging, of which it gets READ_EVENTS alone. left_out: nodes not to be built.
    """
    write_project(settings)
    os.environ.update(dbt_env(settings))
    from dbt.artifacts.schemas.run import RunExecutionResult
    from dbt.cli.main import dbtRunner

    results_file = dbt_target(settings) / "run_results.json"
    results_file.unlink(missing_ok=True)
    project, callbacks = project_version(settings), [callback] if callback else []
    if (has_parse := is_parsed(settings, project)) and not is_current(settings, code_version):
        # the rules are others, and dbt parses none of them
        record_versions(settings, code_version, project)
    arguments = [*arguments, "--quiet", "--log-level-file", "info", "--no-use-colors"]
    with ExitStack() as stack:
        for context in (
            hidden_command_line(),
            lean.without_nodes(left_out),
            lean.without_sources_of_flags(),
            lean.without_copies_of_the_graph(),
            lean.macros_when_called(),
            lean.without_unread_events(READ_EVENTS if callback else ()),
            lean.with_one_empty_table(),
            lean.kept_templates(dbt_target(settings) / TEMPLATES, project),
        ):
            stack.enter_context(context)
        if is_current(settings, code_version):
            # dbt would write its manifest twice, before and after, which takes longer than most models
            with lean.without_checks():
                saved = dbt_target(settings) / PARSE
                manifest = lean.saved_parse(saved, db.database_name(settings)) if has_parse else None
                result = dbtRunner(manifest, callbacks).invoke([*arguments, "--no-write-json"])
            if isinstance(result.result, RunExecutionResult):
                result.result.write(str(results_file))
        else:
            # dbt's saved parse is of other code: it would keep the tests of a removed model, which are then never built
            result = dbtRunner(callbacks=callbacks).invoke([*arguments, "--no-partial-parse"])
            if result.result is not None:
                record_versions(settings, code_version, project)
    if result.exception is not None:
        if exhausted := resource_error(result.exception):
            raise exhausted from result.exception
        reason = describe_failure(project_directory(settings), str(result.exception))
        raise NorthstarError(f"{reason} (dbt's log: {settings.logs / 'dbt.log'})")


@contextmanager
def hidden_command_line() -> Iterator[None]:
    """Hide this process's command line from dbt, which writes it into its artefacts: that of an erasure names a person."""
    words, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = words


def describe_failure(project: Path, message: str) -> str:
    """dbt's message of a failure in one line: the file and line, what is wrong, and the name that was probably meant."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", message).split())
    if missing := NOT_FOUND.search(text):
        model, path, name = missing.groups()
        known = [file.stem for folder in ("models", "seeds") for file in (project / folder).rglob("*.*")]
        near = nearest_name(name, known)
        hint = f"; did you mean {near!r}?" if near else ""
        line = line_of((project / path).read_text(), f"'{name}'") if (project / path).exists() else 1
        return f"dbt_project/{path}:{line}: {model} reads {name!r}, which is no model or seed{hint}"
    if found := IN_MODEL.search(text):
        _, path, problem = found.groups()
        # jinja's own line numbers are of the file
        number = re.search(r"\bline (\d+)", problem)
        undefined = MACRO_MISSING.search(problem)
        line = int(number.group(1)) if number else 1
        if undefined and (project / path).exists():
            line = line_of((project / path).read_text(), undefined.group(1))
        return f"dbt_project/{path}:{line}: {problem[:400]}"
    return f"dbt could not read the project: {text[:400]}"
