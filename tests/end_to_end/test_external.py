"""A warehouse on a Postgres that others use too: what is theirs stays as it is."""

import re
import subprocess
import time
from dataclasses import replace
from urllib.parse import unquote, urlsplit

import psycopg
import pytest

from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings
from northstar.operate import doctor
from northstar.orchestration import up
from northstar.runs import job, maintenance
from northstar.runs.erase.erasure import erase
from northstar.runs.rotate import rotate_key
from northstar.use.marts import Marts
from northstar.use.query import query
from northstar.warehouse import db
from northstar.warehouse import setup as warehouse
from northstar.warehouse.setup import bootstrap, make_airflow_database
from tests import external
from tests.end_to_end.test_tls import WAYS
from tests.support import query_as, silent, utc, write_rows

JOB_ROLES = db.SERVER_ROLES


@pytest.fixture(scope="module")
def server():
    with external.server() as running:
        yield running


@pytest.fixture
def shop(server):
    """A home with an empty database of its own."""
    server.make_database("shop")
    yield server.home("shop")
    for database in ("shop", "shop_airflow"):
        server.run(f"drop database if exists {database} with (force)")
    for role in JOB_ROLES:
        server.run(f"drop role if exists shop_{role}")


def about_roles(server, *names: str) -> list[dict]:
    """All that a server knows of roles, their passwords and comments too."""
    return server.run(
        "select a.*, s.setdatabase, s.setconfig, shobj_description(a.oid, 'pg_authid') as mark from pg_authid as a left join pg_db_role_setting as s "
        f"on s.setrole = a.oid where rolname = any('{{{','.join(names)}}}') order by rolname"
    )


def about_database(server, name: str) -> list[dict]:
    """Who owns what is in a database's public schema, who may connect to it, and what is said of it."""
    tables = server.run(
        "select relname, relowner::regrole::text as owner, relacl::text as acl from pg_class where relnamespace = 'public'::regnamespace "
        "union all select nspname, nspowner::regrole::text, nspacl::text from pg_namespace where nspname !~ '^pg_' order by 1",
        database=name,
    )
    return tables + server.run(
        "select datdba::regrole::text as owner, datacl::text as acl, shobj_description(oid, 'pg_database') as mark from pg_database "
        f"where datname = '{name}'"
    )


def test_another_teams_database_called_airflow_is_left_alone(server, shop):
    server.make_database("airflow")
    server.run("create role af login")
    server.run("create table dag_run (x int)", "alter table dag_run owner to af", database="airflow")
    before = about_database(server, "airflow")
    make_airflow_database(shop)
    bootstrap(shop)
    bootstrap(shop, is_forced=True)
    assert about_database(server, "airflow") == before
    with pytest.raises(
        NorthstarError,
        match="the database airflow of this server does not belong to this warehouse: set NORTHSTAR_ROLE_PREFIX",
    ):
        make_airflow_database(replace(shop, role_prefix=""))
    server.run("drop database airflow", "drop role af")


def test_airflow_has_a_database_of_its_own_that_says_whose_it_is(server, shop):
    make_airflow_database(shop)
    make_airflow_database(shop)
    bootstrap(shop)
    with server.connect("shop_airflow", "shop_airflow_db", db.password(shop, db.AIRFLOW_ROLE)) as connection:
        connection.execute("create table made_by_airflow (x int)")
    assert (
        about_database(server, "shop_airflow")[-1]["mark"]
        == "Northstar made this for its warehouse in the database shop"
    )


def test_a_database_of_airflows_name_that_somebody_else_made_is_refused(server, shop):
    server.make_database("shop_airflow")
    before = about_database(server, "shop_airflow")
    with pytest.raises(
        NorthstarError, match="the database shop_airflow of this server does not belong to this warehouse"
    ):
        make_airflow_database(shop)
    bootstrap(shop)
    assert about_database(server, "shop_airflow") == before


