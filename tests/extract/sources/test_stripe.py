"""Stripe as a source: against localstripe, a stateful server, driven by the official client; and what it lacks against answers in
the shape that Stripe's API reference describes."""

import contextlib
import email.utils
import socket
import subprocess
import sys
import time
import urllib.request
from decimal import Decimal

import pytest
import stripe as client

from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings
from northstar.connections.find import Connection
from northstar.extract.landing.source import land_source
from northstar.extract.sources.declared import Source, open_source, read_sources
from northstar.extract.sources.stripe import connect
from northstar.privacy.keys import unseal
from northstar.warehouse import db
from tests.support import empty, json_server, silent

KEY = "sk_test_12345"
# localstripe knows neither `status` nor expanded lists, and has no disputes
PLAIN = {
    "test_mode": True,
    "disputes": False,
    "lists": {
        "subscriptions": {"status": None, "expand[]": None},
        "charges": {"expand[]": None},
        "invoices": {"expand[]": None},
    },
}


def source(*entities, **options) -> Source:
    return Source("billing", "stripe", "stripe_main", entities, options={"test_mode": True, **options})


def rows(settings, entity: str, columns: str, order: str) -> list:
    with db.connect(settings, "loader") as connection:
        return [
            tuple(r.values()) for r in connection.execute(f"select {columns} from staging.{entity} order by {order}")
        ]


@pytest.fixture(scope="module")
def localstripe():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "localstripe", "--port", str(port), "--from-scratch"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(100):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/js.stripe.com/v3/")
            break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    server.kill()
    server.wait()


@pytest.fixture
def shop(localstripe, warehouse, monkeypatch):
    """The official client on an empty localstripe, and the warehouse, empty."""
    empty(warehouse)
    urllib.request.urlopen(urllib.request.Request(f"{localstripe}/_config/data", method="DELETE"))
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_MAIN", localstripe.replace("http://", f"http://:{KEY}@") + "/http")
    monkeypatch.setattr(client, "api_key", KEY)
    monkeypatch.setattr(client, "api_base", localstripe)
    return warehouse


def paying(email: str) -> str:
    customer = client.Customer.create(email=email, name="Ada Lovelace")
    card = client.PaymentMethod.create(
        type="card", card={"number": "4242424242424242", "exp_month": 12, "exp_year": 2030, "cvc": "123"}
    )
    client.PaymentMethod.attach(card.id, customer=customer.id)
    client.Customer.modify(customer.id, invoice_settings={"default_payment_method": card.id})
    return customer.id


def test_a_shop_lands_with_what_happened_to_it_since(shop):
    client.Plan.create(id="pro", amount=2900, currency="eur", interval="month", product={"name": "Pro"})
    ada = paying("ada@example.org")
    subscription = client.Subscription.create(customer=ada, items=[{"plan": "pro", "quantity": 2}])
    stripe = source("accounts", "subscriptions", "charges", "refunds", **PLAIN)
    assert open_source(shop, stripe).check() == "Stripe: may read customers, subscriptions, charges, refunds"
    first = land_source(shop, None, stripe, silent)
    assert first.error is None
    assert rows(shop, "accounts", "account_id, deleted_at", "1") == [(ada, None)]
    assert rows(shop, "subscriptions", "plan_id, quantity, unit_amount, currency, status, valid_to", "1") == [
        ("pro", 2, 2900, "EUR", "active", None)
    ]
    assert rows(shop, "charges", "account_id, amount, currency, status", "1") == [(ada, 5800, "EUR", "succeeded")]
    assert land_source(shop, None, stripe, silent).landed.updated == 0

    charge = rows(shop, "charges", "charge_id", "1")[0][0]
    client.Refund.create(charge=charge, amount=1000)
    bob = paying("bob@example.org")
    time.sleep(1.1)  # a cancellation in the second of the beginning would leave nothing
    client.Subscription.cancel(subscription.id)
    second = land_source(shop, None, stripe, silent)
    assert second.error is None
    assert [r[0] for r in rows(shop, "accounts", "account_id", "created_at")] == [ada, bob]
    assert rows(shop, "refunds", "charge_id, amount, status", "1") == [(charge, 1000, "succeeded")]
    states = rows(shop, "subscriptions", "status, valid_from, valid_to", "valid_from")
    assert [s[0] for s in states] == ["active", "canceled"] and states[0][2] == states[1][1] and states[1][2] is None
    client.Customer.delete(bob)
    land_source(shop, None, stripe, silent)
    assert [r[0] is None for r in rows(shop, "accounts", "deleted_at", "created_at")] == [True, False]
    with db.connect(shop, "loader") as connection:
        assert "ada@" not in str(connection.execute("select email from staging.accounts").fetchall())


