"""Stripe's events as they are: several in one second, later than what they report, and each in the version that its account had then."""

import json
from datetime import datetime
from itertools import permutations

import pytest

from northstar.contract import entities
from northstar.extract.landing.normalise import normalise
from northstar.extract.landing.source import raw_batch
from northstar.extract.sources.declared import Source
from northstar.extract.sources.http import Refused
from northstar.extract.sources.stripe.connector import Stripe
from northstar.extract.sources.stripe.events import in_order
from northstar.extract.sources.webhooks import StripeDeliveries
from northstar.privacy.guard import Guard
from tests.extract.sources.test_stripe import DAY, MARCH, Api, event, item, price, subscription


class Answering:
    """An Api that is asked without a network."""

    def __init__(self, api: Api):
        self.api = api

    def get(self, path, params=None):
        asked = {k: v[-1] if isinstance(v, list) else str(v) for k, v in (params or {}).items()}
        answer = self.api(f"/v1/{path}", asked)
        if isinstance(answer, tuple):
            raise Refused(f"no {path}", answer[0])
        return json.loads(json.dumps(answer))

    def now(self, path, params=None):
        return self.api.now


def landing(entity: str, rows) -> tuple[list[dict], list[list[str]]]:
    """The rows that would stand after landing, and the reasons of those that would be in quarantine."""
    done = normalise(entities()[entity], raw_batch(entities()[entity], rows, None, 1), Guard("key"))
    standing: dict = {}
    for row in done.rows.to_pylist():
        key = tuple(row[name] for name in entities()[entity].key)
        if key not in standing or row["updated_at"] >= standing[key]["updated_at"]:
            standing[key] = row
    return list(standing.values()), [reasons for _, reasons, _ in done.bad]


def told(rows, *columns) -> list[tuple]:
    """The history, without stretches of no length: (from, to, columns)."""
    standing, _ = landing("subscriptions", rows)
    stretches = sorted(
        (r for r in standing if r["valid_from"] != r["valid_to"]),
        key=lambda r: (r["subscription_item_id"], r["valid_from"]),
    )
    return [
        (
            moment(r["valid_from"]),
            moment(r["valid_to"]),
            *(r[c] if isinstance(r[c], str | None) else float(r[c]) for c in columns),
        )
        for r in stretches
    ]


def moment(at: datetime | None) -> str | None:
    return at and f"{at:%m-%d}" + (f" {at:%H:%M:%S}" if (at.hour, at.minute, at.second) != (0, 0, 0) else "")


def delivered(*events, entity="subscriptions") -> list:
    deliveries = StripeDeliveries(Source("billing", "stripe"))
    for one in events:
        deliveries.learn(one)
    return deliveries.rows(entity, [one for one in events if deliveries.root(one) is not None])


def read(api: Api, entity="subscriptions", state=None) -> tuple[list, dict]:
    """All rows of a reading, and the state after it. Answers hold what is read, so no row has to be landed before."""
    stripe = Stripe(Source("billing", "stripe"), Answering(api))
    pages = list(stripe.read(entity, state))
    return [row for page in pages for row in page.rows], [page.state for page in pages if page.state is not None][-1]


# events of one second

CREATED = event("customer.subscription.created", subscription(), MARCH, "0")
GROWN = event(
    "customer.subscription.updated", subscription(item(quantity=3)), MARCH + 2 * DAY, "1", items={"data": [item()]}
)
GONE = event(
    "customer.subscription.deleted",
    subscription(item(quantity=3), status="canceled", ended_at=MARCH + 2 * DAY),
    MARCH + 2 * DAY,
    "2",
)


@pytest.mark.parametrize("ids", [("a", "b"), ("b", "a")])
def test_of_an_update_and_a_cancellation_in_one_second_the_cancellation_stands(ids):
    grown, gone = GROWN | {"id": ids[0]}, GONE | {"id": ids[1]}
    assert told(delivered(CREATED, grown, gone), "status", "quantity") == [
        ("03-01", "03-03", "active", 1),
        ("03-03", None, "canceled", 3),
    ]
    api = Api(subscriptions=[subscription()], events=[])
    api.now = MARCH + DAY
    rows, state = read(api)
    api.lists |= {"events": [CREATED, grown, gone]}
    api.now = MARCH + 5 * DAY
    stripe = Stripe(Source("billing", "stripe"), Answering(api))
    stripe.history._remember_newest([dict(rows[0])])
    later = [row for page in stripe.read("subscriptions", state) for row in page.rows]
    assert told(rows + later, "status", "quantity") == [("03-01", "03-03", "active", 1), ("03-03", None, "canceled", 3)]


