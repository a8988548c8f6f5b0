"""The history of subscriptions: a row for each stretch of time in which an item's terms stay the same.

`rows_of` goes forward, event by event, and gives the rows that each event changes; `advance` gives those that begin when a discount ends,
of which there may be no event. `history_before_events` goes back to the time before there are
events, and uses what was invoiced. `full_history` does both for a subscription that is listed for the first time.
"""

import math
from typing import NamedTuple

from northstar.extract.sources.declared import FindLanded
from northstar.extract.sources.http import JsonObject
from northstar.extract.sources.stripe.api import Api, Item
from northstar.extract.sources.stripe.events import OVER, Spool, object_before
from northstar.extract.sources.stripe.forms import id_of, seconds_of, time_of
from northstar.extract.sources.stripe.shapes import line_of, period_start
from northstar.extract.sources.stripe.terms import ItemTerms, SubscriptionRow, Terms, from_landed, terms_of

INVOICED = ("paid", "open", "uncollectible")
# an event comes a little later than what it reports, at most so many seconds
LATE = 3_600


class Span(NamedTuple):
    """A billing period of an item as it was invoiced; times in seconds."""

    item: str
    start: int
    end: int
    terms: ItemTerms


class History:
    """The history of one account's subscriptions, as far as it is known."""

    def __init__(self, api: Api, terms: Terms):
        self._api, self._terms = api, terms
        # the newest row of each item, and each subscription as the last event left it
        self._newest: dict[str, SubscriptionRow] = {}
        self._seen: dict[str, JsonObject] = {}
        # when the first of the discounts that a subscription has now will end
        self.ends: dict[str, int] = {}
        # the events that are being read
        self.spool = Spool()

    def subscription_ids(self) -> set[str]:
        """The ids of the subscriptions of which a row is known."""
        return {row["subscription_id"] for row in self._newest.values()}

    def recall(self, things: list[JsonObject], find_landed: FindLanded) -> None:
        """Load the landed rows of the subscriptions and customers that the events are about."""
        subscriptions = [id_of(t.get("subscription")) if t.get("object") == "discount" else t["id"] for t in things]
        subscription_ids = {name for name in subscriptions if name is not None}
        customers = [
            id_of(t.get("customer")) for t in things if t.get("object") == "discount" and not t.get("subscription")
        ]
        customer_ids = {name for name in customers if name is not None}
        if customer_ids:
            landed_rows = [from_landed(row) for row in find_landed("subscriptions", "account_id", sorted(customer_ids))]
            self._remember_newest([row for row in landed_rows if row["subscription_item_id"] not in self._newest])
        unknown = sorted(subscription_ids - self.subscription_ids())
        if unknown:
            self._remember_newest(
                [from_landed(row) for row in find_landed("subscriptions", "subscription_id", unknown)]
            )

    def learn(self, events: list[JsonObject]) -> None:
        """Keep what events say about more than their own moment: the discounts by id, and each object as it was before its first event."""
        known_ids: set[str] = set()
        for event in events:
            thing = event["data"]["object"]
            if thing.get("object") == "discount":
                self._terms.discounts.by_id[thing["id"]] = thing
                object_id, states = id_of(thing.get("customer")) or "", self._terms.discounts.customers
                earlier_state: JsonObject = {"discount": thing if event["type"].endswith("deleted") else None}
                if event["type"].endswith("updated"):
                    earlier_state = {"discount": object_before(event)}
                if thing.get("subscription"):
                    continue
            elif thing.get("object") == "subscription":
                object_id, states, earlier_state = thing["id"], self._seen, object_before(event)
            else:
                continue
            if object_id not in known_ids:
                known_ids.add(object_id)
                states[object_id] = earlier_state

    # forward, event by event

    def rows_of(self, event: JsonObject) -> list[SubscriptionRow]:
        """The rows that an event changes. Events must come `in_order`, and after `learn` has seen them."""
        names = self._concerned(event)
        rows = [row for name in names for row in self._advanced(name, event["created"])]
        for changed in self._changed(event, names):
            rows += self._rows_at_state(changed, self._moment(event, changed))
        return rows

    def advance(self, until: float) -> list[SubscriptionRow]:
        """The rows that change because a discount has ended by a moment, after the events up to then."""
        return [row for name in sorted(self.ends) for row in self._advanced(name, until)]

    def _advanced(self, name: str, until: float) -> list[SubscriptionRow]:
        rows: list[SubscriptionRow] = []
        while name in self.ends and self.ends[name] <= until:
            end = self.ends.pop(name)
            if state := self._seen.get(name) or self._state_until_next_event(name, end):
                rows += self._rows_at_state(state, end)
        return rows

    def _moment(self, event: JsonObject, subscription: JsonObject) -> int:
        """When what an event reports took place: where its object says so, since the event itself comes a little later."""
        at: int = event["created"]
        thing = event["data"]["object"]
        rows = [
            r for r in self._newest.values() if r["subscription_id"] == subscription["id"] and r["valid_to"] is None
        ]
        moment: int | None = None
        if thing.get("object") == "discount":
            moment = thing.get("end") if event["type"].endswith("deleted") else thing.get("start")
            moment = moment if moment and at - LATE <= moment else None
        elif subscription["status"] in OVER:
            moment = subscription.get("ended_at")
        elif subscription["status"] != "trialing" and any(r["status"] == "trialing" for r in rows):
            moment = subscription.get("trial_end")
        elif period_start(subscription) != period_start(object_before(event)):
            moment = period_start(subscription)
            moment = moment if moment and at - LATE <= moment else None
        if moment is None or moment > at:
            return at
        begun = max((seconds_of(r["valid_from"]) for r in rows), default=moment)
        return max(moment, begun) if begun <= at else at

    def _concerned(self, event: JsonObject) -> list[str]:
        """The ids of the subscriptions that an event is about: one, or all of a customer's for the customer's own discount."""
        thing = event["data"]["object"]
        if thing.get("object") != "discount":
            return [thing["id"]]
        if thing.get("subscription"):
            return [thing["subscription"]]
        customer = id_of(thing.get("customer"))
        return sorted({
            row["subscription_id"] for row in self._newest.values()
            if row["account_id"] == customer and row["valid_to"] is None and row["status"] not in OVER
        })  # fmt: skip

    def _changed(self, event: JsonObject, names: list[str]) -> list[JsonObject]:
        """The subscriptions of these ids as they were after the event."""
        thing = event["data"]["object"]
        if thing.get("object") != "discount":
            self._seen[thing["id"]] = thing
            return [thing]
        is_gone = event["type"].endswith("deleted")
        if not thing.get("subscription"):
            customer, customers = id_of(thing.get("customer")) or "", self._terms.discounts.customers
            standing = (customers.get(customer) or {}).get("discount")
            if not (is_gone and standing and standing["id"] != thing["id"]):
                customers[customer] = {"discount": None if is_gone else thing}
        changed_subscriptions = []
        for name in names:
            state = self._seen.get(name) or self._state_until_next_event(name, event["created"])
            if state:
                self._seen[name] = _with_discount(state, thing, is_gone) if thing.get("subscription") else state
                changed_subscriptions.append(self._seen[name])
        return changed_subscriptions

    def _state_until_next_event(self, name: str, at: int) -> JsonObject:
        """A subscription as it was between a moment and the next event about it; as it is now where no event follows."""
        later = [e for e in self.spool.about(name) if e["created"] >= at and e["data"]["object"]["id"] == name]
        return object_before(later[0]) if later else self._api.subscription(name)

    def _rows_at_state(self, subscription: JsonObject, at: int) -> list[SubscriptionRow]:
        """The rows that a subscription's state at a moment changes in its history: those that end then, and those that begin then."""
        moment = time_of(at)
        rows: list[SubscriptionRow] = []
        items = {item["id"]: self._terms.of_item(subscription, item, at) for item in self._api.items(subscription)}
        newest_rows = [r for r in self._newest.values() if r["subscription_id"] == subscription["id"]]
        for last in newest_rows:
            terms_now = items.get(last["subscription_item_id"])
            if last["valid_from"] > moment or last["valid_to"] is not None or terms_now == terms_of(last):
                continue
            # a row that begins at this very moment is replaced, or ends at once where its item is gone again
            if last["valid_from"] < moment or terms_now is None:
                rows.append({**last, "valid_to": moment, "updated_at": moment})
        for item, terms in items.items():
            newest = self._newest.get(item)
            if newest and (newest["valid_from"] > moment or (newest["valid_to"] is None and terms == terms_of(newest))):
                continue
            valid_from = moment if newest_rows else time_of(min(at, subscription.get("start_date") or at))
            rows.append({"subscription_item_id": item, "subscription_id": subscription["id"], **terms,
                         "valid_from": valid_from, "valid_to": None, "updated_at": moment})  # fmt: skip
        self._remember_newest(rows)
        self._note_end(subscription, at)
        return rows

    def _note_end(self, subscription: JsonObject, at: float) -> None:
        end = None if subscription["status"] in OVER else self._terms.discounts.next_end(subscription, at)
        if end is None:
            self.ends.pop(subscription["id"], None)
        else:
            self.ends[subscription["id"]] = end

    # back, to before there are events

    def full_history(self, subscription: JsonObject, events: list[JsonObject], now: int) -> list[SubscriptionRow]:
        """The rows of a subscription up to now: from the invoices before its first event, and from the events after that."""
        if not events:
            return self.history_before_events(subscription) + self._advanced(subscription["id"], now)
        self.learn(events)
        own = [e for e in events if e["data"]["object"].get("object") == "subscription"]
        first_state = self._seen[subscription["id"]] if own else subscription
        is_new = bool(own) and own[0]["type"] == "customer.subscription.created"
        rows = [] if is_new else self.history_before_events(first_state, events[0]["created"])
        for event in events:
            rows += [row for row in self.rows_of(event) if row["subscription_id"] == subscription["id"]]
        rows += self._advanced(subscription["id"], now)
        # a change that no event reported holds from now on
        return rows + self._rows_at_state(subscription, subscription.get("ended_at") or now)

    def history_before_events(self, subscription: JsonObject, until: float = math.inf) -> list[SubscriptionRow]:
        """The rows of a subscription up to a moment: the known rows, then the billing periods as they were invoiced, then its last state."""
        spans = self._invoiced_spans(subscription, until)
        rows = [r.copy() for r in self._newest.values() if r["subscription_id"] == subscription["id"]]
        for span in sorted(spans, key=lambda span: (span.item, span.start)):
            _append_span(rows, subscription["id"], span.item, span.start, span.terms)
        present = self._api.items(subscription)
        for item in present:
            self._add_last_state(rows, subscription, item, until)
        for name in {r["subscription_item_id"] for r in rows} - {i["id"] for i in present}:
            _end_removed_item(rows, subscription, name, [span.end for span in spans if span.item == name], until)
        for row in rows:
            row["updated_at"] = max(row["valid_to"] or row["valid_from"], row["updated_at"] or "")
        self._remember_newest(rows)
        open_since = [seconds_of(r["valid_from"]) for r in rows if r["valid_to"] is None]
        if open_since:
            self._note_end(subscription, min(open_since))
            if subscription["id"] in self.ends:
                self._seen.setdefault(subscription["id"], subscription)
        return rows

    def _invoiced_spans(self, subscription: JsonObject, until: float) -> list[Span]:
        """The invoiced billing periods that begin before `until`, and after the newest row of their item."""
        spans: list[Span] = []
        newest_starts = {r["subscription_item_id"]: r["valid_from"] for r in self._newest.values()}
        path, parameters = self._api.lists["invoices"]
        for page in self._api.pages(path, {**parameters, "subscription": subscription["id"]}):
            for invoice in page:
                if invoice.get("status", "paid") not in INVOICED:
                    continue
                for line in invoice["lines"]["data"]:
                    item, _, is_recurring = line_of(line)
                    if not is_recurring or not item:
                        continue
                    period, since = (
                        line["period"],
                        seconds_of(newest_starts[item]) if item in newest_starts else -math.inf,
                    )
                    if since < period["start"] < until:
                        terms = self._terms.of_line(subscription, invoice, line)
                        spans.append(Span(item, period["start"], period["end"], terms))
        return spans

    def _add_last_state(self, rows: list[SubscriptionRow], subscription: JsonObject, item: Item, until: float) -> None:
        """Add an item's last state to the rows: since its newest row, or else since the subscription began, after the trial if it had one."""
        begun, end = subscription.get("start_date") or subscription["created"], subscription.get("ended_at")
        own = [r for r in rows if r["subscription_item_id"] == item["id"]]
        if own:
            newest = max(seconds_of(r["valid_from"]) for r in own)
            at = end or max(period_start(subscription) or begun, newest)
        else:
            trial_end, start = subscription.get("trial_end"), begun
            if trial_end and trial_end > begun and subscription["status"] != "trialing":
                trial: ItemTerms = {
                    **self._terms.of_item(subscription, item, begun),
                    "status": "trialing",
                    "cancel_reason": None,
                }
                _append_span(rows, subscription["id"], item["id"], begun, trial)
                start = trial_end
            if end and end > start:
                active: ItemTerms = {
                    **self._terms.of_item(subscription, item, start),
                    "status": "active",
                    "cancel_reason": None,
                }
                _append_span(rows, subscription["id"], item["id"], start, active)
            at = end or start
        if at < until:
            _append_span(rows, subscription["id"], item["id"], at, self._terms.of_item(subscription, item, at))

    def _remember_newest(self, rows: list[SubscriptionRow]) -> None:
        for row in rows:
            newest_row = self._newest.get(row["subscription_item_id"])
            if newest_row is None or row["valid_from"] >= newest_row["valid_from"]:
                self._newest[row["subscription_item_id"]] = row


