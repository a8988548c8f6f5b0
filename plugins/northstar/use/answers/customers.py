"""Accounts with what they pay."""

from northstar.use.answers.reading import Reading
from northstar.use.answers.refusals import Refused
from northstar.use.answers.require import require_application, require_limit
from northstar.use.answers.shapes import Customer, CustomerList
from northstar.use.customers import NOT_ERASED

CUSTOMERS, MOST_CUSTOMERS = 100, 5_000


def list_customers(
    reading: Reading, application: str = "all", account_id: str = "", country: str = "", limit: int = CUSTOMERS
) -> CustomerList:
    """Accounts with their MRR at the end of the newest month, the largest first; one account, or those of a country or an application.

    Erased people are not among them.

    Needs the scope `customers`. Raises Refused.
    """
    reading.require("customers")
    require_limit(limit, MOST_CUSTOMERS)
    application = require_application(reading, application)
    rows = reading.rows(
        "select d.account_id, d.application, d.account_type, d.country, d.acquisition_channel, d.created_at, d.deleted_at, d.first_mrr_at, d.last_active_at, "
        "m.mrr, m.plan_tier, n.month from dim_accounts as d cross join (select max(month)::timestamptz as month from mrr_by_account) as n "
        # an account can pay in several applications
        "left join lateral (select sum(b.mrr_at_end) as mrr, (array_agg(b.plan_tier_at_end order by b.mrr_at_end desc))[1] as plan_tier "
        "from mrr_by_account as b where b.account_id = d.account_id and b.month = n.month::date and (%(application)s = 'all' or b.application = %(application)s)"
        ") as m on true where (%(application)s = 'all' or d.application = %(application)s) and (%(account)s = '' or d.account_id = %(account)s) "
        f"and d.{NOT_ERASED} "
        "and (%(country)s = '' or d.country = %(country)s) order by m.mrr desc nulls last, d.account_id limit %(most)s",
        application=application, account=account_id, country=country, most=limit + 1,
    )  # fmt: skip
    if account_id and not rows:
        raise Refused("bad_request", f"there is no account {account_id[:80]!r} in {application}")
    customers = [
        Customer(
            row["account_id"], row["application"], row["account_type"], row["country"], row["acquisition_channel"], row["created_at"], row["deleted_at"],
            row["first_mrr_at"], row["last_active_at"], row["plan_tier"], row["mrr"],
        )
        for row in rows[:limit]
    ]  # fmt: skip
    return CustomerList(
        reading.provenance,
        reading.catalogue()["mrr"]["definition"],
        reading.currency,
        rows[0]["month"] if rows else None,
        len(rows) > limit,
        customers,
    )
