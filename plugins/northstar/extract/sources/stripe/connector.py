"""A Stripe account as a source: what there is, page by page, and then what the events say changed."""

import math
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import orjson

from northstar.base.errors import NorthstarError
from northstar.connections.find import Connection
from northstar.extract.sources.declared import Page, Source, check_options
from northstar.extract.sources.http import HttpClient, Refused

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
    "subscriptions": ("subscriptions", {"status": "all", "expand[]": ["data.discounts", "data.items.data.discounts"]}),
    "charges": ("charges", {"expand[]": "data.invoice"}),
    "refunds": ("refunds", {}),
    "invoices": ("invoices", {"expand[]": ["data.discounts", "data.lines.data.discounts"]}),
}
DISCOUNTS = {"expand[]": ["discounts", "items.data.discounts"]}
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
OVER = ("canceled", "incomplete_expired")
# events that do not say what was before them
BEFORE = {
    "customer.subscription.deleted": {"status": "active", "ended_at": None},
    "customer.subscription.paused": {"status": "active"},
    "customer.subscription.resumed": {"status": "paused"},
}


def connect(source: Source, connection: Connection) -> "Stripe":
    """A Stripe account. Raises NorthstarError for unknown options, and for a test key that the source does not ask for."""
    check_options(source, OPTIONS)
    key = connection.secret()
    if "_test_" in key:
        allow_play_money(source, "the key is one of Stripe's test mode")
    headers = {"Authorization": f"Bearer {key}", "Stripe-Version": API_VERSION}
    return Stripe(source, HttpClient(connection.url(ADDRESS) + "/v1", headers, source.per_second or PER_SECOND))


def allow_play_money(source: Source, what: str) -> None:
    """Raise NorthstarError unless the source asks for Stripe's test mode, and always in a home of production."""
    if source.is_production:
        raise NorthstarError(
            f"source {source.name}: {what}, and this home is one of production: it takes no play money"
        )
    if not source.options.get("test_mode"):
        raise NorthstarError(f"source {source.name}: {what}; say test_mode: true to read play money")


