"""What a subscription's item costs: prices with their tiers and packages, the tax within them, and the discounts that recur."""

import math
from decimal import Decimal

from northstar.extract.sources.http import Json, JsonObject
from northstar.extract.sources.stripe.api import DISCOUNTS, Api, Item
from northstar.extract.sources.stripe.forms import id_of
from northstar.extract.sources.stripe.shapes import coupon_of, inclusive_tax, line_of


class Prices:
    """What one unit costs."""

    def __init__(self, api: Api):
        self._api = api
        self._requested: dict[str, JsonObject] = {}

    def whole(self, price: Json) -> JsonObject:
        """A price that is given as a whole, or as its id alone; nothing but its id where it no longer exists."""
        known: JsonObject = price if isinstance(price, dict) else {"id": price} | self._request_price(price)
        return known

    def _request_price(self, name: str) -> JsonObject:
        return self._api.cached(self._requested, "prices", name, {"expand[]": ["tiers", "currency_options.tiers"]})

    def unit_amount(self, price: JsonObject, units: Decimal, currency: str | None = None) -> Decimal | None:
        """What one unit costs in a period. With tiers or packages it is the price of all units, divided by their number.

        currency: the subscription's, which may be another one of the price's. None where Stripe does not give the amount.
        """
        terms = price
        if currency and currency != price.get("currency"):
            options = price.get("currency_options") or self._request_price(price["id"]).get("currency_options") or {}
            if currency not in options:
                return None
            terms = options[currency]
        if price.get("billing_scheme") == "tiered":
            if not terms.get("tiers"):
                requested = self._request_price(price["id"])
                is_own = terms is price
                terms = requested if is_own else (requested.get("currency_options") or {}).get(currency) or {}
            if not terms.get("tiers"):
                # the row goes to quarantine
                return None
            return _tiered_price(terms["tiers"], price.get("tiers_mode"), units) / (units or 1)
        single = Decimal(str(terms.get("unit_amount_decimal") or terms.get("unit_amount") or terms.get("amount") or 0))
        package = price.get("transform_quantity")
        if package and package.get("divide_by") and units:
            exact_packages: Decimal = units / package["divide_by"]
            packages = math.ceil(exact_packages) if package["round"] == "up" else math.floor(exact_packages)
            return single * packages / units
        return single


def _tiered_price(tiers: list[JsonObject], mode: str | None, units: Decimal) -> Decimal:
    def price(tier: JsonObject, count: Decimal) -> Decimal:
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
        end = units if limit is None or is_last else limit
        total += price(tier, end - below)
        if is_last:
            return total
        below = end
    return total


class Taxes:
    """The tax that prices hold, as a share of the price without it: 0.2 where 1200 is 1000 and 20 % of tax."""

    def __init__(self, api: Api):
        self._api = api
        self._rates: dict[str, JsonObject] = {}
        self._invoices: dict[str, JsonObject] = {}

    def of_item(self, subscription: JsonObject, item: Item, price: JsonObject) -> Decimal:
        """An item's: by its own tax rates or else the subscription's; where Stripe reckons the tax, by the latest invoice's line."""
        rates = item.get("tax_rates") or subscription.get("default_tax_rates") or []
        if rates:
            return self._share(rates)
        if price.get("tax_behavior") != "inclusive" or not (subscription.get("automatic_tax") or {}).get("enabled"):
            return Decimal(0)
        invoice = subscription.get("latest_invoice")
        if isinstance(invoice, str):
            invoice = self._api.cached(self._invoices, "invoices", invoice)
        lines = ((invoice or {}).get("lines") or {}).get("data") or []
        return next((self.of_line(line) for line in lines if line_of(line).item == item["id"]), Decimal(0))

    def of_line(self, line: JsonObject) -> Decimal:
        """An invoice line's: by its tax rates, or else by the tax that was reckoned."""
        if line.get("tax_rates"):
            return self._share(line["tax_rates"])
        tax = inclusive_tax(line)
        without_tax = line["amount"] - sum(d["amount"] for d in line.get("discount_amounts") or []) - tax
        return Decimal(tax) / without_tax if without_tax else Decimal(0)

    def _share(self, rates: list[JsonObject | str]) -> Decimal:
        whole_rates = [r if isinstance(r, dict) else self._api.cached(self._rates, "tax_rates", r) for r in rates]
        return sum((Decimal(str(r["percentage"])) for r in whole_rates if r.get("inclusive")), Decimal(0)) / 100


