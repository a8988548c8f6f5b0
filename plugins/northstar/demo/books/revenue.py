"""Recurring revenue: what each account's subscriptions are worth on a day, how that changes, and what it is at each month's end."""

from collections import defaultdict
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import NamedTuple

from northstar.demo.books.ledger import BookRow, Ledger, minor_units, of_application, place_of
from northstar.demo.books.times import DAY

MOVEMENTS = ("new", "expansion", "contraction", "churned", "reactivation")
PER_MONTH = {"month": Fraction(1), "year": Fraction(1, 12), "week": Fraction(52, 12), "day": Fraction(365, 12)}


class Holding(NamedTuple):
    """A subscription row that counts as revenue: from `begins` until before `ends`, `amount` a month in its own currency."""

    begins: date
    ends: date | None
    amount: Fraction
    row: BookRow


def reckon(ledger: Ledger) -> None:
    """MRR and its movements, paying accounts, churn and retention of revenue, markets, and the metrics derived from them."""
    for (application, account), account_holdings in holdings(ledger).items():
        _movements(ledger, application, account, account_holdings)
        _month_ends(ledger, application, account, account_holdings)
    _arr_and_arpu(ledger)
    _net_new_mrr_and_quick_ratio(ledger)
    _constant_currency(ledger)
    for scope, countries in ledger.groups_of("markets"):
        if scope[2] == "":
            ledger.results["active_markets", *scope] = (Fraction(len(countries)), None)


def holdings(ledger: Ledger) -> dict[tuple[str, str], list[Holding]]:
    """The holdings of each (application, account): rows that are active or past due (as the setting says), not metered, worth more than 0, and a day long at least."""
    rows_by_account: dict[tuple[str, str], list[tuple[BookRow, datetime | None]]] = defaultdict(list)
    for row in ledger.rows["subscriptions"]:
        if has_mrr(ledger, row) and _monthly(row) > 0:
            rows_by_account[row["application"], row["account_id"]].append((row, _counts_until(ledger, row)))
    holdings_by_account = {}
    for key, rows in rows_by_account.items():
        bridged = _renewal_gaps(ledger, rows)
        spells = [
            (row, ledger.day_of(row["valid_from"]), None if end is None else ledger.day_of(bridged.get(end, end)))
            for row, end in rows
        ]
        held = [
            Holding(begins, ends, _monthly(row), row) for row, begins, ends in spells if ends is None or ends > begins
        ]
        if held:
            holdings_by_account[key] = held
    return holdings_by_account


def has_mrr(ledger: Ledger, row: BookRow) -> bool:
    """Whether a row's status counts when it begins, and its item is not billed by use."""
    rule = ledger.rules.count_past_due
    if row["status"] == "past_due" and rule != "always":
        is_counted = rule != "never" and row["valid_from"] < _past_due_since(ledger, row) + rule * DAY
    else:
        is_counted = row["status"] in ("active", "past_due")
    return is_counted and not row["is_metered"]


def _counts_until(ledger: Ledger, row: BookRow) -> datetime | None:
    """When a row that counts no longer does: at its end, or once it has been past due for too long; None while it does."""
    ends: datetime | None = row["valid_to"]
    days = ledger.rules.count_past_due
    if row["status"] == "past_due" and isinstance(days, int):
        limit = _past_due_since(ledger, row) + days * DAY
        if limit < ledger.as_of and (ends is None or limit < ends):
            return limit
    return ends


def _past_due_since(ledger: Ledger, row: BookRow) -> datetime:
    """When the first of the item's past-due rows began that lead to this one without a gap."""
    since: datetime = row["valid_from"]
    item = [r for r in ledger.rows["subscriptions"] if r["subscription_item_id"] == row["subscription_item_id"]]
    for earlier in sorted(item, key=lambda r: r["valid_from"], reverse=True):
        if earlier["valid_to"] == since and earlier["status"] == "past_due":
            since = earlier["valid_from"]
    return since


