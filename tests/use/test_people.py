"""Roles that see a part of the numbers: in SQL, on pages, in reports, from the API and through the tools, at the newest version and an earlier one."""

import base64
import io
import json
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import quote

import httpx
import httpx2
import psycopg
import pytest
import python_calamine
from flask import Flask
from mcp.client.streamable_http import streamable_http_client
from starlette.requests import Request

from northstar.base.errors import NorthstarError
from northstar.base.readers import Readers
from northstar.use.answers import status
from northstar.use.answers.reading import SCOPES, Desk
from northstar.use.api.access import FILE, Access, Caller
from northstar.use.api.app import Front
from northstar.use.api.links import sign
from northstar.use.api.questions import Question
from northstar.use.explain.recorded import record_queries
from northstar.use.marts import Marts
from northstar.use.pages import door, serve
from northstar.use.pages.contents import pages_of
from northstar.use.pages.customers import add_customers
from northstar.use.pages.downloads import add_downloads
from northstar.use.pages.links import page_path
from northstar.use.pages.painter import Painter
from northstar.use.pages.search import add_search
from northstar.use.pages.subscribing import add_subscribing
from northstar.use.pages.subscriptions import send_due
from northstar.use.pages.why import add_why
from northstar.use.past import PastMarts
from northstar.use.query import query
from northstar.use.reports.make import make_report
from northstar.warehouse import db
from northstar.warehouse.published.limited import unguarded_by_limits, unknown_in_roles
from northstar.warehouse.setup import bootstrap
from tests.support import later_versions, query_as
from tests.use import test_reports
from tests.use.api.conftest import address_of, serving_api
from tests.use.mcp.conftest import connected
from tests.use.pages.test_subscriptions import MORNING, NOTIFY

