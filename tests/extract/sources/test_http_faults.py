"""Bad days of every system with an HTTP API: whatever fails and however often, the end is that of a good day."""

import email.utils
import importlib
import itertools
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest

from northstar.connections.find import Connection
from northstar.extract.landing.source import land_source
from northstar.extract.sources import github
from northstar.extract.sources.declared import Source
from northstar.extract.sources.http import ATTEMPTS, HttpClient
from northstar.extract.sources.packages import Packages
from northstar.extract.sources.sentry import Sentry
from northstar.extract.sources.stripe.connector import Stripe
from northstar.extract.sources.umami import UmamiApi
from northstar.warehouse import db
from tests.extract.sources import test_github, test_packages, test_sentry, test_stripe, test_umami, test_zendesk
from tests.extract.sources.test_stripe import DAY, MARCH
from tests.extract.sources.test_webhooks import happened, state
from tests.support import empty, json_server, silent

SECRET = "canary-4242-secret"
FAULTS = (500, 502, 429, "half", "malformed", "silence")


def stripe_account():
    """What happened to two customers, told by lists and by events of the last month."""
    events = [e for customer in ("cus_1", "cus_2") for e in happened(customer)]
    newest = {}
    for e in events:
        newest[e["data"]["object"]["id"]] = e["data"]["object"]

    def listed(kind: str) -> list:
        return [t | {"lines": {"data": []}} if kind == "invoice" else t for t in newest.values() if t["object"] == kind]

    kinds = {
        "customers": "customer",
        "subscriptions": "subscription",
        "charges": "charge",
        "refunds": "refund",
        "invoices": "invoice",
    }
    return test_stripe.Api(events=events, **{name: listed(kind) for name, kind in kinds.items()})


def desk():
    pages = [[test_zendesk.ticket(p * 3 + n, f"2025-03-0{p + 1}T0{n}:00:00Z") for n in range(3)] for p in range(4)]
    audits = {
        t["id"]: [test_zendesk.audit(100 + t["id"], "1T09:00", 2, test_zendesk.comment(True))] for p in pages for t in p
    }
    return test_zendesk.Desk(*pages, audits=audits, count=12)


def hub():
    pulls = [test_github.pull(n, f"0{n}T10:00", f"0{n}T10:00") for n in range(1, 6)]
    issues = [test_github.issue(n, f"0{n - 5}T11:00", "Bug") for n in range(6, 10)]
    deployments = [test_github.deployment(n, f"0{n}T10:00", ("success", f"0{n}T10:05")) for n in range(1, 5)]
    return test_github.Hub(
        pulls + issues,
        {n: [test_github.review(test_github.EVE, "APPROVED", f"0{n}T09:00")] for n in range(1, 6)},
        deployments,
        branch=[test_github.commit(f"b{n}", f"0{n}T10:00") for n in range(1, 6)],
        commits_of={n: [test_github.commit(f"c{n}{m}", f"0{n}T0{m}:00") for m in range(1, 4)] for n in range(1, 6)},
        brought_by={f"b{n}": [(n, f"0{n}T10:00", "acme/shop")] for n in range(1, 6)},
    )


def tracker():
    return test_sentry.Tracker(**{
        slug: [test_sentry.event(n + start, f"0{1 + n % 3}T1{n % 2}:0{n}:00", level="error") for n in range(7)]
        for start, slug in ((0, "web"), (100, "api"))
    })  # fmt: skip


def site():
    events = [
        test_umami.told(n, f"01T10:00:0{n}", kind=1 + n % 2, visit=f"v{n % 3}", **({"n": n} if n % 2 else {}))
        for n in range(9)
    ]
    return test_umami.Site(*events, lasts=6)


SYSTEMS = {
    "stripe": (stripe_account, ("accounts", "subscriptions", "charges", "refunds"), {"disputes": False}),
    "zendesk": (desk, ("tickets", "ticket_events"), {}),
    "github": (hub, github.ENTITIES, {"repositories": {"acme/shop": "shop"}}),
    "sentry": (tracker, ("error_events",), test_sentry.OPTIONS),
    "umami": (site, ("events",), {"account_key": "account", "start": "2025-03-01"}),
    "packages": (lambda: test_packages.counts, ("package_downloads",), {"registry": "npm", "packages": {"acme": "suite", "@acme/cli": "suite"}}),
}  # fmt: skip


