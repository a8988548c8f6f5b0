"""Umami as a source: the columns of its own schema (v2 and v3) on the test's Postgres, and answers as version 3.1.0 gave them."""

from datetime import UTC, datetime

import psycopg
import pytest

from northstar.extract.landing.source import land_source, source_states
from northstar.extract.sources.declared import Source, open_source
from northstar.extract.sources.umami import UmamiApi
from northstar.warehouse import db
from tests.extract.sources.mariadb import mariadb, needs_mariadb
from tests.support import empty, json_server, silent

__all__ = ["mariadb"]

WEB, BLOG = "11111111-0000-0000-0000-000000000001", "11111111-0000-0000-0000-000000000002"
TABLES = """
create table website (website_id uuid primary key, name varchar(100), domain varchar(500));
create table session (session_id uuid primary key, website_id uuid, browser varchar(20), country char(2), created_at timestamptz {session});
create table website_event (event_id uuid primary key, website_id uuid, session_id uuid, visit_id uuid, created_at timestamptz,
    url_path varchar(500), url_query varchar(500), referrer_domain varchar(500), page_title varchar(500), event_type int default 1,
    event_name varchar(50), tag varchar(50));
create table event_data (event_data_id uuid primary key default gen_random_uuid(), website_id uuid, website_event_id uuid,
    data_key varchar(500), string_value varchar(500), number_value decimal(19, 4), date_value timestamptz, data_type int);
create table session_data (session_data_id uuid primary key default gen_random_uuid(), website_id uuid, session_id uuid,
    data_key varchar(500), string_value varchar(500), number_value decimal(19, 4), date_value timestamptz, data_type int);
"""


def uuid(kind: int, number: int) -> str:
    return f"{kind:08d}-0000-0000-0000-{number:012d}"


@pytest.fixture(params=["v2", "v3"])
def umami(request, warehouse, monkeypatch):
    """An Umami's database, as of a version; a function that stores an event; and the warehouse, empty."""
    empty(warehouse)
    with db.connect(warehouse, "owner", autocommit=True) as connection:
        connection.execute("drop database if exists umami")
        connection.execute("create database umami")
    address = db.uri(warehouse, "owner", "umami")
    monkeypatch.setenv("AIRFLOW_CONN_UMAMI_DB", address.replace("postgresql://", "postgres://"))
    is_new = request.param == "v3"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(TABLES.format(session=", distinct_id varchar(50)" if is_new else ", hostname varchar(100)"))
        connection.execute(
            "insert into website values (%s, 'web', 'example.org'), (%s, 'blog', 'blog.example.org')", [WEB, BLOG]
        )
        for number, account in ((1, "acc_ada"), (2, None)):
            columns = ("session_id", "website_id", "country", *(["distinct_id"] if is_new else []))
            values = [uuid(5, number), WEB, "DE", *([account] if is_new else [])]
            connection.execute(
                f"insert into session ({', '.join(columns)}) values ({', '.join(['%s'] * len(values))})", values
            )
        connection.execute(
            "insert into session_data (website_id, session_id, data_key, string_value, data_type) values (%s, %s, 'account', 'acc_ada', 1)",
            [WEB, uuid(5, 1)],
        )

        def store(number, at, session=1, visit=1, website=WEB, name=None, **data):
            connection.execute(
                "insert into website_event values (%s, %s, %s, %s, %s, '/pricing', 'email=ada@example.org', 'search.example', 'Prices', %s, %s, null)",
                [uuid(9, number), website, uuid(5, session), uuid(7, visit), f"2025-03-01 {at}+00", 2 if name else 1, name],
            )  # fmt: skip
            for key, value in data.items():
                kind = "string_value" if isinstance(value, str) else "number_value"
                connection.execute(
                    f"insert into event_data (website_id, website_event_id, data_key, {kind}, data_type) values (%s, %s, %s, %s, 1)",
                    [website, uuid(9, number), key, value],
                )

        yield warehouse, store, is_new
    with db.connect(warehouse, "owner", autocommit=True) as connection:
        connection.execute("drop database umami with (force)")