def _renewal_gaps(ledger: Ledger, rows: list[tuple[BookRow, datetime | None]]) -> dict[datetime, datetime]:
    """By the end of what an account held, when it held something again within the renewal gap."""
    gaps: dict[datetime, datetime] = {}
    paid_until: datetime | None = None
    for number, (row, end) in enumerate(sorted(rows, key=lambda r: (r[0]["valid_from"], r[0]["subscription_item_id"]))):
        begins = row["valid_from"]
        if paid_until is not None and paid_until < begins < paid_until + ledger.rules.renewal_gap_days * DAY:
            gaps.setdefault(paid_until, begins)
        if number == 0 or paid_until is not None:
            paid_until = None if end is None else max(end, paid_until or end)
    return gaps


def first_payments(ledger: Ledger) -> dict[str, datetime]:
    """The day when each account's first holding began, in any application."""
    first: dict[str, datetime] = {}
    for (_, account), account_holdings in holdings(ledger).items():
        began = min(holding.row["valid_from"] for holding in account_holdings)
        first[account] = min(began, first.get(account, began))
    return first


# what an account holds on a day


def _active_holdings(account_holdings: list[Holding], day: date) -> list[Holding]:
    return [h for h in account_holdings if h.begins <= day and (h.ends is None or h.ends > day)]


def _total_mrr(ledger: Ledger, account_holdings: list[Holding], day: date) -> Fraction:
    return sum((h.amount * ledger.rate(h.row["currency"], day) for h in account_holdings), Fraction(0))


def _tier(ledger: Ledger, account_holdings: list[Holding], day: date) -> str | None:
    """The plan tier of the holding that is worth most."""
    if not account_holdings:
        return None
    best = min(account_holdings, key=lambda h: (-h.amount * ledger.rate(h.row["currency"], day), h.row["plan_id"]))
    tier: str | None = best.row["plan_tier"]
    return tier


# movements


def _movements(ledger: Ledger, application: str, account: str, account_holdings: list[Holding]) -> None:
    last = ledger.day_of(ledger.as_of - timedelta(microseconds=1))
    days = (
        {h.begins for h in account_holdings}
        | {h.ends for h in account_holdings if h.ends}
        | _rate_days(ledger, account_holdings, last)
    )
    holder, has_history = ledger.accounts.get(account, {}), False
    for day in sorted(d for d in days if d <= last):
        earlier_holdings, later_holdings = (
            _active_holdings(account_holdings, day - DAY),
            _active_holdings(account_holdings, day),
        )
        opening, closing = _total_mrr(ledger, earlier_holdings, day), _total_mrr(ledger, later_holdings, day)
        amount = closing - opening
        if not opening and not closing:
            continue
        kind = _movement(opening, closing, has_history)
        tier = _tier(ledger, earlier_holdings, day - DAY) if kind == "churned" else _tier(ledger, later_holdings, day)
        has_history = True
        if kind == "new":
            ledger.add("new_accounts", ledger.midnight(day), application, 1)
        if amount:
            segments = {"plan_tier": tier} | place_of(holder)
            ledger.add(f"{kind}_mrr", ledger.midnight(day), application, amount, None, segments)
            owner = place_of(holder) | {"account_type": holder.get("account_type")}
            ledger.add("moved_mrr", ledger.midnight(day), application, amount, None, owner)


def _rate_days(ledger: Ledger, account_holdings: list[Holding], last: date) -> set[date]:
    """The days on which a new rate changed what a holding is worth."""
    days = set()
    for begins, ends, _, row in account_holdings:
        for day in ledger.rate_days(row["currency"]):
            if begins < day <= last and (ends is None or day < ends):
                days.add(day)
    return days


def _movement(opening: Fraction, closing: Fraction, has_history: bool) -> str:
    if not opening:
        return "reactivation" if has_history else "new"
    if not closing:
        return "churned"
    return "expansion" if closing > opening else "contraction"


# month ends