def test_a_shop_of_many_pages_lands_whole(shop):
    for number in range(230):
        client.Customer.create(email=f"c{number}@example.org")
    result = land_source(shop, None, source("accounts", **PLAIN), silent)
    # localstripe's own events come as well: the same customers again
    assert result.landed.inserted == 230 and len(rows(shop, "accounts", "account_id", "1")) == 230


def test_a_home_of_production_takes_no_test_key_whatever_the_source_says(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_MAIN", f"http://:{KEY}@localhost/http")
    declared = tmp_path / "sources.yml"
    monkeypatch.setenv("NORTHSTAR_SOURCES", str(declared))
    settings = load_settings(tmp_path / "home")
    text = "sources: {billing: {system: stripe, connection: stripe_main, options: {test_mode: true}}}"
    for line, is_refused in (("production: true", True), ("production: false", False), ("", False)):
        declared.write_text(f"{line}\n{text}\n")
        with pytest.raises(NorthstarError, match="is a production home") if is_refused else contextlib.nullcontext():
            open_source(settings, read_sources(settings)["billing"])


def test_a_test_key_is_refused_unless_it_is_asked_for():
    with pytest.raises(NorthstarError, match="one of Stripe's test mode"):
        connect(source("accounts", test_mode=False), Connection("x", password=KEY))
    connect(source("accounts", test_mode=False), Connection("x", password="rk_live_1"))


# what localstripe lacks, in the shape of Stripe's API reference

MARCH, DAY = 1740787200, 86_400  # 2025-03-01


def price(name="price_pro", **given) -> dict:
    return {"id": name, "object": "price", "currency": "eur", "unit_amount": 1000, "billing_scheme": "per_unit",
            "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}, "metadata": {"plan_tier": "pro"}, **given}  # fmt: skip


def item(name="si_1", quantity=1, **given) -> dict:
    return {
        "id": name,
        "object": "subscription_item",
        "quantity": quantity,
        "price": given.pop("price", price()),
        **given,
    }


def subscription(*items, status="active", **given) -> dict:
    return {"id": "sub_1", "object": "subscription", "customer": "cus_1", "status": status, "created": MARCH, "start_date": MARCH,
            "current_period_start": MARCH, "ended_at": None, "items": {"data": list(items or [item()]), "has_more": False}, **given}  # fmt: skip


def event(kind: str, thing: dict, at: int, name: str = "", **before) -> dict:
    told = {"object": thing, "previous_attributes": before} if before else {"object": thing}
    return {"id": f"evt_{name or at}_{kind}", "object": "event", "type": kind, "created": at, "data": told}


class Api:
    """A server of Stripe's lists and objects, with what each holds."""

    def __init__(self, **lists):
        self.lists, self.asked, self.now = lists, [], MARCH + 30 * DAY

    def __call__(self, path, query):
        name = path.removeprefix("/v1/")
        self.asked.append((name, query))
        if name == "events":
            if "type" not in query:
                return {"data": [], "has_more": False}
            start, end = int(query["created[gte]"]), int(query["created[lt]"])
            found = [
                e for e in self.lists.get("events", []) if e["type"] == query["type"] and start <= e["created"] < end
            ]
            return {"data": found[::-1], "has_more": False}
        collection, _, wanted = name.partition("/")
        if wanted:
            found = next((t for t in self.lists.get(collection, []) if t["id"] == wanted), None)
            return found or (404, {"error": {"message": f"No such {collection}: {wanted}"}})
        found = [
            t
            for t in self.lists.get(collection, [])
            if not query.get("subscription") or t.get("subscription") == query["subscription"]
        ]
        if query.get("created[gte]"):
            found = [t for t in found if int(query["created[gte]"]) <= t["created"] < int(query["created[lt]"])]
        if query.get("starting_after"):
            found = found[[t["id"] for t in found].index(query["starting_after"]) + 1 :]
        size = int(query["limit"])
        return {"data": found[:size], "has_more": len(found) > size}


@pytest.fixture
def land(warehouse, monkeypatch):
    """A function that lands from an Api at its moment, and returns the result."""
    empty(warehouse)
    monkeypatch.setattr("northstar.extract.sources.stripe.connector.PER_SECOND", None)

    def landing(api: Api, *entities, run=None, **options):
        monkeypatch.setattr(
            "northstar.extract.sources.stripe.connector.Stripe.__init__.__defaults__", (lambda: api.now,), raising=False
        )
        with json_server(api) as address:
            monkeypatch.setenv("AIRFLOW_CONN_STRIPE_MAIN", address.replace("http://", "http://:rk_live_1@") + "/http")
            result = land_source(
                warehouse, run, Source("billing", "stripe", "stripe_main", entities, options=options), silent
            )
        assert result.error is None, result.error
        return result

    return landing


def history(
    settings, columns="subscription_item_id, status, quantity, unit_amount, discount_percent, discount_amount"
) -> list:
    return [
        (f"{r[-2]:%m-%d}", r[-1] and f"{r[-1]:%m-%d}", *(float(v) if isinstance(v, Decimal) else v for v in r[:-2]))
        for r in rows(settings, "subscriptions", f"{columns}, valid_from, valid_to", "subscription_item_id, valid_from")
    ]


def test_each_change_of_terms_or_status_is_a_row(warehouse, land):
    api = Api(subscriptions=[subscription(item(quantity=1))])
    api.now = MARCH + DAY
    land(api, "subscriptions")
    api.lists["events"] = [
        event("customer.subscription.updated", subscription(item(quantity=3)), MARCH + 3 * DAY),
        event("customer.subscription.updated", subscription(item(quantity=3), metadata={"note": "no terms"}), MARCH + 4 * DAY),
        event("customer.subscription.updated", subscription(item(quantity=3), status="past_due"), MARCH + 5 * DAY),
        event("customer.subscription.paused", subscription(item(quantity=3), pause_collection={"behavior": "void"}), MARCH + 8 * DAY),
        event("customer.subscription.updated", subscription(item(quantity=3), item("si_2")), MARCH + 9 * DAY),
        event("customer.subscription.updated", subscription(item(quantity=3)), MARCH + 12 * DAY),
        event("customer.subscription.deleted", subscription(item(quantity=3), status="canceled", ended_at=MARCH + 20 * DAY,
              cancellation_details={"reason": "cancellation_requested", "feedback": "too_expensive"}), MARCH + 20 * DAY),
    ]  # fmt: skip
    expected = [
        ("03-01", "03-04", "si_1", "active", 1, 1000, None),
        ("03-04", "03-06", "si_1", "active", 3, 1000, None),
        ("03-06", "03-09", "si_1", "past_due", 3, 1000, None),
        ("03-09", "03-10", "si_1", "paused", 3, 1000, None),
        ("03-10", "03-21", "si_1", "active", 3, 1000, None),
        ("03-21", None, "si_1", "canceled", 3, 1000, "too_expensive"),
        ("03-10", "03-13", "si_2", "active", 1, 1000, None),
    ]
    # the same in one go, and in three, where each goes on from what stands in the warehouse
    for stops in ([30], [4, 10, 30]):
        empty(warehouse)
        api.now = MARCH + DAY
        land(api, "subscriptions")
        for stop in stops:
            api.now = MARCH + stop * DAY
            land(api, "subscriptions")
        assert history(warehouse, "subscription_item_id, status, quantity, unit_amount, cancel_reason") == expected, (
            stops
        )
    assert land(api, "subscriptions").landed.updated == 0


def test_the_history_before_the_first_reading_is_rebuilt_from_invoices(warehouse, land):
    def invoice(number, start, *lines, **given):
        lines = [
            {"type": "subscription", "proration": False, "subscription_item": "si_1", "amount": 1000, "quantity": 1, "price": price(),
             "period": {"start": start, "end": start + 31 * DAY}, "discount_amounts": [], **line} for line in lines
        ]  # fmt: skip
        return {"id": f"in_{number}", "subscription": "sub_1", "customer": "cus_1", "status": "paid", "created": start,
                "lines": {"data": lines}, **given}  # fmt: skip

    api = Api(
        subscriptions=[subscription(item(quantity=4), current_period_start=MARCH + 93 * DAY, trial_end=MARCH + 31 * DAY)],
        invoices=[
            invoice(5, MARCH + 93 * DAY, {"quantity": 4}),
            invoice(4, MARCH + 62 * DAY, {"quantity": 2}, {"quantity": 9, "proration": True, "type": "invoiceitem"},
                    {"subscription_item": "si_old", "amount": 500}),
            invoice(3, MARCH + 40 * DAY, {"quantity": 77}, status="draft"),
            invoice(2, MARCH + 31 * DAY, {"quantity": 2, "discount_amounts": [{"amount": 300, "discount": "di_1"}]}),
            invoice(1, MARCH, {"amount": 0}),
        ],
    )  # fmt: skip
    api.now = MARCH + 100 * DAY
    land(api, "subscriptions")
    assert history(warehouse, "subscription_item_id, status, quantity, discount_amount") == [
        ("03-01", "04-01", "si_1", "trialing", 1, None),
        ("04-01", "05-02", "si_1", "active", 2, 300),
        ("05-02", "06-02", "si_1", "active", 2, None),
        ("06-02", None, "si_1", "active", 4, None),
        ("05-02", "06-02", "si_old", "active", 1, None),
    ]


def coupon(duration="forever", **given) -> dict:
    return {"id": "di_1", "coupon": {"duration": duration, **given}}


@pytest.mark.parametrize(
    ("given", "unit_amount", "quantity", "percent", "amount"),
    [
        (subscription(item(quantity=2), discounts=[coupon(percent_off=20), coupon(percent_off=50)]), 1000, 2, 60, None),
        (subscription(item(quantity=2), discounts=[coupon("once", percent_off=20), coupon("repeating", amount_off=150)]), 1000, 2, None, 150),
        (subscription(discount=coupon(percent_off=12.5)), 1000, 1, 12.5, None),
        (subscription(customer={"id": "cus_1", "discount": coupon(percent_off=10)}), 1000, 1, 10, None),
        (subscription(item(price=price(unit_amount=None, unit_amount_decimal="0.5"), quantity=1000)), 0.5, 1000, None, None),
        (subscription(item(price=price(currency="jpy", unit_amount=500))), 500, 1, None, None),
        (subscription(item(price=price(currency="isk", unit_amount=50_000))), 500, 1, None, None),
        (subscription(item(price=price(recurring={"interval": "month", "usage_type": "metered"}), quantity=None)), 1000, 0, None, None),
        (subscription(item(price=price(transform_quantity={"divide_by": 10, "round": "up"}), quantity=25)), 120, 25, None, None),
        (subscription(item(price=price(billing_scheme="tiered", tiers_mode="volume", unit_amount=None,
            tiers=[{"up_to": 5, "unit_amount": 1000}, {"up_to": None, "unit_amount": 800}]), quantity=10)), 800, 10, None, None),
        (subscription(item(price=price(billing_scheme="tiered", tiers_mode="graduated", unit_amount=None,
            tiers=[{"up_to": 5, "unit_amount": 1000, "flat_amount": 500}, {"up_to": None, "unit_amount": 800}]), quantity=10)), 950, 10, None, None),
    ],
    ids=["stacked", "once left out", "legacy discount", "of the customer", "fractions", "zero-decimal", "isk", "metered", "packages",
         "volume tiers", "graduated tiers"],
)  # fmt: skip
def test_prices_and_discounts(warehouse, land, given, unit_amount, quantity, percent, amount):
    land(Api(subscriptions=[given]), "subscriptions")
    ((_, _, *told),) = history(warehouse, "unit_amount, quantity, discount_percent, discount_amount")
    assert told == [unit_amount, quantity, percent, amount]


def test_an_amount_off_is_spread_over_the_items(warehouse, land):
    land(
        Api(subscriptions=[subscription(item("si_1", 3), item("si_2", 1), discounts=[coupon(amount_off=400)])]),
        "subscriptions",
    )
    assert [told[2:] for told in history(warehouse, "subscription_item_id, discount_amount")] == [
        ("si_1", 300),
        ("si_2", 100),
    ]


def test_tiers_that_a_list_does_not_show_are_asked_for(warehouse, land):
    tiered = price(billing_scheme="tiered", tiers_mode="volume", unit_amount=None)
    api = Api(
        subscriptions=[subscription(item(price=tiered, quantity=2))],
        prices=[{**tiered, "tiers": [{"up_to": None, "unit_amount": 700}]}],
    )
    land(api, "subscriptions")
    assert history(warehouse, "unit_amount")[0][2:] == (700,)
    assert "prices/price_pro" in [name for name, _ in api.asked]


def charge(name: str, at: int, **given) -> dict:
    return {"id": name, "object": "charge", "customer": "cus_1", "amount": 1000, "amount_captured": 1000, "captured": True, "currency": "eur",
            "status": "succeeded", "created": at, **given}  # fmt: skip


def test_charges_refunds_and_lost_disputes(warehouse, land):
    api = Api(
        charges=[
            charge("ch_4", MARCH + 3, captured=False, amount_captured=0),
            charge("ch_3", MARCH + 2, customer=None, status="failed", failure_code="card_declined", captured=False),
            charge("ch_2", MARCH + 1, amount_captured=400, payment_method_details={"card": {"country": "DE"}}),
            charge("ch_1", MARCH, payment_intent={"id": "pi_1"}, invoice={"id": "in_1", "subscription": "sub_1"}),
        ],
        refunds=[{"id": "re_1", "object": "refund", "charge": "ch_1", "amount": 100, "currency": "eur", "status": "requires_action",
                  "reason": "requested_by_customer", "created": MARCH + 9}],
        disputes=[{"id": f"dp_{s}", "object": "dispute", "charge": "ch_2", "amount": 400, "currency": "eur", "status": s,
                   "created": MARCH + 9} for s in ("lost", "won")],
    )  # fmt: skip
    land(api, "charges", "refunds")
    columns = "charge_id, payment_id, account_id, subscription_id, amount, status, failure_code, country"
    assert rows(warehouse, "charges", columns, "1") == [
        ("ch_1", "pi_1", "cus_1", "sub_1", 1000, "succeeded", None, None),
        ("ch_2", None, "cus_1", None, 400, "succeeded", None, "DE"),
        ("ch_3", None, "guest_ch_3", None, 1000, "failed", "card_declined", None),
        ("ch_4", None, "cus_1", None, 1000, "pending", None, None),
    ]
    assert rows(warehouse, "refunds", "refund_id, amount, status, reason", "1") == [
        ("dp_lost", 400, "succeeded", "dispute"), ("re_1", 100, "pending", "requested_by_customer"),
    ]  # fmt: skip
    api.lists["events"] = [
        event("charge.dispute.closed", {**api.lists["disputes"][1], "status": "lost"}, api.now + 60),
        event("charge.captured", charge("ch_4", MARCH + 3), api.now + 60),
        event("refund.updated", {**api.lists["refunds"][0], "status": "succeeded"}, api.now + 60),
    ]
    api.now += 120
    land(api, "charges", "refunds")
    assert rows(warehouse, "charges", "status", "charge_id")[3] == ("succeeded",)
    assert rows(warehouse, "refunds", "refund_id, status", "1") == [
        ("dp_lost", "succeeded"),
        ("dp_won", "succeeded"),
        ("re_1", "succeeded"),
    ]


def test_a_source_that_slept_longer_than_events_are_kept_lists_everything_again(warehouse, land):
    api = Api(charges=[charge("ch_1", MARCH, status="pending")])
    land(api, "charges")
    api.now += 60 * DAY
    api.lists["charges"] = [charge("ch_1", MARCH, status="failed")]
    land(api, "charges")
    assert rows(warehouse, "charges", "status", "1") == [("failed",)]


def test_young_objects_are_seen_though_their_event_never_came(warehouse, land):
    api = Api(charges=[])
    land(api, "charges", "subscriptions")
    api.now += 3600
    api.lists |= {
        "charges": [charge("ch_1", api.now - 60)],
        "subscriptions": [subscription(created=api.now - 60, start_date=api.now - 60)],
    }
    land(api, "charges", "subscriptions")
    assert len(rows(warehouse, "charges", "1", "1")) == len(rows(warehouse, "subscriptions", "1", "1")) == 1


def test_a_list_that_repeats_itself_ends_in_a_message(warehouse, monkeypatch):
    empty(warehouse)
    same = {"data": [{"id": "cus_1", "created": MARCH}], "has_more": True}
    with json_server(lambda path, query: same) as address:
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_MAIN", address.replace("http://", "http://:rk_live_1@") + "/http")
        result = land_source(warehouse, None, Source("billing", "stripe", "stripe_main", ("accounts",)), silent)
    assert "repeats itself after cus_1" in result.error
    assert rows(warehouse, "accounts", "account_id", "1") == [("cus_1",)]


def test_one_list_that_is_refused_or_not_understood_leaves_the_others(warehouse, monkeypatch):
    empty(warehouse)
    good = Api(charges=[charge("ch_1", MARCH)], balance_transactions=[])

    def answer(path, query):
        if path == "/v1/customers":
            return {"surprise": True}
        if path == "/v1/balance_transactions":
            return 403, {"error": {"message": "This key may not read balances"}}
        return good(path, query)

    told: list = []
    with json_server(answer) as address:
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_MAIN", address.replace("http://", "http://:rk_live_1@") + "/http")
        monkeypatch.setattr("northstar.extract.sources.stripe.connector.PER_SECOND", None)
        monkeypatch.setattr(
            "northstar.extract.sources.stripe.connector.Stripe.__init__.__defaults__", (lambda: good.now,)
        )
        result = land_source(
            warehouse, 1, Source("billing", "stripe", "stripe_main", ("accounts", "charges")), told.append
        )
    log = warehouse.logs / "source_billing.log"
    assert result.error == f"its connector failed, KeyError: 'data'; an answer that it does not know? (its log: {log})"
    assert "Traceback" in log.read_text()
    assert len(rows(warehouse, "charges", "1", "1")) == 1
    assert any(
        "charges: not reconciled, http://127.0.0.1:" in line
        and "/v1/balance_transactions: it answered 403: This key may not" in line
        for line in told
    )


def test_the_balance_is_reconciled_in_number_and_by_currency(warehouse, land):
    day = MARCH + 29 * DAY

    def moved(number: int, kind: str, amount: int, **given) -> dict:
        return {"id": f"txn_{number}", "type": kind, "created": day + number, "amount": amount, "currency": "eur", "exchange_rate": None,
                "source": f"ch_{number}", **given}  # fmt: skip

    # the account keeps euros: dollars are there as what they were changed into, and as the charge itself
    dollars = charge("ch_3", day + 3, currency="usd", amount=1000, amount_captured=900)
    refund = {
        "id": "re_1",
        "object": "refund",
        "charge": "ch_2",
        "amount": 100,
        "currency": "eur",
        "status": "succeeded",
        "created": day + 9,
    }
    api = Api(
        charges=[dollars, charge("ch_2", day + 7200), charge("ch_1", day + 3600)],
        refunds=[refund],
        balance_transactions=[
            moved(9, "refund", -100, source=refund), moved(8, "charge", 1000), moved(7, "payout", 5000), moved(6, "payment", 1000),
            moved(5, "charge", 1000), moved(3, "charge", 846, exchange_rate=0.94, source=dollars), moved(-5, "charge", 1000),
        ],
    )  # fmt: skip
    api.now = day + DAY + 60
    land(api, "charges", "refunds", run=1, disputes=False)
    with db.connect(warehouse, "loader") as connection:
        told = connection.execute("select measure, source_total::int as told, landed_total::int as landed from audit.reconciliations "
                                  "order by entity, measure").fetchall()  # fmt: skip
    assert [tuple(t.values()) for t in told] == [
        ("EUR succeeded on 2025-03-30", 3000, 2000), ("USD succeeded on 2025-03-30", 900, 900), ("succeeded on 2025-03-30", 4, 3),
        ("EUR succeeded on 2025-03-30", 100, 100), ("succeeded on 2025-03-30", 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("skew", [-3600, 300], ids=["ours is an hour behind", "ours is five minutes ahead"])
def test_clocks_that_differ_lose_nothing(warehouse, land, skew):
    api = Api(subscriptions=[subscription()])
    # by Stripe's clock it is a day later
    api.now = MARCH + DAY + skew
    land(api, "subscriptions")
    api.lists["events"] = [
        event("customer.subscription.updated", subscription(item(quantity=2)), MARCH + DAY + 5, "1"),
        event("customer.subscription.updated", subscription(item(quantity=3)), MARCH + 2 * DAY + 5, "2"),
    ]
    for day in (2, 3):
        api.now = MARCH + day * DAY + skew
        land(api, "subscriptions")
    assert [h[3] for h in history(warehouse, "subscription_item_id, quantity")] == [1, 2, 3]


def test_promotion_codes_are_discounts_and_schedules_are_changes(warehouse, land):
    code = {
        "id": "di_1",
        "object": "discount",
        "promotion_code": "promo_1",
        "coupon": {"id": "c", "percent_off": 20, "duration": "repeating"},
    }
    api = Api(subscriptions=[subscription(schedule="sub_sched_1", discount=code)])
    api.now = MARCH + DAY
    land(api, "subscriptions")
    # the schedule's next phase begins: another price, the promotion over
    api.lists["events"] = [
        event("subscription_schedule.updated", {"id": "sub_sched_1", "object": "subscription_schedule"}, MARCH + 9 * DAY, "1"),
        event("customer.subscription.updated", subscription(item(price=price("price_next", unit_amount=1500)), schedule="sub_sched_1"), MARCH + 9 * DAY, "2"),
    ]  # fmt: skip
    api.now = MARCH + 10 * DAY
    land(api, "subscriptions")
    assert history(warehouse, "plan_id, unit_amount, discount_percent") == [
        ("03-01", "03-10", "price_pro", 1000, 20), ("03-10", None, "price_next", 1500, None),
    ]  # fmt: skip


def test_several_discounts_that_an_event_names_by_id_are_asked_for(warehouse, land):
    given = [
        {**coupon(percent_off=20), "id": "di_1"},
        {**coupon(percent_off=50), "id": "di_2"},
        {**coupon("once", percent_off=90), "id": "di_3"},
    ]
    api = Api(subscriptions=[subscription()])
    api.now = MARCH + DAY
    land(api, "subscriptions")
    assert api.asked[-1][0] != "subscriptions/sub_1"
    names = [d["id"] for d in given]
    api.lists["subscriptions"] = [subscription(discounts=given)]
    api.lists["events"] = [event("customer.subscription.updated", subscription(discounts=names), MARCH + 2 * DAY)]
    api.now = MARCH + 3 * DAY
    land(api, "subscriptions")
    assert history(warehouse, "discount_percent") == [("03-01", "03-03", None), ("03-03", None, 60)]
    # one that was taken away since, and that no event told of: the row is not landed as if it cost the full price
    api.lists["events"] = [event("customer.subscription.updated", subscription(discounts=["di_gone"]), MARCH + 4 * DAY)]
    api.now = MARCH + 5 * DAY
    assert land(api, "subscriptions").landed.quarantined == 1
    with db.connect(warehouse, "loader") as connection:
        (rejected,) = connection.execute("select reasons, row from quarantine.rows").fetchall()
    # what a system wrote is sealed where it is prose (docs/privacy.md)
    assert rejected["reasons"][0].startswith("discount_percent: ")
    assert (
        unseal(rejected["row"]["discount_percent"], warehouse.secret("pii_key"))
        == "discount di_gone, which no longer exists"
    )


def test_a_coupon_of_one_invoice_is_no_discount_of_its_history(warehouse, land):
    line = {"type": "subscription", "proration": False, "subscription_item": "si_1", "amount": 700, "quantity": 1, "price": price(),
            "period": {"start": MARCH, "end": MARCH + 31 * DAY}, "discount_amounts": [{"amount": 300, "discount": "di_once"}]}  # fmt: skip
    invoice = {"id": "in_1", "subscription": "sub_1", "customer": "cus_1", "status": "paid", "created": MARCH, "lines": {"data": [line]},
               "discounts": [{**coupon("once", amount_off=300), "id": "di_once"}]}  # fmt: skip
    api = Api(subscriptions=[subscription(current_period_start=MARCH + 31 * DAY)], invoices=[invoice])
    api.now = MARCH + 40 * DAY
    land(api, "subscriptions")
    assert history(warehouse, "discount_amount") == [("03-01", None, None)]
    assert [q["expand[]"] for name, q in api.asked if name == "invoices"] == ["data.lines.data.discounts"]


def test_the_history_before_the_first_reading_is_rebuilt_from_events_as_far_as_there_are_any(warehouse, land):
    line = {"type": "subscription", "proration": False, "subscription_item": "si_1", "amount": 1000, "quantity": 1, "price": price(),
            "period": {"start": MARCH, "end": MARCH + 31 * DAY}, "discount_amounts": []}  # fmt: skip
    later = {**line, "quantity": 5, "period": {"start": MARCH + 62 * DAY, "end": MARCH + 92 * DAY}}
    invoices = [{"id": f"in_{n}", "subscription": "sub_1", "customer": "cus_1", "status": "paid", "created": at, "lines": {"data": [told]}}
                for n, at, told in ((2, MARCH + 62 * DAY, later), (1, MARCH, line))]  # fmt: skip
    now = subscription(item(quantity=5), current_period_start=MARCH + 62 * DAY)
    items = {"items": {"data": [item(quantity=1)]}}
    paused = {"pause_collection": {"behavior": "void"}}
    api = Api(
        subscriptions=[now, subscription(item("si_9"), id="sub_9", status="canceled", ended_at=MARCH + 69 * DAY)],
        invoices=invoices,
        events=[
            event("customer.subscription.updated", now | {"current_period_start": MARCH + 31 * DAY}, MARCH + 50 * DAY, **items),
            event("customer.subscription.updated", now | paused | {"current_period_start": MARCH + 31 * DAY}, MARCH + 55 * DAY, pause_collection=None),
            event("customer.subscription.updated", now, MARCH + 62 * DAY, current_period_start=MARCH + 31 * DAY, **paused),
            event("customer.subscription.deleted", subscription(item("si_9"), id="sub_9", status="canceled", ended_at=MARCH + 69 * DAY), MARCH + 69 * DAY),
        ],
    )  # fmt: skip
    api.now = MARCH + 70 * DAY
    land(api, "subscriptions")
    assert history(warehouse, "subscription_item_id, status, quantity") == [
        ("03-01", "04-20", "si_1", "active", 1), ("04-20", "04-25", "si_1", "active", 5), ("04-25", "05-02", "si_1", "paused", 5),
        ("05-02", None, "si_1", "active", 5), ("03-01", "05-09", "si_9", "active", 1), ("05-09", None, "si_9", "canceled", 1),
    ]  # fmt: skip


def test_a_history_that_stands_is_gone_on_with_after_a_long_sleep(warehouse, land):
    api = Api(subscriptions=[subscription()])
    api.now = MARCH + DAY
    land(api, "subscriptions")
    api.lists["events"] = [event("customer.subscription.updated", subscription(item(quantity=3)), MARCH + 3 * DAY)]
    api.now = MARCH + 4 * DAY
    land(api, "subscriptions")

    def invoice(number: int, start: int, quantity: int) -> dict:
        line = {"type": "subscription", "proration": False, "subscription_item": "si_1", "amount": 1000, "quantity": quantity, "price": price(),
                "period": {"start": start, "end": start + 30 * DAY}, "discount_amounts": []}  # fmt: skip
        return {
            "id": f"in_{number}",
            "subscription": "sub_1",
            "customer": "cus_1",
            "status": "paid",
            "created": start,
            "lines": {"data": [line]},
        }

    api.lists["invoices"] = [invoice(3, MARCH + 60 * DAY, 4), invoice(2, MARCH + 30 * DAY, 3), invoice(1, MARCH, 1)]
    api.lists["subscriptions"] = [subscription(item(quantity=7), current_period_start=MARCH + 90 * DAY)]
    api.now = MARCH + 100 * DAY
    land(api, "subscriptions")
    assert history(warehouse, "quantity") == [
        ("03-01", "03-04", 1),
        ("03-04", "04-30", 3),
        ("04-30", "05-30", 4),
        ("05-30", None, 7),
    ]
    with db.connect(warehouse, "loader") as connection:
        assert connection.execute("select count(*) as n from quarantine.rows").fetchone()["n"] == 0


def test_a_discount_of_the_customer_holds_for_all_of_its_subscriptions_that_have_none(warehouse, land):
    own = {**coupon(percent_off=10), "id": "di_own"}
    held = [subscription(item("si_1")), subscription(item("si_2"), id="sub_2", discount=own, discounts=["di_own"])]
    given = {**coupon(percent_off=25), "id": "di_all", "object": "discount", "customer": "cus_1", "subscription": None}
    more = subscription(item("si_1", quantity=4))
    api = Api()
    for stops in ([10], [4, 6, 10]):
        empty(warehouse)
        api.lists = {"subscriptions": held, "customers": [{"id": "cus_1", "discount": None}]}
        api.now = MARCH + DAY
        land(api, "subscriptions")
        events = [
            event("customer.discount.created", given, MARCH + 3 * DAY),
            event("customer.subscription.updated", more, MARCH + 5 * DAY, items={"data": [item("si_1")]}),
            event("customer.discount.deleted", given, MARCH + 8 * DAY),
        ]
        for stop in stops:
            # what the lists show is the present, in which all of it has happened
            api.lists["events"] = [e for e in events if e["created"] < MARCH + stop * DAY]
            api.lists["subscriptions"] = [more if stop > 5 else held[0], held[1]]
            api.lists["customers"] = [{"id": "cus_1", "discount": given if stop < 8 else None}]
            api.now = MARCH + stop * DAY
            land(api, "subscriptions")
        assert history(warehouse, "subscription_item_id, quantity, discount_percent") == [
            ("03-01", "03-04", "si_1", 1, None), ("03-04", "03-06", "si_1", 1, 25), ("03-06", "03-09", "si_1", 4, 25),
            ("03-09", None, "si_1", 4, None), ("03-01", None, "si_2", 1, 10),
        ], stops  # fmt: skip


def test_time_is_stripes_own(warehouse, monkeypatch):
    """Our clock is an hour before Stripe's: by our time what happens there within that hour had been read before it happened."""
    empty(warehouse)
    present = int(time.time()) - 3600
    api = Api(subscriptions=[subscription(created=present - 9 * DAY)], customers=[{"id": "cus_1", "discount": None}])
    monkeypatch.setattr("northstar.extract.sources.stripe.connector.PER_SECOND", None)

    def answer(path, query):
        return 200, api(path, query), {"Date": email.utils.formatdate(present, usegmt=True)}

    with json_server(answer) as address:
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_MAIN", address.replace("http://", "http://:rk_live_1@") + "/http")
        billing = Source("billing", "stripe", "stripe_main", ("subscriptions",))
        assert land_source(warehouse, None, billing, silent).error is None
        api.lists["events"] = [event("customer.subscription.updated", subscription(item(quantity=2)), present + 60)]
        present += 1200
        assert land_source(warehouse, None, billing, silent).error is None
    assert [h[2] for h in history(warehouse, "quantity")] == [1, 2]


@pytest.mark.parametrize("missing", ["events", "invoices", "disputes"])
def test_the_check_asks_for_all_that_a_reading_needs(warehouse, monkeypatch, missing):
    def answer(path, query):
        if path == f"/v1/{missing}":
            return 403, {"error": {"message": "The provided key does not have the required permissions"}}
        return {"data": [], "has_more": False}

    with json_server(answer) as address:
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_MAIN", address.replace("http://", "http://:rk_live_1@") + "/http")
        with pytest.raises(NorthstarError, match=f"v1/{missing}: it answered 403: The provided key"):
            open_source(warehouse, source("accounts", "subscriptions", "refunds")).check()
