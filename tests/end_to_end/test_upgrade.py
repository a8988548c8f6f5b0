"""A home of the release before is brought to this one: its rows stay, its versions stay readable, and it goes on publishing."""

import gzip
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from northstar import db, job, migrations
from northstar.cli import main
from northstar.contract import entities
from northstar.embedded.server import binaries
from northstar.errors import NorthstarError
from northstar.reading import query
from northstar.warehouse import bootstrap, landed_columns
from tests.end_to_end.test_restatements import charge
from tests.support import select, silent, utc, write_rows

# what pg_dump said of a home in which f3e08e4, the last version without migrations, had published twice (core and candidate: no rows)
RELEASE_BEFORE = Path(__file__).with_name("homes") / "f3e08e4.sql.gz"
MRR = (
    "select value from metric_values where metric_id = 'mrr' and grain = 'month' and period_start = '2025-01-01' "
    "and application = 'web' and segment = ''"
)


@pytest.fixture(scope="module")
def old(warehouse, tmp_path_factory):
    """The old home: a database of its own in the server at hand, and a home directory with the same secrets."""
    home = tmp_path_factory.mktemp("old")
    shutil.copy(warehouse.secrets_file, home)
    with db.connect(warehouse, "owner", autocommit=True, database="postgres") as connection:
        connection.execute("create database old")
    url = db.uri(warehouse, "owner", "old")
    subprocess.run(
        [binaries() / "psql", "-q", "-v", "ON_ERROR_STOP=1", url], input=gzip.decompress(RELEASE_BEFORE.read_bytes()),
        check=True, capture_output=True, env={**os.environ, "PGOPTIONS": "-c client_min_messages=error"},
    )  # fmt: skip
    settings = replace(warehouse, home=home, warehouse_url=url)
    # as if the contract had been smaller in one place and stricter in another
    change(settings, "alter table staging.charges drop column failure_code cascade")
    change(settings, "alter table staging.accounts alter column country set not null")
    yield settings
    with db.connect(warehouse, "owner", autocommit=True, database="postgres") as connection:
        connection.execute("drop database old with (force)")


def change(settings, text):
    with db.connect(settings, "owner") as connection:
        connection.execute(text)


def ask(settings, text):
    with db.connect(settings, "owner") as connection:
        return connection.execute(text).fetchall()


def test_a_migration_that_fails_leaves_the_old_home_as_it_was_and_is_written_down(old, monkeypatch):
    known = migrations.migrations()
    bad = migrations.Migration(len(known) + 1, "breaks", "create table audit.half (x int); select 1 / 0")
    monkeypatch.setattr(migrations, "migrations", lambda: [*known, bad])
    with pytest.raises(NorthstarError, match=rf"migration {bad.title} failed: division by zero; the warehouse stays"):
        bootstrap(old)
    assert ask(old, "select number, applied_at, message from audit.migrations") == [
        {"number": bad.number, "applied_at": None, "message": "division by zero"}
    ]
    assert ask(old, "select to_regclass('audit.half') as t, to_regclass('audit.backfills') as b")[0] == {"t": None, "b": None}
    change(old, "delete from audit.migrations")


def test_an_old_home_is_upgraded_and_publishes_on(old, tmp_path):
    landed = ask(old, "select count(*) as n, sum(amount) as total from staging.charges")
    restated = ask(old, "select count(*) as n from marts.metric_restatements")
    # two processes that find the old home at once: one of them does it
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(bootstrap, [old, old]))
    done = ask(old, "select number, message, applied_at is not null as applied from audit.migrations order by 1")
    assert done == [{"number": m.number, "message": None, "applied": True} for m in migrations.migrations()]
    with db.connect(old, "owner") as connection:
        columns = landed_columns(connection)
    for entity in entities().values():
        assert set(entity.stored_columns) <= set(columns[entity.name]), entity.name
    assert columns["accounts"]["country"]["not_null"] is False
    assert ask(old, "select count(*) as n, sum(amount) as total from staging.charges") == landed

    failed = charge(9, "2025-02-20", 700) | {"status": "failed", "failure_code": "expired"}
    stateless = {"account_id": "b", "account_type": "customer", "application": "web", "country": None,
                 "created_at": "2025-02-05T00:00:00Z", "updated_at": "2025-02-05T00:00:00Z"}  # fmt: skip
    source = write_rows(tmp_path, {"charges": [failed], "accounts": [stateless]})
    assert job.run(old, "nightly", utc("2025-03-01T06:00:00"), str(source), silent) == 3
    assert select(old, "select failure_code from fct_payments where charge_id = 'c9'") == [{"failure_code": "expired"}]
    assert [float(query(old, MRR, version)[1][0][0]) for version in (1, 2, 3)] == [50.0, 70.0, 70.0]
    assert ask(old, "select count(*) as n from marts.metric_restatements")[0]["n"] >= restated[0]["n"] > 0


def test_a_home_that_a_newer_version_changed_is_refused_in_one_line(old, tmp_path, capsys, monkeypatch):
    change(old, "insert into audit.migrations values (9999, 'of_tomorrow', 'x', clock_timestamp(), 0, null)")
    # an older version never agrees with the fingerprint that a newer one left
    change(old, "truncate audit.bootstrapped")
    monkeypatch.setenv("NORTHSTAR_WAREHOUSE_URL", old.warehouse_url)
    assert main(["run", "--source-dir", str(tmp_path), "--home", str(old.home)]) == 1
    error = capsys.readouterr().err
    assert "a newer version (migration 9999_of_tomorrow" in error and error.count("\n") == 1
    change(old, "delete from audit.migrations where number = 9999")
    bootstrap(old)


def test_a_released_migration_is_not_changed_behind_a_homes_back(old):
    change(old, "update audit.migrations set digest = 'other' where number = 1; truncate audit.bootstrapped")
    with pytest.raises(NorthstarError, match="had another migration 0001_first_tables"):
        bootstrap(old)
    change(old, f"update audit.migrations set digest = '{migrations.migrations()[0].digest}' where number = 1")
    bootstrap(old)


def test_a_column_of_another_type_wants_a_migration(old):
    change(old, "drop view staging.stg_market_size cascade; alter table staging.market_size alter column country type varchar(2); truncate audit.bootstrapped")
    with pytest.raises(NorthstarError, match=r"staging.market_size.country is character varying\(2\) and the contract says text"):
        bootstrap(old)
    change(old, "alter table staging.market_size alter column country type text")
    bootstrap(old)


def test_the_numbers_of_the_migrations_have_no_gap():
    assert [m.number for m in migrations.migrations()] == list(range(1, len(migrations.migrations()) + 1))