class Stripe:
    """A connector of northstar.extract.sources.declared.Connector's shape."""

    landed: Callable[[str, str, list], list[dict]] = staticmethod(lambda *_: [])

    def __init__(self, source: Source, http: HttpClient, clock: Callable[[], float] | None = None):
        self.source, self.http = source, http
        self.clock = clock or (lambda: http.now("events", {"limit": 1}))
        self.lists = {}
        for entity, (path, parameters) in LISTS.items():
            given = {**parameters, **(source.options.get("lists") or {}).get(entity, {})}
            self.lists[entity] = path, {name: value for name, value in given.items() if value is not None}
        self._newest: dict[str, dict] = {}
        self._customers: dict[str, dict] = {}
        self._prices: dict[str, dict] = {}
        self._invoices: dict[str, dict] = {}
        self._coupons: dict[str, dict] = {}
        self._seen: dict[str, dict] = {}
        self._spool = _Spool()

    def check(self) -> str:
        """Asks each list that reading needs for one object."""
        lists = [self.lists[entity][0] for entity in self.source.entities]
        beside = ["invoices"] if "subscriptions" in lists else []
        beside += ["disputes"] if "refunds" in lists and self.source.options.get("disputes", True) else []
        for path in (*lists, *beside, "events"):
            self.http.get(path, {"limit": 1})
        return f"Stripe: may read {', '.join(lists)}"

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
        """Number, and amount by currency, of the last complete day's charges and refunds, as Stripe's balance has them."""
        kinds = {"charges": ("charge", "payment"), "refunds": ("refund", "payment_refund")}.get(entity)
        if kinds is None:
            return {}
        end = int(self.clock()) // DAY * DAY
        count, amounts = 0, {}
        asked = {"created[gte]": end - DAY, "created[lt]": end, "expand[]": "data.source"}
        for page in self._pages("balance_transactions", asked):
            for transaction in page:
                if end - DAY <= transaction["created"] < end and transaction["type"] in kinds:
                    count += 1
                    amount, currency = _moved(transaction)
                    amounts[currency] = amounts.get(currency, 0) + amount
        day = datetime.fromtimestamp(end - DAY, UTC).date()
        of_day = f"status = 'succeeded' and created_at >= '{day} 00:00Z' and created_at < '{day + timedelta(1)} 00:00Z'"
        if entity == "refunds":
            of_day += " and coalesce(reason, '') != 'dispute'"
        return {f"succeeded on {day}": (count, f"count(*) filter (where {of_day})")} | {
            f"{currency} succeeded on {day}": (
                amount, f"coalesce(sum(amount) filter (where {of_day} and currency = '{currency}'), 0)"
            )
            for currency, amount in sorted(amounts.items())
        }  # fmt: skip

    def _load(self, entity: str, state: dict) -> Iterator[Page]:
        path, parameters = self.lists[entity]
        # what is listed again after a long sleep is newer than what stands
        read_at = state["from"] if state["again"] else None
        spool = self._spooled(state["from"] - EVENTS_KEPT, state["from"]) if entity == "subscriptions" else None
        for page in self._pages(path, parameters, state["after"]):
            if spool:
                self._recall(page)
                rows = [
                    row
                    for s in page
                    for row in self._retold(s, spool.about(s["id"], _id(s["customer"])), state["from"])
                ]
            else:
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
        if entity == "subscriptions":
            self._spool = self._spooled(since, now + 1)
        while start <= now:
            end = min(start + DAY, now + 1)
            if entity == "subscriptions":
                events = self._spool.between(start, end)
                self._recall([e["data"]["object"] for e in events])
                self.learn(events)
            else:
                events = self._events(entity, start, end)
            rows = [row for event in events for row in self.event_rows(entity, event)]
            yield Page(rows, {"phase": "events", "since": min(end, now)})
            start = end

    def _events(self, entity: str, start: int, end: int) -> list[dict]:
        found = {}
        for kind in EVENTS[entity]:
            for page in self._pages("events", {"type": kind, "created[gte]": start, "created[lt]": end}):
                # pages may repeat an event while new ones come
                found.update({event["id"]: event for event in page})
        return sorted(found.values(), key=event_order)

    def _spooled(self, start: int, end: int) -> "_Spool":
        spool = _Spool()
        for kind in EVENTS["subscriptions"]:
            for page in self._pages("events", {"type": kind, "created[gte]": start, "created[lt]": end}):
                spool.add(page)
        return spool

    def learn(self, events: list[dict]) -> None:
        """Take up what events tell beside their own moment: the discounts by id, and how things stood before the first of them."""
        met: set = set()
        for event in events:
            thing = event["data"]["object"]
            if thing.get("object") == "discount":
                self._coupons[thing["id"]] = thing
                of, kept = _id(thing.get("customer")), self._customers
                before = {"discount": thing if event["type"].endswith("deleted") else None}
                if event["type"].endswith("updated"):
                    before = {"discount": undone(event)}
                if thing.get("subscription"):
                    continue
            elif thing.get("object") == "subscription":
                of, kept, before = thing["id"], self._seen, undone(event)
            else:
                continue
            if of not in met:
                met.add(of)
                kept[of] = before

    def event_rows(self, entity: str, event: dict) -> list[dict]:
        """What one event changes; of subscriptions each event must come after those before it (`event_order`), learned before."""
        thing, at = event["data"]["object"], event["created"]
        if entity == "subscriptions":
            return [row for changed in self._changed(event) for row in self._as_of(changed, at)]
        if event["type"] == "customer.deleted":
            return [{**row, "deleted_at": _time(at)} for row in self._rows(entity, thing, at)]
        return self._rows(entity, thing, at)

    def _changed(self, event: dict) -> list[dict]:
        """The subscriptions that an event is about, as they were from then on: one, or for a customer's discount all of theirs."""
        thing = event["data"]["object"]
        if not event["type"].startswith("customer.discount"):
            self._seen[thing["id"]] = thing
            return [thing]
        is_gone, of = event["type"].endswith("deleted"), thing.get("subscription")
        if of:
            names = [of]
        else:
            customer = _id(thing.get("customer"))
            self._customers[customer] = {"discount": None if is_gone else thing}
            names = sorted({
                row["subscription_id"] for row in self._newest.values()
                if row["account_id"] == customer and row["valid_to"] is None and row["status"] not in OVER
            })  # fmt: skip
        found = []
        for name in names:
            seen = self._seen.get(name) or self._until_next(name, event["created"])
            if seen and of:
                others = [d for d in seen.get("discounts") or [] if _id(d) != thing["id"]]
                given = [] if is_gone else [thing]
                seen = {**seen, "discount": given[0] if given else None, "discounts": others + given}
            if seen:
                self._seen[name] = seen
                found.append(seen)
        return found

    def _until_next(self, name: str, at: int) -> dict:
        """A subscription as it was between a moment and the next event about it; as it is now where there is none."""
        later = [e for e in self._spool.about(name) if e["created"] >= at and e["data"]["object"]["id"] == name]
        return undone(later[0]) if later else self._asked(f"subscriptions/{name}", DISCOUNTS)

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
            "failure_code": charge.get("failure_code"), "country": _country(card) or _country(address),
            "created_at": _time(charge["created"]),
        }  # fmt: skip

    def _disputes(self) -> Iterator[list[dict]]:
        if self.source.options.get("disputes", True):
            for page in self._pages("disputes", {}):
                yield [row for dispute in page for row in self._rows("refunds", dispute, None)]

    # subscriptions

    def _retold(self, subscription: dict, events: list[dict], now: int) -> list[dict]:
        """The rows of a subscription up to now: before the first of its events from the invoices, then as the events tell."""
        if not events:
            return self._history(subscription)
        self.learn(events)
        own = [e for e in events if e["data"]["object"].get("object") == "subscription"]
        before = self._seen[subscription["id"]] if own else subscription
        is_new = bool(own) and own[0]["type"] == "customer.subscription.created"
        rows = [] if is_new else self._history(before, events[0]["created"])
        for event in events:
            at = event["created"]
            rows += [r for s in self._changed(event) if s["id"] == subscription["id"] for r in self._as_of(s, at)]
        # what no event told of holds since now
        return rows + self._as_of(subscription, subscription.get("ended_at") or now)

    def _history(self, subscription: dict, until: float = math.inf) -> list[dict]:
        """The rows of a subscription up to a moment: those that stand, billing periods as they were invoiced, then what it was at last."""
        spans, standing = [], {r["subscription_item_id"]: r["valid_from"] for r in self._newest.values()}
        path, parameters = self.lists["invoices"]
        for page in self._pages(path, {**parameters, "subscription": subscription["id"]}):
            for invoice in page:
                if invoice.get("status", "paid") not in INVOICED:
                    continue
                for line in invoice["lines"]["data"]:
                    if (
                        line.get("type") == "subscription"
                        and not line.get("proration")
                        and line.get("subscription_item")
                    ):
                        period, item = line["period"], line["subscription_item"]
                        if (
                            _second(standing[item]) < period["start"] < until
                            if item in standing
                            else period["start"] < until
                        ):
                            terms = self._line_terms(subscription, invoice, line)
                            spans.append((period["start"], item, period["end"], terms))
        begun, ended = subscription.get("start_date") or subscription["created"], subscription.get("ended_at")
        rows = [dict(r) for r in self._newest.values() if r["subscription_id"] == subscription["id"]]
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
            if at >= until:
                continue
            self._follow(rows, subscription["id"], item["id"], at, terms)
        for item in {r["subscription_item_id"] for r in rows} - {i["id"] for i in present}:
            # one that was taken away since: it ended with its last invoiced period
            last = max((r for r in rows if r["subscription_item_id"] == item), key=lambda r: r["valid_from"])
            if last["valid_to"] is None:
                told = max(
                    (end for _, of, end, _ in spans if of == item),
                    default=subscription.get("current_period_start") or begun,
                )
                last["valid_to"] = max(_time(min(ended or told, until)), last["valid_from"])
        for row in rows:
            row["updated_at"] = max(row["valid_to"] or row["valid_from"], row.get("updated_at") or "")
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
        is_open = last is not None and last["valid_to"] is None
        if is_open and _terms_of(last) == terms:
            return
        if is_open and last["valid_from"] == _time(start):
            last.update(terms)
            return
        if is_open:
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
        of_customers = {
            _id(t.get("customer")) for t in things if t.get("object") == "discount" and not t.get("subscription")
        } - {None}
        if of_customers:
            found = [from_landed(row) for row in self.landed("subscriptions", "account_id", sorted(of_customers))]
            self._remember([row for row in found if row["subscription_item_id"] not in self._newest])
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
        told = [*(invoice.get("discounts") or []), *(line.get("discounts") or [])]
        known = {d["id"]: d for d in told if isinstance(d, dict)}
        taken = sum(
            d["amount"] for d in line.get("discount_amounts") or []
            if not _is_once(known.get(_id(d.get("discount")), d.get("discount")))
        )  # fmt: skip
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
            "currency": price["currency"].upper(), "discount_percent": percent if isinstance(percent, str) else _plain(percent),
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

    def _discounts(self, subscription: dict, item: dict) -> tuple[Decimal | str | None, Decimal | None]:
        """(percent, amount off) that recur on an item: its own, the subscription's, else the customer's.

        Of a discount that nobody knows any more the percent is its name, which sends the row to quarantine.
        """
        given, general = (self._known_discounts(subscription, of.get("discounts") or []) for of in (item, subscription))
        general = general or [d for d in [subscription.get("discount")] if d]
        unknown = [d for d in (*given, *general) if isinstance(d, str)]
        if unknown:
            return f"discount {unknown[0]}, which nobody knows any more", None
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

    def _known_discounts(self, subscription: dict, told: list) -> list[dict | str]:
        """Discounts as objects: an event names them by id, the listing shows them; a name that stays one is unknown."""
        legacy = subscription.get("discount")
        self._coupons.update({d["id"]: d for d in (*told, legacy) if isinstance(d, dict)})
        if any(isinstance(d, str) and d not in self._coupons for d in told):
            now = self._asked(f"subscriptions/{subscription['id']}", DISCOUNTS)
            shown = [now.get("discounts"), *(i.get("discounts") for i in (now.get("items") or {}).get("data") or [])]
            self._coupons.update({d["id"]: d for part in shown for d in part or [] if isinstance(d, dict)})
        return [d if isinstance(d, dict) else self._coupons.get(d, d) for d in told]

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
        ends: set = set()
        while True:
            answer = self.http.get(path, {"limit": PAGE, **parameters, **({"starting_after": after} if after else {})})
            page = [thing for thing in answer["data"] if thing["id"] not in seen]
            # of a long list only the last page and where each ended
            seen = {thing["id"] for thing in answer["data"]}
            if page:
                yield page
            if not answer.get("has_more"):
                return
            if not page or page[-1]["id"] in ends:
                raise NorthstarError(f"Stripe's list of {path} repeats itself after {after}; the next run asks again")
            after = page[-1]["id"]
            ends.add(after)

    def _kept(self, kept: dict, path: str, name: str, parameters: dict | None = None) -> dict:
        if name not in kept:
            kept[name] = self._asked(f"{path}/{name}", parameters)
        return kept[name]

    def _asked(self, path: str, parameters: dict | None = None) -> dict:
        """An object; {} for one that is no more."""
        try:
            return self.http.get(path, parameters)
        except Refused as exc:
            if exc.status != 404:
                raise
            return {}


