"""What happens seldom, once each, so that every rule of the metrics has a row that depends on it (docs/preview.md previews each rule broken).

The rows are as whole as all others: whoever lands them has no warning more, and the company's own books count them.
"""

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pandas as pd

from northstar.demo.incidents import append_rows
from northstar.demo.operations import TableRow

if TYPE_CHECKING:
    # for the type checker alone: company.py imports this module
    from northstar.demo.company import Company

# on how many tries one that fails is exactly the share that payment_failure_rate's target names
TRIES_OF_A_FAILURE = 20
# how far the newest hour's time of a query lies above the eight hours before: its target is missed beyond 3, an alert opens beyond 4.8
DEVIATIONS_OF_A_TREND = 3.9


def add_rare_cases(company: "Company") -> None:
    """Add one of each to a company, as far as it has the applications and tables; some weeks before its end, or in its last whole day."""
    day = pd.Timestamp(company.end).normalize() - timedelta(days=40)
    if "subscriptions" in company.tables and "web" in company.applications:
        _returns(company, day)
    if "tickets" in company.tables and "web" in company.applications:
        _tickets(company, day)
    if "query_stats" in company.tables and "web" in company.applications:
        _slows_down(company)
    if "coaching" in company.applications:
        _earns_a_threshold(company, day)
    if "tutoring" in company.applications:
        _books_at_once(company, day)
        if "charges" in company.tables:
            _fails_at_the_target(company)
    _events(company, day)
    _change(company, day)


def _person(company: "Company", name: str, application: str, kind: str, created_at: pd.Timestamp) -> str:
    account_id = f"acc_rare_{name}"
    row: TableRow = {
        "account_id": account_id, "account_type": kind, "application": application, "email": f"{name}@example.com", "full_name": "Rare Case",
        "country": "US", "acquisition_channel": "organic", "created_at": created_at, "telemetry_opt_in": True, "updated_at": created_at,
    }  # fmt: skip
    append_rows(company, "accounts", [row])
    return account_id


def _returns(company: "Company", day: pd.Timestamp) -> None:
    """Two accounts that stop paying and begin again: after exactly a day, which is churn, and after some hours of a night, which is none."""
    rows: list[TableRow] = []
    for name, until, since in (
        ("day_without", day, day + timedelta(days=1)),
        ("night_without", day + timedelta(hours=20), day + timedelta(hours=30)),
    ):
        account_id = _person(company, name, "web", "customer", day - timedelta(days=60))
        for number, (begins, ends, status) in enumerate(
            ((day - timedelta(days=50), until, "active"), (since, None, "active"))
        ):
            rows.append({
                "subscription_item_id": f"si_rare_{name}_{number}", "subscription_id": f"sub_rare_{name}_{number}", "account_id": account_id,
                "application": "web", "plan_id": "basic_m", "plan_tier": "basic", "billing_interval": "month", "interval_count": 1, "quantity": 1,
                "unit_amount": 3900, "currency": "USD", "is_metered": False, "status": status, "valid_from": begins, "valid_to": ends,
                "updated_at": ends or begins,
            })  # fmt: skip
    append_rows(company, "subscriptions", rows)


def _tickets(company: "Company", day: pd.Timestamp) -> None:
    """A ticket of normal priority that was escalated, had a note before its first reply, and was solved twice."""
    account_id = _person(company, "asks", "web", "customer", day - timedelta(days=10))
    story: list[tuple[str, str, timedelta]] = [
        ("created", "customer", timedelta(0)), ("internal_note", "agent", timedelta(minutes=10)), ("escalated", "agent", timedelta(minutes=30)),
        ("public_reply", "agent", timedelta(hours=2)), ("solved", "agent", timedelta(hours=5)), ("solved", "agent", timedelta(hours=9)),
    ]  # fmt: skip
    ticket: TableRow = {
        "ticket_id": "ti_rare", "account_id": account_id, "application": "web", "channel": "email", "category": "billing", "priority": "normal",
        "status": "solved", "requester_email": "asks@example.com", "subject": "Help", "created_at": day, "updated_at": day + timedelta(hours=9),
    }  # fmt: skip
    append_rows(company, "tickets", [ticket])
    events: list[TableRow] = [
        {
            "ticket_event_id": f"te_rare_{n}",
            "ticket_id": "ti_rare",
            "event_type": kind,
            "actor_type": actor,
            "occurred_at": day + after,
        }
        for n, (kind, actor, after) in enumerate(story)
    ]
    append_rows(company, "ticket_events", events)
    answered = day + timedelta(hours=20)
    # of speed alone: no score of the support as a whole
    append_rows(company, "survey_responses", [{
        "response_id": "sr_rare", "survey": "support_csat", "ticket_id": "ti_rare", "application": "web", "score": 1, "question": "speed",
        "account_id": account_id, "sent_at": day + timedelta(hours=9), "responded_at": answered, "updated_at": answered,
    }])  # fmt: skip


def _slows_down(company: "Company") -> None:
    """A statement of the web application that makes its newest whole hour slower than is usual, but not so slow that somebody must act."""
    statements = company.tables["query_stats"]
    newest = pd.Timestamp(company.end).floor("h") - timedelta(hours=1)
    own = statements[(statements.application == "web") & (statements.window_start <= newest)]
    hours = own.groupby("window_start")[["calls", "total_ms"]].sum().tail(9)
    usual = (hours.total_ms / hours.calls).iloc[:-1]
    calls, total_ms = hours.iloc[-1]
    slow = usual.mean() + DEVIATIONS_OF_A_TREND * usual.std()
    # as many calls again as the hour has
    append_rows(company, "query_stats", [{
        "query_id": "web_rare", "application": "web", "window_start": newest, "calls": int(calls),
        "total_ms": round(float(2 * calls * slow - total_ms), 3), "slow_calls": 0,
    }])  # fmt: skip


