"""Accounts for programs are those of the mart, as the pages show them."""

import pytest

from northstar.use.answers.customers import list_customers
from northstar.use.answers.refusals import Refused
from northstar.use.customers import Search, find_customers
from northstar.use.marts import Marts
from tests.support import select


def test_customers_are_those_of_the_pages(ask, built):
    marts = Marts(built)
    for search, asked in (
        (Search(), {}),
        (Search(chosen={"application": "web"}), {"application": "web"}),
        (Search(chosen={"country": "US"}), {"country": "US"}),
    ):
        shown, answer = find_customers(marts, search), ask(list_customers, **asked, limit=20)
        assert answer.is_cut == (shown.count > 20) and answer.customers
        for customer, row in zip(answer.customers, shown.rows[:20], strict=True):
            assert [row[name] for name in ("account_id", "application", "mrr", "plan_tier", "status", "health", "first_paid_at", "open_tickets")] == [
                customer.account_id, customer.application, customer.mrr, customer.plan_tier, customer.status, customer.health, customer.first_paid_at, customer.open_tickets
            ]  # fmt: skip
    one = select(built, "select c.*, a.acquisition_channel from customers as c join dim_accounts as a using (account_id) where mrr > 0 order by account_id limit 1")[0]  # fmt: skip
    (found,) = ask(list_customers, account_id=one["account_id"]).customers
    assert (found.mrr, found.acquisition_channel) == (one["mrr"], one["acquisition_channel"])
    with pytest.raises(Refused, match="there is no account"):
        ask(list_customers, account_id="nobody")