@pytest.mark.parametrize("order", permutations(range(4)))
def test_updates_of_one_second_follow_the_values_that_they_found(order):
    """1 -> 3 -> 1 -> 5 -> 2, in a second: nothing but what each found says which was the last."""
    steps = [(1, 3), (3, 1), (1, 5), (5, 2)]
    updates = [
        event(
            "customer.subscription.updated",
            subscription(item(quantity=to)),
            MARCH + DAY,
            f"{name}",
            items={"data": [{"quantity": since}]},
        )
        for name, (since, to) in zip(order, steps, strict=True)
    ]
    assert told(delivered(CREATED, *updates), "quantity") == [("03-01", "03-02", 1), ("03-02", None, 2)]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_what_is_created_and_changed_in_one_second_stands_changed(names):
    first, second = names
    created = event("customer.subscription.created", subscription(status="incomplete"), MARCH, first)
    paid = event("customer.subscription.updated", subscription(), MARCH, second, status="incomplete")
    assert told(delivered(created, paid), "status") == [("03-01", None, "active")]
    customer = {"id": "cus_1", "object": "customer", "created": MARCH, "email": None}
    moved = {**customer, "address": {"country": "DE"}}
    accounts = delivered(
        event("customer.created", customer, MARCH, first),
        event("customer.updated", moved, MARCH, second, address=None),
        entity="accounts",
    )
    assert [row["country"] for row in accounts] == ["DE"]
    charge = {"id": "ch_1", "object": "charge", "amount": 1000, "currency": "eur", "status": "pending", "captured": True, "amount_captured": 0,
              "customer": "cus_1", "invoice": None, "payment_intent": None, "created": MARCH}  # fmt: skip
    charges = delivered(
        event("charge.pending", charge, MARCH, first),
        event("charge.succeeded", charge | {"status": "succeeded"}, MARCH, second),
        entity="charges",
    )
    assert [row["status"] for row in charges] == ["succeeded"]


def test_an_item_that_comes_and_goes_in_one_second_never_was():
    two = subscription(item(), item("si_2"))
    came = event("customer.subscription.updated", two, MARCH + DAY, "a", items={"data": [item()]})
    went = event(
        "customer.subscription.updated", subscription(), MARCH + DAY, "b", items={"data": [item(), item("si_2")]}
    )
    assert told(delivered(CREATED, came, went), "subscription_item_id") == [("03-01", None, "si_1")]


def test_a_discount_that_replaces_another_in_one_second_stands():
    old = discount("di_a", percent_off=50)
    new = discount("di_b", percent_off=20)
    for names in (("a", "b"), ("b", "a")):
        swap = [
            event("customer.discount.deleted", old, MARCH + DAY, names[0]),
            event("customer.discount.created", new, MARCH + DAY, names[1]),
        ]
        first = event("customer.discount.created", old, MARCH, "9")
        assert told(delivered(CREATED, first, *swap), "discount_percent")[-1] == ("03-02", None, 20)


def test_events_of_other_seconds_stay_in_their_order():
    events = [event("customer.updated", {"id": "cus_1"}, MARCH + n, str(9 - n)) for n in range(9)]
    assert in_order(reversed(events)) == events


# what an event reports happened before it


def test_a_subscription_ends_when_it_ended_and_not_when_the_event_came():
    ended = 31 * DAY - 30
    gone = event(
        "customer.subscription.deleted", subscription(status="canceled", ended_at=MARCH + ended), MARCH + ended + 45
    )
    assert told(delivered(CREATED, gone), "status") == [
        ("03-01", "03-31 23:59:30", "active"),
        ("03-31 23:59:30", None, "canceled"),
    ]


