"""The page of a run inside Airflow: its state, the models that it built, the checks that it passed, the version that it published.

The page is HTML without a script. Who may see the DAG's runs in Airflow may see it. It has names, numbers and messages; no source row, and no sample of a check.
"""

from pathlib import Path
from typing import Annotated

import jinja2
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse

from northstar.base.errors import NorthstarError
from northstar.base.escaping import make_visible
from northstar.base.settings import load_settings
from northstar.publish.approval import describe_pending_approval
from northstar.warehouse import db
from northstar.warehouse.rows import Connection, Row

NEWEST_RUNS = 50
# nothing but the page's own style is loaded, and nobody else's page may frame it
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
RUNS = """
    select run_id, mode, trigger, state, as_of, started_at, published_version from audit.runs order by run_id desc limit %s
"""
MODELS = """
    select name, resource_type, status, seconds, rows, case when status not in ('success', 'pass') then message end as message
    from audit.model_runs where run_id = %s order by status in ('success', 'pass'), seconds desc nulls last, name
"""
CHECKS = """
    select boundary, suite, check_name, severity, success, observed, expected, failing_rows
    from audit.checks where run_id = %s order by success, severity, boundary, suite, check_name
"""
# a run from before the first publication has none, and a rollback names the run whose version it puts back
VERSION = """
    select p.published_version, p.as_of, p.published_at, p.rows_changed, p.checks_run, p.checks_passed, p.code_version
    from marts.publications as p where p.run_id = %s and p.restores_version is null order by p.published_version desc limit 1
"""
RESTATED = """
    select metric_id, sum(periods)::bigint as values, string_agg(distinct reason, ', ') as reasons
    from marts.metric_restatements where new_version = %s group by metric_id order by 2 desc, 1 limit 20
"""
may_see_runs = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN))


def application() -> FastAPI:
    """The application that Airflow's api-server serves below /northstar."""
    app = FastAPI(title="Northstar", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/", dependencies=[may_see_runs])
    def show_runs(request: Request) -> HTMLResponse:
        return _answer(request, None)

    @app.get("/runs/{number}", dependencies=[may_see_runs])
    def show_run(request: Request, number: Annotated[int, "the run's number"]) -> HTMLResponse:
        return _answer(request, "run_id = %s", number)

    # an id of a DAG run may hold a slash
    @app.get("/dags/{dag_id}/runs/{dag_run_id:path}", dependencies=[may_see_runs])
    def show_dag_run(request: Request, dag_id: str, dag_run_id: str) -> HTMLResponse:
        return _answer(request, "trigger = %s", f"{dag_id} {dag_run_id}")

    return app


def _answer(request: Request, condition: str | None, value: int | str = "") -> HTMLResponse:
    base = request.scope["root_path"]
    try:
        with db.connect(load_settings(), "transformer") as connection:
            connection.execute("set transaction read only")
            connection.execute("set local statement_timeout = '20s'")
            page = runs_page(connection, base) if condition is None else run_page(connection, condition, value, base)
    except NorthstarError as exc:
        return HTMLResponse(_render(base, problem=str(exc)), 503, HEADERS)
    if page is None:
        return HTMLResponse(_render(base, problem="Northstar has no such run yet"), 404, HEADERS)
    return HTMLResponse(page, headers=HEADERS)


def runs_page(connection: Connection, base: str) -> str:
    """The newest runs. base: the path that the pages are served below."""
    return _render(
        base, runs=connection.execute(RUNS, [NEWEST_RUNS]).fetchall(), waits=describe_pending_approval(connection)
    )


def run_page(connection: Connection, condition: str, value: int | str, base: str) -> str | None:
    """The page of the newest run that a condition of audit.runs names; None where there is none."""
    run = connection.execute(
        f"select * from audit.runs where {condition} order by run_id desc limit 1", [value]
    ).fetchone()
    if run is None:
        return None
    has_versions = connection.execute("select 1 where to_regclass('marts.metric_restatements') is not null").fetchone()
    version: Row | None = None
    restated: list[Row] = []
    if has_versions and (version := connection.execute(VERSION, [run["run_id"]]).fetchone()):
        restated = connection.execute(RESTATED, [version["published_version"]]).fetchall()
    waits = describe_pending_approval(connection) if run["state"] == "running" else None
    return _render(
        base, run=run, waits=waits, version=version, restated=restated,
        models=connection.execute(MODELS, [run["run_id"]]).fetchall(),
        checks=connection.execute(CHECKS, [run["run_id"]]).fetchall(),
    )  # fmt: skip


def _render(base: str, **values: object) -> str:
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters["visible"] = make_visible
    return templates.get_template("run_page.html").render(base=base, **values)
