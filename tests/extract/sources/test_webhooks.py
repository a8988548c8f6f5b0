"""Webhook deliveries in bulk: whatever way they come, the end is what the API would have led to."""

import json
import random
import subprocess
import sys

import pytest

from northstar.base.errors import NorthstarError
from northstar.extract.landing.source import land_source
from northstar.extract.sources import webhooks
from northstar.extract.sources.declared import Source, open_source
from northstar.extract.sources.files import read_lines
from northstar.warehouse import db
from tests.extract.sources.test_stripe import DAY, MARCH, Api, event, item, land, price, subscription
from tests.extract.sources.test_umami import WEB, Site, land_api, told
from tests.support import empty, silent

__all__ = ["land", "land_api"]
STRIPE = ("accounts", "subscriptions", "charges", "refunds")


def happened(customer: str) -> list[dict]:
    """What happened to a customer in a month: terms that change and change back, a late payment, a refund, an end."""

    def sub(*items, **given):
        return subscription(*(items or (item(f"si_{customer}"),)), id=f"sub_{customer}", customer=customer, **given)

    def charge(number: int, **given) -> dict:
        return {"id": f"ch_{customer}_{number}", "object": "charge", "amount": 1000, "currency": "eur", "status": "succeeded", "captured": True,
                "amount_captured": 1000, "customer": customer, "invoice": f"in_{customer}", "payment_intent": None, "created": MARCH + DAY, **given}  # fmt: skip

    thing = {
        "id": customer,
        "object": "customer",
        "created": MARCH + 10,
        "email": f"{customer}@example.org",
        "discount": None,
    }
    refund = {"id": f"re_{customer}", "object": "refund", "charge": f"ch_{customer}_2", "amount": 400, "currency": "eur", "status": "pending",
              "created": MARCH + 9 * DAY, "reason": None}  # fmt: skip
    changes = [
        ("customer.created", thing, 10), ("customer.subscription.created", sub(status="trialing"), 20),
        ("customer.subscription.updated", sub(), DAY), ("customer.subscription.updated", sub(item(f"si_{customer}", quantity=5)), 3 * DAY),
        ("customer.subscription.updated", sub(item(f"si_{customer}", quantity=5)), 4 * DAY), ("customer.subscription.updated", sub(), 5 * DAY),
        ("customer.subscription.updated", sub(item(f"si_{customer}"), item(f"sj_{customer}", price=price("price_more"))), 6 * DAY),
        ("customer.updated", {**thing, "address": {"country": "DE"}}, 6 * DAY),
        ("invoice.paid", {"id": f"in_{customer}", "object": "invoice", "customer": customer, "subscription": f"sub_{customer}"}, DAY),
        ("charge.failed", charge(1, status="failed", failure_code="card_declined"), DAY), ("charge.succeeded", charge(2), DAY + 60),
        ("charge.updated", charge(2, amount_captured=900), DAY + 90), ("refund.created", refund, 9 * DAY),
        ("refund.updated", {**refund, "status": "succeeded"}, 10 * DAY),
        ("customer.subscription.deleted", sub(status="canceled", ended_at=MARCH + 20 * DAY), 20 * DAY),
    ]  # fmt: skip
    return [event(kind, thing, MARCH + at, f"{customer}_{n}") for n, (kind, thing, at) in enumerate(changes)]


