"""Run the suites with Great Expectations and write every result to `audit.checks`."""

from __future__ import annotations

import contextlib
import io
import re
import string
import time
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import quote

from psycopg.types.json import Jsonb

from northstar.audit.engine import great_expectations
from northstar.audit.suites import BOUNDARIES, Check, Suite, read_suites
from northstar.base.errors import CheckFailed, NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.warehouse import db, turn_lock
from northstar.warehouse.reuse import reuse_sessions
from northstar.warehouse.rows import fetch_one

if TYPE_CHECKING:
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult
    from great_expectations.datasource.fluent.interfaces import Batch
    from great_expectations.datasource.fluent.postgres_datasource import PostgresDatasource
    from great_expectations.expectations.expectation import Expectation

SAMPLE_ROWS = 5
# the column of a check's query that counts all its rows
COUNT_COLUMN = "_failing_rows"


class Verdict(TypedDict):
    """The result of an audit: how many checks were run, how many passed, and how many failed as warnings."""

    run: int
    passed: int
    warned: int


class CheckResult(TypedDict):
    """A row of audit.checks, without its run."""

    boundary: str
    suite: str
    check_name: str
    severity: str
    success: bool
    observed: str | None
    expected: str
    failing_rows: int
    # Jsonb when psycopg writes it, a list when it was read
    sample: Jsonb | list[object]
    seconds: float


@reuse_sessions()
def run_audit(
    settings: Settings, run_id: int, boundaries: tuple[str, ...] = BOUNDARIES, progress: Progress = print
) -> Verdict:
    """Run the suites of `boundaries` for a run; returns {'run': n, 'passed': n, 'warned': n}.

    Raises CheckFailed naming the first error-level check that failed, with its numbers and rows.
    """
    settings = _in_time_zone_of(settings, run_id)
    values = _run_values(settings, run_id)
    results: list[CheckResult] = []
    for boundary in boundaries:
        started = time.monotonic()
        boundary_results = [
            row
            for suite in _validate(settings, read_suites(settings.root, boundary, settings.operations.errors), values)
            for row in suite
        ]
        passed_count = sum(r["success"] for r in boundary_results)
        progress(
            f"  {boundary}: {passed_count} of {len(boundary_results)} checks passed ({time.monotonic() - started:.1f} s)"
        )
        results += boundary_results
    _record(settings, run_id, boundaries, results)
    return _verdict(results, progress)


def _in_time_zone_of(settings: Settings, run_id: int) -> Settings:
    """The settings, with the time zone by which the run's models count days: `northstar verify` builds by those of a certificate."""
    with db.connect(settings, "transformer") as connection:
        row = connection.execute(
            "select rules ->> 'reporting_time_zone' as zone from core.run_context where run_id = %s", [run_id]
        ).fetchone()
    if row is None or row["zone"] is None:
        return settings
    return replace(settings, rules=settings.rules.model_copy(update={"reporting_time_zone": row["zone"]}))


def _run_values(settings: Settings, run_id: int) -> dict[str, str]:
    with db.connect(settings, "transformer") as connection:
        run = fetch_one(connection.execute("select as_of, is_full from audit.runs where run_id = %s", [run_id]))
        last_full_run = fetch_one(
            connection.execute(
                "select coalesce(max(run_id), 0) as run_id from audit.runs where run_id < %s and is_full and published_version is not null",
                [run_id],
            )
        )["run_id"]
        run_context = connection.execute(
            "select since_batch_id, previous_as_of from core.run_context where run_id = %s", [run_id]
        ).fetchone()
    is_full = run["is_full"] or run_context is None
    return {
        # later batches are in no published version yet: their rows are checked in every run until they are
        "published_batch": str(run_context["since_batch_id"] if run_context else 0),
        "as_of": f"timestamptz '{run['as_of'].isoformat()}'",
        "run_id": str(run_id),
        "last_full_run": str(last_full_run),
        "is_full": str(is_full).lower(),
        "since_batch": "-1" if is_full or run_context is None else str(run_context["since_batch_id"]),
        "previous_as_of": f"timestamptz '{'-infinity' if is_full or run_context is None else run_context['previous_as_of'].isoformat()}'",
    }


def warehouse_url(settings: Settings) -> str:
    """The address of the warehouse for SQLAlchemy, as the transformer."""
    url = db.uri(settings, "transformer").replace("postgresql://", "postgresql+psycopg2://", 1)
    # the checks aggregate millions of rows, which takes seconds in memory and a minute on disk
    zone = quote(settings.rules.reporting_time_zone, safe="")
    options = f"options=-c%20work_mem%3D256MB%20-c%20hash_mem_multiplier%3D4%20-c%20timezone%3D{zone}"
    return url + ("&" if "?" in url else "?") + options