def events(settings, columns: str) -> list:
    with db.connect(settings, "loader") as connection:
        return [
            tuple(r.values()) for r in connection.execute(f"select {columns} from staging.events order by event_id")
        ]


def test_page_views_and_custom_events_land_with_their_visitor_and_properties(umami):
    settings, store, is_new = umami
    store(1, "10:00")
    store(2, "10:01")
    store(3, "10:02", name="signup", plan="pro", seats=3, price=9.5)
    store(4, "10:03", session=2, visit=2)
    store(5, "10:04", website=BLOG)
    options = {"websites": {WEB: "web"}, "events": {"signup": "user.signup"}, "account_key": "account"}
    source = Source("site", "umami", "umami_db", ("events",), options=options)
    told = "accounts by distinct_id" if is_new else "sessions without distinct_id"
    assert open_source(settings, source).check() == f"Umami: may read the events of 2 websites ({told})"
    result = land_source(settings, None, source, silent)
    assert result.error is None
    ada, nobody = uuid(5, 1), uuid(5, 2)
    assert events(settings, "event_name, account_id, anonymous_id, session_id, application, country") == [
        ("page.landing", "acc_ada", ada, uuid(7, 1), "web", "DE"),
        ("page.view", "acc_ada", ada, uuid(7, 1), "web", "DE"),
        ("user.signup", "acc_ada", ada, uuid(7, 1), "web", "DE"),
        ("page.landing", None, nobody, uuid(7, 2), "web", "DE"),
    ]
    properties = events(settings, "properties")[2][0]
    assert properties == {"url_path": "/pricing", "page_title": "Prices", "referrer_domain": "search.example", "plan": "pro", "seats": 3,
                          "price": 9.5}  # fmt: skip
    assert "ada@" not in str(events(settings, "*"))


def test_only_what_is_new_comes_after_and_late_events_are_found(umami):
    settings, store, _ = umami
    source = Source("site", "umami", "umami_db", ("events",), application="web", options={"lookback": 600})
    store(1, "10:00")
    store(2, "10:30")
    assert land_source(settings, 1, source, silent).landed.inserted == 2
    store(3, "10:25")  # stored late
    store(4, "10:40")
    result = land_source(settings, 1, source, silent)
    assert (result.landed.read, result.landed.inserted, result.landed.unchanged) == (3, 2, 1)
    assert source_states(settings, "site")["events"] == {"created_at": "2025-03-01T10:40:00+00:00"}
    with db.connect(settings, "loader") as connection:
        told = connection.execute(
            "select source_total::int as told, difference::int as off from audit.reconciliations order by 1"
        ).fetchall()
    assert told == [{"told": 2, "off": 0}, {"told": 4, "off": 0}]