def test_other_teams_roles_of_the_same_names_are_left_alone(server, shop):
    for role in JOB_ROLES:
        server.run(f"create role {role} login password 'theirs'")
    before = about_roles(server, *JOB_ROLES)
    bootstrap(shop)
    assert about_roles(server, *JOB_ROLES) == before
    with db.connect(shop, "loader") as connection:
        assert connection.execute("select current_user as name").fetchone() == {"name": "shop_loader"}
    for role in JOB_ROLES:
        server.run(f"drop role {role}")


@pytest.mark.parametrize("role", JOB_ROLES)
def test_a_role_that_is_not_marked_is_refused_before_anything_is_changed(server, shop, role):
    server.run(f"create role shop_{role} login password 'theirs' connection limit 3")
    before = about_roles(server, f"shop_{role}"), about_database(server, "shop")
    with pytest.raises(
        NorthstarError,
        match=f"the role shop_{role} of this server does not belong to this warehouse: set NORTHSTAR_ROLE_PREFIX",
    ):
        bootstrap(shop)
    assert (about_roles(server, f"shop_{role}"), about_database(server, "shop")) == before
    bootstrap(replace(shop, role_prefix="other_"))
    assert about_roles(server, f"shop_{role}") == before[0]
    server.run("drop database shop with (force)", *(f"drop role if exists other_{r}" for r in JOB_ROLES))


def test_two_homes_on_one_server_do_not_disturb_each_other(server, shop):
    server.make_database("My-Shop")
    other = server.home("My-Shop")
    bootstrap(shop)
    bootstrap(other)
    for home in (shop, other):
        for role in db.ROLES:
            db.connect(home, role).close()
    with pytest.raises(
        NorthstarError,
        match=r"the role shop_loader of this server .*its comment says: .* the database shop: set NORTHSTAR",
    ):
        server.make_database("third")
        bootstrap(replace(server.home("third"), role_prefix="shop_"))
    server.run('drop database "My-Shop" with (force)', "drop database third")


def test_a_schema_of_somebody_else_is_left_alone(server, shop):
    server.run("create schema staging", "create table staging.charges (x int)", database="shop")
    before = about_database(server, "shop")
    with pytest.raises(NorthstarError, match="the database shop has a schema staging that is not Northstar's"):
        bootstrap(shop)
    assert about_database(server, "shop") == before


def test_a_database_that_others_use_too_is_not_closed_to_them(server, shop):
    server.run("create schema finance", "create table finance.books (x int)", database="shop")
    before = about_database(server, "shop")
    open_to = server.run(
        "select count(*) as n from pg_proc as p, aclexplode(p.proacl) where proname = 'pg_advisory_lock'",
        database="shop",
    )
    bootstrap(shop)
    after = about_database(server, "shop")
    assert [r for r in after if r.get("relname") in ("public", "finance")] == [
        r for r in before if r.get("relname") in ("public", "finance")
    ]
    assert "=Tc/postgres" in after[-1]["acl"] and after[-1]["mark"] is None
    assert open_to == server.run(
        "select count(*) as n from pg_proc as p, aclexplode(p.proacl) where proname = 'pg_advisory_lock'",
        database="shop",
    )


@pytest.fixture
def earlier(server):
    """A home as the version before the marks left it, with Airflow's database."""
    server.make_database("metrics")
    settings = replace(server.home("metrics"), role_prefix="")
    make_airflow_database(settings)
    bootstrap(settings)
    server.run("update audit.bootstrapped set fingerprint = 'earlier with Airflow'", database="metrics")
    server.run("comment on database airflow is null", *(f"comment on role {role} is null" for role in JOB_ROLES))
    (settings.home / "airflow").mkdir()
    (settings.home / "airflow" / "migrated").write_text("1")
    yield replace(settings, role_prefix=None)
    server.run(
        "drop database metrics with (force)", "drop database airflow", *(f"drop role {role}" for role in JOB_ROLES)
    )


