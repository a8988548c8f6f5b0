"""What the marts know of customers: the table of all of them, and everything of one. Erased people are in neither."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from itertools import groupby
from urllib.parse import quote, urlencode

from northstar.base.errors import NorthstarError
from northstar.use.marts import Marts
from northstar.warehouse.rows import Row

PAGE_ROWS = 50
# rows of each of a customer's lists, newest first
LISTED = 100
# the name that an erasure gives an account (northstar.runs.erase.request)
ERASED = re.compile("erased-[0-9a-f]{24}")
NOT_ERASED = f"account_id !~ '^{ERASED.pattern}$'"
# {what a reader sorts by: whether the largest comes first}
SORTABLE = {
    "account_id": False, "application": False, "mrr": True, "plan_tier": False, "country": False, "status": False, "first_paid_at": True,
    "last_active_at": True, "open_tickets": True, "failed_payments": True, "health": False,
}  # fmt: skip
# the worst health first
ORDER = {"health": "array_position(array['at_risk', 'watch', 'well'], health)"}
CHOICES = ("application", "plan_tier", "country", "status", "health")
NOT_PUBLISHED = "customers are published from the next run on"
NONE = "(unknown)"


@dataclass(frozen=True)
class Search:
    """What a reader asks of the table of customers.

    text: a part of the account's id. chosen: {column of CHOICES: value}. least, most: bounds of MRR. with_tickets, with_failures: only
    those that have an open ticket, or a payment that failed. sort: a column of SORTABLE. number: of the page, from 1.
    """

    text: str = ""
    chosen: dict[str, str] = field(default_factory=dict)
    least: Decimal | None = None
    most: Decimal | None = None
    with_tickets: bool = False
    with_failures: bool = False
    sort: str = "mrr"
    is_descending: bool = True
    number: int = 1

    def address(self, **changed: object) -> str:
        """The address of the table with this search, some of it changed."""
        asked: dict[str, object] = {
            "text": self.text, **self.chosen, "least": self.least, "most": self.most, "tickets": "yes" if self.with_tickets else "",
            "failures": "yes" if self.with_failures else "", "sort": self.sort, "order": "down" if self.is_descending else "up",
            "page": self.number, **changed,
        }  # fmt: skip
        given = {name: value for name, value in asked.items() if value not in ("", None)}
        return f"/customers?{urlencode(given)}"


@dataclass(frozen=True)
class Found:
    """A page of the table. rows: of the mart customers. count: of all customers that fit, on that many pages (at least one)."""

    rows: list[Row]
    count: int
    number: int
    pages: int


@dataclass(frozen=True)
class Movement:
    """A movement of a customer's MRR, or those of the exchange rates of a month. after: the MRR in all applications that followed it."""

    moved_on: date
    application: str
    kind: str
    amount: Decimal
    after: Decimal
    reason: str


@dataclass(frozen=True)
class Customer:
    """Everything of one customer. The lists are newest first, with at most LISTED rows; counts: how many rows each has in all."""

    standing: Row
    movements: list[Movement]
    transfers: list[Row]
    lists: dict[str, list[Row]]
    counts: dict[str, int]
    cohorts: list[Row]


def customer_path(account_id: str) -> str:
    """The address of a customer's page; '' for an erased one, who has none."""
    return "" if ERASED.fullmatch(account_id) else f"/customers/{quote(account_id, safe='')}"


def read_search(given: dict[str, str]) -> Search:
    """The search that an address asks for. Raises NorthstarError for what cannot be meant."""
    sort = given.get("sort") or "mrr"
    if sort not in SORTABLE:
        raise NorthstarError(f"customers cannot be sorted by {sort[:40]!r}, but by {', '.join(SORTABLE)}")
    number = given.get("page") or "1"
    if not (number.isascii() and number.isdigit() and int(number[:9]) >= 1 and len(number) < 8):
        raise NorthstarError(f"{number[:40]!r} is no page's number")
    order = given.get("order") or ("down" if SORTABLE[sort] else "up")
    return Search(
        given.get("text", "").strip()[:100], {name: given[name] for name in CHOICES if given.get(name)},
        _amount(given.get("least", "")), _amount(given.get("most", "")), bool(given.get("tickets")), bool(given.get("failures")),
        sort, order == "down", int(number),
    )  # fmt: skip


