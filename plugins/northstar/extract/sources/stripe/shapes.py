"""What moved between the versions of Stripe's API, and where it stands in each.

Lists and single objects come in the version that is asked for. An event holds its object as it was rendered when it happened, in the
version that the account had then: 2020-08-27 and later ones are read, up to 2026-10-28.endive.
"""

from typing import NamedTuple

from northstar.extract.sources.http import Json, JsonObject
from northstar.extract.sources.stripe.forms import id_of


def coupon_of(discount: JsonObject) -> Json:
    """A discount's coupon: the coupon itself until 2025-09-30.clover, which put it, mostly as its id, into the discount's `source`."""
    return discount.get("coupon") or (discount.get("source") or {}).get("coupon")


def period_start(subscription: JsonObject) -> int | None:
    """When the billing period began: the subscription's own until 2025-03-31.basil, which gave each item a period, then its newest item's."""
    own_start: int | None = subscription.get("current_period_start")
    if own_start is not None:
        return own_start
    starts = [item.get("current_period_start") for item in (subscription.get("items") or {}).get("data") or []]
    return max((start for start in starts if start is not None), default=None)


def subscription_of(invoice: JsonObject) -> str | None:
    """The subscription that an invoice is for: in the invoice's `parent` since 2025-03-31.basil."""
    details = (invoice.get("parent") or {}).get("subscription_details") or {}
    return id_of(invoice.get("subscription") or details.get("subscription"))


class Line(NamedTuple):
    """What an invoice line is for. price: as a whole, as its id alone, or None."""

    item: str | None
    price: Json
    is_recurring: bool


def line_of(line: JsonObject) -> Line:
    """An invoice line's item and price, which 2025-03-31.basil put into `parent` and `pricing`; prorations are not recurring."""
    parent = line.get("parent")
    if parent is None:
        return Line(
            line.get("subscription_item"), line.get("price") or line.get("plan"),
            line.get("type") == "subscription" and not line.get("proration"),
        )  # fmt: skip
    details = parent.get("subscription_item_details") or {}
    price = ((line.get("pricing") or {}).get("price_details") or {}).get("price")
    return Line(details.get("subscription_item"), price, bool(details) and not details.get("proration"))


def inclusive_tax(line: JsonObject) -> int:
    """The tax that an invoice line's amount holds: in `taxes` since 2025-03-31.basil, in `tax_amounts` before."""
    older = [tax["amount"] for tax in line.get("tax_amounts") or [] if tax.get("inclusive")]
    newer = [tax["amount"] for tax in line.get("taxes") or [] if tax.get("tax_behavior") == "inclusive"]
    total: int = sum(newer or older)
    return total
