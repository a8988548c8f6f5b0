"""Rows of objects without a history: customers, charges, refunds, lost disputes."""

from northstar.extract.sources.declared import ContractRow
from northstar.extract.sources.http import JsonObject
from northstar.extract.sources.stripe.forms import id_of, time_of, whole
from northstar.extract.sources.stripe.shapes import subscription_of


def account(customer: JsonObject) -> ContractRow:
    """A row of accounts."""
    address = customer.get("address") or {}
    return {
        "account_id": customer["id"], "account_type": "customer", "email": customer.get("email"), "full_name": customer.get("name"),
        "country": address.get("country"), "created_at": time_of(customer["created"]),
    }  # fmt: skip


def charge(thing: JsonObject, invoice: JsonObject | None) -> ContractRow:
    """A row of charges. invoice: what the charge is for, where there is one."""
    card = (thing.get("payment_method_details") or {}).get("card") or {}
    address = (thing.get("billing_details") or {}).get("address") or {}
    captured = thing.get("captured", True)
    amount: int = thing["amount_captured"] if captured and thing.get("amount_captured") else thing["amount"]
    return {
        "charge_id": thing["id"], "payment_id": id_of(thing.get("payment_intent")),
        # somebody paid without an account: the charge gets an account of its own, so that the cash is not lost
        "account_id": id_of(thing.get("customer")) or f"guest_{thing['id']}",
        "subscription_id": subscription_of(invoice or {}), "amount": whole(amount, thing["currency"]),
        "currency": thing["currency"].upper(),
        "status": "pending" if thing["status"] == "succeeded" and not captured else thing["status"],
        "failure_code": thing.get("failure_code"), "country": card.get("country") or address.get("country"),
        "created_at": time_of(thing["created"]),
    }  # fmt: skip


def refund(thing: JsonObject, charge: str | None) -> ContractRow:
    """A row of refunds. charge: what was paid back; None sends the row to quarantine."""
    status = thing.get("status") or "succeeded"
    return {
        "refund_id": thing["id"], "charge_id": charge, "amount": whole(thing["amount"], thing["currency"]),
        "currency": thing["currency"].upper(), "reason": thing.get("reason"),
        "status": "pending" if status == "requires_action" else status,
        "created_at": time_of(thing["created"]),
    }  # fmt: skip


def dispute(thing: JsonObject, charge: str | None) -> ContractRow:
    """A row of refunds: money that a lost dispute took back, at the moment when it was taken. charge: as in `refund`."""
    return {
        "refund_id": thing["id"], "charge_id": charge, "amount": whole(thing["amount"], thing["currency"]),
        "currency": thing["currency"].upper(), "reason": "dispute", "status": "succeeded", "created_at": time_of(thing["created"]),
    }  # fmt: skip


def moved_amount(transaction: JsonObject) -> tuple[int, str]:
    """The amount that a balance transaction's charge or refund moved, in its own currency; the balance may be kept in another."""
    source = transaction.get("source")
    if isinstance(source, dict):
        amount, currency = source.get("amount_captured") or source["amount"], source["currency"]
    else:
        amount, currency = abs(transaction["amount"]), transaction["currency"]
    return whole(amount, currency), currency.upper()
