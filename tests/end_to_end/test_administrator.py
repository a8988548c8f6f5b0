"""An external warehouse whose administrator is no superuser, as on a managed Postgres: everything that needs the administrator works."""

import math

import pytest

from northstar.operate import doctor
from northstar.orchestration.container import make_airflow_database
from northstar.runs.erase.erasure import erase
from northstar.runs.rotate import rotate_key
from northstar.use.query import query
from northstar.warehouse import db
from northstar.warehouse.rights import act_as_owner
from northstar.warehouse.schemas import SCHEMAS
from northstar.warehouse.setup import bootstrap
from tests import external
from tests.support import WORKERS, run, silent, utc, write_rows

pytestmark = pytest.mark.timeout(1800)

ADMINISTRATOR, PASSWORD = "cloud_admin", "a/d#m?i@n"
AT = "2026-02-03T10:00:00Z"


@pytest.fixture(scope="module", params=sorted(external.BINARIES))
def managed(request):
    """A home on a server where the administrator may make roles and databases, owns the warehouse's, and may do no more."""
    with external.server(request.param) as server:
        server.run(f"create role {ADMINISTRATOR} login createrole createdb password '{PASSWORD}'")
        server.make_database("northstar", ADMINISTRATOR)
        settings = server.home("northstar", ADMINISTRATOR, PASSWORD)
        yield server, settings
        if settings.home in WORKERS:
            WORKERS.pop(settings.home).stop()


def test_it_sets_up_twice_with_airflows_database(managed):
    server, settings = managed
    make_airflow_database(settings)
    bootstrap(settings)
    bootstrap(settings, is_forced=True)
    for role in db.ROLES:
        db.connect(settings, role).close()
    with server.connect(
        "northstar_airflow", "northstar_airflow_db", db.password(settings, db.AIRFLOW_ROLE)
    ) as connection:
        connection.execute("create table made_by_airflow (x int)")
    found = [f for f in doctor.examine(settings) if f.check in ("versions", "roles", "tables", "indexes")]
    assert not [str(f) for f in found if f.is_wrong]


def test_it_acts_as_each_owner_and_the_roles_gain_nothing(managed):
    server, settings = managed
    bootstrap(settings)
    with db.connect(settings, "owner") as connection:
        for schema in SCHEMAS:
            act_as_owner(connection, schema)
            connection.execute(f"create table {schema}.by_hand (x int)")
            connection.execute(f"drop table {schema}.by_hand")
    groups = server.run(
        "select member::regrole::text as m from pg_auth_members where roleid >= 16384 or member >= 16384"
    )
    assert {g["m"] for g in groups} <= {ADMINISTRATOR}


def test_the_oldest_server_reckons_as_the_newest_does(managed):
    server, settings = managed
    bootstrap(settings)
    with server.connect("northstar", "northstar_transformer", db.password(settings, "transformer")) as connection:
        for x in (-30, -3, -0.7, 0, 1e-9, 0.3, 1, 2.4, 2.5, 2.6, 4, 9, 25):
            found = connection.execute("select erfc(%s::float8) as p", [x]).fetchone()["p"]
            assert found == pytest.approx(math.erfc(x), rel=1e-11, abs=1e-300)


def test_it_runs_erases_and_changes_the_key(managed, tmp_path, monkeypatch):
    server, settings = managed
    # the auditor is a process of its own
    monkeypatch.setenv("NORTHSTAR_WAREHOUSE_URL", settings.warehouse_url)
    if server.major != min(external.BINARIES):
        pytest.skip("three runs: on the oldest server")
    account = {"account_type": "customer", "application": "web", "created_at": AT, "updated_at": AT}
    charge = {
        "application": "web",
        "amount": 1900,
        "currency": "USD",
        "status": "succeeded",
        "created_at": AT,
        "updated_at": AT,
    }
    people = ("acc-4711-zq", "acc-4712-zq")
    write_rows(tmp_path, {
        "accounts": [{**account, "account_id": name, "email": f"{name}@example.org"} for name in people],
        "charges": [{**charge, "charge_id": f"ch_{name}", "account_id": name} for name in people],
    })  # fmt: skip
    assert run(settings, tmp_path, utc("2026-03-01T00:00:00")) == 1
    worker = WORKERS[settings.home]
    assert erase(settings, account_id=people[0], progress=silent, worker=worker).state == "done"
    rotate_key(settings, progress=silent, worker=worker)
    _, rows = query(settings, "select account_id from fct_payments order by 1")
    assert people[1] in str(rows) and people[0] not in str(rows)