def test_a_trial_ends_when_it_ended():
    trial = subscription(status="trialing", trial_end=MARCH + 31 * DAY - 30)
    begun = event("customer.subscription.created", trial, MARCH)
    paying = event(
        "customer.subscription.updated", trial | {"status": "active"}, MARCH + 31 * DAY + 40, status="trialing"
    )
    assert told(delivered(begun, paying), "status") == [
        ("03-01", "03-31 23:59:30", "trialing"),
        ("03-31 23:59:30", None, "active"),
    ]


@pytest.mark.parametrize("is_of_items", [False, True])
def test_terms_that_change_with_the_billing_period_change_when_it_begins(is_of_items):
    def renewed(start, quantity):
        if not is_of_items:
            return subscription(item(quantity=quantity), current_period_start=start)
        return subscription(item(quantity=quantity, current_period_start=start), current_period_start=None)

    before, after = renewed(MARCH, 1), renewed(MARCH + 31 * DAY - 30, 4)
    changed = {"items": before["items"], "current_period_start": before["current_period_start"]}
    events = [
        event("customer.subscription.created", before, MARCH),
        event("customer.subscription.updated", after, MARCH + 31 * DAY + 9, **changed),
    ]
    assert told(delivered(*events), "quantity") == [("03-01", "03-31 23:59:30", 1), ("03-31 23:59:30", None, 4)]


# discounts, in the shapes of all versions, and their ends


def discount(name="di_1", end=None, start=MARCH, about="sub_1", **coupon) -> dict:
    whole = {
        "id": "co",
        "object": "coupon",
        "duration": "repeating" if end else "forever",
        "percent_off": None,
        "amount_off": None,
        **coupon,
    }
    return {
        "id": name,
        "object": "discount",
        "customer": "cus_1",
        "subscription": about,
        "coupon": whole,
        "start": start,
        "end": end,
    }


def newer(given: dict, coupon="co_half") -> dict:
    """A discount as 2025-09-30.clover and later versions have it."""
    return {k: v for k, v in given.items() if k != "coupon"} | {"source": {"type": "coupon", "coupon": coupon}}


COUPON = {
    "id": "co_half",
    "object": "coupon",
    "duration": "forever",
    "percent_off": 50.0,
    "amount_off": None,
    "created": MARCH,
}


@pytest.mark.parametrize(
    "given",
    [
        subscription(discount=discount(percent_off=50)),
        subscription(discount=None, discounts=[discount(percent_off=50)]),
        subscription(discounts=[newer(discount())]),
        subscription(discounts=[newer(discount(), coupon=COUPON)]),
        subscription(item(discounts=[newer(discount())])),
    ],
    ids=["2020-08-27", "2024-06-20", "clover", "clover, expanded", "clover, of an item"],
)
def test_a_discount_is_read_in_the_shape_of_its_version(given):
    coupon = event("coupon.created", COUPON, MARCH)
    assert told(delivered(coupon, event("customer.subscription.created", given, MARCH)), "discount_percent") == [
        ("03-01", None, 50)
    ]
    assert told(read(Api(subscriptions=[given], coupons=[COUPON]))[0], "discount_percent") == [("03-01", None, 50)]


def test_a_coupon_that_nobody_knows_keeps_one_row_out_and_no_more():
    other = event("customer.subscription.created", subscription(item("si_9"), id="sub_9"), MARCH)
    given = event("customer.discount.created", newer(discount(about="sub_1")), MARCH + DAY)
    rows = delivered(CREATED, other, given)
    assert told(rows, "subscription_item_id") == [("03-01", "03-02", "si_1"), ("03-01", None, "si_9")]
    assert len(landing("subscriptions", rows)[1]) == 1


def test_a_coupon_that_was_deleted_is_still_in_the_discount_that_is_asked_for():
    held = subscription(discounts=[discount(percent_off=50)])
    api = Api(
        subscriptions=[held],
        events=[event("customer.subscription.created", subscription(discounts=[newer(discount())]), MARCH)],
    )
    api.now = MARCH + DAY
    assert told(read(api)[0], "discount_percent") == [("03-01", None, 50)]


def test_a_discount_of_an_item_is_the_items():
    two = event("customer.subscription.created", subscription(item(), item("si_2")), MARCH)
    given = event("customer.discount.created", discount(percent_off=50) | {"subscription_item": "si_2"}, MARCH + DAY)
    assert told(delivered(two, given), "subscription_item_id", "discount_percent") == [
        ("03-01", None, "si_1", None), ("03-01", "03-02", "si_2", None), ("03-02", None, "si_2", 50),
    ]  # fmt: skip