def test_a_home_of_an_earlier_version_keeps_its_names_and_is_marked(server, earlier):
    db.connect(earlier, "bi_reader").close()
    bootstrap(earlier)
    assert {r["rolname"] for r in about_roles(server, *JOB_ROLES) if r["mark"]} == set(JOB_ROLES)
    assert about_database(server, "airflow")[-1]["mark"]
    with server.connect("airflow", db.AIRFLOW_ROLE, db.password(earlier, db.AIRFLOW_ROLE)) as connection:
        connection.execute("create table made_by_airflow (x int)")
    # a home that is new and has the same secrets finds the names, and one without the administrator's address remembers them
    another = replace(earlier, home=load_settings(earlier.home / "another").home)
    assert db.role_name(another, "loader") == "loader"
    assert (
        db.role_name(replace(earlier, warehouse_url=f"postgresql://127.0.0.1:{server.port}/metrics"), "loader")
        == "loader"
    )


def test_another_prefix_than_the_warehouse_was_made_with_is_refused(earlier):
    with pytest.raises(NorthstarError, match=r"set NORTHSTAR_ROLE_PREFIX= \(it is other_ now\)"):
        bootstrap(replace(earlier, role_prefix="other_"))


def test_the_doctor_speaks_of_the_roles_by_their_names(server, shop):
    bootstrap(shop)
    says = [str(f) for f in doctor.examine(shop) if f.check == "roles"]
    assert says == [
        "ok    roles        shop_loader, shop_transformer, shop_publisher, shop_bi_reader have the rights that they need, and no more"
    ]


# what a reader, or whoever has its password, may make last
POISON = (
    "alter role {} set timezone = 'Pacific/Auckland'",
    "alter role {} in database shop set timezone = 'Pacific/Auckland'",
    "alter role {} in database shop set statement_timeout = '1ms'",
    "alter role {} set search_path = pg_catalog",
    "alter role {} set transform_null_equals = on",
    "alter role {} reset default_transaction_read_only",
    "alter role {} reset all",
)


def as_a_bi_tool(server, settings):
    """A connection as the reader with nothing but its address."""
    return server.connect(
        db.database_name(settings), db.role_name(settings, "bi_reader"), db.password(settings, "bi_reader")
    )


def seen_by_a_bi_tool(server, settings) -> dict:
    names = ("timezone", "search_path", "statement_timeout", "transform_null_equals", "default_transaction_read_only")
    with as_a_bi_tool(server, settings) as connection:
        return {name: connection.execute("select current_setting(%s) as v", [name]).fetchone()["v"] for name in names}


def kept(server) -> list:
    return [(r["setdatabase"], r["setconfig"], r["rolconnlimit"]) for r in about_roles(server, "shop_bi_reader")]


GOOD = {
    "timezone": "UTC", "search_path": "marts", "statement_timeout": "10min", "transform_null_equals": "off",
    "default_transaction_read_only": "on",
}  # fmt: skip


@pytest.mark.parametrize("poison", POISON)
def test_what_a_reader_makes_last_shifts_nobodys_numbers_and_the_next_run_undoes_it(server, shop, poison):
    bootstrap(shop)
    assert not [f for f in doctor.examine(shop) if f.check == "roles" and f.is_wrong]
    before = kept(server)
    with as_a_bi_tool(server, shop) as connection:
        connection.execute("set default_transaction_read_only = off")
        connection.execute(poison.format("shop_bi_reader"))
    # a log-in trigger
    assert seen_by_a_bi_tool(server, shop) == GOOD
    with db.connect(shop, "bi_reader") as connection:
        connection.execute("select pg_sleep(0.01)")
    assert [f.seen for f in doctor.examine(shop) if f.check == "roles" and f.is_wrong] != []
    server.run("alter event trigger northstar_reader_login disable", database="shop")
    assert seen_by_a_bi_tool(server, shop) != GOOD
    bootstrap(shop)
    assert kept(server) == before
    assert seen_by_a_bi_tool(server, shop) == GOOD
    assert not [f for f in doctor.examine(shop) if f.check == "roles" and f.is_wrong]


