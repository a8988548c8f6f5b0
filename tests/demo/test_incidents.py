"""What the simulator plants is in the source rows and in the books, and a company without incidents is as it was."""

import pandas as pd
import pytest

from northstar.demo.books.incidents import incidents
from northstar.demo.company import generate_company
from northstar.demo.incidents import KINDS
from tests.support import utc

END = utc("2026-03-03T00:00:00")
LIFE = {"seed": 5, "months": 3, "accounts": 400, "end": END, "monitored_days": 14}


@pytest.fixture(scope="module")
def troubled():
    return generate_company(**LIFE, incidents=100)


@pytest.fixture(scope="module")
def calm():
    return generate_company(**LIFE)


def test_each_cause_is_planted_in_each_application_that_looks_for_it(troubled):
    planted = {(i.application, i.cause) for i in troubled.incidents}
    for kind in KINDS:
        assert {a for a, cause in planted if cause == kind.cause} >= set(kind.applications or troubled.applications) - {
            # whose pages were loaded too seldom to say anything
            *(troubled.applications if kind.needs == "web_vitals" else ())
        }


def test_incidents_are_the_only_difference(troubled, calm):
    assert {i.cause for i in calm.incidents} <= {"errors", "security", "vulnerabilities"}
    for entity, table in calm.tables.items():
        after = troubled.tables[entity]
        assert list(after.columns) == list(table.columns) and list(after.dtypes) == list(table.dtypes), entity
        assert len(after) >= len(table)
    same = ("accounts", "subscriptions", "bookings", "conversations", "work_items", "survey_responses")
    for entity in same:
        pd.testing.assert_frame_equal(troubled.tables[entity], calm.tables[entity])


def test_while_payments_fail_nobody_pays(troubled):
    charges = troubled.tables["charges"]
    for incident in troubled.incidents:
        if incident.cause == "payments":
            own = charges[(charges.application == incident.application) & (charges.created_at >= incident.began_at)]
            assert len(own) >= 8 and set(own.status) == {"failed"}


def test_the_books_list_what_may_not_happen_and_happened(calm):
    errors, day = calm.tables["error_events"], pd.Timedelta(days=1)
    fatal = errors[(errors.level == "fatal") & (errors.occurred_at > pd.Timestamp(END) - day)]
    assert {i.application for i in calm.incidents if i.cause == "errors"} == set(fatal.application)
    assert len(generate_company(**LIFE, incidents=3).incidents) >= 3


@pytest.mark.parametrize(
    ("bugs", "is_listed"),
    [
        ([("high", 2, None)], True),
        ([("critical", 59, None)], True),
        # too long ago, done, of no weight, another product's
        ([("high", 95, None)], False),
        ([("high", 20, 3)], False),
        ([("medium", 2, None)], False),
        # one after the other: it was so on most of the days before
        ([("high", 14, 3), ("high", 2, None)], False),
        ([("high", 9, 7), ("high", 2, None)], True),
    ],
)
def test_the_books_list_a_bug_that_stands_open_where_none_did(calm, bugs, is_listed):
    """003:75 allows tutoring none; an alert is what has changed in the last 90 days."""
    end = pd.Timestamp(END)
    items = pd.DataFrame(
        [
            {
                "application": "tutoring", "kind": "bug", "priority": priority, "created_at": end - pd.Timedelta(days=begun),
                "completed_at": pd.NaT if done is None else end - pd.Timedelta(days=done),
            }
            for priority, begun, done in bugs
        ]
    )  # fmt: skip
    items["completed_at"] = pd.to_datetime(items["completed_at"], utc=True)
    others = items.assign(application="coaching", priority="critical", completed_at=pd.NaT)
    tables = {**calm.tables, "work_items": pd.concat([items, others])}
    found = [i for i in incidents(tables, [], END) if i.cause == "open_critical_bugs"]
    assert [i.application for i in found] == ["tutoring"] * is_listed
    if is_listed:
        assert found[0].began_at <= END and found[0].began_at >= END - pd.Timedelta(days=90)