@pytest.fixture
def land(warehouse, monkeypatch):
    """A function that lands a system from a server that is spoiled as said; returns the error and all that was said."""
    monkeypatch.setattr(HttpClient.__init__, "__defaults__", (None, None, ATTEMPTS, 0.2, lambda seconds: None))
    for module in ("stripe.connector", "zendesk", "github", "sentry", "umami", "packages"):
        monkeypatch.setattr(f"northstar.extract.sources.{module}.PER_SECOND", None)
    monkeypatch.setattr("northstar.extract.sources.zendesk.EXPORTS_PER_SECOND", None)
    monkeypatch.setattr("northstar.extract.sources.github.SEARCHES_PER_SECOND", None)
    monkeypatch.setattr("northstar.extract.sources.github.PAGE", test_github.Hub.size)
    monkeypatch.setattr("northstar.extract.sources.stripe.api.PAGE", 3)
    monkeypatch.setattr("northstar.extract.sources.umami.EVENTS_PER_ANSWER", 4)
    monkeypatch.setattr("northstar.extract.sources.umami.ACTIVITIES_PER_ANSWER", 3)
    monkeypatch.setattr("northstar.extract.landing.source.BATCH_ROWS", 6)
    for kind, now in (
        (Stripe, MARCH + 25 * DAY), (github.GitHub, test_github.NOW), (Sentry, test_sentry.NOW), (Packages, test_packages.TODAY),
        (UmamiApi, test_umami.NOW),
    ):  # fmt: skip
        monkeypatch.setattr(kind.__init__, "__defaults__", (lambda now=now: now,))

    def landing(system: str, spoil=lambda path: None) -> tuple[str | None, list[str]]:
        make, entities, options = SYSTEMS[system]
        server, said = make(), []
        login, password = ("reader", "secret") if system == "umami" else ("me", SECRET)
        with json_server(server, spoil) as address:
            with_attributes = getattr(server, "__dict__", {})
            with_attributes |= {"address": address, "host": address.removeprefix("http://")}
            monkeypatch.setenv(
                "AIRFLOW_CONN_SYSTEM", address.replace("http://", f"http://{login}:{password}@") + "/http"
            )
            result = land_source(warehouse, 1, Source(system, system, "system", entities, options=options), said.append)
        return result.error, said

    return landing


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_bad_day_ends_as_a_good_one(warehouse, land, system):
    empty(warehouse)
    assert land(system)[0] is None
    expected = state(warehouse, *SYSTEMS[system][1])
    assert all(expected.values())
    empty(warehouse)
    count, faults, spoiled = itertools.count(), itertools.cycle(FAULTS), set()

    def spoil(path):
        if next(count) % 5 < 2:
            spoiled.add(fault := next(faults))
            return fault

    assert land(system, spoil)[0] is None
    assert state(warehouse, *SYSTEMS[system][1]) == expected
    assert len(spoiled) > 1 and (system in ("packages", "sentry") or spoiled == set(FAULTS))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_that_breaks_down_in_each_run_is_read_in_the_end(warehouse, land, system):
    empty(warehouse)
    assert land(system)[0] is None
    expected = state(warehouse, *SYSTEMS[system][1])
    empty(warehouse)
    answers = 3
    while answers < 500:
        left = itertools.count(answers, -1)
        error, said = land(system, lambda path, left=left: 503 if next(left) <= 0 else None)
        assert SECRET not in "".join(said)
        if error is None:
            break
        assert "it answered 503, 6 times; the next run goes on where this one stopped" in error and "\n" not in error
        # a little more each time: what has no place to go on from within has to fit into one run
        answers *= 2
    assert error is None and (answers > 3 or system == "packages")
    assert state(warehouse, *SYSTEMS[system][1]) == expected
    with db.connect(warehouse, "owner") as connection:
        kept = str(connection.execute("select * from audit.source_runs").fetchall())
        kept += str(connection.execute("select * from audit.source_states").fetchall())
    logs = "".join(path.read_text() for path in warehouse.logs.glob("*.log"))
    assert SECRET not in kept + logs