@pytest.fixture
def deliver(warehouse, tmp_path):
    """A function that lands a directory's deliveries after some more were put into it as a file."""

    def delivering(name: str, lines: list, of="stripe", entities=STRIPE, **options):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(
            "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        )
        options = {"path": str(tmp_path), "of": of, "system_options": options}
        source = Source("billing", "webhooks", None, entities, options=options)
        assert open_source(warehouse, source).check().startswith(f"webhooks of {of}: ")
        result = land_source(warehouse, None, source, silent)
        assert result.error is None, result.error
        return result.landed

    delivering.directory = tmp_path
    return delivering


def state(settings, *entities) -> dict:
    """Everything that stands of the entities, but where it came from; intervals of no length never were."""
    with db.connect(settings, "loader") as connection:
        found = {}
        for entity in entities:
            rows = connection.execute(f"select to_jsonb(t.*) as row from staging.{entity} as t").fetchall()
            rows = [{k: v for k, v in r["row"].items() if not k.startswith("_") and k != "updated_at"} for r in rows]
            found[entity] = sorted(json.dumps(r) for r in rows if r.get("valid_from") != r.get("valid_to", ""))
    return found


def test_deliveries_of_stripe_lead_to_what_the_api_leads_to_in_any_order(warehouse, land, deliver, tmp_path):
    events = [e for customer in ("cus_1", "cus_2", "cus_3") for e in happened(customer)]
    api = Api(
        invoices=[e["data"]["object"] | {"lines": {"data": []}} for e in events if e["type"].startswith("invoice")]
    )
    api.now = MARCH
    land(api, *STRIPE)
    api.lists["events"], api.now = events, MARCH + 25 * DAY
    land(api, *STRIPE)
    expected = state(warehouse, *STRIPE)
    assert len(expected["subscriptions"]) == 6 * 3 and len(expected["charges"]) == 6

    for seed in range(4):
        empty(warehouse)
        for file in tmp_path.glob("*/*"):
            file.unlink()
        chance = random.Random(seed)
        mixed = [*events, *chance.sample(events, 15)]
        chance.shuffle(mixed)
        parts = 1 + 2 * seed
        for part in range(parts):
            deliver(f"day{part % 2}/{part}.jsonl", mixed[part::parts])
        assert state(warehouse, *STRIPE) == expected, f"seed {seed}"
        again = deliver("day0/again.jsonl", chance.sample(events, 20))
        assert (again.inserted, again.updated) == (0, 0), f"seed {seed}"


def test_what_is_no_delivery_goes_to_quarantine_without_its_content(warehouse, deliver):
    empty(warehouse)
    bad = ['{"id": "evt_1", "email": "ada@example.org"', "[]", '{"id": "evt_2"}', ""]
    landed = deliver("a.jsonl", [*happened("cus_1"), *bad])
    assert landed.quarantined == 3
    with db.connect(warehouse, "loader") as connection:
        told = str(connection.execute("select * from quarantine.rows").fetchall())
    assert "a.jsonl:16" in told and "ada@" not in told
    assert deliver("b.jsonl", []).quarantined == 0


def test_deliveries_of_test_mode_are_no_money_unless_they_are_asked_for(warehouse, deliver):
    empty(warehouse)
    played = [e | {"livemode": False} for e in happened("cus_1")]
    landed = deliver("a.jsonl", played)
    assert (landed.inserted, landed.quarantined) == (0, len(played))
    empty(warehouse)
    assert deliver("b.jsonl", [e | {"livemode": True} for e in happened("cus_2")]).quarantined == len(played)
    assert len(json.loads(state(warehouse, "accounts")["accounts"][0])["account_id"]) > 0
    empty(warehouse)
    assert deliver("c.jsonl", [], test_mode=True).quarantined == 0
    assert len(state(warehouse, "accounts")["accounts"]) == 2


def test_a_price_whose_tiers_nobody_tells_is_no_price_of_zero(warehouse, deliver):
    empty(warehouse)
    tiered = price("price_tiers", billing_scheme="tiered", tiers_mode="volume", unit_amount=None)
    deliver("a.jsonl", [event("customer.subscription.created", subscription(item(price=tiered)), MARCH, "1")])
    assert state(warehouse, "subscriptions") == {"subscriptions": []}
    known = {**tiered, "object": "price", "tiers": [{"up_to": None, "unit_amount": 700}]}
    again = event("customer.subscription.updated", subscription(item(price=tiered)), MARCH, "3")
    deliver("b.jsonl", [event("price.created", known, MARCH, "2"), again])
    assert '"unit_amount": 700' in state(warehouse, "subscriptions")["subscriptions"][0]


def test_deliveries_of_umami_lead_to_what_the_api_leads_to(warehouse, land_api, deliver):
    events = [told(1, "01T10:00:00"), told(2, "01T10:00:30"), told(3, "01T10:01:00", kind=2, plan=2.5), told(4, "02T11:59:00", visit="v2"),
              told(5, "01T10:00:10", kind=5), told(6, "01T11:00:00", session="s2", visit="v3")]  # fmt: skip
    land_api(Site(*events))
    expected = state(warehouse, "events")
    empty(warehouse)
    accounts = {"s1": "acc_ada", "s2": "acc_bob"}
    lines = [
        {
            **e,
            "country": "DE",
            "distinctId": accounts[e["sessionId"]],
            "data": {d["dataKey"]: d["numberValue"] for d in e["data"]},
        }
        for e in events
    ]
    options = {"events": {"signup": "user.signup"}}
    # the first page of a visit comes last
    deliver("a.jsonl", lines[1:], "umami", ("events",), **options)
    deliver("b.jsonl", [lines[0], lines[1]], "umami", ("events",), **options)
    assert state(warehouse, "events") == expected
    assert WEB in lines[0]["websiteId"]


def test_a_source_without_a_system_is_refused(warehouse):
    with pytest.raises(NorthstarError, match="give `path`, and `of`: stripe or umami"):
        open_source(warehouse, Source("billing", "webhooks", options={"path": "/tmp"}))


def test_a_directory_is_read_once_for_all_entities_and_a_file_that_is_not_new_only_when_another_is(
    warehouse, deliver, monkeypatch
):
    empty(warehouse)
    read = []

    def reading(file):
        read.append(file.path)
        return read_lines(file)

    monkeypatch.setattr(webhooks, "read_lines", reading)
    deliver("a.jsonl", happened("cus_1"))
    assert read == ["a.jsonl"]
    read.clear()
    deliver("b.jsonl", happened("cus_2"))
    assert sorted(read) == ["a.jsonl", "b.jsonl"]
    read.clear()
    # nothing new
    source = Source(
        "billing",
        "webhooks",
        None,
        STRIPE,
        options={"path": str(deliver.directory), "of": "stripe", "system_options": {}},
    )
    assert land_source(warehouse, None, source, silent).landed.read == 0 and read == []


def test_of_deliveries_of_one_moment_the_newest_price_does_not_depend_on_which_file_is_new(tmp_path):
    source = webhooks.StripeDeliveries(Source("billing", "stripe"))
    told = [event("price.updated", price("p", object="price", unit_amount=n), MARCH, f"{n}") for n in (3, 1, 2)]
    for delivery in told:
        source.learn(delivery)
    assert source._shared["prices/p"][1]["unit_amount"] == 3


PROBE = """
import sys
from pathlib import Path
from northstar.extract.sources import webhooks
from northstar.connections.find import Connection
from northstar.extract.sources.declared import Source

def peak():
    return next(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))

options = {"path": sys.argv[1], "of": "umami", "system_options": {"websites": {"w": "web"}}}
source = webhooks.connect(Source("site", "webhooks", None, ("events",), options=options), Connection("site"))
before, rows = peak(), 0
for page in source.read("events", None):
    rows += len(page.rows)
print(rows, peak() - before)
"""


def test_deliveries_of_any_number_are_read_in_bounded_memory(tmp_path):
    """20,000 deliveries of 5 kB in one file and a line in ten that is none: held at once they would be 100 MB, at the least."""
    filler = "x" * 5_000
    with (tmp_path / "a.jsonl").open("w") as file:
        for number in range(20_000):
            happening = told(number, "01T10:00:00", visit=f"v{number}") | {"websiteId": "w", "referrer": filler}
            file.write(json.dumps(happening) + "\n" if number % 10 else "nothing\n")
    done = subprocess.run([sys.executable, "-c", PROBE, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows, megabytes = map(int, done.stdout.split())
    assert rows == 20_000 and megabytes < 60


def test_a_refund_without_a_charge_finds_it_in_another_delivery(tmp_path):
    charge = {"id": "ch_1", "object": "charge", "payment_intent": "pi_1", "customer": "cus_1", "status": "succeeded"}
    refund = {
        "id": "re_1",
        "object": "refund",
        "charge": None,
        "payment_intent": "pi_1",
        "amount": 4,
        "currency": "eur",
        "created": MARCH,
    }
    lines = [event("refund.created", refund, MARCH + 1), event("charge.succeeded", charge, MARCH)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = Source("billing", "webhooks", None, ("refunds",), options={"path": str(tmp_path), "of": "stripe"})
    deliveries = webhooks.Webhooks(source, webhooks.StripeDeliveries(source), None)
    (page,) = deliveries.read("refunds", None)
    assert [row["charge_id"] for row in page.rows] == ["ch_1"]
