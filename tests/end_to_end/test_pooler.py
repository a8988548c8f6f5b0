"""A pooler between Northstar and its warehouse: session mode works, what shares a connection between sessions is refused by its name."""

from dataclasses import replace

import pytest

from northstar.base.errors import NorthstarError
from northstar.warehouse import db
from northstar.warehouse.setup import bootstrap
from tests import external
from tests.end_to_end.test_tls import WAYS


@pytest.fixture(scope="module")
def shop():
    with external.server() as server:
        server.make_database("shop")
        settings = server.home("shop")
        bootstrap(settings)
        users = {db.role_name(settings, r): db.password(settings, r) for r in db.ROLES} | {
            external.SUPERUSER: external.PASSWORD
        }
        yield server, settings, users


def behind(settings, server, port):
    return replace(settings, warehouse_url=settings.warehouse_url.replace(f":{server.port}/", f":{port}/"))


@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("lenient", [False, True])
def test_a_pooler_that_shares_connections_is_refused_by_name(shop, mode, lenient):
    server, settings, users = shop
    with external.pooler(server, users, mode, lenient) as port:
        pooled = behind(settings, server, port)
        for role in ("owner", *db.ROLES):
            with pytest.raises(NorthstarError, match=r"PgBouncer.*pool_mode = session") as refused:
                db.connect(pooled, role)
            assert "\n" not in str(refused.value)


@pytest.mark.parametrize("way", [w for w in WAYS if "airflow" not in w.__name__], ids=lambda way: way.__name__)
def test_a_pooler_in_session_mode_works_on_every_way(shop, way):
    server, settings, users = shop
    with external.pooler(server, users, "session", lenient=True) as port:
        way(behind(settings, server, port))


@pytest.mark.parametrize("lenient", [False, True])
def test_a_pooler_in_session_mode_does_not_keep_from_us_what_a_session_says(shop, lenient):
    server, settings, users = shop
    server.run("alter database shop set timezone = 'Asia/Tokyo'", "alter database shop set lock_timeout = '1ms'")
    with external.pooler(server, users, "session", lenient) as port:
        for role in ("owner", *db.ROLES):
            with db.connect(behind(settings, server, port), role) as connection:
                said = {
                    n: connection.execute("select current_setting(%s) as v", [n]).fetchone()["v"]
                    for n in db.OPTIONS_BY_ROLE.get(role, db.OPTIONS)
                }
                assert said == db.OPTIONS_BY_ROLE.get(role, db.OPTIONS)