def _amount(text: str) -> Decimal | None:
    if not text.strip():
        return None
    try:
        amount = Decimal(text.strip())
    except InvalidOperation as exc:
        raise NorthstarError(f"{text[:40]!r} is no amount, such as 99.50") from exc
    if not amount.is_finite() or abs(amount) > 10**15:
        raise NorthstarError(f"{text[:40]!r} is no amount, such as 99.50")
    return amount


def find_customers(marts: Marts, search: Search) -> Found:
    """The page of the table that a search asks for, or the last one."""
    _require_mart(marts)
    where, order, parameters = _conditions(search)
    count = marts.rows(f"select count(*) as count from customers where {where}", **parameters)[0]["count"]
    pages = max(1, -(-count // PAGE_ROWS))
    number = min(search.number, pages)
    rows = marts.rows(
        f"select * from customers where {where} order by {order} limit {PAGE_ROWS} offset {PAGE_ROWS * (number - 1)}",
        **parameters,
    )
    return Found(rows, count, number, pages)


def first_customers(marts: Marts, search: Search, account_id: str, limit: int) -> list[Row]:
    """The first customers that a search asks for, with acquisition_channel and first_mrr_at of their accounts. account_id: this one alone; '' for any."""
    _require_mart(marts)
    where, order, parameters = _conditions(search)
    return marts.rows(
        f"select c.*, a.acquisition_channel, a.first_mrr_at from (select * from customers where {where} and %(account)s in ('', account_id) "
        f"order by {order} limit %(most)s) as c left join dim_accounts as a using (account_id) order by {order}",
        **parameters, account=account_id, most=limit,
    )  # fmt: skip


def _conditions(search: Search) -> tuple[str, str, dict[str, object]]:
    """(condition, order, parameters) of a search."""
    conditions, parameters = [NOT_ERASED], dict[str, object]()
    if search.text:
        conditions.append("position(lower(%(part)s) in lower(account_id)) > 0")
        parameters["part"] = search.text
    for name, value in search.chosen.items():
        conditions.append(f"{name} is null" if value == NONE else f"{name} = %({name})s")
        parameters |= {} if value == NONE else {name: value}
    for name, bound, operator in (("least", search.least, ">="), ("most", search.most, "<=")):
        if bound is not None:
            conditions.append(f"mrr {operator} %({name})s")
            parameters[name] = bound
    conditions += ["open_tickets > 0"] if search.with_tickets else []
    conditions += ["failed_payments > 0"] if search.with_failures else []
    order = f"{ORDER.get(search.sort, search.sort)} {'desc' if search.is_descending else 'asc'} nulls last, account_id"
    return " and ".join(conditions), order, parameters


def choices(marts: Marts) -> dict[str, list[str]]:
    """{column: the values that customers have in it}, for the filters."""
    _require_mart(marts)
    frame = marts.frame(
        "select name, value from ("
        + " union all ".join(f"select distinct '{name}' as name, {name} as value from customers where {NOT_ERASED}" for name in CHOICES)
        + ") as found order by name, value nulls last"
    )  # fmt: skip
    found: dict[str, list[str]] = {name: [] for name in CHOICES}
    for row in frame.to_dict("records"):
        if row["value"] is not None or row["name"] in ("plan_tier", "country"):
            found[row["name"]].append(row["value"] or NONE)
    return found


def find_customer(marts: Marts, account_id: str) -> Customer:
    """Everything of the customer. Raises NorthstarError where there is none, or it was erased."""
    _require_mart(marts)
    found = marts.rows(
        "select c.*, a.acquisition_channel, a.first_mrr_at, a.first_active_at from customers as c "
        f"left join dim_accounts as a using (account_id) where account_id = %(account)s and {NOT_ERASED}", account=account_id,
    )  # fmt: skip
    if not found:
        raise NorthstarError(f"there is no customer {account_id[:100]!r}")
    periods = _rows(
        marts,
        "select * from fct_subscription_periods where account_id = %(account)s order by valid_from, subscription_item_id",
        account_id,
    )
    moved = _rows(
        marts,
        "select * from mrr_movements where account_id = %(account)s order by movement_date, movement_type, application",
        account_id,
    )
    lists, counts = {"subscriptions": list(reversed(periods))[:LISTED]}, {"subscriptions": len(periods)}
    for name, query in LISTS.items():
        rows = _rows(marts, f"{query} limit {LISTED}", account_id)
        lists[name], counts[name] = rows, rows[0]["all_rows"] if rows else 0
    return Customer(
        found[0], describe_movements(moved, periods),
        _rows(marts, "select * from mrr_transfers where account_id = %(account)s order by transferred_on desc", account_id),
        lists, counts, _cohorts(marts, found[0]),
    )  # fmt: skip


# what is listed of a customer besides its subscriptions
LISTS = {
    "payments": "select *, count(*) over () as all_rows from fct_payments where account_id = %(account)s order by created_at desc, charge_id",
    "refunds": "select *, count(*) over () as all_rows from fct_refunds where account_id = %(account)s order by created_at desc, refund_id",
    "tickets": "select *, count(*) over () as all_rows from fct_tickets where account_id = %(account)s order by created_at desc, ticket_id",
    "bookings": "select *, count(*) over () as all_rows from fct_bookings where %(account)s in (student_id, tutor_id) order by requested_at desc, booking_id",
    "months": "select application, date_trunc('month', started_at)::date as month, count(*) as sessions, sum(events) as events, "
    "sum(tool_invocations) as tool_invocations, sum(duration_seconds) / 60 as minutes, count(*) over () as all_rows "
    "from fct_sessions where account_id = %(account)s group by 1, 2 order by 2 desc, 1",
}


def _rows(marts: Marts, text: str, account_id: str) -> list[Row]:
    return marts.rows(text, account=account_id)


def _cohorts(marts: Marts, standing: Row) -> list[Row]:
    """The newest month of each cohort that the customer is in."""
    months = {"activity": standing["created_at"], "paying": standing["first_mrr_at"]}
    return [
        row
        for kind, moment in months.items()
        if moment is not None
        for row in marts.rows(
            "select * from cohort_retention where cohort_kind = %(kind)s and application = %(application)s "
            "and cohort_month = date_trunc('month', %(moment)s::timestamptz)::date order by months_since desc limit 1",
            kind=kind,
            application=standing["application"],
            moment=moment,
        )
    ]


def describe_movements(moved: list[Row], periods: list[Row]) -> list[Movement]:
    """The movements in their order, each with its reason: what changed in the subscription items that day. Rates are one row a month."""
    movements, after = list[Movement](), Decimal(0)
    for (_, application, kind, _), same in groupby(moved, key=_group):
        rows = list(same)
        amount = sum((row["amount_exact"] for row in rows), Decimal(0))
        after += amount
        own = [p for p in periods if p["application"] == application]
        movements.append(
            Movement(rows[-1]["movement_date"], application, kind, amount, after, _reason(rows, own, kind))
        )
    return movements


def _group(row: Row) -> tuple[date, str, str, date | None]:
    day = row["movement_date"]
    is_rate = row["movement_type"] == "fx"
    return day.replace(day=1), row["application"], row["movement_type"], None if is_rate else day


def _reason(rows: list[Row], periods: list[Row], kind: str) -> str:
    day = rows[-1]["movement_date"]
    if kind == "fx":
        currencies = sorted({p["currency"] for p in periods if p["mrr_in_currency"]})
        return f"exchange rate of {', '.join(currencies)}, on {len(rows)} {'day' if len(rows) == 1 else 'days'}"
    before, now = _counted(periods, day - timedelta(days=1)), _counted(periods, day)
    parts = [
        _change_of_item(before.get(item), now.get(item), periods, day)
        for item in sorted(before.keys() | now.keys())
        if before.get(item) != now.get(item)
    ]
    return "; ".join(filter(None, parts))


def _counted(periods: Iterable[Row], day: date) -> dict[str, Row]:
    """{item: its interval that has MRR at the day's end}."""
    return {
        p["subscription_item_id"]: p
        for p in periods
        if p["mrr_in_currency"] > 0
        and p["counts_from_on"] <= day
        and (p["counts_until_on"] is None or day < p["counts_until_on"])
    }


def _change_of_item(before: Row | None, now: Row | None, periods: list[Row], day: date) -> str:
    if now is None and before is not None:
        said = [p for p in periods if p["cancel_reason"] is not None and p["valid_from"].date() <= day]
        why = max(said, key=lambda p: (p["valid_from"], p["subscription_item_id"]))["cancel_reason"] if said else ""
        later = [
            p["status"]
            for p in periods
            if p["subscription_item_id"] == before["subscription_item_id"] and p["valid_from"].date() == day
        ]
        return f"{before['plan_id']} ended" + (f": {why}" if why else f" ({later[-1]})" if later else "")
    if now is not None and before is None:
        return f"{now['plan_id']} began" + (f", {now['quantity']:f} units" if now["quantity"] != 1 else "")
    if now is None or before is None:
        return ""
    parts = [
        f"{words}{before[name]} → {now[name]}"
        for name, words in (("plan_id", ""), ("quantity", "units "), ("currency", ""), ("billing_interval", "billed by "))
        if before[name] != now[name]
    ]  # fmt: skip
    if not parts and before["list_mrr_in_currency"] != now["list_mrr_in_currency"]:
        parts.append(
            f"{now['plan_id']} priced {before['list_mrr_in_currency']:,.2f} → {now['list_mrr_in_currency']:,.2f} {now['currency']} a month"
        )
    discounts = [p["list_mrr_in_currency"] - p["mrr_in_currency"] for p in (before, now)]
    if discounts[0] != discounts[1]:
        parts.append(f"discount {discounts[0]:,.2f} → {discounts[1]:,.2f} {now['currency']} a month")
    return ", ".join(parts)


def find_churned(marts: Marts, reasons: list[Row]) -> list[Row]:
    """Who is counted in these rows of churn_reasons, newest first: account_id, movement_date, application, mrr."""
    # the reason as churn_reasons has it: the newest that the subscription's rows gave by that day
    return marts.rows(
        "select distinct m.account_id, m.movement_date, m.application, -m.amount as mrr from mrr_movements as m left join lateral ("
        "select p.cancel_reason from fct_subscription_periods as p where p.account_id = m.account_id and p.application = m.application "
        "and p.cancel_reason is not null and p.valid_from::date <= m.movement_date order by p.valid_from desc, p.subscription_item_id limit 1"
        ") as r on true join unnest(%(applications)s::text[], %(months)s::date[], %(reasons)s::text[]) as c (application, month, cancel_reason) "
        "on c.application in ('all', m.application) and c.month = date_trunc('month', m.movement_date::timestamp)::date "
        "and c.cancel_reason = coalesce(r.cancel_reason, '(unknown)') "
        f"where m.movement_type = 'churn' and m.{NOT_ERASED} order by m.movement_date desc, m.account_id limit {LISTED}",
        applications=[row["application"] for row in reasons], months=[row["month"] for row in reasons],
        reasons=[row["cancel_reason"] for row in reasons],
    )  # fmt: skip


def _require_mart(marts: Marts) -> None:
    if not len(marts.frame("select 1 as yes where to_regclass('marts.customers') is not null")):
        raise NorthstarError(NOT_PUBLISHED)
