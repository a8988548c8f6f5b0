"""The pages of customers: that they say what the marts say of each, find who is asked for, and have nobody who was erased."""

import re
import secrets
from decimal import Decimal
from html import unescape

import pytest
from flask import Flask

from northstar.runs.erase.request import PREFIX
from northstar.use.customers import (
    ERASED,
    customer_path,
    describe_movements,
    find_customer,
    find_customers,
    read_search,
)
from northstar.use.marts import Marts
from northstar.use.pages.customers import add_customers
from northstar.use.pages.why import add_why
from northstar.warehouse import db
from tests.support import select, utc


@pytest.fixture(scope="module")
def marts(built):
    return Marts(built)


@pytest.fixture(scope="module")
def browser(marts):
    server = Flask("customers")
    add_customers(server, lambda: marts, ["Executive", "Support"])
    add_why(server, lambda: marts)
    return server.test_client()


def ids(text: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="/customers/([^"]+)"', text)


def test_the_movements_of_each_customer_add_up_to_its_mrr_by_month(marts, built):
    months = select(built, "select account_id, month, sum(mrr_at_end_exact) as mrr from mrr_by_account group by 1, 2 order by 1, 2")  # fmt: skip
    assert len(months) > 20
    by_account: dict[str, dict] = {}
    for row in months:
        by_account.setdefault(row["account_id"], {})[row["month"]] = row["mrr"]
    currencies = set()
    for account_id, mrr_by_month in by_account.items():
        customer = find_customer(marts, account_id)
        for month, mrr in mrr_by_month.items():
            until = [m for m in customer.movements if (m.moved_on.year, m.moved_on.month) <= (month.year, month.month)]
            assert abs(sum(m.amount for m in until) - mrr) < Decimal("0.0001"), (account_id, month)
            assert until[-1].after == sum(m.amount for m in until)
        assert abs(customer.movements[-1].after - customer.standing["mrr_exact"]) < Decimal("0.0001")
        # each has its reason
        assert all(m.reason for m in customer.movements), account_id
        currencies |= {m.kind for m in customer.movements}
    assert {"new", "churn", "expansion", "fx"} <= currencies, currencies


def period(item: str, begins: str, ends: str | None, mrr: int, **values) -> dict:
    return {
        "subscription_item_id": item, "application": "shop", "plan_id": "pro_m", "quantity": Decimal(1), "currency": "EUR", "billing_interval": "month", "status": "active",
        "cancel_reason": None, "valid_from": utc(begins), "counts_from_on": utc(begins).date(), "counts_until_on": ends and utc(ends).date(),
        "mrr_in_currency": Decimal(mrr), "list_mrr_in_currency": Decimal(mrr), **values,
    }  # fmt: skip


def test_a_movement_says_what_changed_in_the_subscription():
    periods = [
        period("a", "2025-01-05", "2025-02-01", 10),
        period("a", "2025-02-01", "2025-03-01", 30, quantity=Decimal(3)),
        period("a", "2025-03-01", "2025-04-01", 20, quantity=Decimal(3), list_mrr_in_currency=Decimal(30)),
        period("a", "2025-04-01", "2025-05-01", 90, plan_id="premium_m"),
        period("b", "2025-04-10", "2025-05-01", 5, plan_id="seat_m", quantity=Decimal(2)),
        period("a", "2025-05-01", None, 0, status="canceled", cancel_reason="too_expensive", counts_until_on=None),
    ]
    days = {"2025-01-05": ("new", 10), "2025-01-20": ("fx", 1), "2025-01-22": ("fx", -2), "2025-02-01": ("expansion", 20), "2025-03-01": ("contraction", -10),
            "2025-04-01": ("expansion", 70), "2025-04-10": ("expansion", 5), "2025-05-01": ("churn", -94)}  # fmt: skip
    moved = [
        {"movement_date": utc(d).date(), "application": "shop", "movement_type": k, "amount_exact": Decimal(a)}
        for d, (k, a) in days.items()
    ]
    said = [(f"{m.moved_on:%m-%d}", m.amount, m.after, m.reason) for m in describe_movements(moved, periods)]
    assert said == [
        ("01-05", 10, 10, "pro_m began"),
        ("01-22", -1, 9, "exchange rate of EUR, on 2 days"),
        ("02-01", 20, 29, "units 1 → 3"),
        ("03-01", -10, 19, "discount 0.00 → 10.00 EUR a month"),
        ("04-01", 70, 89, "pro_m → premium_m, units 3 → 1, discount 10.00 → 0.00 EUR a month"),
        ("04-10", 5, 94, "seat_m began, 2 units"),
        ("05-01", -94, 0, "premium_m ended: too_expensive; seat_m ended: too_expensive"),
    ]