def connect_warehouse(settings: Settings) -> PostgresDatasource:
    """The data source for the warehouse, in an ephemeral context of Great Expectations. Raises NorthstarError if it cannot be reached."""
    gx = great_expectations()
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.datasource.fluent.interfaces import TestConnectionError

    gx_context = gx.get_context(mode="ephemeral")
    gx_context.variables.progress_bars = ProgressBarsConfig(globally=False)
    try:
        warehouse: PostgresDatasource = gx_context.data_sources.add_postgres(
            "warehouse", connection_string=warehouse_url(settings)
        )
        return warehouse
    except TestConnectionError as exc:
        reason = str(getattr(exc.__cause__, "orig", exc)).strip().splitlines()[-1]
        raise NorthstarError(f"cannot reach the warehouse as transformer: {reason}") from exc


def _validate(settings: Settings, suites: list[Suite], values: dict[str, str]) -> Iterator[list[CheckResult]]:
    gx = great_expectations()
    warehouse = connect_warehouse(settings)
    for suite in suites:
        placeholders = {**values, "batch": f"{suite.schema}.{suite.table}", "in_scope": "true"}
        if suite.changes and values["is_full"] == "false":
            placeholders["in_scope"] = f"({string.Template(suite.changes).substitute(placeholders)})"
        batch = _batch(warehouse, suite, placeholders["in_scope"])
        started = time.monotonic()
        # the output is discarded: Great Expectations prints a note for each of our queries that names its table itself
        with (
            contextlib.redirect_stdout(io.StringIO()),
            _rows_in_scope(settings, suite, placeholders) as placeholders["scoped"],
        ):
            expectations = [_expectation(gx, check, placeholders) for check in suite.checks]
            outcome = batch.validate(
                gx.ExpectationSuite(suite.name, expectations=expectations), result_format="SUMMARY"
            )
        seconds = (time.monotonic() - started) / len(expectations)
        by_name = {result.expectation_config.meta["name"]: result for result in outcome.results}
        yield [_row(suite, check, by_name[check.name], seconds) for check in suite.checks]


def _batch(warehouse: PostgresDatasource, suite: Suite, scope: str) -> Batch:
    """The batch to check: the suite's table, or those of its rows that the run may have changed."""
    name = f"{suite.boundary}.{suite.name}"
    if scope == "true" or not any(check.expect for check in suite.checks):
        asset = warehouse.add_table_asset(name, table_name=suite.table, schema_name=suite.schema)
        return asset.add_batch_definition_whole_table("whole").get_batch()
    query = f"select * from {suite.schema}.{suite.table} where {scope}"
    return warehouse.add_query_asset(name, query=query).add_batch_definition_whole_table("whole").get_batch()


@contextlib.contextmanager
def _rows_in_scope(settings: Settings, suite: Suite, values: dict[str, str]) -> Iterator[str]:
    """SQL for the rows of the table in scope; for a suite with `read_once`, the name of a copy that all its checks read."""
    if values["in_scope"] == "true":
        yield values["batch"]
        return
    query = f"select * from {values['batch']} where {values['in_scope']}"
    if not suite.read_once:
        yield f"({query})"
        return
    # no temporary table: the checks have connections of their own, which would not see it
    copy = f"core._scoped__{suite.table}"
    with db.connect(settings, "transformer", autocommit=True) as connection:
        # keep the turn: a run that has taken over has a copy of the same name
        turn_lock.keep(connection, int(values["run_id"]), is_session=True, by_hand=True)
        connection.execute(f"drop table if exists {copy}")
        connection.execute(f"create unlogged table {copy} as {query}")
        # a rough idea of its size and keys is enough, and a full one takes as long as the copy
        connection.execute("set default_statistics_target = 10")
        connection.execute(f"analyze {copy}")
        try:
            yield copy
        finally:
            connection.execute(f"drop table {copy}")


def _expectation(gx: ModuleType, check: Check, values: dict[str, str]) -> Expectation:
    severity = "critical" if check.severity == "error" else "warning"
    # Any: the arguments of each class of Great Expectations
    options: dict[str, Any] = {"severity": severity, "meta": {"name": check.name}, "notes": check.reason}
    if check.rows:
        query = string.Template(check.rows).substitute(values)
        from northstar.audit.expectations import ExpectNoRows

        counted = "sum(failing_rows)" if re.search(r"\bas failing_rows\b", check.rows) else "count(*)"
        # the count is of all rows, however few of them are fetched
        query = f"select (({counted} over ())::bigint) as {COUNT_COLUMN}, failing.* from ({query}) as failing limit {SAMPLE_ROWS}"
        return ExpectNoRows(unexpected_rows_query=query, description=check.name, **options)
    expectation: Expectation = getattr(gx.expectations, check.expect or "")(**check.arguments, **options)
    return expectation