def test_a_coupon_in_several_currencies_takes_off_the_subscriptions():
    off = discount(amount_off=500, currency="usd", currency_options={"eur": {"amount_off": 450}})
    assert (
        told(
            delivered(event("customer.subscription.created", subscription(discount=off, currency="eur"), MARCH)),
            "discount_amount",
        )[0][2]
        == 450
    )


def test_a_discount_that_has_ended_holds_until_its_end():
    begun = MARCH - 100 * DAY
    ended = discount(percent_off=50, end=MARCH - 10 * DAY, start=begun)
    api = Api(subscriptions=[subscription(created=begun, start_date=begun, discounts=[ended])])
    api.now = MARCH + DAY
    assert told(read(api)[0], "discount_percent") == [("11-21", "02-19", 50), ("02-19", None, None)]


def test_a_discount_ends_though_no_event_says_so():
    held = subscription(discounts=[discount(percent_off=50, end=MARCH + 9 * DAY)])
    api = Api(subscriptions=[held])
    api.now = MARCH + DAY
    rows, state = read(api)
    assert told(rows, "discount_percent") == [("03-01", None, 50)]
    stripe = Stripe(Source("billing", "stripe"), Answering(api))
    # what has landed is what the next reading finds
    stripe.find_landed = lambda *_: landing("subscriptions", rows)[0]
    api.now = MARCH + 12 * DAY
    later = [row for page in stripe.read("subscriptions", state) for row in page.rows]
    assert told(rows + later, "discount_percent") == [("03-01", "03-10", 50), ("03-10", None, None)]
    # of deliveries nobody knows how late it is: what will be is said beforehand
    ahead = delivered(event("customer.subscription.created", held, MARCH))
    assert told(ahead, "discount_percent") == [("03-01", "03-10", 50), ("03-10", None, None)]


def test_a_discount_that_ends_leaves_what_changed_before_its_end():
    held = subscription(discounts=[discount(percent_off=50, end=MARCH + 9 * DAY)])
    grown = subscription(item(quantity=3), discounts=held["discounts"])
    events = [event("customer.subscription.created", held, MARCH),
              event("customer.subscription.updated", grown, MARCH + 5 * DAY, items={"data": [item()]}),
              event("customer.subscription.deleted", grown | {"status": "canceled", "ended_at": MARCH + 20 * DAY}, MARCH + 20 * DAY)]  # fmt: skip
    assert told(delivered(*events), "status", "quantity", "discount_percent") == [
        ("03-01", "03-06", "active", 1, 50), ("03-06", "03-10", "active", 3, 50), ("03-10", "03-21", "active", 3, None),
        ("03-21", None, "canceled", 3, None),
    ]  # fmt: skip


# prices

RATE = {"id": "txr_1", "object": "tax_rate", "inclusive": True, "percentage": 20.0}


def line(**given) -> dict:
    return {"id": "il_1", "type": "subscription", "proration": False, "subscription_item": "si_1", "amount": 1200, "currency": "eur", "quantity": 1,
            "price": price(unit_amount=1200), "period": {"start": MARCH, "end": MARCH + 31 * DAY}, "discount_amounts": [], **given}  # fmt: skip


def newest_line(**given) -> dict:
    """An invoice line as 2025-03-31.basil and later versions have it."""
    details = {"subscription": "sub_1", "subscription_item": "si_1", "proration": False, **given.pop("details", {})}
    old = ("type", "proration", "subscription_item", "price")
    pricing = {
        "type": "price_details",
        "unit_amount_decimal": "1200",
        "price_details": {"price": "price_pro", "product": "prod_1"},
    }
    return {k: v for k, v in line().items() if k not in old} | {
        "parent": {"type": "subscription_item_details", "subscription_item_details": details}, "pricing": pricing, **given,
    }  # fmt: skip


def invoice(*lines, **given) -> dict:
    return {
        "id": "in_1",
        "object": "invoice",
        "subscription": "sub_1",
        "customer": "cus_1",
        "status": "paid",
        "created": MARCH,
        "lines": {"data": list(lines)},
        **given,
    }