inbox = test_reports.inbox
PROXY = "10.9.8.7"
OPEN = {"metrics", "dim_dates", "dim_periods"}
# what the roles see of a table, by its columns, in words that owe nothing to the policies
SEEN = {
    "web": lambda columns: "application = 'web'" if "application" in columns else None,
    "country": lambda columns: (
        None if "application" not in columns
        else "segment = 'country' and segment_value = 'US'" if "segment" in columns
        else "country = 'US'" if "country" in columns
        else "false"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def limited(built):
    """The published small company with two roles, and a second version in which MRR of two applications is another."""
    readers = {
        "roles": {
            "web": {"applications": ["web"]},
            "country": {"applications": "all", "segment": "country", "values": ["US"]},
        },
        "groups": {"staff": "everything", "web-team": "web", "us-team": "country"},
        "proxy": {"addresses": [PROXY]},
    }
    settings = replace(
        built,
        readers=Readers.model_validate(readers),
        operations=built.operations.model_copy(update={"keep_reads_days": 30}),
    )
    points = "series_id in (select series_id from marts.metric_series where metric_id = 'mrr' and grain = 'month' and application in ('web', 'coaching') and segment = '') and period_start = '2026-02-01'"
    try:
        with later_versions(built, [("metric_points", points, "value = value + 100, numerator = numerator + 100")]):
            bootstrap(settings)
            record_queries(settings)
            yield settings
    finally:
        bootstrap(built)
        policies = "select count(*) from pg_policies where policyname in ('limited', 'as_shown_to_limited')"
        assert query_as(built, "bi_reader", policies) == [{"count": 0}]
        assert query_as(
            built,
            "bi_reader",
            "select count(*) from pg_class where relrowsecurity and relnamespace = 'marts'::regnamespace",
        ) == [{"count": 0}]
        (built.home / FILE).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def connections(limited):
    opened = {role: db.connect(limited, db.reader_role(role), autocommit=True) for role in ("web", "country")}
    opened[None] = db.connect(limited, "bi_reader", autocommit=True)
    yield opened
    for connection in opened.values():
        connection.close()


def column(connection, text, *values):
    return [next(iter(row.values())) for row in connection.execute(text, values).fetchall()]


@pytest.mark.parametrize(("schema", "version"), [("marts", 2), ("marts_at_version", 1)])
@pytest.mark.parametrize("role", ["web", "country"])
def test_a_role_sees_the_rows_of_its_part_in_every_relation_and_no_other(connections, role, schema, version):
    own, whole = connections[role], connections[None]
    for connection in (own, whole):
        connection.execute("select set_config('northstar.version', %s, false)", [str(version)])
    relations = whole.execute(
        "select table_name as name, array_agg(column_name::text) as columns from information_schema.columns where table_schema = %s group by 1", [schema]
    ).fetchall()  # fmt: skip
    assert len(relations) > 30
    closed, empty = set(), set()
    for name, columns in ((row["name"], set(row["columns"])) for row in relations):
        condition = SEEN[role](columns)
        if name == "metric_points":
            condition = f"series_id in (select series_id from marts.metric_series where {SEEN[role]({'application', 'segment'})})"
        if name in OPEN or name in ("readable_versions", "pruned_versions"):
            condition = "true"
        text = f"select count(*), coalesce(bit_xor(hashtext(t::text)), 0) as digest from {schema}.{name} as t"
        if condition is None:
            closed.add(name)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                own.execute(f"select * from {schema}.{name}")
            continue
        found, expected = own.execute(text).fetchone(), whole.execute(f"{text} where {condition}").fetchone()
        assert found == expected, name
        if not found["count"]:
            empty.add(name)
    # of these two it has its own views, without what is counted over everything
    assert closed == {"publications", "certificates"}
    assert not {"metric_values", "dim_accounts", "metric_points", "fct_payments"} & empty
    total = "select count(*) as n from metric_values where application = 'all' and segment = ''"
    assert own.execute(total).fetchone()["n"] == 0 < whole.execute(total).fetchone()["n"]
    assert column(own, "select max(published_version) from publications") == [version]
    assert column(own, "select row_counts::text || source_totals::text from publications limit 1") == ["{}{}"]
    assert column(own, "select checks::text || coverage::text || outputs::text from certificates limit 1") == ["{}{}{}"]
    connections[role].execute("reset northstar.version")
    connections[None].execute("reset northstar.version")


BEYOND = (
    "set role bi_reader",
    "set role publisher",
    "set session authorization bi_reader",
    "select set_config('role', 'bi_reader', false), query_to_xml('select * from marts.customers', true, true, '')",
    "set row_security = off; select * from marts.customers",
    "select row_counts from marts.publications",
    "select * from marts_at_version.publications",
    "select * from marts_at_version.certificates",
    "update limited.limits set sees_all_applications = true",
    "insert into limited.limits values (current_user, true, '{}', null, '{}')",
    "alter table marts.customers disable row level security",
    "drop policy limited on marts.customers",
    "create view limited.mine as select * from marts.customers",
    "create temp table mine as select * from marts.customers",
    "create or replace function limited.is_limited() returns boolean language sql as 'select false'",
    "grant bi_reader to reader_web",
    "select * from core.mrr_days",
    "select * from staging.accounts",
    "select * from audit.reports",
    "select * from audit.subscriptions",
    "select limited.require_seen('coaching', '', '', true)",
    "select explain.query_of('metrics_revenue', 0, 'mrr', 'value')",
)


def test_no_statement_of_a_role_gets_beyond_its_part(connections, limited):
    for role in ("web", "country"):
        connection = connections[role]
        for statement in BEYOND:
            with connection.transaction(force_rollback=True), pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("set transaction read write")
                connection.execute(statement)
        # what a condition of its own could tell of rows that it does not see
        trap = "select count(*) from marts.dim_accounts where 1 / (case when application = 'coaching' and country <> 'US' then 0 else 1 end) = 1"
        assert connection.execute(trap).fetchone()["count"] > 0
        assert column(connection, "select role from limited.limits") == [db.reader_role(role)]
        statistics = (
            "select count(*) from pg_stats where schemaname in ('marts', 'marts_history') and tablename <> all(%s)"
        )
        assert column(connection, statistics, [*OPEN, "publications", "certificates"]) == [0]
        assert column(connection, "select current_setting('default_transaction_read_only')") == ["on"]
    # somebody whom an administrator made a member sees nothing by that alone
    with db.connect(limited, "owner") as owner:
        owner.execute("create role somebody; grant reader_web to somebody; set local role somebody")
        assert column(owner, "select count(*) from marts.customers") == [0]
        owner.rollback()
    with pytest.raises(NorthstarError):
        db.connect(replace(limited, home=limited.home), "reader_nobody")


def test_what_somebody_opened_by_hand_is_found(limited):
    with db.connect(limited, "owner") as owner:
        assert unguarded_by_limits(owner, limited) == []
        owner.execute(
            "create table marts.own (n int); create view marts.open as select * from marts.customers; grant select on marts.own, marts.open to limited_reader"
        )
        owner.execute(
            "drop policy limited on marts.customers; alter table marts.fct_tickets disable row level security"
        )
        assert unguarded_by_limits(owner, limited) == [
            "marts.customers",
            "marts.fct_tickets",
            "marts.open",
            "marts.own",
        ]
        owner.rollback()


def test_what_a_role_names_and_nothing_published_has_is_told(limited):
    roles = {
        "typo": {"applications": ["web", "wbe"]},
        "colour": {"applications": "all", "segment": "colour", "values": ["US"]},
        "land": {"applications": ["web"], "segment": "country", "values": ["US", "Germany"]},
    }
    with db.connect(limited, "owner") as owner:
        assert unknown_in_roles(owner, limited) == []
        assert unknown_in_roles(owner, replace(limited, readers=Readers.model_validate({"roles": roles}))) == [
            "the role typo names the application 'wbe'",
            "the role colour names the segment 'colour'",
            "the role land names the country 'Germany'",
        ]


def test_what_a_role_was_answered_is_not_kept(limited):
    """Its rights may be taken away without a new version."""
    made, front = [], Front(limited, Desk(limited))

    def make(reading):
        made.append(reading.role)
        return status.get_status(reading)

    try:
        for role in ("web", "web", None, None):
            caller = Caller("somebody", frozenset(SCOPES), 60, role)
            asked = {"type": "http", "path": "/", "headers": [], "query_string": b"", "state": {"caller": caller}}
            assert front.answer(Request(asked), Question(), "metrics", make).status_code == 200
        assert made == ["web", "web", None]
    finally:
        front.desk.close()


def test_the_rows_behind_a_number_are_those_of_numbers_that_a_role_sees(connections, limited):
    text = "select explain.value_of(%s, %s, %s, '2026-02-01', '2026-03-01', %s, %s, %s, 'month') as value"
    by_segment, in_total = (
        list(fetched.values())
        for has_segments in (True, False)
        for fetched in query_as(limited, "transformer", "select model, place, measure from audit.explained where kind = 'value' and (sql like '%%$5%%') = %s order by 1, 2, 3 limit 1", has_segments)
    )  # fmt: skip
    refused = {
        "web": (("all", "", ""), ("coaching", "", ""), ("coaching", "country", "US"), (None, "", ""), ("web%", "", "")),
        "country": (
            ("all", "", ""),
            ("web", "", ""),
            ("web", "country", "DE"),
            ("web", "plan_tier", "US"),
            ("web", None, None),
        ),
    }
    for role, places in refused.items():
        for values in places:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="this role may not see"):
                connections[role].execute(text, [*by_segment, *values])
    connections["web"].execute(text, [*in_total, "web", "", ""])
    connections["country"].execute(text, [*by_segment, "web", "country", "US"])
    # what knows no segments would be that of all of them
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="this role may not see"):
        connections["country"].execute(text, [*in_total, "web", "country", "US"])
    landed = "select count(*) from explain.landed_of('account_id', (select min(account_id) from marts.dim_accounts), array['accounts'])"
    assert [column(connections[role], landed) for role in (None, "web", "country")] == [[1], [0], [0]]


