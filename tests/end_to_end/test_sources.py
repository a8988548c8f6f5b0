"""Runs with declared sources: one that is down does not keep the others from being published, unless it is required."""

import json
import sqlite3

import pytest

from northstar import cli, db, job
from northstar.errors import NorthstarError
from tests.support import empty, run, select, silent, utc, write_rows

SOURCES = """
sources:
  app:
    system: sql
    connection: app_db
    entities: [accounts]
    application: shop
    options:
      timezone: UTC
      entities:
        accounts:
          query: select id as account_id, 'customer' as account_type, changed_at as created_at, changed_at as updated_at from users
          cursor: updated_at
  desk: {{system: zendesk, connection: desk, required: {required}, entities: [tickets]}}
  nights: {{system: sql, connection: app_db, schedule: nightly, entities: [reviews], options: {{entities: {{reviews: {{table: reviews}}}}}}}}
"""
AS_OF = utc("2025-03-10T00:00:00")


@pytest.fixture
def home(warehouse, tmp_path, monkeypatch):
    """An empty warehouse with three declared sources, one of them down; and the database behind the others."""
    empty(warehouse)
    database = sqlite3.connect(tmp_path / "app.db")
    database.execute("create table users (id text, changed_at text)")
    database.execute("create table reviews (review_id text)")
    database.execute("insert into users values ('a1', '2025-03-01 10:00:00')")
    database.commit()
    monkeypatch.setenv("AIRFLOW_CONN_APP_DB", json.dumps({"conn_type": "sqlite", "schema": str(tmp_path / "app.db")}))
    monkeypatch.setenv("AIRFLOW_CONN_DESK", "http://me:canary-token@127.0.0.1:9/http")
    monkeypatch.setattr("northstar.sources.http.FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr("northstar.sources.zendesk.EXPORTS_PER_SECOND", None)
    declared = tmp_path / "sources.yml"
    declared.write_text(SOURCES.format(required="false"))
    monkeypatch.setenv("NORTHSTAR_SOURCES", str(declared))
    yield warehouse, declared
    database.close()


def test_a_source_that_is_down_is_late_and_the_others_are_published(home, tmp_path, capsys):
    settings, declared = home
    write_rows(tmp_path / "files", {"charges": [{
        "charge_id": "c1", "account_id": "a1", "amount": 100, "currency": "USD", "status": "succeeded",
        "created_at": "2025-03-02T00:00:00Z", "updated_at": "2025-03-02T00:00:00Z"}]})  # fmt: skip
    assert run(settings, tmp_path / "files", AS_OF, "hourly") == 1
    assert select(settings, "select account_id, application from dim_accounts") == [
        {"account_id": "a1", "application": "shop"}
    ]
    assert select(settings, "select charge_id from fct_payments") == [{"charge_id": "c1"}]
    with db.connect(settings, "loader") as connection:
        told = connection.execute("select source, succeeded, message from audit.source_runs order by 1").fetchall()
        check = connection.execute(
            "select success, severity, sample from audit.checks where check_name = 'every_source_answered'"
        ).fetchone()
    # the nightly one was not asked
    assert [(t["source"], t["succeeded"]) for t in told] == [("app", True), ("desk", False), ("files", True)]
    assert "127.0.0.1/api/v2/incremental/tickets/cursor.json: the connection failed" in told[1]["message"]
    assert "canary-token" not in str(told)
    assert (check["success"], check["severity"]) == (False, "warn") and check["sample"][0]["message"].startswith(
        "desk: "
    )
    assert cli.main(["status", "--home", str(settings.home)]) == 0
    assert "late        desk: 127.0.0.1/api/v2" in capsys.readouterr().out
    assert cli.main(["sources", "list", "--home", str(settings.home)]) == 0
    assert cli.main(["sources", "check", "--home", str(settings.home)]) == 1
    shown = capsys.readouterr().out
    assert "app: sqlite app_db: may read accounts" in shown and "desk: FAILED, 127.0.0.1" in shown

    declared.write_text(SOURCES.format(required="true"))
    with pytest.raises(NorthstarError, match=r"source desk, which is required: 127\.0\.0\.1"):
        run(settings, tmp_path / "files", AS_OF, "hourly")
    assert select(settings, "select max(published_version) as v from publications") == [{"v": 1}]


def test_each_source_is_a_task_and_only_those_that_are_due(home):
    settings, _ = home
    for mode, due in (("hourly", ["app", "desk"]), ("nightly", ["app", "desk", "nights"])):
        number = job.open_run(settings, mode, AS_OF, None)
        assert job.due_sources(settings, number) == due
        job.land_source(settings, number, "app", silent)
        with pytest.raises(NorthstarError, match=r"127\.0\.0\.1"):
            job.land_source(settings, number, "desk", silent)
        job.settle_extract(settings, number)
        job.close_run(settings, number)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: [a]", "it has to hold `sources:`"),
        ("sources: {a: {system: sap}}", "source a: unknown system 'sap'; known are files, github, packages"),
        ("sources: {a: {system: zendesk, sleep: 1}}", "source a: unknown key 'sleep'"),
        ("sources: {a: {system: zendesk, schedule: weekly}}", "source a: schedule is hourly or nightly"),
        ("sources: {a: {system: zendesk, entities: [charges]}}", "zendesk gives no entity 'charges'"),
        ("sources: {files: {system: zendesk}}", "source files: a name is letters"),
        ("sources: {a: {system: zendesk, connection: nobody}}", "no connection nobody: add it in Airflow"),
        ("sources: {a: {system: files}}", "source a, options: give `path`"),
        ("{", "is not valid YAML"),
    ],
)
def test_a_mistake_in_the_declaration_is_one_line(home, capsys, text, message):
    settings, declared = home
    declared.write_text(text)
    assert cli.main(["sources", "check", "--home", str(settings.home)]) == 1
    told = capsys.readouterr()
    assert message in told.out + told.err and len((told.out + told.err).strip().splitlines()) == 1
