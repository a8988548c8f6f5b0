"""Accounts with what they pay, and how they stand."""

from northstar.base.errors import NorthstarError
from northstar.use.answers.reading import Reading
from northstar.use.answers.refusals import Refused
from northstar.use.answers.require import require_application, require_limit
from northstar.use.answers.shapes import Customer, CustomerList
from northstar.use.customers import Search, first_customers

CUSTOMERS, MOST_CUSTOMERS = 100, 5_000


def list_customers(
    reading: Reading, application: str = "all", account_id: str = "", country: str = "", limit: int = CUSTOMERS
) -> CustomerList:
    """Accounts as the mart `customers` has them, those with the largest MRR first; one account, or those of a country or an application.

    Erased people are not among them. Needs the scope `customers`. Raises Refused.
    """
    reading.require("customers")
    require_limit(limit, MOST_CUSTOMERS)
    application = require_application(reading, application)
    chosen = {"application": "" if application == "all" else application, "country": country}
    try:
        rows = first_customers(
            reading, Search(chosen={name: value for name, value in chosen.items() if value}), account_id, limit + 1
        )
    except NorthstarError as exc:
        raise Refused("not_published", str(exc)) from exc
    if account_id and not rows:
        raise Refused("bad_request", f"there is no account {account_id[:80]!r} in {application}")
    customers = [
        Customer(
            row["account_id"], row["application"], row["account_type"], row["country"], row["acquisition_channel"], row["created_at"], row["deleted_at"],
            row["status"], row["plan_tier"], row["mrr"], row["first_mrr_at"], row["first_paid_at"], row["last_active_at"], row["open_tickets"],
            row["failed_payments"], row["health"], row["health_signs"],
        )
        for row in rows[:limit]
    ]  # fmt: skip
    return CustomerList(
        reading.provenance, reading.catalogue()["mrr"]["definition"], reading.currency, len(rows) > limit, customers
    )
