"""Stripe: customers, subscriptions as a history, charges, refunds and lost disputes, from its REST API.

    system: stripe
    connection: stripe_main     # password: a restricted key that may read; a host only to speak to another server than Stripe's
    options:
      test_mode: true           # a key of Stripe's test mode is refused without it
      plan_tiers: {price_123: pro}    # by price; else the price's metadata `plan_tier`
      repull_days: 2            # objects as young as that are listed again each time, whatever the events say
      disputes: false           # an account that may not read disputes
      lists: {subscriptions: {status: active}}     # parameters of the first listing; null leaves one out

The first reading lists what there is, page by page. After that the events say what changed: a listing by `created` never
sees an update. Stripe keeps events for 30 days: a source that slept longer lists everything again.

An event holds the whole subscription as it was then, so each change of terms or status closes one row of the history and opens the
next. What happened before the first reading is rebuilt from the invoices' subscription lines; proration lines are left out.
"""

import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from northstar.errors import NorthstarError
from northstar.sources.connections import Connection
from northstar.sources.declared import Page, Source, check_options
from northstar.sources.http import HttpClient, Refused

ENTITIES = ("accounts", "subscriptions", "charges", "refunds")
ADDRESS = "https://api.stripe.com"
# the shape that this module reads; newer versions moved charge.invoice and invoice.subscription elsewhere
API_VERSION = "2024-06-20"
PER_SECOND = 20  # Stripe's limit is 100 in live mode, 25 in test mode
PAGE = 100
DAY = 86_400
EVENTS_KEPT = 29 * DAY
OVERLAP = 600  # events are listed by the second, and some appear a little late
LISTS = {
    "accounts": ("customers", {}),
    "subscriptions": ("subscriptions", {"status": "all"}),
    "charges": ("charges", {"expand[]": "data.invoice"}),
    "refunds": ("refunds", {}),
}
EVENTS = {
    "accounts": ("customer.created", "customer.updated", "customer.deleted"),
    "subscriptions": (
        "customer.subscription.created", "customer.subscription.updated", "customer.subscription.deleted",
        "customer.subscription.paused", "customer.subscription.resumed", "customer.subscription.pending_update_applied",
        "customer.discount.created", "customer.discount.updated", "customer.discount.deleted",
    ),
    "charges": ("charge.pending", "charge.succeeded", "charge.failed", "charge.captured", "charge.updated", "charge.expired"),
    "refunds": ("refund.created", "refund.updated", "refund.failed", "charge.refund.updated", "charge.dispute.closed"),
}  # fmt: skip
OPTIONS = {"test_mode", "plan_tiers", "repull_days", "disputes", "lists"}
# Stripe counts them in hundredths, ISO 4217 has no minor unit
HUNDREDTHS = ("ISK", "UGX")
TERMS = (
    "account_id", "plan_id", "plan_tier", "billing_interval", "interval_count", "quantity", "unit_amount", "currency",
    "discount_percent", "discount_amount", "is_metered", "status", "cancel_reason",
)  # fmt: skip
INVOICED = ("paid", "open", "uncollectible")


def connect(source: Source, connection: Connection) -> "Stripe":
    """A Stripe account. Raises NorthstarError for unknown options, and for a test key that the source does not ask for."""
    check_options(source, OPTIONS)
    key = connection.secret()
    if "_test_" in key and not source.options.get("test_mode"):
        raise NorthstarError(
            f"source {source.name}: the key is one of Stripe's test mode; say test_mode: true to read play money"
        )
    headers = {"Authorization": f"Bearer {key}", "Stripe-Version": API_VERSION}
    return Stripe(source, HttpClient(connection.url(ADDRESS) + "/v1", headers, PER_SECOND))