def test_a_reader_may_still_say_otherwise_for_itself(server, shop):
    bootstrap(shop)
    address = server.address("shop_bi_reader", db.password(shop, "bi_reader"), "shop")
    with psycopg.connect(address, options="-c timezone=Europe/Madrid -c statement_timeout=5s") as connection:
        assert connection.execute(
            "select current_setting('timezone'), current_setting('statement_timeout')"
        ).fetchone() == (
            "Europe/Madrid",
            "5s",
        )


def test_what_readers_temporary_files_may_fill_is_a_share_of_the_disk(server, shop):
    for given, most in ((None, 100), (7, 7)):
        bootstrap(replace(shop, operations=shop.operations.model_copy(update={"reader_disk_gb": given})))
        limit = server.run("select rolconnlimit as sessions, array_to_string(setconfig, ' ') as said from pg_roles join pg_db_role_setting "
                           "on setrole = pg_roles.oid where rolname = 'shop_bi_reader'")[0]  # fmt: skip
        megabytes = int(re.search(r"temp_file_limit=(\d+)MB", limit["said"])[1])
        assert 0.9 * most < limit["sessions"] * megabytes / 1024 <= most


def test_an_administrators_setting_for_a_role_of_the_job_stays(server, shop):
    bootstrap(shop)
    server.run(
        "alter role shop_transformer set work_mem = '99MB'",
        "alter role shop_transformer in database shop set timezone = 'Asia/Tokyo'",
    )
    assert [f.seen for f in doctor.examine(shop) if f.check == "roles" and f.is_wrong] == [
        "shop_transformer has a changed setting: timezone is Asia/Tokyo in shop"
    ]
    bootstrap(shop)
    with server.connect("shop", "shop_transformer", db.password(shop, "transformer")) as connection:
        assert [
            connection.execute("select current_setting(%s) as v", [x]).fetchone()["v"] for x in ("work_mem", "timezone")
        ] == ["99MB", "UTC"]


def test_a_servers_own_time_limits_fail_no_run(server, shop):
    limits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
    for limit in limits:
        server.run(f"alter database shop set {limit} = '3ms'")
    bootstrap(shop)
    for role in ("loader", "transformer", "publisher"):
        # as dbt, ADBC and Great Expectations come
        with server.connect("shop", f"shop_{role}", db.password(shop, role)) as connection:
            connection.execute("select pg_sleep(0.02)")
            assert {connection.execute(f"show {limit}").fetchone()[limit] for limit in limits} == {"0"}


def test_no_statement_of_a_role_is_compiled_by_a_server_that_compiles_others(server, shop):
    server.run("alter database shop set jit = on")
    bootstrap(shop)
    for role in db.ROLES:
        with server.connect("shop", f"shop_{role}", db.password(shop, role)) as connection:
            assert connection.execute("show jit").fetchone()["jit"] == "off"
    with db.connect(shop, "owner") as connection:
        assert connection.execute("show jit").fetchone()["jit"] == "off"


PASSWORD = "p/w#x?y@z%41$HOME{{1}}:"


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_passwords_may_have_any_characters_on_every_way(server, shop_with_odd_passwords, way):
    way(shop_with_odd_passwords)


@pytest.fixture(scope="module")
def shop_with_odd_passwords(server):
    with pytest.MonkeyPatch.context() as patch:
        for role in JOB_ROLES:
            patch.setenv(f"NORTHSTAR_SECRET_{role.upper()}_PASSWORD", f"{role}{PASSWORD}")
        server.make_database("odd")
        settings = server.home("odd")
        make_airflow_database(settings)
        bootstrap(settings)
        yield settings


