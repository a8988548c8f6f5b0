"""The page of a run inside Airflow. That Airflow serves it, and to whom, is shown by tests/end_to_end/test_airflow.py."""

import re

import pytest
from psycopg.types.json import Jsonb

from northstar.orchestration.run_page import run_page, runs_page
from northstar.warehouse import db
from tests.support import select


@pytest.fixture
def connection(built):
    with db.connect(built, "owner") as connection:
        yield connection
        connection.rollback()


def test_the_page_of_a_run_has_its_models_checks_and_version(built, connection):
    run = connection.execute("select * from audit.runs where state = 'published' order by run_id limit 1").fetchone()
    page = run_page(connection, "run_id = %s", run["run_id"], "/northstar")
    [version] = select(built, "select * from publications order by published_version limit 1")
    assert f"Run {run['run_id']}, {run['mode']}" in page
    assert f"version {version['published_version']} at " in page
    assert f"{version['checks_passed']} of {version['checks_run']} checks passed" in page
    # the checks that warned come first
    checks = page.partition("<h2>Checks")[2].partition("<h2>Models")[0]
    assert checks.index("quarantine_is_quiet") < checks.index(">passed<") and ">warned<" in checks
    models = {
        r["name"] for r in connection.execute("select name from audit.model_runs where run_id = %s", [run["run_id"]])
    }
    assert models and all(f"<td>{name}</td>" in page for name in models)
    assert page == run_page(connection, "trigger = %s", run["trigger"], "/northstar")
    assert f'<a href="/northstar/runs/{run["run_id"]}">' in runs_page(connection, "/northstar")


def test_what_failed_and_what_waits_is_said_and_no_row_is_shown(connection):
    [run_id] = connection.execute(
        "insert into audit.runs (mode, as_of, trigger, state, stage, message) values ('nightly', now(), 'nightly_rebuild manual__1/<b>', 'running', 'publish', "
        "'model x failed') returning run_id"
    ).fetchone().values()  # fmt: skip
    connection.execute(
        "insert into audit.model_runs values (%s, 'm.x', 'x', 'model', 'error', 1.5, null, 'division by zero')",
        [run_id],
    )
    connection.execute(
        "insert into audit.model_runs values (%s, 'm.y', 'y', 'model', 'success', 9, 7, 'SELECT 7')", [run_id]
    )
    connection.execute(
        "insert into audit.checks (run_id, boundary, suite, check_name, severity, success, observed, expected, failing_rows, sample) "
        "values (%s, 'core', 'charges', 'has_rate', 'error', false, '3 rows', 'none', 3, %s)",
        [run_id, Jsonb([{"email": "canary@example.org"}])],
    )  # fmt: skip
    connection.execute(
        "insert into audit.approvals (run_id, restated, allowed, question) values (%s, 1234, 10, '')", [run_id]
    )
    page = run_page(connection, "trigger = %s", "nightly_rebuild manual__1/<b>", "")
    assert "model x failed" in page and "it would restate 1,234 values" in page
    assert "nightly_rebuild manual__1/&lt;b&gt;" in page and "<dd>nothing yet</dd>" in page
    rows = [re.sub("<[^>]+>", " ", row).split() for row in page.partition("<h2>Models")[2].split("<tr>")[2:]]
    assert rows == [["error", "x", "1.50", "-", "division", "by", "zero"], ["success", "y", "9.00", "7"]]
    assert "core, charges: has_rate" in page and "3 rows" in page and "Checks (0 of 1 passed)" in page
    assert "canary" not in page and "<script" not in page
    assert run_page(connection, "run_id = %s", -5, "") is None