def _append_span(rows: list[SubscriptionRow], subscription: str, item: str, start: int, terms: ItemTerms) -> None:
    """Add a span to an item's rows, in the order of time. The same terms continue the last row; others begin a new one."""
    last = next((r for r in reversed(rows) if r["subscription_item_id"] == item), None)
    if last is not None and last["valid_to"] is None:
        if terms_of(last) == terms:
            return
        if last["valid_from"] == time_of(start):
            # the keys of the terms are some of the row's keys; the type checker wants all of them here
            last.update(terms)  # type: ignore[typeddict-item]
            return
        last["valid_to"] = time_of(start)
    rows.append({"subscription_item_id": item, "subscription_id": subscription, **terms,
                 "valid_from": time_of(start), "valid_to": None, "updated_at": ""})  # fmt: skip


def _with_discount(subscription: JsonObject, discount: JsonObject, is_gone: bool) -> JsonObject:
    """A subscription, or its item that a discount is about, with the discount or without it."""

    def changed(holder: JsonObject) -> JsonObject:
        others = [d for d in holder.get("discounts") or [] if id_of(d) != discount["id"]]
        return {**holder, "discounts": others if is_gone else [*others, discount]}

    if item := discount.get("subscription_item"):
        items = [changed(i) if i["id"] == item else i for i in subscription["items"]["data"]]
        return {**subscription, "items": {**subscription["items"], "data": items}}
    legacy = subscription.get("discount")
    if not is_gone:
        legacy = discount
    elif id_of(legacy) == discount["id"]:
        legacy = None
    return {**changed(subscription), "discount": legacy}


def _end_removed_item(
    rows: list[SubscriptionRow], subscription: JsonObject, item: str, invoiced: list[int], until: float
) -> None:
    """End the rows of an item that was removed since, with its last invoiced period."""
    last = max((r for r in rows if r["subscription_item_id"] == item), key=lambda r: r["valid_from"])
    if last["valid_to"] is None:
        start = subscription.get("start_date") or subscription["created"]
        period_end = max(invoiced, default=period_start(subscription) or start)
        at = min(subscription.get("ended_at") or period_end, until)
        last["valid_to"] = max(time_of(at), last["valid_from"])