@pytest.mark.parametrize(
    ("terms", "lists"),
    [
        (subscription(item(price=price(unit_amount=1200, tax_behavior="inclusive"), tax_rates=[RATE])), {}),
        (subscription(item(price=price(unit_amount=1200)), default_tax_rates=[RATE]), {}),
        (subscription(item(price=price(unit_amount=1200), tax_rates=["txr_1"])), {"tax_rates": [RATE]}),
        (subscription(item(price=price(unit_amount=1200, tax_behavior="inclusive")), automatic_tax={"enabled": True}, latest_invoice="in_1"),
         {"invoices": [invoice(line(tax_amounts=[{"amount": 200, "inclusive": True}]))]}),
        (subscription(item(price=price(unit_amount=1200, tax_behavior="inclusive")), automatic_tax={"enabled": True}, latest_invoice="in_1"),
         {"invoices": [invoice(newest_line(taxes=[{"amount": 200, "tax_behavior": "inclusive"}]))]}),
    ],
    ids=["of the item", "of the subscription", "by id", "reckoned by Stripe", "reckoned by Stripe, basil"],
)  # fmt: skip
def test_a_price_that_includes_tax_counts_without_it(terms, lists):
    objects = [
        event(f"{kind}.any", thing | {"object": kind[:-1], "customer": "cus_1"}, MARCH)
        for kind, things in lists.items()
        for thing in things
    ]
    assert told(delivered(*objects, event("customer.subscription.created", terms, MARCH)), "unit_amount") == [
        ("03-01", None, 1000)
    ]


def test_a_tax_that_comes_on_top_changes_nothing_and_an_amount_off_is_without_tax_too():
    on_top = subscription(item(tax_rates=[RATE | {"inclusive": False}]))
    assert told(delivered(event("customer.subscription.created", on_top, MARCH)), "unit_amount")[0][2] == 1000
    off = subscription(item(price=price(unit_amount=1200), tax_rates=[RATE]), discount=discount(amount_off=120))
    assert told(delivered(event("customer.subscription.created", off, MARCH)), "unit_amount", "discount_amount")[0][
        2:
    ] == (1000, 100)


@pytest.mark.parametrize(
    "of_invoice",
    [
        line(tax_amounts=[{"amount": 200, "inclusive": True, "tax_rate": "txr_1"}]),
        line(tax_rates=[RATE]),
        newest_line(taxes=[{"amount": 200, "tax_behavior": "inclusive"}]),
    ],
    ids=["2024-06-20", "tax rates", "basil"],
)
def test_an_invoice_line_is_read_in_the_shape_of_its_version(of_invoice):
    told_now = subscription(
        item(price=price(unit_amount=1200), tax_rates=[RATE], quantity=7), current_period_start=MARCH + 31 * DAY
    )
    api = Api(subscriptions=[told_now], invoices=[invoice(of_invoice)], prices=[price(unit_amount=1200)])
    api.now = MARCH + 40 * DAY
    assert told(read(api)[0], "unit_amount", "quantity") == [("03-01", "04-01", 1000, 1), ("04-01", None, 1000, 7)]


def test_prorations_are_no_history_in_any_version():
    for proration in (line(proration=True, quantity=9), newest_line(details={"proration": True}, quantity=9)):
        api = Api(subscriptions=[subscription(current_period_start=MARCH + 31 * DAY)], invoices=[invoice(proration)])
        assert told(read(api)[0], "quantity") == [("03-01", None, 1)]


def test_a_price_in_several_currencies_is_the_subscriptions():
    given = price(currency="usd", unit_amount=1100, currency_options={"eur": {"unit_amount": 1000}})
    in_euro = event("customer.subscription.created", subscription(item(price=given), currency="eur"), MARCH)
    assert told(delivered(in_euro), "unit_amount", "currency") == [("03-01", None, 1000, "EUR")]
    unknown = event(
        "customer.subscription.created", subscription(item(price=price(currency="usd")), currency="eur"), MARCH
    )
    assert landing("subscriptions", delivered(unknown))[1] == [["unit_amount: required"]]