def _earns_a_threshold(company: "Company", day: pd.Timestamp) -> None:
    """A creator who earns exactly 1,000 in a month, which is not more than 1,000."""
    creator = _person(company, "earns", "coaching", "creator", day - timedelta(days=90))
    append_rows(company, "creator_earnings", [
        {"creator_id": creator, "application": "coaching", "earned_on": day.date(), "amount": 100_000, "currency": "USD"}
    ])  # fmt: skip


def _event(name: str, at: pd.Timestamp, account_id: str, application: str, number: int, **more: str) -> TableRow:
    return {
        "event_id": f"ev_rare_{account_id}_{number}", "event_name": name, "occurred_at": at, "account_id": account_id, "application": application,
        "channel": "web", "country": "US", "received_at": at + timedelta(seconds=1), "ip_address": "203.0.113.7", "consent": True, **more,
    }  # fmt: skip


def _books_at_once(company: "Company", day: pd.Timestamp) -> None:
    """A student whose first booking is requested and completed at one instant: that request is no second one."""
    account_id = _person(company, "books", "tutoring", "student", day)
    names = ("page.landing", "user.signup", "search.performed", "booking.requested", "booking.completed")
    append_rows(company, "events", [
        _event(name, day + timedelta(hours=min(n, 3)), account_id, "tutoring", n) for n, name in enumerate(names)
    ])  # fmt: skip


def _events(company: "Company", day: pd.Timestamp) -> None:
    """A session that goes on in another channel, and somebody who saw both variants of an experiment."""
    application = company.applications[0]
    account_id = _person(company, "sees_both", application, "customer", day)
    variants = [
        json.dumps({"experiment": "checkout_v2", "variant": v, "goal": "payment.completed"})
        for v in ("control", "treatment")
    ]
    append_rows(company, "events", [
        _event("page.view", day + timedelta(hours=1), account_id, application, 0, session_id="s_rare"),
        _event("page.view", day + timedelta(hours=1, minutes=5), account_id, application, 1, session_id="s_rare", channel="mobile_app"),
        *(_event("experiment.exposed", day + timedelta(hours=2 + n), account_id, application, 2 + n, properties=text) for n, text in enumerate(variants)),
    ])  # fmt: skip


def _change(company: "Company", day: pd.Timestamp) -> None:
    """A deployment that begins before its pull request is merged, and a feature that is done at the instant it is due."""
    application, sha = company.applications[0], "00a5e000a5e0"
    merged = day + timedelta(days=2, hours=12)
    append_rows(company, "pull_requests", [{
        "pull_request_id": "pr_rare", "application": application, "author": "dev1", "author_is_external": False, "opened_at": day,
        "first_review_at": day + timedelta(hours=3), "review_cycles": 1, "merged_at": merged, "updated_at": merged, "merge_commit_sha": sha,
    }])  # fmt: skip
    append_rows(company, "commits", [
        {"commit_sha": sha, "application": application, "pull_request_id": "pr_rare", "author": "dev1", "committed_at": day + timedelta(hours=1)}
    ])  # fmt: skip
    started = merged - timedelta(hours=2)
    append_rows(company, "deployments", [
        {"deployment_id": "de_rare", "application": application, "service": "api", "started_at": started, "status": "succeeded", "updated_at": started, "commit_sha": sha}
    ])  # fmt: skip
    due = day + timedelta(days=12)
    append_rows(company, "work_items", [{
        "work_item_id": "wi_rare", "application": application, "kind": "feature", "priority": "medium", "story_points": 3, "created_at": day,
        "due_at": due, "completed_at": due, "updated_at": due,
    }])  # fmt: skip


def _fails_at_the_target(company: "Company") -> None:
    """So many charges on the last whole day that exactly one in twenty failed, which is not less than the target of 5 %."""
    charges, people = company.tables["charges"], company.tables["accounts"]
    day = pd.Timestamp(company.end).normalize() - timedelta(days=1)
    own = charges[
        (charges.application == "tutoring")
        & (charges.created_at >= day)
        & (charges.created_at < day + timedelta(days=1))
    ]
    failed, tries = int((own.status == "failed").sum()), len(own)
    more_failed = (
        max(-(-tries // TRIES_OF_A_FAILURE), 1) - failed if failed * TRIES_OF_A_FAILURE < tries or not failed else 0
    )
    more = TRIES_OF_A_FAILURE * (failed + more_failed) - tries
    account_id = people[(people.application == "tutoring") & (people.created_at < day)].account_id.iloc[0]
    append_rows(company, "charges", [
        {
            "charge_id": f"ch_rare_{n}", "payment_id": f"pay_rare_{n}", "account_id": account_id, "application": "tutoring", "amount": 100,
            "currency": "USD", "status": "failed" if n < more_failed else "succeeded", "failure_code": "card_declined" if n < more_failed else None,
            "country": "US", "created_at": day + timedelta(hours=1, minutes=n), "updated_at": day + timedelta(hours=1, minutes=n),
        }
        for n in range(more)
    ])  # fmt: skip