def test_a_reader_of_everything_has_the_plans_that_it_had_without_policies(limited):
    texts = (
        "select * from metric_values where metric_id = 'mrr' and grain = 'month' and application = 'web' and segment = '' order by period_start",
        "select * from customers where account_id = 'x'",
        "select application, count(*) from fct_payments where created_at > '2026-02-01' group by 1",
    )
    with db.connect(limited, "bi_reader") as connection:
        with_policies = [column(connection, f"explain (costs off) {text}") for text in texts]
    with db.connect(limited, "owner") as owner:
        owner.execute("set local search_path = marts")
        assert [column(owner, f"explain (costs off) {text}") for text in texts] == with_policies


def pages(settings):
    """Pages as they are served, without those that Vizro draws: each request is answered as whom the door let in."""
    server, marts = Flask("pages"), {}

    def shown():
        role = door.role_of_request()
        return marts.setdefault(role, Marts(settings, role))

    door.add_health(server, settings)
    door.require_key(server, settings)
    for add in (add_search, add_downloads, add_why):
        add(server, shown)
    add_customers(server, shown, [])
    add_subscribing(server, settings, shown)
    return server.test_client()


def ask(browser, group, path, **more):
    headers = {"X-Forwarded-User": f"{group}@example.org", "X-Forwarded-Groups": f"cooks, {group}"}
    return browser.open(path, headers=headers, environ_overrides={"REMOTE_ADDR": PROXY}, **more)


