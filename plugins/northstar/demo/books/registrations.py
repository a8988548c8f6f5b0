"""Accounts: who registered, who began to use the product and to pay, who came back, and how many there are."""

from datetime import datetime, timedelta
from fractions import Fraction

from northstar.demo.books.ledger import BookRow, Ledger, place_of
from northstar.demo.books.revenue import first_payments
from northstar.demo.books.times import SEVEN_DAYS, THIRTY_DAYS

ACTIVATING = {"feature.used", "tool.invoked", "booking.requested"}


def reckon(ledger: Ledger) -> None:
    """Registrations, conversion, activation, retention of cohorts, standing accounts, referrals."""
    paid = first_payments(ledger)
    for account in ledger.rows["accounts"]:
        _registration(ledger, account)
        _first_steps(ledger, account, paid.get(account["account_id"]))
        _returns(ledger, account)
        _months_registered(ledger, account)
    _referral_rate(ledger)


def _registration(ledger: Ledger, account: BookRow) -> None:
    born, application, kind = account["created_at"], account["application"], account["account_type"]
    segments = _cohort(account) | {"account_type": kind}
    ledger.add("new_registrations", born, application, 1, None, segments)
    if kind == "creator":
        ledger.add("new_creators", born, application, 1, None, place_of(account))
    if account["acquisition_channel"]:
        ledger.add("organic_share", born, application, int(account["acquisition_channel"] == "organic"), 1)
    referrer = ledger.accounts.get(account["referred_by_account_id"])
    if referrer:
        ledger.member("referrers", born, referrer["application"], account["referred_by_account_id"])


def _first_steps(ledger: Ledger, account: BookRow, paid: datetime | None) -> None:
    """Whether an account paid within 30 days, and used the product within 7."""
    born, application = account["created_at"], account["application"]
    has_paid = bool(paid and paid <= born + THIRTY_DAYS)
    ledger.add("signup_to_paid_conversion_rate", born, application, int(has_paid), 1, _cohort(account))
    is_active = any(
        e["event_name"] in ACTIVATING and born <= e["occurred_at"] <= born + SEVEN_DAYS
        for e in ledger.activity.get(account["account_id"], [])
    )
    channel = {"acquisition_channel": account["acquisition_channel"]}
    ledger.add("activation_rate", born, application, int(is_active), 1, channel)


def _returns(ledger: Ledger, account: BookRow) -> None:
    """The days after an account's first on which it came back, while the account existed."""
    born, application, deleted_at = account["created_at"], account["application"], account["deleted_at"]
    days = {
        ledger.day_of(e["occurred_at"])
        for e in ledger.activity.get(account["account_id"], [])
        if not e["event_name"].endswith("_failed") and (not deleted_at or e["occurred_at"] < deleted_at)
    }
    for number in (1, 7, 30, 90):
        has_returned = ledger.day_of(born) + timedelta(days=number) in days
        ledger.add(f"retention_d{number}", born, application, int(has_returned), 1, _cohort(account))
    if account["account_type"] in ("student", "tutor"):
        stayed = any(day >= ledger.day_of(born) + THIRTY_DAYS for day in days)
        ledger.add(f"{account['account_type']}_retention_30d", born, application, int(stayed), 1)


def _months_registered(ledger: Ledger, account: BookRow) -> None:
    """The month ends at which an account exists."""
    born, deleted_at, application = account["created_at"], account["deleted_at"], account["application"]
    is_creator = int(account["account_type"] == "creator")
    segments = place_of(account) | {"account_type": account["account_type"]}
    for start, end in ledger.months:
        if born < end and (not deleted_at or deleted_at >= end):
            ledger.add("registered_accounts", start, application, 1, None, segments)
            ledger.add("telemetry_opt_in_rate", start, application, int(account["telemetry_opt_in"] is True), 1)
            ledger.add("creators", start, application, is_creator)


def _referral_rate(ledger: Ledger) -> None:
    """The share of the accounts registered at a month's end that referred somebody in the month."""
    for scope in ledger.scopes_of("registered_accounts"):
        registered = ledger.total("registered_accounts", scope)
        if scope[2] == "" and registered:
            ledger.results["referral_rate", *scope] = (Fraction(ledger.count("referrers", scope)), registered)


def _cohort(account: BookRow) -> dict[str, object]:
    return place_of(account) | {"acquisition_channel": account["acquisition_channel"]}
