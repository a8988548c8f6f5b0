"""A full run that would restate more than is allowed publishes nothing until somebody has approved it."""

from dataclasses import replace

import pytest

from northstar.audit.stage import audit
from northstar.base.settings import Operations
from northstar.build.stage import build
from northstar.extract.stage import extract
from northstar.operate.status import status
from northstar.publish import approval
from northstar.publish.stage import publish
from northstar.runs.lifecycle import close_run, open_run
from northstar.warehouse import db
from tests.support import WORKERS, empty, published, query_as, run, select, silent, utc, write_rows

MARCH = utc("2025-03-01T00:00:00")


def charge(number, day):
    at = f"{day}T10:00:00Z"
    return {"charge_id": f"c{number}", "account_id": "a", "application": "web", "amount": 1000, "currency": "USD",
            "status": "succeeded", "created_at": at, "updated_at": at}  # fmt: skip


@pytest.fixture(scope="module")
def night(warehouse, tmp_path_factory):
    """Settings that allow four restated values, the marts before, and the number of a night's run with a late charge, audited and not published."""
    empty(warehouse)
    source = tmp_path_factory.mktemp("approval")
    run(warehouse, write_rows(source, {"charges": [charge(1, "2025-01-10"), charge(2, "2025-02-10")]}), MARCH)
    before = published(warehouse)
    write_rows(source, {"charges": [charge(3, "2025-01-20")]}, "late")
    settings = replace(warehouse, operations=Operations(approve_above=4))
    run_id = open_run(settings, "nightly", MARCH, str(source), is_own=True)
    extract(settings, run_id, silent)
    build(settings, run_id, silent)
    audit(settings, run_id, silent, WORKERS[warehouse.home])
    yield settings, before, run_id
    close_run(settings, run_id)


def test_what_restates_too_much_waits_and_says_what_it_would_change(night):
    settings, before, run_id = night
    with pytest.raises(approval.ApprovalNeeded) as raised:
        publish(settings, run_id, silent, needs_approval=True)
    asked = raised.value
    assert asked.restated > asked.allowed == 4 and f"would restate {asked.restated:,} values" in str(asked)
    assert published(settings) == before
    assert "| late_rows |" in asked.question and "| 2025-01-01 |" in asked.question
    # an amount of a whole month, with the value that readers see and the one that would replace it
    assert "| cash_collected | month | 2025-01-01 00:00 | web | 10 | 20 | late_rows |" in asked.question
    assert f"approval    run {run_id} waits since" in status(settings)


def test_what_was_decided_against_is_not_published(night):
    settings, before, run_id = night
    approval.record_decision(settings, run_id, False, "ada", "ada decided against it")
    with pytest.raises(approval.ApprovalNeeded):
        publish(settings, run_id, silent, needs_approval=True)
    assert published(settings) == before and "approval " not in status(settings)


def test_what_is_approved_is_published_and_who_did_it_is_kept(night):
    settings, before, run_id = night
    assert publish(settings, run_id, silent, needs_approval=True, approved_by="grace") == 2
    assert published(settings) != before
    [kept] = query_as(settings, "publisher", "select * from audit.approvals")
    restated = select(settings, "select sum(periods)::int as n from metric_restatements where new_version = 2")
    assert (kept["is_approved"], kept["decided_by"]) == (True, "grace") and kept["restated"] == restated[0]["n"]
    with db.connect(settings, "transformer") as connection:
        assert approval.describe_pending_approval(connection) is None
