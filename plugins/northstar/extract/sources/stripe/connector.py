"""A Stripe account as a source: first all objects, page by page, then the changes that events report."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from northstar.base.errors import NorthstarError
from northstar.connections.find import Connection
from northstar.extract.sources.declared import ContractRow, FindLanded, Page, Source, State, Totals, check_options
from northstar.extract.sources.http import HttpClient, JsonObject, Parameters
from northstar.extract.sources.stripe import objects
from northstar.extract.sources.stripe.api import Api, Client
from northstar.extract.sources.stripe.events import events_between, spool_events
from northstar.extract.sources.stripe.forms import id_of, time_of
from northstar.extract.sources.stripe.history import History
from northstar.extract.sources.stripe.terms import Terms

ENTITIES = ("accounts", "subscriptions", "charges", "refunds")
OPTIONS = {"test_mode", "plan_tiers", "repull_days", "disputes", "lists"}
ADDRESS = "https://api.stripe.com"
# the version whose objects this package reads; newer ones moved charge.invoice and invoice.subscription elsewhere
API_VERSION = "2024-06-20"
PER_SECOND = 20  # Stripe's limit is 100 in live mode, 25 in test mode
# 2: ties in time, ends of discounts, prices with tax, and ended_at and trial_end are read
READING = 2
DAY = 86_400
EVENTS_KEPT = 29 * DAY
OVERLAP = 600  # events are listed by the second, and some appear a little late


def connect(source: Source, connection: Connection) -> "Stripe":
    """A Stripe account. Raises NorthstarError for unknown options, and for a test key that the source does not ask for."""
    check_options(source, OPTIONS)
    key = connection.secret()
    if "_test_" in key:
        require_play_money_allowed(source, "the key is one of Stripe's test mode")
    headers = {"Authorization": f"Bearer {key}", "Stripe-Version": API_VERSION}
    return Stripe(source, HttpClient(connection.url(ADDRESS) + "/v1", headers, source.per_second or PER_SECOND))


def require_play_money_allowed(source: Source, reason: str) -> None:
    """Raise NorthstarError unless the source asks for Stripe's test mode, and always in a production home."""
    if source.is_production:
        raise NorthstarError(
            f"source {source.name}: {reason}, and this is a production home, which accepts no play money"
        )
    if not source.options.get("test_mode"):
        raise NorthstarError(f"source {source.name}: {reason}; set test_mode: true to read play money")