def _row(suite: Suite, check: Check, result: ExpectationValidationResult, seconds: float) -> CheckResult:
    detail, exception = result.result or {}, result.exception_info or {}
    if exception and "raised_exception" not in exception:
        exception = next(iter(exception.values()))
    rows = (detail.get("details") or {}).get("unexpected_rows") or detail.get("partial_unexpected_list") or []
    observed = detail.get("observed_value", detail.get("unexpected_count"))
    failing = detail.get("unexpected_count") if detail.get("unexpected_count") is not None else observed
    if exception.get("raised_exception"):
        observed = f"could not be run: {exception.get('exception_message', '')}"[:500]
    return {
        "boundary": suite.boundary, "suite": suite.name, "check_name": check.name, "severity": check.severity,
        "success": bool(result.success), "observed": None if observed is None else str(observed), "expected": check.reason,
        "failing_rows": failing if isinstance(failing, int) and not result.success else 0,
        "sample": Jsonb([_plain(r) for r in list(rows)[:SAMPLE_ROWS]]), "seconds": round(seconds, 3),
    }  # fmt: skip


def _plain(row: object) -> object:
    if hasattr(row, "_mapping"):
        row = dict(row._mapping)
    if isinstance(row, dict):
        return {str(k): v if isinstance(v, int | float | bool | None) else str(v) for k, v in row.items()}
    return row if isinstance(row, int | float | bool | None) else str(row)


def _record(settings: Settings, run_id: int, boundaries: tuple[str, ...], results: list[CheckResult]) -> None:
    """Write the results; those of an earlier attempt in the same run, as of a task that was cleared, give way to them."""
    with db.connect(settings, "transformer") as connection:
        turn_lock.keep(connection, run_id, by_hand=True)
        connection.execute(
            "delete from audit.checks where run_id = %s and boundary = any(%s)", [run_id, list(boundaries)]
        )
        connection.execute("delete from audit.reconciliations where run_id = %s and source = 'files'", [run_id])
        connection.cursor().executemany(
            "insert into audit.checks (run_id, boundary, suite, check_name, severity, success, observed, expected, "
            "failing_rows, sample, seconds) values (%(run_id)s, %(boundary)s, %(suite)s, %(check_name)s, %(severity)s, "
            "%(success)s, %(observed)s, %(expected)s, %(failing_rows)s, %(sample)s, %(seconds)s)",
            [{"run_id": run_id, **r} for r in results],
        )
        connection.execute(
            "insert into audit.reconciliations (run_id, entity, measure, source_total, landed_total, difference) "
            "select %(run_id)s, entity, 'rows', sum(rows_read), "
            "sum(rows_inserted + rows_updated + rows_unchanged + rows_quarantined + rows_refused), "
            "sum(rows_read - rows_inserted - rows_updated - rows_unchanged - rows_quarantined - rows_refused) "
            "from audit.landing_batches where run_id = %(run_id)s group by entity",
            {"run_id": run_id},
        )


# how many failed checks are named besides the first
MOST_NAMED = 8


def _verdict(results: list[CheckResult], progress: Progress) -> Verdict:
    failed_results = [r for r in results if not r["success"]]
    for row in failed_results:
        if row["severity"] == "warn":
            progress(f"  warning: {describe(row)}")
    errors = [r for r in failed_results if r["severity"] == "error"]
    if errors:
        others = [f"{row['suite']}.{row['check_name']}" for row in errors[1:]]
        shown = ", ".join(others[:MOST_NAMED]) + (
            f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        )
        more = f"; also failed: {shown}" if others else ""
        raise CheckFailed(
            [f"{row['suite']}.{row['check_name']}" for row in errors],
            f"the audit stopped the publish: {describe(errors[0])}{more}; the last version stays up",
        )
    return {"run": len(results), "passed": len(results) - len(failed_results), "warned": len(failed_results)}


def describe(row: CheckResult) -> str:
    """A failed check in one line: its name, its numbers, its first rows."""
    sample = row["sample"].obj if isinstance(row["sample"], Jsonb) else row["sample"]
    messages = [r["message"] for r in sample if isinstance(r, dict) and r.get("message")]
    sample_text = "; ".join(messages[:3]) if messages else str(sample[:2])
    count = f"{row['failing_rows']} rows" if row["failing_rows"] else f"observed {row['observed']}"
    return f"{row['suite']}.{row['check_name']}: {count}: {sample_text}"[:700]