def test_pages_answer_each_person_as_their_role_whoever_asked_before(limited):
    browser = pages(limited)
    accounts = {
        name: query(limited, f"select account_id from dim_accounts where {condition} order by 1 limit 1")[1][0][0]
        for name, condition in (
            ("web", "application = 'web'"),
            ("other", "application = 'coaching' and country <> 'US'"),
        )
    }
    for _ in range(2):
        # what is kept of one answer is in no other's
        for group, sees in (
            ("staff", {"web", "other"}),
            ("web-team", {"web"}),
            ("staff", {"web", "other"}),
            ("us-team", set()),
        ):
            for name, account in accounts.items():
                is_seen = name in sees
                if group == "us-team" and name == "web":
                    continue
                assert (ask(browser, group, f"/customers/{account}").status_code == 200) == is_seen
                hits = ask(browser, group, f"/search?q={quote(account)}").get_json()
                assert (account in [hit["title"] for hit in hits]) == is_seen
                assert is_seen or account not in ask(browser, group, "/customers").text
    # panels as files: of its application, of another, and of all
    taken = {
        group: {app: ask(browser, group, f"/take/revenue-0.csv?revenue-application={app}") for app in ("web", "coaching", "all")}
        for group in ("staff", "web-team")
    }  # fmt: skip
    assert {answer.status_code for answer in taken["staff"].values()} == {200}
    assert [taken["web-team"][app].status_code for app in ("web", "coaching", "all")] == [200, 404, 404]
    assert (
        taken["web-team"]["coaching"].text
        == ask(browser, "web-team", "/take/revenue-0.csv?revenue-application=never").text
    )
    begins = ask(browser, "web-team", "/take/revenue-0.csv")
    assert (
        begins.status_code == 200
        and begins.headers["Content-Disposition"] == taken["web-team"]["web"].headers["Content-Disposition"]
    )
    # why: of its own number the rows, of others nothing
    place = "grain=month&period=2026-01-01&application="
    own, other = (ask(browser, "web-team", f"/why/mrr?{place}{app}") for app in ("web", "coaching"))
    assert own.status_code == 200 and other.status_code != 200
    never = ask(browser, "web-team", f"/why/mrr?{place}never")
    assert other.text.replace("coaching", "never") == never.text
    # a note may be about what the role does not see
    assert ask(browser, "web-team", f"/why/marks?{place}web", method="POST", data={"text": "x"}).status_code == 400


