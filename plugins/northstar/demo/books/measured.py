"""Since when each metric is measured: before what it stands on was first seen in an application, it has no value there.

Metrics that are not named here stand on their own rows alone, and have no line before the first of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from northstar.demo.books.ledger import BookRow, Ledger
from northstar.demo.books.revenue import has_mrr
from northstar.demo.books.support import ends_of
from northstar.demo.books.targets import WINDOWS

ACTIVATING = ("feature.used", "tool.invoked", "booking.requested")
RETENTION = ("retention_d1", "retention_d7", "retention_d30", "retention_d90")
# an application, and when something was seen in it
Sighting = tuple[str, datetime]


def leave_out_unmeasured(ledger: Ledger) -> None:
    """Take the lines of the months before a metric was measured out of the results."""
    begins = _beginnings(ledger)
    named = {metric for metric, _ in begins}
    ledger.results = {
        key: line
        for key, line in ledger.results.items()
        if key[0] not in named
        or ((begin := begins.get((key[0], key[2]))) is not None and ledger.month_of(begin) <= key[1])
    }


def _beginnings(ledger: Ledger) -> dict[tuple[str, str], datetime | None]:
    """By metric and application: when the last of its needs was first seen, less the metric's window; None where one never was."""
    applications = {row["application"] for rows in ledger.rows.values() for row in rows} | {"all"}
    begins: dict[tuple[str, str], datetime | None] = {}
    for metrics, needs in _needs(ledger):
        firsts = [_first(need) for need in needs]
        for metric in metrics:
            for name in applications:
                seen = [first.get(name) for first in firsts]
                known = [moment for moment in seen if moment is not None]
                window = timedelta(days=WINDOWS.get(metric, 0))
                begins[metric, name] = max(known) - window if len(known) == len(seen) else None
    return begins


def _first(sightings: Iterable[Sighting]) -> dict[str, datetime]:
    first: dict[str, datetime] = {}
    for application, when in sightings:
        for name in (application, "all"):
            first[name] = min(first.get(name, when), when)
    return first


