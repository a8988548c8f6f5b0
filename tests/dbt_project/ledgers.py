"""The worked MRR ledgers as landed rows: each case is an application of its own."""

from datetime import UTC, date, datetime
from pathlib import Path

import yaml

CASES = yaml.safe_load((Path(__file__).parent / "mrr_cases.yml").read_text())


def instant(value) -> datetime:
    """A UTC instant from a YAML date, datetime or text."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return datetime.fromisoformat(value).replace(tzinfo=UTC)


def subscription_rows(case: dict) -> list[dict]:
    """The case's subscription rows in contract shape; item and account ids carry the case's id."""
    return [
        {
            "subscription_item_id": f"{case['id']}-{row['item']}",
            "subscription_id": f"{case['id']}-{row['item']}",
            "account_id": f"{case['id']}-{row['acct']}",
            "application": case["id"],
            "plan_id": row.get("plan", "plan"),
            "plan_tier": row.get("plan"),
            "billing_interval": row["interval"],
            "interval_count": row.get("count", 1),
            "quantity": row.get("qty", 1),
            "unit_amount": row["amount"],
            "currency": row.get("cur", "USD"),
            "discount_percent": row.get("discount_percent"),
            "discount_amount": row.get("discount_amount"),
            "is_metered": row.get("metered", False),
            "status": row.get("status", "active"),
            "valid_from": instant(row["from"]).isoformat(),
            "valid_to": instant(row["to"]).isoformat() if "to" in row else None,
            "updated_at": instant(row["from"]).isoformat(),
        }
        for row in case["subscriptions"]
    ]


def rate_rows(case: dict) -> list[dict]:
    """The case's exchange rates in contract shape."""
    return [
        {"rate_date": str(row["date"]), "currency": row["cur"], "rate_to_reporting": row["rate"]}
        for row in case.get("fx_rates", [])
    ]