def _month_ends(ledger: Ledger, application: str, account: str, account_holdings: list[Holding]) -> None:
    """The MRR of an account at each month's end, and how much is left then of its MRR when the month began."""
    holder = ledger.accounts.get(account, {})
    country, kind = holder.get("country"), holder.get("account_type")
    home_country = of_application(ledger.rules.home_country, application)
    for start, end in ledger.months:
        closing_day = ledger.day_of(min(end, ledger.as_of) - timedelta(microseconds=1))
        opening_day = ledger.day_of(start) - DAY
        opening_holdings, closing_holdings = (
            _active_holdings(account_holdings, opening_day),
            _active_holdings(account_holdings, closing_day),
        )
        opening, closing = (
            _total_mrr(ledger, opening_holdings, opening_day),
            _total_mrr(ledger, closing_holdings, closing_day),
        )
        if closing:
            tier = {"plan_tier": _tier(ledger, closing_holdings, closing_day)}
            segments = tier | place_of(holder) | {"account_type": kind}
            undiscounted_mrr = sum(
                (_undiscounted(h.row) * ledger.rate(h.row["currency"], closing_day) for h in closing_holdings),
                Fraction(0),
            )
            ledger.add("mrr", start, application, closing, None, segments)
            ledger.add("paying_accounts", start, application, 1, None, segments)
            ledger.add("price_realisation", start, application, closing, undiscounted_mrr, tier)
            if kind == "creator":
                ledger.add("revenue_per_creator", start, application, closing, 1, tier)
            abroad = closing if country and country != home_country else 0
            ledger.add("international_revenue_share", start, application, abroad, closing if country else 0)
            if country:
                ledger.member("markets", start, application, country)
        if opening:
            ledger.add("opening_mrr", start, application, opening, None, place_of(holder) | {"account_type": kind})
            segments = {"plan_tier": _tier(ledger, opening_holdings, opening_day)} | place_of(holder)
            of_kind = segments | {"account_type": kind}
            ledger.add("customer_churn_rate", start, application, int(not closing), 1, of_kind)
            ledger.add("net_revenue_retention", start, application, closing, opening, segments)
            ledger.add("gross_revenue_retention", start, application, min(closing, opening), opening, segments)


def _arr_and_arpu(ledger: Ledger) -> None:
    for scope in ledger.scopes_of("mrr"):
        if scope[2] != "account_type":
            mrr, paying = ledger.total("mrr", scope), ledger.total("paying_accounts", scope)
            ledger.results["arr", *scope] = (12 * mrr, None)
            if paying:
                ledger.results["arpu", *scope] = (mrr, paying)


def _constant_currency(ledger: Ledger) -> None:
    """What a month began with and what moved in it; what rates did to it is neither."""
    for scope in {*ledger.scopes_of("opening_mrr"), *ledger.scopes_of("moved_mrr")}:
        opening, moved = ledger.total("opening_mrr", scope), ledger.total("moved_mrr", scope)
        ledger.results["mrr_constant_currency", *scope] = (opening + moved, None)
        ledger.results["arr_constant_currency", *scope] = (12 * (opening + moved), None)
        if opening:
            ledger.results["mrr_growth_rate_constant_currency", *scope] = (moved, opening)


def _net_new_mrr_and_quick_ratio(ledger: Ledger) -> None:
    for scope in {scope for kind in MOVEMENTS for scope in ledger.scopes_of(f"{kind}_mrr")}:
        movements = {kind: ledger.total(f"{kind}_mrr", scope) for kind in MOVEMENTS}
        ledger.results["net_new_mrr", *scope] = (sum(movements.values(), Fraction(0)), None)
        lost = movements["contraction"] + movements["churned"]
        if scope[2] == "" and lost:
            gained = movements["new"] + movements["expansion"] + movements["reactivation"]
            ledger.results["quick_ratio", *scope] = (gained, -lost)


# what a subscription row is worth a month


def _monthly(row: BookRow) -> Fraction:
    """A subscription row's MRR in its own currency's major unit."""
    amount = (
        Fraction(str(row["quantity"]))
        * Fraction(str(row["unit_amount"]))
        * (1 - Fraction(str(row["discount_percent"] or 0)) / 100)
    )
    amount = max(amount - Fraction(str(row["discount_amount"] or 0)), Fraction(0))
    interval_count: int = row["interval_count"]
    return amount * PER_MONTH[row["billing_interval"]] / interval_count / minor_units(row["currency"])


def _undiscounted(row: BookRow) -> Fraction:
    """A subscription row's MRR without its discounts."""
    return _monthly(row | {"discount_percent": None, "discount_amount": None})
