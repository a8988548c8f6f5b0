"""Runs with declared sources: one that is down does not keep the others from being published, unless it is required."""

import json
import os
import re
import sqlite3
import time
from datetime import UTC, datetime, timedelta

import pytest
import stripe as client

from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings
from northstar.cli import main as cli
from northstar.extract.stage import due_sources, finish_extract, land_source
from northstar.publish.stage import describe_publication
from northstar.runs.lifecycle import close_run, open_run
from northstar.warehouse import db
from tests.extract.sources.test_stripe import localstripe, paying, shop
from tests.support import run, select, silent, write_rows

__all__ = ["localstripe", "shop"]

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
  billing:
    system: stripe
    connection: billing
    entities: [accounts, subscriptions, charges]
    application: shop
    options: {{test_mode: true, lists: {{subscriptions: {{status: null, "expand[]": null}}, charges: {{"expand[]": null}}, invoices: {{"expand[]": null}}}}}}
  nights: {{system: sql, connection: app_db, schedule: nightly, entities: [reviews], options: {{entities: {{reviews: {{table: reviews}}}}}}}}
"""
# localstripe lives in the present
NOW = datetime.now(UTC).replace(microsecond=0)


def at(days: int) -> str:
    """So many days ago."""
    return f"{NOW - timedelta(days=days):%Y-%m-%d %H:%M:%S}"


@pytest.fixture
def home(shop, tmp_path, monkeypatch):
    """An empty warehouse with four declared sources, one of them down; and the database behind two of them."""
    warehouse = shop
    database = sqlite3.connect(tmp_path / "app.db")
    database.execute("create table users (id text, changed_at text)")
    database.execute("create table reviews (review_id text)")
    database.execute("insert into users values ('a1', ?)", [at(9)])
    database.commit()
    monkeypatch.setenv("AIRFLOW_CONN_APP_DB", json.dumps({"conn_type": "sqlite", "schema": str(tmp_path / "app.db")}))
    monkeypatch.setenv("AIRFLOW_CONN_BILLING", os.environ["AIRFLOW_CONN_STRIPE_MAIN"])
    monkeypatch.setenv("AIRFLOW_CONN_DESK", "http://me:canary-token@127.0.0.1:9/http")
    monkeypatch.setattr("northstar.extract.sources.http.FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr("northstar.extract.sources.zendesk.EXPORTS_PER_SECOND", None)
    declared = tmp_path / "sources.yml"
    declared.write_text(SOURCES.format(required="false"))
    monkeypatch.setenv("NORTHSTAR_SOURCES", str(declared))
    yield warehouse, declared
    database.close()


def test_a_source_that_is_down_is_late_and_the_others_are_published(home, tmp_path, monkeypatch, capsys):
    settings, declared = home
    client.Plan.create(id="pro", amount=2900, currency="usd", interval="month", product={"name": "Pro"})
    ada = paying("ada@example.org")
    client.Subscription.create(customer=ada, items=[{"plan": "pro", "quantity": 2}])
    write_rows(tmp_path / "files", {"charges": [{
        "charge_id": "c1", "account_id": "a1", "amount": 100, "currency": "USD", "status": "succeeded",
        "created_at": f"{at(8)}Z", "updated_at": f"{at(8)}Z"}]})  # fmt: skip
    time.sleep(1)
    assert run(settings, tmp_path / "files", datetime.now(UTC), "hourly") == 1
    accounts = select(settings, "select account_id, application from dim_accounts order by created_at")
    assert [tuple(a.values()) for a in accounts] == [("a1", "shop"), (ada, "shop")]
    payments = select(settings, "select account_id, amount_reporting::float as amount from fct_payments order by 1")
    assert [tuple(p.values()) for p in payments] == [("a1", 1), (ada, 58)]
    # from Stripe's official client through a Stripe server, landing, dbt and the audit to the published number
    mrr = select(settings, "select distinct account_id, mrr_at_end::float as mrr from mrr_by_account")
    assert [tuple(m.values()) for m in mrr] == [(ada, 58)]
    with db.connect(settings, "loader") as connection:
        told = connection.execute("select source, succeeded, message from audit.source_runs order by 1").fetchall()
        check = connection.execute(
            "select success, severity, sample from audit.checks where check_name = 'every_source_answered'"
        ).fetchone()
    # the nightly one was not asked
    assert [(t["source"], t["succeeded"]) for t in told] == [
        ("app", True),
        ("billing", True),
        ("desk", False),
        ("files", True),
    ]
    # where it was asked, and why it could not be
    assert re.search(
        r"http://127\.0\.0\.1:\d+/api/v2/incremental/tickets/cursor\.json: the connection failed \(ConnectError: .*refused",
        told[2]["message"],
    )
    assert "canary-token" not in str(told)
    assert (check["success"], check["severity"]) == (False, "warn") and check["sample"][0]["message"].startswith(
        "desk: "
    )
    assert cli.main(["status", "--home", str(settings.home)]) == 0
    told = capsys.readouterr().out
    assert "late        desk: http://127.0.0.1:" in told and "freshness   1 of 1 promises kept" in told
    # what is promised of sources is judged by what landed
    monkeypatch.setenv("NORTHSTAR_CONFIG", str(tmp_path))
    operations = tmp_path / "operations.yml"
    operations.write_text("freshness: {sources: {app.accounts: {hours: 3}, files: {hours: 3}, desk: {hours: 3}}}\n")
    assert cli.main(["status", "--home", str(settings.home)]) == 0
    told = capsys.readouterr().out
    assert "freshness   3 of 4 promises kept" in told
    assert "late        source desk no older than 3 hours: nothing has landed yet" in told
    assert describe_publication(load_settings(settings.home), 1)["late"] == ["source desk"]
    # a mart that is late is told with the sources that it is made of
    operations.write_text("freshness: {marts: {fct_payments: {hours: 0.000001}, dim_accounts: {hours: 0.000001}}}\n")
    assert cli.main(["status", "--home", str(settings.home)]) == 0
    made_of = re.findall(r"late +mart (\w+) .*\n +made of (.*)", capsys.readouterr().out)
    sources = {mart: set(re.findall(r"(\w+) \(new rows landed last", behind)) for mart, behind in made_of}
    assert sources == {"fct_payments": {"billing", "files"}, "dim_accounts": {"app", "billing"}}
    for wrong, problem in (
        ("dsk", "no source 'dsk' is declared; did you mean 'desk'?"),
        ("app.acounts", "the contract has no entity 'acounts'; did you mean 'accounts'?"),
    ):
        operations.write_text(f"freshness: {{sources: {{{wrong}: {{hours: 3}}}}}}\n")
        assert cli.main(["sources", "list", "--home", str(settings.home)]) == 1
        assert f"operations.yml, freshness.sources.{wrong}: {problem}" in capsys.readouterr().err
    monkeypatch.delenv("NORTHSTAR_CONFIG")
    assert cli.main(["sources", "list", "--home", str(settings.home)]) == 0
    assert cli.main(["sources", "check", "--home", str(settings.home)]) == 1
    shown = capsys.readouterr().out
    assert "app: sqlite app_db: may read accounts" in shown and "desk: FAILED, http://127.0.0.1" in shown
    assert "billing: Stripe: may read customers, subscriptions, charges" in shown

    assert cli.main(["sources", "preview", "app", "accounts", "--home", str(settings.home)]) == 0
    assert "a1" in capsys.readouterr().out

    declared.write_text(SOURCES.format(required="true"))
    with pytest.raises(NorthstarError, match=r"source desk, which is required: http://127\.0\.0\.1"):
        run(settings, tmp_path / "files", datetime.now(UTC), "hourly")
    assert select(settings, "select max(published_version) as v from publications") == [{"v": 1}]


def test_each_source_is_a_task_and_only_those_that_are_due(home):
    settings, _ = home
    for mode, due in (("hourly", ["app", "desk", "billing"]), ("nightly", ["app", "desk", "billing", "nights"])):
        number = open_run(settings, mode, datetime.now(UTC), None)
        assert due_sources(settings, number) == due
        land_source(settings, number, "app", silent)
        with pytest.raises(NorthstarError, match=r"127\.0\.0\.1"):
            land_source(settings, number, "desk", silent)
        finish_extract(settings, number)
        close_run(settings, number)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: [a]", "line 1, sources: give an entry for each source"),
        (
            "sources: {a: {system: sap}}",
            "line 1, sources.a.system: unknown system 'sap'; known are files, github, packages",
        ),
        ("sources: {a: {system: zendesk, sleep: 1}}", "line 1, sources.a.sleep: unknown key; known are"),
        ("sources: {a: {system: zendesk, schedule: weekly}}", "sources.a.schedule: hourly or nightly"),
        ("sources: {a: {system: zendesk, per_second: fast}}", "sources.a.per_second: give a number above 0"),
        ("{production: maybe, sources: {}}", "line 1, production: give true or false"),
        ("sources: {a: {system: zendesk, entities: [charges]}}", "zendesk has no entity 'charges'"),
        ("sources: {files: {system: zendesk}}", "'files' is not a valid name for a source"),
        ("sources: {a: {system: zendesk, connection: nobody}}", "no connection nobody: add it in Airflow"),
        ("sources: {a: {system: files}}", "source a, options: give `path`"),
        (
            "sources:\n  a:\n    system: zendesk\n    conection: desk",
            "line 4, sources.a.conection: unknown key; did you mean 'connection'?",
        ),
        ("{", "is not valid YAML"),
    ],
)
def test_a_mistake_in_the_declaration_is_one_line(home, capsys, text, message):
    settings, declared = home
    declared.write_text(text)
    assert cli.main(["sources", "check", "--home", str(settings.home)]) == 1
    told = capsys.readouterr()
    assert message in told.out + told.err and len((told.out + told.err).strip().splitlines()) == 1
