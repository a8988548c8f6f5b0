"""The life of a home: the release before is upgraded and publishes on, its past is backfilled, it is kept tidy, and looked over."""

import json
import os
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from northstar.base.errors import NorthstarError
from northstar.cli import main as cli
from northstar.contract import entities
from northstar.operate import doctor
from northstar.orchestration import tasks
from northstar.publish.certificates import input_contents
from northstar.publish.merge import rollback
from northstar.runs import job, maintenance, quarantine
from northstar.use.query import query
from northstar.warehouse import db, embedded, migrations, turn_lock
from northstar.warehouse.landed_tables import landed_columns
from northstar.warehouse.setup import bootstrap
from tests.conftest import home, release_before
from tests.support import select, silent

VALUE = "select value from metric_values where metric_id = '{}' and grain = 'month' and period_start = '{}-01' and application = 'web' and segment = ''"
SOURCES = """
sources:
  crm:
    system: sql
    connection: crm
    entities: [charges, accounts]
    options: {entities: {charges: {table: charges, cursor: updated_at}, accounts: {table: accounts, cursor: updated_at}}}
"""
CHARGE = (
    "charge_id",
    "account_id",
    "application",
    "amount",
    "currency",
    "status",
    "failure_code",
    "created_at",
    "updated_at",
)
ACCOUNT = ("account_id", "account_type", "application", "country", "created_at", "updated_at")


@pytest.fixture(scope="module")
def crm(tmp_path_factory):
    """The company's own database, which has some payments that the old home has not."""
    path = tmp_path_factory.mktemp("crm") / "crm.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"create table charges ({', '.join(CHARGE)})")
    connection.execute(f"create table accounts ({', '.join(ACCOUNT)})")
    for name, day, amount, status, code in (
        ("c20", "2025-01-15", 300, "succeeded", None), ("c21", "2025-02-15", 400, "succeeded", None),
        ("c22", "2025-02-20", 700, "failed", "expired"), ("c23", "2025-02-21", 100, "vanished", None),
    ):  # fmt: skip
        at = f"{day}T10:00:00Z"
        connection.execute(
            f"insert into charges values ({', '.join('?' * 9)})",
            (name, "a", "web", amount, "USD", status, code, at, at),
        )
    at = "2025-02-05T00:00:00Z"
    connection.execute("insert into accounts values (?, ?, ?, ?, ?, ?)", ("b", "customer", "web", None, at, at))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_CRM", json.dumps({"conn_type": "sqlite", "schema": str(path)}))
        yield connection


@pytest.fixture(scope="module")
def old(crm):
    """A home of the release before, whose contract was smaller in one place and stricter in another."""
    with home(release_before) as settings:
        (settings.home / "sources.yml").write_text(SOURCES)
        change(settings, "alter table staging.charges drop column failure_code cascade")
        change(settings, "alter table staging.accounts alter column country set not null")
        yield settings


def change(settings, text):
    with db.connect(settings, "owner") as connection:
        connection.execute(text)


def ask(settings, text):
    with db.connect(settings, "owner") as connection:
        return connection.execute(text).fetchall()


def test_a_migration_that_fails_leaves_the_old_home_as_it_was_and_is_written_down(old, monkeypatch):
    known = migrations.load_migrations()
    bad = migrations.Migration(len(known) + 1, "breaks", "create table audit.half (x int); select 1 / 0")
    monkeypatch.setattr(migrations, "load_migrations", lambda: [*known, bad])
    with pytest.raises(
        NorthstarError, match=rf"migration {bad.title} failed: division by zero; the warehouse is as it was"
    ):
        bootstrap(old)
    assert ask(old, "select number, applied_at, message from audit.migrations") == [
        {"number": bad.number, "applied_at": None, "message": "division by zero"}
    ]
    there = ask(old, "select to_regclass('audit.half') as half, to_regclass('audit.backfills') as backfills")
    assert there == [{"half": None, "backfills": None}]
    change(old, "delete from audit.migrations")


