"""A warehouse on a Postgres that others use too: what is theirs stays as it is."""

from dataclasses import replace

import pytest

from northstar import db, doctor
from northstar.errors import NorthstarError
from northstar.settings import load_settings
from northstar.warehouse import bootstrap, make_airflow_database
from tests import external

JOB_ROLES = (*db.ROLES, db.AIRFLOW_ROLE)


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
        "select a.*, s.setconfig, shobj_description(a.oid, 'pg_authid') as mark from pg_authid as a left join pg_db_role_setting as s "
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
        NorthstarError, match="the database airflow of this server is not this warehouse's: set NORTHSTAR_ROLE_PREFIX"
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
    with pytest.raises(NorthstarError, match="the database shop_airflow of this server is not this warehouse's"):
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
        NorthstarError, match=f"the role shop_{role} of this server is not this warehouse's: set NORTHSTAR_ROLE_PREFIX"
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
    with pytest.raises(NorthstarError, match=r"set NORTHSTAR_ROLE_PREFIX= \(it is other_\)"):
        bootstrap(replace(earlier, role_prefix="other_"))


def test_the_doctor_speaks_of_the_roles_by_their_names(server, shop):
    bootstrap(shop)
    says = [str(f) for f in doctor.examine(shop) if f.check == "roles"]
    assert says == [
        "ok    roles        shop_loader, shop_transformer, shop_publisher, shop_bi_reader may do their work and no more"
    ]