def test_only_the_proxy_s_word_counts_and_somebody_without_a_role_sees_nothing(limited):
    browser = pages(limited)
    forged = {"X-Forwarded-User": "boss", "X-Forwarded-Groups": "staff"}
    for address in ("127.0.0.1", "10.9.8.8", "::1"):
        assert browser.get("/customers", headers=forged, environ_overrides={"REMOTE_ADDR": address}).status_code == 401
    assert ask(browser, "cooks", "/customers").status_code == 403
    nameless = browser.get(
        "/customers", headers={"X-Forwarded-Groups": "staff"}, environ_overrides={"REMOTE_ADDR": PROXY}
    )
    assert nameless.status_code == 401
    # a browser that knows the password as well is who the proxy says
    browser.get("/customers", headers=door.credentials(limited))
    other = query(limited, "select account_id from dim_accounts where application = 'coaching' order by 1 limit 1")[1][
        0
    ][0]
    assert browser.get(f"/customers/{other}").status_code == 200
    assert ask(browser, "web-team", f"/customers/{other}").status_code == 404


def test_panels_cards_and_the_past_are_of_the_role(limited):
    whole, web, country = (Marts(limited, role) for role in (None, "web", "country"))
    assert "all" in whole.applications() and "coaching" in whole.applications()
    assert web.applications() == ["web"] and {"all", "web"} <= set(country.applications()) <= set(whole.applications())
    assert web.open_alerts("all") == [a for a in whole.open_alerts("all") if a["application"] == "web"]
    for marts in (web, PastMarts(web, 1)):
        series = marts.series(["mrr", "arr"], "web", "month", 0)
        full = (whole if marts is web else PastMarts(whole, 1)).series(["mrr", "arr"], "web", "month", 0)
        assert len(series) and series.equals(full)
        assert not len(marts.series(["mrr"], "coaching", "month", 0)) and not len(
            marts.series(["mrr"], "all", "month", 0)
        )
    assert set(country.series(["mrr"], "web", "month", 0, "country")["segment_value"]) == {"US"}
    assert not len(country.series(["mrr"], "web", "month", 0))
    painter = Painter(web)
    for page in pages_of(limited):
        for panel in page["panels"]:
            if panel["kind"] == "targets":
                continue
            # of an application that it does not see it is told what it is told of one that there is not
            hidden, never = (
                str(painter.cards(panel, app, "month") if panel["kind"] == "cards" else painter.draw(panel, app, "month", 12, ""))
                for app in ("coaching", "imagined")
            )  # fmt: skip
            assert hidden.replace("coaching", "imagined") == never, panel
    assert web.coverage("mrr") is None
    # who sees one segment is told why there are no totals
    shown = Painter(country)
    told = [
        str(shown.cards(panel, "web", "month"))
        for page in pages_of(limited)
        for panel in page["panels"]
        if panel["kind"] == "cards"
    ]
    assert told and all("your role sees values by country, and no totals" in text for text in told)
    assert not any("your role" in str(painter.cards(panel, "web", "month")) for page in pages_of(limited) for panel in page["panels"] if panel["kind"] == "cards")  # fmt: skip


def test_a_report_has_the_numbers_of_its_role(limited):
    text = {
        role: make_report(limited, "monthly", application="web", role=role).text for role in (None, "web", "country")
    }
    mrr = "select value from metric_values where metric_id = 'mrr' and grain = 'month' and segment = '' and is_complete and application = %s order by period_start desc limit 1"
    with db.connect(limited, "bi_reader") as connection:
        amounts = {app: f"{column(connection, mrr, app)[0]:,.2f}" for app in ("web", "coaching", "all")}
    assert amounts["web"] in text["web"] and amounts["web"] in text[None] and amounts["web"] not in text["country"]
    assert not any(amounts[app] in text[role] for app in ("coaching", "all") for role in ("web", "country"))
    for application in ("all", "coaching"):
        with pytest.raises(NorthstarError, match="there are web"):
            make_report(limited, "monthly", application=application, role="web")