def test_pages_that_repeat_change_nothing_and_what_one_skipped_is_seen_by_the_next_run(warehouse, land, monkeypatch):
    empty(warehouse)
    customers = [
        {"id": f"cus_{n}", "object": "customer", "created": MARCH + 24 * DAY - n, "email": None} for n in range(6)
    ]
    api, on_no_page = test_stripe.Api(customers=customers), {"cus_3"}

    def answer(path, query):
        told = api(path, query)
        if path == "/v1/customers":
            # each page begins with the last of the page before
            again = [c for c in customers if c["id"] == query.get("starting_after")]
            told["data"] = again + [c for c in told["data"] if c["id"] not in on_no_page]
        return told

    for expected in (5, 6):
        with json_server(answer) as address:
            monkeypatch.setenv("AIRFLOW_CONN_SHOP", address.replace("http://", "http://:rk_live_1@") + "/http")
            result = land_source(warehouse, None, Source("shop", "stripe", "shop", ("accounts",)), silent)
        assert result.error is None
        assert len(state(warehouse, "accounts")["accounts"]) == expected
        on_no_page.clear()


def test_a_key_that_is_withdrawn_in_the_middle_ends_the_run_and_the_next_one_goes_on(warehouse, land):
    empty(warehouse)
    assert land("zendesk")[0] is None
    expected = state(warehouse, "tickets", "ticket_events")
    empty(warehouse)
    left = itertools.count(3, -1)
    error, _ = land("zendesk", lambda path: 401 if next(left) <= 0 else None)
    assert "it answered 401" in error
    assert 0 < len(state(warehouse, "tickets")["tickets"]) < len(expected["tickets"])
    assert land("zendesk")[0] is None
    assert state(warehouse, "tickets", "ticket_events") == expected


def connector(system: str, address: str, **declared):
    _, entities, options = SYSTEMS[system]
    host, port = address.removeprefix("http://").split(":")
    connection = Connection("x", "http", host, int(port), "reader", "http", SECRET)
    module = importlib.import_module(f"northstar.extract.sources.{system}")
    return module.connect(Source(system, system, "x", entities, options=options, **declared), connection)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_declared_pace_is_kept(system):
    assert connector(system, "http://localhost:80", per_second=2).http._interval == 0.5
    assert connector(system, "http://localhost:80").http._interval != 0.5


@pytest.mark.parametrize("system", ["stripe", "sentry", "umami"])
def test_a_state_that_is_a_time_is_one_of_the_systems_clock(system):
    early = email.utils.formatdate(time.time() - 3 * 3600, usegmt=True)
    with json_server(lambda path, query: (200, {"token": "t", "data": [], "count": 0}, {"Date": early})) as address:
        told = connector(system, address).clock()
    told = told.timestamp() if isinstance(told, datetime) else told
    assert 3 * 3600 - 10 < time.time() - told < 3 * 3600 + 10


KILLED = """
import sys
import northstar.extract.landing.source as landing
from northstar.base.settings import load_settings
from northstar.extract.sources.declared import Source
from northstar.extract.sources.stripe import api, connector
api.PAGE, connector.PER_SECOND, landing.BATCH_ROWS = 5, None, 10
landing.land_source(load_settings(sys.argv[1]), None, Source("shop", "stripe", "shop", ("accounts",)))
"""


def test_a_loader_of_an_api_that_is_killed_neither_loses_nor_repeats_a_row(warehouse, land, monkeypatch):
    empty(warehouse)
    customers = [{"id": f"cus_{n:03d}", "object": "customer", "created": MARCH - n, "email": None} for n in range(150)]
    api = test_stripe.Api(customers=customers)

    def slowly(path, query):
        time.sleep(0.02)
        return api(path, query)

    def stands() -> int:
        with db.connect(warehouse, "loader") as connection:
            return connection.execute("select count(*) as n from staging.accounts").fetchone()["n"]

    seen = [0]
    with json_server(slowly) as address:
        monkeypatch.setenv("AIRFLOW_CONN_SHOP", address.replace("http://", "http://:rk_live_1@") + "/http")
        for _ in range(2):
            loader = subprocess.Popen([sys.executable, "-c", KILLED, str(warehouse.home)], stdout=subprocess.DEVNULL)
            while stands() <= seen[-1] and loader.poll() is None:
                time.sleep(0.02)
            loader.send_signal(signal.SIGKILL)
            loader.wait()
            seen.append(stands())
        assert land_source(warehouse, None, Source("shop", "stripe", "shop", ("accounts",)), silent).error is None
    assert 0 < seen[1] < seen[2] < 150
    with db.connect(warehouse, "loader") as connection:
        counted = connection.execute(
            "select sum(rows_inserted)::int as rows, sum(rows_updated)::int as changed from audit.landing_batches"
        ).fetchone()
    assert stands() == 150 and counted == {"rows": 150, "changed": 0}
