"""Cash: what was charged and refunded, which attempts failed, and which of the failed payments succeeded later."""

from collections import defaultdict
from fractions import Fraction

from northstar.demo.books.ledger import BookRow, Ledger, place_of


def reckon(ledger: Ledger) -> None:
    """Cash collected, refunds, success, failures, retries and recovery."""
    for charge in ledger.rows["charges"]:
        _charge(ledger, charge)
    _refunds(ledger)
    _failures_by_code(ledger)
    _attempts(ledger)


def _charge(ledger: Ledger, charge: BookRow) -> None:
    when, application, place = charge["created_at"], charge["application"], place_of(charge)
    amount = ledger.money(charge["amount"], charge["currency"], ledger.day_of(when))
    is_paid, is_failed = charge["status"] == "succeeded", charge["status"] == "failed"
    if is_paid:
        ledger.add("cash_collected", when, application, amount, None, place)
        at_earlier_rate = ledger.money_at_earlier_rate(charge["amount"], charge["currency"], ledger.day_of(when))
        ledger.add("cash_collected_constant_currency", when, application, at_earlier_rate, None, place)
        ledger.add("refund_rate", when, application, 0, amount, place)
    if is_paid or is_failed:
        ledger.add("payment_success_rate", when, application, int(is_paid), 1, place)
        ledger.add("payment_failure_rate", when, application, int(is_failed), 1, place)
    if is_failed:
        ledger.member("failures", when, application, charge["charge_id"], {"failure_code": charge["failure_code"]})


def _refunds(ledger: Ledger) -> None:
    charges = {c["charge_id"]: c for c in ledger.rows["charges"]}
    for refund in ledger.rows["refunds"]:
        if refund["status"] == "succeeded":
            charge = charges.get(refund["charge_id"], {})
            when = refund["created_at"]
            amount = ledger.money(refund["amount"], refund["currency"], ledger.day_of(when))
            application, place = charge.get("application") or refund["application"], place_of(charge)
            ledger.add("cash_collected", when, application, -amount, None, place)
            at_earlier_rate = ledger.money_at_earlier_rate(refund["amount"], refund["currency"], ledger.day_of(when))
            ledger.add("cash_collected_constant_currency", when, application, -at_earlier_rate, None, place)
            ledger.add("refund_rate", when, application, amount, 0, place)


def _failures_by_code(ledger: Ledger) -> None:
    """The share of all attempts that failed with each code."""
    for (month, application, segment, code), failures in ledger.groups_of("failures"):
        if segment == "failure_code":
            _, attempts = ledger.sums["payment_failure_rate", month, application, "", ""]
            ledger.results["payment_failure_rate", month, application, segment, code] = (
                Fraction(len(failures)),
                attempts,
            )


def _attempts(ledger: Ledger) -> None:
    """The attempts at one payment: those after the first are retries, and a retry that succeeds recovers a payment that failed at first."""
    payments = defaultdict(list)
    for charge in ledger.rows["charges"]:
        payments[charge["payment_id"] or charge["charge_id"]].append(charge)
    for attempts in payments.values():
        first, *more = sorted(attempts, key=lambda c: (c["created_at"], c["charge_id"]))
        for charge in more:
            ledger.add("payment_retries", charge["created_at"], charge["application"], 1)
        if first["status"] == "failed":
            is_collected = any(c["status"] == "succeeded" for c in more)
            ledger.add("payment_recovery_rate", first["created_at"], first["application"], int(is_collected), 1)
