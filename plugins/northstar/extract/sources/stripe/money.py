"""What a subscription's item costs: prices with their tiers and packages, and the discounts that recur."""

import math
from decimal import Decimal

from northstar.extract.sources.http import Json, JsonObject
from northstar.extract.sources.stripe.api import Api, Item
from northstar.extract.sources.stripe.forms import id_of


class Prices:
    """What one unit costs."""

    def __init__(self, api: Api):
        self._api = api
        self._requested: dict[str, JsonObject] = {}

    def unit_amount(self, price: JsonObject, units: Decimal) -> Decimal | None:
        """What one unit costs in a period. With tiers or packages it is the price of all units, divided by their number."""
        if price.get("billing_scheme") == "tiered":
            if not price.get("tiers"):
                price = self._api.cached(self._requested, "prices", price["id"], {"expand[]": "tiers"})
            if not price.get("tiers"):
                # Stripe does not give them: the row goes to quarantine
                return None
            return _tiered_price(price["tiers"], price.get("tiers_mode"), units) / (units or 1)
        single = Decimal(str(price.get("unit_amount_decimal") or price.get("unit_amount") or price.get("amount") or 0))
        package = price.get("transform_quantity")
        if package and units:
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


class Discounts:
    """The discounts of an account's subscriptions and customers.

    coupons: the discounts seen so far, by id, since an event with several has only their ids. customers: each with its own discount.
    """

    def __init__(self, api: Api, prices: Prices):
        self._api, self._prices = api, prices
        self.coupons: dict[str, JsonObject] = {}
        self.customers: dict[str, JsonObject] = {}

    def recurring(self, subscription: JsonObject, item: Item) -> tuple[Decimal | str | None, Decimal | None]:
        """The recurring discount of an item as (percent, amount off): from its own and the subscription's discounts, else the customer's.

        For a discount that no longer exists the percent is a text with its id, which sends the row to quarantine.
        """
        own_discounts, shared_discounts = (
            self._resolve_discounts(subscription, holder.get("discounts") or []) for holder in (item, subscription)
        )
        shared_discounts = shared_discounts or [d for d in [subscription.get("discount")] if d]
        unknown = [d for d in (*own_discounts, *shared_discounts) if isinstance(d, str)]
        if unknown:
            return f"discount {unknown[0]}, which no longer exists", None
        if not own_discounts and not shared_discounts:
            customer = subscription["customer"]
            if not isinstance(customer, dict):
                customer = self._api.cached(self.customers, "customers", customer)
            shared_discounts = [d for d in [customer.get("discount")] if d]
        factor, amount = Decimal(1), Decimal(0)
        for discount in (*own_discounts, *shared_discounts):
            if isinstance(discount, str) or _is_once(discount):
                continue
            coupon = discount["coupon"]
            factor *= 1 - Decimal(str(coupon.get("percent_off") or 0)) / 100
            share = Decimal(1) if discount in own_discounts else self._share(subscription, item)
            amount += Decimal(coupon.get("amount_off") or 0) * share
        return (100 * (1 - factor) if factor != 1 else None), amount or None

    def amount_taken_off(self, invoice: JsonObject, line: JsonObject) -> int | None:
        """The amount that recurring discounts took off an invoice line; None where they took nothing."""
        discounts = [*(invoice.get("discounts") or []), *(line.get("discounts") or [])]
        discounts_by_id: dict[str | None, Json] = {d["id"]: d for d in discounts if isinstance(d, dict)}
        total: int = sum(
            d["amount"] for d in line.get("discount_amounts") or []
            if not _is_once(discounts_by_id.get(id_of(d.get("discount")), d.get("discount")))
        )  # fmt: skip
        return total or None

    def _resolve_discounts(
        self, subscription: JsonObject, references: list[JsonObject | str]
    ) -> list[JsonObject | str]:
        """Discounts as objects. An event may have only their ids, which the subscription's listing resolves; an id that it does not stays an id."""
        legacy = subscription.get("discount")
        self.coupons.update({d["id"]: d for d in (*references, legacy) if isinstance(d, dict)})
        if any(isinstance(d, str) and d not in self.coupons for d in references):
            current = self._api.subscription(subscription["id"])
            listings = [
                current.get("discounts"),
                *(i.get("discounts") for i in (current.get("items") or {}).get("data") or []),
            ]
            self.coupons.update({d["id"]: d for part in listings for d in part or [] if isinstance(d, dict)})
        return [d if isinstance(d, dict) else self.coupons.get(d) or d for d in references]

    def _share(self, subscription: JsonObject, item: Item) -> Decimal:
        """An item's share (0 to 1) of what the subscription costs, by which an amount off is spread over the items."""

        def cost(i: Item) -> Decimal:
            price = i.get("price") or i["plan"]
            units = Decimal(i.get("quantity") or 0)
            return (self._prices.unit_amount(price, units) or Decimal(0)) * units

        total = sum(cost(i) for i in self._api.items(subscription))
        return cost(item) / total if total else Decimal(1) / len(self._api.items(subscription))


def _is_once(discount: Json) -> bool:
    """Whether a discount holds for one invoice alone."""
    return isinstance(discount, dict) and (discount.get("coupon") or {}).get("duration") == "once"
