"""A SQL database as a source: SQLite and the test's own Postgres, with writers that commit late and a loader that is killed."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest

from northstar.base.errors import NorthstarError
from northstar.connections.find import Connection
from northstar.extract.landing.source import land_source, preview, source_states
from northstar.extract.sources import sql
from northstar.extract.sources.declared import Source, open_source, reading_digest
from northstar.extract.sources.sql import SqlDatabase, _not_after_present
from northstar.warehouse import db
from tests.extract.sources.mariadb import mariadb, needs_mariadb
from tests.support import empty, silent

__all__ = ["mariadb"]

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


def test_other_options_or_another_connector_have_the_rows_read_again_and_those_of_other_entities_not(
    sqlite, monkeypatch
):
    settings, _, _ = sqlite
    assert land_source(settings, None, source(), silent).landed.read == 2
    # one row stands on the cursor's edge
    assert land_source(settings, None, source(), silent).landed.read == 1
    dollars = source(query=CHARGES.replace("'EUR'", "'USD'"))
    assert dollars != source()
    said = []
    again = land_source(settings, None, dollars, said.append).landed
    assert (again.read, again.updated) == (2, 2)
    assert "  shop, charges: read again from its beginning, since its options or its connector changed" in said
    assert land_source(settings, None, dollars, silent).landed.read == 1
    beside = replace(
        dollars, options=dollars.options | {"entities": dollars.options["entities"] | {"refunds": {"table": "r"}}}
    )
    assert (
        reading_digest(beside, "charges", [])
        == reading_digest(dollars, "charges", [])
        != reading_digest(dollars, "charges", ["another column"])
    )
    monkeypatch.setattr(sql, "READING", 2, raising=False)
    assert land_source(settings, None, dollars, silent).landed.read == 2
    # an earlier release did not note how it read
    with db.connect(settings, "owner") as connection:
        connection.execute("update audit.source_states set reading = null")
    assert land_source(settings, None, dollars, silent).landed.read == 1


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


def test_the_password_is_in_no_message_and_no_log(sqlite, monkeypatch):
    settings, _, _ = sqlite
    said: list = []
    refused = '{"conn_type": "%s", "host": "127.0.0.1", "port": 9, "login": "me", "password": "canary-pass", "schema": "shop"}'
    for kind in ("postgres", "mysql"):
        monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", refused % kind)
        result = land_source(settings, None, source(), said.append)
        assert "cannot reach the database shop_db" in result.error
        said.append(result.error)
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", '{"conn_type": "postgres", "password": "canary-pass"')
    said.append(str(land_source(settings, None, source(), said.append).error))
    assert "neither the URI nor the JSON of a connection" in said[-1]
    assert "canary-pass" not in "".join([*said, *(path.read_text() for path in settings.logs.glob("*.log"))])


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
    monkeypatch.setattr("northstar.extract.sources.sql.ROWS", 200)
    monkeypatch.setattr("northstar.extract.landing.source.BATCH_ROWS", 500)
    reading = SqlDatabase.read

    def dying(self, entity, state):
        for number, page in enumerate(reading(self, entity, state)):
            if number == 8:
                raise NorthstarError("the connection was lost")
            yield page

    monkeypatch.setattr(SqlDatabase, "read", dying)
    result = land_source(settings, None, source(lookback=0), silent)
    assert result.error == "the connection was lost"
    # what came before it is there
    assert len(landed(settings)) == 1_600
    monkeypatch.setattr(SqlDatabase, "read", reading)
    result = land_source(settings, None, source(lookback=0), silent)
    assert len(landed(settings)) == 3_000
    assert result.landed.read == 1_401  # the newest of what was stored, and all after it


def test_a_writer_whose_clock_is_ahead_hides_nobody_elses_rows(sqlite):
    settings, write, connection = sqlite
    (now,) = connection.execute("select datetime('now')").fetchone()
    (ahead,) = connection.execute("select datetime('now', '+3 hours')").fetchone()
    write(("ahead", "succeeded", ahead))
    assert land_source(settings, None, source(), silent).landed.inserted == 3
    write(("ours", "succeeded", now))
    assert land_source(settings, None, source(), silent).landed.inserted == 1
    assert set(landed(settings)) == {"c1", "c2", "ahead", "ours"}


@pytest.mark.parametrize(
    ("value", "zone", "expected"),
    [
        (datetime(2030, 1, 1, tzinfo=UTC), None, datetime(2025, 3, 1, 12, tzinfo=UTC)),
        (datetime(2025, 3, 1, 11, tzinfo=UTC), None, datetime(2025, 3, 1, 11, tzinfo=UTC)),
        (datetime(2030, 1, 1), "Europe/Berlin", datetime(2025, 3, 1, 13)),
        (date(2030, 1, 1), None, date(2025, 3, 1)),
        ("2030-01-01T00:00:00+02:00", None, "2025-03-01T14:00:00"),
        ("2025-03-01 11:59:00", None, "2025-03-01 11:59:00"),
        (4_000_000_000, None, 4_000_000_000),
        ("v-17", None, "v-17"),
        (None, None, None),
    ],
)
def test_the_state_is_never_beyond_the_present(value, zone, expected):
    present = datetime(2025, 3, 1, 12, tzinfo=UTC)
    assert _not_after_present(value, present, zone and ZoneInfo(zone)) == expected


WIDE = """
import resource, sys
from northstar.base.settings import load_settings
from northstar.extract.landing.source import land_source
from northstar.extract.sources.declared import Source
settings, given = load_settings(sys.argv[1]), eval(sys.argv[2])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
for rows in (40_000, 120_000):
    options = {"entities": {"charges": {**given, "query": given["query"].format(rows=rows)}}}
    result = land_source(settings, None, Source("shop", "sql", "shop_db", ("charges",), options=options), lambda _: None)
    assert result.error is None, result.error
    print(result.landed.read, peak())