class _Spool:
    """Events on disk, in a file that vanishes with it."""

    def __init__(self):
        # each batch is read by a thread of its own
        self._file = sqlite3.connect("", check_same_thread=False)
        self._file.execute(
            "create table events (about text, created int, id text, body blob, primary key (about, created, id)) without rowid"
        )
        self._file.execute("create index by_time on events (created)")

    def add(self, events: list[dict]) -> None:
        """Keep events; one that is there already changes nothing."""
        found = [(_about(event), event["created"], event["id"], orjson.dumps(event)) for event in events]
        self._file.executemany("insert or replace into events values (?, ?, ?, ?)", found)

    def between(self, start: int, end: int) -> list[dict]:
        """The events of a span of time, in their order."""
        return self._found("created >= ? and created < ?", start, end)

    def about(self, *names: str) -> list[dict]:
        """The events about subscriptions, or about customers' own discounts, in their order."""
        return self._found(f"about in ({', '.join('?' * len(names))})", *names)

    def _found(self, where: str, *values) -> list[dict]:
        bodies = self._file.execute(f"select body from events where {where}", values)
        return sorted((orjson.loads(body) for (body,) in bodies), key=event_order)


def event_order(event: dict) -> tuple:
    """By time; within a second a subscription is created before anything else happens to it."""
    return event["created"], event["type"] != "customer.subscription.created", event["id"]