def test_a_subscription_is_sent_as_the_role_that_began_it(limited, inbox):
    (limited.config / "notify.yml").write_text(NOTIFY)
    browser = pages(limited)
    try:
        for group, name in (("web-team", "of the role"), ("staff", "of everything")):
            asked = {
                "name": name,
                "path": page_path("Revenue", application="web", grain="month"),
                "cadence": "daily",
                "kind": "mail",
            }
            begun = ask(browser, group, "/subscriptions", method="POST", json=asked | {"target": "ann@example.org"})
            assert begun.status_code == 201, begun.text
            hidden = ask(
                browser,
                group,
                "/subscriptions",
                method="POST",
                json=asked | {"target": "bob@example.org", "path": page_path("Revenue", application="coaching")},
            )
            assert hidden.status_code == (400 if group == "web-team" else 201)
        with db.connect(limited, "publisher") as connection:
            assert column(connection, "select role from audit.subscriptions order by 1 nulls last") == [
                "reader_web",
                None,
                None,
            ]
            # whoever began it may change nothing of that: what it names now is not its to see
            connection.execute(
                """update audit.subscriptions set choice = jsonb_set(choice, '{application}', '"coaching"') where role is not null"""
            )
        said = []
        send_due(replace(limited, readers=Readers()), MORNING, said.append)
        assert len(inbox.mails) == 2 and "has no role" in said[0]
        send_due(limited, MORNING)
        sent = [(mail["Subject"].split(":")[0], recipients, _numbers(mail)) for recipients, mail in inbox.mails]
        assert [mail[0] for mail in sent] == ["of everything", "of everything", "of the role"]
        assert sent[0][2] and sent[1][2] and not sent[2][2]
    finally:
        with db.connect(limited, "publisher") as connection:
            connection.execute("delete from audit.subscriptions")
            connection.execute("delete from audit.outbox where what = 'subscription'")


def _numbers(mail) -> list[float]:
    """The numbers in the tables of a mail's workbook."""
    workbook = python_calamine.load_workbook(io.BytesIO(next(mail.iter_attachments()).get_content()))
    tables = [workbook.get_sheet_by_index(number).to_python() for number in range(len(workbook.sheet_names))]
    return [cell for table in tables for row in table[1:] for cell in row if isinstance(cell, float)]


@contextmanager
def api(settings):
    with serving_api(settings) as server:
        yield address_of(server)