@needs_mariadb
def test_the_tables_in_mysql_tell_the_same(mariadb, warehouse, monkeypatch):
    """Version 2 keeps its tables in MySQL too: times without a zone, which are UTC, and ids as text."""
    empty(warehouse)
    admin = mariadb()
    cursor = admin.cursor()
    cursor.execute("drop database if exists umami")
    cursor.execute("create database umami")
    cursor.execute("use umami")
    text = TABLES.format(session=", hostname varchar(100)").replace(
        "uuid primary key default gen_random_uuid()", "varchar(36) primary key default (uuid())"
    )
    for statement in (
        text.replace("uuid,", "varchar(36),")
        .replace("uuid primary", "varchar(36) primary")
        .replace("timestamptz", "timestamp null")
        .split(";")
    ):
        if statement.strip():
            cursor.execute(statement)
    cursor.execute("insert into website values (%s, 'web', 'example.org')", [WEB])
    cursor.execute("insert into session (session_id, website_id, country) values (%s, %s, 'DE')", [uuid(5, 1), WEB])
    cursor.execute("insert into session_data (session_data_id, website_id, session_id, data_key, string_value, data_type) values ('1', %s, %s, 'account', 'acc_ada', 1)",
                   [WEB, uuid(5, 1)])  # fmt: skip
    cursor.execute("set time_zone = '+00:00'")

    def store(number: int, at: str, name: str | None = None) -> None:
        cursor.execute("insert into website_event values (%s, %s, %s, %s, %s, '/pricing', '', 'search.example', 'Prices', %s, %s, null)",
                       [uuid(9, number), WEB, uuid(5, 1), uuid(7, 1), f"2025-03-01 {at}:00", 2 if name else 1, name])  # fmt: skip

    store(1, "10:00")
    store(2, "10:01")
    store(3, "10:02", "signup")
    cursor.execute("insert into event_data (event_data_id, website_id, website_event_id, data_key, number_value, data_type) values ('1', %s, %s, 'seats', 3, 2)",
                   [WEB, uuid(9, 3)])  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_UMAMI_DB", f"mysql://root:@127.0.0.1:{mariadb.port}/umami")
    options = {"events": {"signup": "user.signup"}, "account_key": "account", "lookback": 600}
    source = Source("site", "umami", "umami_db", ("events",), application="web", options=options)
    assert (
        open_source(warehouse, source).check()
        == "Umami: may read the events of 1 websites (sessions without distinct_id)"
    )
    assert land_source(warehouse, 1, source, silent).error is None
    assert events(warehouse, "event_name, account_id, session_id, country, occurred_at") == [
        (name, "acc_ada", uuid(7, 1), "DE", datetime(2025, 3, 1, 10, minute, tzinfo=UTC))
        for minute, name in enumerate(("page.landing", "page.view", "user.signup"))
    ]
    assert events(warehouse, "properties")[2][0]["seats"] == 3
    store(4, "09:58")
    store(5, "10:05")
    assert land_source(warehouse, 1, source, silent).landed.inserted == 2
    with db.connect(warehouse, "loader") as connection:
        assert [r["off"] for r in connection.execute("select difference::int as off from audit.reconciliations")] == [
            0,
            0,
        ]
    admin.close()


NOW = datetime(2025, 3, 2, 12, tzinfo=UTC)


class Site:
    """The REST API of a website: events newest first, and a token that runs out after some answers."""

    def __init__(self, *events, lasts=1000):
        self.events, self.lasts, self.asked, self.answered = list(events), lasts, [], 0

    def __call__(self, path, query):
        path = path.removeprefix("/http").removeprefix("/api/")
        self.asked.append((path, query))
        if path == "auth/login":
            assert query == {"username": "reader", "password": "secret"}
            self.answered = 0
            return {"token": "t", "user": {}}
        self.answered += 1
        if self.answered > self.lasts:
            return 401, {"error": {"message": "Unauthorized"}}
        if path == "websites":
            return {"data": [{"id": WEB}], "count": 1}
        place = path.split("/")[2:]
        found = [e for e in self.events if int(query.get("startAt", 0)) <= stamp(e) <= int(query.get("endAt", 1e15))]
        found.sort(key=stamp, reverse=True)
        if place == ["events"]:
            data = [{k: v for k, v in e.items() if k not in ("visitId", "data")} for e in found]
            return {"data": data[: int(query["pageSize"])], "count": len(found)}
        if place[0] == "event-data":
            return next(e["data"] for e in self.events if e["id"] == place[1])
        if place[2:] == ["activity"]:
            return [{**e, "eventId": e["id"]} for e in found if e["sessionId"] == place[1]][:3]
        if place[2:] == ["properties"]:
            return [{"dataKey": "account", "stringValue": "acc_bob", "numberValue": None, "dateValue": None}]
        return {"id": place[1], "distinctId": "acc_ada" if place[1] == "s1" else None, "country": "DE"}