def undone(event: dict) -> dict:
    """The object of an event as it was before it."""
    before = event["data"].get("previous_attributes") or BEFORE.get(event["type"], {})
    return _over(event["data"]["object"], before)


def _over(thing: dict, before: dict) -> dict:
    return thing | {
        name: _over(thing[name], value) if isinstance(value, dict) and isinstance(thing.get(name), dict) else value
        for name, value in before.items()
    }


def _about(event: dict) -> str:
    """The subscription of an event; of a customer's own discount the customer."""
    thing = event["data"]["object"]
    if thing.get("object") != "discount":
        return thing["id"]
    return thing.get("subscription") or _id(thing.get("customer")) or ""


def _moved(transaction: dict) -> tuple[int, str]:
    """What a balance transaction's charge or refund moved, in its own currency: the balance may be kept in another."""
    source = transaction.get("source")
    if isinstance(source, dict):
        amount, currency = source.get("amount_captured") or source["amount"], source["currency"]
    else:
        amount, currency = abs(transaction["amount"]), transaction["currency"]
    return _whole(amount, currency), currency.upper()


def _account(customer: dict) -> dict:
    address = customer.get("address") or {}
    return {
        "account_id": customer["id"], "account_type": "customer", "email": customer.get("email"), "full_name": customer.get("name"),
        "country": _country(address), "created_at": _time(customer["created"]),
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


def _country(thing: dict) -> str | None:
    """The country's code; None for other text, which Stripe takes in an address: it would keep the account or the charge out."""
    code = thing.get("country")
    return code if code and len(code) == 2 else None


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