class Discounts:
    """The discounts of an account's subscriptions and customers.

    by_id: the discounts seen so far, since an event with several has only their ids. customers: each with its own discount.
    """

    def __init__(self, api: Api, prices: Prices):
        self._api, self._prices = api, prices
        self.by_id: dict[str, JsonObject] = {}
        self.customers: dict[str, JsonObject] = {}
        self._coupons: dict[str, JsonObject] = {}
        self._asked: dict[str, JsonObject] = {}

    def recurring(self, subscription: JsonObject, item: Item, at: float) -> tuple[Decimal | str | None, Decimal | None]:
        """The recurring discount of an item at a moment as (percent, amount off), of its own and the subscription's discounts, else the customer's.

        For a discount that no longer exists, or whose coupon does not, the percent is a text with its id, which sends the row to quarantine.
        """
        factor, amount = Decimal(1), Decimal(0)
        own_discounts, shared_discounts = self._valid(subscription, item, at)
        for discount in (*own_discounts, *shared_discounts):
            if isinstance(discount, str):
                return f"discount {discount}, which no longer exists", None
            coupon = self._coupon(discount, subscription)
            if not coupon:
                return f"discount {discount['id']}, whose coupon nobody knows any more", None
            if coupon.get("duration") == "once":
                continue
            factor *= 1 - Decimal(str(coupon.get("percent_off") or 0)) / 100
            share = Decimal(1) if discount in own_discounts else self._share(subscription, item)
            amount += Decimal(_amount_off(coupon, subscription.get("currency"))) * share
        return (100 * (1 - factor) if factor != 1 else None), amount or None

    def next_end(self, subscription: JsonObject, at: float) -> int | None:
        """When the first of the discounts that hold at a moment ends."""
        discounts = [
            d for item in self._api.items(subscription) for part in self._valid(subscription, item, at) for d in part
        ]
        return min((d["end"] for d in discounts if isinstance(d, dict) and d.get("end")), default=None)

    def amount_taken_off(self, invoice: JsonObject, line: JsonObject) -> int | None:
        """The amount that recurring discounts took off an invoice line; None where they took nothing."""
        discounts = [*(invoice.get("discounts") or []), *(line.get("discounts") or [])]
        discounts_by_id: dict[str | None, Json] = {d["id"]: d for d in discounts if isinstance(d, dict)}
        total: int = sum(
            d["amount"] for d in line.get("discount_amounts") or []
            if not self._is_once(discounts_by_id.get(id_of(d.get("discount")), d.get("discount")))
        )  # fmt: skip
        return total or None

    def _valid(
        self, subscription: JsonObject, item: Item, at: float
    ) -> tuple[list[JsonObject | str], list[JsonObject | str]]:
        """The discounts that hold at a moment: (the item's own, those of the subscription or else of the customer)."""

        def unended(discounts: list[JsonObject | str]) -> list[JsonObject | str]:
            return [d for d in discounts if isinstance(d, str) or not d.get("end") or d["end"] > at]

        own_discounts, shared_discounts = (
            unended(self._known(subscription, holder.get("discounts") or [])) for holder in (item, subscription)
        )
        shared_discounts = shared_discounts or unended([d for d in [subscription.get("discount")] if d])
        if not own_discounts and not shared_discounts:
            customer = subscription["customer"]
            if not isinstance(customer, dict):
                customer = self._api.cached(self.customers, "customers", customer)
            shared_discounts = unended([d for d in [customer.get("discount")] if d])
        return own_discounts, shared_discounts

    def _known(self, subscription: JsonObject, told: list[JsonObject | str]) -> list[JsonObject | str]:
        """Discounts as objects. An event may have only their ids, which the subscription's listing resolves; an id that it does not stays an id."""
        legacy = subscription.get("discount")
        self.by_id.update({d["id"]: d for d in (*told, legacy) if isinstance(d, dict)})
        if any(isinstance(d, str) and d not in self.by_id for d in told):
            self._learn(subscription["id"])
        return [d if isinstance(d, dict) else self.by_id.get(d) or d for d in told]

    def _learn(self, subscription: str) -> None:
        """Keep the discounts of a subscription as it is now, whole."""
        current = self._api.cached(self._asked, "subscriptions", subscription, DISCOUNTS)
        listings = [
            current.get("discounts"),
            *(i.get("discounts") for i in (current.get("items") or {}).get("data") or []),
        ]
        for discount in (d for part in listings for d in part or [] if isinstance(d, dict)):
            # what is known may have an end that came since
            self.by_id.setdefault(discount["id"], discount)
            if isinstance(coupon_of(discount), dict):
                self._coupons[discount["id"]] = coupon_of(discount)

    def _coupon(self, discount: JsonObject, subscription: JsonObject | None = None) -> JsonObject:
        """A discount's coupon; {} for one that no longer exists. One that was deleted is still whole in the discounts that it made."""
        coupon = coupon_of(discount)
        if isinstance(coupon, dict):
            return coupon
        found = self._api.cached(self._coupons, "coupons", coupon) if coupon else {}
        if not found and subscription is not None:
            self._learn(subscription["id"])
            found = self._coupons.get(discount["id"]) or {}
        return found

    def _is_once(self, discount: Json) -> bool:
        """Whether a discount holds for one invoice alone."""
        return isinstance(discount, dict) and self._coupon(discount).get("duration") == "once"

    def _share(self, subscription: JsonObject, item: Item) -> Decimal:
        """An item's share (0 to 1) of what the subscription costs, by which an amount off is spread over the items."""

        def cost(i: Item) -> Decimal:
            price = i.get("price") or i["plan"]
            units = Decimal(i.get("quantity") or 0)
            return (self._prices.unit_amount(price, units, subscription.get("currency")) or Decimal(0)) * units

        total = sum(cost(i) for i in self._api.items(subscription))
        return cost(item) / total if total else Decimal(1) / len(self._api.items(subscription))


def _amount_off(coupon: JsonObject, currency: str | None) -> int:
    options = coupon.get("currency_options") or {}
    own = options.get(currency) if currency and currency != coupon.get("currency") else None
    amount: int = (own or coupon).get("amount_off") or 0
    return amount