class Stripe:
    """A connector of northstar.sources.declared.Connector's shape."""

    landed: Callable[[str, str, list], list[dict]] = staticmethod(lambda *_: [])

    def __init__(self, source: Source, http: HttpClient, clock: Callable[[], float] = time.time):
        self.source, self.http, self.clock = source, http, clock
        self.lists = {}
        for entity, (path, parameters) in LISTS.items():
            given = {**parameters, **(source.options.get("lists") or {}).get(entity, {})}
            self.lists[entity] = path, {name: value for name, value in given.items() if value is not None}
        self._newest: dict[str, dict] = {}
        self._customers: dict[str, dict] = {}
        self._prices: dict[str, dict] = {}
        self._invoices: dict[str, dict] = {}

    def check(self) -> str:
        """Asks each list for one object."""
        for entity in self.source.entities:
            self.http.get(self.lists[entity][0], {"limit": 1})
        return f"Stripe: may read {', '.join(self.lists[e][0] for e in self.source.entities)}"

    def read(self, entity: str, state: dict | None) -> Iterator[Page]:
        """All objects once, then what the events say. See the module's own words."""
        now = int(self.clock())
        is_stale = state is not None and state["phase"] == "events" and now - state["since"] > EVENTS_KEPT
        if state is None or is_stale:
            state = {"phase": "load", "after": None, "from": now, "again": is_stale}
        if state["phase"] == "load":
            yield from self._load(entity, state)
            state = {"phase": "events", "since": state["from"]}
        else:
            yield from self._repull(entity, now)
        yield from self._changes(entity, state["since"] - OVERLAP, now)

    def totals(self, entity: str, state: dict | None) -> dict:
        """Charges and refunds of the last complete day, as Stripe's balance has them."""
        kinds = {"charges": ("charge", "payment"), "refunds": ("refund", "payment_refund")}.get(entity)
        if kinds is None:
            return {}
        end = int(self.clock()) // DAY * DAY
        count = 0
        for page in self._pages("balance_transactions", {}):
            count += sum(end - DAY <= t["created"] < end and t["type"] in kinds for t in page)
            if page and page[-1]["created"] < end - DAY:
                break
        day = datetime.fromtimestamp(end - DAY, UTC).date()
        landed = f"count(*) filter (where status = 'succeeded' and created_at >= '{day} 00:00Z' and created_at < '{day + timedelta(1)} 00:00Z')"
        if entity == "refunds":
            landed = landed.replace("filter (where", "filter (where coalesce(reason, '') != 'dispute' and")
        return {f"succeeded on {day}": (count, landed)}

    def _load(self, entity: str, state: dict) -> Iterator[Page]:
        path, parameters = self.lists[entity]
        # what is listed again after a long sleep is newer than what stands
        read_at = state["from"] if state["again"] else None
        for page in self._pages(path, parameters, state["after"]):
            rows = [row for thing in page for row in self._rows(entity, thing, read_at)]
            yield Page(rows, {**state, "after": page[-1]["id"]} if page else None)
        if entity == "refunds":
            yield Page([row for page in self._disputes() for row in page], None)
        yield Page([], {"phase": "events", "since": state["from"]})

    def _repull(self, entity: str, now: int) -> Iterator[Page]:
        """Young objects again: an event that never came loses nothing."""
        oldest = now - self.source.options.get("repull_days", 2) * DAY
        if entity == "subscriptions":
            young = list(self._young("subscriptions", oldest))
            self._recall(young)
            known = {r["subscription_id"] for r in self._newest.values()}
            yield Page([row for s in young if s["id"] not in known for row in self._history(s)], None)
            return
        yield Page([row for thing in self._young(entity, oldest) for row in self._rows(entity, thing, None)], None)

    def _young(self, entity: str, oldest: int) -> Iterator[dict]:
        path, parameters = self.lists[entity]
        for page in self._pages(path, parameters):
            yield from (thing for thing in page if thing["created"] >= oldest)
            if page and page[0]["created"] >= page[-1]["created"] < oldest:
                return

    def _changes(self, entity: str, since: int, now: int) -> Iterator[Page]:
        """The events in the order of time, a day at a time: each day is a place to go on from."""
        start = since
        while start <= now:
            end = min(start + DAY, now + 1)
            found = {}
            for kind in EVENTS[entity]:
                for page in self._pages("events", {"type": kind, "created[gte]": start, "created[lt]": end}):
                    # pages may repeat an event while new ones come
                    found.update({event["id"]: event for event in page})
            events = sorted(found.values(), key=event_order)
            if entity == "subscriptions":
                self._recall([e["data"]["object"] for e in events])
            rows = [row for event in events for row in self.event_rows(entity, event)]
            yield Page(rows, {"phase": "events", "since": min(end, now)})
            start = end

    def event_rows(self, entity: str, event: dict) -> list[dict]:
        """What one event changes; of subscriptions each event must come after those before it (`event_order`)."""
        thing, at = event["data"]["object"], event["created"]
        if entity == "subscriptions":
            if event["type"].startswith("customer.discount"):
                if not thing.get("subscription"):
                    return []
                thing = self.http.get(f"subscriptions/{thing['subscription']}")
            return self._as_of(thing, at)
        if event["type"] == "customer.deleted":
            return [{**row, "deleted_at": _time(at)} for row in self._rows(entity, thing, at)]
        return self._rows(entity, thing, at)

    def _rows(self, entity: str, thing: dict, read_at: int | None) -> list[dict]:
        if entity == "subscriptions":
            return self._history(thing)
        make = {"accounts": _account, "charges": self._charge, "refunds": _refund}[entity]
        if entity == "refunds" and thing.get("object") == "dispute":
            make = _dispute
        row = make(thing)
        return [{**row, "updated_at": _time(read_at or thing["created"])}] if row else []

    def _charge(self, charge: dict) -> dict:
        card = (charge.get("payment_method_details") or {}).get("card") or {}
        address = (charge.get("billing_details") or {}).get("address") or {}
        captured = charge.get("captured", True)
        amount = charge.get("amount_captured") if captured and charge.get("amount_captured") else charge["amount"]
        invoice = charge.get("invoice")
        if isinstance(invoice, str):
            invoice = self._kept(self._invoices, "invoices", invoice)
        return {
            "charge_id": charge["id"], "payment_id": _id(charge.get("payment_intent")),
            # somebody paid without an account: one of its own, so that the cash is not lost
            "account_id": _id(charge.get("customer")) or f"guest_{charge['id']}",
            "subscription_id": _id((invoice or {}).get("subscription")), "amount": _whole(amount, charge["currency"]),
            "currency": charge["currency"].upper(),
            "status": "pending" if charge["status"] == "succeeded" and not captured else charge["status"],
            "failure_code": charge.get("failure_code"), "country": card.get("country") or address.get("country"),
            "created_at": _time(charge["created"]),
        }  # fmt: skip

    def _disputes(self) -> Iterator[list[dict]]:
        if self.source.options.get("disputes", True):
            for page in self._pages("disputes", {}):
                yield [row for dispute in page for row in self._rows("refunds", dispute, None)]

    # subscriptions

    def _history(self, subscription: dict) -> list[dict]:
        """The rows of a subscription up to now: billing periods as they were invoiced, then what it is today."""
        spans = []
        for page in self._pages("invoices", {"subscription": subscription["id"]}):
            for invoice in page:
                if invoice.get("status", "paid") not in INVOICED:
                    continue
                for line in invoice["lines"]["data"]:
                    if (
                        line.get("type") == "subscription"
                        and not line.get("proration")
                        and line.get("subscription_item")
                    ):
                        period, terms = line["period"], self._line_terms(subscription, invoice, line)
                        spans.append((period["start"], line["subscription_item"], period["end"], terms))
        begun, ended = subscription.get("start_date") or subscription["created"], subscription.get("ended_at")
        rows: list[dict] = []
        for start, item, _, terms in sorted(spans, key=lambda s: (s[1], s[0])):
            self._follow(rows, subscription["id"], item, start, terms)
        present = self._items(subscription)
        for item in present:
            terms = self._terms(subscription, item)
            own = [r for r in rows if r["subscription_item_id"] == item["id"]]
            if not own:
                trial_end = subscription.get("trial_end")
                start = begun
                if trial_end and trial_end > begun and subscription["status"] != "trialing":
                    self._follow(
                        rows,
                        subscription["id"],
                        item["id"],
                        begun,
                        {**terms, "status": "trialing", "cancel_reason": None},
                    )
                    start = trial_end
                if ended and ended > start:
                    self._follow(
                        rows,
                        subscription["id"],
                        item["id"],
                        start,
                        {**terms, "status": "active", "cancel_reason": None},
                    )
                at = ended or start
            else:
                newest = max(_second(r["valid_from"]) for r in own)
                at = ended or max(subscription.get("current_period_start") or begun, newest)
            self._follow(rows, subscription["id"], item["id"], at, terms)
        for item in {r["subscription_item_id"] for r in rows} - {i["id"] for i in present}:
            # one that was taken away since: it ended with its last invoiced period
            last = max((r for r in rows if r["subscription_item_id"] == item), key=lambda r: r["valid_from"])
            last["valid_to"] = _time(ended or max(end for _, of, end, _ in spans if of == item))
        for row in rows:
            row["updated_at"] = row["valid_to"] or row["valid_from"]
        self._remember(rows)
        return rows

    def _as_of(self, subscription: dict, at: int) -> list[dict]:
        """What a subscription's state at a moment changes in its history: rows that end then, rows that begin then."""
        moment, rows = _time(at), []
        items = {item["id"]: self._terms(subscription, item) for item in self._items(subscription)}
        known = [r for r in self._newest.values() if r["subscription_id"] == subscription["id"]]
        for last in known:
            terms = items.get(last["subscription_item_id"])
            if last["valid_from"] >= moment or last["valid_to"] is not None or terms == _terms_of(last):
                continue
            rows.append({**last, "valid_to": moment, "updated_at": moment})
        for item, terms in items.items():
            last = self._newest.get(item)
            if last and (last["valid_from"] >= moment or (last["valid_to"] is None and terms == _terms_of(last))):
                continue
            begun = moment if known else _time(min(at, subscription.get("start_date") or at))
            rows.append({"subscription_item_id": item, "subscription_id": subscription["id"], **terms,
                         "valid_from": begun, "valid_to": None, "updated_at": moment})  # fmt: skip
        self._remember(rows)
        return rows

    def _follow(self, rows: list[dict], subscription: str, item: str, start: int, terms: dict) -> None:
        """Add a span to an item's rows in the order of time: the same terms go on, others begin a row."""
        last = next((r for r in reversed(rows) if r["subscription_item_id"] == item), None)
        if last and _terms_of(last) == terms:
            return
        if last and last["valid_from"] == _time(start):
            last.update(terms)
            return
        if last:
            last["valid_to"] = _time(start)
        rows.append(
            {
                "subscription_item_id": item,
                "subscription_id": subscription,
                **terms,
                "valid_from": _time(start),
                "valid_to": None,
            }
        )

    def _remember(self, rows: list[dict]) -> None:
        for row in rows:
            known = self._newest.get(row["subscription_item_id"])
            if known is None or row["valid_from"] >= known["valid_from"]:
                self._newest[row["subscription_item_id"]] = row

    def _recall(self, things: list[dict]) -> None:
        """The rows that stand in the warehouse for what the events are about."""
        wanted = {_id(t.get("subscription")) if t.get("object") == "discount" else t["id"] for t in things} - {None}
        unknown = sorted(wanted - {r["subscription_id"] for r in self._newest.values()})
        if unknown:
            self._remember([from_landed(row) for row in self.landed("subscriptions", "subscription_id", unknown)])

    def _items(self, subscription: dict) -> list[dict]:
        items = subscription["items"]
        if items.get("has_more"):
            return [i for page in self._pages("subscription_items", {"subscription": subscription["id"]}) for i in page]
        return items["data"]

    def _terms(self, subscription: dict, item: dict) -> dict:
        price, quantity = item.get("price") or item["plan"], item.get("quantity")
        status = "paused" if subscription.get("pause_collection") else subscription["status"]
        details = subscription.get("cancellation_details") or {}
        percent, amount = self._discounts(subscription, item)
        return self._priced(price, quantity, percent, amount) | {
            "account_id": _id(subscription["customer"]), "status": status,
            "cancel_reason": (details.get("feedback") or details.get("reason")) if status == "canceled" else None,
        }  # fmt: skip

    def _line_terms(self, subscription: dict, invoice: dict, line: dict) -> dict:
        """What an invoice line says of its period: the discounts are those that were taken off then, once-only ones left out."""
        price = line.get("price") or line["plan"]
        taken = sum(d["amount"] for d in line.get("discount_amounts") or [] if not _is_once(d.get("discount")))
        is_trial = (
            line["amount"] == 0
            and bool(subscription.get("trial_end"))
            and line["period"]["end"] <= subscription["trial_end"]
        )
        return self._priced(price, line.get("quantity"), None, taken or None) | {
            "account_id": _id(invoice["customer"]), "status": "trialing" if is_trial else "active", "cancel_reason": None,
        }  # fmt: skip

    def _priced(self, price: dict, quantity, percent, amount) -> dict:
        recurring = price.get("recurring") or price
        is_metered = recurring.get("usage_type") == "metered"
        units = Decimal(quantity or 0) if not is_metered else Decimal(0)
        tiers = (self.source.options.get("plan_tiers") or {}).get(price["id"]) or (price.get("metadata") or {}).get(
            "plan_tier"
        )
        return {
            "plan_id": price["id"], "plan_tier": tiers, "billing_interval": recurring["interval"],
            "interval_count": str(recurring.get("interval_count") or 1), "quantity": _plain(units),
            "unit_amount": _plain(_hundredths(self._unit_amount(price, units), price["currency"])),
            "currency": price["currency"].upper(), "discount_percent": _plain(percent),
            "discount_amount": _plain(_hundredths(amount, price["currency"])), "is_metered": "true" if is_metered else "false",
        }  # fmt: skip

    def _unit_amount(self, price: dict, units: Decimal) -> Decimal | None:
        """What one unit costs in a period; of tiers and packages the price of all units, over their number."""
        if price.get("billing_scheme") == "tiered":
            if not price.get("tiers"):
                price = self._kept(self._prices, "prices", price["id"], {"expand[]": "tiers"})
            if not price.get("tiers"):
                # nobody tells them: the row goes to quarantine
                return None
            return _tiered(price["tiers"], price.get("tiers_mode"), units) / (units or 1)
        single = Decimal(str(price.get("unit_amount_decimal") or price.get("unit_amount") or price.get("amount") or 0))
        package = price.get("transform_quantity")
        if package and units:
            packages = units / package["divide_by"]
            packages = math.ceil(packages) if package["round"] == "up" else math.floor(packages)
            return single * packages / units
        return single

    def _discounts(self, subscription: dict, item: dict) -> tuple[Decimal | None, Decimal | None]:
        """(percent, amount off) that recur on an item: its own, the subscription's, else the customer's."""
        given = [d for d in (item.get("discounts") or []) if isinstance(d, dict)]
        general = [d for d in (subscription.get("discounts") or []) if isinstance(d, dict)]
        general = general or [d for d in [subscription.get("discount")] if d]
        if not given and not general:
            customer = subscription["customer"]
            customer = customer if isinstance(customer, dict) else self._kept(self._customers, "customers", customer)
            general = [d for d in [customer.get("discount")] if d]
        rest, amount = Decimal(1), Decimal(0)
        for discount in (*given, *general):
            coupon = discount["coupon"]
            if _is_once(discount):
                continue
            rest *= 1 - Decimal(str(coupon.get("percent_off") or 0)) / 100
            amount += Decimal(coupon.get("amount_off") or 0) * (
                1 if discount in given else self._share(subscription, item)
            )
        return (100 * (1 - rest) if rest != 1 else None), amount or None

    def _share(self, subscription: dict, item: dict) -> Decimal:
        """An item's part of what the subscription costs: an amount off is spread over its items."""

        def cost(i: dict) -> Decimal:
            price = i.get("price") or i["plan"]
            units = Decimal(i.get("quantity") or 0)
            return (self._unit_amount(price, units) or 0) * units

        total = sum(cost(i) for i in self._items(subscription))
        return cost(item) / total if total else Decimal(1) / len(self._items(subscription))

    # the API

    def _pages(self, path: str, parameters: dict, after: str | None = None) -> Iterator[list[dict]]:
        """The pages of a list. A page that only repeats what was there ends it: asking on would never end."""
        seen: set = set()
        while True:
            answer = self.http.get(path, {"limit": PAGE, **parameters, **({"starting_after": after} if after else {})})
            page = [thing for thing in answer["data"] if thing["id"] not in seen]
            seen |= {thing["id"] for thing in page}
            if page:
                yield page
            if not answer.get("has_more"):
                return
            if not page:
                raise NorthstarError(f"Stripe's list of {path} repeats itself after {after}; the next run asks again")
            after = page[-1]["id"]

    def _kept(self, kept: dict, path: str, name: str, parameters: dict | None = None) -> dict:
        if name not in kept:
            try:
                kept[name] = self.http.get(f"{path}/{name}", parameters)
            except Refused as exc:
                if exc.status != 404:
                    raise
                kept[name] = {}
        return kept[name]