def test_the_api_and_the_tools_answer_as_the_role_of_the_token(limited):
    access = Access(limited)
    tokens = {role: access.add_token(f"of {role}", SCOPES, role=role) for role in (None, "web", "country")}
    with pytest.raises(NorthstarError, match="no role"):
        access.add_token("wrong", SCOPES, role="nobody")
    with api(limited) as address, httpx.Client(base_url=address, timeout=60) as client:

        def get(role, path, **headers):
            return client.get(path, headers={"Authorization": f"Bearer {tokens[role]}", **headers})

        value = "/v1/metrics/mrr/value?period=2026-02&grain=month"
        for version in ("", "&version=1"):
            same = [get(role, f"{value}&application=web{version}").json()["value"] for role in (None, "web")]
            assert same[0] == same[1]
            assert get("country", f"{value}&application=web{version}").json()["reason"] == "not_allowed"
            assert get("web", f"{value}{version}").json()["reason"] == "not_allowed"
            hidden, never = (get("web", f"{value}&application={app}{version}") for app in ("coaching", "never"))
            assert hidden.status_code == never.status_code == 400
            assert hidden.json() | {"detail": ""} == never.json() | {"detail": ""}
            by_country = f"{value}&application=web&segment=country&segment_value="
            assert (
                get("country", f"{by_country}US{version}").json()["value"]
                == get(None, f"{by_country}US{version}").json()["value"]
            )
            assert get("country", f"{by_country}DE{version}").status_code == 400
        # a tag of one role's answer is none of another's
        listed = "/v1/targets"
        tag = get(None, listed).headers["ETag"]
        assert get(None, listed, **{"If-None-Match": tag}).status_code == 304
        mine = get("web", listed, **{"If-None-Match": tag})
        assert mine.status_code == 200 and {t["application"] for t in mine.json()["targets"]} <= {"web"}
        assert {c["application"] for c in get("web", "/v1/customers").json()["customers"]} == {"web"}
        assert {c["country"] for c in get("country", "/v1/customers").json()["customers"]} == {"US"}
        assert get("web", "/v1/status").json()["applications"] == ["web"]
        assert {r["application"] for r in get("web", "/v1/restatements").json()["restatements"]} <= {"web"}
        text = "select application, count(*) from customers group by 1"
        assert [row[0] for row in get("web", f"/v1/query?sql={quote(text)}").json()["rows"]] == ["web"]
        assert [row[0] for row in get("web", f"/v1/query?version=1&sql={quote(text)}").json()["rows"]] == ["web"]
        escaping = "select set_config('role', 'bi_reader', false), query_to_xml('select * from marts.customers', true, true, '')"
        assert get("web", f"/v1/query?sql={quote(escaping)}").json()["reason"] == "not_allowed"
        # a session that was left otherwise is nobody else's
        get("web", f"/v1/query?sql={quote('''select set_config('search_path', 'marts', false)''')}")
        assert get("web", "/v1/status").status_code == 200
        explained = "/v1/metrics/mrr/explain?period=2026-01&application="
        assert get("web", f"{explained}web&rows=true").json()["sides"][0]["adds_up"]
        assert get("web", f"{explained}coaching&rows=true").status_code == 400
        link = sign(access, "/v1/customers?format=csv", 1, "web")
        rows = client.get(link).text.splitlines()
        assert len(rows) > 1 and not any("coaching" in row or "tutoring" in row for row in rows)
        for role in ("web", "country"):
            transport = streamable_http_client(
                f"{address}/mcp",
                http_client=httpx2.AsyncClient(headers={"Authorization": f"Bearer {tokens[role]}"}, timeout=60),
            )
            with connected(transport) as tool:
                assert tool("get_value", metric="mrr")["refused"] == "not_allowed"
                rows = tool("query", sql="select distinct application, country from dim_accounts")["rows"]
                assert all(row[0] == "web" if role == "web" else row[1] == "US" for row in rows) and rows
        # a role that is gone lets nobody in
        limited_again = replace(limited, readers=Readers())
    with api(limited_again) as address, httpx.Client(base_url=address, timeout=60) as client:
        gone = client.get("/v1/status", headers={"Authorization": f"Bearer {tokens['web']}"})
        assert gone.status_code == 403 and gone.json()["reason"] == "not_allowed"
    lines = [
        json.loads(line) for file in (limited.logs / "reads").glob("*.jsonl") for line in file.read_text().splitlines()
    ]
    assert {line["role"] for line in lines} == {"everything", "web", "country"} and {line["way"] for line in lines} == {
        "pages",
        "api",
        "mcp",
    }
    log = "".join(file.read_text() for file in (limited.logs / "reads").glob("*.jsonl"))
    password = base64.b64decode(door.credentials(limited)["Authorization"].split()[1]).decode()
    assert not any(
        secret in log
        for secret in [
            *tokens.values(),
            *(t.split("_", 2)[2] for t in tokens.values()),
            password,
            "signature",
            serve.key(limited),
        ]
    )