@pytest.mark.parametrize("password", ["p/w", "p#w", "p?w", "p@w", "12/w", "a:b@c/d?e#f", "50%", "p%2Fw"])
def test_an_administrators_password_needs_no_quoting(monkeypatch, tmp_path, password):
    monkeypatch.setenv(
        "NORTHSTAR_WAREHOUSE_URL", f"postgresql://admin:{password}@db.example.org:6543/metrics?sslmode=require"
    )
    settings = load_settings(tmp_path)
    parts = urlsplit(db.uri(settings, "owner"))
    assert (parts.hostname, parts.port, parts.path, parts.query) == (
        "db.example.org",
        6543,
        "/metrics",
        "sslmode=require",
    )
    assert unquote(parts.password) == unquote(password)


def test_the_administrators_password_may_be_a_secret_instead(monkeypatch, tmp_path):
    monkeypatch.setenv("NORTHSTAR_SECRET_OWNER_PASSWORD", "p/w#")
    monkeypatch.setenv("NORTHSTAR_WAREHOUSE_URL", "postgresql://admin@127.0.0.1/metrics")
    assert db.uri(load_settings(tmp_path), "owner") == "postgresql://admin:p%2Fw%23@127.0.0.1/metrics"
    assert db.uri(load_settings(tmp_path), "owner", "other") == "postgresql://admin:p%2Fw%23@127.0.0.1/other"


def without_administrator(server, settings):
    """The same home as its services have it."""
    return replace(settings, warehouse_url=f"postgresql://127.0.0.1:{server.port}/{db.database_name(settings)}")


def test_the_job_needs_no_administrator(server, shop, monkeypatch):
    # the fixture of odd passwords sets them for the module
    for role in JOB_ROLES:
        monkeypatch.delenv(f"NORTHSTAR_SECRET_{role.upper()}_PASSWORD", raising=False)
    running = without_administrator(server, shop)
    with pytest.raises(NorthstarError, match=r"set NORTHSTAR_SECRET_TRANSFORMER_PASSWORD"):
        bootstrap(running)
    with pytest.raises(NorthstarError, match=r"`northstar setup`"):
        bootstrap(replace(running, home=shop_secrets(shop).home))
    bootstrap(shop)
    bootstrap(running)
    for role in db.ROLES:
        db.connect(running, role).close()
    assert not [
        f for f in doctor.examine(running) if f.check in ("server", "roles", "versions", "tables") and f.is_wrong
    ]
    for wants_it in (
        lambda: db.connect(running, "owner"),
        lambda: bootstrap(running, is_forced=True),
        lambda: erase(running, account_id="a"),
        lambda: rotate_key(running),
    ):
        with pytest.raises(
            NorthstarError, match=r"needs the administrator: .*NORTHSTAR_WAREHOUSE_URL=postgresql://ADMINISTRATOR@HOST"
        ):
            wants_it()
    server.run("update audit.bootstrapped set fingerprint = 'of another version'", database="shop")
    with pytest.raises(NorthstarError, match=r"`northstar setup`"):
        bootstrap(running)