@pytest.mark.parametrize(
    ("currency", "given", "lands"),
    [("mga", 500_000, 50_000_000), ("isk", 50_000, 500), ("ugx", 50_000, 500), ("jpy", 500, 500), ("kwd", 500, 500)],
)
def test_amounts_land_in_the_minor_unit_of_iso_4217(currency, given, lands):
    monthly = event(
        "customer.subscription.created", subscription(item(price=price(currency=currency, unit_amount=given))), MARCH
    )
    assert told(delivered(monthly), "unit_amount")[0][2] == lands
    charge = {
        "id": "ch_1",
        "object": "charge",
        "amount": given,
        "currency": currency,
        "status": "succeeded",
        "customer": "cus_1",
        "invoice": None,
        "created": MARCH,
    }
    assert [row["amount"] for row in delivered(event("charge.succeeded", charge, MARCH), entity="charges")] == [lands]


# refunds and charges

CHARGE = {"id": "ch_1", "object": "charge", "amount": 1000, "currency": "eur", "status": "succeeded", "customer": "cus_1", "payment_intent": "pi_1", "created": MARCH}  # fmt: skip
REFUND = {"id": "re_1", "object": "refund", "charge": None, "payment_intent": "pi_1", "amount": 400, "currency": "eur", "status": "succeeded", "created": MARCH}  # fmt: skip


@pytest.mark.parametrize(
    "intent", [{"latest_charge": "ch_1"}, {"charges": {"data": [{"id": "ch_1"}]}}], ids=["2022-11-15", "before"]
)
def test_a_refund_without_a_charge_is_that_of_its_payment_intent(intent):
    api = Api(refunds=[REFUND], payment_intents=[{"id": "pi_1", **intent}])
    assert [row["charge_id"] for row in landing("refunds", read(api, "refunds")[0])[0]] == ["ch_1"]


def test_a_refund_of_which_no_charge_is_known_goes_to_quarantine():
    for refund in (REFUND, REFUND | {"payment_intent": None}):
        assert landing("refunds", read(Api(refunds=[refund]), "refunds")[0]) == ([], [["charge_id: required"]])


def test_a_charge_held_its_refunds_until_2022_11_15():
    refunded = CHARGE | {"refunds": {"data": [REFUND | {"charge": "ch_1"}]}}
    rows = delivered(event("charge.refunded", refunded, MARCH), entity="refunds")
    assert [(row["refund_id"], row["charge_id"]) for row in rows] == [("re_1", "ch_1")]
    assert delivered(event("charge.refunded", CHARGE, MARCH), entity="refunds") == []


@pytest.mark.parametrize("of_charge", [invoice(), {k: v for k, v in invoice().items() if k != "subscription"} | {"parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}}}])  # fmt: skip
def test_a_charge_knows_its_subscription_though_its_event_does_not_say_it(of_charge):
    """Since 2025-03-31.basil an event's charge has no invoice; the charge that is asked for, in an older version, has one."""
    api = Api(charges=[CHARGE | {"invoice": of_charge}], events=[event("charge.updated", CHARGE, MARCH + DAY)])
    api.now = MARCH + 2 * DAY
    rows, state = read(api, "charges")
    assert {row["subscription_id"] for row in rows} == {"sub_1"}
    api.now = MARCH + 3 * DAY
    assert {row["subscription_id"] for row in read(api, "charges", {**state, "since": MARCH})[0]} == {"sub_1"}


def test_a_delivery_that_holds_not_all_items_goes_to_quarantine():
    given = subscription()
    given["items"]["has_more"] = True
    rows = delivered(event("customer.subscription.created", given, MARCH))
    landed, reasons = landing("subscriptions", rows)
    assert landed == [] and len(reasons) == 1


def test_discounts_that_end_one_after_the_other_end_in_their_turn():
    held = subscription(discounts=[discount(f"di_{n}", percent_off=10, end=MARCH + n * DAY) for n in range(1, 4)])
    rows = delivered(event("customer.subscription.created", held, MARCH))
    assert [r[2] and round(r[2], 1) for r in told(rows, "discount_percent")] == [27.1, 19.0, 10.0, None]
    # a row's own time may lie ahead, but none is newer than what says so
    assert {r["updated_at"] for r in rows} == {"2025-03-01T00:00:00Z"}