class Stripe:
    """A connector of northstar.extract.sources.declared.Connector's shape."""

    find_landed: FindLanded = staticmethod(lambda *_: [])

    def __init__(self, source: Source, http: Client, clock: Callable[[], float] | None = None):
        self.source, self.http = source, http
        self.clock = clock or (lambda: http.now("events", {"limit": 1}))
        self.api = Api(http, source.options.get("lists"))
        self.history = History(self.api, Terms(self.api, source.options.get("plan_tiers")))
        self._invoices: dict[str, JsonObject] = {}
        self._charges: dict[str, JsonObject] = {}
        self._payment_intents: dict[str, JsonObject] = {}

    def check(self) -> str:
        """Ask for one object of each list that reading needs."""
        lists = [self.api.lists[entity][0] for entity in self.source.entities]
        other_lists = ["invoices"] if "subscriptions" in lists else []
        other_lists += ["disputes"] if "refunds" in lists and self.source.options.get("disputes", True) else []
        for path in (*lists, *other_lists, "events"):
            self.http.get(path, {"limit": 1})
        return f"Stripe: may read {', '.join(lists)}"

    def read(self, entity: str, state: State | None) -> Iterator[Page]:
        """All objects once, then the changes that events report; see the package's docstring."""
        now = int(self.clock())
        is_stale = state is not None and state["phase"] == "events" and now - state["since"] > EVENTS_KEPT
        if state is None or is_stale:
            state = {"phase": "load", "after": None, "from": now, "again": is_stale}
        self.history.ends = dict(state.get("ends") or {})
        if state["phase"] == "load":
            yield from self._load(entity, state)
            state = {"phase": "events", "since": state["from"]}
        else:
            yield from self._read_young_again(entity, now)
        yield from self._changes(entity, state["since"] - OVERLAP, now)

    def totals(self, entity: str, state: State | None) -> Totals:
        """Number, and amount by currency, of the last complete day's charges and refunds, as Stripe's balance has them."""
        kinds = {"charges": ("charge", "payment"), "refunds": ("refund", "payment_refund")}.get(entity)
        if kinds is None:
            return {}
        end = int(self.clock()) // DAY * DAY
        count = 0
        amounts: dict[str, int] = {}
        parameters: Parameters = {"created[gte]": end - DAY, "created[lt]": end, "expand[]": "data.source"}
        for page in self.api.pages("balance_transactions", parameters):
            for transaction in page:
                if end - DAY <= transaction["created"] < end and transaction["type"] in kinds:
                    count += 1
                    amount, currency = objects.moved_amount(transaction)
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

    def _load(self, entity: str, state: State) -> Iterator[Page]:
        path, parameters = self.api.lists[entity]
        # what is listed again after a long pause is newer than the landed rows
        read_at = state["from"] if state["again"] else None
        spool = None
        if entity == "subscriptions":
            spool = spool_events(self.api, entity, state["from"] - EVENTS_KEPT, state["from"])
        for page in self.api.pages(path, parameters, state["after"]):
            if spool:
                self.history.recall(page, self.find_landed)
                rows: list[ContractRow] = [
                    row
                    for s in page
                    for row in self.history.full_history(
                        s, spool.about(s["id"], id_of(s["customer"]) or ""), state["from"]
                    )
                ]
            else:
                rows = [row for thing in page for row in self._rows(entity, thing, read_at)]
            yield Page(rows, self._noted({**state, "after": page[-1]["id"]}) if page else None)
        if entity == "refunds":
            yield Page([row for page in self._disputes() for row in page], None)
        yield Page([], self._noted({"phase": "events", "since": state["from"]}))

    def _noted(self, state: State) -> State:
        """The state, with the discounts that will end, which no event may report."""
        return {**state, "ends": dict(self.history.ends)} if self.history.ends else state

    def _read_young_again(self, entity: str, now: int) -> Iterator[Page]:
        """List young objects again, so that nothing is lost when an event never came."""
        oldest = now - self.source.options.get("repull_days", 2) * DAY
        if entity == "subscriptions":
            young_subscriptions = list(self._young_objects("subscriptions", oldest))
            self.history.recall(young_subscriptions, self.find_landed)
            known_subscriptions = self.history.subscription_ids()
            yield Page(
                [
                    row
                    for s in young_subscriptions
                    if s["id"] not in known_subscriptions
                    for row in self.history.history_before_events(s) + self.history.advance(now)
                ],
                None,
            )
            return
        yield Page(
            [row for thing in self._young_objects(entity, oldest) for row in self._rows(entity, thing, None)], None
        )

    def _young_objects(self, entity: str, oldest: int) -> Iterator[JsonObject]:
        path, parameters = self.api.lists[entity]
        for page in self.api.pages(path, parameters):
            yield from (thing for thing in page if thing["created"] >= oldest)
            if page and page[0]["created"] >= page[-1]["created"] < oldest:
                return

    def _changes(self, entity: str, since: int, now: int) -> Iterator[Page]:
        """The changes in the order of time, one day at a time. Reading can go on after each day."""
        start = since
        if entity == "subscriptions":
            self.history.spool = spool_events(self.api, entity, since, now + 1)
        while start <= now:
            end = min(start + DAY, now + 1)
            if entity == "subscriptions":
                events = self.history.spool.between(start, end)
                ending: list[JsonObject] = [{"id": name} for name, at in self.history.ends.items() if at < end]
                self.history.recall([*(e["data"]["object"] for e in events), *ending], self.find_landed)
                self.history.learn(events)
            else:
                events = events_between(self.api, entity, start, end)
            rows = [row for event in events for row in self.event_rows(entity, event)]
            if entity == "subscriptions":
                rows += self.history.advance(end - 1)
            yield Page(rows, self._noted({"phase": "events", "since": min(end, now)}))
            start = end

    def event_rows(self, entity: str, event: JsonObject) -> Sequence[ContractRow]:
        """The rows that one event changes. Events about subscriptions must come `in_order`, and after `learn` has seen them."""
        if entity == "subscriptions":
            return self.history.rows_of(event)
        thing, at = event["data"]["object"], event["created"]
        if event["type"] == "customer.deleted":
            return [{**row, "deleted_at": time_of(at)} for row in self._rows(entity, thing, at)]
        return self._rows(entity, thing, at)

    def _rows(self, entity: str, thing: JsonObject, read_at: int | None) -> list[ContractRow]:
        """The rows of an object without a history: none for a dispute that is not lost, which moves no money."""
        if entity == "accounts":
            rows = [objects.account(thing)]
        elif entity == "charges":
            rows = [objects.charge(thing, self._invoice_of(thing))]
        elif thing.get("object") == "dispute":
            rows = [objects.dispute(thing, self._charge_of(thing))] if thing["status"] == "lost" else []
        elif thing.get("object") == "charge":
            # a charge held its refunds until 2022-11-15; since then each refund has an event of its own
            rows = [
                objects.refund(r, id_of(r.get("charge")) or thing["id"])
                for r in (thing.get("refunds") or {}).get("data") or []
            ]
            return [{**row, "updated_at": time_of(read_at or thing["created"])} for row in rows]
        else:
            rows = [objects.refund(thing, self._charge_of(thing))]
        return [{**row, "updated_at": time_of(read_at or thing["created"])} for row in rows]

    def _invoice_of(self, charge: JsonObject) -> JsonObject | None:
        """What a charge is for. Since 2025-03-31.basil events do not say it; the charge itself does, in the version that is asked for."""
        if "invoice" not in charge:
            charge = self.api.cached(self._charges, "charges", charge["id"], {"expand[]": "invoice"})
        invoice: JsonObject | str | None = charge.get("invoice")
        return self.api.cached(self._invoices, "invoices", invoice) if isinstance(invoice, str) else invoice

    def _charge_of(self, thing: JsonObject) -> str | None:
        """The charge of a refund or dispute, by its payment intent where it does not name one. None where Stripe does not know it: the row goes to quarantine."""
        payment_intent = thing.get("payment_intent")
        if thing.get("charge") or not payment_intent:
            return id_of(thing.get("charge"))
        if isinstance(payment_intent, str):
            payment_intent = self.api.cached(self._payment_intents, "payment_intents", payment_intent)
        # a payment intent held its charges until 2022-11-15, the newest first
        charges = (payment_intent.get("charges") or {}).get("data") or []
        return id_of(payment_intent.get("latest_charge") or next(iter(charges), None))

    def _disputes(self) -> Iterator[list[ContractRow]]:
        if self.source.options.get("disputes", True):
            for page in self.api.pages("disputes", {}):
                yield [row for dispute in page for row in self._rows("refunds", dispute, None)]
