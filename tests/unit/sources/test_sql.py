"""A SQL database as a source: SQLite and the test's own Postgres, with writers that commit late and a loader that is killed."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from northstar import db
from northstar.errors import NorthstarError
from northstar.landing.sources import land_source, preview, source_states
from northstar.sources.connections import Connection
from northstar.sources.declared import Source, open_source
from northstar.sources.sql import SqlDatabase
from tests.support import empty, silent

CHARGES = (
    "select id as charge_id, account as account_id, cents as amount, 'EUR' as currency, state as status, "
    "created_at, updated_at from payments"
)


def source(cursor="updated_at", **options) -> Source:
    entity = {"query": CHARGES, "cursor": cursor, "totals": {"amount": "sum(amount)"}, **options}
    entity = {k: v for k, v in entity.items() if v is not None}
    return Source("shop", "sql", "shop_db", ("charges",), options={"timezone": "UTC", "entities": {"charges": entity}})


def landed(settings) -> dict:
    with db.connect(settings, "loader") as connection:
        return {
            r["charge_id"]: r["status"] for r in connection.execute("select charge_id, status from staging.charges")
        }


@pytest.fixture
def sqlite(tmp_path, monkeypatch, warehouse):
    """An SQLite database with a table of payments, and the warehouse, empty."""
    empty(warehouse)
    path = tmp_path / "shop.db"
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", f'{{"conn_type": "sqlite", "schema": "{path}"}}')
    connection = sqlite3.connect(path)
    connection.execute(
        "create table payments (id text, account text, cents int, state text, created_at text, updated_at text)"
    )

    def write(*rows):
        connection.executemany("insert into payments values (?, 'a', 100, ?, '2025-03-01 10:00:00', ?)", rows)
        connection.commit()

    write(("c1", "succeeded", "2025-03-01 10:00:00"), ("c2", "pending", "2025-03-01 11:00:00"))
    yield warehouse, write, connection
    connection.close()


def test_what_is_new_or_changed_lands_and_nothing_else(sqlite):
    settings, write, connection = sqlite
    first = land_source(settings, None, source(), silent)
    assert first.error is None and first.landed.inserted == 2
    connection.execute("update payments set state = 'failed', updated_at = '2025-03-02 09:00:00' where id = 'c2'")
    write(("c3", "succeeded", "2025-03-02 10:00:00"))
    second = land_source(settings, None, source(), silent)
    assert (second.landed.inserted, second.landed.updated, second.landed.unchanged) == (1, 1, 0)
    assert landed(settings) == {"c1": "succeeded", "c2": "failed", "c3": "succeeded"}
    third = land_source(settings, None, source(), silent)
    assert (third.landed.read, third.landed.unchanged) == (1, 1)
    assert source_states(settings, "shop")["charges"]


def test_rows_without_a_cursor_value_and_tables_without_a_cursor_are_read_each_time(sqlite):
    settings, write, _ = sqlite
    write(("c9", "succeeded", None))
    nameless = {
        "query": CHARGES.replace(
            "updated_at from", "coalesce(updated_at, created_at) as updated_at, updated_at as touched from"
        )
    }
    given = source(cursor="touched", **nameless)
    assert land_source(settings, None, given, silent).landed.inserted == 3
    write(("c10", "succeeded", None))
    assert land_source(settings, None, given, silent).landed.inserted == 1
    whole = source(cursor=None)
    write(("c11", "succeeded", "2025-01-01 00:00:00"))
    assert land_source(settings, None, whole, silent).landed.inserted == 1


def test_rows_that_do_not_fit_go_to_quarantine_once(sqlite):
    settings, write, _ = sqlite
    write(("c4", "strange", "2025-03-03 10:00:00"))
    for _ in range(2):
        result = land_source(settings, None, source(), silent)
        assert result.landed.quarantined == 1
    with db.connect(settings, "loader") as connection:
        rows = connection.execute("select source, path, reasons from quarantine.rows").fetchall()
    assert len(rows) == 1 and rows[0]["source"] == "shop" and "status: 'strange'" in rows[0]["reasons"][0]


def test_totals_are_reconciled_with_what_landed(sqlite):
    settings, _, connection = sqlite
    with db.connect(settings, "transformer") as c:
        run = c.execute("insert into audit.runs (mode, as_of, trigger) values ('hourly', '2025-04-01', 'test') returning run_id").fetchone()["run_id"]  # fmt: skip
    land_source(settings, run, source(), silent)
    connection.execute("update payments set cents = 250 where id = 'c1'")  # without its cursor: nobody can see it
    connection.commit()
    land_source(settings, run, source(), silent)
    with db.connect(settings, "loader") as c:
        told = c.execute("select measure, source_total, landed_total, difference from audit.reconciliations where source = 'shop' "
                         "order by source_total").fetchall()  # fmt: skip
        runs = c.execute("select succeeded, rows_landed from audit.source_runs").fetchall()
    assert [(t["measure"], int(t["source_total"]), int(t["difference"])) for t in told] == [
        ("rows", 2, 0), ("rows", 2, 0), ("amount", 200, 0), ("amount", 350, 150),
    ]  # fmt: skip
    assert runs == [{"succeeded": True, "rows_landed": 2}]


def test_the_check_and_the_preview_say_what_there_is(sqlite):
    settings, write, _ = sqlite
    write(("c4", "strange", "2025-03-03 10:00:00"))
    assert open_source(settings, source()).check() == "sqlite shop_db: may read charges"
    shown = preview(settings, source(), "charges", 5)
    assert "c1" in shown and "to quarantine: status: 'strange'" in shown
    assert landed(settings) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (source(query="select missing from absent"), "the database shop_db: no such table"),
        (source(cursor="missing"), "has no column 'missing'"),
        (source(table="payments"), "give `query` or `table`"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(sqlite, given, message):
    settings, _, _ = sqlite
    result = land_source(settings, None, given, silent)
    assert message in result.error and "\n" not in result.error


def test_an_unknown_kind_of_database_is_refused():
    with pytest.raises(NorthstarError, match="of type 'oracle'; use"):
        SqlDatabase(source(), Connection("x", "oracle"))


@pytest.fixture
def postgres(warehouse, monkeypatch):
    """A database of its own on the test's Postgres, with payments; and the warehouse, empty."""
    empty(warehouse)
    with db.connect(warehouse, "owner", autocommit=True) as connection:
        connection.execute("drop database if exists shop")
        connection.execute("create database shop")
    address = db.uri(warehouse, "owner", "shop")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", address.replace("postgresql://", "postgres://"))
    with psycopg.connect(address) as connection:
        connection.execute(
            "create table payments (id text primary key, account text, cents int, state text, created_at timestamptz, updated_at timestamptz)"
        )
    yield warehouse, address
    with db.connect(warehouse, "owner", autocommit=True) as connection:
        connection.execute("drop database shop with (force)")


