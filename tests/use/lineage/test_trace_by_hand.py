"""Columns whose lineage was traced by hand, by reading the models from the column down to the landed entities."""

import pytest

from northstar.use.lineage.published import published_lineage
from northstar.use.lineage.trace import find_column, trace_up
from northstar.warehouse import db

PRICED = {
    "subscriptions": {
        "status", "is_metered", "quantity", "unit_amount", "discount_percent", "discount_amount", "billing_interval", "interval_count",
    },
}  # fmt: skip
MRR = {"subscriptions": PRICED["subscriptions"] | {"currency"}, "fx_rates": {"rate_to_reporting"}}
# {column: the landed columns that it is computed from}; "*" stands for the rows that are counted
VALUES = {
    # status and is_metered decide whether an interval counts, inside the column's own expression
    "fct_subscription_periods.mrr_in_currency": PRICED,
    "fct_subscription_periods.counts_until_on": {"subscriptions": {"valid_from", "valid_to"}},
    "account_mrr.mrr_after": MRR,
    # the difference of an account's days, and in the other arm of the union that of the rates
    "mrr_movements.amount": MRR,
    # chosen by the movement's type, which a day's first payment decides: so by days, of intervals and of rates
    "mrr_movements.plan_tier": {
        "subscriptions": MRR["subscriptions"] | {"plan_tier", "valid_from", "valid_to"},
        "fx_rates": {"rate_to_reporting", "rate_date"},
    },
    "churn_reasons.mrr": MRR,
    "churn_reasons.cancel_reason": {"subscriptions": {"cancel_reason"}},
    "fct_payments.amount_reporting": {"charges": {"amount", "currency"}, "fx_rates": {"rate_to_reporting"}},
    "fct_payments.refunded_minor": {"refunds": {"amount"}},
    # a window without arguments is made of what it orders and divides by
    "fct_payments.attempt_number": {"charges": {"payment_id", "charge_id", "created_at"}},
    "fct_payments.is_payment_collected": {"charges": {"status"}},
    "fct_refunds.application": {"charges": {"application"}, "refunds": {"application"}},
    "cash_collected": {
        "charges": {"amount", "currency", "status"}, "refunds": {"amount", "currency"}, "fx_rates": {"rate_to_reporting"},
    },
    "payment_retries": {"charges": {"payment_id", "charge_id", "created_at"}},
    # the staging view hides a cancellation that is stamped before the request
    "gmv": {"bookings": {"cancelled_at", "requested_at", "price_amount", "currency"}, "fx_rates": {"rate_to_reporting"}},
    "marketplace_net_revenue": {
        "bookings": {"cancelled_at", "requested_at", "price_amount", "currency", "commission_rate"}, "fx_rates": {"rate_to_reporting"},
    },
    "messages_per_booking": {"messages": {"*"}, "bookings": {"*"}},
    "fct_tickets.first_response_minutes": {"ticket_events": {"occurred_at"}, "tickets": {"created_at"}},
    "fct_sessions.tool_invocations": {"events": {"*"}},
    "fct_sessions.channel": {"events": {"channel"}},
    "error_rate": {"api_requests": {"*"}},
    "uptime": {"uptime_checks": {"*"}},
    "sprints.completed_points": {"work_items": {"story_points"}},
    "core.conversations.ended_naturally": {"conversations": {"ended_naturally", "ended_at", "started_at"}},
    "fct_changes.lead_time_hours": {
        "commits": {"committed_at"}, "pull_requests": {"merged_at", "opened_at"}, "deployments": {"started_at"},
    },
}  # fmt: skip
# {column: the other landed columns that choose the rows on the way}
ROWS = {
    # what the other left joins read cannot change this column
    "fct_refunds.application": {"charges": {"*", "charge_id", "created_at"}, "refunds": {"*", "charge_id", "created_at"}},
    "fct_payments.refunded_minor": {
        "charges": {"*", "charge_id", "created_at"}, "refunds": {"*", "charge_id", "created_at", "status"},
    },
    "fct_sessions.channel": {"events": {"*", "application", "session_id", "occurred_at", "event_id"}},
    "fct_sessions.tool_invocations": {"events": {"application", "session_id", "occurred_at", "event_name"}},
    "probe_hours.up": {"uptime_checks": {"application", "service", "is_third_party", "checked_at", "is_up"}},
    "sprints.completed_points": {"work_items": {"*", "application", "sprint", "sprint_ends_on", "completed_at", "created_at"}},
    "core.conversations.ended_naturally": {"conversations": {"*", "conversation_id"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def lineage(built):
    with db.connect(built, "transformer") as connection:
        return published_lineage(built, connection).lineage


def by_entity(origins) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for origin in origins:
        found.setdefault(origin.relation.removeprefix("staging."), set()).add(origin.column)
    return found


@pytest.mark.parametrize("name", VALUES)
def test_values_come_from_the_landed_columns_traced_by_hand(lineage, name):
    assert by_entity(trace_up(lineage, find_column(lineage, name)).values) == VALUES[name]


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_chosen_by_the_landed_columns_traced_by_hand(lineage, name):
    assert by_entity(trace_up(lineage, find_column(lineage, name)).rows) == ROWS[name]
