"""The terms of a subscription's item: what it costs and how it stands, from the subscription, an invoice line, or a landed row."""

from datetime import datetime
from decimal import Decimal
from typing import TypedDict, cast

from northstar.extract.sources.http import JsonObject
from northstar.extract.sources.stripe.api import Api, Item
from northstar.extract.sources.stripe.forms import id_of, minor_units, plain, time_of
from northstar.extract.sources.stripe.money import Discounts, Prices, Taxes
from northstar.extract.sources.stripe.shapes import line_of
from northstar.warehouse.rows import Row

TERMS = (
    "account_id", "plan_id", "plan_tier", "billing_interval", "interval_count", "quantity", "unit_amount", "currency",
    "discount_percent", "discount_amount", "is_metered", "status", "cancel_reason",
)  # fmt: skip


class Price(TypedDict):
    """What an item costs; numbers as text."""

    plan_id: str
    plan_tier: str | None
    # None for a price that no longer exists
    billing_interval: str | None
    interval_count: str
    quantity: str | None
    unit_amount: str | None
    currency: str
    # or a text that names a discount which no longer exists
    discount_percent: str | None
    discount_amount: str | None
    is_metered: str


class ItemTerms(Price):
    """What an item costs, and its status: the columns of TERMS."""

    account_id: str | None
    status: str
    cancel_reason: str | None


class SubscriptionRow(ItemTerms):
    """A row of subscriptions: a stretch of time in which an item's terms stay the same."""

    subscription_item_id: str
    subscription_id: str
    valid_from: str
    valid_to: str | None
    # "" while the row is still being put together
    updated_at: str


class Terms:
    """Terms with Stripe's prices and discounts, and the plan tiers that the source's options name."""

    def __init__(self, api: Api, plan_tiers: dict[str, str] | None):
        self._plan_tiers = plan_tiers or {}
        self._prices = Prices(api)
        self._taxes = Taxes(api)
        self.discounts = Discounts(api, self._prices)

    def of_item(self, subscription: JsonObject, item: Item, at: float) -> ItemTerms:
        """The terms of an item at a moment, as the subscription has it."""
        price, quantity = item.get("price") or item["plan"], item.get("quantity")
        status = "paused" if subscription.get("pause_collection") else subscription["status"]
        details = subscription.get("cancellation_details") or {}
        percent, amount = self.discounts.recurring(subscription, item, at)
        tax, currency = self._taxes.of_item(subscription, item, price), subscription.get("currency")
        return {
            **self._price_terms(price, quantity, percent, amount, tax, currency),
            "account_id": id_of(subscription["customer"]), "status": status,
            "cancel_reason": (details.get("feedback") or details.get("reason")) if status == "canceled" else None,
        }  # fmt: skip

    def of_line(self, subscription: JsonObject, invoice: JsonObject, line: JsonObject) -> ItemTerms:
        """The terms of an invoice line's period. The discounts are those that were taken off then, without those for a single invoice."""
        price = self._prices.whole(line_of(line).price)
        is_trial = (
            line["amount"] == 0
            and bool(subscription.get("trial_end"))
            and line["period"]["end"] <= subscription["trial_end"]
        )
        taken = self.discounts.amount_taken_off(invoice, line)
        return {
            **self._price_terms(price, line.get("quantity"), None, taken, self._taxes.of_line(line), line.get("currency")),
            "account_id": id_of(invoice["customer"]), "status": "trialing" if is_trial else "active", "cancel_reason": None,
        }  # fmt: skip

    def _price_terms(
        self,
        price: JsonObject,
        quantity: int | None,
        percent: Decimal | str | None,
        amount: Decimal | int | None,
        tax: Decimal,
        currency: str | None,
    ) -> Price:
        recurring = price.get("recurring") or price
        is_metered = recurring.get("usage_type") == "metered"
        units = Decimal(quantity or 0) if not is_metered else Decimal(0)
        tier = self._plan_tiers.get(price["id"]) or (price.get("metadata") or {}).get("plan_tier")
        currency = currency or price["currency"]

        def without_tax(gross: Decimal | int | None) -> str | None:
            return plain(None if gross is None else minor_units(gross, currency) / (1 + tax))

        return {
            "plan_id": price["id"], "plan_tier": tier, "billing_interval": recurring.get("interval"),
            "interval_count": str(recurring.get("interval_count") or 1), "quantity": plain(units),
            "unit_amount": without_tax(self._prices.unit_amount(price, units, currency)),
            "currency": currency.upper(), "discount_percent": percent if isinstance(percent, str) else plain(percent),
            "discount_amount": without_tax(amount), "is_metered": "true" if is_metered else "false",
        }  # fmt: skip


def terms_of(row: SubscriptionRow) -> ItemTerms:
    """The terms of a row of the history."""
    # cast: TERMS are all of its keys
    return cast(ItemTerms, {name: row.get(name) for name in TERMS})


def from_landed(row: Row) -> SubscriptionRow:
    """A landed row in this package's own forms, so that its terms can be compared."""

    def form(value: object) -> object:
        if isinstance(value, datetime):
            return time_of(int(value.timestamp()))
        if isinstance(value, bool):
            return "true" if value else "false"
        return plain(value) if isinstance(value, Decimal) else str(value) if isinstance(value, int) else value

    names = (*TERMS, "subscription_item_id", "subscription_id", "valid_from", "valid_to", "updated_at")
    # cast: these are all of its keys, and the contract says what their columns hold
    return cast(SubscriptionRow, {name: form(row[name]) for name in names})