def test_concurrent_writers_lose_nothing(postgres):
    settings, address = postgres
    stop, written = threading.Event(), []

    def write(name: int) -> None:
        with psycopg.connect(address) as connection:
            number = 0
            while not stop.is_set():
                key = f"w{name}_{number}"
                # the cursor is the moment of writing, the commit comes later, and not in that order
                connection.execute(
                    "insert into payments values (%s, 'a', 100, 'succeeded', clock_timestamp(), clock_timestamp())",
                    [key],
                )
                time.sleep(0.002 * (number * 7 % (5 + 5 * name)))
                connection.commit()
                written.append(key)
                number += 1

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for writer in writers:
        writer.start()
    for _ in range(6):
        assert land_source(settings, None, source(lookback=5), silent).error is None
    stop.set()
    for writer in writers:
        writer.join()
    land_source(settings, None, source(lookback=5), silent)
    assert set(landed(settings)) == set(written) and len(written) > 100


def test_a_reading_that_dies_goes_on_from_its_last_batch(postgres, monkeypatch):
    settings, address = postgres
    start = datetime(2025, 1, 1, tzinfo=UTC)
    with psycopg.connect(address) as connection, connection.cursor().copy("copy payments from stdin") as copy:
        for n in range(3_000):
            moment = start + timedelta(seconds=n)
            copy.write_row((f"c{n}", "a", 100, "succeeded", moment, moment))
    monkeypatch.setattr("northstar.sources.sql.ROWS", 200)
    monkeypatch.setattr("northstar.landing.sources.BATCH_ROWS", 500)
    reading = SqlDatabase.read

    def dying(self, entity, state):
        for number, page in enumerate(reading(self, entity, state)):
            if number == 8:
                raise NorthstarError("the connection was lost")
            yield page

    monkeypatch.setattr(SqlDatabase, "read", dying)
    result = land_source(settings, None, source(lookback=0), silent)
    assert result.error == "the connection was lost"
    assert len(landed(settings)) == 1_200
    monkeypatch.setattr(SqlDatabase, "read", reading)
    result = land_source(settings, None, source(lookback=0), silent)
    assert len(landed(settings)) == 3_000
    assert result.landed.read == 1_801  # the newest of what was stored, and all after it


KILLED = """
import sys, time
from northstar.landing.sources import land_source
from northstar.settings import load_settings
from northstar.sources import sql
from northstar.sources.declared import Source
import northstar.landing.sources as landing
sql.ROWS, landing.BATCH_ROWS = 100, 300
reading = sql.SqlDatabase.read
def slow(self, entity, state):
    for page in reading(self, entity, state):
        time.sleep(0.05)
        yield page
sql.SqlDatabase.read = slow
land_source(load_settings(sys.argv[1]), None, Source(**eval(sys.argv[2])))
"""


def test_a_killed_loader_neither_loses_nor_repeats_a_row(postgres):
    settings, address = postgres
    with psycopg.connect(address) as connection:
        connection.execute(
            "insert into payments select 'c' || n, 'a', 100, 'succeeded', timestamptz '2025-01-01' + n * interval '1 second', "
            "timestamptz '2025-01-01' + n * interval '1 second' from generate_series(1, 4000) as n"
        )
    given = source(lookback=0)
    seen = []
    while len(seen) < 3:
        loader = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(settings.home), repr(vars(given))], cwd=settings.root
        )
        already = len(landed(settings))
        while len(landed(settings)) <= already and loader.poll() is None:
            time.sleep(0.02)
        loader.send_signal(signal.SIGKILL)
        loader.wait()
        seen.append(len(landed(settings)))
    assert 0 < seen[0] < seen[1] < seen[2] < 4_000
    land_source(settings, None, given, silent)
    with db.connect(settings, "loader") as connection:
        told = connection.execute(
            "select count(*) as rows, count(distinct charge_id) as keys from staging.charges"
        ).fetchone()
        counted = connection.execute(
            "select sum(rows_inserted) as inserted, sum(rows_updated) as updated from audit.landing_batches where source = 'shop'"
        ).fetchone()
    assert told == {"rows": 4_000, "keys": 4_000}
    assert counted == {"inserted": 4_000, "updated": 0}


def test_the_database_is_only_read(postgres):
    settings, address = postgres
    with psycopg.connect(address) as connection:
        connection.execute("insert into payments values ('c1', 'a', 100, 'succeeded', now(), now())")
        connection.execute("create function wipe() returns int language sql as 'delete from payments returning 1'")
    result = land_source(settings, None, source(query=CHARGES + " where wipe() = 1"), silent)
    assert "cannot execute DELETE in a read-only transaction" in result.error