def _needs(ledger: Ledger) -> Iterator[tuple[tuple[str, ...], list[list[Sighting]]]]:
    """Metrics with the sightings of each of their needs."""
    rows, accounts = ledger.rows, ledger.accounts

    def of(entity: str, time: str, *filled: str, **wanted: object) -> list[Sighting]:
        """Rows in which columns are filled, and others have the wanted value or one of them."""
        return [
            (r["application"], r[time] if isinstance(r[time], datetime) else ledger.midnight(r[time]))
            for r in rows[entity]
            if all(r[c] is not None for c in filled)
            and all(r[c] in v if isinstance(v, tuple) else r[c] == v for c, v in wanted.items())
        ]

    def at_home(
        given: list[BookRow], time: str, account: str = "account_id", kind: str | None = None
    ) -> list[Sighting]:
        """Rows in the application of their account, of the known ones."""
        return [
            (
                accounts[r[account]]["application"],
                r[time] if isinstance(r[time], datetime) else ledger.midnight(r[time]),
            )
            for r in given
            if r[account] in accounts and (kind is None or accounts[r[account]]["account_type"] == kind)
        ]

    def named(*names: str) -> list[BookRow]:
        return [e for e in rows["events"] if e["event_name"] in names and e["account_id"]]

    registered, creators = of("accounts", "created_at"), of("accounts", "created_at", account_type="creator")
    active_rows = [
        e for e in rows["events"] if e["account_id"] and not e["event_name"].endswith("_failed")
        and not ((a := accounts.get(e["account_id"])) and a["deleted_at"] and e["occurred_at"] >= a["deleted_at"])
    ]  # fmt: skip
    active = [(e["application"], e["occurred_at"]) for e in active_rows]
    active_at_home = at_home(active_rows, "occurred_at")
    counted = [s for s in rows["subscriptions"] if has_mrr(ledger, s)]
    subscribed = [(s["application"], s["valid_from"]) for s in counted]
    booked = {b["booking_id"]: b for b in rows["bookings"]}
    tickets = {t["ticket_id"]: t for t in rows["tickets"] if t["status"] not in ("spam", "deleted", "merged")}
    counted_tickets = [(t["application"], t["created_at"]) for t in tickets.values()]
    charges = {c["charge_id"]: c for c in rows["charges"]}

    def on_tickets(event_type: str, **wanted: object) -> list[Sighting]:
        return [
            (tickets[e["ticket_id"]]["application"], e["occurred_at"]) for e in rows["ticket_events"]
            if e["event_type"] == event_type and e["ticket_id"] in tickets and all(e[c] == v for c, v in wanted.items())
        ]  # fmt: skip

    yield ("payment_success_rate", "payment_failure_rate"), [of("charges", "created_at", status="failed")]
    yield (
        ("payment_recovery_rate",),
        [of("charges", "created_at", status="failed"), of("charges", "created_at", "payment_id")],
    )
    yield ("payment_retries",), [of("charges", "created_at", "payment_id")]
    yield ("cash_collected",), [of("charges", "created_at")]
    refunds = [(charges.get(r["charge_id"], r)["application"], r["created_at"]) for r in rows["refunds"]]
    yield ("refund_rate",), [of("charges", "created_at"), refunds]
    yield ("marketing_spend",), [of("marketing_spend", "spend_date")]
    yield ("burn_multiple",), [of("marketing_spend", "spend_date"), of("charges", "created_at"), subscribed]
    yield (
        ("cac", "cac_change_rate", "ltv_cac_ratio", "cac_payback_months"),
        [of("marketing_spend", "spend_date"), subscribed],
    )
    discounted = [
        (s["application"], s["valid_from"]) for s in rows["subscriptions"]
        if s["discount_percent"] is not None or s["discount_amount"] is not None
    ]  # fmt: skip
    yield ("price_realisation",), [discounted]
    yield ("revenue_per_creator",), [
        [(s["application"], s["valid_from"]) for s in counted if accounts.get(s["account_id"], {}).get("account_type") == "creator"]
    ]  # fmt: skip
    yield (
        ("international_revenue_share", "active_markets"),
        [[(s["application"], s["valid_from"]) for s in counted if accounts.get(s["account_id"], {}).get("country")]],
    )
    yield ("market_share",), [creators, of("market_size", "as_of")]
    yield ("new_creators", "creator_acquisition_growth_rate"), [creators]
    yield ("organic_share",), [of("accounts", "created_at", "acquisition_channel")]
    yield ("telemetry_opt_in_rate",), [of("accounts", "created_at", "telemetry_opt_in")]
    referring = [a for a in rows["accounts"] if a["referred_by_account_id"]]
    yield ("referral_rate",), [at_home(referring, "created_at", "referred_by_account_id")]
    yield ("signup_to_paid_conversion_rate",), [registered, at_home(rows["subscriptions"], "valid_from")]
    yield ("activation_rate",), [registered, at_home(named(*ACTIVATING), "occurred_at")]
    yield ("dau_rate", "mau_rate"), [active, registered]
    yield RETENTION, [registered, active_at_home]
    for kind in ("student", "tutor"):
        yield (f"{kind}_retention_30d",), [of("accounts", "created_at", account_type=kind), active_at_home]
    used = [(e["application"], e["occurred_at"]) for e in rows["events"] if e["event_name"] == "feature.used"]
    yield ("feature_adoption_rate",), [active, used]
    sessions = of("events", "occurred_at", "session_id")
    invoked = of("events", "occurred_at", event_name="tool.invoked")
    yield ("sessions", "session_duration"), [sessions]
    yield ("messages_per_session",), [sessions, of("messages", "sent_at")]
    yield ("tools_per_session",), [sessions, invoked]
    yield ("tool_invocations",), [invoked]
    told = [
        (e["application"], e["occurred_at"]) for e in rows["events"]
        if e["event_name"] == "tool.invoked" and '"status"' in (e["properties"] or "")
    ]  # fmt: skip
    yield ("tool_error_rate",), [told]
    yield ("peak_messages_per_hour",), [of("messages", "sent_at")]
    yield ("conversation_completion_rate",), [of("conversations", "started_at", "ended_naturally")]
    failed = of("events", "occurred_at", event_name="user.login_failed")
    yield ("failed_logins",), [failed]
    yield ("auth_success_rate",), [failed, of("events", "occurred_at", event_name="user.login")]
    yield ("creator_weekly_active_rate",), [creators, active_at_home]
    yield ("creator_onboarding_success_rate",), [
        creators, at_home(named("creator.onboarding_completed"), "occurred_at", kind="creator")
    ]  # fmt: skip
    yield ("creator_onboarding_step_rate",), [
        creators, at_home(rows["content_items"], "created_at", "creator_id", "creator"),
        at_home([c for c in rows["conversations"] if c["creator_id"]], "started_at", "creator_id", "creator"),
    ]  # fmt: skip
    yield ("content_update_rate",), [
        creators, at_home(named("content.created", "content.updated"), "occurred_at", kind="creator")
    ]  # fmt: skip
    yield ("creator_feature_adoption_rate",), [creators, at_home(named("feature.used"), "occurred_at", kind="creator")]
    earned = at_home(rows["creator_earnings"], "earned_on", "creator_id") + [
        (r["application"], ledger.midnight(r["earned_on"]))
        for r in rows["creator_earnings"]
        if r["creator_id"] not in accounts
    ]
    yield ("creator_success_rate", "creators_earning_over"), [creators, earned]
    for kind in ("document", "program"):
        yield (f"{kind}s_per_creator",), [creators, of("content_items", "created_at", kind=kind)]
    yield (
        ("booking_conversion_rate", "gmv", "marketplace_net_revenue"),
        [of("bookings", "requested_at", "confirmed_at")],
    )
    yield (
        ("session_completion_rate",),
        [of("bookings", "requested_at", "confirmed_at"), of("bookings", "requested_at", "completed_at")],
    )
    yield (
        ("booking_cancellation_rate",),
        [of("bookings", "requested_at", "confirmed_at"), of("bookings", "requested_at", "cancelled_at")],
    )
    yield ("messages_per_booking",), [
        [(booked[m["booking_id"]]["application"], booked[m["booking_id"]]["requested_at"]) for m in rows["messages"] if m["booking_id"] in booked]
    ]  # fmt: skip
    yield (
        ("review_rate",),
        [
            [
                (booked[r["booking_id"]]["application"], r["created_at"])
                for r in rows["reviews"]
                if r["booking_id"] in booked
            ]
        ],
    )
    yield ("tutor_approval_rate",), [of("tutor_applications", "applied_at", "approved_at")]
    yield ("package_purchase_rate",), [of("package_purchases", "purchased_at"), active]
    yield ("ticket_volume", "open_tickets", "resolution_time"), [counted_tickets]
    yield ("first_contact_resolution_rate", "first_response_time"), [on_tickets("public_reply", actor_type="agent")]
    stories = defaultdict(list)
    for event in rows["ticket_events"]:
        stories[event["ticket_id"]].append(event)
    reopened = [
        (t["application"], t["created_at"]) for t in tickets.values()
        if any(not is_end for _, is_end in ends_of(t, stories[t["ticket_id"]], ledger.as_of))
    ]  # fmt: skip
    yield ("ticket_reopen_rate",), [reopened]
    yield ("self_service_rate",), [of("help_center_visits", "occurred_at"), counted_tickets]
    yield ("critical_error_rate",), [of("api_requests", "occurred_at", is_critical=True)]
    yield ("slow_queries",), [of("query_stats", "window_start", "slow_calls")]
    yield (
        ("deployment_success_rate", "change_failure_rate"),
        [of("deployments", "started_at", status=("failed", "rolled_back"))],
    )
    yield ("code_review_within_24h_rate",), [of("pull_requests", "opened_at", "first_review_at")]
    for column in ("critical_vulnerabilities", "high_vulnerabilities"):
        yield (column,), [of("code_quality", "captured_on", column)]
    yield ("open_critical_bugs",), [of("work_items", "created_at", "priority", kind="bug")]
    yield ("development_velocity",), [of("work_items", "created_at", "sprint", "story_points")]