def stamp(event: dict) -> int:
    return int(datetime.fromisoformat(event["createdAt"]).timestamp() * 1000)


def told(number: int, at: str, kind=1, session="s1", visit="v1", **data) -> dict:
    return {
        "id": f"e{number}", "websiteId": WEB, "sessionId": session, "visitId": visit, "createdAt": f"2025-03-{at}.000Z", "urlPath": "/pricing",
        "urlQuery": "email=ada@example.org", "referrerDomain": "search.example", "pageTitle": "Prices", "eventType": kind,
        "eventName": "signup" if kind == 2 else "", "hasData": bool(data),
        "data": [{"dataKey": k, "numberValue": v, "stringValue": str(v)} for k, v in data.items()],
    }  # fmt: skip


@pytest.fixture
def land_api(warehouse, monkeypatch):
    """A function that lands from a Site and returns the rows and what it did."""
    empty(warehouse)
    monkeypatch.setattr("northstar.extract.sources.umami.EVENTS_PER_ANSWER", 4)
    monkeypatch.setattr("northstar.extract.sources.umami.ACTIVITIES_PER_ANSWER", 3)

    def landing(site, now=NOW):
        monkeypatch.setattr(UmamiApi.__init__, "__defaults__", (lambda: now,))
        with json_server(site) as address:
            monkeypatch.setenv("AIRFLOW_CONN_UMAMI_API", address.replace("http://", "http://reader:secret@") + "/http")
            options = {"account_key": "account", "events": {"signup": "user.signup"}, "start": "2025-03-01"}
            source = Source("site", "umami", "umami_api", ("events",), options=options)
            assert open_source(warehouse, source).check() == "Umami: may read the events of 1 websites (REST API)"
            result = land_source(warehouse, None, source, silent)
            totals = open_source(warehouse, source).totals("events", None)
        assert result.error is None, result.error
        with db.connect(warehouse, "loader") as connection:
            rows = connection.execute(
                "select event_id, event_name, account_id, session_id, country, properties from staging.events order by event_id"
            ).fetchall()
            for count, expression in totals.values():
                assert connection.execute(f"select {expression} as n from staging.events").fetchone()["n"] == count
        return [tuple(r.values()) for r in rows], result.landed

    return landing


def test_the_api_tells_the_same_as_the_tables(warehouse, land_api):
    site = Site(told(1, "01T10:00:00"), told(2, "01T10:00:30"), told(3, "01T10:01:00", kind=2, plan=2.5), told(4, "02T11:59:00", visit="v2"),
                told(5, "01T10:00:10", kind=5), told(6, "01T11:00:00", session="s2", visit="v3"))  # fmt: skip
    rows, _ = land_api(site)
    assert [r[:5] for r in rows] == [
        ("e1", "page.landing", "acc_ada", "v1", "DE"), ("e2", "page.view", "acc_ada", "v1", "DE"),
        ("e3", "user.signup", "acc_ada", "v1", "DE"), ("e4", "page.landing", "acc_ada", "v2", "DE"), ("e6", "page.landing", "acc_bob", "v3", "DE"),
    ]  # fmt: skip
    assert rows[2][5] == {
        "url_path": "/pricing",
        "page_title": "Prices",
        "referrer_domain": "search.example",
        "plan": 2.5,
    }
    # the visit goes on when the next reading has begun: its next page is no landing
    site.events.append(told(7, "02T12:05:00", visit="v2"))
    rows, landed = land_api(site, NOW.replace(hour=13))
    assert landed.inserted == 1 and rows[-1][:2] == ("e7", "page.view")


def test_a_token_that_runs_out_in_the_middle_is_asked_for_anew(warehouse, land_api):
    site = Site(*[told(n, f"01T10:00:0{n}") for n in range(1, 8)], lasts=5)
    rows, _ = land_api(site)
    assert len(rows) == 7 and sum(path == "auth/login" for path, _ in site.asked) > 3
