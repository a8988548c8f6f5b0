"""The marketplace: lessons that are requested, agreed on, held, paid and reviewed."""

from collections import Counter
from fractions import Fraction

from northstar.demo.books.ledger import BookRow, Ledger


def reckon(ledger: Ledger) -> None:
    """Bookings and their value, reviews, tutors who apply, packages."""
    reviewed = {r["booking_id"] for r in ledger.rows["reviews"]}
    messages = Counter(message["booking_id"] for message in ledger.rows["messages"])
    for row in ledger.rows["bookings"]:
        _booking(ledger, row, messages[row["booking_id"]], row["booking_id"] in reviewed)
    for scope in ledger.scopes_of("completed"):
        tutors = Fraction(ledger.count("teaching", scope))
        ledger.results["completed_sessions_per_tutor", *scope] = (ledger.total("completed", scope), tutors)
    for row in ledger.rows["reviews"]:
        ledger.add("average_rating", row["created_at"], row["application"], Fraction(str(row["rating"])), 1)
    for row in ledger.rows["tutor_applications"]:
        ledger.add("tutor_approval_rate", row["applied_at"], row["application"], int(bool(row["approved_at"])), 1)
    for row in ledger.rows["package_purchases"]:
        ledger.member("buyers", row["purchased_at"], row["application"], row["account_id"])
    for scope, buyers in ledger.groups_of("buyers"):
        active = ledger.count("mau", scope)
        if active:
            ledger.results["package_purchase_rate", *scope] = (Fraction(len(buyers)), Fraction(active))


def _booking(ledger: Ledger, row: BookRow, messages: int, is_reviewed: bool) -> None:
    application, country = row["application"], {"country": row["country"]}
    price = ledger.money(row["price_amount"], row["currency"], ledger.day_of(row["requested_at"]))
    requested_at, confirmed_at, completed_at = row["requested_at"], row["confirmed_at"], row["completed_at"]
    ledger.add("bookings", requested_at, application, 1, None, country)
    ledger.add("booking_conversion_rate", requested_at, application, int(bool(confirmed_at)), 1)
    ledger.add("messages_per_booking", requested_at, application, messages, 1)
    if confirmed_at:
        ledger.add("session_completion_rate", confirmed_at, application, int(bool(completed_at)), 1)
        ledger.add("booking_cancellation_rate", confirmed_at, application, int(bool(row["cancelled_at"])), 1)
        if not row["cancelled_at"]:
            commission = price * Fraction(str(row["commission_rate"]))
            ledger.add("gmv", confirmed_at, application, price, None, country)
            ledger.add("marketplace_net_revenue", confirmed_at, application, commission, None, country)
    if completed_at:
        ledger.add("review_rate", completed_at, application, int(is_reviewed), 1)
        ledger.add("completed", completed_at, application, 1)
        ledger.member("teaching", completed_at, application, row["tutor_id"])
        if row["payment_state"] == "captured":
            ledger.add("average_session_value", completed_at, application, price, 1)
