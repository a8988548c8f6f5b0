"""A full run that would restate more than is allowed publishes nothing until somebody has approved it."""

import re
from dataclasses import replace

import pytest

from northstar.audit.stage import audit
from northstar.base.settings import Operations
from northstar.build.differences import DEFINITION, SETTING, Differences
from northstar.build.stage import build
from northstar.extract.stage import extract
from northstar.operate.status import status
from northstar.publish import approval
from northstar.publish.stage import publish
from northstar.runs.lifecycle import close_run, open_run
from northstar.warehouse import db, turn_lock
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
    # a model that has got a new column since: readers who wait do not see it, empty
    with db.connect(settings, "owner") as connection:
        connection.execute("alter table marts_candidate.fct_payments add column brand_new text")
    with pytest.raises(approval.ApprovalNeeded) as raised:
        publish(settings, run_id, silent, needs_approval=True)
    asked = raised.value
    with db.connect(settings, "owner") as connection:
        brand_new = "select table_schema from information_schema.columns where column_name = 'brand_new'"
        assert connection.execute(brand_new).fetchall() == [{"table_schema": "marts_candidate"}]
        connection.execute("alter table marts_candidate.fct_payments drop column brand_new")
    assert asked.restated > asked.allowed == 4 and f"would restate {asked.restated:,} values" in str(asked)
    assert published(settings) == before
    # why, with the rows that arrived; and an amount of a whole month, with the value that readers see and the one that would replace it
    assert f"- late rows: {asked.restated:,} values; rows of charges" in asked.question
    assert (
        "| cash_collected | month | 2025-01-01 | web | 10.00 USD | 20.00 USD | +100.0 % | late rows |" in asked.question
    )
    assert re.search(r"\| cash_collected \| \d+ \| 2025-01-01 \| 2025-01-\d\d \| late rows \|", asked.question)
    assert f"approval    run {run_id} waits since" in status(settings)


def test_a_scheduler_that_is_restarted_meanwhile_does_not_end_the_turn(night):
    settings, _, run_id = night
    with db.connect(settings, "owner") as connection:
        # the turn as a DAG run's, whose scheduler is gone
        connection.execute(
            "update audit.writer_lease set is_dag_run = true, host = %s, process_id = %s",
            [turn_lock.machine_id(), 2**22 + 1],
        )
        turn = connection.execute("select * from audit.writer_lease").fetchone()
        assert turn["run_id"] == run_id and turn_lock.is_holder_gone(turn)
        assert not turn_lock.is_dag_run_gone(connection, turn)
        connection.execute("update audit.approvals set decided_at = now() where run_id = %s", [run_id])
        assert turn_lock.is_dag_run_gone(connection, turn)
        connection.rollback()


def test_the_question_names_changed_models_and_settings(night):
    settings, _, _ = night
    with db.connect(settings, "publisher") as connection:
        previous = connection.execute(
            "select * from marts.publications order by published_version desc limit 1"
        ).fetchone()
        connection.execute(
            "insert into marts.metric_restatements (metric_id, grain, period_start, application, segment, segment_value, old_value, new_value, old_version, "
            "new_version, reason) values ('customer_churn_rate', 'month', '2025-01-01', 'web', '', '', 5, 7.5, 1, 99, 'setting'), "
            "('customer_churn_rate', 'month', '2024-12-01', 'web', '', '', 5, 5.5, 1, 99, 'definition')"
        )  # fmt: skip
        differences = Differences(
            {
                "model.northstar.account_mrr": frozenset({DEFINITION}),
                "model.northstar.mrr_movements": frozenset({SETTING}),
            },
            rules=frozenset({"renewal_gap_days"}),
        )
        changed = replace(settings, rules=settings.rules.model_copy(update={"renewal_gap_days": 5}))
        question = approval._question(connection, changed, 99, previous, differences, 2, 1)
        connection.rollback()
    assert (
        "- definition: 1 values; changed in account_mrr\n- setting: 1 values; renewal_gap_days is 5 (was 1)" in question
    )
    assert "| customer_churn_rate | month | 2025-01-01 | web | 5.0 % | 7.5 % | +2.5 points | setting |" in question


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