def test_readers_are_sent_to_a_replica_and_nobody_else_is(server, shop, tmp_path, monkeypatch):
    for role in JOB_ROLES:
        monkeypatch.delenv(f"NORTHSTAR_SECRET_{role.upper()}_PASSWORD", raising=False)
    bootstrap(shop)
    source = write_rows(tmp_path, {"charges": [
        {"charge_id": "c1", "account_id": "a", "application": "web", "amount": 100, "currency": "USD", "status": "succeeded",
         "created_at": "2025-03-05T00:00:00Z", "updated_at": "2025-03-05T00:00:00Z"}]})  # fmt: skip
    with external.replica(server) as copy:
        monkeypatch.setenv("NORTHSTAR_WAREHOUSE_URL", shop.warehouse_url)
        monkeypatch.setenv("NORTHSTAR_READER_URL", f"postgresql://127.0.0.1:{copy.port}/shop")
        settings = load_settings(shop.home)
        assert job.run(settings, "nightly", utc("2025-04-01T00:00:00"), str(source), silent) == 1
        deadline = time.monotonic() + 60
        while not copy.run("select to_regclass('marts.publications') as there", database="shop")[0]["there"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        where = "select inet_server_port() as port, pg_is_in_recovery() as is_standby"
        assert query_as(settings, "bi_reader", where) == [{"port": copy.port, "is_standby": True}]
        assert query_as(settings, "transformer", where) == [{"port": server.port, "is_standby": False}]
        # the pages, and who asks in SQL, of the past too
        assert Marts(settings).published().version == 1
        asked = "select count(*) as n from metric_values where metric_id = 'cash_collected'"
        assert query(settings, asked)[1] == query(settings, asked, version=1)[1] != [(0,)]
    with pytest.raises(NorthstarError, match=r"add .* to NORTHSTAR_READER_URL"):
        db.uri(replace(shop, reader_url="postgresql://replica.example.org/shop"), "bi_reader")


def test_who_has_no_administrator_knows_the_prefix_that_the_warehouse_was_made_with(server, shop):
    bootstrap(replace(shop, role_prefix="acme_"))
    assert db.role_name(without_administrator(server, shop), "loader") == "acme_loader"
    server.run("drop database shop with (force)", *(f"drop role if exists acme_{r}" for r in JOB_ROLES))


def shop_secrets(settings):
    for role in JOB_ROLES:
        db.password(settings, role)
    return settings


def test_without_an_administrator_too_a_run_undoes_what_a_reader_made_last(server, shop):
    bootstrap(shop)
    before = kept(server)
    with as_a_bi_tool(server, shop) as connection:
        connection.execute("set default_transaction_read_only = off")
        connection.execute("alter role shop_bi_reader set timezone = 'Pacific/Auckland'")
        connection.execute("alter role shop_bi_reader in database shop set search_path = pg_catalog")
    bootstrap(without_administrator(server, shop))
    assert [(d, sorted(said), n) for d, said, n in kept(server)] == [(d, sorted(said), n) for d, said, n in before]


def test_what_the_roles_passwords_hash_to_is_nobodys_but_the_administrators(server, shop):
    bootstrap(shop)
    for role in db.ROLES:
        with db.connect(shop, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select passwords from audit.bootstrapped")


def test_a_server_that_is_too_old_is_refused_before_anything_is_made(server, shop, monkeypatch):
    monkeypatch.setattr(warehouse, "OLDEST_POSTGRES", 99)
    with pytest.raises(NorthstarError, match=r"the server is Postgres \d+; Northstar needs 99 or newer"):
        bootstrap(shop)
    assert server.run("select 1 from pg_namespace where nspname = 'staging'", database="shop") == []


def test_make_run_makes_airflows_database_here_too_and_starts_no_server_of_its_own(server, shop, monkeypatch):
    class Stop(Exception):
        pass

    def stop(*_, **__):
        raise Stop

    monkeypatch.setattr(up, "start_services", stop)
    (shop.home / "demo").mkdir(parents=True)
    (shop.home / "demo" / "_simulation.json").write_text("{}")
    with pytest.raises(Stop):
        up.up(shop)
    assert about_database(server, "shop_airflow") and not (shop.home / "postgres").exists()


def test_airflows_own_database_is_cleaned_here_too(shop, monkeypatch):
    make_airflow_database(shop)
    bootstrap(shop)
    (shop.home / "airflow").mkdir(exist_ok=True)
    (shop.home / "airflow" / "migrated").write_text("")
    with db.connect(shop, db.AIRFLOW_ROLE, database=db.airflow_database(shop)) as connection:
        connection.execute("create table dag_run as select now() - interval '1 year' as run_after")
    asked = []

    def cleaned(command, **given):
        asked.append((command, given["env"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(maintenance.subprocess, "run", cleaned)
    assert maintenance._airflow(shop, time.monotonic() + 60, None).keys() == {"before"}
    ((command, address),) = asked
    assert command[1:3] == ["db", "clean"] and address.endswith("/shop_airflow")
