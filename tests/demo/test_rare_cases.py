"""What happens seldom is there once each; that the books count it is test_books' matter, and that rules depend on it docs/preview.md's."""

from datetime import timedelta
from statistics import mean, stdev

import pandas as pd
import pytest

from northstar.demo.company import generate_company
from northstar.demo.rare_cases import TRIES_OF_A_FAILURE
from tests.support import utc

OPTIONS = {"seed": 5, "months": 4, "accounts": 60, "monitored_days": 1, "end": utc("2026-03-01T07:00:00")}


@pytest.fixture(scope="module")
def tables():
    return generate_company(**OPTIONS, rare_cases=True).tables


def rare(tables, entity: str, column: str) -> pd.DataFrame:
    return tables[entity][tables[entity][column].astype(str).str.contains("rare")]


def test_a_company_without_them_is_the_same_company(tables):
    plain = generate_company(**OPTIONS).tables
    for entity, table in plain.items():
        pd.testing.assert_frame_equal(table, tables[entity].head(len(table)))
        assert tables[entity].dtypes.equals(table.dtypes), entity


def test_each_rule_has_the_row_that_it_is_about(tables):
    items = rare(tables, "subscriptions", "subscription_item_id").sort_values("valid_from")
    gaps = [since - until for until, since in zip(items.valid_to.dropna(), items.valid_from.tail(2), strict=True)]
    assert gaps == [timedelta(days=1), timedelta(hours=10)]
    kinds = list(rare(tables, "ticket_events", "ticket_event_id").event_type)
    assert kinds == ["created", "internal_note", "escalated", "public_reply", "solved", "solved"]
    assert rare(tables, "survey_responses", "response_id").question.tolist() == ["speed"]
    events = rare(tables, "events", "event_id")
    assert set(events[events.session_id == "s_rare"].channel) == {"web", "mobile_app"}
    assert events[events.event_name == "experiment.exposed"].properties.nunique() == 2
    booked = events[events.event_name.str.startswith("booking.")]
    assert booked.occurred_at.nunique() == 1 and len(booked) == 2
    (request,), (deployment,) = (
        rare(tables, e, f"{e[:-1]}_id").to_dict("records") for e in ("pull_requests", "deployments")
    )
    assert deployment["started_at"] < request["merged_at"] and deployment["commit_sha"] == request["merge_commit_sha"]
    (item,) = rare(tables, "work_items", "work_item_id").to_dict("records")
    assert item["completed_at"] == item["due_at"]
    assert rare(tables, "creator_earnings", "creator_id").amount.tolist() == [100_000]
    charges = tables["charges"][tables["charges"].application == "tutoring"]
    tries = charges[charges.created_at.dt.floor("D") == pd.Timestamp("2026-02-28T00:00:00Z")]
    assert len(tries) == TRIES_OF_A_FAILURE * (tries.status == "failed").sum() > 0
    slow = rare(tables, "query_stats", "query_id")
    assert slow.window_start.tolist() == [pd.Timestamp("2026-03-01T06:00:00Z")]
    web = tables["query_stats"][tables["query_stats"].application == "web"]
    hours = web.groupby("window_start")[["total_ms", "calls"]].sum().tail(9)
    *before, newest = hours.total_ms / hours.calls
    assert 3 < (newest - mean(before)) / stdev(before) < 4.8