def test_an_old_home_is_upgraded_and_publishes_on(old):
    landed = ask(old, "select count(*) as n, sum(amount) as total from staging.charges")
    restated = ask(old, "select count(*) as n from marts.metric_restatements")
    # two processes that find the old home at once: one of them does it
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(bootstrap, [old, old]))
    done = ask(old, "select number, message, applied_at is not null as applied from audit.migrations order by 1")
    assert done == [{"number": m.number, "message": None, "applied": True} for m in migrations.load_migrations()]
    with db.connect(old, "owner") as connection:
        columns = landed_columns(connection)
    for entity in entities().values():
        assert set(entity.stored_columns) <= set(columns[entity.name]), entity.name
    assert columns["accounts"]["country"]["not_null"] is False
    assert ask(old, "select count(*) as n, sum(amount) as total from staging.charges") == landed

    # the upkeep behind the publication fails, and the version is up all the same
    change(old, "revoke delete on audit.alert_evaluations from transformer")
    said = []
    assert job.run(old, "nightly", datetime(2025, 3, 1, 6, tzinfo=UTC), None, said.append) == 3
    assert any(line.startswith("published, but maintenance: journals: permission denied") for line in said), said
    assert select(old, "select failure_code from fct_payments where charge_id = 'c22'") == [{"failure_code": "expired"}]
    assert [float(query(old, VALUE.format("mrr", "2025-01"), version)[1][0][0]) for version in (1, 2, 3)] == [
        50,
        70,
        70,
    ]
    assert ask(old, "select count(*) as n from marts.metric_restatements")[0]["n"] >= restated[0]["n"] > 0


def test_a_failed_upkeep_is_told(old):
    (wrong,) = [f for f in doctor.examine(old) if f.check == "upkeep"]
    assert wrong.is_wrong and "permission denied" in wrong.seen
    change(old, "grant delete on audit.alert_evaluations to transformer")
    maintenance.maintain(old, progress=silent)
    (right,) = [f for f in doctor.examine(old) if f.check == "upkeep"]
    assert not right.is_wrong


def test_a_backfill_reads_the_range_again_rebuilds_it_and_leaves_the_rest(old, crm, monkeypatch):
    cash, charges = (
        VALUE.format("cash_collected", "2025-01"),
        "select charge_id, amount::int as amount from staging.charges",
    )
    newest = "select as_of, published_version from publications order by 2 desc limit 1"
    before, amounts = select(old, newest)[0], {r["charge_id"]: r["amount"] for r in ask(old, charges)}
    assert float(select(old, cash)[0]["value"]) == 18
    # the source changed two rows behind its cursor, and a wrong number was built and published
    crm.execute("update charges set amount = 3 * amount where charge_id in ('c20', 'c21')")
    day = "metric_id = 'mrr' and grain = 'day' and application = 'web' and segment = ''"
    this = f"period_start = '2025-01-06' and series_id = (select series_id from marts.metric_series where {day})"
    for table in ("core.metrics_revenue", "marts.metric_points"):
        change(old, f"update {table} set value = 999, numerator = 999 where {this}")
    # and a row that was rejected fits by now
    fits = "row = jsonb_set(row, '{status}', '\"succeeded\"')"
    change(old, f"update quarantine.rows set {fits} where row ->> 'charge_id' = 'c23'")
    assert quarantine.replay(old, "charges").startswith("1 of ")

    why = "the shop corrected January by hand"
    monkeypatch.setenv("NORTHSTAR_HOME", str(old.home))
    form = {
        "from": "2025-01-01T00:00:00Z",
        "to": "2025-02-01T00:00:00Z",
        "reason": why,
        "source": "crm",
        "read_sources": True,
    }
    version = tasks.backfill_range(params=form, dag_run=SimpleNamespace(triggering_user_name="ada"))
    after = select(old, newest)[0]
    assert version == after["published_version"]
    assert after == {"as_of": before["as_of"], "published_version": before["published_version"] + 1}
    assert float(select(old, cash)[0]["value"]) == 24
    # c21 is of February
    assert {r["charge_id"]: r["amount"] for r in ask(old, charges)} == amounts | {"c20": 900, "c23": 100}
    assert select(old, "select 1 as one from fct_payments where charge_id = 'c23'") == [{"one": 1}]
    for table in ("core.metrics_revenue", "marts.metric_points"):
        assert ask(old, f"select value::int as value from {table} where {this}") == [{"value": 70}]
    reasons = select(
        old, "select metric_id, old_value::int as old, reason from metric_restatements where new_version = %s and application = 'web' and segment = '' "
        "and (metric_id, grain, period_start) in (('mrr', 'day', '2025-01-06'), ('cash_collected', 'month', '2025-01-01')) order by 1",
        after["published_version"],
    )  # fmt: skip
    assert reasons == [
        {"metric_id": "cash_collected", "old": 18, "reason": "correction"},
        {"metric_id": "mrr", "old": 999, "reason": "backfill"},
    ]
    (entry,) = ask(old, "select * from audit.backfills")
    assert (entry["reason"], entry["asked_by"], entry["sources"]) == (why, "ada", ["crm"])
    assert (entry["rows_read"], entry["rows_changed"], entry["message"]) == (1, 1, None)
    assert entry["published_version"] == after["published_version"] and entry["finished_at"]
    states = ask(old, "select state from audit.source_states where source = 'crm' and entity = 'charges'")
    assert "2025-02-21" in str(states), "the next reading starts where it would have"