"""


def test_a_table_of_any_size_is_read_in_bounded_memory(postgres):
    """80,000 rows more of a kilobyte each: held at once they would be 80 MB more, at the least."""
    settings, _ = postgres
    wide = {
        "query": "select 'c' || n as charge_id, 'a' as account_id, 100 as amount, 'EUR' as currency, 'succeeded' as status, "
                 "timestamptz '2025-01-01' as created_at, timestamptz '2025-01-01' + n * interval '1 second' as updated_at, "
                 "repeat(md5(n::text), 32) as note from generate_series(1, {rows}) as n",
        "cursor": "updated_at",
    }  # fmt: skip
    told = subprocess.run(
        [sys.executable, "-c", WIDE, str(settings.home), repr(wide)], cwd=settings.root, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    (few, before), (many, after) = (map(int, line.split()) for line in told.stdout.splitlines())
    assert few == 40_000 and many > 80_000
    assert after - before < 60, f"{before} MB, then {after} MB"


def test_sqlite_is_read_in_several_batches(sqlite, monkeypatch):
    settings, write, _ = sqlite
    write(*((f"n{n}", "succeeded", f"2025-03-02 10:{n // 60:02d}:{n % 60:02d}") for n in range(1_000)))
    monkeypatch.setattr("northstar.extract.sources.sql.ROWS", 100)
    monkeypatch.setattr("northstar.extract.landing.source.BATCH_ROWS", 300)
    result = land_source(settings, None, source(), silent)
    assert result.error is None and result.landed.inserted == 1_002


@needs_mariadb
def test_mysql_is_read_as_the_others_are_and_only_read(mariadb, warehouse, monkeypatch):
    empty(warehouse)
    admin = mariadb()
    cursor = admin.cursor()
    for statement in (
        "drop database if exists shop", "create database shop", "use shop",
        "create table payments (id varchar(20) primary key, account varchar(20), cents int, state varchar(20), created_at datetime(6), updated_at datetime(6))",
        "insert into payments select concat('c', seq), 'a', 100, 'succeeded', '2025-03-01 10:00:00', '2025-03-01 10:00:00' + interval seq second from seq_1_to_500",
        "create function wipe() returns int begin delete from payments; return 1; end",
    ):  # fmt: skip
        cursor.execute(statement)
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", f"mysql://root:@127.0.0.1:{mariadb.port}/shop")
    monkeypatch.setattr("northstar.extract.sources.sql.ROWS", 100)
    monkeypatch.setattr("northstar.extract.landing.source.BATCH_ROWS", 200)
    assert open_source(warehouse, source()).check() == "mysql shop_db: may read charges"
    first = land_source(warehouse, 1, source(lookback=0), silent)
    assert (first.error, first.landed.inserted) == (None, 500)
    # one that changed, one new, and one of a writer whose clock is ahead
    cursor.execute("update payments set state = 'failed', updated_at = '2025-03-02 10:00:00' where id = 'c7'")
    cursor.execute("insert into payments values ('new', 'a', 100, 'succeeded', utc_timestamp(), utc_timestamp(6)), "
                   "('ahead', 'a', 100, 'succeeded', utc_timestamp(), utc_timestamp() + interval 3 hour)")  # fmt: skip
    second = land_source(warehouse, 1, source(), silent)
    assert (second.landed.inserted, second.landed.updated) == (2, 1)
    cursor.execute("insert into payments values ('newer', 'a', 100, 'succeeded', utc_timestamp(), utc_timestamp(6))")
    assert land_source(warehouse, 1, source(), silent).landed.inserted == 1
    assert landed(warehouse)["c7"] == "failed" and len(landed(warehouse)) == 503
    with db.connect(warehouse, "loader") as connection:
        told = connection.execute(
            "select measure, source_total::int as told, difference::int as off from audit.reconciliations order by 1, 2"
        ).fetchall()
        at = connection.execute("select updated_at from staging.charges where charge_id = 'c7'").fetchone()[
            "updated_at"
        ]
    assert ("rows", 500, 0) in [tuple(t.values()) for t in told] and at == datetime(2025, 3, 2, 10, tzinfo=UTC)
    result = land_source(warehouse, None, source(query=CHARGES + " where wipe() = 1", cursor=None), silent)
    assert "read only transaction" in result.error.lower() or "read-only" in result.error.lower(), result.error
    admin.close()


KILLED = """
import sys, time
from northstar.extract.landing.source import land_source
from northstar.base.settings import load_settings
from northstar.extract.sources import sql
from northstar.extract.sources.declared import Source
import northstar.extract.landing.source as landing
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


def test_a_local_time_that_the_clocks_skip_goes_to_quarantine(sqlite):
    settings, write, _ = sqlite
    write(
        ("c3", "succeeded", "2025-03-30 02:30:00"),
        ("c4", "succeeded", "2025-03-30 03:30:00"),
        ("c5", "succeeded", "2025-10-26 02:30:00"),
    )
    berlin = source(cursor=None)
    result = land_source(
        settings, None, replace(berlin, options={**berlin.options, "timezone": "Europe/Berlin"}), silent
    )
    assert result.error is None and result.landed.quarantined == 1 and "c3" not in landed(settings)
    with db.connect(settings, "loader") as connection:
        (rejected,) = connection.execute("select reasons from quarantine.rows").fetchall()
        times = connection.execute(
            "select updated_at from staging.charges where charge_id in ('c4', 'c5') order by charge_id"
        ).fetchall()
    assert rejected["reasons"] == ["updated_at: '2025-03-30T02:30:00' is not a time with a zone"]
    assert [f"{row['updated_at']:%m-%d %H:%M}" for row in times] == ["03-30 01:30", "10-26 00:30"]