def event_order(event: dict) -> tuple:
    """By time; within a second a subscription is created before anything else happens to it."""
    return event["created"], event["type"] != "customer.subscription.created", event["id"]


def _account(customer: dict) -> dict:
    address = customer.get("address") or {}
    return {
        "account_id": customer["id"], "account_type": "customer", "email": customer.get("email"), "full_name": customer.get("name"),
        "country": address.get("country"), "created_at": _time(customer["created"]),
    }  # fmt: skip


def _refund(refund: dict) -> dict | None:
    if refund.get("object", "refund") != "refund" or not refund.get("charge"):
        return None
    return {
        "refund_id": refund["id"], "charge_id": _id(refund["charge"]), "amount": _whole(refund["amount"], refund["currency"]),
        "currency": refund["currency"].upper(), "reason": refund.get("reason"),
        "status": {"requires_action": "pending"}.get(refund.get("status"), refund.get("status") or "succeeded"),
        "created_at": _time(refund["created"]),
    }  # fmt: skip


def _dispute(dispute: dict) -> dict | None:
    """Money that a lost dispute took back, at the moment when it was taken."""
    if dispute["status"] != "lost":
        return None
    return {
        "refund_id": dispute["id"], "charge_id": _id(dispute["charge"]), "amount": _whole(dispute["amount"], dispute["currency"]),
        "currency": dispute["currency"].upper(), "reason": "dispute", "status": "succeeded", "created_at": _time(dispute["created"]),
    }  # fmt: skip