def test_what_cannot_be_backfilled_is_one_line(old, capsys):
    for words, message in (
        (["--from", "2025-02-01", "--to", "2025-01-01", "--reason", "x"], "the range is empty"),
        (["--from", "2025-01-01", "--to", "2025-02-01", "--reason", " "], "a backfill needs a --reason"),
        (
            ["--from", "2025-01-01", "--to", "2025-02-01", "--reason", "x", "--source", "erp"],
            "no source 'erp'; the declared ones are crm",
        ),
        (["--from", "2125-01-01", "--to", "2125-02-01", "--reason", "x"], "is in the future"),
    ):
        assert cli.main(["backfill", "--home", str(old.home), *words]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    assert len(ask(old, "select * from audit.backfills")) == 1


def test_the_upkeep_forgets_what_is_kept_long_enough_and_cleans_up(old, monkeypatch):
    # versions 1 and 2 are a month old, and a week is kept: what was up when the week began stays
    change(
        old,
        "update marts.publications set published_at = published_at - interval '30 days' where published_version <= 2",
    )
    change(old, "update audit.checks set checked_at = checked_at - interval '500 days' where run_id = 1")
    change(old, "create table core.leftover__dbt_tmp (x int); alter table core.leftover__dbt_tmp owner to transformer; "
                "create table core._changed__gone (x int); alter table core._changed__gone owner to transformer")  # fmt: skip
    change(old, "insert into quarantine.rows (source, entity, reasons) select 'x', 'events', '{}' from generate_series(1, 20000); "
                "delete from quarantine.rows where source = 'x'; select pg_stat_force_next_flush()")  # fmt: skip
    log, task = old.logs / "scheduler.log", old.logs / "airflow" / "dag_id=evaluate_alerts" / "run_id=old"
    writer = log.open("ab")
    writer.write(b"x" * (maintenance.LOG_BYTES + 1))
    writer.flush()
    task.mkdir(parents=True)
    os.utime(task, (time.time() - 40 * 86400,) * 2)
    kept = replace(old, operations=old.operations.model_copy(update={"keep_versions_days": 7}))
    did = maintenance.maintain(kept, progress=silent)

    assert did["versions"]["oldest_version"] == 2 and did["versions"]["published"] > 0 and did["versions"]["landed"] > 0
    assert did["journals"]["checks"] > 0 and ask(old, "select count(*) as n from audit.checks where run_id = 1") == [
        {"n": 0}
    ]
    assert did["traces"] == {"tables": 2} and did["vacuum"]["tables"] >= 1
    assert (
        ask(old, "select n_dead_tup as n from pg_stat_user_tables where relid = 'quarantine.rows'::regclass")[0]["n"]
        < 100
    )
    writer.write(b"y")
    writer.close()
    assert log.read_bytes() == b"y" and not task.exists()

    assert float(query(old, VALUE.format("mrr", "2025-01"), 2)[1][0][0]) == 70
    with db.connect(old, "owner") as connection:
        certified = select(old, "select built_batch_id, inputs from certificates where published_version = 2")[0]
        landed = input_contents(connection, None, certified["built_batch_id"])
        later = {name: landed.pop(name) for name in landed.keys() - certified["inputs"].keys()}
        assert landed == certified["inputs"], "version 2 can still be verified"
        # entities that the release did not know
        assert all(content["rows"] == 0 for content in later.values())
    for refused in (lambda: query(old, "select 1", 1), lambda: rollback(old, 1)):
        with pytest.raises(NorthstarError, match=r"version 1 is no longer kept .* the oldest kept version is 2"):
            refused()
    # no time: nothing is begun, and the next night goes on
    monkeypatch.setattr(maintenance, "STEPS", {"vacuum": maintenance._vacuum})
    late = replace(old, operations=old.operations.model_copy(update={"maintenance_minutes": 0}))
    assert maintenance.maintain(late, progress=silent) == {"vacuum": "no time left; the next nightly run continues"}


def test_a_home_in_order_has_nothing_wrong(old):
    found = list(doctor.examine(old))
    assert [str(f) for f in found if f.is_wrong] == []
    assert {f.check for f in found} == {*doctor.CHECKS_WITHOUT_DATABASE, *doctor.DATABASE_CHECKS, "server"}


def test_the_doctor_names_everything_that_is_broken(old, monkeypatch, capsys):
    taken = socket.create_server(("127.0.0.1", 0))
    old.secrets_file.chmod(0o644)
    (old.home / "pages_port").write_text(str(taken.getsockname()[1]))
    (old.home / "airflow").mkdir(exist_ok=True)
    (old.home / "airflow" / "services.json").write_text(json.dumps({"scheduler": {"pid": 4_000_000, "created": 0}}))
    (old.home / "operations.yml").write_text("wal_archive: /tmp/northstar-never\n")
    monkeypatch.delenv("AIRFLOW_CONN_CRM")
    monkeypatch.setattr(doctor, "FREE_BYTES", 1 << 60)
    monkeypatch.setattr(doctor, "BLOATED_ROWS", 500)
    real = doctor._now
    monkeypatch.setattr(doctor, "_now", lambda: real() - timedelta(hours=1))
    change(old, f"""
        insert into audit.writer_lease (run_id, holder, host, process_id, taken_at) values (77, 'cli', '{turn_lock.machine_id()}', 4000000, clock_timestamp());
        insert into audit.runs (run_id, mode, as_of, trigger) values (76, 'hourly', now(), 'cli');
        insert into audit.runs (run_id, mode, as_of, trigger, state, message) values (78, 'hourly', now(), 'cli', 'failed', 'the audit stopped it');
        update pg_index set indisvalid = false where indexrelid = 'staging.charges_key'::regclass;
        drop index staging.charges_created_at;
        alter table staging.reviews drop column reviewer_id cascade;
        revoke select on marts.metric_values from bi_reader;
        grant usage on schema staging to bi_reader;
        alter role loader password 'another';
        alter role publisher createdb;
        insert into audit.migrations values (98, 'broken', 'x', null, null, 'no such column');
        insert into audit.migrations values (9999, 'of_tomorrow', 'x', clock_timestamp(), 0, null);
        update marts.publications set published_at = published_at - interval '3 days', code_version = 'other';
        insert into audit.maintenance (finished_at, succeeded, message) values (clock_timestamp(), false, 'the disk is full');
        insert into quarantine.rows (source, entity, reasons) select 'x', 'events', '{{}}' from generate_series(1, 1000);
        delete from quarantine.rows where source = 'x';
        select pg_stat_force_next_flush();
    """)  # fmt: skip
    assert cli.main(["doctor", "--home", str(old.home)]) == 1
    told = capsys.readouterr().out
    for check, words in (
        ("disk", "GB free for the home; make room"), ("secrets", "can be read by other users than its owner; chmod 600"),
        ("ports", "of the pages is taken by another program"), ("airflow", "scheduler ended without being stopped; see"),
        ("sources", "crm: no connection crm"), ("clock", "the server's clock is 3600 s ahead of this machine's; synchronise both"),
        ("versions", "migration 0098_broken failed: no such column; fix"), ("versions", "a newer version (migration 9999_of_tomorrow"),
        ("roles", "bi_reader may not select marts.metric_values; `northstar setup`"), ("roles", "bi_reader may read staging"),
        ("roles", "the role loader cannot log in"), ("roles", "the role publisher has more rights than it needs"),
        ("tables", "staging.reviews has no column reviewer_id"), ("tables", "quarantine.rows is bloated: 1,000 dead rows"),
        ("indexes", "staging.charges_key is invalid"), ("indexes", "staging.charges_created_at is missing"),
        ("archive", "the write-ahead log is not archived yet; `northstar stop`"), ("writer", "run 77 (cli) has the turn to write, but its process is gone; the next run takes it over; `northstar unlock 77`"),
        ("writer", "run 76 of"), ("writer", "the last run, 78, failed: the audit stopped it; docs/runbooks.md"),
        ("published", "h ago; docs/runbooks.md, data_late"), ("published", "it was made by other models or rules (other)"),
        ("upkeep", "the last maintenance failed: the disk is full"),
    ):  # fmt: skip
        assert any(line.startswith(f"WRONG {check} ") and words in line for line in told.splitlines()), (
            check,
            words,
            told,
        )
    assert "things are wrong (`northstar status`" in told.splitlines()[-1]
    taken.close()
    embedded.stop(old)
    assert cli.main(["doctor", "--home", str(old.home)]) == 1
    assert "WRONG server       Postgres is not running; `make run`" in capsys.readouterr().out
    assert not embedded.is_running(old), "looking starts nothing"


def test_a_home_that_a_newer_version_changed_is_refused_in_one_line(old, capsys):
    # an older version never agrees with the fingerprint that a newer one left
    change(
        old,
        "delete from audit.bootstrapped; delete from audit.writer_lease; delete from audit.migrations where number = 98",
    )
    assert cli.main(["run", "--home", str(old.home)]) == 1
    error = capsys.readouterr().err
    assert "a newer version (migration 9999_of_tomorrow" in error and error.count("\n") == 1
    change(old, "delete from audit.migrations where number = 9999")


def test_a_released_migration_is_not_changed_behind_a_homes_back(old):
    change(old, "update audit.migrations set digest = 'other' where number = 1")
    with pytest.raises(NorthstarError, match="the migration 0001_first_tables that this warehouse has had"):
        bootstrap(old)
    change(old, f"update audit.migrations set digest = '{migrations.load_migrations()[0].digest}' where number = 1")


def test_a_column_of_another_type_wants_a_migration(old):
    change(
        old,
        "drop view staging.stg_market_size cascade; alter table staging.market_size alter column country type varchar(2)",
    )
    with pytest.raises(
        NorthstarError, match=r"staging.market_size.country is character varying\(2\) and the contract says text"
    ):
        bootstrap(old)


def test_the_numbers_of_the_migrations_have_no_gap():
    assert [m.number for m in migrations.load_migrations()] == list(range(1, len(migrations.load_migrations()) + 1))