def test_the_table_finds_sorts_and_turns_its_pages(marts, browser, built):
    every = select(built, "select * from customers order by mrr desc nulls last, account_id")
    answer = browser.get("/customers")
    assert answer.status_code == 200 and ids(answer.text) == [row["account_id"] for row in every[:50]]
    assert f"1 to 50 of {len(every)} customers" in answer.text and 'aria-sort="descending"' in answer.text
    last = -(-len(every) // 50)
    for number in (last, last + 5):
        assert ids(browser.get(f"/customers?page={number}").text) == [r["account_id"] for r in every[(last - 1) * 50 :]]
    # each column, both ways, has everybody once
    for name in ("account_id", "plan_tier", "first_paid_at", "last_active_at", "open_tickets", "failed_payments"):
        for order, is_down in (("up", False), ("down", True)):
            rows = find_customers(marts, read_search({"sort": name, "order": order})).rows
            values = [row[name] for row in rows if row[name] is not None]
            assert values == sorted(values, reverse=is_down), (name, order)
    health = [row["health"] for row in find_customers(marts, read_search({"sort": "health"})).rows if row["health"]]
    assert health == sorted(health, key=["at_risk", "watch", "well"].index) and len(set(health)) > 1
    # filters, together
    fitting = [r for r in every if r["country"] == "US" and r["status"] == "paying" and r["mrr"] >= 20]
    assert 0 < len(fitting) < len(every)
    assert (
        ids(browser.get("/customers?country=US&status=paying&least=20").text) == [r["account_id"] for r in fitting][:50]
    )
    assert find_customers(marts, read_search({"failures": "yes"})).count == sum(r["failed_payments"] > 0 for r in every)
    assert find_customers(marts, read_search({"tickets": "yes"})).count == sum(r["open_tickets"] > 0 for r in every)
    assert find_customers(marts, read_search({"plan_tier": "(unknown)"})).count == sum(
        not r["plan_tier"] for r in every
    )
    one = every[7]["account_id"]
    assert one in ids(browser.get(f"/customers?text={one[-5:].upper()}").text)
    assert "no customer fits" in browser.get("/customers?text=%25' or 1=1 --").text


@pytest.mark.parametrize(("address", "words"), [
    ("/customers?sort=email_hash", "customers cannot be sorted by 'email_hash', but by account_id, application"),
    ("/customers?page=0", "'0' is no page's number"),
    ("/customers?page=99999999999999999999", "is no page's number"),
    ("/customers?least=much", "'much' is no amount, such as 99.50"),
    ("/customers?most=NaN", "'NaN' is no amount"),
    ("/customers/nobody", "there is no customer 'nobody'"),
    ("/customers/<script>alert(1)</script>", "there is no customer '<script>alert(1)</script>'"),
])  # fmt: skip
def test_an_address_that_names_no_customer_says_what_is_wrong(browser, address, words):
    answer = browser.get(address)
    assert answer.status_code == 404 and words in unescape(answer.text)
    assert "<script>" not in answer.text


def test_the_page_of_a_customer_has_what_the_marts_have_of_it(browser, built):
    held = {
        "fct_payments": ("charge_id", "Payments"), "fct_refunds": ("refund_id", "Refunds"), "fct_tickets": ("ticket_id", "Tickets"),
        "fct_subscription_periods": ("subscription_item_id", "Subscriptions"), "fct_sessions": ("application", "Usage"),
    }  # fmt: skip
    seen = set()
    for mart, (column, title) in held.items():
        query = f"select account_id, {column} from {mart} where account_id is not null order by 1, 2 limit 1"
        for row in select(built, query):
            text = unescape(browser.get(customer_path(row["account_id"])).text)
            assert row[column] in text and f">{title}</h2>" in text, mart
            seen.add(mart)
    # the small company has refunded nothing
    assert seen == set(held) - {"fct_refunds"}
    booking = select(built, "select tutor_id, booking_id from fct_bookings order by 2 limit 1")[0]
    assert booking["booking_id"] in browser.get(customer_path(booking["tutor_id"])).text
    paying = select(built, "select account_id from mrr_by_account order by 1 limit 1")[0]["account_id"]
    text = unescape(browser.get(customer_path(paying)).text)
    for words in (
        "movements, which add up to",
        '<svg viewBox="0 0 1000 200"',
        "that registered in",
        "/why/mart/cohort_retention",
    ):
        assert words in text, words
    free = select(built, "select account_id from customers where status = 'free' order by 1 limit 1")[0]["account_id"]
    assert "This customer never had any MRR." in browser.get(customer_path(free)).text


def test_contributors_lead_to_their_pages(browser, built):
    reason = select(built, "select cancel_reason, accounts from churn_reasons where application = 'all' order by accounts desc limit 1")[0]  # fmt: skip
    text = browser.get(f"/why/mart/churn_reasons?application=all&cancel_reason={reason['cancel_reason']}").text
    left = ids(text)
    assert len(left) >= reason["accounts"] and all(
        browser.get(f"/customers/{name}").status_code == 200 for name in left[:3]
    )


def test_an_erased_customer_is_nowhere(marts, browser, built):
    name = PREFIX + secrets.token_hex(12)
    assert ERASED.fullmatch(name) and customer_path(name) == ""
    with db.connect(built, "owner") as connection:
        connection.execute(
            "insert into marts.customers select %s, c.application, account_type, country, created_at, deleted_at, 'paying', 10 ^ 9, mrr_exact, plan_tier, first_paid_at, "
            "last_active_at, open_tickets, oldest_open_ticket_at, failed_payments, last_failed_payment_at, last_contraction_on, health, health_signs, -1 "
            "from marts.customers as c order by account_id limit 1", [name],
        )  # fmt: skip
    try:
        assert name not in browser.get("/customers").text
        assert "no customer fits" in browser.get(f"/customers?text={name}").text
        assert f"there is no customer '{name}'" in unescape(browser.get(f"/customers/{name}").text)
    finally:
        with db.connect(built, "owner") as connection:
            connection.execute("delete from marts.customers where _version = -1")