def _tiered(tiers: list[dict], mode: str | None, units: Decimal) -> Decimal:
    def price(tier: dict, count: Decimal) -> Decimal:
        single = Decimal(str(tier.get("unit_amount_decimal") or tier.get("unit_amount") or 0))
        return single * count + Decimal(str(tier.get("flat_amount_decimal") or tier.get("flat_amount") or 0))

    total, below = Decimal(0), Decimal(0)
    for tier in tiers:
        limit = None if tier.get("up_to") in (None, "inf") else Decimal(tier["up_to"])
        is_last = limit is None or units <= limit
        if mode == "volume":
            if is_last:
                return price(tier, units)
            continue
        total += price(tier, (units if is_last else limit) - below)
        if is_last:
            return total
        below = limit
    return total


def _is_once(discount) -> bool:
    return isinstance(discount, dict) and (discount.get("coupon") or {}).get("duration") == "once"


def _terms_of(row: dict) -> dict:
    return {name: row.get(name) for name in TERMS}


def from_landed(row: dict) -> dict:
    """A landed row in this module's own forms, so that terms compare."""

    def form(value):
        if isinstance(value, datetime):
            return _time(int(value.timestamp()))
        if isinstance(value, bool):
            return "true" if value else "false"
        return _plain(value) if isinstance(value, Decimal) else str(value) if isinstance(value, int) else value

    names = (*TERMS, "subscription_item_id", "subscription_id", "valid_from", "valid_to", "updated_at")
    return {name: form(row[name]) for name in names}


def _plain(value: Decimal | None) -> str | None:
    """A number as text, to the 12 digits that the warehouse keeps, without zeros that say nothing."""
    if value is None:
        return None
    return f"{round(Decimal(value), 12).normalize():f}"


def _hundredths(amount, currency: str):
    return Decimal(amount) / 100 if amount is not None and currency.upper() in HUNDREDTHS else amount


def _whole(amount: int, currency: str) -> int:
    return int(_hundredths(amount, currency))


def _id(thing) -> str | None:
    return thing["id"] if isinstance(thing, dict) else thing


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
