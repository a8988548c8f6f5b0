"""Engineering: incidents, deployments, work items with their sprints, and pull requests."""

from collections import defaultdict
from fractions import Fraction

from northstar.demo.books.ledger import BookRow, Ledger
from northstar.demo.books.times import DAY, midnight, seconds


def reckon(ledger: Ledger) -> None:
    """Times to acknowledge and to recover, deployments that succeed, bugs, features in time, velocity, reviews."""
    for row in ledger.rows["incidents"]:
        _incident(ledger, row)
    for row in ledger.rows["deployments"]:
        _deployment(ledger, row)
    for row in ledger.rows["work_items"]:
        _work_item(ledger, row)
    _sprints(ledger)
    for row in ledger.rows["pull_requests"]:
        _pull_request(ledger, row)
    ledger.reckon_percentile("bug_resolution_time")


def _incident(ledger: Ledger, row: BookRow) -> None:
    application, severity = row["application"], {"severity": row["severity"]}
    if row["resolved_at"]:
        hours = seconds(row["resolved_at"] - row["started_at"]) / 3600
        ledger.add("mttr", row["resolved_at"], application, hours, 1, severity)
    if row["acknowledged_at"]:
        minutes = seconds(row["acknowledged_at"] - row["started_at"]) / 60
        ledger.add("time_to_acknowledge", row["acknowledged_at"], application, minutes, 1, severity)


def _deployment(ledger: Ledger, row: BookRow) -> None:
    when, application = row["started_at"], row["application"]
    if row["status"] != "running":
        ledger.add("deployment_success_rate", when, application, int(row["status"] == "succeeded"), 1)
    if row["status"] in ("failed", "rolled_back") and row["recovered_at"]:
        ledger.add("deployment_recovery_time", when, application, seconds(row["recovered_at"] - when) / 60, 1)


def _work_item(ledger: Ledger, row: BookRow) -> None:
    done, application = row["completed_at"], row["application"]
    if row["kind"] == "bug" and done:
        hours = seconds(done - row["created_at"]) / 3600
        ledger.measure("bug_resolution_time", done, application, hours, {"priority": row["priority"]})
    if row["kind"] == "feature" and row["due_at"] and done:
        ledger.add("on_time_delivery_rate", done, application, int(done <= row["due_at"]), 1)


def _sprints(ledger: Ledger) -> None:
    """The story points that were completed in each sprint that is over."""
    sprints = defaultdict(list)
    for row in ledger.rows["work_items"]:
        if row["sprint"] and row["sprint_ends_on"]:
            sprints[row["application"], row["sprint"]].append(row)
    for (application, _), items in sprints.items():
        last_day = max(i["sprint_ends_on"] for i in items)
        over = midnight(last_day + DAY)
        if over <= ledger.as_of:
            done = [i for i in items if i["completed_at"] and i["completed_at"] < over]
            points = sum((Fraction(str(i["story_points"] or 0)) for i in done), Fraction(0))
            ledger.add("development_velocity", midnight(last_day), application, points, 1)


def _pull_request(ledger: Ledger, row: BookRow) -> None:
    is_quick = bool(row["first_review_at"] and row["first_review_at"] <= row["opened_at"] + DAY)
    ledger.add("code_review_within_24h_rate", row["opened_at"], row["application"], int(is_quick), 1)
    if row["merged_at"] and row["review_cycles"] is not None:
        ledger.add("review_cycles_per_pr", row["merged_at"], row["application"], int(row["review_cycles"]), 1)
